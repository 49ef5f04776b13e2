"""ProcessRun: a command from its start to its end. Needs psutil."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import ExitStack, suppress
from time import monotonic, sleep, time_ns
from typing import IO, BinaryIO

import psutil

from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun, next_due
from callstats.drivers.base import ContainerTask, Status
from callstats.drivers.process.terminal import Terminal
from callstats.drivers.process.tree import MARK, Tree, Usage, subreaper
from callstats.errors import DriverError

_MAX_WAIT = 86_400.0
"""Seconds; a system call can't wait for a month."""

_CHECK_SECONDS = 0.05
"""Max time between two checks of a limited tree's memory."""

_PIPE_BYTES = 65_536
_GRACE_SECONDS = 1.0
"""Max time to read on after the whole tree has ended. Processes that hold a pipe then are not the task's."""

# Without callstats, the script's input ends before the second line. It then kills the task's group, and for a while every process
# with the task's mark in its environment.
_WATCHDOG = """
read -r group || exit 0
read -r word && exit 0
kill -KILL -- "-$group"
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(grep -lsaF "$1" /proc/[0-9]*/environ); do
        number=${file#/proc/}
        kill -KILL "${number%/environ}" && found=1
    done
    [ "$found" ] || exit 0
done
"""


class ProcessRun(TaskRun):
    def __init__(self, task: ContainerTask, interval: float) -> None:
        super().__init__(task)
        self._interval = interval
        self._tree: Tree | None = None

    def start(self) -> None:
        task = self.task
        self._held = ExitStack()
        try:
            self._held.enter_context(subreaper())
            watchdog = Watchdog(task.id)
            self._held.callback(watchdog.close)
            self._streams = Streams(self)
            self._began = monotonic()
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the purpose is to run the caller's command
                    list(task.command),
                    stdin=self._streams.stdin,
                    stdout=self._streams.stdout,
                    stderr=self._streams.stderr,
                    cwd=task.work_dir or None,
                    env={**os.environ, **task.env, MARK: ":".join(filter(None, [os.environ.get(MARK), task.id]))},
                    process_group=0,
                )
            except (OSError, ValueError) as error:  # such as a NUL in an argument
                self._held.close()
                missing = isinstance(error, FileNotFoundError) and error.filename != task.work_dir
                self.finish(Exit(NOT_FOUND if missing else CANNOT_RUN, f"can't run {task.command[0]!r}: {error}"))
                return
            self._tree = Tree(self._process.pid, task.id)
            watchdog.watch(self._process.pid)
            self.terminal = self._held.enter_context(Terminal(task.stdin, self._process.pid))
            self._streams.start(self._process)
            self.watch("callstats-process")
        except BaseException:  # such as too many threads
            if self._tree is not None:
                self._tree.kill()
                self._reap(self._tree)
            self._held.close()
            raise

    def kill(self) -> None:
        if self._tree is not None:
            self._tree.kill()

    def send_signal(self, number: int) -> None:
        if self._tree is not None:
            self._tree.send_signal(number)

    def await_exit(self) -> None:
        """Sample until the command exits, or exceeds its memory."""
        assert self._tree is not None  # noqa: S101 - `start` set it
        memory, interval = self.task.memory, self._interval
        check_interval = min(interval, _CHECK_SECONDS) if memory else interval
        before, before_at = Usage(), self._began
        due, check_due = before_at + interval, before_at + check_interval
        while not _wait_for_exit(self._process.pid, min(max(min(due, check_due) - monotonic(), 0), _MAX_WAIT)):
            now = monotonic()
            if now < min(due, check_due):
                continue
            used = self._tree.usage()
            exceeded = bool(memory) and used.rss > memory
            if (now >= due or exceeded) and used.living:
                self.task.write_stat(time_ns(), used.metrics(before, now - before_at, memory))
                before, before_at = used.max_with(before), now
            if exceeded:
                self.stop(Status.KILLED, f"the task held {used.rss} bytes of memory, of {memory} allowed")
                return
            due, check_due = next_due(due, interval, now), next_due(check_due, check_interval, now)

    def clean_up(self) -> Exit:
        assert self._tree is not None  # noqa: S101 - `start` set it
        with self._held:
            self._tree.end()
            self._streams.finish()
        code = self._reap(self._tree)
        if code is None:
            raise DriverError("the exit code of the command is lost: another part of this program waited for the process")
        if code < 0:
            name = {each.value: each.name for each in signal.Signals}.get(-code, str(-code))  # a real-time signal has no name
            return Exit(128 - code, f"the task was ended by signal {name}", killed=-code == signal.SIGKILL)
        return Exit(code)

    def _reap(self, tree: Tree) -> int | None:
        code = tree.reap_root()
        self._process.returncode = 0 if code is None else code  # Popen must not wait for it
        return code


def _wait_for_exit(pid: int, seconds: float) -> bool:
    """Wait for a child to exit, without reaping it. Return whether it has exited."""
    with suppress(AttributeError, OSError):  # other systems and old kernels have no such descriptors
        number = os.pidfd_open(pid)
        try:
            ready = select.poll()
            ready.register(number, select.POLLIN)
            return bool(ready.poll(seconds * 1000))
        finally:
            os.close(number)
    deadline = monotonic() + seconds
    with suppress(psutil.NoSuchProcess):  # another part of this program has waited for it
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if monotonic() >= deadline:
                return False
            sleep(0.005)
    return True


class Streams:
    """The streams of one command: real files go to it directly, and others through pipes and threads."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run
        task = run.task
        self.stdin, self.stdout, self.stderr = (_popen_argument(each) for each in (task.stdin, task.stdout, task.stderr))
        self._input: threading.Thread | None = None
        self._outputs: list[threading.Thread] = []
        self._stop: tuple[int, int] | None = None

    def start(self, process: subprocess.Popen[bytes]) -> None:
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


class Watchdog:
    """A small shell beside a task that kills it when callstats itself dies, in whatever way."""

    def __init__(self, mark: str) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with suppress(OSError):  # a system without a shell has no watchdog
            self._shell = subprocess.Popen(  # noqa: S603 - our own script, with a mark as its argument
                ["/bin/sh", "-c", _WATCHDOG, "callstats-watchdog", mark],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin"},
                start_new_session=True,
            )

    def watch(self, group: int) -> None:
        """Name the process group to kill."""
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(f"{group}\n".encode())
                self._shell.stdin.flush()

    def close(self) -> None:
        """End the watchdog without harm to the task."""
        if self._shell is not None:
            with suppress(OSError):
                self._shell.communicate(b"over\n")
            self._shell = None
