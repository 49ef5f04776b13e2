"""When a run pauses, tries again, and ends early."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from callstats.db.jobs.tally import Tally
from callstats.errors import CallstatsError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_GLANCE = 0.1
"""How often a pause looks whether to stop, in seconds."""


@dataclass(frozen=True)
class Pace:
    """What the operator asked for."""

    sleep: float = 0.0
    run_time: timedelta | None = None
    limit: int | None = None
    retries: int = 10
    stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if not self.sleep >= 0:
            raise CallstatsError(f"sleep must be 0 or more seconds, got {self.sleep}")
        if self.run_time is not None and self.run_time < timedelta(0):
            raise CallstatsError(f"run_time must not be negative, got {self.run_time}")
        if self.limit is not None and self.limit < 1:
            raise CallstatsError(f"limit must be 1 or more, or None, got {self.limit}")
        if self.retries < 0:
            raise CallstatsError(f"retries must be 0 or more, got {self.retries}")

    def left(self, tally: Tally) -> int | None:
        """How many more rows may change."""
        return None if self.limit is None else self.limit - tally.changed

    def why_stop(self, tally: Tally) -> str | None:
        """Why no further batch may begin; None when one may."""
        if self.stop is not None and self.stop():
            return "asked to stop"
        if self.run_time is not None and tally.seconds >= self.run_time.total_seconds():
            return f"the run time of {self.run_time} is over"
        if self.limit is not None and tally.changed >= self.limit:
            return f"the limit of {self.limit} changed rows is reached"
        return None

    def pause(self, seconds: float, tally: Tally) -> str | None:
        """Wait, and tell why not to go on; None when there is no reason."""
        end = time.monotonic() + seconds
        while (why := self.why_stop(tally)) is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _GLANCE))
        return why

    @staticmethod
    def backoff(turn: int) -> float:
        """How long to wait before another try: longer each time."""
        return float(min(_FIRST_PAUSE * 2**turn, _LONGEST_PAUSE))
