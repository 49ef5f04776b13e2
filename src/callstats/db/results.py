"""The results of jobs, and the errors of databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from callstats.call import Call, Key
from callstats.errors import DatabaseError
from callstats.stats.calls import CallsGroup
from callstats.stats.compare import Difference

FIRST_REJECTS = 100
"""How many rejected rows a result lists; `on_reject` gets all of them."""


class TransientError(DatabaseError):
    """A retry of the batch may succeed: after a deadlock or a lock timeout."""


class TimedOutError(TransientError):
    """The server's time limit ended a statement: a smaller batch may succeed."""


class ConnectionLostError(TransientError):
    """The connection is gone. If it went during a commit, its outcome is unknown."""


class RolledBackError(DatabaseError):
    """A trigger rolled back the whole transaction instead of one row's change."""


class StoppedError(DatabaseError):
    """The job ends here, at the caller's wish."""


class PlannedEndError(StoppedError):
    """The job ends here as planned: at its limit of rows or of time."""


class _Reject(NamedTuple):
    key: Key | None
    """None stands for all rows whose key is NULL."""
    reason: str
    """Why, in one line."""


class Reject(_Reject):
    """A row that a job rejected and left unchanged."""

    digest: str | None = None
    """A hash of the text that was rejected, a blob or a time, if the row has a key."""
    known: bool = False
    """Whether the file `known` names it."""


class Change(NamedTuple):
    """How far a reduction moves a metric's peak or mean in one row."""

    key: Key
    """The row's key."""
    metric: str
    """The metric's name."""
    before: float
    """The peak or mean before the reduction."""
    after: float | None
    """None if the reduced row lacks the metric."""

    @property
    def share(self) -> float:
        """The change as a share of the value before."""
        if self.after is None:
            return 1.0
        return abs(self.after - self.before) / abs(self.before) if self.before else float(self.after != 0)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The fields that the results of all jobs have."""

    rows: int = 0
    """Rows that the job handled."""
    rejected: int = 0
    """Rows that the job rejected."""
    rejects: tuple[Reject, ...] = ()
    """The first 100 rejected rows."""
    seconds: float = 0.0
    """Time since the start of the job."""
    stopped: str | None = None
    """Why the job ended before the last row, else None. Everything counted here is committed."""


@dataclass(frozen=True, kw_only=True)
class ReduceResult(JobResult):
    """The result of `CallTable.reduce`, which also has the fields of `JobResult`."""

    skipped: int = 0
    """Rows that the database skipped unread: with a NULL blob, short enough for the rule, younger than every tier."""
    unchanged: int = 0
    """Rows that were read and left unchanged."""
    kept: int = 0
    """Rows left unchanged because the reduced text would be longer."""
    untimed: int = 0
    """With tiers, rows left unchanged because they have no time."""
    known: int = 0
    """Rows rejected again, with the same text as in the file `known`. They are not included in `rejected`."""
    changed: int = 0
    """Rows that were reduced and written; in a dry run, rows that would be."""
    more: str | None = None
    """Why the job ended as planned before the last row, so that more rows are left for another run."""
    locked: int = 0
    """Rows still locked by other transactions, left unchanged. They are not included in `rows`."""
    total: int | None = None
    """Rows in scope when the job began. Counted only if `progress` is given."""
    bytes_read: int = 0
    """Bytes of all blobs that were read."""
    bytes_before: int = 0
    """Bytes of the changed rows' blobs before the reduction."""
    bytes_after: int = 0
    """Bytes of the same blobs after it."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds that were spent to find rows, to read, reduce and write them, to commit, and to compare old and new rows; those of
    several workers add up."""
    backend: str = ""
    """The kernels that ran, ``"cython"`` or ``"python"``."""
    dry_run: bool = False
    """Whether the job wrote nothing on purpose."""
    as_of: str | None = None
    """The time that the ages of tiers are measured from; None without tiers."""
    kept_peaks: tuple[str, ...] = ()
    """In a dry run, the metrics of changed rows whose peaks the rule keeps; else empty, since only a dry run looks for them."""
    peaks_of_means: tuple[str, ...] = ()
    """Metrics of changed rows whose peaks are those of means, since a reduction before did not keep them. Nothing in the rows
    tells them from exact ones."""
    kept_peak_change: Change | None = None
    """In a dry run, the largest change of such a peak, as a share of the value before. It is lost where a row becomes empty."""
    peak_change: Change | None = None
    """In a dry run, the largest change of any other metric's peak."""
    mean_change: Change | None = None
    """In a dry run, the largest change of any metric's mean."""
    retries: int = 0
    """How often a batch was retried after a deadlock, a lock timeout or a lost connection."""
    has_histograms: bool = True
    """Whether any row in scope has samples. This is looked up only if no row was read."""
    unknown_metrics: tuple[str, ...] = ()
    """Metrics that the rule's `how` names and no blob had. Empty if no blob was read."""


