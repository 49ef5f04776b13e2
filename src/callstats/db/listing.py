"""The calls of a table, as a list for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callstats._types import I64_MAX
from callstats.db.results import Key
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError
from callstats.reduce import decimate
from callstats.series import StatSeries

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

SHOWN = ("fn_id", "status", "started_at", "completed_at")
"""Columns of Fn's that a listed call tells, where the table has them."""


@dataclass(frozen=True)
class ListedCall:
    """One call of a table.

    Attributes
    ----------
    key : int, str, float or bytes
    columns : mapping of str to object
        Those of ``fn_id``, ``status``, ``started_at`` and ``completed_at`` that the table has.
    rows : int or None
        Rows of its histogram; None when it can't be read.
    peak_memory : int or None
        The most memory that any sample saw, in bytes; None when none did.
    mean_cpu : int or None
        Percent of one core, over all samples; None when none has it.
    fault : str or None
        Why the histogram can't be read.
    """

    key: Key
    columns: Mapping[str, Any]
    rows: int | None
    peak_memory: int | None
    mean_cpu: int | None
    fault: str | None = None


def list_calls(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    limit: int | None = 20,
) -> list[ListedCall]:
    """The calls with the greatest keys, the greatest first; Fn's keys sort by time.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    limit : int or None
        The most calls to read; None for all.

    Returns
    -------
    list of ListedCall

    Raises
    ------
    CallstatsError
        When the database can't be opened, or has no such table or column.
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
    >>> [(call.key, call.rows, call.peak_memory) for call in list_calls(db)]
    [('1', 60, 59)]
    """
    require_sqlalchemy("list_calls")
    from sqlalchemy import column as named
    from sqlalchemy import select

    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    with connected(url_or_engine) as (connection, dialect):
        calls = CallTable(connection, dialect, name=table, key=key, column_name=column)
        cell, _ = dialect.cell(calls.stats)
        with calls.transaction(write=False):
            has = dialect.columns(connection, table)
            shown = [name for name in SHOWN if any(dialect.same_name(name, other) for other in has)]
            query = select(dialect.shown_key(calls.key), cell, *map(named, shown)).select_from(calls.table)
            most = None if limit is None else min(limit, I64_MAX)  # a database takes no larger number
            found = connection.execute(query.order_by(calls.key.desc()).limit(most)).all()
    return [_listed(row[0], row[1], dict(zip(shown, row[2:], strict=True))) for row in found]


def _listed(key: Key, cell: object, columns: Mapping[str, Any]) -> ListedCall:
    try:
        series = StatSeries.from_json(cell)
    except CallstatsError as error:
        return ListedCall(key, columns, None, None, None, str(error))
    return ListedCall(key, columns, len(series), *figures(series))


def figures(series: StatSeries) -> tuple[int | None, int | None]:
    """Peak memory in bytes and mean processor use in percent; None where no sample has them."""
    if not len(series):
        return None, None
    whole = decimate(series, 1, how={"mem_usage": ("mean", "max")})[0].metrics
    return whole.get("mem_usage@max", whole.get("mem_usage")), whole.get("cpu_total")
