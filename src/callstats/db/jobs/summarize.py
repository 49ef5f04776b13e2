"""The summarize job: read a table once, and keep a few numbers of each call, by group."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, column

from callstats import kernels
from callstats._timestamps import stored_time_ns
from callstats._types import I64_MAX
from callstats.call import RUNNING, Call, Key, Value, duration_of
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import Names, TableSession, optional
from callstats.db.results import StoppedError, TableSummary
from callstats.errors import ArgumentError, CallstatsError, DatabaseError
from callstats.stats.call import CallUsage
from callstats.stats.calls import CallScalars, CallsGroup

SKIPPED = object()
"""Stands for the group of a call that is not asked for."""


class SummarizeJob(Job):
    """The job of `CallTable.summarize`, and what it has read so far."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.by: str | None = self.arguments.by
        self.since: int | None = self.arguments.since
        self.groups: dict[Value, CallScalars] = {}
        self.heaviest: dict[Value, list[tuple[tuple[int, int], int, Key]]] = {}
        """A heap for each group: peak memory and duration of a call, its negative number, its key."""
        self.calls = self.untimed = self.unfinished = self.bytes_read = 0
        self.stopped: str | None = None

    def run(self, database: Database, names: Names) -> TableSummary:
        """Read a table, up to its end or to what stops the job."""
        heaviest: list[Call] = []
        if self.since is not None and names.time_column is None:
            raise ArgumentError("since", "None without a time_column", self.since)
        try:
            with database.session() as (connection, dialect):
                session = TableSession(connection, dialect, names, where=self.arguments.where)
                try:
                    self._read(session)
                except StoppedError as error:
                    self.stopped = str(error)
                heaviest = self._read_heaviest(session)
        except DatabaseError as error:
            self.stopped = str(error)
        return self._result(heaviest)

    def _read(self, session: TableSession) -> None:
        columns = session.present(self.by)
        self.by, _, came_at, *_ = columns
        self.has_times = came_at is not None
        if self.since is not None and came_at is None:
            hint = f"{session.names.table!r} has no column {session.names.time_column!r}"
            raise ArgumentError("since", "None for a table without times", self.since, hint=hint)
        recent = None if self.since is None or self.since <= 0 else recent_calls(session, str(came_at), self.since)
        condition = self._condition(recent)
        self.reject_nulls(session.count_without_key(*optional(condition)))
        rows = session.scan(columns, condition, each_page=self.check_stop)
        for key, blob, kind, name, status, created_at, started_at, completed_at in rows:
            time = stored_time_ns(created_at)
            group = self._group_of(name, time)
            if group is SKIPPED:
                continue
            if self.since is not None and (time is None or time < self.since):
                self.untimed += time is None
                continue
            if status == RUNNING:
                self.unfinished += 1
                continue
            self.bytes_read += len(blob or b"")
            if (fault := session.kind_fault(blob, kind)) is not None:
                self.reject(key, fault)
                continue
            scalars = self.groups.get(group) or CallScalars()
            try:
                usage = scalars.add(blob, status, time, duration_of(started_at, completed_at))
            except CallstatsError as error:
                self.reject(key, str(error))
            else:
                self.groups[group] = scalars
                self._keep_heaviest(key, group, usage)

    def _condition(self, recent: ColumnElement[bool] | None) -> ColumnElement[bool] | None:
        """Return the condition of rows to read."""
        return recent

    def _group_of(self, name: Value, time: int | None) -> Any:  # noqa: ARG002 - a comparison needs it
        """Return the group of a call, or SKIPPED."""
        return name

    def _keep_heaviest(self, key: Key, group: Value, usage: CallUsage) -> None:
        """Keep a call if it is one of the heaviest so far: of equal peaks the longest, of equal durations the first."""
        if not usage.rows or self.arguments.top < 1:
            return
        self.calls += 1
        weight = (0, 0) if usage.peak_memory is None else (usage.peak_memory, usage.duration_ns or 0)
        heap = self.heaviest.setdefault(group, [])
        push = heapq.heappush if len(heap) < self.arguments.top else heapq.heappushpop
        push(heap, (weight, -self.calls, key))

    def _read_heaviest(self, session: TableSession) -> list[Call]:
        """Read the heaviest call of each group, then the second of each, and so on."""
        ranks: list[tuple[int, int, int, int, Key]] = []
        for heap in self.heaviest.values():
            ordered = sorted(heap, key=lambda entry: entry[:2], reverse=True)
            ranks += [(rank, -peak, -span, -number, key) for rank, ((peak, span), number, key) in enumerate(ordered)]
        keys = [key for *_, key in sorted(ranks, key=lambda entry: entry[:4])[: self.arguments.top]]
        found = [call for key in keys for call in session.calls(by=self.by, key=key)]
        return [call for call in found if call.series is not None]

    def _result(self, heaviest: list[Call]) -> TableSummary:
        groups = []
        for name in sorted(self.groups, key=lambda name: (name is None, str(name))):
            scalars = self.groups[name]
            summary = scalars.summary(risk=self.arguments.risk, step=self.arguments.step)
            known = scalars.samples()
            groups.append(CallsGroup(name=name, summary=summary, peaks=known.memory, durations=known.duration_ns))
        calls = sum(group.summary.calls for group in groups)
        return TableSummary(
            rows=calls + self.untimed + self.unfinished + self.rejected,
            stopped=self.stopped,
            by=self.by,
            groups=tuple(groups),
            heaviest=tuple(heaviest),
            calls=calls,
            untimed=self.untimed,
            unfinished=self.unfinished,
            bytes_read=self.bytes_read,
            backend=kernels.active.BACKEND,
            **self.fields(),
        )


def recent_calls(session: TableSession, time_column: str, since: int) -> ColumnElement[bool]:
    """Return a condition that all calls since then meet, so that the database need not read older ones."""
    # A day earlier, since text is compared as it is, whatever its offset from UTC.
    day = datetime.fromtimestamp(min(since, I64_MAX) // 10**9, UTC) - timedelta(days=1)
    with session.transaction(write=False):
        return session.dialect.not_before(session.connection, column(time_column), day)
