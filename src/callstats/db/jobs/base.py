"""The verbs of CallTable that go through a whole table, and the base of the jobs that they run."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from threading import RLock
from types import EllipsisType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

from callstats.call import Key, Value
from callstats.db.results import (
    FIRST_REJECTS,
    ExportResult,
    ReduceResult,
    Reject,
    RestoreResult,
    StoppedError,
    TableComparison,
    TableSummary,
)
from callstats.errors import suggest_keywords
from callstats.rule import KEEP_PEAKS, How, Missing, Rule, make_rule
from callstats.stats.rightsize import MIB

if TYPE_CHECKING:
    from callstats.db.engine import Database
    from callstats.db.jobs.files import CallFile, FileSession
    from callstats.db.query import Names, TableSession

    Calls: TypeAlias = Database | CallFile
    Session: TypeAlias = TableSession | FileSession

_POLL_SECONDS = 0.1
"""How often a pause checks whether to stop."""


class Job:
    """A running job: the arguments of its verb, its rejected rows, and its clock."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments: Any = SimpleNamespace(**arguments)
        self.counts: Counter[str] = Counter()
        """Further fields of the result."""
        self.lock = RLock()
        """To be held by what counts, if several threads do."""
        self.rejected = self.known = self.retries = 0
        self.known_texts: frozenset[tuple[Key, str]] = frozenset()
        """Keys and digests of texts whose rejection is no news."""
        self._first_rejects: list[Reject] = []
        self._began = time.perf_counter()

    def check_stop(self) -> None:
        """Raise if the caller wants no further batch or page."""
        if self.arguments.stop is not None and self.arguments.stop():
            raise StoppedError("asked to stop")

    def pause(self, seconds: float) -> None:
        """Wait, unless there is a reason to stop."""
        end = time.monotonic() + seconds
        self.check_stop()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            self.check_stop()

    def count_retry(self) -> None:
        """Count a batch that is tried again."""
        with self.lock:
            self.retries += 1

    def reject(self, key: Key | None, reason: str, rows: int = 1, *, text: bytes | None = None) -> None:
        """Count a rejected row and report it, with a hash of the text at fault; `rows` of them if they have no key."""
        reject = Reject(key, reason)
        if key is not None and text is not None:
            reject.digest = sha256(text).hexdigest()
            reject.known = (key, reject.digest) in self.known_texts
        if reject.known:
            self.known += rows
        else:
            self.rejected += rows
            if len(self._first_rejects) < FIRST_REJECTS:
                self._first_rejects.append(reject)
        if self.arguments.on_reject is not None:
            self.arguments.on_reject(reject)

    def reject_nulls(self, rows: int) -> None:
        """Reject so many rows without a key."""
        if rows:
            self.reject(None, f"rows whose key is NULL, after which no page can start: {rows}", rows)

    @property
    def seconds(self) -> float:
        """Time since the start of the job."""
        return time.perf_counter() - self._began

    def fields(self) -> dict[str, Any]:
        """Return the fields of the result that are known here."""
        return {**self.counts, "rejected": self.rejected, "rejects": tuple(self._first_rejects), "seconds": self.seconds}


