"""The batch job: read, reduce, lock, look again, write, commit; batch after batch in the order of the keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from callstats import kernels
from callstats._types import I64_MAX
from callstats.errors import CallstatsError
from callstats.reduce import reduce_json
from callstats.rule import Rule
from callstats.store.report import FIRST_REJECTS, Key, ReduceReport, Reject, StoreError
from callstats.store.saved import SavedCell, Saver
from callstats.store.urls import require_sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.sql.elements import ColumnElement

    from callstats.store.table import Batch, CallTable, Row

SHORTEST_ROW = len('{"timestamp":"2006-01-02T15:04:05Z"}')


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
    batch_size: int = 1000,
    batch_bytes: int = 32 * 2**20,
    threads: int = 1,
    dry_run: bool = False,
    save: str | os.PathLike[str] | None = None,
    progress: Callable[[ReduceReport], object] | None = None,
    on_reject: Callable[[Reject], object] | None = None,
    stop: Callable[[], bool] | None = None,
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
    A batch is read and reduced without a lock. Then the database is locked, rows that another program has changed meanwhile are
    read and reduced anew, and those that change are written by their keys and committed. So no other program's write is ever
    overwritten, a lock is held only as long as the writing takes, and a kill at any moment leaves each row either old or new. A
    second run finds nothing to change.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> from callstats import Rule, StatSeries
    >>> from callstats.store import init_table, reduce_table
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
    from callstats.store.table import CallTable, connected

    rule = rule if isinstance(rule, Rule) else Rule(rule)
    for name, value in (("batch_size", batch_size), ("batch_bytes", batch_bytes), ("threads", threads)):
        if value < 1:
            raise CallstatsError(f"{name} must be 1 or more: got {value}")
    if dry_run and save is not None:
        raise CallstatsError(f"save must be None in a dry run, which changes nothing: got {os.fspath(save)!r}")
    tally = _Tally(dry_run, on_reject)
    try:
        with connected(url_or_engine) as (connection, dialect):
            calls = CallTable(connection, dialect, name=table, key=key, column_name=column, where=where)
            sizes = None if verify else calls.longer_than(_untouched(rule))
            with Saver(save) if save is not None else nullcontext() as saver:
                _Job(calls, sizes, rule, counts, threads, saver, tally).run(batch_size, batch_bytes, progress, stop)
    except StoreError as error:
        tally.stopped = str(error)
    return tally.report()


def _untouched(rule: Rule) -> int:
    """The size in bytes up to which no cell has anything for the rule to do."""
    sizes = [] if rule.max_bytes is None else [rule.max_bytes]
    if rule.max_samples is not None:
        rows = max(rule.max_samples, 0) + 1
        sizes.append(len("[]") + rows * SHORTEST_ROW + (rows - 1) * len(",") - 1)
    return min([*sizes, I64_MAX])


class _Verdict(NamedTuple):
    """What is to become of a row: it is refused for a reason, or gets a new text, or stays."""

    row: Row
    reduced: bytes | None = None
    reason: str | None = None


@dataclass
class _Tally:
    """The report in the making."""

    dry_run: bool
    on_reject: Callable[[Reject], object] | None
    total: int | None = None
    passed: int = 0
    unchanged: int = 0
    changed: int = 0
    refused: int = 0
    bytes_read: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    stopped: str | None = None
    rejects: list[Reject] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def add(self, passed: int, verdicts: Iterable[_Verdict]) -> None:
        self.passed += passed
        for row, reduced, reason in verdicts:
            size = len(row.cell or b"")
            self.bytes_read += size
            if reason is not None:
                self.reject(Reject(row.key, reason))
            elif reduced is None:
                self.unchanged += 1
            else:
                self.changed += 1
                self.bytes_before += size
                self.bytes_after += len(reduced)

    def reject(self, reject: Reject, rows: int = 1) -> None:
        self.refused += rows
        if len(self.rejects) < FIRST_REJECTS:
            self.rejects.append(reject)
        if self.on_reject is not None:
            self.on_reject(reject)

    def report(self) -> ReduceReport:
        return ReduceReport(
            rows=self.passed + self.unchanged + self.changed + self.refused,
            passed=self.passed,
            unchanged=self.unchanged,
            changed=self.changed,
            refused=self.refused,
            total=self.total,
            bytes_read=self.bytes_read,
            bytes_before=self.bytes_before,
            bytes_after=self.bytes_after,
            seconds=time.perf_counter() - self.began,
            backend=kernels.active.BACKEND,
            dry_run=self.dry_run,
            stopped=self.stopped,
            rejects=tuple(self.rejects),
        )


@dataclass(frozen=True)
class _Job:
    calls: CallTable
    sizes: ColumnElement[bool] | None
    """The condition on cells that the rule may have something to do with."""
    rule: Rule
    counts: bool
    threads: int
    saver: Saver | None
    tally: _Tally

    def run(
        self,
        batch_size: int,
        batch_bytes: int,
        progress: Callable[[ReduceReport], object] | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        """Go through the table."""
        if progress is not None:
            self.tally.total = self.calls.total()
        if without := self.calls.without_key(self.sizes):
            self.tally.reject(Reject(None, f"rows whose key is NULL, which no update can name: {without}"), without)
        after: Key | None = None
        while stop is None or not stop():
            batch = self.calls.read(after, self.sizes, most=batch_size, most_bytes=batch_bytes)
            verdicts = self.judge(batch.rows)
            if not self.tally.dry_run and any(verdict.reduced is not None for verdict in verdicts):
                verdicts = self.settle(after, batch, verdicts)
            self.tally.add(max(batch.in_all - len(verdicts), 0), verdicts)
            if progress is not None:
                progress(self.tally.report())
            if batch.end is None:
                return
            after = batch.end
        self.tally.stopped = "asked to stop"

    def judge(self, rows: Sequence[Row]) -> list[_Verdict]:
        """What is to become of rows as they are."""
        dialect = self.calls.dialect
        cells = [row.cell for row in rows if row.kind in dialect.cell_kinds]
        results = iter(reduce_json(cells, self.rule, counts=self.counts, threads=self.threads, errors="return"))
        verdicts = []
        for row in rows:
            if row.kind in dialect.cell_kinds:
                result = next(results)
                if isinstance(result, CallstatsError):
                    verdicts.append(_Verdict(row, reason=str(result)))
                else:
                    verdicts.append(_Verdict(row, reduced=None if result == row.cell else result))
            elif row.cell is None:
                verdicts.append(_Verdict(row))
            else:
                verdicts.append(_Verdict(row, reason=f"expected text or bytes: got a cell of type {row.kind}"))
        return verdicts

    def settle(self, after: Key | None, batch: Batch, verdicts: list[_Verdict]) -> list[_Verdict]:
        """Under the lock: judge anew what another program has changed, then save, write and commit."""
        calls = self.calls
        with self.saver.batch() if self.saver else nullcontext(), calls.transaction(write=True):
            rows = calls.read_again(after, batch, self.sizes)
            if rows is not batch.rows:
                judged = {verdict.row.key: verdict for verdict in verdicts}
                fresh = iter(self.judge([row for row in rows if judged[row.key].row != row]))
                verdicts = [judged[row.key] if judged[row.key].row == row else next(fresh) for row in rows]
            changes = [(row, reduced) for row, reduced, _ in verdicts if reduced is not None]
            if self.saver and changes:
                self.saver.write(SavedCell(row.key, row.cell or b"", calls.is_bytes(row)) for row, _ in changes)
            refused = calls.write([(row.key, reduced if calls.is_bytes(row) else reduced.decode()) for row, reduced in changes])
        return (
            [_Verdict(v.row, reason=refused[v.row.key]) if v.row.key in refused else v for v in verdicts] if refused else verdicts
        )
