"""Calls as rows of a table: inserted, begun and finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from sqlalchemy import bindparam, column, func, insert, select, table, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats._json import is_text, json_text
from callstats._timestamps import format_time, stored_time_ns
from callstats.call import RUNNING, Call
from callstats.db.dialects.base import Dialect, parameter
from callstats.db.engine import Database
from callstats.db.query import CALL_COLUMNS, PLAIN_COLUMNS, Names, locate, missing_column
from callstats.errors import ArgumentError
from callstats.reduce import decimate
from callstats.rule import KEEP_PEAKS
from callstats.series import StatSeries

_ROWS_AT_ONCE = 100


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
            while some := list(islice(same, _ROWS_AT_ONCE)):
                _insert(connection, dialect, names, some)
                count += len(some)
    return count


def begin_call(database: Database, names: Names, call: Call) -> int | None:
    """Insert the row of a call that is about to run. Return the maximum size of its blob, as `CallTable.max_blob_bytes` does.

    The row is updated too, as it will be at the end: a missing privilege is an error now. A table gets no row yet if it has no
    status, or rejects a row without an end.
    """
    with database.session() as (connection, dialect):
        with dialect.transaction(connection, write=False):
            columns = locate(connection, dialect, names)
            dialect.inspect_column(connection, names.column)
            dialect.key(connection, column(names.key))
        if dialect.has(columns, names.status_column):
            try:
                with dialect.transaction(connection, write=True):
                    for _ in range(2):
                        _finish(connection, dialect, names, columns, call)
            except DBAPIError as error:
                if not dialect.rejects_row(error.orig):
                    raise
        return dialect.max_bytes


def finish_calls(database: Database, names: Names, calls: Iterable[Call]) -> int:
    """Store calls that have ended, all or none: update their rows if these are running, else insert those that are missing.

    Return how many calls were stored. A blob that is too large for the column is reduced to fit.
    """
    with database.writing() as (connection, dialect):
        columns = locate(connection, dialect, names)
        dialect.inspect_column(connection, names.column)
        limit = dialect.max_bytes
        return sum(_finish(connection, dialect, names, columns, _fitting(call, limit)) for call in calls)


def _fitting(call: Call, max_bytes: int | None) -> Call:
    """Return a call whose blob has at most this size."""
    if max_bytes is None or call.series is None:
        return call
    return replace(call, series=decimate(call.series, None, how=KEEP_PEAKS, max_bytes=max_bytes))


def _finish(connection: Connection, dialect: Dialect, names: Names, columns: list[str], call: Call) -> bool:
    """Store one call. Return whether anything was to do."""
    row = _insert_row(call, names, columns, dialect)
    calls = table(dialect.table, *map(column, row), schema=dialect.schema)
    key: ColumnElement[Any] = column(names.key)
    is_its = dialect.key(connection, key) == dialect.literal(call.key)
    if dialect.has(columns, names.status_column):
        values = {name: parameter(value) for name, value in row.items() if name != names.key}
        values[names.column] = dialect.blob_parameter(values[names.column])
        running = update(calls).where(is_its, column(str(names.status_column)) == parameter(RUNNING))
        if connection.execute(running.values(values)).rowcount:
            return True
    if connection.execute(select(func.count()).select_from(calls).where(is_its)).scalar_one():
        return False
    app = {"app_id": "record"} if dialect.has(columns, "app_id") else {}
    _insert(connection, dialect, names, [{**row, **app}])
    return True


def _insert(connection: Connection, dialect: Dialect, names: Names, rows: list[dict[str, object]]) -> None:
    """Insert rows of the same columns."""
    given = list(rows[0])
    values: dict[str, Any] = {name: bindparam(f"value_{i}", type_=NullType()) for i, name in enumerate(given)}
    if names.column in values:
        values[names.column] = dialect.blob_parameter(values[names.column])
    into = insert(table(dialect.table, *map(column, given), schema=dialect.schema)).values(values)
    connection.execute(into, [{f"value_{i}": row[name] for i, name in enumerate(given)} for row in rows])


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
        **{name: getattr(call, name) for name in PLAIN_COLUMNS},
        "tags": call.tags or None,
    }
    return [(name, value) for name, value in values.items() if name is not None and dialect.has(columns, name)]
