"""Tables in the shape of Fn's: made, filled and read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from callstats._json import is_text
from callstats.db.results import Key
from callstats.db.urls import require_sqlalchemy, url_of
from callstats.errors import CallstatsError, shorten_repr
from callstats.series import StatSeries

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import URL, Engine

    from callstats.db.dialects.base import Dialect

_ROWS_AT_ONCE = 100
_FN_COLUMNS = ("app_id", "fn_id", "status", "created_at", "started_at", "completed_at")


def init_table(
    url_or_engine: str | os.PathLike[str] | URL | Engine, *, table: str = "calls", key: str = "id", column: str = "stats"
) -> Literal["created", "added", "nothing"]:
    """Make sure that there is a table with a column for histograms.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file, which is made if it isn't there.
    table, key, column : str
        The table, its key, and the column with the histograms.

    Returns
    -------
    str
        ``"created"``: there was no such table; now there is one in the shape of Fn's calls. ``"added"``: it had no such column;
        now it has, NULL in every row. ``"nothing"``: both were there.

    Raises
    ------
    CallstatsError
        When a table that is there has no such key.
    DatabaseError
        When the database is locked or broken.
    ImportError
        When SQLAlchemy is missing.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> init_table(db), init_table(db), init_table(db, column="more")
    ('created', 'nothing', 'added')
    """
    require_sqlalchemy("init_table")
    from sqlalchemy.schema import CreateColumn, CreateTable

    from callstats.db.engine import dialect_of, writing

    url = url_of(url_or_engine)
    database = dialect_of(url)
    _check_names(database, table, key, column)
    clash = _clash(key, column)
    if clash is not None and database.missing_file(url) is not None:
        raise clash
    with writing(url_or_engine, create=True) as (connection, dialect):
        has = dialect.columns(connection, table)
        if not has:
            if clash is not None:
                raise clash
            wanted = _fn_table(table, key, column)
            connection.execute(CreateTable(wanted))
            return "created"
        if not any(dialect.same_name(key, name) for name in has):
            raise CallstatsError(f"table {table!r} has no column {key!r}: it has {', '.join(map(repr, has))}")
        if any(dialect.same_name(column, name) for name in has):
            return "nothing"
        wanted = _fn_table(table, key, column, bare=True)
        name = connection.dialect.identifier_preparer.format_table(wanted)
        added = CreateColumn(wanted.c[column]).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {added}")
        return "added"


def cell_room(url_or_engine: str | os.PathLike[str] | URL | Engine, *, table: str = "calls", column: str = "stats") -> int | None:
    """The most bytes that a stored histogram may have in a column.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    table, column : str
        The table, and the column with the histograms.

    Returns
    -------
    int or None
        65,535 for MySQL's TEXT, say; None for no limit to speak of.

    Raises
    ------
    CallstatsError
        When the database can't be opened.
    ImportError
        When SQLAlchemy is missing.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> cell_room(db) is None
    True
    """
    require_sqlalchemy("cell_room")
    from callstats.db.engine import connected

    with connected(url_or_engine) as (connection, dialect), dialect.transaction(connection, write=False):
        dialect.inspect_cells(connection, table, column)
        return dialect.room


def add_calls(
    url_or_engine: str | os.PathLike[str] | URL | Engine, calls: Iterable[Mapping[str, object]], *, table: str = "calls"
) -> int:
    """Insert calls into a table in the shape of Fn's, all or none.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    calls : iterable of mappings
        Each with the columns that `init_table` makes.
    table : str
        The table.

    Returns
    -------
    int
        How many calls there were.

    Raises
    ------
    CallstatsError
        When the database can't be opened, or a histogram is longer than its column can hold.
    ImportError
        When SQLAlchemy is missing.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> add_calls(db, [{"id": "1", "fn_id": "resize", "stats": StatSeries([0], {"mem_usage": [4096]}).to_db()}])
    1
    """
    require_sqlalchemy("add_calls")
    from sqlalchemy import insert

    from callstats.db.engine import writing

    into = insert(_fn_table(table, "id", "stats"))
    rows = iter(calls)
    count = 0
    with writing(url_or_engine) as (connection, dialect):
        if dialect.columns(connection, table):
            dialect.inspect_cells(connection, table, "stats")
        while some := [dict(row) for row in islice(rows, _ROWS_AT_ONCE)]:
            for row in some:
                for name, value in row.items():
                    if isinstance(value, str) and not is_text(value):
                        raise CallstatsError(f"{name} must be text that UTF-8 can hold, got {shorten_repr(value)}")
                dialect.check_room(row.get("id"), "stats", len(str(row.get("stats") or "").encode()))
            connection.execute(into, some)
            count += len(some)
    return count


def read_series(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    call: Key,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
) -> StatSeries:
    """The stored histogram of one call.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    call : int, str, float or bytes
        The call's key.
    table, key, column : str
        The table, its unique key, and the column with the histograms.

    Returns
    -------
    StatSeries

    Raises
    ------
    CallstatsError
        When there is no such call, or its cell is no stored histogram.
    ImportError
        When SQLAlchemy is missing.

    Examples
    --------
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> _ = add_calls(db, [{"id": "1", "stats": StatSeries([0], {"mem_usage": [4096]}).to_db()}])
    >>> read_series(db, "1")["mem_usage"].tolist()
    [4096]
    """
    require_sqlalchemy("read_series")
    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    with connected(url_or_engine) as (connection, dialect):
        row = CallTable(connection, dialect, name=table, key=key, column_name=column).find(call)
    if row is None:
        raise CallstatsError(f"table {table!r} has no call {call!r}")
    return StatSeries.from_json(row.cell)


def _check_names(dialect: Dialect, table: str, key: str, column: str) -> None:
    """Refuse names that no table can have, before an SQLite file is made for it."""
    for what, name in (("table", table), ("key", key), ("column", column)):
        if not name or "\0" in name or not is_text(name):
            raise CallstatsError(f"{what} must be a name that UTF-8 can hold, got {name!r}")
    if dialect.same_name(key, column):
        raise CallstatsError(f"expected columns of different names: the key and the histograms are both {column!r}")
    if dialect.reserves(table):
        raise CallstatsError(f"table must not have a name that is reserved for {dialect.name} itself, got {table!r}")


def _clash(key: str, column: str) -> CallstatsError | None:
    """The error on names that a new table has for columns of its own; in one that is there they are free."""
    taken = {key.lower(), column.lower()} & {*_FN_COLUMNS, "error"}
    if not taken:
        return None
    return CallstatsError(f"a new table has a column {min(taken)!r} of its own: give the key or the histograms another name")


def _fn_table(table: str, key: str, column: str, *, bare: bool = False) -> Table:
    """The calls of an Fn server, under the given names; `bare`: the key and the histograms alone."""
    from sqlalchemy import Column, MetaData, String, Table, Text
    from sqlalchemy.dialects.mysql import MEDIUMTEXT

    short = String(256).with_variant(Text(), "sqlite")
    # 240 rows can have more than the 65,535 bytes of MySQL's TEXT, and two names may differ in case only.
    stats = Text().with_variant(MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
    return Table(
        table,
        MetaData(),
        Column(key, short, primary_key=True, nullable=False),
        *(Column(name, short) for name in _FN_COLUMNS if not bare),
        Column(column, stats),
        *([] if bare else [Column("error", Text())]),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
    )
