"""The summarize job: read a table once, and keep a few numbers of each call, by group."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
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


class CallsJob(Job):
    """A job that reads a table once, and keeps a few numbers of each call, by group."""

    by: str | None

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.since: int | None = self.arguments.since
        self.groups: dict[Any, CallScalars] = {}
        self.counts.update(untimed=0, unfinished=0, bytes_read=0)
        self.has_times = False

    def read(self, database: Database, names: Names) -> str | None:
        """Read a table, up to its end or to what stops the job. Return what that is."""
        if self.since is not None and names.time_column is None:
            raise ArgumentError("since", "None without a time_column", self.since)
        stopped = None
        try:
            with database.session() as (connection, dialect):
                session = TableSession(connection, dialect, names, where=self.arguments.where)
                try:
                    self._read(session)
                except StoppedError as error:
                    stopped = str(error)
                self.end(session)
        except DatabaseError as error:
            stopped = str(error)
        return stopped

    def _read(self, session: TableSession) -> None:
        columns = session.present(self.by)
        self.by, _, came_at, *_ = columns
        self.has_times = came_at is not None
        if self.since is not None and came_at is None:
            hint = f"{session.names.table!r} has no column {session.names.time_column!r}"
            raise ArgumentError("since", "None for a table without times", self.since, hint=hint)
        recent = None if self.since is None or self.since <= 0 else recent_calls(session, str(came_at), self.since)
        conditions = [*optional(recent), *self.conditions()]
        self.reject_nulls(session.count_without_key(*conditions))
        rows = session.scan(columns, *conditions, each_page=self.check_stop)
        for key, blob, kind, name, status, created_at, started_at, completed_at in rows:
            time = stored_time_ns(created_at)
            group = self.group_of(name, time)
            if group is SKIPPED:
                continue
            if self.since is not None and (time is None or time < self.since):
                self.counts["untimed"] += time is None
                continue
            if status == RUNNING:
                self.counts["unfinished"] += 1
                continue
            self.counts["bytes_read"] += len(blob or b"")
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
                self.see(key, group, usage)

    def conditions(self) -> Iterable[ColumnElement[bool]]:
        """Return further conditions of rows to read."""
        return ()

    def group_of(self, name: Value, time: int | None) -> Any:  # noqa: ARG002 - a comparison needs it
        """Return the group of a call, or SKIPPED."""
        return name

    def see(self, key: Key, group: Any, usage: CallUsage) -> None:
        """Take note of a call."""

    def end(self, session: TableSession) -> None:
        """Read what else is needed."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of the result that are known here."""
        calls = sum(scalars.calls for scalars in self.groups.values())
        return {**super().fields(), "rows": calls + self.counts["untimed"] + self.counts["unfinished"] + self.rejected}


class SummarizeJob(CallsJob):
    """The job of `CallTable.summarize`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.by = self.arguments.by
        self.calls = 0
        self.heaps: dict[Value, list[tuple[tuple[int, int], int, Key]]] = {}
        """Of each group: peak memory and duration of a call, its negative number, its key."""
        self.heaviest: list[Call] = []

    def run(self, database: Database, names: Names) -> TableSummary:
        """Read a table, and summarize each group."""
        stopped = self.read(database, names)
        groups = []
        for name in sorted(self.groups, key=lambda name: (name is None, str(name))):
            scalars = self.groups[name]
            summary = scalars.summary(risk=self.arguments.risk, step=self.arguments.step)
            groups.append(CallsGroup(name=name, summary=summary, calls=scalars.columns()))
        return TableSummary(
            stopped=stopped,
            by=self.by,
            groups=tuple(groups),
            heaviest=tuple(self.heaviest),
            calls=sum(group.summary.calls for group in groups),
            backend=kernels.active.BACKEND,
            **self.fields(),
        )

    def see(self, key: Key, group: Value, usage: CallUsage) -> None:
        """Keep a call if it is one of the heaviest so far: of equal peaks the longest, of equal durations the first."""
        if not usage.rows or self.arguments.top < 1:
            return
        self.calls += 1
        weight = (0, 0) if usage.peak_memory is None else (usage.peak_memory, usage.duration_ns or 0)
        heap = self.heaps.setdefault(group, [])
        push = heapq.heappush if len(heap) < self.arguments.top else heapq.heappushpop
        push(heap, (weight, -self.calls, key))

    def end(self, session: TableSession) -> None:
        """Read the heaviest call of each group, then the second of each, and so on."""
        ranks: list[tuple[int, int, int, int, Key]] = []
        for heap in self.heaps.values():
            ordered = sorted(heap, key=lambda entry: entry[:2], reverse=True)
            ranks += [(rank, -peak, -span, -number, key) for rank, ((peak, span), number, key) in enumerate(ordered)]
        keys = [key for *_, key in sorted(ranks, key=lambda entry: entry[:4])[: self.arguments.top]]
        found = [call for key in keys for call in session.calls(by=self.by, key=key)]
        self.heaviest = [call for call in found if call.series is not None]


def recent_calls(session: TableSession, time_column: str, since: int) -> ColumnElement[bool]:
    """Return a condition that all calls since then meet, so that the database need not read older ones."""
    # A day earlier, since text is compared as it is, whatever its offset from UTC.
    day = datetime.fromtimestamp(min(since, I64_MAX) // 10**9, UTC) - timedelta(days=1)
    with session.transaction(write=False):
        return session.dialect.not_before(session.connection, column(time_column), day)