class CallJobs:
    """Calls in a table or a file, and the jobs over them that change nothing."""

    def __init__(self, database: Calls, names: Names) -> None:
        self._database = database
        self._names = names

    @suggest_keywords
    def summarize(
        self,
        *,
        by: str | EllipsisType | None = ...,
        name: str | None = None,
        where: str | None = None,
        since: int | None = None,
        tags: Mapping[str, str] | None = None,
        risk: float | None = None,
        step: int = 64 * MIB,
        top: int = 0,
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> TableSummary:
        """Return a `TableSummary` of the calls of each group, from one pass that changes nothing.

        Parameters
        ----------
        by : str or None
            The column to group by; None for one group of all calls. By default the table's `group_column`.
        name : str, optional
            Leave out calls of other names, compared as text, as the database does it.
        since : int, optional
            Leave out calls created before this time, in nanoseconds since the epoch.
        tags : mapping of str to str, optional
            Leave out calls without all of these tags.
        risk, step
            As for `callstats.stats.summarize_calls`.
        top : int
            How many of the heaviest calls to return: the first of each group, then the second of each, and so on.
        where, on_reject, stop
            As for `reduce`. A page of rows is a batch.

        Notes
        -----
        Each page of rows is one transaction. In memory stay 8 bytes for each call and number that percentiles need.

        Examples
        --------
        >>> from callstats import StatSeries, connect
        >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create(), calls.add([{"id": "1", "fn_id": "resize", "stats": minute}])
        ...     summary = calls.summarize(top=1)
        >>> [(group.name, group.summary.calls, group.summary.memory.max) for group in summary.groups]
        [('resize', 1, 59)]
        >>> summary.heaviest[0].key
        '1'
        """
        from callstats.db.jobs.summarize import SummarizeJob

        by = self._names.group_column if by is ... else by
        return SummarizeJob(locals()).run(self._database, self._names)

    @suggest_keywords
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        long: bool = False,
        openmetrics: bool = False,
        where: str | None = None,
        others: Sequence[str] = (),
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> ExportResult:
        """Write the histograms to a new file of JSON lines, Parquet or OpenMetrics, and return an `ExportResult`.

        Parameters
        ----------
        path : str or path
            The file: JSON lines if it ends in ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst`` or is ``-``, the standard output;
            Parquet, which needs pyarrow, if it ends in ``.parquet`` or ``.pq``. It appears once it is complete. An existing
            file is not replaced.
        long : bool
            Write a row for each value, as `callstats.adapters.arrow.write_long` does, and reject malformed histograms. By default
            each call is a row with its stored text as it is.
        openmetrics : bool
            Write OpenMetrics text with timestamps, for ``promtool tsdb create-blocks-from openmetrics``, and reject malformed
            histograms. Each call is a series for each metric, with the labels ``call`` and ``name``.
        others : sequence of str
            Further columns of the table to write, as text: times in ISO 8601, bytes in hex.
        where, on_reject, stop
            As for `reduce`. A page of rows is a batch.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from callstats import connect
        >>> with connect("sqlite://") as calls, TemporaryDirectory() as folder:
        ...     _ = calls.create(), calls.add([{"id": "1", "stats": ""}])
        ...     calls.export(Path(folder, "calls.parquet")).written
        1
        """
        from callstats.db.jobs.export import ExportJob

        return ExportJob(locals()).run(self._database, self._names)


class TableJobs(CallJobs):
    """A table, and the jobs over it."""

    _database: Database

    @suggest_keywords
    def reduce(
        self,
        rule: Rule | int | None = 240,
        *,
        how: How | Mapping[str, How] | None = None,
        missing: Missing | None = None,
        max_bytes: int | None = None,
        where: str | None = None,
        counts: bool = True,
        verify: bool = False,
        tiers: Iterable[tuple[timedelta, int]] | None = None,
        as_of: str | int | datetime | None = None,
        batch_size: int = 1000,
        batch_bytes: int = 32 * 2**20,
        threads: int = 1,
        jobs: int = 1,
        dry_run: bool = False,
        save: str | os.PathLike[str] | None = None,
        known: str | os.PathLike[str] | None = None,
        progress: Callable[[ReduceResult], object] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
        sleep: float = 0.0,
        run_time: timedelta | None = None,
        limit: int | None = None,
        retries: int = 10,
        secure_delete: bool | None = None,
    ) -> ReduceResult:
        """Reduce the stored histograms in place, and return a `ReduceResult`.

        Parameters
        ----------
        rule : Rule, int or None
            How to reduce; a number is the rule's `max_samples`. Beside `tiers` it is None, or a Rule with ``max_samples=None``.
        how, missing, max_bytes
            Fields of the Rule, instead of one. The default of `how` is `KEEP_PEAKS`.
        where : str, optional
            A condition that rows must meet, in the database's SQL.
        counts : bool
            Whether reduced rows store how many samples they stand for.
        verify : bool
            Read and check every row, not only those long enough for the rule to change.
        tiers : iterable of (timedelta, int), optional
            Ages, and the maximum number of rows for calls of that age or older. The oldest tier that fits counts. Calls younger
            than every tier, or without a time, are skipped.
        as_of : str, int or datetime, optional
            The time that ages are measured from: RFC 3339 text, nanoseconds since the epoch, or a datetime with a time zone. By
            default the start of the run.
        batch_size, batch_bytes : int
            The size of a batch, which is one transaction: rows of the table, or bytes of histograms, whichever is reached first.
        threads : int
            The number of threads that reduce, for each worker.
        jobs : int
            The number of workers, each with its own connection to the server and its own ranges of keys. With a `limit` one
            works.
        dry_run : bool
            Report what would change, and write nothing.
        save : str or path, optional
            A new file for the old histograms of changed rows. `restore` puts them back.
        known : str or path, optional
            A file of rejected rows, as ``callstats reduce --rejects`` writes it. A row in it is counted apart, and not as
            rejected, while the text at fault is the same.
        progress : callable, optional
            Called with the result so far after each batch; with several workers in their threads, one call at a time.
        on_reject : callable, optional
            Called with the `Reject` of each rejected row once its batch is committed. A `Reject` of a row with a key also has
            `digest`, a hash of the text at fault, and `known`, whether the file `known` names it.
        stop : callable, optional
            Asked before each batch. True ends the job there; finished batches stay committed.
        sleep : float
            Seconds to wait between batches.
        run_time : timedelta, optional
            Stop starting batches after this long. This is a planned end: `more` is set. Run again to continue.
        limit : int, optional
            The maximum number of rows to change. This is a planned end too.
        retries : int
            How many times in a row a batch is retried after a deadlock, a lock timeout or a lost connection, with growing pauses;
            and how many times rows locked by others are retried at the end. After a server's time limit it has half as many rows.
        secure_delete : bool, optional
            SQLite only: whether it overwrites old histograms with zeros. By default as SQLite was built: on in Debian. Off is
            faster, but old histograms stay readable in free pages of the file until these are used again, or until ``VACUUM``.

        Returns
        -------
        ReduceResult
            Also if the job had to stop early: `stopped` says why.

        Notes
        -----
        No write of another program is overwritten, and no lock outlives its batch. After a kill at any moment each row is either
        old or new. A second run finds nothing to change.

        If the column has a maximum size (65,535 bytes for MySQL's TEXT), it is the rule's `max_bytes`, unless that is smaller.

        Examples
        --------
        >>> from callstats import StatSeries, connect
        >>> hour = StatSeries(range(0, 3600 * 10**9, 10**9), {"mem_usage": range(3600)})
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create(), calls.add([{"id": "1", "stats": hour}])
        ...     result = calls.reduce(60)
        >>> result.changed, result.bytes_before, result.bytes_after
        (1, 250892, 6086)
        """
        from callstats.db.jobs.reduce import ReduceJob

        rule = make_rule(None if tiers is not None and rule == 240 else rule, how, missing, max_bytes).with_default(KEEP_PEAKS)
        return ReduceJob(locals()).run(self._database, self._names)

    @suggest_keywords
    def compare(
        self,
        a: Value | Mapping[str, str],
        b: Value | Mapping[str, str] = None,
        *,
        at: int | None = None,
        where: str | None = None,
        since: int | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> TableComparison:
        """Tell by `callstats.stats.compare_calls` how two groups of calls differ, and return a `TableComparison`.

        Parameters
        ----------
        a, b : str, or mapping of str to str
            Two names of calls, or two sets of tags. Calls of both are counted by `in_both` alone. `group_calls` can be 0.
        at : int, optional
            Compare calls of the name or the tags `a` from before this time with those since then, in place of `b`. It is in
            nanoseconds since the epoch.
        where, since, on_reject, stop
            As for `summarize`.

        Examples
        --------
        >>> from callstats import StatSeries, connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create()
        ...     for name, peak in (("old", 100), ("new", 200)):
        ...         rows = ({"fn_id": name, "stats": StatSeries([0], {"mem_usage": [peak + 7 * i % 5]})} for i in range(20))
        ...         _ = calls.add({**row, "id": f"{name}{i}"} for i, row in enumerate(rows))
        ...     found = calls.compare("old", "new")
        >>> found.group_calls, [one.name for one in found.differences if one.differs]
        ((20, 20), ['memory'])
        """
        from callstats.db.jobs.compare import CompareJob

        return CompareJob(locals()).run(self._database, self._names)

    @suggest_keywords
    def restore(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[RestoreResult], object] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> RestoreResult:
        """Put the histograms that `reduce` saved back into their rows, byte for byte, and return a `RestoreResult`.

        The histogram that a row has by now is replaced; of a key that was saved twice the later line counts. The file may also be
        a spool: calls that ``callstats record`` could not store. They are stored as `CallTable.finish` does.

        Parameters
        ----------
        path : str or path
            A file that `reduce` saved, which is checked as a whole before anything is written, or a spool.
        progress, on_reject, stop
            As for `reduce`.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from callstats import StatSeries, connect
        >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
        >>> with connect("sqlite://") as calls, TemporaryDirectory() as folder:
        ...     _ = calls.create(), calls.add([{"id": "1", "stats": minute}])
        ...     file = Path(folder, "old.jsonl")
        ...     calls.reduce(10, save=file).changed, calls.restore(file).restored
        (1, 1)
        """
        from callstats.db.jobs.restore import RestoreJob
        from callstats.db.spool import ImportJob, is_spool

        return (ImportJob if is_spool(path) else RestoreJob)(locals()).run(self._database, self._names)
