"""Questions to a table of calls: one pass over it, and scalars of each call kept by group."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from callstats import kernels
from callstats._types import FIRST_TIME, I64_MAX
from callstats.db.results import FIRST_REJECTS, Key, Reject
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError, DatabaseError
from callstats.stats.calls import CallScalars, CallsSummary
from callstats.stats.rightsize import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.sql.elements import ColumnElement

    from callstats.db.query import CallTable

FN_COLUMNS = {
    "by": "fn_id",
    "status_column": "status",
    "time_column": "created_at",
    "start_column": "started_at",
    "end_column": "completed_at",
}
"""The columns of Fn's calls. One of these names that a table lacks is done without; any other must be there."""

PAGE_ROWS = 1_000

GroupKey: TypeAlias = "Key | datetime | None"


class Group(NamedTuple):
    """The calls with one value in the column that they are grouped by.

    Attributes
    ----------
    key : int, str, float, bytes, datetime or None
        That value.
    summary : CallsSummary
    """

    key: GroupKey
    summary: CallsSummary


@dataclass(frozen=True, kw_only=True)
class TableSummary:
    """What `summarize_table` found.

    Attributes
    ----------
    by : str or None
        The column that calls are grouped by; None when they aren't.
    groups : tuple of Group
        In the order of their keys as text, that of NULL last.
    calls : int
        Calls in all groups.
    refused : int
        Rows left out since their cell is no stored histogram, or their key is NULL.
    untimed : int
        Rows left out since the time that `since` asks for can't be read.
    bytes_read : int
        Bytes of all cells that were read.
    seconds : float
        From the start of the job.
    backend : str
        The kernels that ran: ``"cython"`` or ``"python"``.
    stopped : str or None
        Why the job ended before the last row; None when it didn't.
    rejects : tuple of Reject
        The first 100 refused rows.
    """

    by: str | None = None
    groups: tuple[Group, ...] = ()
    calls: int = 0
    refused: int = 0
    untimed: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    backend: str = ""
    stopped: str | None = None
    rejects: tuple[Reject, ...] = ()


