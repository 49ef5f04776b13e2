"""The views of a table, defined once for all databases: `call_samples`, and `call_usage` with the values of CallUsage."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from sqlalchemy.engine import Connection

from callstats.db.dialects.base import Dialect
from callstats.db.dialects.unfolding import Unfolding, unfold
from callstats.db.engine import dialect_of
from callstats.db.query import OPTIONAL_COLUMNS, Names, missing_column
from callstats.errors import ArgumentError
from callstats.stats.call import CPU, CPU_TIME, KERNEL_PEAK, LIMIT, USAGE, WORKING

_Columns: TypeAlias = dict[str, str]
"""Columns of a view: SQL by name."""

_CALL = {"key": "key", "name": "group_column", "status": "status_column", "call_time": "time_column"}
"""The columns with values of a call's row, and the parameters that name the row's columns."""
_METRICS = [*(name + end for name in (WORKING, USAGE, LIMIT, CPU) for end in ("", "@max")), CPU_TIME, KERNEL_PEAK]


def view_names(table: str) -> tuple[str, str]:
    """Return the names of a table's views: call_samples and call_usage for calls."""
    stem = table.removesuffix("s")
    return f"{stem}_samples", f"{stem}_usage"


def view_statements(connection: Connection, dialect: Dialect, names: Names, columns: Collection[str]) -> list[str]:
    """Return the statements that create or replace the views of a table with these columns; none if it does not exist yet.

    Raise if a column is missing, or something else has a view's name.
    """
    quote = connection.dialect.identifier_preparer.quote_identifier
    if dialect.has(columns, names.column):
        dialect.inspect_column(connection, names.column)
    call = {}
    for view, parameter in _CALL.items():
        name = getattr(names, parameter)
        if columns and name is not None and not dialect.has(columns, name):
            if name not in OPTIONAL_COLUMNS.values():
                raise missing_column(parameter, name, names.table, columns)
            name = None
        call[view] = "NULL" if name is None else f"c.{quote(name)}"
    prefix = "" if dialect.schema is None else f"{quote(dialect.schema)}."
    parts = unfold(dialect, f"c.{quote(names.column)}", _METRICS, prefix)
    source = f"{prefix}{quote(dialect.table)} c"
    statements = [] if parts.first is None else [parts.first]
    for name, (selected, rest) in zip(
        view_names(dialect.table), (_samples_view(parts, call), _usage_view(parts, call)), strict=True
    ):
        _check_name(connection, dialect, name, [*selected])
        listed = ", ".join(f"{sql} AS {quote(column)}" for column, sql in selected.items())
        select = f"SELECT {listed} FROM {source}{rest}"  # noqa: S608 - quoted
        statements += [statement.format(f"{prefix}{quote(name)}", select) for statement in parts.replace]
    return statements


def _check_name(connection: Connection, dialect: Dialect, name: str, columns: list[str]) -> None:
    """Raise if something else than the view has its name."""
    other = dialect_of(connection.engine.url)
    other.table, other.schema = name, dialect.schema
    if other.columns(connection) not in ([], columns):
        hint = f"{name!r} has other columns than the view: rename or drop it"
        raise ArgumentError("table", "one whose views have names that are free", dialect.table, hint=hint)


def _samples_view(parts: Unfolding, call: _Columns) -> tuple[_Columns, str]:
    """Return the columns of a view with a row for each value of each sample, and what follows the table in its SELECT."""
    columns = {name: sql for name, sql in call.items() if name != "status"}
    columns |= {"time": parts.time, "metric": parts.name, "value": parts.value}
    return columns, f", {parts.values} WHERE {call['key']} IS NOT NULL AND {parts.is_value}"


def _usage_view(parts: Unfolding, call: _Columns) -> tuple[_Columns, str]:
    """Return the same for a view with a row for each call. It has the values that `CallTotals.usage` computes."""

    def largest(metric: str) -> str:
        return f"MAX(COALESCE({parts.metric(f'{metric}@max')}, {parts.metric(metric)}))"

    def last(metric: str) -> str:
        # Of the texts of a row's number, always of ten digits, and of its value, the last row has the max.
        value = parts.metric(metric)
        text = parts.join.format(f"1000000000 + {parts.number}", value)
        return f"CAST(SUBSTR(MAX(CASE WHEN {value} IS NOT NULL THEN {text} END), 11) AS {parts.whole})"

    working, used = largest(WORKING), f"{parts.greatest}(COALESCE({largest(USAGE)}, 0), COALESCE({last(KERNEL_PEAK)}, 0))"
    totals = {
        "peak_memory": f"CASE WHEN {working} > 0 THEN {working} ELSE NULLIF({used}, 0) END",
        "memory_metric": f"CASE WHEN {working} > 0 THEN '{WORKING}' WHEN {used} > 0 THEN '{USAGE}' END",
        "memory_limit": f"NULLIF({largest(LIMIT)}, 0)",
        "cpu_peak": largest(CPU),
        "cpu_time_ns": last(CPU_TIME),
        "samples": f"COALESCE(SUM(CASE WHEN {parts.number} IS NOT NULL THEN COALESCE({parts.samples}, 1) END), 0)",
        "rows": f"COUNT({parts.number})",
    }
    has_key = f"WHERE {call['key']} IS NOT NULL"
    if parts.fold is not None:
        row, folded = parts.fold([*totals.values()])
        return {**call, **dict(zip(totals, folded, strict=True))}, f", {row} {has_key}"
    groups = ", ".join(dict.fromkeys(sql for sql in call.values() if sql != "NULL"))
    return {**call, **totals}, f" LEFT JOIN {parts.rows} ON {parts.is_row} {has_key} GROUP BY {groups}"
