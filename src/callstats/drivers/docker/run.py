"""A container from its start to its end: its streams, its samples, its exit."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from callstats.drivers.base import ContainerTask, RunResult, Status
from callstats.drivers.docker.stats import pick_stats
from callstats.drivers.running import Running

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_CANNOT_RUN, _NOT_FOUND = 126, 127
_CHUNK = 65_536
_HEADER = struct.Struct(">BxxxL")
"""Which stream a piece of output is of, and its size."""

_OUTPUT_SECONDS = 5.0
"""How long output and samples may still be worked on after the container's end."""

_INPUT_SECONDS = 0.2
"""How long to wait for a reader of input: it may itself wait for somebody to type."""

_CONNECT_SECONDS = 10

_MISSING = ("executable file not found", "no such file or directory")
_UNUSABLE = ("permission denied", "is a directory", "exec format error")


class DockerRun(Running):
    """A container that runs, watched by threads: for its output, its input, its samples and its exit."""

    def __init__(self, task: ContainerTask, api: APIClient, container: str) -> None:
        super().__init__()
        self._task = task
        self._api = api
        self._container = container
        self._threads: list[threading.Thread] = []
        self._watcher: threading.Thread | None = None
        self._output: threading.Thread | None = None
        self._input: threading.Thread | None = None
        self._timer: threading.Timer | None = None
        self._attached: list[Any] = []
        self._stats: Response | None = None
        self._stats_lock = threading.Lock()
        self._over = False
        self._dropped = 0

    def start(self) -> None:
        """Attach, start the container, and begin to watch it; a command that can't be run is a result."""
        from docker.errors import APIError

        # Each on a connection of its own: on a shared one some engines end the output only once all input was read.
        output = self._attach(stdout=1, stderr=1)
        given = None if self._task.stdin is None else self._attach(stdin=1)
        try:
            self._api.start(self._container)
        except APIError as error:
            self._close()
            code = _exit_code_of(str(error.explanation))
            if code is None:
                raise
            self.finish(code, reason=f"can't run {list(self._task.command)[:1]}: {error.explanation}")
            return
        self._output = self._go("callstats-docker-output", self._read_output, output)
        if given is not None:
            self._input = self._go("callstats-docker-input", self._write_input, given)
        self._go("callstats-docker-stats", self._read_stats)
        if self._task.timeout:
            self._timer = threading.Timer(min(self._task.timeout, threading.TIMEOUT_MAX), self.stop, (Status.TIMEOUT,))
            self._timer.daemon = True
            self._timer.start()
            self._threads.append(self._timer)
        self._watcher = threading.Thread(target=self.watch, name="callstats-docker", daemon=True)
        self._watcher.start()

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        """Wait for the end."""
        result = super().wait(timeout, cancel)
        self._join()
        return result

    def end(self) -> None:
        """Kill the container if it still runs, and wait for its end."""
        self.stop(Status.CANCELLED)
        self._join()
        self._close()

    def kill(self) -> None:
        """Kill the container."""
        from docker.errors import APIError

        with suppress(APIError):  # it has ended by itself
            self._api.kill(self._container)

    def _join(self) -> None:
        if self._watcher is not None:
            self._watcher.join()

    def _go(self, name: str, work: Any, *args: object) -> threading.Thread:
        thread = threading.Thread(target=self._guarded, args=(work, *args), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _guarded(self, work: Any, *args: object) -> None:
        try:
            work(*args)
        except BaseException as fault:  # noqa: BLE001 - a task's own writer may raise anything; it comes out of wait()
            if not self._over:
                self._fault = self._fault or fault
                self.kill()

    # --- streams ------------------------------------------------------------------------------------------------------------

    def _attach(self, **streams: int) -> socket.socket:
        """A connection that carries streams of the container; it must be there before the start."""
        holder = self._api.attach_socket(self._container, params={"stream": 1, "logs": 0, **streams})
        self._attached.append(holder)
        attached: socket.socket = getattr(holder, "_sock", holder)
        attached.settimeout(None)
        return attached

    def _write_input(self, attached: socket.socket) -> None:
        source = self._task.stdin
        assert source is not None  # noqa: S101 - else there is no such thread
        with suppress(BrokenPipeError, ConnectionResetError):  # a command that doesn't read it all is no fault
            while chunk := source.read(_CHUNK):
                attached.sendall(chunk)
        with suppress(OSError):
            attached.shutdown(socket.SHUT_WR)

    def _read_output(self, attached: socket.socket) -> None:
        """Take output apart until its end."""
        targets = {1: self._task.stdout, 2: self._task.stderr}
        while header := _read_exactly(attached, _HEADER.size):
            stream, left = _HEADER.unpack(header)
            while left:
                chunk = attached.recv(min(left, _CHUNK))
                if not chunk:
                    return
                left -= len(chunk)
                target = targets.get(stream)
                if target is not None:
                    target.write(chunk)
                    target.flush()

    def _close(self) -> None:
        """Close the connections; what the Docker SDK hands out is a file on a socket on a response."""
        for holder in self._attached:
            for part in (getattr(holder, "_response", None), holder, getattr(holder, "_sock", None)):
                if part is not None:
                    with suppress(OSError):
                        part.close()
        self._attached = []

    # --- samples ------------------------------------------------------------------------------------------------------------

    def _read_stats(self) -> None:
        """Take samples until the container's end. Engines differ in whether the stream ends with it; `_end_stats` sees to it."""
        for frame in self._frames():
            sample = pick_stats(frame)
            with self._stats_lock:
                if self._over:
                    return
                if sample is None:  # as the engine sends once the container has ended
                    self._dropped += 1
                else:
                    self._task.write_stat(*sample)

    def _frames(self) -> Iterator[dict[str, object]]:
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{self._container}/stats"
        # A stream that was ended by another thread breaks in any of these ways.
        with (
            suppress(RequestException, HTTPError, OSError, AttributeError, ValueError),
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
        """End the stream of samples, from whichever place its reader waits in; nothing is taken from now on."""
        self._over = True
        if self._stats is not None:
            with suppress(Exception):
                self._stats.raw.shutdown()
        if self._stats_lock.acquire(timeout=_OUTPUT_SECONDS):  # a sample that is being written is
            self._stats_lock.release()

    def _shut(self) -> None:
        """Let go whoever still reads or writes."""
        for holder in self._attached:
            with suppress(OSError):
                getattr(holder, "_sock", holder).shutdown(socket.SHUT_RDWR)

    # --- exit ---------------------------------------------------------------------------------------------------------------

    def watch_to_end(self) -> None:
        """Wait for the container's exit, and tell it."""
        fault: BaseException | None = None
        code, state = 0, {}
        try:
            code = int(self._api.wait(self._container, timeout=None)["StatusCode"])
            state = self._api.inspect_container(self._container)["State"]
        except Exception as error:  # noqa: BLE001 - the engine is gone; it comes out of wait()
            fault = error
        self._end_stats()
        if self._timer is not None:
            self._timer.cancel()
        if self._output is not None:
            self._output.join(_OUTPUT_SECONDS)
        self._shut()
        for thread in self._threads:
            thread.join(_OUTPUT_SECONDS if thread is not self._input else _INPUT_SECONDS)
        self._close()
        fault = self._fault or fault
        if fault is not None:
            self.fail(fault)
        else:
            self.finish(code, killed=bool(state.get("OOMKilled")), dropped=self._dropped, reason=_reason(code, state))


def _read_exactly(source: socket.socket, size: int) -> bytes:
    """As many bytes, or none at the end."""
    data = b""
    while len(data) < size:
        chunk = source.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return data


def _exit_code_of(explanation: str) -> int | None:
    """The code of a command that the engine could not start; None when something else was wrong."""
    text = explanation.lower()
    if any(words in text for words in _UNUSABLE):
        return _CANNOT_RUN
    return _NOT_FOUND if any(words in text for words in _MISSING) else None


def _reason(code: int, state: dict[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "the container ran out of memory"
    return str(state.get("Error") or f"the task ended with exit code {code}")
