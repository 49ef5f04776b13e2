"""DockerRun: a container from its creation to its removal, with its streams and samples. Needs the Docker SDK."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException, NotFound
from urllib3.exceptions import HTTPError

from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun
from callstats.drivers.base import ContainerTask
from callstats.drivers.docker.stats import pick_stats
from callstats.errors import DriverError

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_CHUNK = 65_536
_HEADER = struct.Struct(">BxxxL")
"""The number of a piece of output's stream, and its size."""

_OUTPUT_SECONDS = 5.0
"""Max wait for the last output and samples after the container's end."""

_INPUT_SECONDS = 0.2
"""Max wait for the reader of the input. It may itself wait for somebody to type."""

_CONNECT_SECONDS = 10

_MISSING = ("executable file not found", "no such file or directory")
_UNUSABLE = ("permission denied", "is a directory", "exec format error")


@contextmanager
def engine_errors(action: str) -> Iterator[None]:
    """Raise the engine's errors as a DriverError: "can't <action>: <the engine's message, on one line>"."""
    try:
        yield
    except (DockerException, OSError) as error:  # those of requests are OSErrors
        message = " ".join(str(getattr(error, "explanation", None) or error).split())
        raise DriverError(f"can't {action}: {message}") from error


class DockerRun(TaskRun):
    def __init__(self, task: ContainerTask, api: APIClient, container: str) -> None:
        super().__init__(task)
        self._api = api
        self._container = container
        self._sockets: list[Any] = []
        self._input: threading.Thread | None = None
        self._stats: Response | None = None
        self._stats_lock = threading.Lock()
        self._over = False
        self._dropped = 0
        self._code = 0

    def start(self) -> None:
        with engine_errors(f"run {self.task.image!r}"):
            # Each stream has its own connection. On a shared one, some engines end the output only once all input was read.
            output = self._attach(stdout=1, stderr=1)
            stdin = None if self.task.stdin is None else self._attach(stdin=1)
            try:
                self._api.start(self._container)
            except APIError as error:
                code = _start_code(str(error.explanation))
                if code is None:
                    raise
                self.finish(Exit(code, f"can't run {list(self.task.command)[:1]}: {error.explanation}"))
                return
        self._output = self.start_thread("callstats-docker-output", self._read_output, output)
        if stdin is not None:
            self._input = self.start_thread("callstats-docker-input", self._write_input, stdin)
        self._sampler = self.start_thread("callstats-docker-stats", self._read_stats)
        self.watch("callstats-docker")

    def kill(self) -> None:
        with suppress(APIError):  # it has ended by itself
            self._api.kill(self._container)

    def send_signal(self, number: int) -> None:
        with suppress(APIError):  # it has ended by itself
            self._api.kill(self._container, signal=number)

    def await_exit(self) -> None:
        self._code = int(self._api.wait(self._container, timeout=None)["StatusCode"])

    def clean_up(self) -> Exit:
        """End the container's streams, once their last data is through."""
        self._end_stats()
        self._output.join(_OUTPUT_SECONDS)
        for holder in self._sockets:  # a thread that still reads or writes gets the end of its stream
            with suppress(OSError):
                getattr(holder, "_sock", holder).shutdown(socket.SHUT_RDWR)
        if self._input is not None:
            self._input.join(_INPUT_SECONDS)
        for thread in (self._output, self._sampler):
            thread.join(_OUTPUT_SECONDS)
        self._close_sockets()
        state: dict[str, Any] = self._api.inspect_container(self._container)["State"]
        killed = bool(state.get("OOMKilled"))
        reason = "the container ran out of memory" if killed else str(state.get("Error") or "")
        return Exit(self._code, reason, killed, self._dropped)

    def release(self) -> None:
        self._close_sockets()
        with engine_errors(f"remove container {self._container[:12]}"), suppress(NotFound):
            self._api.remove_container(self._container, v=True, force=True)
        self._api.close()

    def _attach(self, **streams: int) -> socket.socket:
        """Connect to streams of the container; this must precede its start."""
        holder = self._api.attach_socket(self._container, params={"stream": 1, "logs": 0, **streams})
        self._sockets.append(holder)
        attached: socket.socket = getattr(holder, "_sock", holder)
        attached.settimeout(None)
        return attached

    def _close_sockets(self) -> None:
        """Close the connections. The Docker SDK gives each as a file on a socket on a response."""
        for holder in self._sockets:
            for part in (getattr(holder, "_response", None), holder, getattr(holder, "_sock", None)):
                if part is not None:
                    with suppress(OSError):
                        part.close()
        self._sockets = []

    def _write_input(self, attached: socket.socket) -> None:
        source = self.task.stdin
        assert source is not None  # noqa: S101 - else there is no such thread
        while chunk := source.read(_CHUNK):
            try:
                attached.sendall(chunk)
            except OSError:  # the command may end before it has read all
                return
        with suppress(OSError):
            attached.shutdown(socket.SHUT_WR)

    def _read_output(self, attached: socket.socket) -> None:
        targets = {1: self.task.stdout, 2: self.task.stderr}
        while header := self._read_header(attached):
            stream, left = _HEADER.unpack(header)
            while left:
                chunk = self._receive(attached, min(left, _CHUNK))
                if not chunk:
                    return
                left -= len(chunk)
                target = targets.get(stream)
                if target is not None:
                    target.write(chunk)
                    target.flush()

    def _read_header(self, attached: socket.socket) -> bytes:
        header = b""
        while len(header) < _HEADER.size:
            chunk = self._receive(attached, _HEADER.size - len(header))
            if not chunk:
                return b""
            header += chunk
        return header

    def _receive(self, attached: socket.socket, size: int) -> bytes:
        try:
            return attached.recv(size)
        except OSError:
            if self._over:  # `clean_up` has shut the connection down
                return b""
            raise

    def _read_stats(self) -> None:
        """Pass samples on until the container's end. Some engines do not end the stream then, so `_end_stats` does."""
        for frame in self._frames():
            sample = pick_stats(frame)
            with self._stats_lock:
                if self._over:
                    return
                if sample is None:  # the engine sends such a frame once the container has ended
                    self._dropped += 1
                else:
                    self.task.write_stat(*sample)

    def _frames(self) -> Iterator[dict[str, object]]:
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{self._container}/stats"
        # A stream that another thread ends breaks in any of these ways.
        with (
            suppress(HTTPError, OSError, AttributeError, ValueError),
            self._api.get(url, params={"stream": 1}, stream=True, timeout=(_CONNECT_SECONDS, None)) as response,
        ):
            self._stats = response
            if self._over:
                return
            response.raise_for_status()
            for line in response.iter_lines(chunk_size=None):
                if line:
                    yield json.loads(line)

    def _end_stats(self) -> None:
        """End the stream of samples, wherever its reader waits. No sample is passed on after this."""
        self._over = True
        if self._stats is not None:
            with suppress(Exception):
                self._stats.raw.shutdown()
        if self._stats_lock.acquire(timeout=_OUTPUT_SECONDS):  # wait for a write_stat call in progress
            self._stats_lock.release()


def _start_code(explanation: str) -> int | None:
    """Return a shell's exit code for a command that the engine can't start, or None for an error of another kind."""
    text = explanation.lower()
    if any(words in text for words in _UNUSABLE):
        return CANNOT_RUN
    return NOT_FOUND if any(words in text for words in _MISSING) else None
