"""A task's input and output: files go to the command as they are, and everything else through pipes and threads."""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections.abc import Callable
from typing import IO, BinaryIO, TypeAlias

_Work: TypeAlias = Callable[[IO[bytes], IO[bytes]], None]

_CHUNK = 65_536
_GRACE_SECONDS = 1.0
"""How long output is still read after the whole tree has ended: what then holds the pipe is none of the task's."""


class Streams:
    """The three streams of one command."""

    def __init__(self, stdin: BinaryIO | None, stdout: BinaryIO | None, stderr: BinaryIO | None) -> None:
        self._stdin, self._outputs = stdin, (stdout, stderr)
        self.stdin = _handed_over(stdin)
        self.stdout, self.stderr = (_handed_over(output) for output in self._outputs)
        self._threads: list[threading.Thread] = []
        self._stop: tuple[int, int] | None = None
        self.faults: list[BaseException] = []

    def start(self, process: subprocess.Popen[bytes]) -> None:
        """Begin to move bytes."""
        self._stop = os.pipe()
        if process.stdin is not None and self._stdin is not None:
            self._go(self._feed, self._stdin, process.stdin)
        for pipe, output in zip((process.stdout, process.stderr), self._outputs, strict=True):
            if pipe is not None and output is not None:
                self._go(self._drain, pipe, output)

    def finish(self) -> None:
        """Wait until all output is through."""
        for thread in self._threads:
            thread.join(_GRACE_SECONDS)
        if self._stop is not None:
            read, write = self._stop
            os.close(write)  # wakes whoever still waits
            for thread in self._threads:
                if thread.name != _FEED:
                    thread.join()
            os.close(read)
            self._stop = None

    def _go(self, work: _Work, source: IO[bytes], target: IO[bytes]) -> None:
        name = _FEED if work == self._feed else "callstats-output"
        thread = threading.Thread(target=self._guarded, args=(work, source, target), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: _Work, source: IO[bytes], target: IO[bytes]) -> None:
        try:
            work(source, target)
        except BaseException as fault:  # noqa: BLE001 - a task's own writer may raise anything; it comes out of wait()
            self.faults.append(fault)

    def _feed(self, source: IO[bytes], pipe: IO[bytes]) -> None:
        """Give the command its input; one that doesn't read it all is no fault."""
        try:
            with pipe:
                while chunk := source.read(_CHUNK):
                    pipe.write(chunk)
                    pipe.flush()
        except BrokenPipeError:
            pass

    def _drain(self, pipe: IO[bytes], target: IO[bytes]) -> None:
        """Pass output on until its end, or until nobody can add to it."""
        assert self._stop is not None  # noqa: S101 - start() made it before this thread
        stop = self._stop[0]
        waiting = select.poll()
        waiting.register(pipe.fileno(), select.POLLIN)
        waiting.register(stop, select.POLLIN)
        with pipe:
            while True:
                ready = dict(waiting.poll())
                if pipe.fileno() not in ready:
                    return
                chunk = os.read(pipe.fileno(), _CHUNK)
                if not chunk:
                    return
                target.write(chunk)
                target.flush()


_FEED = "callstats-input"


def _handed_over(stream: BinaryIO | None) -> int:
    """A stream as `Popen` takes it: what is a file of the system is handed over as it is."""
    if stream is None:
        return subprocess.DEVNULL
    try:
        number = stream.fileno()
        if stream.writable():
            stream.flush()  # what was written before comes first
    except (OSError, AttributeError, ValueError):
        return subprocess.PIPE
    return number
