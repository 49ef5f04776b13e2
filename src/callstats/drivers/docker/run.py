"""DockerRun: a container from its creation to its removal, with its input and output. Needs the Docker SDK."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, BinaryIO

from docker.errors import APIError, DockerException, NotFound

from callstats._timestamps import parse_time
from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun, stop_program
from callstats.drivers.base import ContainerTask
from callstats.drivers.docker.engine import (
    ENGINE_SECONDS,
    QUICK_SECONDS,
    disown_connections,
    engine_errors,
    kill,
    remove,
    request,
    timed_out,
)
from callstats.drivers.docker.owner import abandoned
from callstats.drivers.docker.samples import FirstProcess, Samples
from callstats.errors import CallstatsError, DriverError

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_WAIT_SECONDS = 5.0
"""How often a wait for the end looks whether the engine still answers."""

_SILENT_SECONDS = 60.0
"""Max time without an answer of the engine."""

_KILL_SECONDS = 30.0
"""The same once the container was killed."""

_OUTPUT_SECONDS = 5.0
"""Max wait for the last output after the container's end."""

_INPUT_SECONDS = 0.2
"""Max wait for the reader of the input. It may itself wait for somebody to type."""

_CHUNK = 65_536
_HEADER = struct.Struct(">BxxxL")
"""The number of a piece of output's stream, and its size."""

_SIGKILL_CODE = 128 + 9

_MISSING = ("executable file not found", "no such file or directory")
_UNUSABLE = ("permission denied", "is a directory", "exec format error")


