"""A worker of the reduce job: find, lock, read, reduce, check again, write and commit, batch after batch over one connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from callstats._types import I64_MAX
from callstats.call import Key
from callstats.db.jobs.base import Job
from callstats.db.jobs.batches import BatchSession, Found, Row, Span, same_value
from callstats.db.jobs.plan import Plan
from callstats.db.jobs.save import SavedBlob, Saving
from callstats.db.results import ConnectionLostError, RolledBackError, TimedOutError, TransientError
from callstats.errors import CallstatsError, DatabaseError
from callstats.reduce import reduce_json

if TYPE_CHECKING:
    from callstats.db.jobs.reduce import ReduceJob

T = TypeVar("T")

UNDONE = "the database keeps the old text: something, such as a trigger or a rule, undoes the change"

PHASES = ("find", "read", "reduce", "write", "commit", "compare")
"""The phases of a batch, in this order. To compare is to measure how far metrics have moved, and to count."""

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


class Attempts:
    """A job over one connection, and its retries."""

    def __init__(self, job: Job, session: BatchSession, retries: int) -> None:
        self.session = session
        self.shrink = 1
        """By how much batches are smaller than asked for, since larger ones took the server too long."""
        self._job, self._retries = job, retries

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
                if turn >= self._retries:
                    raise DatabaseError(f"{error}; tried {turn + 1} times") from None
            self._job.pause(backoff(turn))
            self._job.count_retry()
            turn += 1


class Worker(Attempts):
    """One connection, over which batches are reduced one after the other."""

    def __init__(self, job: ReduceJob, session: BatchSession, plan: Plan) -> None:
        super().__init__(job, session, job.arguments.retries)
        self.job = job
        self.plan = plan
        self.phases = dict.fromkeys(PHASES, 0.0)
        """Seconds by phase."""
        self._is_dense = False
        """Whether most rows whose blobs are large enough for a rule are changed: then counting the blobs' rows costs too much."""

    def run(self) -> None:
        """Reduce one range of keys after the other."""
        pause = 0.0
        while (span := self.job.next_span(self)) is not None:
            after, is_all, idle = span.after, False, self.job.idle + 1
            while not is_all:
                self.job.pause(pause)
                done, found = self.attempt(partial(self._batch, span))
                left = max(span.size - len(done.outcomes) - len(done.locked), 0)
                if is_all := found.is_all:
                    untimed, unreadable = self.attempt(partial(self.session.times, after, span.end, self.plan))
                    done = done._replace(skipped=max(left - untimed - len(unreadable), 0), untimed=untimed, unreadable=unreadable)
                idle = 0 if done.outcomes or done.locked else idle
                with self.phase("compare"):
                    self.job.count(done)
                self.attempt(partial(self._learn, span.after, found, done.outcomes))  # a retry does not repeat the batch
                span = span._replace(after=found.end, size=left)
                pause = self.job.arguments.sleep
            self.job.idle = idle

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] += time.perf_counter() - start

    # --- one batch ---

    def _batch(self, span: Span) -> tuple[Committed, Found]:
        """Reduce the next batch of a range, from finding to commit. Return what was found, and whether it is all of the range."""
        asked, session = self.job.arguments, self.session
        rows = max(min(asked.batch_size, I64_MAX) // self.shrink, 1)  # a database takes no larger number
        most = min(self.job.left(), rows), max(asked.batch_bytes // self.shrink, 1)
        part = session.span(span.after, rows, span.end) if self.shrink > 1 and rows < span.size else span
        with self.phase("find" if session.dialect.locks_rows else "read"):
            found = session.find(part, self.plan, *most, exactly=not self._is_dense)
        if found.rows:
            done = Committed(self._write_unlocked(span.after, found, self._reduce(found.rows)))
        else:
            done = self._write_locked(found.keys)
        return done, found._replace(is_all=found.is_all and part.end == span.end)

    def _learn(self, after: Key | None, found: Found, outcomes: Sequence[Outcome]) -> None:
        """Decide how the next batch finds rows: by their blobs' sizes where most change, else by the number of rows in them."""
        changed = sum(outcome.reduced is not None for outcome in outcomes)
        looked_at = len(outcomes)
        if changed and not self._is_dense:
            looked_at = self.session.count(*self.session.key_range(after, found.end))
        self._is_dense = 2 * changed >= max(looked_at, 1)

    def locked_batch(self, keys: Sequence[Key]) -> Committed:
        """Reduce rows that were locked before."""
        with self.session.transaction(write=False):
            existing, still = self.session.still(keys, self.plan)
        done = self._write_locked(still)
        return done._replace(skipped=max(existing - len(done.outcomes) - len(done.locked), 0))

    @contextmanager
    def _transaction(self) -> Iterator[Saving]:
        """Run a writing transaction. It yields how to save old blobs; if it fails, those are removed from the file."""
        saver = self.job.saver
        with saver.batch() if saver else nullcontext(_save_nothing) as saving, ExitStack() as stack:
            stack.enter_context(self.session.transaction(write=True))
            yield saving
            with self.phase("commit"):
                stack.close()

    def _write_locked(self, keys: Sequence[Key]) -> Committed:
        """Lock, reduce and write rows; in a dry run only read and reduce them."""
        if not keys:
            return Committed([])
        lock = not self.job.arguments.dry_run
        with self._transaction() as saving:
            with self.phase("read"):
                rows = self.session.fetch(keys, self.plan, lock=lock)
            outcomes = self._write(self._reduce(rows), saving)
        ours = {row.key for row in rows}
        return Committed(outcomes, [key for key in keys if lock and key not in ours])

    def _write_unlocked(self, after: Key | None, found: Found, outcomes: list[Outcome]) -> list[Outcome]:
        """Write under the lock of the whole database; row by row if a trigger rolled back all of them."""
        if self.job.arguments.dry_run or all(outcome.reduced is None for outcome in outcomes):
            return outcomes
        try:
            return self._check_and_write(after, found, outcomes)
        except RolledBackError as error:
            if len(outcomes) == 1:
                return [Outcome(outcomes[0].row, reason=str(error))]
        done = []
        for outcome in outcomes:
            done += self._write_unlocked(after, found._replace(rows=[outcome.row]), [outcome])
        return done

    def _check_and_write(self, after: Key | None, found: Found, outcomes: list[Outcome]) -> list[Outcome]:
        """Under the lock of the whole database, reduce again the rows that another program has changed, and write."""
        with self._transaction() as saving:
            with self.phase("read"):
                rows = self.session.read_again(after, found, self.plan)
            if rows is not found.rows:
                before = {outcome.row.key: outcome for outcome in outcomes}
                fresh = iter(self._reduce([row for row in rows if before[row.key].row != row]))
                outcomes = [before[row.key] if before[row.key].row == row else next(fresh) for row in rows]
            return self._write(outcomes, saving)

    def _reduce(self, rows: Sequence[Row]) -> list[Outcome]:
        """Reduce rows as they are."""
        plan, asked = self.plan, self.job.arguments
        results: dict[int, bytes | CallstatsError] = {}
        with self.phase("reduce"):
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

    def _write(self, outcomes: list[Outcome], saving: Saving) -> list[Outcome]:
        """Save the old blobs and write the new ones. Rows that the database rejects are rejected."""
        session = self.session
        changes = [(one.row, one.reduced) for one in outcomes if one.reduced is not None]
        if not changes or self.job.arguments.dry_run:
            return outcomes
        old = {row.key: row.blob or b"" for row, _ in changes}
        saved = (SavedBlob(row.key, old[row.key], row.is_bytes) for row, _ in changes)
        with self.phase("write"), saving(saved):
            _, rejected = session.write([(row.key, reduced, row.is_bytes) for row, reduced in changes], "reduced")
            if session.may_undo:
                new = {row.key: reduced for row, reduced in changes if row.key not in rejected}
                now = session.differing(new, {key for key, blob in new.items() if len(blob) == len(old[key])})
                rejected |= {key: UNDONE for key, blob in now.items() if blob == old[key]}
        return [Outcome(one.row, reason=rejected[one.row.key]) if one.row.key in rejected else one for one in outcomes]


def _save_nothing(_blobs: Iterable[SavedBlob]) -> AbstractContextManager[None]:
    return nullcontext()


def backoff(turn: int) -> float:
    """Return how long to wait before a retry: longer each time, and not as long as another job that failed with this one."""
    return float(random.uniform(0.5, 1.0) * min(_FIRST_PAUSE * 2**turn, _LONGEST_PAUSE))  # noqa: S311 - no secret
