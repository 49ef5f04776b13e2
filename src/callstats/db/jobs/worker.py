"""A worker of the reduce job: find, lock, read, reduce, check again, write and commit, batch after batch over one connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from callstats._types import I64_MAX
from callstats.call import Key
from callstats.db.jobs.batches import BatchSession, Found, Limits, Row, Span, same_value
from callstats.db.jobs.plan import Plan
from callstats.db.jobs.save import SavedBlob
from callstats.db.results import ConnectionLostError, RolledBackError, TimedOutError, TransientError
from callstats.errors import CallstatsError, DatabaseError
from callstats.reduce import reduce_json

if TYPE_CHECKING:
    from callstats.db.jobs.reduce import ReduceJob

T = TypeVar("T")

UNDONE = "the database keeps the old text: something, such as a trigger or a rule, undoes the change"

PHASES = ("find", "read", "reduce", "write", "commit")
"""The phases of a batch, in this order."""

_PROBED_ROWS = 50
"""How many rows tell whether most are changed."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Outcome(NamedTuple):
    """The outcome of a row: it is rejected for a reason, gets a new blob, is kept since its text would grow, or is unchanged."""

    row: Row
    reduced: bytes | None = None
    reason: str | None = None
    kept: bool = False


class Committed(NamedTuple):
    """The outcome of a batch, once it is committed."""

    outcomes: list[Outcome]
    locked: Sequence[Key] = ()
    skipped: int = 0
    untimed: int = 0
    unreadable: Sequence[tuple[Key, object]] = ()
    """The keys and values of times that can't be read."""


