"""The reduce job: its arguments, what its workers share, and the counts of its result."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from callstats import _coerce, kernels
from callstats._timestamps import format_time
from callstats._types import I64_MAX
from callstats._units import duration_text
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.jobs.batches import BatchSession, Span
from callstats.db.jobs.changes import Changes, UnseenMetrics, may_add_peaks, peaks_and_means, peaks_of_means
from callstats.db.jobs.plan import make_plan, sorted_tiers
from callstats.db.jobs.save import Saver, read_known
from callstats.db.jobs.worker import PHASES, Committed, Worker, backoff
from callstats.db.query import Names
from callstats.db.results import ConnectionLostError, PlannedEndError, ReduceResult, StoppedError, TimedOutError
from callstats.errors import ArgumentError, DatabaseError, shorten_repr
from callstats.rule import Rule
from callstats.series import to_nanoseconds

MAX_LOCKED = 1_000_000
"""How many rows locked by others a run remembers."""
LOCKED_AT_ONCE = 100
"""How many of them one batch retries."""


_FEW_IDLE, _MAX_IDLE = 3, 8


class ReduceJob(Job):
    """The job of `CallTable.reduce`: what its workers share, and the counts of its result."""

    saver: Saver | None

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        asked = self.arguments
        for name in ("batch_size", "batch_bytes", "threads", "jobs"):
            if getattr(asked, name) < 1:
                raise ArgumentError(name, "1 or more", getattr(asked, name))
        if asked.dry_run and asked.save is not None:
            raise ArgumentError("save", "None in a dry run, which changes nothing", os.fspath(asked.save))
        if not asked.sleep >= 0:
            raise ArgumentError("sleep", "0 or more seconds", asked.sleep)
        if asked.run_time is not None and not (isinstance(asked.run_time, timedelta) and asked.run_time >= timedelta(0)):
            raise ArgumentError("run_time", "a timedelta of 0 or more, such as timedelta(hours=2)", asked.run_time)
        if asked.limit is not None and asked.limit < 1:
            raise ArgumentError("limit", "1 or more, or None", asked.limit)
        if asked.retries < 0:
            raise ArgumentError("retries", "0 or more", asked.retries)
        if asked.known is not None:
            self.known_texts = read_known(asked.known)
        self.rule: Rule = asked.rule
        self.tiers = sorted_tiers(asked.tiers, self.rule)
        self.locked: list[Key] = []
        now = time.time_ns() if asked.as_of is None else to_nanoseconds(asked.as_of, "as_of")
        self._now = _coerce.scalar(now, "as_of", _coerce.TIME) or 0
        self._unseen = UnseenMetrics(self.rule)
        self._total: int | None = None
        self._has_histograms = True
        self._changes = Changes(self.rule)
        """The largest changes, which a dry run finds."""
        self._peaks_of_means: set[str] = set()
        self._workers: list[Worker] = []
        self._spans = threading.Lock()
        self._after: Key | None = None
        self._is_assigned = False
        """Whether every range of keys has a worker."""
        self.idle = 0
        """How many ranges of keys in a row had nothing to read. After a few of them the ranges grow, up to 32 batches."""
        self._is_over = False
        """Whether no worker shall start another batch, as one of them failed."""

    def run(self, database: Database, names: Names) -> ReduceResult:
        """Reduce a table, up to its end or to what stops the job."""
        self._time_column = names.time_column
        stopped = more = None
        try:
            with self._worker(database, names) as worker:
                if self.arguments.jobs > 1 and not worker.session.dialect.locks_rows:
                    hint = "it has one lock for the whole file, so use threads"
                    raise ArgumentError("jobs", f"1 for {worker.session.dialect.name}", self.arguments.jobs, hint=hint)
                save = self.arguments.save
                with (
                    worker.session.dialect.secure_delete(worker.session.connection, self.arguments.secure_delete),
                    Saver(save) if save is not None else nullcontext() as self.saver,
                ):
                    self._run(worker, database, names)
                    if self.counts["skipped"] and not self.counts["bytes_read"]:
                        self._has_histograms = worker.attempt(worker.session.has_histograms)
        except PlannedEndError as end:
            more = str(end)
        except DatabaseError as error:
            stopped = str(error)
        return self._result(stopped=stopped, more=more)

    @contextmanager
    def _worker(self, database: Database, names: Names) -> Iterator[Worker]:
        """Open a worker's connection. One that is lost before the first batch is opened again, unless none was ever open."""
        with ExitStack() as opened:
            for turn in range(self.arguments.retries + 1):
                is_open = bool(self._workers)
                try:
                    with ExitStack() as stack:
                        connection, dialect = stack.enter_context(database.session())
                        is_open = True
                        session = BatchSession(connection, dialect, names, where=self.arguments.where)
                        if not self._workers:
                            session.check_rows()
                        plan = make_plan(self.rule, self.tiers, session, self._now, verify=self.arguments.verify)
                        opened.push(stack.pop_all())
                        break
                except ConnectionLostError:
                    if not is_open or turn == self.arguments.retries:
                        raise
                self.pause(backoff(turn))
                self.count_retry()
            worker = Worker(self, session, plan)
            self._workers.append(worker)
            yield worker
            with suppress(ConnectionLostError):  # all is committed by now
                opened.close()

    def _run(self, worker: Worker, database: Database, names: Names) -> None:
        """Go through the table, and then to the rows that were locked."""
        if self.arguments.progress is not None:
            self._total = worker.attempt(partial(_total, worker.session))
        if count := worker.attempt(lambda: worker.session.count_without_key(*worker.plan.touched(exactly=True))):
            self.reject(None, f"rows whose key is NULL, which no update can name: {count}", count)
        if self.arguments.jobs == 1 or self.arguments.limit is not None:  # which several workers would exceed
            worker.run()
        else:
            self._run_workers(worker, database, names)
        self._retry_locked(worker)

    def _run_workers(self, first: Worker, database: Database, names: Names) -> None:
        """Go through the table with several workers. Whatever ends one of them ends all."""
        with ExitStack() as sessions, ThreadPoolExecutor(self.arguments.jobs) as threads:
            more = [sessions.enter_context(self._worker(database, names)) for _ in range(self.arguments.jobs - 1)]
            running = [threads.submit(worker.run) for worker in (first, *more)]
            try:
                ended = wait(running, return_when=FIRST_EXCEPTION).done
            finally:
                self._is_over = any(one.done() and one.exception() for one in running) or not all(one.done() for one in running)
        for one in [*ended, *running]:
            one.result()

    def next_span(self, worker: Worker) -> Span | None:
        """Return the next range of keys that no worker has; None at the end of the table."""
        with self._spans:
            if self._is_assigned:
                return None
            rows = min(self.arguments.batch_size << max(0, min(self.idle, _MAX_IDLE) - _FEW_IDLE), I64_MAX)
            span = worker.attempt(lambda: worker.session.span(self._after, rows))
            self._after, self._is_assigned = span.end, span.end is None
            return span

    def _retry_locked(self, worker: Worker) -> None:
        """Retry the rows that others had locked, with growing pauses."""
        for turn in range(self.arguments.retries + 1):
            left = len(self.locked)
            while left > 0:
                self.pause(0.0)
                done, size = worker.attempt(partial(self._locked_batch, worker, left))
                del self.locked[:size]
                with worker.phase("compare"):
                    self.count(done)  # rows that are still locked go to the end
                left -= size
            if not self.locked:
                return
            if turn < self.arguments.retries:
                self.pause(backoff(turn))
        raise DatabaseError(f"rows that other programs kept locked: {len(self.locked)}")

    def _locked_batch(self, worker: Worker, left: int) -> tuple[Committed, int]:
        keys = self.locked[: min(self.left(), left, max(LOCKED_AT_ONCE // worker.shrink, 1))]
        return worker.locked_batch(keys), len(keys)

    # --- when to pause and stop ---

    def left(self) -> int:
        """Return how many more rows may change."""
        limit: int | None = self.arguments.limit
        return I64_MAX if limit is None else limit - self.counts["changed"]

    def check_stop(self) -> None:
        """Raise if no further batch may start."""
        super().check_stop()
        if self._is_over:
            raise StoppedError("another worker failed")
        run_time: timedelta | None = self.arguments.run_time
        if run_time is not None and self.seconds >= run_time.total_seconds():
            raise PlannedEndError(f"the run time of {duration_text(run_time // timedelta(microseconds=1) * 1000)} is over")
        if self.left() <= 0:
            raise PlannedEndError(f"the limit of {self.arguments.limit} changed rows is reached")

    # --- the result ---

    def count(self, done: Committed) -> None:
        """Count what is committed, and report it."""
        changed = [(one.row, one.reduced) for one in done.outcomes if one.reduced is not None]
        rejected = [(one.row, one.reason) for one in done.outcomes if one.reason is not None]
        kept = sum(outcome.kept for outcome in done.outcomes)
        dry_run = self.arguments.dry_run
        measured = [
            (row.key, peaks_and_means(row.blob or b""), peaks_and_means(reduced))
            for row, reduced in changed
            if dry_run or may_add_peaks(self.rule, row.blob or b"", reduced)
        ]
        with self.lock:
            for key, before, after in measured:
                self._peaks_of_means |= peaks_of_means(before, after)
                if dry_run:
                    self._changes.add(key, before, after)
            self._unseen.look_for([outcome.row.blob or b"" for outcome in done.outcomes])
            self.locked.extend(done.locked)
            if len(self.locked) > MAX_LOCKED:
                raise DatabaseError(f"other programs have locked more than {MAX_LOCKED} rows")
            for row, reason in rejected:
                self.reject(row.key, reason, text=row.blob or b"")
            for key, value in done.unreadable:
                reason = f"{self._time_column}: expected an RFC 3339 time or a date, got {shorten_repr(value)}"
                self.reject(key, reason, text=repr(value).encode())
            self.counts.update(
                skipped=done.skipped,
                untimed=done.untimed,
                unchanged=len(done.outcomes) - len(changed) - len(rejected) - kept,
                kept=kept,
                changed=len(changed),
                bytes_read=sum(len(row.blob or b"") for row, *_ in done.outcomes),
                bytes_before=sum(len(row.blob or b"") for row, _ in changed),
                bytes_after=sum(len(reduced) for _, reduced in changed),
            )
            if self.arguments.progress is not None:
                self.arguments.progress(self._result())

    def _result(self, *, stopped: str | None = None, more: str | None = None) -> ReduceResult:
        """Return the result if the job ended now."""
        counted = sum(self.counts[end] for end in ("skipped", "untimed", "unchanged", "kept", "changed"))
        return ReduceResult(
            rows=counted + self.rejected + self.known,
            known=self.known,
            stopped=stopped,
            more=more,
            locked=len(self.locked),
            total=self._total,
            phases={name: sum(worker.phases[name] for worker in self._workers) for name in PHASES},
            backend=kernels.active.BACKEND,
            dry_run=self.arguments.dry_run,
            as_of=format_time(self._now) if self.tiers else None,
            kept_peaks=tuple(sorted(self._changes.kept_peaks)),
            peaks_of_means=tuple(sorted(self._peaks_of_means)),
            kept_peak_change=self._changes.kept_peak,
            peak_change=self._changes.peak,
            mean_change=self._changes.mean,
            retries=self.retries,
            has_histograms=self._has_histograms,
            unknown_metrics=self._unseen.names(),
            **self.fields(),
        )


def _total(session: BatchSession) -> int | None:
    """Return the number of rows in scope; None if the server has no time for it."""
    try:
        return session.count()
    except TimedOutError:
        return None