def summarize_table(
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
    on_reject: Callable[[Reject], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TableSummary:
    """What the stored calls of a table say, group by group, in one pass that changes nothing.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    by : str or None
        The column to group by; None for one group of all.
    status_column, time_column, start_column, end_column : str or None
        How a call ended; when it came; when it began to run and when it was over. None, or a name of Fn's that the table lacks,
        is done without. Times are ISO 8601 text, in UTC unless they say otherwise, the database's own, or a number of seconds,
        milliseconds, microseconds or nanoseconds since 1970, whichever puts it between 1973 and 5138.
    where : str, optional
        An SQL condition that rows must meet, in the database's own SQL.
    since : int, optional
        Only calls that came at that time or later, in nanoseconds since the epoch.
    risk, step
        As for `summarize_calls`.
    on_reject : callable, optional
        Called with the `Reject` of each refused row.
    stop : callable, optional
        Asked before each page; True ends the job there.

    Returns
    -------
    TableSummary
        Also when the job had to stop early: then `stopped` says why.

    Raises
    ------
    CallstatsError
        When the arguments don't fit the database.
    ImportError
        When SQLAlchemy is missing.

    Notes
    -----
    Rows are read in pages in the order of the keys, each in a transaction of its own. Of each call stays in memory what the
    percentiles need: 8 bytes for each scalar.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> from callstats.db import add_calls, init_table
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
    >>> _ = add_calls(db, [{"id": "1", "fn_id": "resize", "stats": minute.to_db()}])
    >>> [group] = summarize_table(db).groups
    >>> group.key, group.summary.calls, group.summary.memory.max
    ('resize', 1, 59)
    """
    require_sqlalchemy("summarize_table")
    tally = Tally(on_reject)
    columns = table, key, column
    asked = {
        "by": by,
        "status_column": status_column,
        "time_column": time_column,
        "start_column": start_column,
        "end_column": end_column,
    }
    take_in(tally, url_or_engine, columns, asked, where=where, since=since, stop=stop)
    return tally.report(risk, step)


def take_in(
    tally: Tally,
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    columns: tuple[str, str, str],
    asked: dict[str, str | None],
    *,
    where: str | None,
    since: int | None,
    stop: Callable[[], bool] | None,
) -> None:
    """Take in every row of a table."""
    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    if since is not None and asked["time_column"] is None:
        raise CallstatsError("since needs a time_column, got None")
    table, key, column = columns
    try:
        with connected(url_or_engine) as (connection, dialect):
            calls = CallTable(connection, dialect, name=table, key=key, column_name=column, where=where)
            found = present_columns(calls, table, asked)
            if since is not None and found["time_column"] is None:
                raise CallstatsError(f"since needs a column with times: table {table!r} has no column {asked['time_column']!r}")
            tally.by = found["by"]
            _read(calls, found, since, tally, stop)
            tally.end(calls, found)
    except DatabaseError as error:
        tally.stopped = str(error)


def present_columns(calls: CallTable, table: str, asked: dict[str, str | None]) -> dict[str, str | None]:
    """The columns that there are of those asked for."""
    with calls.transaction(write=False):
        has = calls.dialect.columns(calls.connection, table)
    found: dict[str, str | None] = {}
    for what, name in asked.items():
        there = name is not None and any(calls.dialect.same_name(name, other) for other in has)
        if name is not None and not there and name != FN_COLUMNS[what]:
            raise CallstatsError(f"table {table!r} has no column {name!r}: it has {', '.join(map(repr, has))}")
        found[what] = name if there else None
    return found


class Tally:
    """The report in the making."""

    def __init__(self, on_reject: Callable[[Reject], object] | None) -> None:
        self.by: str | None = None
        self.on_reject = on_reject
        self.groups: dict[GroupKey, CallScalars] = {}
        self.rejects: list[Reject] = []
        self.refused = self.untimed = self.bytes_read = 0
        self.stopped: str | None = None
        self.began = time.perf_counter()

    def took(self, key: Key, group: GroupKey, scalars: CallScalars) -> None:
        """Hear of a call that its group has just taken in."""

    def end(self, calls: CallTable, found: dict[str, str | None]) -> None:
        """Ask the table for more, once every row is in."""

    def reject(self, reject: Reject, rows: int = 1) -> None:
        self.refused += rows
        if len(self.rejects) < FIRST_REJECTS:
            self.rejects.append(reject)
        if self.on_reject is not None:
            self.on_reject(reject)

    def report(self, risk: float | None, step: int) -> TableSummary:
        keys = sorted(self.groups, key=lambda key: (key is None, str(key)))
        groups = tuple(Group(key, self.groups[key].summary(risk=risk, step=step)) for key in keys)
        return TableSummary(
            by=self.by,
            groups=groups,
            calls=sum(group.summary.calls for group in groups),
            refused=self.refused,
            untimed=self.untimed,
            bytes_read=self.bytes_read,
            seconds=time.perf_counter() - self.began,
            backend=kernels.active.BACKEND,
            stopped=self.stopped,
            rejects=tuple(self.rejects),
        )


def _read(
    calls: CallTable, found: dict[str, str | None], since: int | None, tally: Tally, stop: Callable[[], bool] | None
) -> None:
    """Take in every row."""
    from sqlalchemy import column, null

    what: list[ColumnElement[Any]] = [null() if name is None else column(name) for name in found.values()]
    recent = None if since is None or since <= 0 else _recent(calls, found["time_column"], since)
    kinds = calls.dialect.cell_kinds
    if without := calls.without_key(recent):
        tally.reject(Reject(None, f"rows whose key is NULL, which no page can go on from: {without}"), without)
    for key, cell, kind, group, status, came, began, over in _rows(calls, what, recent, tally, stop):
        when = time_of(came)
        if since is not None and (when is None or when < since):
            tally.untimed += when is None
            continue
        if cell is not None:
            tally.bytes_read += len(cell)
            if kind not in kinds:
                tally.reject(Reject(key, f"expected text or bytes, got a cell of type {kind}"))
                continue
        scalars = tally.groups.get(group) or CallScalars()
        try:
            scalars.add_text(cell, status, when, _between(began, over))
        except CallstatsError as error:
            tally.reject(Reject(key, str(error)))
        else:
            tally.groups[group] = scalars
            tally.took(key, group, scalars)


def _rows(
    calls: CallTable,
    what: list[ColumnElement[Any]],
    condition: ColumnElement[bool] | None,
    tally: Tally,
    stop: Callable[[], bool] | None,
) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of their keys, one at a time: a cell is soonest read while it is in the processor's cache."""
    after: Key | None = None
    while True:
        if stop is not None and stop():
            tally.stopped = "asked to stop"
            return
        rows = 0
        page = calls.following(after, what, condition, PAGE_ROWS)
        with calls.transaction(write=False), calls.connection.execute(page) as found:
            for row in found:
                rows += 1
                after = row[0]
                yield row
        if rows < PAGE_ROWS:
            return


def _recent(calls: CallTable, name: str | None, since: int) -> ColumnElement[bool]:
    """A condition that all calls since then meet: the database then needn't read older ones."""
    from sqlalchemy import column

    # A day less, since text is compared as it stands, with whatever offset from UTC it has.
    day = datetime.fromtimestamp(min(since, I64_MAX) // 10**9, UTC) - timedelta(days=1)
    with calls.transaction(write=False):
        return calls.dialect.not_before(calls.connection, calls.table.name, column(name or ""), day)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCALES = ((10**9, 10**11), (10**6, 10**14), (10**3, 10**17), (1, 2**63))
"""Nanoseconds in a unit, and below how many of it a number is taken for one: 10**11 s lie in 5138, so many ms in 1973."""


def time_of(value: object) -> int | None:
    """Nanoseconds since the epoch of a time as a database gives it, to the microsecond; None for what is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
        ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
        return ns if FIRST_TIME <= ns <= I64_MAX else None
    if isinstance(value, (int, float)) and 0 < value < 2**63:
        scale = next(scale for scale, most in _SCALES if value < most)
        return ns if (ns := int(value * scale)) <= I64_MAX else None
    return None


def _between(began: object, over: object) -> int | None:
    """How long a call ran, by the clock of its table."""
    if began is None or over is None:
        return None
    start, end = time_of(began), time_of(over)
    return None if start is None or end is None or end < start else min(end - start, I64_MAX)