class Worker:
    """One connection, over which batches are reduced one after the other."""

    def __init__(self, job: ReduceJob, session: BatchSession, plan: Plan) -> None:
        self.job = job
        self.session = session
        self.plan = plan
        self.phases = dict.fromkeys(PHASES, 0.0)
        """Seconds by phase."""
        self._parts: list[tuple[int, int]] = []
        """The parts of the file of saved blobs that the running transaction has filled."""
        self.shrink = 1
        """By how much batches are smaller than asked for, since larger ones took the server too long."""
        self._is_dense = False
        """Whether most rows whose blobs are large enough for a rule are changed: then counting the blobs' rows costs too much."""

    def run(self) -> None:
        """Reduce one range of keys after the other."""
        pause = 0.0
        while (span := self.job.next_span(self)) is not None:
            after, is_all, idle = span.after, False, self.job.idle + 1
            while not is_all:
                self.job.pause(pause)
                done, end, is_all = self.attempt(partial(self._batch, span))
                left = max(span.size - len(done.outcomes) - len(done.locked), 0)
                if is_all:
                    untimed, unreadable = self.attempt(partial(self.session.times, after, span.end, self.plan))
                    done = done._replace(skipped=max(left - untimed - len(unreadable), 0), untimed=untimed, unreadable=unreadable)
                idle = 0 if done.outcomes or done.locked else idle
                self.job.count(done)
                span = span._replace(after=end, size=left)
                pause = self.job.arguments.sleep
            self.job.idle = idle

    def attempt(self, step: Callable[[], T]) -> T:
        """Run a step, and retry it with growing pauses after a transient error."""
        turn = 0
        while True:
            try:
                return step()
            except TransientError as error:
                if isinstance(error, ConnectionLostError):
                    self.session.connection.invalidate()
                if isinstance(error, TimedOutError):
                    self.shrink *= 2
                if turn >= self.job.arguments.retries:
                    raise DatabaseError(f"{error}; tried {turn + 1} times") from None
            self.job.pause(backoff(turn))
            self.job.count_retry()
            turn += 1

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] += time.perf_counter() - start

    # --- one batch ---

    def _batch(self, span: Span) -> tuple[Committed, Key | None, bool]:
        """Reduce the next batch of a range, from finding to commit. Return the last key, and whether it is that of the range."""
        job, session = self.job, self.session
        keys = max(min(job.arguments.batch_size, I64_MAX) // self.shrink, 1)  # a database takes no larger number
        limits = Limits(min(job.left(), keys), max(job.arguments.batch_bytes // self.shrink, 1))
        if self.shrink > 1 and span.size > keys:
            span = session.span(span.after, keys, span.end)
            done, end, _ = self._batch(span)
            return done, end, False
        if session.dialect.locks_rows:
            with self._phase("find"):
                found = self._find(span, limits)
            done = Committed([])
            if found.keys and job.arguments.dry_run:
                with self._phase("read"):
                    rows = session.peek(found.keys, self.plan)
                done = Committed(self._reduce(rows))
            elif found.keys:
                with self._transaction():
                    done = self._write_locked(found.keys)
        else:
            with self._phase("read"):
                found = session.read(span, self.plan, limits, exactly=not self._is_dense)
            outcomes = self._reduce(found.rows)
            if not job.arguments.dry_run and any(outcome.reduced is not None for outcome in outcomes):
                outcomes = self._write_unlocked(span.after, found, outcomes)
            done = Committed(outcomes)
        self._learn(span.after, found, done.outcomes)
        return done, found.end, found.is_all

    def _learn(self, after: Key | None, found: Found, outcomes: Sequence[Outcome]) -> None:
        """Decide how the next batch finds rows."""
        changed = sum(outcome.reduced is not None for outcome in outcomes)
        looked_at = len(outcomes)
        if changed and not self._is_dense:
            looked_at = self.session.count_range(after, found.end)
        self._is_dense = 2 * changed >= max(looked_at, 1)

    def _find(self, span: Span, limits: Limits) -> Found:
        """Find rows by the sizes of their blobs where most long ones are changed, else by their number of rows."""
        session, plan = self.session, self.plan
        if plan.exact is not None and not self._is_dense:
            some = session.find(span, plan, limits._replace(rows=min(limits.rows, _PROBED_ROWS)), exactly=True)
            if some.is_all:
                return some
            self._is_dense = 2 * len(some.keys) >= session.count_range(span.after, some.end, *plan.touched(exactly=False))
        return session.find(span, plan, limits, exactly=not self._is_dense)

    def locked_batch(self, keys: Sequence[Key]) -> Committed:
        """Reduce rows that were locked before."""
        with self._transaction():
            existing, still = self.session.still(keys, self.plan)
            done = self._write_locked(still)
        return done._replace(skipped=max(existing - len(done.outcomes) - len(done.locked), 0))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run a writing transaction. If it fails, the blobs saved in it are removed from the file."""
        saver = self.job.saver
        with ExitStack() as file, ExitStack() as stack:
            self._parts = file.enter_context(saver.batch()) if saver else []
            stack.enter_context(self.session.transaction(write=True))
            yield
            with self._phase("commit"):
                stack.close()

    def _write_locked(self, keys: Sequence[Key]) -> Committed:
        """Lock, reduce and write rows."""
        with self._phase("read"):
            rows = self.session.lock(keys, self.plan)
        ours = {row.key for row in rows}
        return Committed(self._write(self._reduce(rows)), [key for key in keys if key not in ours])

    def _write_unlocked(self, after: Key | None, found: Found, outcomes: list[Outcome]) -> list[Outcome]:
        """Write under the lock of the whole database; row by row if a trigger rolled back all of them."""
        try:
            return self._check_and_write(after, found, outcomes)
        except RolledBackError as error:
            if len(outcomes) == 1:
                return [Outcome(outcomes[0].row, reason=str(error))]
        done = []
        for outcome in outcomes:
            alone = found._replace(rows=[outcome.row])
            done += [outcome] if outcome.reduced is None else self._write_unlocked(after, alone, [outcome])
        return done

    def _check_and_write(self, after: Key | None, found: Found, outcomes: list[Outcome]) -> list[Outcome]:
        """Under the lock of the whole database, reduce again the rows that another program has changed, and write."""
        with self._transaction():
            with self._phase("read"):
                rows = self.session.read_again(after, found, self.plan)
            if rows is not found.rows:
                before = {outcome.row.key: outcome for outcome in outcomes}
                fresh = iter(self._reduce([row for row in rows if before[row.key].row != row]))
                outcomes = [before[row.key] if before[row.key].row == row else next(fresh) for row in rows]
            return self._write(outcomes)

    def _reduce(self, rows: Sequence[Row]) -> list[Outcome]:
        """Reduce rows as they are."""
        plan, asked = self.plan, self.job.arguments
        results: dict[int, bytes | CallstatsError] = {}
        with self._phase("reduce"):
            for tier, rule in enumerate(plan.rules):
                these = [i for i, row in enumerate(rows) if row.tier == tier and row.kind in self.session.dialect.blob_kinds]
                if these or len(plan.rules) == 1:
                    blobs = [rows[i].blob for i in these]
                    reduced = reduce_json(blobs, rule, counts=asked.counts, threads=asked.threads, errors="return")
                    results.update(zip(these, reduced, strict=True))
            return [self._outcome(row, results.get(i)) for i, row in enumerate(rows)]

    def _outcome(self, row: Row, result: bytes | CallstatsError | None) -> Outcome:
        """Return what happens to a row whose blob was reduced to this."""
        if isinstance(result, CallstatsError):
            return Outcome(row, reason=str(result))
        if result is None:
            return Outcome(row, reason=self.session.kind_fault(row.blob, row.kind))
        if result == row.blob or (self.session.dialect.rewrites and same_value(row.blob, result)):
            return Outcome(row)
        return Outcome(row, kept=True) if len(result) > len(row.blob or b"") else Outcome(row, result)

    def _write(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Save the old blobs and write the new ones. Rows that the database rejects are rejected."""
        session, saver = self.session, self.job.saver
        changes = [(one.row, one.reduced) for one in outcomes if one.reduced is not None]
        if not changes:
            return outcomes
        old = (SavedBlob(row.key, row.blob or b"", row.is_bytes) for row, _ in changes)
        with self._phase("write"), saver.writing(self._parts, old) if saver else nullcontext():
            rejected = session.write([(row.key, reduced, row.is_bytes) for row, reduced in changes])
            if session.may_undo:
                undone = session.undone((row, reduced) for row, reduced in changes if row.key not in rejected)
                rejected |= dict.fromkeys(undone, UNDONE)
        return [Outcome(one.row, reason=rejected[one.row.key]) if one.row.key in rejected else one for one in outcomes]


def backoff(turn: int) -> float:
    """Return how long to wait before a retry: longer each time, and not as long as another job that failed with this one."""
    return float(random.uniform(0.5, 1.0) * min(_FIRST_PAUSE * 2**turn, _LONGEST_PAUSE))  # noqa: S311 - no secret
