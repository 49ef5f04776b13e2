"""The summarize job: read a table once, and keep a few numbers of each call, by group."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, column

from callstats import kernels
from callstats._timestamps import stored_time_ns
from callstats.call import RUNNING, Call, Value, duration_of, is_lost
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import CALL_COLUMNS, Names, TableSession, check_tags, has_tags, is_named, no_names, optional, recent_calls
from callstats.db.results import StoppedError, TableSummary
from callstats.errors import ArgumentError, CallstatsError, DatabaseError
from callstats.stats.call import CallUsage
from callstats.stats.calls import STATUSES, CallScalars, CallsGroup

if TYPE_CHECKING:
    from callstats.db.jobs.base import Calls, Session

Entry: TypeAlias = "tuple[tuple[int, int], int, Any]"
"""The peak memory and duration of a call, its negative number, and by what a session finds it again."""

_MAX_STATUSES = 100
"""The most unknown statuses that are counted apart: a column may hold another text in each row."""

SKIPPED = object()
"""Stands for the group of a call that is not asked for."""

IN_BOTH = object()
"""Stands for the group of a call that belongs to both groups of a comparison, and so counts in neither."""


class CallsJob(Job):
    """A job that reads a table once, and keeps a few numbers of each call, by group."""

    by: str | None

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.since: int | None = self.arguments.since
        self.tags: Mapping[str, str] | None = arguments.get("tags")
        self.groups: dict[Any, CallScalars] = {}
        self.counts.update(untimed=0, unfinished=0, lost=0, bytes_read=0)
        self.unknown_statuses: Counter[str] = Counter()
        self.has_times = False
        self.missing: tuple[str, ...] = ()

    def read(self, database: Calls, names: Names) -> str | None:
        """Read a table, up to its end or to what stops the job. Return what that is."""
        if self.since is not None and names.time_column is None:
            raise ArgumentError("since", "None without a time_column", self.since)
        stopped = None
        try:
            with database.table(names, where=self.arguments.where) as session:
                try:
                    self._read(session)
                except StoppedError as error:
                    stopped = str(error)
                self.end(session)
        except DatabaseError as error:
            stopped = str(error)
        return stopped

    def _read(self, session: Session) -> None:
        wanted = (self.by, *(getattr(session.names, parameter) for parameter in CALL_COLUMNS.values()))
        columns = session.present(self.by)
        recorder: list[str | None] = [None, None]
        if isinstance(session, TableSession):
            recorder = [name if session.dialect.has(session.columns, name) else None for name in ("host", "pid")]
        if isinstance(session, TableSession) or not session.is_bare:
            self.missing = tuple(name for name, found in zip(wanted, columns, strict=True) if name and not found)
        self.by, _, came_at, *_ = columns
        self.has_times = came_at is not None
        recent = None if self.since is None else recent_calls(session, came_at, self.since)
        conditions = [*optional(recent), *self.conditions(session)]
        if self.tags:
            check_tags(session, self.tags)
            conditions.append(column("tags").is_not(None))
        self.reject_nulls(session.count_without_key(*conditions))
        for row in session.scan([*columns, *recorder, *["tags"] * bool(self.tags)], *conditions, each_page=self.check_stop):
            key, blob, kind, name, status, created_at, started_at, completed_at, host, pid, *tags = row
            if tags and not has_tags(tags[0], self.tags):
                continue
            time = stored_time_ns(created_at)
            group = self.group_of(name, time)
            if group is SKIPPED:
                continue
            if self.since is not None and (time is None or time < self.since):
                self.counts["untimed"] += time is None
                continue
            if status == RUNNING:
                self.counts["unfinished"] += 1
                self.counts["lost"] += is_lost(host, pid, created_at)
                continue
            if group is IN_BOTH:
                self.counts["in_both"] += 1
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
                if status not in STATUSES:
                    word = str(status)
                    is_new = word not in self.unknown_statuses and len(self.unknown_statuses) >= _MAX_STATUSES
                    self.unknown_statuses["others" if is_new else word] += 1
                self.see(session.kept(row[:8]), group, usage)

    def conditions(self, session: Session) -> Iterable[ColumnElement[bool]]:  # noqa: ARG002 - a comparison needs it
        """Return further conditions of rows to read."""
        return ()

    def group_of(self, name: Value, time: int | None) -> Any:  # noqa: ARG002 - a comparison needs it
        """Return the group of a call, or SKIPPED, or IN_BOTH."""
        return name

    def see(self, row: Any, group: Any, usage: CallUsage) -> None:
        """Take note of a call."""

    def end(self, session: Session) -> None:
        """Read what else is needed."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of the result that are known here."""
        calls = sum(scalars.calls for scalars in self.groups.values())
        rows = calls + sum(self.counts[out] for out in ("untimed", "unfinished", "in_both")) + self.rejected
        return {
            **super().fields(),
            "missing_columns": self.missing,
            "rows": rows,
            "unknown_statuses": dict(self.unknown_statuses.most_common()),
        }


