"""ProcessDriver: a command of this machine, with its whole tree of processes."""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic, sleep, time_ns
from types import TracebackType
from typing import Self

from callstats._extras import needs
from callstats.drivers.base import ContainerTask, RunResult, Status
from callstats.drivers.process.guard import Guard
from callstats.drivers.process.streams import Streams
from callstats.drivers.process.tree import MARK, Tree, Usage, subreaper
from callstats.drivers.running import Running
from callstats.errors import CallstatsError, DriverError

_LONGEST_WAIT = 86_400.0
"""Seconds; a system call can't wait for a month."""

_LOOK_SECONDS = 0.05
"""How often, at least, a limited tree's memory is looked at."""

_CANNOT_RUN, _NOT_FOUND = 126, 127


class ProcessDriver:
    """Runs a task as a process group of this machine, and samples all processes that come from it.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more.

    Notes
    -----
    A sample has ``cpu_total``, ``cpu_user`` and ``cpu_kernel`` (whole percent of one core since the sample before, with children
    that have exited), ``mem_usage`` (resident memory, of which pages shared by two processes count twice), ``mem_limit`` where
    the task has one, and ``disk_read`` and ``disk_write``. It needs the extra ``callstats[process]``.

    When the command exits, so must whatever it leaves behind: the rest of its tree is killed.

    Examples
    --------
    >>> from callstats.drivers import Task
    >>> with ProcessDriver(interval=0.05).prepare(Task(command=["true"])) as cookie:
    ...     cookie.run().wait().status.value
    'success'
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = checked_interval(interval)

    def prepare(self, task: ContainerTask) -> ProcessCookie:
        """Check the task; nothing runs yet.

        Parameters
        ----------
        task : ContainerTask
            With a command, and without volumes.

        Returns
        -------
        Cookie

        Raises
        ------
        DriverError
            For any other task, on a system without process groups, and where this process ignores SIGCHLD.
        ImportError
            When psutil is missing.
        """
        with needs("drivers.ProcessDriver", "process"):
            import psutil  # noqa: F401 - only whether it is installed
        if os.name != "posix":
            raise DriverError(f"expected a system with process groups: this one is {os.name}")
        if not task.command:
            raise DriverError("expected a command: a process has no image to give one")
        if task.volumes:
            raise DriverError(f"expected no volumes, which a process can't mount, got {len(task.volumes)}")
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            raise DriverError("SIGCHLD must not be ignored, or exit codes are lost: signal.signal(SIGCHLD, SIG_DFL) undoes that")
        return ProcessCookie(task, self._interval)


class ProcessCookie:
    """One request to run a command."""

    def __init__(self, task: ContainerTask, interval: float) -> None:
        self._task = task
        self._interval = interval
        self._run: ProcessRun | None = None
        self._closed = False

    def run(self) -> ProcessRun:
        """Start the command."""
        if self._closed or self._run is not None:
            raise DriverError("expected a cookie that was not used before: a task runs once")
        self._run = ProcessRun(self._task, self._interval)
        self._run.start()
        return self._run

    def close(self) -> None:
        """End the command if it still runs."""
        self._closed = True
        if self._run is not None:
            self._run.end()
        self._task.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class ProcessRun(Running):
    """A command from its start to its end, watched by a thread."""

    def __init__(self, task: ContainerTask, interval: float) -> None:
        super().__init__()
        self._task = task
        self._interval = interval
        self._tree: Tree | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()

    def start(self) -> None:
        """Start the command, or tell why it can't be."""
        task = self._task
        with ExitStack() as held:
            held.enter_context(subreaper())
            guard = Guard(task.id)
            held.callback(guard.close)
            self._streams = Streams(task.stdin, task.stdout, task.stderr)
            self._started = monotonic()
            try:
                process = subprocess.Popen(  # noqa: S603 - to run the caller's command is what it is for
                    list(task.command),
                    stdin=self._streams.stdin,
                    stdout=self._streams.stdout,
                    stderr=self._streams.stderr,
                    cwd=task.work_dir or None,
                    env={**os.environ, **task.env, MARK: ":".join(filter(None, [os.environ.get(MARK), task.id]))},
                    process_group=0,
                )
            except (OSError, ValueError) as error:  # such as a NUL in an argument
                self._refuse(error)
                return
            self._process, self._tree = process, Tree(process.pid, task.id)
            try:
                guard.watch(process.pid)
                self._streams.start(process)
                thread = threading.Thread(target=self.watch, name="callstats-process", daemon=True)
                thread.start()
            except BaseException:  # such as too many threads: nothing may be left behind
                self._tree.kill()
                process.wait()
                raise
            self._held, self._thread = held.pop_all(), thread
            _running.add(self)
        self._ready.set()

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        """Wait for the end."""
        result = super().wait(timeout, cancel)
        if self._thread is not None:
            self._thread.join()
        return result

    def end(self) -> None:
        """Kill what still runs, and wait until it is gone."""
        self.stop(Status.CANCELLED)
        if self._thread is not None:
            self._thread.join()

    def kill(self) -> None:
        """Kill the tree."""
        if self._tree is not None:
            self._tree.kill()

    def _refuse(self, error: OSError | ValueError) -> None:
        missing = isinstance(error, FileNotFoundError) and error.filename != self._task.work_dir
        self.finish(_NOT_FOUND if missing else _CANNOT_RUN, reason=f"can't run {self._task.command[0]!r}: {error}")

    def watch_to_end(self) -> None:
        """Sample until the command exits; then clear up behind it."""
        self._ready.wait()  # start() has said all that is used here
        process, tree, streams = self._process, self._tree, self._streams
        assert tree is not None  # noqa: S101 - as above
        fault: BaseException | None = None
        with self._held, _terminal(self._task, process.pid):
            try:
                self._sample_until_exit(process.pid, tree)
            except BaseException as error:  # noqa: BLE001 - it comes out of wait()
                fault = error
                tree.kill()
                _await_exit(process.pid, None)
            tree.end()
            streams.finish()
        code = tree.reap_root()
        process.returncode = 0 if code is None else code
        _running.discard(self)
        fault = fault or next(iter(streams.faults), None)
        if fault is not None:
            self.fail(fault)
        elif code is None:
            self.fail(DriverError("the exit code of the command is lost: another part of this program waited for the process"))
        elif code < 0:
            self.finish(128 - code, killed=-code == signal.SIGKILL, reason=f"the task was ended by signal {_signal_name(-code)}")
        else:
            self.finish(code)

    def _sample_until_exit(self, pid: int, tree: Tree) -> None:
        memory, timeout, started = self._task.memory, self._task.timeout or None, self._started
        look = min(self._interval, _LOOK_SECONDS) if memory else self._interval
        before, before_at, due, next_look = Usage(0, 0, 0, 0, 0, 0), started, started + self._interval, started + look
        while True:
            now = monotonic()
            if timeout is not None and now - started >= timeout:
                self.stop(Status.TIMEOUT)
                timeout = None
            ends = [due, next_look] if timeout is None else [due, next_look, started + timeout]
            if _await_exit(pid, min(max(min(ends) - now, 0), _LONGEST_WAIT)):
                return
            now = monotonic()
            if now < min(due, next_look):
                continue
            used = tree.usage()
            next_look = next_due(next_look, look, now)
            full = bool(memory) and used.rss > memory
            if (now >= due or full) and used.living:
                self._task.write_stat(time_ns(), metrics_of(used, before, now - before_at, memory))
                before, before_at = _later(used, before), now
            due = next_due(due, self._interval, now)
            if full:
                self.stop(Status.KILLED, f"the task held {used.rss} bytes of memory, of {memory} allowed")
                _await_exit(pid, None)
                return


