"""The input and output of a command."""

from __future__ import annotations

import os
import select
import subprocess
import threading
from contextlib import suppress
from typing import IO, BinaryIO

from callstats.drivers._run import TaskRun
from callstats.drivers.process.launch import Command

_PIPE_BYTES = 65_536
_GRACE_SECONDS = 1.0
"""Max time to read on after the whole tree has ended. Processes that hold a pipe then are not the task's."""


class Streams:
    """The streams of one command: real files go to it directly, and others through pipes and threads."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run
        task = run.task
        self.stdin, self.stdout, self.stderr = (_popen_argument(each) for each in (task.stdin, task.stdout, task.stderr))
        self._input: threading.Thread | None = None
        self._outputs: list[threading.Thread] = []
        self._stop: tuple[int, int] | None = None

    def start(self, process: Command) -> None:
        task = self._run.task
        self._stop = os.pipe()
        if process.stdin is not None and task.stdin is not None:
            self._input = self._run.start_thread("callstats-input", _write_input, task.stdin, process.stdin)
        for pipe, output in ((process.stdout, task.stdout), (process.stderr, task.stderr)):
            if pipe is not None and output is not None:
                self._outputs.append(self._run.start_thread("callstats-output", _read_output, pipe, output, self._stop[0]))

    def finish(self) -> None:
        for thread in (self._input, *self._outputs):
            if thread is not None:
                thread.join(_GRACE_SECONDS)
        if self._stop is not None:
            read, write = self._stop
            os.close(write)  # wakes the threads that still wait for output
            for output in self._outputs:
                output.join()
            os.close(read)
            self._stop = None


def _write_input(source: IO[bytes], pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError), pipe:  # the command need not read all
        while chunk := source.read(_PIPE_BYTES):
            pipe.write(chunk)
            pipe.flush()


def _read_output(pipe: IO[bytes], target: IO[bytes], stop: int) -> None:
    """Pass output on until its end, or until `stop` ends because no process of the task is left to write more."""
    waiting = select.poll()
    waiting.register(pipe.fileno(), select.POLLIN)
    waiting.register(stop, select.POLLIN)
    with pipe:
        while pipe.fileno() in dict(waiting.poll()):
            chunk = os.read(pipe.fileno(), _PIPE_BYTES)
            if not chunk:
                return
            target.write(chunk)
            target.flush()


def _popen_argument(stream: BinaryIO | None) -> int:
    """Return the argument for `Popen`: a real file's own descriptor, else a pipe."""
    if stream is None:
        return subprocess.DEVNULL
    try:
        number = stream.fileno()
        if stream.writable():
            stream.flush()  # earlier writes come first
    except (OSError, AttributeError, ValueError):
        return subprocess.PIPE
    return number
