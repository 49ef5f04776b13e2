"""ProcessRun: a command from its start to its end, with its streams and its watchdog."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic, time_ns
from typing import IO, BinaryIO
from uuid import uuid4

from callstats._units import memory_text
from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun, next_due
from callstats.drivers.base import ContainerTask, Status
from callstats.drivers.process.group import TaskGroup
from callstats.drivers.process.launch import Launched, launch
from callstats.drivers.process.meter import Meter
from callstats.drivers.process.terminal import Terminal
from callstats.drivers.process.tree import MARK, Tree, subreaper
from callstats.errors import DriverError

_CHECK_SECONDS = 0.05
"""Max time between two checks of a limited tree's memory."""

_EARLY_LOOKS = (0.005, 0.02, 0.08)
"""Seconds after the start to note the peaks of short calls, without a sample."""

_PIPE_BYTES = 65_536
_GRACE_SECONDS = 1.0
"""Max time to read on after the whole tree has ended. Processes that hold a pipe then are not the task's."""

# Without callstats, the script's input ends before the third line. It then kills the task's group, and for a while every process
# with the task's mark in its environment.
_WATCHDOG = """
read -r group || exit 0
read -r folder
read -r word && exit 0
kill -s KILL -- "-$group"
[ ! "$folder" ] || echo 1 >"$folder/cgroup.kill"
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(grep -lsaF "$1" /proc/[0-9]*/environ); do
        number=${file#/proc/}
        kill -KILL "${number%/environ}" && found=1
    done
    [ "$found" ] || break
done
[ ! "$folder" ] || until rmdir "$folder" || [ $((tries = tries + 1)) -gt 100 ]; do sleep 0.05; done
"""


class ProcessRun(TaskRun):
    def __init__(self, task: ContainerTask, interval: float, *, adopts: bool) -> None:
        super().__init__(task)
        self._interval = interval
        self._adopts = adopts
        self._tree: Tree | None = None
        self._watchdog: Watchdog | None = None
        self._streams = Streams(self)
        self._group: TaskGroup | None = None
        self._exited = threading.Event()
        self._terminal: Terminal | None = None
        self._ended = 0, 0.0

    def start(self) -> None:
        task, mark = self.task, uuid4().hex
        marks = ":".join(filter(None, [os.environ.get(MARK), mark]))
        self._held = ExitStack()
        try:
            self._held.enter_context(subreaper())
            tree = Tree(mark, adopts=self._adopts)
            self._watchdog = watchdog = Watchdog(mark)
            self._held.callback(watchdog.close)
            tree.helpers.add(watchdog.pid)
            try:
                command = launch(
                    task.command,
                    {**os.environ, **task.env, MARK: marks},
                    task.work_dir,
                    stdin=_popen_argument(task.stdin),
                    stdout=_popen_argument(task.stdout),
                    stderr=_popen_argument(task.stderr),
                )
            except (OSError, ValueError) as error:  # such as a NUL in an argument
                self._held.close()
                missing = isinstance(error, FileNotFoundError) and error.filename != task.work_dir
                file = getattr(error, "filename", None)  # the command, or the working directory
                reason = f"{getattr(error, 'strerror', error)}{'' if file in (None, task.command[0]) else f': {file!r}'}"
                self.finish(Exit(NOT_FOUND if missing else CANNOT_RUN, f"can't run {task.command[0]!r}: {reason}"))
                return
            self._held.callback(command.close)
            tree.set_root(command.pid, command.floor)
            self._command, self._tree = command, tree
            if (group := TaskGroup.make(mark)) is not None:
                tree.group = group if group.add(command.pid) else None
                self._group = group
            watchdog.watch(command.pid, "" if group is None else str(group.folder))
            self._terminal = self._held.enter_context(Terminal(task.stdin, command.pid))
            self._held.callback(self._streams.finish)
            self._streams.start(command)
            self.start_thread("callstats-exit", self._note_exit)
            self._meter = Meter(tree, task.memory, spent=command.spent)
            command.go()
            self.began_at = command.began_at
            self.watch("callstats-process")
        except BaseException:  # such as too many threads
            if self._tree is None:
                self._held.close()
            else:
                self._end(self._tree)
                self._remove_group()
            raise

    def kill(self) -> None:
        if self._tree is not None:
            self._tree.kill()

    def send_signal(self, number: int) -> None:
        if self._tree is not None:
            self._tree.send_signal(number)

    def suspend(self) -> None:
        if self._terminal is not None:
            self._terminal.stop()

    def follow_stop(self) -> None:
        if self._terminal is not None:
            self._terminal.follow_stop()

    def disown(self) -> None:
        super().disown()
        self._streams.disown()
        if self._watchdog is not None:
            self._watchdog.disown()

    def await_exit(self) -> None:
        """Sample until the command exits, or exceeds its memory."""
        memory, interval, meter = self.task.memory, self._interval, self._meter
        check_interval = min(interval, _CHECK_SECONDS) if memory else interval
        began = monotonic()
        due, check_due = began + interval, began + check_interval
        looks = [began + seconds for seconds in _EARLY_LOOKS if seconds < interval]
        while not self._exited.wait(max(min(due, check_due, *looks) - monotonic(), 0)):
            now = monotonic()
            if looks and now >= looks[0]:
                looks = [each for each in looks if each > now]
                meter.look()
            exceeded = meter.exceeded() if memory and now >= check_due else None
            if (now >= due or exceeded) and (metrics := meter.sample()):
                self.write_stat(time_ns(), metrics)
            if exceeded:
                self.stop(
                    Status.KILLED,
                    f"the task held {memory_text(exceeded)} of memory, more than its limit of {memory_text(memory)}",
                )
                self._exited.wait()
                break
            due, check_due = next_due(due, interval, now), next_due(check_due, check_interval, now)
        self._ended = time_ns(), monotonic()

    def clean_up(self) -> Exit:
        assert self._tree is not None  # noqa: S101 - `start` set it
        left = 0 if self._stopped is not None else self._tree.left_running()
        code = self._end(self._tree)
        timestamp, ended = self._ended
        self.ended_at = timestamp or time_ns()
        metrics = self._meter.closing(ended or monotonic())
        self._remove_group()
        self.write_stat(self.ended_at, metrics)
        if code is None:
            raise DriverError("the exit code of the command is lost: another part of this program waited for the process")
        if code < 0:
            name = {each.value: each.name for each in signal.Signals}.get(-code, str(-code))  # a real-time signal has no name
            reason = f"the task was ended by signal {name}"
            return Exit(128 - code, reason, killed=-code == signal.SIGKILL, left_running=left)
        return Exit(code, left_running=left)

    def _note_exit(self) -> None:
        with suppress(ChildProcessError):  # it was reaped elsewhere
            os.waitid(os.P_PID, self._command.pid, os.WEXITED | os.WNOWAIT)
        self._exited.set()

    def _end(self, tree: Tree) -> int | None:
        """End the whole tree, and return the exit code of the command."""
        with self._held:
            tree.end()
        code = tree.reap_root()
        self._command.forget(code)
        return code

    def _remove_group(self) -> None:
        if self._group is not None:
            self._group.remove()


