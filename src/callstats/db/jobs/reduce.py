"""The reduce job: read, reduce, lock, check again, write and commit, batch after batch in the order of the keys."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from callstats import kernels
from callstats._json import decode
from callstats._timestamps import format_time, parse_time
from callstats._types import FIRST_TIME, I64_MAX
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.jobs.batches import Batch, BatchSession, Limits, Plan, Row, make_plan, same_value, sorted_tiers
from callstats.db.jobs.known import read_known
from callstats.db.jobs.restore import SavedBlob, Saver
from callstats.db.query import Names
from callstats.db.results import (
    Change,
    ConnectionLostError,
    PlannedEndError,
    ReduceResult,
    RolledBackError,
    TimedOutError,
    TransientError,
)
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, shorten_repr
from callstats.reduce import reduce_json
from callstats.rule import KEEP_PEAKS, OTHERS, Rule
from callstats.series import StatSeries
from callstats.stats import summarize

T = TypeVar("T")

MAX_LOCKED = 1_000_000
"""How many rows locked by others a run remembers."""
LOCKED_AT_ONCE = 100
"""How many of them one batch retries."""

UNDONE = "the database keeps the old text: something, such as a trigger or a rule, undoes the change"

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_POLL_SECONDS = 0.1
"""How often a pause checks whether to stop."""


class Outcome(NamedTuple):
    """The outcome of a row: it is rejected for a reason, gets a new blob, is kept since its text would grow, or is unchanged."""

    row: Row
    reduced: bytes | None = None
    reason: str | None = None
    kept: bool = False


class _Committed(NamedTuple):
    """The outcome of a batch, once it is committed."""

    skipped: int
    outcomes: list[Outcome]
    end: Key | None
    locked: Sequence[Key] = ()


class ReduceJob(Job):
    """The job of `CallTable.reduce`, and the counts of its result."""

    session: BatchSession
    plan: Plan
    saver: Saver | None

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        asked = self.arguments
        for name in ("batch_size", "batch_bytes", "threads"):
            if getattr(asked, name) < 1:
                raise ArgumentError(name, "1 or more", getattr(asked, name))
        if asked.dry_run and asked.save is not None:
            raise ArgumentError("save", "None in a dry run, which changes nothing", os.fspath(asked.save))
        if not asked.sleep >= 0:
            raise ArgumentError("sleep", "0 or more seconds", asked.sleep)
        if asked.run_time is not None and asked.run_time < timedelta(0):
            raise ArgumentError("run_time", "0 or more", str(asked.run_time))
        if asked.limit is not None and asked.limit < 1:
            raise ArgumentError("limit", "1 or more, or None", asked.limit)
        if asked.retries < 0:
            raise ArgumentError("retries", "0 or more", asked.retries)
        if asked.known is not None:
            self.known_texts = read_known(asked.known)
        self.rule: Rule = asked.rule
        self.tiers = sorted_tiers(asked.tiers, self.rule)
        self.locked: list[Key] = []
        how = self.rule.how if isinstance(self.rule.how, Mapping) else {}
        self._now = _nanoseconds(time.time_ns() if asked.as_of is None else asked.as_of)
        self._unseen = {name for name in how if name != OTHERS and how[name] != KEEP_PEAKS.get(name)}
        self._saw_samples = False
        self._shrink = 1
        """By how much batches are smaller than asked for, since larger ones took the server too long."""
        as_of = format_time(self._now) if self.tiers else None
        self.result = ReduceResult(backend=kernels.active.BACKEND, dry_run=asked.dry_run, as_of=as_of)
        """The counts so far."""

    def run(self, database: Database, names: Names) -> ReduceResult:
        """Reduce a table, up to its end or to what stops the job."""
        stopped = None
        try:
            with database.session() as (connection, dialect):
                self.session = BatchSession(connection, dialect, names, where=self.arguments.where)
                self.session.check_rows()
                self.plan = make_plan(self.rule, self.tiers, self.session, self._now, verify=self.arguments.verify)
                save = self.arguments.save
                with (
                    dialect.secure_delete(connection, self.arguments.secure_delete),
                    Saver(save) if save is not None else nullcontext() as self.saver,
                ):
                    self._run()
        except PlannedEndError as end:
            self.result = replace(self.result, more=str(end))
        except DatabaseError as error:
            stopped = str(error)
        return self._finished(stopped)

    def _run(self) -> None:
        """Go through the table, and then to the rows that were locked."""
        if self.arguments.progress is not None:
            self.result = replace(self.result, total=self._attempt(self._total))
        if count := self._attempt(lambda: self.session.count_without_key(self.plan.condition)):
            self.reject(None, f"rows whose key is NULL, which no update can name: {count}", count)
        after: Key | None = None
        pause = 0.0
        while True:
            self._pause(pause)
            done = self._attempt(lambda: self._batch(after))  # noqa: B023 - called at once
            self._count(done)
            self._count_times(after, done.end)
            if done.end is None:
                break
            after, pause = done.end, self.arguments.sleep
        self._retry_locked()

    def _total(self) -> int | None:
        """Return the number of rows in scope; None if the server has no time for it."""
        try:
            return self.session.count()
        except TimedOutError:
            return None

    def _retry_locked(self) -> None:
        """Retry the rows that others had locked, with growing pauses."""
        for turn in range(self.arguments.retries + 1):
            for _ in range(-(-len(self.locked) // LOCKED_AT_ONCE)):
                self._pause(0.0)
                keys = self.locked[: min(self._left(), LOCKED_AT_ONCE)]
                done = self._attempt(lambda: self._locked_batch(keys))  # noqa: B023 - called at once
                del self.locked[: len(keys)]
                self._count(done)  # rows that are still locked go to the end
            if not self.locked:
                return
            if turn < self.arguments.retries:
                self._pause(_backoff(turn))
        raise DatabaseError(f"rows that other programs kept locked: {len(self.locked)}")

    # --- when to pause, retry and stop ---

    def _left(self) -> int:
        """Return how many more rows may change."""
        limit: int | None = self.arguments.limit
        return I64_MAX if limit is None else limit - self.result.changed

    def check_stop(self) -> None:
        """Raise if no further batch may start."""
        super().check_stop()
        run_time: timedelta | None = self.arguments.run_time
        if run_time is not None and self.seconds >= run_time.total_seconds():
            raise PlannedEndError(f"the run time of {run_time} is over")
        if self._left() <= 0:
            raise PlannedEndError(f"the limit of {self.arguments.limit} changed rows is reached")

    def _pause(self, seconds: float) -> None:
        """Wait, unless there is a reason to stop."""
        end = time.monotonic() + seconds
        self.check_stop()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            self.check_stop()

    def _attempt(self, step: Callable[[], T]) -> T:
        """Run a step, and retry it with growing pauses after a transient error."""
        turn = 0
        while True:
            try:
                return step()
            except TransientError as error:
                if isinstance(error, ConnectionLostError):
                    self.session.connection.invalidate()
                if isinstance(error, TimedOutError):
                    self._shrink *= 2
                if turn >= self.arguments.retries:
                    raise DatabaseError(f"{error}; tried {turn + 1} times") from None
            self._pause(_backoff(turn))
            self.result = replace(self.result, retries=self.result.retries + 1)
            turn += 1

    # --- one batch ---

    def _batch(self, after: Key | None) -> _Committed:
        """Reduce the next batch, from reading to commit."""
        keys = max(min(self.arguments.batch_size, I64_MAX) // self._shrink, 1)  # a database takes no larger number
        limits = Limits(keys, min(self._left(), keys), max(self.arguments.batch_bytes // self._shrink, 1))
        if self.session.dialect.locks_rows and not self.arguments.dry_run:
            with self._transaction():
                return self._write_locked(self.session.lock(after, self.plan, limits))
        batch = self.session.read(after, self.plan, limits)
        outcomes = self._reduce(batch.rows)
        if not self.arguments.dry_run and any(outcome.reduced is not None for outcome in outcomes):
            outcomes = self._write_unlocked(after, batch, outcomes)
        return _Committed(max(batch.size - len(outcomes), 0), outcomes, batch.end)

    def _locked_batch(self, keys: Sequence[Key]) -> _Committed:
        """Reduce rows that were locked before."""
        with self._transaction():
            return self._write_locked(self.session.lock_keys(keys, self.plan))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run a writing transaction. If it fails, the blobs saved in it are removed from the file."""
        with self.saver.batch() if self.saver else nullcontext(), self.session.transaction(write=True):
            yield

    def _write_locked(self, batch: Batch) -> _Committed:
        """Reduce and write rows under their locks."""
        outcomes = self._write(self._reduce(batch.rows))
        ours = {row.key for row in batch.rows}
        locked = [key for key in batch.keys if key not in ours]
        return _Committed(max(batch.size - len(outcomes) - len(locked), 0), outcomes, batch.end, locked)

    def _write_unlocked(self, after: Key | None, batch: Batch, outcomes: list[Outcome]) -> list[Outcome]:
        """Write under the lock of the whole database; row by row if a trigger rolled back all of them."""
        try:
            return self._check_and_write(after, batch, outcomes)
        except RolledBackError as error:
            if len(outcomes) == 1:
                return [Outcome(outcomes[0].row, reason=str(error))]
        done = []
        for outcome in outcomes:
            alone = batch._replace(rows=[outcome.row])
            done += [outcome] if outcome.reduced is None else self._write_unlocked(after, alone, [outcome])
        return done

    def _check_and_write(self, after: Key | None, batch: Batch, outcomes: list[Outcome]) -> list[Outcome]:
        """Under the lock of the whole database, reduce again the rows that another program has changed, and write."""
        with self._transaction():
            rows = self.session.read_again(after, batch, self.plan)
            if rows is not batch.rows:
                before = {outcome.row.key: outcome for outcome in outcomes}
                fresh = iter(self._reduce([row for row in rows if before[row.key].row != row]))
                outcomes = [before[row.key] if before[row.key].row == row else next(fresh) for row in rows]
            return self._write(outcomes)

    def _reduce(self, rows: Sequence[Row]) -> list[Outcome]:
        """Reduce rows as they are."""
        self._look_for_metrics(rows)
        results: dict[int, bytes | CallstatsError] = {}
        for tier, rule in enumerate(self.plan.rules):
            these = [i for i, row in enumerate(rows) if row.tier == tier and row.kind in self.session.dialect.blob_kinds]
            if these or len(self.plan.rules) == 1:
                blobs = [rows[i].blob for i in these]
                reduced = reduce_json(blobs, rule, counts=self.arguments.counts, threads=self.arguments.threads, errors="return")
                results.update(zip(these, reduced, strict=True))
        return [self._outcome(row, results.get(i)) for i, row in enumerate(rows)]

    def _outcome(self, row: Row, result: bytes | CallstatsError | None) -> Outcome:
        """Return what happens to a row whose blob was reduced to this."""
        if isinstance(result, CallstatsError):
            return Outcome(row, reason=str(result))
        if result is None:
            return Outcome(row, reason=self.session.kind_fault(row.blob, row.kind))
        rewritten = self.session.dialect.rewrites and same_value(row.blob, result)
        if result == row.blob or rewritten:
            return Outcome(row)
        return Outcome(row, kept=True) if len(result) > len(row.blob or b"") else Outcome(row, result)

    def _write(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Save the old blobs and write the new ones. Rows that the database rejects are rejected."""
        session = self.session
        changes = [(one.row, one.reduced) for one in outcomes if one.reduced is not None]
        if not changes:
            return outcomes
        if self.saver:
            self.saver.write(SavedBlob(row.key, row.blob or b"", row.is_bytes) for row, _ in changes)
        blobs = [(row.key, session.dialect.to_driver(reduced, is_bytes=row.is_bytes)) for row, reduced in changes]
        rejected = session.write(blobs)
        if session.may_undo:
            now = session.blobs_now([row.key for row, _ in changes if row.key not in rejected])
            rejected |= {row.key: UNDONE for row, _ in changes if row.key in now and now[row.key] == row.blob}
        return [Outcome(one.row, reason=rejected[one.row.key]) if one.row.key in rejected else one for one in outcomes]

    # --- the result ---

    def _look_for_metrics(self, rows: Sequence[Row]) -> None:
        """Cross off the metrics of the rule that these blobs have."""
        for row in rows if self._unseen else ():
            blob = row.blob or b""
            self._saw_samples = self._saw_samples or len(blob) > len("null")
            # Only a blob that contains the name, or an escape, is worth decoding.
            if b"\\" in blob or any(f'"{name.partition("@")[0]}'.encode() in blob for name in self._unseen):
                with suppress(CallstatsError):
                    names = decode(blob)[0][0]
                    self._unseen -= {*names, *(name.rpartition("@")[0] for name in names)}

    def _count_times(self, after: Key | None, end: Key | None) -> None:
        """Count the rows of a range without a time, and reject those whose time can't be read. Both were skipped."""
        untimed, unreadable = self._attempt(lambda: self.session.times(after, end, self.plan))
        for key, value in unreadable:
            where = self.session.names.time_column
            self.reject(
                key, f"{where}: expected an RFC 3339 time or a date, got {shorten_repr(value)}", text=repr(value).encode()
            )
        skipped = max(self.result.skipped - untimed - len(unreadable), 0)
        self.result = replace(self.result, skipped=skipped, untimed=self.result.untimed + untimed)

    def _count(self, done: _Committed) -> None:
        """Count what is committed, and report it."""
        self.locked.extend(done.locked)
        if len(self.locked) > MAX_LOCKED:
            raise DatabaseError(f"other programs have locked more than {MAX_LOCKED} rows")
        so_far = self.result
        changed = [(one.row, one.reduced) for one in done.outcomes if one.reduced is not None]
        rejected = [(one.row, one.reason) for one in done.outcomes if one.reason is not None]
        kept = sum(one.kept for one in done.outcomes)
        for row, reason in rejected:
            self.reject(row.key, reason, text=row.blob or b"")
        self.result = replace(
            so_far,
            skipped=so_far.skipped + done.skipped,
            unchanged=so_far.unchanged + len(done.outcomes) - len(changed) - len(rejected) - kept,
            kept=so_far.kept + kept,
            changed=so_far.changed + len(changed),
            bytes_read=so_far.bytes_read + sum(len(one.row.blob or b"") for one in done.outcomes),
            bytes_before=so_far.bytes_before + sum(len(row.blob or b"") for row, _ in changed),
            bytes_after=so_far.bytes_after + sum(len(reduced) for _, reduced in changed),
        )
        for row, reduced in changed if self.arguments.dry_run else ():
            self._compare(row, reduced)
        if self.arguments.progress is not None:
            self.arguments.progress(self._finished(None))

    def _compare(self, row: Row, reduced: bytes) -> None:
        """Keep the largest changes of a peak and of a mean."""
        new = summarize(StatSeries.from_json(reduced))
        peak, mean = self.result.peak_change, self.result.mean_change
        for metric, old in summarize(StatSeries.from_json(row.blob)).items():
            now = new.get(metric)
            if old.max is not None and old.mean is not None:
                peak = _larger(peak, Change(row.key, metric, old.max, None if now is None else now.max))
                mean = _larger(mean, Change(row.key, metric, old.mean, None if now is None else now.mean))
        self.result = replace(self.result, peak_change=peak, mean_change=mean)

    def _finished(self, stopped: str | None) -> ReduceResult:
        """Return the result if the job ended now."""
        so_far = self.result
        return replace(
            so_far,
            rows=so_far.skipped + so_far.untimed + so_far.unchanged + so_far.kept + so_far.changed + self.rejected + self.known,
            known=self.known,
            stopped=stopped,
            locked=len(self.locked),
            unknown_metrics=tuple(sorted(self._unseen)) if self._saw_samples else (),
            **self.fields(),
        )


def _larger(one: Change | None, other: Change) -> Change | None:
    if other.before == other.after:
        return one
    return other if one is None or other.share > one.share else one


def _backoff(turn: int) -> float:
    """Return how long to wait before a retry: longer each time, and not as long as another job that failed with this one."""
    return float(random.uniform(0.5, 1.0) * min(_FIRST_PAUSE * 2**turn, _LONGEST_PAUSE))  # noqa: S311 - no secret


def _nanoseconds(as_of: str | int | datetime) -> int:
    """Return a time as nanoseconds since the epoch."""
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            raise ArgumentError("as_of", "a time with a time zone", as_of)
        return (as_of - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    if isinstance(as_of, int):
        if not FIRST_TIME <= as_of <= I64_MAX:
            raise ArgumentError("as_of", f"nanoseconds from {FIRST_TIME} to {I64_MAX}", as_of)
        return as_of
    return parse_time(as_of)
