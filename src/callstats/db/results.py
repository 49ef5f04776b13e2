"""The results of jobs, the errors of databases, and the list of rejected rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from callstats._types import AnyArray
from callstats.call import Call, Key, Value
from callstats.errors import DatabaseError
from callstats.stats.calls import CallsSummary

Progress: TypeAlias = "Callable[[ReduceResult], object] | None"
Stop: TypeAlias = "Callable[[], bool] | None"

FIRST_REJECTS = 100
"""How many rejected rows a result lists; `on_reject` gets all of them."""

ASKED_TO_STOP = "asked to stop"


class TransientError(DatabaseError):
    """A retry of the batch may succeed: after a deadlock or a lock timeout."""


class ConnectionLostError(TransientError):
    """The connection is gone. If it went during a commit, its outcome is unknown."""


class RolledBackError(DatabaseError):
    """A trigger rolled back the whole transaction instead of one row's change."""


class StoppedError(DatabaseError):
    """The job ends here, at the caller's wish."""


class Reject(NamedTuple):
    """A row that a job rejected and left unchanged.

    Attributes
    ----------
    key : int, str, float, bytes or None
        None stands for all rows whose key is NULL.
    reason : str
    """

    key: Key | None
    reason: str


class Change(NamedTuple):
    """How far a reduction moves a metric's peak or mean in one row.

    Attributes
    ----------
    key : int, str, float or bytes
    metric : str
    before : float
    after : float or None
        None if the reduced row lacks the metric.
    """

    key: Key
    metric: str
    before: float
    after: float | None

    @property
    def share(self) -> float:
        """The change as a share of the value before."""
        if self.after is None:
            return 1.0
        return abs(self.after - self.before) / abs(self.before) if self.before else float(self.after != 0)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The fields that the results of all jobs have.

    Attributes
    ----------
    rows : int
        Rows that the job handled.
    rejected : int
        Rows that the job rejected.
    rejects : tuple of Reject
        The first 100 rejected rows.
    seconds : float
        Time since the start of the job.
    stopped : str or None
        Why the job ended before the last row, else None. Everything counted here is committed.
    """

    rows: int = 0
    rejected: int = 0
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0
    stopped: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReduceResult(JobResult):
    """The result of `CallTable.reduce`, which also has the fields of `JobResult`.

    Attributes
    ----------
    skipped : int
        Rows that the database skipped unread: their blob is NULL or too short for the rule, or they are younger than every tier.
    unchanged : int
        Rows that were read and left unchanged.
    changed : int
        Rows that were reduced and written; in a dry run, rows that would be.
    locked : int
        Rows still locked by other transactions, left unchanged. They are not included in `rows`.
    total : int or None
        Rows in scope when the job began. Counted only if `progress` is given.
    bytes_read : int
        Bytes of all blobs that were read.
    bytes_before : int
        Bytes of the changed rows' blobs before the reduction.
    bytes_after : int
        Bytes of the same blobs after it.
    backend : str
        The kernels that ran: ``"cython"`` or ``"python"``.
    dry_run : bool
    as_of : str or None
        The time that the ages of tiers are measured from; None without tiers.
    peak_change : Change or None
        In a dry run, the largest change of any metric's peak, as a share of the value before.
    mean_change : Change or None
        In a dry run, the largest change of any metric's mean.
    retries : int
        How often a batch was retried after a deadlock, a lock timeout or a lost connection.
    unknown_metrics : tuple of str
        Metrics that the rule's `how` names and no blob had. Empty if no blob was read.
    """

    skipped: int = 0
    unchanged: int = 0
    changed: int = 0
    locked: int = 0
    total: int | None = None
    bytes_read: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    backend: str = ""
    dry_run: bool = False
    as_of: str | None = None
    peak_change: Change | None = None
    mean_change: Change | None = None
    retries: int = 0
    unknown_metrics: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """The calls of one group.

    Attributes
    ----------
    name : int, str, float, bytes, datetime or None
        The value of the column that calls are grouped by.
    summary : CallsSummary
    peaks : (n,) uint64
        The peak memory in bytes of each call that has one.
    durations : (m,) int64
        The nanoseconds of each call that has a duration.
    """

    name: Value
    summary: CallsSummary
    peaks: AnyArray = field(repr=False, compare=False)
    durations: AnyArray = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class TableSummary(JobResult):
    """The result of `CallTable.summarize`, which also has the fields of `JobResult`.

    Attributes
    ----------
    by : str or None
        The column that calls are grouped by; None if they aren't grouped.
    groups : tuple of Group
        Sorted by their names as text, NULL last.
    heaviest : tuple of Call
        The calls with the highest peak memory: the first of each group, then the second of each, and so on.
    calls : int
        Calls in all groups.
    untimed : int
        Rows left out because `since` needs their time and it can't be read.
    bytes_read : int
        Bytes of all blobs that were read.
    backend : str
        The kernels that ran: ``"cython"`` or ``"python"``.
    """

    by: str | None = None
    groups: tuple[Group, ...] = ()
    heaviest: tuple[Call, ...] = ()
    calls: int = 0
    untimed: int = 0
    bytes_read: int = 0
    backend: str = ""


@dataclass(frozen=True, kw_only=True)
class ExportResult(JobResult):
    """The result of `CallTable.export`, which also has the fields of `JobResult`. A stopped job leaves no file.

    Attributes
    ----------
    written : int
        Calls in the file.
    bytes_read : int
        Bytes of all blobs that were read.
    bytes_written : int
        Bytes of the file.
    """

    written: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass(frozen=True, kw_only=True)
class RestoreResult(JobResult):
    """The result of `CallTable.restore`, which also has the fields of `JobResult`.

    Attributes
    ----------
    restored : int
        Rows whose blob was put back.
    unknown : int
        Saved rows whose key the table lacks.
    unknown_keys : tuple
        The first 100 of those keys.
    torn : bool
        Whether the file ends in half a line, as after a kill. The row of that line had not been changed.
    """

    restored: int = 0
    unknown: int = 0
    unknown_keys: tuple[Key, ...] = ()
    torn: bool = False


class Rejects:
    """The rejected rows of a running job, and its clock."""

    def __init__(self, on_reject: Callable[[Reject], object] | None) -> None:
        self.count = 0
        self._first: list[Reject] = []
        self._on_reject = on_reject
        self._began = time.perf_counter()

    def add(self, key: Key | None, reason: str, rows: int = 1) -> None:
        """Count a rejected row and report it; `rows` of them if they have no key."""
        reject = Reject(key, reason)
        self.count += rows
        if len(self._first) < FIRST_REJECTS:
            self._first.append(reject)
        if self._on_reject is not None:
            self._on_reject(reject)

    @property
    def seconds(self) -> float:
        """Time since the start of the job."""
        return time.perf_counter() - self._began

    def fields(self) -> dict[str, Any]:
        """Return the fields of `JobResult` that are known here."""
        return {"rejected": self.count, "rejects": tuple(self._first), "seconds": self.seconds}
