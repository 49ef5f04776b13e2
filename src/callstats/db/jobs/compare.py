"""The compare job: read two groups of calls, and tell how they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, column

from callstats._timestamps import format_time
from callstats.call import Value
from callstats.db.engine import Database
from callstats.db.jobs.summarize import IN_BOTH, SKIPPED, CallsJob
from callstats.db.query import Names, check_time, has_tags, is_named, no_times
from callstats.db.results import TableComparison
from callstats.errors import ArgumentError
from callstats.stats.calls import CallScalars
from callstats.stats.compare import compare_scalars

if TYPE_CHECKING:
    from callstats.db.jobs.base import Session


class CompareJob(CallsJob):
    """The job of `CallTable.compare`. Its groups are 0 and 1."""

    def run(self, database: Database, names: Names) -> TableComparison:
        """Read both groups, up to the end of the table or to what stops the job, and compare them."""
        a, b, at = self.arguments.a, self.arguments.b, self.arguments.at
        if (b is None) == (at is None):
            raise ArgumentError("at", "given exactly where b is not", at, hint="give b or at")
        if b is not None and isinstance(a, Mapping) != isinstance(b, Mapping):
            raise ArgumentError("b", "tags as a is, or a name as a is", b)
        if b is not None and _label(a) == _label(b):
            raise ArgumentError("b", "other calls than a", _label(b))
        if at is not None and names.time_column is None:
            raise ArgumentError("at", "None without a time_column", at)
        if at is not None:
            check_time("at", at)
        self.by = "tags" if isinstance(a, Mapping) else names.group_column
        if self.by is None:
            raise ArgumentError("a", "tags without a group_column", a)
        stopped = self.read(database, names)
        first, second = (self.groups.get(side) or CallScalars() for side in (0, 1))
        labels = _label(a), _label(b)
        if b is None:
            labels = f"{_label(a)} before {format_time(at, digits=3)}", f"{_label(a)} from {format_time(at, digits=3)}"
        return TableComparison(
            stopped=stopped,
            names=labels,
            group_calls=(first.calls, second.calls),
            page_cache=(first.page_cache, second.page_cache),
            kernel_peaks=(first.kernel_peaks, second.kernel_peaks),
            differences=compare_scalars(first, second),
            **self.fields(),
        )

    def conditions(self, session: Session) -> Iterable[ColumnElement[bool]]:
        a, b, at = self.arguments.a, self.arguments.b, self.arguments.at
        if self.by is None:
            raise ArgumentError("a", "tags for a table without names", a)
        if at is not None and not self.has_times:
            raise no_times("at", at, session.names)
        if isinstance(a, Mapping):
            return [column(self.by).is_not(None)]
        return [is_named(self.by, *(name for name in (a, b) if name is not None))]

    def group_of(self, name: Value, time: int | None) -> Any:
        a, b, at = self.arguments.a, self.arguments.b, self.arguments.at  # compared again, since the database may ignore case
        if b is None:
            if not _matches(a, name):
                return SKIPPED
            if time is None:
                self.counts["untimed"] += 1
                return SKIPPED
            return int(time >= at)
        sides = [side for side, wanted in enumerate((a, b)) if _matches(wanted, name)]
        return sides[0] if len(sides) == 1 else IN_BOTH if sides else SKIPPED


def _matches(wanted: Value | Mapping[str, str], name: Value) -> bool:
    if isinstance(wanted, Mapping):
        return has_tags(name, wanted)
    return str(name) == str(wanted)


def _label(wanted: Value | Mapping[str, str]) -> str:
    if isinstance(wanted, Mapping):
        return " ".join(f"{name}={value}" for name, value in wanted.items())
    return str(wanted)
