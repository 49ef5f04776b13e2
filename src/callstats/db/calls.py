"""One stored call with all that its table tells of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callstats.db.jobs.summarize import FN_COLUMNS, present_columns
from callstats.db.results import Key
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from callstats.db.query import CallTable


@dataclass(frozen=True, kw_only=True)
class StoredCall:
    """One call of a table.

    Attributes
    ----------
    key : int, str, float or bytes
    group : object
        What the table has under the column asked for, as its driver gives it; None where it has no such column. So with:
    status : object
    created : object
    started : object
    completed : object
    error : object
    series : StatSeries or None
        None when the cell is no stored histogram.
    fault : str or None
        Why it is none.
    """

    key: Key
    group: Any = None
    status: Any = None
    created: Any = None
    started: Any = None
    completed: Any = None
    error: Any = None
    series: StatSeries | None = None
    fault: str | None = None


def read_call(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    call: Key | None = None,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    by: str | None = FN_COLUMNS["by"],
    status_column: str | None = FN_COLUMNS["status_column"],
    time_column: str | None = FN_COLUMNS["time_column"],
    start_column: str | None = FN_COLUMNS["start_column"],
    end_column: str | None = FN_COLUMNS["end_column"],
) -> StoredCall:
    """One call and what its table tells of it.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    call : int, str, float or bytes, optional
        The call's key; by default the greatest, which is the latest where keys sort by time, as Fn's do.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    by, status_column, time_column, start_column, end_column : str or None
        As for `summarize_table`. The error is that of the column ``error``, where there is one.

    Returns
    -------
    StoredCall
        With a fault instead of a series where the cell is no stored histogram.

    Raises
    ------
    CallstatsError
        When there is no such call.
    ImportError
        When SQLAlchemy is missing.

    Examples
    --------
    >>> from callstats.db import add_calls, init_table
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
    >>> _ = add_calls(db, [{"id": "1", "fn_id": "resize", "stats": minute.to_db()}])
    >>> call = read_call(db)
    >>> call.key, call.group, len(call.series)
    ('1', 'resize', 60)
    """
    require_sqlalchemy("read_call")
    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    asked = {
        "by": by,
        "status_column": status_column,
        "time_column": time_column,
        "start_column": start_column,
        "end_column": end_column,
    }
    with connected(url_or_engine) as (connection, dialect):
        calls = CallTable(connection, dialect, name=table, key=key, column_name=column)
        found = detailed_call(calls, present_columns(calls, table, asked), call)
        if found is None and isinstance(call, str) and call.isdecimal() and len(call) < 20:
            # The key of a table with numbers, as it comes from a command line.
            found = detailed_call(calls, present_columns(calls, table, asked), int(call))
    if found is None:
        raise CallstatsError(f"table {table!r} has no call" + ("s" if call is None else f" {call!r}"))
    return found


def detailed_call(calls: CallTable, names: dict[str, str | None], key: Key | None) -> StoredCall | None:
    """One call of an open table, or that of the greatest key, by the columns that the table has."""
    with calls.transaction(write=False):
        has = calls.dialect.columns(calls.connection, calls.table.name)
    error = "error" if any(calls.dialect.same_name("error", name) for name in has) else None
    row = calls.detailed(key, [*names.values(), error])
    if row is None:
        return None
    found, cell, kind, *told = row
    details = dict(zip(("group", "status", "created", "started", "completed", "error"), told, strict=True))
    if cell is not None and kind not in calls.dialect.cell_kinds:
        return StoredCall(key=found, **details, fault=f"expected text or bytes, got a cell of type {kind}")
    try:
        return StoredCall(key=found, **details, series=StatSeries.from_json(cell))
    except CallstatsError as fault:
        return StoredCall(key=found, **details, fault=str(fault))