@dataclass(frozen=True, kw_only=True)
class TableSummary(JobResult):
    """The result of `CallTable.summarize`, which also has the fields of `JobResult`."""

    is_file: bool = False
    """Whether the calls are of a file, not of a table."""
    by: str | None = None
    """The column that calls are grouped by; None if they aren't grouped."""
    groups: tuple[CallsGroup, ...] = ()
    """Sorted by their names as text, NULL last."""
    heaviest: tuple[Call, ...] = ()
    """The calls with the highest peak memory, the first of each group, then the second of each, and so on."""
    calls: int = 0
    """Calls in all groups."""
    untimed: int = 0
    """Rows left out because `since` needs their time and it can't be read."""
    unfinished: int = 0
    """Rows left out because their call is still running, or its recorder is gone."""
    lost: int = 0
    """Of these, rows whose recorder on this machine is gone, so that they will never end."""
    missing_columns: tuple[str, ...] = ()
    """Columns that the table or file lacks, among those of names, status and times. Empty for a file of histograms alone."""
    unknown_statuses: dict[str, int] = field(default_factory=dict)
    """Calls by their status where its meaning is not known, the most frequent first. They count as successes."""
    bytes_read: int = 0
    """Bytes of all blobs that were read."""
    backend: str = ""
    """The kernels that ran, ``"cython"`` or ``"python"``."""


@dataclass(frozen=True, kw_only=True)
class TableComparison(JobResult):
    """The result of `CallTable.compare`, which also has the fields of `JobResult`."""

    names: tuple[str, str] = ("", "")
    """The name or the tags of each group."""
    group_calls: tuple[int, int] = (0, 0)
    """The number of calls in each group."""
    page_cache: tuple[int, int] = (0, 0)
    """Of these, calls whose peak memory includes the page cache."""
    kernel_peaks: tuple[int, int] = (0, 0)
    """Calls whose peak memory the kernel measured. The others were sampled, which may miss a peak."""
    differences: tuple[Difference, ...] = ()
    """How they differ in duration, peak memory, CPU and failures."""
    in_both: int = 0
    """Rows left out because their calls have the tags of both groups."""
    untimed: int = 0
    """Rows left out because their time is needed and can't be read."""
    unfinished: int = 0
    """Rows left out because their calls are still running, or are lost."""
    lost: int = 0
    """Of these, rows whose recorder on this machine is gone, so that they will never end."""
    missing_columns: tuple[str, ...] = ()
    """Columns that the table lacks, among those of names, status and times."""
    unknown_statuses: dict[str, int] = field(default_factory=dict)
    """Calls by their status where its meaning is not known, the most frequent first. They count as successes."""
    bytes_read: int = 0
    """Bytes of all blobs that were read."""


@dataclass(frozen=True, kw_only=True)
class ExportResult(JobResult):
    """The result of `CallTable.export`, which also has the fields of `JobResult`. A stopped job leaves no file."""

    written: int = 0
    """Calls in the file."""
    bytes_read: int = 0
    """Bytes of all blobs that were read."""
    bytes_written: int = 0
    """Bytes of the file."""


@dataclass(frozen=True, kw_only=True)
class RestoreResult(JobResult):
    """The result of `CallTable.restore`, which also has the fields of `JobResult`."""

    restored: int = 0
    """Rows whose blob was put back."""
    unknown: int = 0
    """Saved rows whose key the table lacks."""
    unknown_keys: tuple[Key, ...] = ()
    """The first 100 of those keys."""
    stored: int = 0
    """Calls of a spool that were stored."""
    known: int = 0
    """Calls of a spool that the table had already."""
    torn: bool = False
    """Whether the file ends in half a line, as after a kill. The row of that line had not been changed."""
