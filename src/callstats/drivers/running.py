"""What runs of all drivers have in common: one end, waited for with a timeout and a cancel."""

from __future__ import annotations

import threading
from time import monotonic

from callstats.drivers.base import RunResult, Status, TaskError

_CANCEL_SECONDS = 0.02
"""How often a wait looks whether it was cancelled."""

_WORDS = {
    Status.TIMEOUT: "the task ran out of time",
    Status.CANCELLED: "the task was cancelled",
    Status.KILLED: "the task was killed",
}


class Running:
    """A task from its start to its end. A driver's own class says how to kill it, and calls `finish` or `fail` at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._why: Status | None = None
        self._reason = ""
        self._result: RunResult | None = None
        self._fault: BaseException | None = None

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        """Wait for the end; it comes at the latest with the timeout or the cancel."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._done.is_set():
            if cancel is not None and cancel.is_set():
                self.stop(Status.CANCELLED)
                self._done.wait()
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                self.stop(Status.TIMEOUT)
                self._done.wait()
            pause = _CANCEL_SECONDS if cancel is not None else threading.TIMEOUT_MAX
            self._done.wait(pause if left is None else min(left, pause))
        if self._fault is not None:
            raise self._fault
        assert self._result is not None  # noqa: S101 - finish() set it before it said done
        return self._result

    def stop(self, why: Status, reason: str = "") -> None:
        """End the task, unless it has ended or somebody else ends it."""
        with self._lock:
            if self._done.is_set() or self._why is not None:
                return
            self._why = why
            self._reason = reason
        self.kill()

    def kill(self) -> None:
        """Kill all that runs; the driver's thread sees it end."""
        raise NotImplementedError

    def finish(self, exit_code: int, *, killed: bool = False, dropped: int = 0, reason: str = "") -> None:
        """Tell the end; why it was stopped, if it was, goes before the exit code."""
        with self._lock:
            why = self._why
            if why is None:
                why = Status.KILLED if killed else Status.ERROR if exit_code else Status.SUCCESS
            ended = reason or f"the task ended with exit code {exit_code}"
            text = ended if self._why is None else self._reason or _WORDS[why]
            self._result = RunResult(why, None if why is Status.SUCCESS else TaskError(text, exit_code), dropped)
            self._done.set()

    def watch(self) -> None:
        """The work of the thread that watches over the task: whatever goes wrong in it, there is an end to be waited for."""
        try:
            self.watch_to_end()
        except BaseException as fault:  # noqa: BLE001 - it comes out of wait()
            self.fail(fault)

    def watch_to_end(self) -> None:
        """Watch the task, and tell its end."""
        raise NotImplementedError

    def fail(self, fault: BaseException) -> None:
        """Tell a fault of the driver's own."""
        with self._lock:
            self._fault = fault
            self._done.set()