def next_due(due: float, step: float, now: float) -> float:
    """The first time after now, in steps from the one that was due: what was missed is not made up for."""
    return due if now < due else due + step * (int((now - due) / step) + 1)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


def checked_interval(interval: float) -> float:
    """Seconds between two samples."""
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0.01 <= interval < float("inf"):
        raise CallstatsError(f"interval must be 0.01 seconds or more, got {interval!r}")
    return min(float(interval), threading.TIMEOUT_MAX)  # no wait can be longer


def metrics_of(used: Usage, before: Usage, seconds: float, memory: int) -> dict[str, int]:
    """A sample: what was used since the one before, so many seconds ago; `memory` is the limit (0: none)."""
    user, kernel = max(used.user - before.user, 0), max(used.kernel - before.kernel, 0)
    metrics = {"mem_usage": used.rss}
    if seconds > 0:
        metrics |= {
            "cpu_total": int(100 * (user + kernel) / seconds),
            "cpu_user": int(100 * user / seconds),
            "cpu_kernel": int(100 * kernel / seconds),
        }
    if memory:
        metrics["mem_limit"] = memory
    if used.disk_read is not None and used.disk_write is not None:
        metrics |= {
            "disk_read": max(used.disk_read, before.disk_read or 0),
            "disk_write": max(used.disk_write, before.disk_write or 0),
        }
    return metrics


def _later(used: Usage, before: Usage) -> Usage:
    """The usage to measure from next: what a process takes with it until somebody waits for it does not count as less."""
    return used._replace(
        user=max(used.user, before.user),
        kernel=max(used.kernel, before.kernel),
        disk_read=max(used.disk_read or 0, before.disk_read or 0),
        disk_write=max(used.disk_write or 0, before.disk_write or 0),
    )


def _await_exit(pid: int, seconds: float | None) -> bool:
    """Wait for a child's exit, and leave it to be reaped."""
    number = -1
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):  # an old kernel has none
            number = os.pidfd_open(pid)
    if number >= 0:
        try:
            ready = select.poll()
            ready.register(number, select.POLLIN)
            return bool(ready.poll(None if seconds is None else seconds * 1000))
        finally:
            os.close(number)
    import psutil

    deadline = None if seconds is None else monotonic() + seconds
    with suppress(psutil.NoSuchProcess):  # another part of this program has waited for it
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if deadline is not None and monotonic() >= deadline:
                return False
            sleep(0.005)
    return True


@contextmanager
def _terminal(task: ContainerTask, group: int) -> Iterator[None]:
    """While a command reads from the terminal that callstats has in hand, it is the command's."""
    try:
        number = -1 if task.stdin is None else task.stdin.fileno()
        mine = number >= 0 and os.isatty(number) and os.tcgetpgrp(number) == os.getpgrp()
    except (OSError, AttributeError, ValueError):
        mine = False
    if not mine:
        yield
        return
    _give_terminal(number, group)
    with suppress(OSError):
        os.killpg(group, signal.SIGCONT)  # it may have asked for input before it had the right to
    try:
        yield
    finally:
        _give_terminal(number, os.getpgrp())


def _give_terminal(number: int, group: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # of this thread: a background group that asks would be stopped
    with suppress(OSError):
        os.tcsetpgrp(number, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})


_running: weakref.WeakSet[ProcessRun] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Nothing outlives the interpreter."""
    for run in list(_running):
        run.end()
