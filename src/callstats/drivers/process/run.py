"""ProcessRun: a command from its start to its end."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep, time_ns
from uuid import uuid4

from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun, next_due
from callstats.drivers.base import ContainerTask, Status
from callstats.drivers.process.group import TaskGroup
from callstats.drivers.process.launch import launch
from callstats.drivers.process.meter import Meter
from callstats.drivers.process.streams import Streams
from callstats.drivers.process.terminal import Terminal
from callstats.drivers.process.tree import MARK, Tree, subreaper
from callstats.drivers.process.watchdog import Watchdog
from callstats.errors import DriverError

_MAX_WAIT = 86_400.0
"""Seconds; a system call can't wait for a month."""

_CHECK_SECONDS = 0.05
"""Max time between two checks of a limited tree's memory."""

_EARLY_LOOKS = (0.005, 0.02, 0.08)
"""Seconds after the start to note the peaks of short calls, without a sample."""


class ProcessRun(TaskRun):
    def __init__(self, task: ContainerTask, interval: float, *, adopts: bool) -> None:
        super().__init__(task)
        self._interval = interval
        self._adopts = adopts
        self._tree: Tree | None = None
        self._watchdog: Watchdog | None = None
        self._group: TaskGroup | None = None
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
            self._streams = Streams(self)
            try:
                command = launch(
                    task.command,
                    {**os.environ, **task.env, MARK: marks},
                    task.work_dir,
                    stdin=self._streams.stdin,
                    stdout=self._streams.stdout,
                    stderr=self._streams.stderr,
                )
            except (OSError, ValueError) as error:  # such as a NUL in an argument
                self._held.close()
                missing = isinstance(error, FileNotFoundError) and error.filename != task.work_dir
                self.finish(Exit(NOT_FOUND if missing else CANNOT_RUN, f"can't run {task.command[0]!r}: {error}"))
                return
            self._held.callback(command.close)
            tree.set_root(command.pid, command.floor)
            self._command, self._tree = command, tree
            if (group := TaskGroup.make(mark)) is not None:
                tree.group = group if group.add(command.pid) else None
                self._group = group
            watchdog.watch(command.pid, "" if group is None else str(group.folder))
            self.terminal = self._held.enter_context(Terminal(task.stdin, command.pid))
            self._streams.start(command)
            self._meter = Meter(tree.members, task.memory, reaped=lambda: tree.reaped, group=tree.group)
            command.go()
            self.watch("callstats-process")
        except BaseException:  # such as too many threads
            if self._tree is not None:
                self._tree.end()
                self._reap(self._tree)
            self._held.close()
            self._remove_group()
            raise

    def kill(self) -> None:
        if self._tree is not None:
            self._tree.kill()

    def send_signal(self, number: int) -> None:
        if self._tree is not None:
            self._tree.send_signal(number)

    def disown(self) -> None:
        super().disown()
        if self._watchdog is not None:
            self._watchdog.disown()

    def await_exit(self) -> None:
        """Sample until the command exits, or exceeds its memory."""
        memory, interval, meter = self.task.memory, self._interval, self._meter
        check_interval = min(interval, _CHECK_SECONDS) if memory else interval
        began = monotonic()
        due, check_due = began + interval, began + check_interval
        looks = [began + seconds for seconds in _EARLY_LOOKS if seconds < interval]
        with _exit_of(self._command.pid) as exited:
            while not exited(min(due, check_due, *looks) - monotonic()):
                now = monotonic()
                if looks and now >= looks[0]:
                    looks = [each for each in looks if each > now]
                    meter.look()
                exceeded = meter.exceeded() if memory and now >= check_due else None
                if (now >= due or exceeded) and (metrics := meter.sample()):
                    self.write_stat(time_ns(), metrics)
                if exceeded:
                    self.stop(Status.KILLED, f"the task held {exceeded} bytes of memory, of {memory} allowed")
                    exited(_MAX_WAIT)
                    break
                due, check_due = next_due(due, interval, now), next_due(check_due, check_interval, now)
        self._ended = time_ns(), monotonic()

    def clean_up(self) -> Exit:
        assert self._tree is not None  # noqa: S101 - `start` set it
        with self._held:
            self._tree.end()
            self._streams.finish()
        code = self._reap(self._tree)
        timestamp, ended = self._ended
        metrics = self._meter.closing(ended or monotonic(), alone=self._tree.only_root)
        self._remove_group()
        self.write_stat(timestamp or time_ns(), metrics)
        if code is None:
            raise DriverError("the exit code of the command is lost: another part of this program waited for the process")
        if code < 0:
            name = {each.value: each.name for each in signal.Signals}.get(-code, str(-code))  # a real-time signal has no name
            return Exit(128 - code, f"the task was ended by signal {name}", killed=-code == signal.SIGKILL)
        return Exit(code)

    def _remove_group(self) -> None:
        if self._group is not None:
            self._group.remove()

    def _reap(self, tree: Tree) -> int | None:
        code = tree.reap_root()
        self._command.forget(code)
        return code


@contextmanager
def _exit_of(pid: int) -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits up to so many seconds for a child to exit, without reaping it, and returns whether it has."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):  # other systems and old kernels have no such descriptors
        yield lambda seconds: _poll_exit(pid, seconds)
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        yield lambda seconds: bool(poll.poll(min(max(seconds, 0), _MAX_WAIT) * 1000))
    finally:
        os.close(handle)


def _poll_exit(pid: int, seconds: float) -> bool:
    deadline = monotonic() + seconds
    while True:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        if monotonic() >= deadline:
            return False
        sleep(0.005)
