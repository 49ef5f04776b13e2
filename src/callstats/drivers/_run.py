"""The part of a run that all drivers share: its one end, waited for with a timeout and a cancel, and its threads."""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, Self

from callstats.drivers.base import (
    ContainerTask,
    Cookie,
    RunResult,
    Status,
    TaskError,
    WaitResult,
    validate_task,
    validate_timeout,
)
from callstats.errors import ArgumentError, DriverError

CANNOT_RUN, NOT_FOUND = 126, 127
"""A shell's exit codes for a command that it can't run, and for a missing one."""

_CANCEL_SECONDS = 0.02
"""How often a wait looks whether it was cancelled."""

_REASONS = {
    Status.TIMEOUT: "the task ran out of time",
    Status.CANCELLED: "the task was cancelled",
    Status.KILLED: "the task was killed",
}


def validate_interval(interval: float) -> float:
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0.01 <= interval < math.inf:
        raise ArgumentError("interval", "0.01 seconds or more", interval)
    return min(float(interval), threading.TIMEOUT_MAX)  # no wait can be longer


def next_due(due: float, interval: float, now: float) -> float:
    """Return the first due time after now. Missed ones are skipped."""
    return due if now < due else due + interval * (int((now - due) / interval) + 1)


def cpu_metrics(total: float, user: float, kernel: float, seconds: float) -> dict[str, int]:
    """Return percentages of one core from seconds of use, no more than all cores allow.

    What children used is known late, once they were waited for, and may exceed the time since the last sample.
    """
    if seconds <= 0:
        return {}
    share = 100 / max(seconds, max(total, user + kernel) / (os.cpu_count() or 1))
    return {"cpu_total": int(share * total), "cpu_user": int(share * user), "cpu_kernel": int(share * kernel)}


def is_too_short(last: float, before: float) -> bool:
    """Return whether the time from the last sample to the end is less than half of the interval before.

    Any command uses all of a core for the moment in which it ends, and in a mean that would count as a sample.
    """
    return last < before / 2


def stop_program() -> None:
    """Stop this program, as Ctrl-Z does, until it is continued."""
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)


class Exit(NamedTuple):
    code: int
    reason: str = ""
    killed: bool = False
    dropped: int = 0
    out_of_memory: bool = False
    left_running: int = 0