class Streams:
    """The streams of one command: real files go to it directly, and others through pipes and threads."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run
        self._pipes: list[IO[bytes]] = []
        self._unused: list[IO[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._stop: tuple[int, int] | None = None

    def start(self, process: Launched) -> None:
        task = self._run.task
        self._pipes = [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
        self._unused = self._pipes.copy()
        self._stop = os.pipe()
        for pipe, output in ((process.stdout, task.stdout), (process.stderr, task.stderr)):
            if pipe is not None:
                self._start("callstats-output", _read_output, pipe, output, self._stop[0])
        if process.stdin is not None:
            self._start("callstats-input", _write_input, process.stdin, task.stdin)

    def finish(self) -> None:
        """Wait for the last output, and close what is open."""
        for thread in self._threads:
            thread.join(_GRACE_SECONDS)
        if self._stop is not None:
            os.write(self._stop[1], b"\n")  # its close would not wake them where a fork has it too
            for thread in self._threads:
                if thread.name == "callstats-output":
                    thread.join()
            self._close_stop()
        for pipe in self._unused:
            pipe.close()

    def disown(self) -> None:
        """In a fork of this process: let the command's input end with its parent alone."""
        for pipe in self._pipes:
            pipe.close()
        self._close_stop()

    def _start(self, name: str, work: Callable[..., None], pipe: IO[bytes], *arguments: object) -> None:
        self._threads.append(self._run.start_thread(name, work, pipe, *arguments))
        self._unused.remove(pipe)  # the thread closes it

    def _close_stop(self) -> None:
        stop, self._stop = self._stop, None  # first, as a fork may come in between
        for number in stop or ():
            os.close(number)


def _write_input(pipe: IO[bytes], source: IO[bytes]) -> None:
    with suppress(BrokenPipeError), pipe:  # the command need not read all
        while left := source.read(_PIPE_BYTES):
            while left:
                left = left[pipe.write(left) :]


def _read_output(pipe: IO[bytes], target: IO[bytes], stop: int) -> None:
    """Pass output on until its end, or until `stop` can be read because no process of the task is left to write more."""
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
        self.pid = 0
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
            self.pid = self._shell.pid

    def watch(self, group: int, folder: str) -> None:
        """Name the process group to kill, and the folder of the control group, if any."""
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(f"{group}\n{folder}\n".encode())
                self._shell.stdin.flush()

    def disown(self) -> None:
        """In a fork of this process: let it end with its parent alone."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.returncode = 0  # it is no child of the fork

    def close(self) -> None:
        """End the watchdog without harm to the task."""
        if self._shell is not None:
            with suppress(OSError):
                self._shell.communicate(b"over\n")
            self._shell = None
