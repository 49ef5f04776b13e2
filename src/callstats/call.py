"""Call: one stored or recorded call."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from callstats._timestamps import stored_time_ns
from callstats._types import I64_MAX
from callstats.errors import SeriesError
from callstats.series import StatSeries
from callstats.stats.call import CallUsage, usage_of

if TYPE_CHECKING:
    import pandas as pd

Key: TypeAlias = "int | str | float | bytes"
"""A key as the database stores it. Text that is not UTF-8 holds its bytes as surrogate escapes."""

Value: TypeAlias = "Key | datetime | None"
"""A value of another column, as the database's driver returns it."""

RUNNING, LOST = "running", "lost"
"""The status of a call that is being recorded, and of one whose recording process is gone."""

_CLOCK_STEP_NS = 60 * 10**9
"""Max change of the system's clock that `is_lost` allows for."""

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call: its histogram, and what its table stores about it.

    Examples
    --------
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(1, 61)})
    >>> Call(key="1", series=minute, name="resize").usage.peak_memory
    60
    """

    key: Key
    """The row's unique key."""
    series: StatSeries | None = None
    """None if the row's blob was rejected."""
    status: Value = None
    """How the call ended; like the following ones None if the table lacks the column or the row the value.

    A call that is being recorded is ``running``. It is ``lost`` if the process that recorded it on this machine is gone.
    """
    name: Value = None
    """The value of the column that calls are grouped by, such as a function's name."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Free-form labels."""
    created_at: Value = None
    """When the call came."""
    started_at: Value = None
    """When it began to run."""
    completed_at: Value = None
    """When it ended."""
    exit_code: int | None = None
    """The exit code of a command."""
    command: str | None = None
    """The command line of a recorded call, quoted as for a shell."""
    host: str | None = None
    """The name of the machine that recorded it."""
    pid: int | None = None
    """The number of the process that recorded it."""
    error: str | None = None
    """The message of a call that failed."""
    rejected: str | None = None
    """Why the row's blob was rejected."""

    @cached_property
    def usage(self) -> CallUsage:
        """Memory, CPU and time of the call, and which of them are exact."""
        return usage_of(self.series, duration_of(self.started_at, self.completed_at))

    @property
    def span(self) -> tuple[int, int] | None:
        """`started_at` and `completed_at` in nanoseconds since the epoch; None if one is unknown or they are out of order."""
        return span_of(self.started_at, self.completed_at)

    def to_pandas(self) -> pd.DataFrame:
        """Return the histogram as `StatSeries.to_pandas` does. Raise a SeriesError if the row's blob was rejected."""
        if self.series is None:
            raise SeriesError(f"call {self.key!r} has no series: {self.rejected or 'none was given'}")
        return self.series.to_pandas()


def new_call_id(created_ms: int, low: int | None = None) -> str:
    """Return a key of 26 characters like Fn's, which sorts by time: 48 bits of time, then 80 others, by default random."""
    value = created_ms << 80 | (secrets.randbits(80) if low is None else low)
    return "".join(_BASE32[value >> shift & 31] for shift in range(125, -1, -5))


def duration_of(started_at: object, completed_at: object) -> int | None:
    """Return the nanoseconds between two stored times; None if one is unknown or they are out of order."""
    span = span_of(started_at, completed_at)
    return None if span is None else min(span[1] - span[0], I64_MAX)


def span_of(started_at: object, completed_at: object) -> tuple[int, int] | None:
    """Return two stored times in nanoseconds since the epoch; None if one is unknown or they are out of order."""
    start, end = stored_time_ns(started_at), stored_time_ns(completed_at)
    return None if start is None or end is None or end < start else (start, end)


def is_lost(host: object, pid: object, created_at: object) -> bool:
    """Return whether the process that records a call on this machine is gone: no process has its number, or a later one.

    So is one that has ended, and that its parent has not waited for.
    """
    if os.name != "posix" or host != socket.gethostname() or not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    created, process = stored_time_ns(created_at), _look_up(pid)
    if created is None or process is None:
        return False
    has_ended, began = process
    return has_ended or began > created + _CLOCK_STEP_NS


def _look_up(pid: int) -> tuple[bool, int] | None:
    """Return whether a process has ended, and when it began, in nanoseconds since the epoch; None where nobody tells."""
    with suppress(OSError, StopIteration):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_bytes().splitlines() if line.startswith(b"btime "))
        return fields[0] in b"ZX", int(boot.split()[1]) * 10**9 + int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
    return None