class TaskRun(Cookie, WaitResult):
    """One task from `prepare` to its end: a cookie, and the result of its own `run`.

    A driver's subclass implements what raises a NotImplementedError here, and `release` where there is more to remove.
    """

    def __init__(self, task: ContainerTask) -> None:
        validate_task(task)
        self.task = task
        self.began_at: int | None = None
        self.ended_at: int | None = None
        """When the command itself began and ended, in nanoseconds since the epoch; None if it did not."""
        self._on_stat = getattr(task, "on_stat", None)
        self._on_stat_failed = False
        self._lock = threading.Lock()
        self._started = self._closed = self._forked = False
        self._done = threading.Event()
        self._stopped: Status | None = None
        self._stop_reason = ""
        self._result: RunResult | None = None
        self._fault: BaseException | None = None
        self._watcher: threading.Thread | None = None
        _open.add(self)

    def run(self) -> Self:
        if self._started or self._closed:
            raise DriverError("the cookie was run or closed before: prepare the task again")
        self._started = True
        self.start()
        return self

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        validate_timeout(timeout)
        if self._forked:
            raise DriverError("wait() must be called in the process that ran the cookie, got a fork of it")
        if not self._started:
            raise DriverError("the cookie was not run: call run() first")
        deadline = math.inf if timeout is None else monotonic() + timeout
        pause = threading.TIMEOUT_MAX if cancel is None else _CANCEL_SECONDS
        while not self._done.wait(min(max(deadline - monotonic(), 0), pause)):
            if cancel is not None and cancel.is_set():
                self.stop(Status.CANCELLED)
            elif monotonic() >= deadline:
                self.stop(Status.TIMEOUT)
            else:
                continue
            deadline = math.inf
        self._join()
        if self._fault is not None:
            raise self._fault
        assert self._result is not None  # noqa: S101 - set before _done
        return self._result

    def close(self) -> None:
        if self._forked:
            return
        if not self._closed:
            if self._started:
                self.stop(Status.CANCELLED)
                self._join()
            self.release()
            self._closed = True
            _open.discard(self)
        self.task.close()

    def stop(self, status: Status, reason: str = "") -> None:
        """End the task with this status, unless it has ended or was stopped before."""
        with self._lock:
            if self._done.is_set() or self._stopped is not None:
                return
            self._stopped = status
            self._stop_reason = reason
        self.kill()

    def start(self) -> None:
        """Start the command, then call `watch`; call `finish` instead for a command that can't be started."""
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def send_signal(self, number: int) -> None:
        """Hand a signal to the command."""
        raise NotImplementedError

    def suspend(self) -> None:
        """Stop the command and this program until it is continued, in the main thread."""
        raise NotImplementedError

    def follow_stop(self) -> None:
        """If the command has stopped for the terminal's sake, stop this program too, in the main thread."""

    def await_exit(self) -> None:
        raise NotImplementedError

    def clean_up(self) -> Exit:
        """End whatever the command left behind."""
        raise NotImplementedError

    def release(self) -> None:
        """Release what outlasts the command."""

    def disown(self) -> None:
        """Let go of the task in a fork of the process that runs it. It continues there."""
        self._forked = True

    def write_stat(self, timestamp: int, metrics: dict[str, int]) -> None:
        """Pass a sample on to the task, and to whoever watches it."""
        self.task.write_stat(timestamp, metrics)
        if self._on_stat is not None:
            try:
                self._on_stat(timestamp, dict(metrics))
            except BaseException:  # noqa: BLE001 - the recording continues, whatever a foreign function raises
                if not self._on_stat_failed:  # one report is enough
                    _log.warning("on_stat failed, and the recording continues", exc_info=True)
                self._on_stat_failed = True

    def watch(self, name: str) -> None:
        """Wait in a thread for the end, and stop the task at its timeout."""
        watcher = threading.Thread(target=self._watch, name=name, daemon=True)
        watcher.start()
        self._watcher = watcher

    def start_thread(self, name: str, work: Callable[..., None], *args: Any) -> threading.Thread:
        """Start a thread. An error in it ends the task, and comes out of `wait`."""
        thread = threading.Thread(target=self._guard, args=(work, *args), name=name, daemon=True)
        thread.start()
        return thread

    def finish(self, end: Exit) -> None:
        """Set the result. The status that the task was stopped with takes precedence over the exit code."""
        with self._lock:
            status = self._stopped
            if status is not None:
                reason = self._stop_reason or _REASONS[status]
            else:
                status = Status.KILLED if end.killed else Status.ERROR if end.code else Status.SUCCESS
                reason = end.reason or f"the task ended with exit code {end.code}"
            error = None if status is Status.SUCCESS else TaskError(reason, end.code)
            self._result = RunResult(status, error, end.dropped, end.out_of_memory, end.left_running)
            self._done.set()

    def _watch(self) -> None:
        try:
            timer = threading.Timer(min(self.task.timeout or math.inf, threading.TIMEOUT_MAX), self.stop, (Status.TIMEOUT,))
            if self.task.timeout:
                self._guard(timer.start)
            self._guard(self.await_exit)
            timer.cancel()
            if timer.is_alive():
                timer.join()
            self.finish(self.clean_up())
        except BaseException as fault:  # noqa: BLE001 - wait() raises it
            with self._lock:
                self._fault = self._fault or fault
                self._done.set()

    def _guard(self, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except BaseException as fault:  # noqa: BLE001 - a task's own writer may raise anything; wait() raises it again
            with self._lock:
                if self._done.is_set():
                    return
                self._fault = self._fault or fault
            with suppress(Exception):  # the engine may be gone
                self.kill()

    def _join(self) -> None:
        if self._watcher is not None:
            self._watcher.join()


_log = logging.getLogger(__name__)
_open: weakref.WeakSet[TaskRun] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Let nothing outlive the interpreter."""
    for run in list(_open):
        with suppress(DriverError):
            run.close()


def _disown_all() -> None:
    """Leave the tasks to the parent: a fork that exits must not end them."""
    for run in list(_open):
        run.disown()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