class DockerRun(TaskRun):
    def __init__(self, task: ContainerTask, api: APIClient, container: str) -> None:
        super().__init__(task)
        self._api = api
        self._container = container
        self._samples = Samples(self, api, container)
        self._streams: AttachedStreams | None = None
        self._first = FirstProcess()
        self._killed_at: float | None = None
        self._lost = False
        """Whether the engine has stopped to answer."""
        self._code = 0
        self._ended_at: int | None = None

    def start(self) -> None:
        with engine_errors(f"run {self.task.image!r}"):
            self._streams = AttachedStreams(self, self._api, self._container)
            self._first.expect(self._container)
            asked_at = time_ns()
            try:
                self._api.start(self._container)
            except APIError as error:
                code = _start_code(str(error.explanation))
                if code is None:
                    raise
                self._first.close()
                self.finish(Exit(code, f"can't run {list(self.task.command)[:1]}: {error.explanation}"))
                return
            answered_at, state = time_ns(), self._state()
            self._first.find(state["Pid"])
            # The engine's clock may differ from ours.
            self.began_at = min(max(_time(state, "StartedAt") or answered_at, asked_at), answered_at)
        self._streams.start()
        self._samples.start()
        self.watch("callstats-docker")

    def kill(self) -> None:
        """Kill the container: by its engine, or, when that does not answer, by its first process if that is on this machine."""
        self._killed_at = self._killed_at or monotonic()
        try:
            kill(self._api, self._container)
        except (DockerException, OSError):  # `await_exit` finds out what is wrong
            self._first.kill()

    def send_signal(self, number: int) -> None:
        with suppress(DockerException, OSError):  # it has ended by itself, or `await_exit` finds out what is wrong
            self._post("kill", signal=number)

    def disown(self) -> None:
        super().disown()
        disown_connections()

    def suspend(self) -> None:
        """Pause the container while this program is stopped."""
        with suppress(DockerException, OSError):  # as above
            self._post("pause")
        stop_program()
        with suppress(DockerException, OSError):
            self._post("unpause")

    def await_exit(self) -> None:
        answered_at = monotonic()
        while True:
            try:
                answer = self._post("wait", _WAIT_SECONDS).json()
            except OSError as error:  # the Docker SDK's are of this kind too
                if not timed_out(error):
                    self._lost = not isinstance(error, APIError)
                    with engine_errors("wait for the container"):
                        raise
            else:
                message = (answer.get("Error") or {}).get("Message")
                if message or "StatusCode" not in answer:
                    raise DriverError(f"can't wait for the container: its exit code is lost: {message or answer}")
                self._code, self._ended_at = int(answer["StatusCode"]), time_ns()
                return
            with suppress(OSError):
                request(self._api, "GET", "/_ping", QUICK_SECONDS)
                answered_at = monotonic()
            self._validate_patience(monotonic() - answered_at)
            if self._killed_at is not None:
                self.kill()

    def _validate_patience(self, silent: float) -> None:
        """Raise when the engine, or a killed container, has taken too long."""
        killed_at = self._killed_at
        if silent > (_SILENT_SECONDS if killed_at is None else _KILL_SECONDS):
            self._lost = True
            raise DriverError(f"can't wait for the container: the engine has not answered for {silent:.0f} seconds")
        if killed_at is not None and monotonic() - killed_at > _SILENT_SECONDS:
            raise DriverError(f"can't end the container: it still runs {_SILENT_SECONDS:.0f} seconds after it was killed")

    def clean_up(self) -> Exit:
        """End the container's streams, once their last data is through, and write the closing sample."""
        reading = self._first.close()
        self._samples.end()
        assert self._streams is not None  # noqa: S101 - `start` set it
        self._streams.finish(0 if self._lost else _OUTPUT_SECONDS)
        state = self._end_state()
        ended_at = _time(state, "FinishedAt") or self._first.ended_at or self._ended_at
        self.ended_at = self._first.ended_at or self._ended_at
        if ended_at is not None:
            self._samples.close(ended_at, reading)
        if state.get("Running") and not self._code:  # the engine resets the code of a container that starts again
            raise DriverError("can't tell the container's exit code: somebody has started it again")
        oom, removed = bool(state.get("OOMKilled") or self._first.oom_kills), not state
        reason = str(state.get("Error") or "")
        if oom and self._code:
            reason = "the container ran out of memory"
        elif self._code == _SIGKILL_CODE:
            reason = f"the container was killed{' and removed' if removed else ''}"
        killed = bool(self._code) and (oom or self._code == _SIGKILL_CODE)
        return Exit(self._code, reason, killed, self._samples.dropped, oom)

    def release(self) -> None:
        self._first.close()
        self._samples.end()
        if self._streams is not None:
            self._streams.close()
        try:
            with engine_errors(f"remove container {self._container[:12]}"):
                remove(self._api, self._container, QUICK_SECONDS if self._lost else ENGINE_SECONDS)
        except DriverError:
            abandoned.add(self._container)
            if self._fault is None:  # else `wait` has raised, or will
                raise
        finally:
            self._api.close()

    def _end_state(self) -> dict[str, Any]:
        """Return the state of the ended container; an empty one when others have removed it, or the engine is gone."""
        state: dict[str, Any] = {}
        if not self._lost:
            with engine_errors("inspect the container"), suppress(NotFound):
                state = self._state()
        if state.get("Running"):  # somebody has started it again
            self.kill()
        return state

    def _post(self, action: str, seconds: float = QUICK_SECONDS, **params: Any) -> Response:
        return request(self._api, "POST", f"/containers/{self._container}/{action}", seconds, **params)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = request(self._api, "GET", f"/containers/{self._container}/json").json()["State"]
        return state


class AttachedStreams:
    """The streams of one container. They are attached before it starts, or early output would be lost."""

    def __init__(self, run: DockerRun, api: APIClient, container: str) -> None:
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


def _start_code(explanation: str) -> int | None:
    """Return a shell's exit code for a command that the engine can't start, or None for an error of another kind."""
    text = explanation.lower()
    if any(words in text for words in _UNUSABLE):
        return CANNOT_RUN
    return NOT_FOUND if any(words in text for words in _MISSING) else None


def _time(state: dict[str, Any], name: str) -> int | None:
    with suppress(CallstatsError, KeyError):
        return parse_time(state[name])
    return None
