"""Calls as rows of a table: inserted, begun and finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from sqlalchemy import TableClause, bindparam, column, func, insert, select, table, update
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


def max_blob_bytes(database: Database, names: Names) -> int | None:
    """Return the maximum size of a blob in the column; None for no limit of practical size."""
    with database.session() as (connection, dialect), dialect.transaction(connection, write=False):
        return _TableRows(connection, dialect, names).dialect.max_bytes


def add_calls(database: Database, names: Names, calls: Iterable[Call | Mapping[str, object]]) -> int:
    """Insert calls, all or none. Return how many there were."""
    count = 0
    with database.writing() as session:
        rows = _TableRows(*session, names)
        for given, same in groupby(map(rows.row_of, calls), key=tuple):
            for name in given:
                if not rows.has(name):
                    raise missing_column("calls", name, names.table, rows.columns)
            while some := list(islice(same, _ROWS_AT_ONCE)):
                rows.insert(some)
                count += len(some)
    return count


def begin_call(database: Database, names: Names, call: Call) -> int | None:
    """Insert the row of a call that is about to run. Return the maximum size of its blob, as `max_blob_bytes` does.

    The row is updated too, as it will be at the end: a missing privilege is an error now. A table gets no row yet if it has no
    status, or rejects a row without an end.
    """
    with database.session() as (connection, dialect):
        with dialect.transaction(connection, write=False):
            rows = _TableRows(connection, dialect, names)
            key = rows.unique_key()
        if rows.has(names.status_column):
            try:
                with dialect.transaction(connection, write=True):
                    for _ in range(2):
                        rows.finish(key, call)
            except DBAPIError as error:
                if not dialect.rejects_row(error.orig):
                    raise
        return dialect.max_bytes


def finish_calls(database: Database, names: Names, calls: Iterable[Call]) -> int:
    """Store calls that have ended, all or none: update their rows if these are running, else insert those that are missing.

    Return how many calls were stored. A blob that is too large for the column is reduced to fit.
    """
    with database.writing() as session:
        rows = _TableRows(*session, names)
        key = rows.unique_key()
        return sum(rows.finish(key, call) for call in calls)


class _TableRows:
    """The rows of a table, over one connection."""

    def __init__(self, connection: Connection, dialect: Dialect, names: Names) -> None:
        self.connection, self.dialect, self.names = connection, dialect, names
        self.columns = locate(connection, dialect, names)
        dialect.inspect_column(connection, names.column)

    def has(self, name: str | None) -> bool:
        """Return whether the table has a column."""
        return self.dialect.has(self.columns, name)

    def unique_key(self) -> ColumnElement[Any]:
        """Return the key. Raise if it isn't unique."""
        return self.dialect.key(self.connection, column(self.names.key))

    def finish(self, key: ColumnElement[Any], call: Call) -> bool:
        """Store one call, with a blob that fits in the column. Return whether anything was to do."""
        if self.dialect.max_bytes is not None and call.series is not None:
            fitting = decimate(call.series, None, how=KEEP_PEAKS, max_bytes=self.dialect.max_bytes)
            call = replace(call, series=fitting)
        row = self.row_of(call)
        is_its = key == self.dialect.literal(call.key)
        calls = self._table(row)
        if self.has(self.names.status_column):
            values = {name: parameter(value) for name, value in row.items() if name != self.names.key}
            values[self.names.column] = self.dialect.blob_parameter(values[self.names.column])
            running = update(calls).where(is_its, column(str(self.names.status_column)) == parameter(RUNNING))
            if self.connection.execute(running.values(values)).rowcount:
                return True
        if self.connection.execute(select(func.count()).select_from(calls).where(is_its)).scalar_one():
            return False
        self.insert([{**row, **({"app_id": "record"} if self.has("app_id") else {})}])
        return True

    def insert(self, rows: list[dict[str, object]]) -> None:
        """Insert rows of the same columns."""
        given = list(rows[0])
        values: dict[str, Any] = {name: bindparam(f"value_{i}", type_=NullType()) for i, name in enumerate(given)}
        if self.names.column in values:
            values[self.names.column] = self.dialect.blob_parameter(values[self.names.column])
        many = [{f"value_{i}": row[name] for i, name in enumerate(given)} for row in rows]
        self.connection.execute(insert(self._table(given)).values(values), many)

    def _table(self, columns: Iterable[str]) -> TableClause:
        return table(self.dialect.table, *map(column, columns), schema=self.dialect.schema)

    def row_of(self, call: Call | Mapping[str, object]) -> dict[str, object]:
        """Return the values of a call by column, as the driver takes them."""
        if not isinstance(call, (Call, Mapping)):
            raise ArgumentError("calls", "an iterable of Call, or of mappings of column to value", call)
        given = self._fields(call) if isinstance(call, Call) else call.items()
        row = {name: _value(name, value) for name, value in given}
        blob = row.get(self.names.column)
        if isinstance(blob, (str, bytes)):
            raw = blob.encode() if isinstance(blob, str) else blob
            self.dialect.check_size(row.get(self.names.key), self.names.column, len(raw))
            row[self.names.column] = self.dialect.to_driver(raw, is_bytes=isinstance(blob, bytes))
        return row

    def _fields(self, call: Call) -> Iterable[tuple[str, object]]:
        """Return the values of a Call that the table has columns for."""
        if call.rejected is not None:
            raise ArgumentError("calls", "calls with a series", call.key, hint=f"its blob was rejected: {call.rejected}")
        values = {
            self.names.key: call.key,
            self.names.column: call.series,
            self.names.group_column: call.name,
            **{getattr(self.names, parameter): getattr(call, field) for field, parameter in CALL_COLUMNS.items()},
            **{name: getattr(call, name) for name in PLAIN_COLUMNS},
            "tags": call.tags or None,
        }
        return [(name, value) for name, value in values.items() if name is not None and self.has(name)]


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
