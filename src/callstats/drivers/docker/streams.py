"""AttachedStreams: the input and output of a container, over connections that its engine hands over. Needs the Docker SDK."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from callstats.errors import DriverError

if TYPE_CHECKING:
    from docker import APIClient

    from callstats.drivers._run import TaskRun

_CHUNK = 65_536
_HEADER = struct.Struct(">BxxxL")
"""The number of a piece of output's stream, and its size."""

_INPUT_SECONDS = 0.2
"""Max wait for the reader of the input. It may itself wait for somebody to type."""


class AttachedStreams:
    """The streams of one container. They are attached before it starts, or early output would be lost."""

    def __init__(self, run: TaskRun, api: APIClient, container: str) -> None:
        self._run, self._api, self._container = run, api, container
        self._sockets: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._over = False
        # Each stream has its own connection. On a shared one, some engines end the output only once all input was read.
        self._output = self._attach(stdout=1, stderr=1)
        self._input = None if run.task.stdin is None else self._attach(stdin=1)

    def start(self) -> None:
        self._threads.append(self._run.start_thread("callstats-docker-output", self._read_output))
        if self._input is not None:
            self._threads.append(self._run.start_thread("callstats-docker-input", self._write_input, self._input))

    def finish(self, seconds: float) -> None:
        """Wait for the last output, and end the streams."""
        for thread in self._threads[:1]:
            thread.join(seconds)
        self._over = True
        for holder in self._sockets:  # a thread that still reads or writes gets the end of its stream
            with suppress(OSError):
                getattr(holder, "_sock", holder).shutdown(socket.SHUT_RDWR)
        for thread, wait in zip(self._threads, (seconds, _INPUT_SECONDS), strict=False):
            thread.join(wait)
        self.close()

    def close(self) -> None:
        """Close the connections. The Docker SDK gives each as a file on a socket on a response."""
        for holder in self._sockets:
            for part in (getattr(holder, "_response", None), holder, getattr(holder, "_sock", None)):
                if part is not None:
                    with suppress(OSError):
                        part.close()
        self._sockets = []

    def _attach(self, **streams: int) -> socket.socket:
        try:
            holder = self._api.attach_socket(self._container, params={"stream": 1, "logs": 0, **streams})
        except BaseException:
            self.close()
            raise
        self._sockets.append(holder)
        attached: socket.socket = getattr(holder, "_sock", holder)
        attached.settimeout(None)
        return attached

    def _write_input(self, attached: socket.socket) -> None:
        source = self._run.task.stdin
        assert source is not None  # noqa: S101 - else there is no such thread
        while chunk := source.read(_CHUNK):
            try:
                attached.sendall(chunk)
            except OSError:  # the command may end before it has read all
                return
        with suppress(OSError):
            attached.shutdown(socket.SHUT_WR)

    def _read_output(self) -> None:
        targets: dict[int, BinaryIO | None] = {1: self._run.task.stdout, 2: self._run.task.stderr}
        while len(header := self._receive(_HEADER.size, whole=True)) == _HEADER.size:
            stream, left = _HEADER.unpack(header)
            while left:
                chunk = self._receive(min(left, _CHUNK))
                if not chunk:
                    return
                left -= len(chunk)
                target = targets.get(stream)
                if target is not None:
                    target.write(chunk)
                    target.flush()

    def _receive(self, size: int, *, whole: bool = False) -> bytes:
        received = b""
        try:
            while len(received) < size and (chunk := self._output.recv(size - len(received))):
                received += chunk
                if not whole:
                    break
        except OSError as error:
            if self._over:  # `finish` has shut the connection down
                return b""
            raise DriverError(f"can't read the output: {error}") from error
        return received
