"""Tables of calls with the columns of Fn's: created, extended and filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby, islice
from typing import Any, Literal, TypeAlias

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, bindparam, column, insert, table
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.types import NullType, TypeEngine

from callstats._json import is_text, json_text
from callstats._timestamps import format_time, stored_time_ns
from callstats.call import Call
from callstats.db.dialects.base import Dialect
from callstats.db.engine import Database, dialect_of
from callstats.db.query import CALL_COLUMNS, OPTIONAL_COLUMNS, Names, locate, missing_column
from callstats.errors import ArgumentError
from callstats.series import StatSeries

Created: TypeAlias = Literal["created", "added", "nothing"]

_ROWS_AT_ONCE = 100

_SHORT = String(256).with_variant(Text(), "sqlite")
# 240 rows can exceed the 65,535 bytes of MySQL's TEXT, and two metrics may differ in case only.
_BLOB = Text().with_variant(MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_LATER: dict[str, TypeEngine[Any]] = {
    "command": Text(),
    "host": Text(),
    "pid": Integer(),
    "exit_code": Integer(),
    "tags": Text(),
}
"""Columns that an older table may lack."""


def create_table(database: Database, names: Names) -> Created:
    """Create the table, or add the columns and the index that it lacks."""
    url = database.engine.url
    _check_names(dialect_of(url), names)
    if dialect_of(url).missing_file(url) is not None:
        _check_new_names(names)
    with database.writing(create=True) as (connection, dialect):
        columns = dialect.locate(connection, names.table)
        if columns:
            return "added" if _extend(connection, dialect, names, columns) else "nothing"
        _check_new_names(names)
        wanted = _calls_table(names, dialect)
        connection.execute(CreateTable(wanted))
        connection.execute(CreateIndex(_time_index(wanted, names)))
        return "created"


def add_calls(database: Database, names: Names, calls: Iterable[Call | Mapping[str, object]]) -> int:
    """Insert calls, all or none. Return how many there were."""
    count = 0
    with database.writing() as (connection, dialect):
        columns = locate(connection, dialect, names)
        dialect.inspect_column(connection, names.column)
        rows = (_insert_row(call, names, columns, dialect) for call in calls)
        for given, same in groupby(rows, key=tuple):
            for name in given:
                if not dialect.has(columns, name):
                    raise missing_column("calls", name, names.table, columns)
            values: dict[str, Any] = {name: bindparam(f"value_{i}", type_=NullType()) for i, name in enumerate(given)}
            if names.column in values:
                values[names.column] = dialect.blob_parameter(values[names.column])
            into = insert(table(dialect.table, *map(column, given), schema=dialect.schema)).values(values)
            while some := [{f"value_{i}": row[name] for i, name in enumerate(given)} for row in islice(same, _ROWS_AT_ONCE)]:
                connection.execute(into, some)
                count += len(some)
    return count


def _insert_row(call: Call | Mapping[str, object], names: Names, columns: list[str], dialect: Dialect) -> dict[str, object]:
    """Return the values of a call by column, as the driver takes them."""
    given = _fields(call, names, columns, dialect) if isinstance(call, Call) else call.items()
    row = {name: _value(name, value) for name, value in given}
    blob = row.get(names.column)
    if isinstance(blob, (str, bytes)):
        raw = blob.encode() if isinstance(blob, str) else blob
        dialect.check_size(row.get(names.key), names.column, len(raw))
        row[names.column] = dialect.to_driver(raw, is_bytes=isinstance(blob, bytes))
    return row


def _value(name: str, value: object) -> object:
    """Return a value as a column takes it: series, times and tags become text."""
    if isinstance(value, StatSeries):
        return value.to_db()
    if isinstance(value, datetime) and (ns := stored_time_ns(value)) is not None:
        return format_time(ns, digits=6 if value.microsecond % 1000 else 3)
    if isinstance(value, Mapping):
        return json_text(value)
    if isinstance(value, str) and not is_text(value):
        raise ArgumentError(name, "text that encodes to UTF-8", value)
    return value


def _fields(call: Call, names: Names, columns: list[str], dialect: Dialect) -> Iterable[tuple[str, object]]:
    """Return the values of a Call that the table has columns for."""
    if call.rejected is not None:
        raise ArgumentError("calls", "calls with a series", call.key, hint=f"its blob was rejected: {call.rejected}")
    values = {
        names.key: call.key,
        names.column: call.series,
        names.group_column: call.name,
        **{getattr(names, parameter): getattr(call, field) for field, parameter in CALL_COLUMNS.items()},
        "error": call.error,
        "exit_code": call.exit_code,
        "tags": call.tags or None,
    }
    return [(name, value) for name, value in values.items() if name is not None and dialect.has(columns, name)]


def _extend(connection: Connection, dialect: Dialect, names: Names, columns: list[str]) -> bool:
    """Add the columns and the index that a table lacks. Return whether there were any."""
    if not dialect.has(columns, names.key):
        raise missing_column("key", names.key, names.table, columns)
    wanted = _calls_table(names, dialect)
    is_view = not dialect.has(dialect.tables(connection), dialect.table)
    missing = [name for name in (names.column, *(() if is_view else _LATER)) if not dialect.has(columns, name)]
    for name in missing:
        added = CreateColumn(wanted.c[name]).compile(dialect=connection.dialect)
        quoted = connection.dialect.identifier_preparer.format_table(wanted)
        connection.exec_driver_sql(f"ALTER TABLE {quoted} ADD COLUMN {added}")
    time = names.time_column
    if is_view or not dialect.has(columns, time) or dialect.has(dialect.indexed(connection), time):
        return bool(missing)
    connection.execute(CreateIndex(_time_index(wanted, names, dialect.index_length(connection, str(time)))))
    return True


def _check_names(dialect: Dialect, names: Names) -> None:
    """Raise for names that no table can have, before an SQLite file is created for it."""
    for parameter, name in vars(names).items():
        if name is not None and (not name or "\0" in name or not is_text(name)):
            raise ArgumentError(parameter, "a name that encodes to UTF-8", name)
    if dialect.same_name(names.key, names.column):
        raise ArgumentError("column", "another column than the key", names.column)
    if dialect.reserves(names.table):
        raise ArgumentError("table", f"a name that {dialect.name} does not reserve", names.table)


def _check_new_names(names: Names) -> None:
    """Raise for a key or blob column whose name a new table needs for another column."""
    others = {name.lower() for name in (*_fn_columns(names), *_LATER, "error")}
    for parameter, name in (("key", names.key), ("column", names.column)):
        if name.lower() in others:
            raise ArgumentError(parameter, "a name that a new table does not use for another column", name)


def _fn_columns(names: Names) -> list[str]:
    """Return the names of Fn's columns of short text. A column given as None gets its default name."""
    parameters = ("group_column", *CALL_COLUMNS.values())
    return list(dict.fromkeys(["app_id", *(getattr(names, name) or OPTIONAL_COLUMNS[name] for name in parameters)]))


def _calls_table(names: Names, dialect: Dialect) -> Table:
    """Return the table of calls: Fn's columns under the given names, and our own."""
    return Table(
        dialect.table,
        MetaData(),
        Column(names.key, _SHORT, primary_key=True, nullable=False),
        *(Column(name, _SHORT) for name in _fn_columns(names) if name not in (names.key, names.column)),
        Column(names.column, _BLOB),
        *(Column(name, kind) for name, kind in {"error": Text(), **_LATER}.items() if name not in (names.key, names.column)),
        schema=dialect.schema,
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mariadb_charset="utf8mb4",
        mariadb_collate="utf8mb4_bin",
    )


def _time_index(calls: Table, names: Names, length: int | None = None) -> Index:
    """Return the index on the time of calls; `length` is that of the prefix that MySQL indexes."""
    time = names.time_column or OPTIONAL_COLUMNS["time_column"]
    options: dict[str, Any] = {} if length is None else {"mysql_length": length, "mariadb_length": length}
    return Index(f"{calls.name[:40]}_by_{time[:10]}", calls.c[time], **options)
