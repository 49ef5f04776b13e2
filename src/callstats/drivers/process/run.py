"""ProcessRun: a command from its start to its end. Needs psutil."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic, sleep, time_ns

import psutil

from callstats.drivers._run import CANNOT_RUN, NOT_FOUND, Exit, TaskRun, next_due
from callstats.drivers.base import ContainerTask, Status
from callstats.drivers.process._watchdog import Watchdog
from callstats.drivers.process.streams import Streams
from callstats.drivers.process.tree import MARK, Tree, Usage, subreaper
from callstats.errors import DriverError

_MAX_WAIT = 86_400.0
"""Seconds; a system call can't wait for a month."""

_CHECK_SECONDS = 0.05
"""Max time between two checks of a limited tree's memory."""


class ProcessRun(TaskRun):
    """A command and its tree, sampled by a thread."""

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
            self._held.enter_context(_terminal(task, self._process.pid))
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
        """Kill the rest of the tree, and reap the command."""
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


@contextmanager
def _terminal(task: ContainerTask, group: int) -> Iterator[None]:
    """Hand the terminal over to a command that reads from it, and take it back afterwards."""
    try:
        number = -1 if task.stdin is None else task.stdin.fileno()
        ours = number >= 0 and os.isatty(number) and os.tcgetpgrp(number) == os.getpgrp()
    except (OSError, AttributeError, ValueError):
        ours = False
    if not ours:
        yield
        return
    _give_terminal(number, group)
    with suppress(OSError):
        os.killpg(group, signal.SIGCONT)  # it may have stopped because it read too early
    try:
        yield
    finally:
        _give_terminal(number, os.getpgrp())


def _give_terminal(number: int, group: int) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # else a background group is stopped by the call
    with suppress(OSError):
        os.tcsetpgrp(number, group)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
