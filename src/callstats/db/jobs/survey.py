"""A table of calls as a picture needs it: groups with the scalars of each call, and the heaviest calls themselves."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from callstats._types import AnyArray
from callstats.db.calls import StoredCall, detailed_call
from callstats.db.jobs.summarize import FN_COLUMNS, GroupKey, TableSummary, Tally, take_in
from callstats.db.results import Key, Reject
from callstats.db.urls import require_sqlalchemy
from callstats.stats.call import CallUsage
from callstats.stats.calls import CallsSummary
from callstats.stats.rightsize import MIB

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from callstats.db.query import CallTable


class GroupCalls(NamedTuple):
    """The calls with one value in the column that they are grouped by.

    Attributes
    ----------
    key : int, str, float, bytes, datetime or None
        That value.
    summary : CallsSummary
    peaks : (n,) uint64
        The most memory of each call that has any, in bytes.
    durations : (m,) int64
        Nanoseconds of each call that has a length.
    """

    key: GroupKey
    summary: CallsSummary
    peaks: AnyArray
    durations: AnyArray


class Survey(NamedTuple):
    """What `survey_table` found.

    Attributes
    ----------
    summary : TableSummary
    groups : tuple of GroupCalls
    heaviest : tuple of StoredCall
        Those with the greatest peak of memory of each group, then the next of each, and so on.
    """

    summary: TableSummary
    groups: tuple[GroupCalls, ...]
    heaviest: tuple[StoredCall, ...]


def survey_table(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    by: str | None = FN_COLUMNS["by"],
    status_column: str | None = FN_COLUMNS["status_column"],
    time_column: str | None = FN_COLUMNS["time_column"],
    start_column: str | None = FN_COLUMNS["start_column"],
    end_column: str | None = FN_COLUMNS["end_column"],
    where: str | None = None,
    since: int | None = None,
    risk: float | None = None,
    step: int = 64 * MIB,
    top: int = 50,
    on_reject: Callable[[Reject], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Survey:
    """What `summarize_table` tells, with the scalars of all calls and the series of the heaviest ones.

    Parameters
    ----------
    url_or_engine, table, key, column, by, status_column, time_column, start_column, end_column
        As for `summarize_table`.
    where, since, risk, step, on_reject, stop
        As for `summarize_table`.
    top : int
        How many of the heaviest calls to read: by turns of each group, so that one group does not take all places.

    Returns
    -------
    Survey

    Notes
    -----
    One pass keeps scalars and keys; the heaviest are read once it is done.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> from callstats import StatSeries
    >>> from callstats.db import add_calls, init_table
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
    >>> _ = add_calls(db, [{"id": "1", "fn_id": "resize", "stats": minute.to_db()}])
    >>> found = survey_table(db, top=1)
    >>> found.groups[0].peaks.tolist(), found.heaviest[0].key
    ([59], '1')
    """
    require_sqlalchemy("survey_table")
    tally = _Tally(on_reject, top)
    asked = {
        "by": by,
        "status_column": status_column,
        "time_column": time_column,
        "start_column": start_column,
        "end_column": end_column,
    }
    take_in(tally, url_or_engine, (table, key, column), asked, where=where, since=since, stop=stop)
    summary = tally.report(risk, step)
    groups = []
    for group in summary.groups:
        scalars = tally.groups[group.key]
        groups.append(GroupCalls(group.key, group.summary, scalars.known_peaks(), scalars.known_durations()))
    return Survey(summary, tuple(groups), tuple(tally.heaviest))


class _Tally(Tally):
    """Keeps the keys of the heaviest calls of each group."""

    def __init__(self, on_reject: Callable[[Reject], object] | None, top: int) -> None:
        super().__init__(on_reject)
        self.top = top
        self.heaviest: list[StoredCall] = []
        self._heaps: dict[GroupKey, list[tuple[tuple[int, int], int, Key]]] = {}
        self._calls = 0

    def took(self, key: Key, group: GroupKey, usage: CallUsage) -> None:
        """Keep the call if it is one of the heaviest so far: of equal peaks the longest, of equals the first."""
        if not usage.rows or self.top < 1:
            return
        self._calls += 1
        weight = (0, 0) if usage.peak_memory is None else (usage.peak_memory, usage.duration_ns or 0)
        heap = self._heaps.setdefault(group, [])
        push = heapq.heappush if len(heap) < self.top else heapq.heappushpop
        push(heap, (weight, -self._calls, key))

    def end(self, calls: CallTable, found: dict[str, str | None]) -> None:
        """Read the heaviest calls, by turns of each group."""
        ranks: list[tuple[Any, ...]] = []
        for heap in self._heaps.values():
            ordered = sorted(heap, key=lambda entry: entry[:2], reverse=True)
            ranks += [(rank, -peak, -span, -number, key) for rank, ((peak, span), number, key) in enumerate(ordered)]
        for *_, key in sorted(ranks, key=lambda entry: entry[:4])[: self.top]:
            call = detailed_call(calls, found, key)
            if call is not None and call.series is not None:
                self.heaviest.append(call)