class SummarizeJob(CallsJob):
    """The job of `CallTable.summarize`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.by = self.arguments.by
        self.wanted: str | None = None
        self.calls = 0
        self.kept = 0
        self.heaps: dict[Value, list[Entry]] = {}
        self.heaviest: list[Call] = []

    def run(self, database: Calls, names: Names) -> TableSummary:
        """Read a table, and summarize each group."""
        stopped = self.read(database, names)
        groups = []
        for name in sorted(self.groups, key=lambda name: (name is None, str(name))):
            scalars = self.groups[name]
            summary = scalars.summary(risk=self.arguments.risk, step=self.arguments.step)
            groups.append(CallsGroup(name=name, summary=summary, calls=scalars.columns()))
        return TableSummary(
            stopped=stopped,
            is_file=not isinstance(database, Database),
            by=self.by,
            groups=tuple(groups),
            heaviest=tuple(self.heaviest),
            calls=sum(group.summary.calls for group in groups),
            backend=kernels.active.BACKEND,
            **self.fields(),
        )

    def conditions(self, session: Session) -> Iterable[ColumnElement[bool]]:
        wanted = self.arguments.name
        if wanted is None:
            return ()
        if self.by is None:
            raise no_names(wanted)
        if isinstance(session, TableSession):
            return [is_named(self.by, wanted)]
        self.wanted = wanted  # of a file, each row is looked at
        return ()

    def group_of(self, name: Value, time: int | None) -> Any:  # noqa: ARG002 - a comparison needs it
        return name if self.wanted in (None, str(name)) else SKIPPED

    def see(self, row: Any, group: Value, usage: CallUsage) -> None:
        """Keep a call if it is one of the heaviest so far: of equal peaks the longest, of equal durations the first."""
        if not usage.rows or self.arguments.top < 1:
            return
        self.calls += 1
        weight = (0, 0) if usage.peak_memory is None else (usage.peak_memory, usage.duration_ns or 0)
        heap = self.heaps.setdefault(group, [])
        if len(heap) == self.arguments.top:
            heapq.heappushpop(heap, (weight, -self.calls, row))
            return
        heapq.heappush(heap, (weight, -self.calls, row))
        self.kept += 1
        if self.kept >= 2 * self.arguments.top:  # rows of a file are in memory
            entries, self.heaps = self.first(), {}
            for name, entry in entries:
                self.heaps.setdefault(name, []).append(entry)
            for heap in self.heaps.values():
                heapq.heapify(heap)
            self.kept = self.arguments.top

    def end(self, session: Session) -> None:
        """Read the heaviest call of each group, then the second of each, and so on."""
        found = [call for _, (*_, row) in self.first() for call in session.calls(by=self.by, key=row)]
        self.heaviest = [call for call in found if call.series is not None]

    def first(self) -> list[tuple[Value, Entry]]:
        """Return the heaviest call of each group, then the second of each, and so on, up to their number."""
        ranks: list[tuple[int, Value, Entry]] = []
        for group, heap in self.heaps.items():
            ranks += [(rank, group, entry) for rank, entry in enumerate(sorted(heap, key=lambda entry: entry[:2], reverse=True))]
        ranks.sort(key=lambda each: (each[0], *(-number for number in each[2][0]), -each[2][1]))
        return [(group, entry) for _, group, entry in ranks[: self.arguments.top]]
