"""The batch job: read, reduce, lock, look again, write, commit; batch after batch in the order of the keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from callstats._types import I64_MAX
from callstats.db.jobs.pace import Pace
from callstats.db.jobs.restore import SavedCell, Saver
from callstats.db.jobs.rows import Batch, Row, Stretch
from callstats.db.jobs.tally import Tally, Verdict
from callstats.db.jobs.tiers import checked_tiers, within
from callstats.db.moments import nanoseconds, utc_text
from callstats.db.plain import same_value
from callstats.db.results import Key, LostError, PassingError, ReduceReport, Reject, RolledBackError
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError, DatabaseError
from callstats.reduce import reduce_json
from callstats.rule import Rule

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from callstats.db.jobs.plan import Plan
    from callstats.db.query import CallTable

T = TypeVar("T")

MOST_LOCKED = 1_000_000
"""How many rows that others have locked a run keeps in mind."""

KEPT = "the database keeps the old text: something, such as a trigger or a rule, undoes the change"

LOCKED_AT_ONCE = 100
"""How many of those are tried again in one batch."""


def reduce_table(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    rule: Rule | int,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    where: str | None = None,
    counts: bool = True,
    verify: bool = False,
    tiers: Iterable[tuple[timedelta, int]] | None = None,
    time_column: str = "created_at",
    as_of: str | int | datetime | None = None,
    batch_size: int = 1000,
    batch_bytes: int = 32 * 2**20,
    threads: int = 1,
    dry_run: bool = False,
    save: str | os.PathLike[str] | None = None,
    progress: Callable[[ReduceReport], object] | None = None,
    on_reject: Callable[[Reject], object] | None = None,
    stop: Callable[[], bool] | None = None,
    sleep: float = 0.0,
    run_time: timedelta | None = None,
    limit: int | None = None,
    retries: int = 10,
) -> ReduceReport:
    """Reduce the stored histograms of a table in place.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    rule : Rule or int
        How to reduce; a number is the rule's `max_samples`.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    where : str, optional
        An SQL condition that rows must meet, in the database's own SQL.
    counts : bool
        Whether rows written anew say how many samples they stand for.
    verify : bool
        Read and check every row, and not only those that are long enough for the rule to touch.
    tiers : iterable of (timedelta, int), optional
        Ages, and to how many samples rows of at least that age are reduced. The oldest tier that a row is old enough for holds;
        rows younger than all of them, or without a time, are left alone. The rule's own `max_samples` must be None then.
    time_column : str
        The column that tiers measure ages by: a native timestamp, or text of RFC 3339. What has no offset is UTC.
    as_of : str, int or datetime, optional
        The time that ages are measured from: RFC 3339, nanoseconds since the epoch, or a datetime with a zone. By default the
        start of the run.
    batch_size, batch_bytes : int
        A batch, and so a transaction, ends at that many rows of the table or bytes read, whichever comes first.
    threads : int
        How many threads share the reducing.
    dry_run : bool
        Report what would be done, and write nothing.
    save : str or path, optional
        A new file that takes the old cell of each row before the row is changed, for `import_saved` to put back.
    progress : callable, optional
        Called with the report so far after each batch.
    on_reject : callable, optional
        Called with the `Reject` of each refused row, once its batch is committed.
    stop : callable, optional
        Asked before each batch; True ends the job there, with all done so far committed.
    sleep : float
        Seconds to wait between batches.
    run_time : timedelta, optional
        After that time no further batch begins; another run goes on.
    limit : int, optional
        The most rows to change in this run; another run goes on.
    retries : int
        How often in a row a batch is tried again after a deadlock, a lock that was waited for in vain or a lost connection, with
        growing pauses, and how often rows that others have locked are looked at again at the end.

    Returns
    -------
    ReduceReport
        Also when the job had to stop early, for instance at a lock that another program kept: then `stopped` says why.

    Raises
    ------
    CallstatsError
        When the arguments don't fit the database, before anything is changed.
    ImportError
        When SQLAlchemy is missing.

    Notes
    -----
    A batch is a transaction. PostgreSQL, MySQL and MariaDB lock its rows, passing over those that others have locked until the
    end of the run; then the rows are read, reduced, written by their keys and committed. SQLite has one lock for all: there a
    batch is read and reduced without it; then the database is locked, and rows that another program has changed meanwhile are
    read and reduced anew before all is written. So no other program's write is ever overwritten, a lock is held for one batch
    only, and a kill at any moment leaves each row either old or new. A second run finds nothing to change.

    Where the column can hold only so much (65,535 bytes in MySQL's TEXT), that is the rule's `max_bytes` unless it has a smaller
    one.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> from callstats import Rule, StatSeries
    >>> from callstats.db import init_table, reduce_table
    >>> engine = create_engine("sqlite://")
    >>> init_table(engine)
    'created'
    >>> hour = StatSeries(range(0, 3600 * 10**9, 10**9), {"mem_usage": range(3600)})
    >>> with engine.begin() as connection:
    ...     _ = connection.exec_driver_sql("INSERT INTO calls (id, stats) VALUES ('a', ?)", (hour.to_db(),))
    >>> report = reduce_table(engine, Rule(60, how={"mem_usage": ("mean", "max")}))
    >>> report.changed, report.bytes_before, report.bytes_after
    (1, 250892, 6086)
    >>> engine.dispose()
    """
    require_sqlalchemy("reduce_table")
    from callstats.db.engine import connected
    from callstats.db.jobs.plan import plan_by_age, plan_for_all
    from callstats.db.query import CallTable

    rule = rule if isinstance(rule, Rule) else Rule(rule)
    ordered = checked_tiers(tiers, rule)
    for name, value in (("batch_size", batch_size), ("batch_bytes", batch_bytes), ("threads", threads)):
        if value < 1:
            raise CallstatsError(f"{name} must be 1 or more, got {value}")
    if dry_run and save is not None:
        raise CallstatsError(f"save must be None in a dry run, which changes nothing, got {os.fspath(save)!r}")
    batch_size = min(batch_size, I64_MAX)  # a database takes no larger number
    pace = Pace(sleep, run_time, limit, retries, stop)
    now = nanoseconds(time.time_ns() if as_of is None else as_of)
    tally = Tally(dry_run, on_reject, utc_text(now) if ordered else None)
    by = time_column if ordered else None
    try:
        with connected(url_or_engine) as (connection, dialect):
            calls = CallTable(
                connection, dialect, name=table, key=key, column_name=column, where=where, time_column=by, to_write=True
            )
            rule = within(rule, dialect.room)
            if calls.clock is None:
                plan = plan_for_all(rule, calls.size, verify=verify)
            else:
                plan = plan_by_age(ordered, rule, calls.size, calls.clock, now, verify=verify)
            with Saver(save) if save is not None else nullcontext() as saver:
                _Job(calls, plan, counts, threads, saver, tally, pace, batch_size, batch_bytes).run(progress)
    except DatabaseError as error:
        tally.stopped = str(error)
    return tally.report()


class _Done(NamedTuple):
    """What a batch came to, once it is committed."""

    passed: int
    verdicts: list[Verdict]
    end: Key | None
    locked: Sequence[Key] = ()


@dataclass(frozen=True)
class _Job:
    calls: CallTable
    plan: Plan
    counts: bool
    threads: int
    saver: Saver | None
    tally: Tally
    pace: Pace
    batch_size: int
    batch_bytes: int

    def run(self, progress: Callable[[ReduceReport], object] | None) -> None:
        """Go through the table, and then to the rows that were locked."""
        if progress is not None:
            self.tally.total = self.attempt(self.calls.total)
        if without := self.attempt(lambda: self.calls.without_key(self.plan.condition)):
            self.tally.reject(Reject(None, f"rows whose key is NULL, which no update can name: {without}"), without)
        after: Key | None = None
        pause = 0.0
        while True:
            self.go_on(pause)
            done = self.attempt(lambda: self.batch(after))  # noqa: B023 - called at once
            self.settle(done, progress)
            if done.end is None:
                break
            after, pause = done.end, self.pace.sleep
        self.wait_for_locked(progress)

    def go_on(self, pause: float) -> None:
        """Wait, unless there is a reason to stop."""
        if (why := self.pace.pause(pause, self.tally)) is not None:
            raise DatabaseError(why)

    def attempt(self, step: Callable[[], T]) -> T:
        """Do a step; if what hinders it may pass, wait and do it again."""
        turn = 0
        while True:
            try:
                return step()
            except PassingError as error:
                if isinstance(error, LostError):
                    self.calls.connection.invalidate()
                if turn >= self.pace.retries:
                    raise DatabaseError(f"{error}; tried {turn + 1} times") from None
            self.go_on(self.pace.backoff(turn))
            self.tally.retries += 1
            turn += 1

    def settle(self, done: _Done, progress: Callable[[ReduceReport], object] | None) -> None:
        """Count what is committed."""
        self.tally.locked.extend(done.locked)
        if len(self.tally.locked) > MOST_LOCKED:
            raise DatabaseError(f"other programs have locked more than {MOST_LOCKED} rows")
        self.tally.add(done.passed, done.verdicts)
        if progress is not None:
            progress(self.tally.report())

    def wait_for_locked(self, progress: Callable[[ReduceReport], object] | None) -> None:
        """Try the rows again that others had locked, with growing pauses."""
        locked = self.tally.locked
        for turn in range(self.pace.retries + 1):
            for _ in range(-(-len(locked) // LOCKED_AT_ONCE)):
                self.go_on(0.0)
                left = self.pace.left(self.tally)
                keys = locked[: LOCKED_AT_ONCE if left is None else min(left, LOCKED_AT_ONCE)]
                done = self.attempt(lambda: self.batch_of(keys))  # noqa: B023 - called at once
                del locked[: len(keys)]
                self.settle(done, progress)  # those that are still locked go to the end
            if not locked:
                return
            if turn < self.pace.retries:
                self.go_on(self.pace.backoff(turn))
        raise DatabaseError(f"rows that other programs kept locked: {len(locked)}")

    def batch(self, after: Key | None) -> _Done:
        """The next batch, from reading to commit."""
        left = self.pace.left(self.tally)
        most_rows = self.batch_size if left is None else min(left, self.batch_size)
        if self.calls.dialect.locks_rows and not self.tally.dry_run:
            with self.saver.batch() if self.saver else nullcontext(), self.calls.transaction(write=True):
                stretch, rows = self.calls.lock(
                    after, self.plan, most=self.batch_size, most_rows=most_rows, most_bytes=self.batch_bytes
                )
                return self.locked_rows(stretch, rows)
        batch = self.calls.read(after, self.plan, most=self.batch_size, most_rows=most_rows, most_bytes=self.batch_bytes)
        verdicts = self.judge(batch.rows)
        if not self.tally.dry_run and any(verdict.reduced is not None for verdict in verdicts):
            verdicts = self.look_again(after, batch, verdicts)
        return _Done(max(batch.in_all - len(verdicts), 0), verdicts, batch.end)

    def batch_of(self, keys: Sequence[Key]) -> _Done:
        """A batch of rows that were locked when their turn came."""
        with self.saver.batch() if self.saver else nullcontext(), self.calls.transaction(write=True):
            stretch, rows = self.calls.lock_keys(keys, self.plan)
            return self.locked_rows(stretch, rows)

    def locked_rows(self, stretch: Stretch, rows: Sequence[Row]) -> _Done:
        """Under the locks of a batch's rows: reduce and write them."""
        verdicts = self.write(self.judge(rows))
        got = {row.key for row in rows}
        locked = [key for key in stretch.keys if key not in got]
        return _Done(max(stretch.in_all - len(verdicts) - len(locked), 0), verdicts, stretch.end, locked)

    def look_again(self, after: Key | None, batch: Batch, verdicts: list[Verdict]) -> list[Verdict]:
        """Write under the lock of a whole database, row by row where a trigger ended the transaction of all of them."""
        try:
            return self.judge_again(after, batch, verdicts)
        except RolledBackError as error:
            if len(verdicts) == 1:
                return [Verdict(verdicts[0].row, reason=str(error))]
        found = []
        for verdict in verdicts:
            alone = batch._replace(rows=[verdict.row])
            found += [verdict] if verdict.reduced is None else self.look_again(after, alone, [verdict])
        return found

    def judge_again(self, after: Key | None, batch: Batch, verdicts: list[Verdict]) -> list[Verdict]:
        """Under the lock of a whole database: judge anew what another program has changed, then write."""
        with self.saver.batch() if self.saver else nullcontext(), self.calls.transaction(write=True):
            rows = self.calls.read_again(after, batch, self.plan)
            if rows is not batch.rows:
                judged = {verdict.row.key: verdict for verdict in verdicts}
                fresh = iter(self.judge([row for row in rows if judged[row.key].row != row]))
                verdicts = [judged[row.key] if judged[row.key].row == row else next(fresh) for row in rows]
            return self.write(verdicts)

    def judge(self, rows: Sequence[Row]) -> list[Verdict]:
        """What is to become of rows as they are."""
        kinds = self.calls.dialect.cell_kinds
        results: dict[int, bytes | CallstatsError] = {}
        for tier, rule in enumerate(self.plan.rules):
            these = [i for i, row in enumerate(rows) if row.tier == tier and row.kind in kinds]
            if these or len(self.plan.rules) == 1:
                cells = [rows[i].cell for i in these]
                reduced = reduce_json(cells, rule, counts=self.counts, threads=self.threads, errors="return")
                results.update(zip(these, reduced, strict=True))
        return [self.verdict(row, results.get(i)) for i, row in enumerate(rows)]

    def verdict(self, row: Row, result: bytes | CallstatsError | None) -> Verdict:
        """What is to become of a row, by what its cell was reduced to."""
        if isinstance(result, CallstatsError):
            return Verdict(row, reason=str(result))
        if result is None:
            known = row.cell is None
            return Verdict(row, reason=None if known else f"expected text or bytes, got a cell of type {row.kind}")
        if result == row.cell or (row.kind in self.calls.dialect.normal_kinds and same_value(row.cell, result)):
            return Verdict(row)
        return Verdict(row, result)

    def write(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Save and write what changes; what the database refuses is refused."""
        calls = self.calls
        changes = [(row, reduced) for row, reduced, _ in verdicts if reduced is not None]
        if not changes:
            return verdicts
        if self.saver:
            self.saver.write(SavedCell(row.key, row.cell or b"", calls.is_bytes(row)) for row, _ in changes)
        cells = [(row.key, calls.dialect.value(reduced, is_bytes=calls.is_bytes(row))) for row, reduced in changes]
        refused = calls.write(cells)
        if calls.may_undo:
            now = calls.cells_now([row.key for row, _ in changes if row.key not in refused])
            refused |= {row.key: KEPT for row, _ in changes if row.key in now and now[row.key] == row.cell}
        return (
            [Verdict(v.row, reason=refused[v.row.key]) if v.row.key in refused else v for v in verdicts] if refused else verdicts
        )
