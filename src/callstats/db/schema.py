"""Tables of calls with the columns of Fn's, and our own: created and extended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

from callstats._json import is_text
from callstats.db.dialects.base import Dialect
from callstats.db.engine import Database, dialect_of
from callstats.db.query import CALL_COLUMNS, OPTIONAL_COLUMNS, Names, missing_column
from callstats.db.views import view_statements
from callstats.errors import ArgumentError

Created: TypeAlias = Literal["created", "added", "nothing"]

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


def create_table(
    database: Database,
    names: Names,
    *,
    extend: bool = True,
    views: bool = False,
    on_add: Callable[[str], object] | None = None,
) -> Created:
    """Create the table, or add the columns and the index that it lacks; with `extend` false an existing one is unchanged.

    With `views` create its views, or replace them. `on_add` gets what was added.
    """
    added: list[str] = []
    url = database.engine.url
    _check_names(dialect_of(url), names)
    if dialect_of(url).missing_file(url) is not None:
        _check_new_names(names)
    with database.writing(create=True) as (connection, dialect):
        columns = dialect.locate(connection, names.table)
        statements = view_statements(connection, dialect, names, columns) if views else []
        done: Created = "nothing"
        if not columns:
            _check_new_names(names)
            wanted = _calls_table(names, dialect)
            connection.execute(CreateTable(wanted))
            connection.execute(CreateIndex(_time_index(wanted, names)))
            done = "created"
        elif extend and (added := _extend(connection, dialect, names, columns)):
            done = "added"
        for statement in statements:
            connection.exec_driver_sql(statement)
    if on_add is not None:
        for one in added:
            on_add(one)
    return done


def _extend(connection: Connection, dialect: Dialect, names: Names, columns: list[str]) -> list[str]:
    """Add the columns and the index that a table lacks, and return them."""
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
        return missing
    connection.execute(CreateIndex(_time_index(wanted, names, dialect.index_length(connection, str(time)))))
    return [*missing, f"an index on {time}"]


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
