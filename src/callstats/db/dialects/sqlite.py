"""SQLite: its driver, its one lock for the whole file, its values of any type."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import LargeBinary, String, Text, and_, bindparam, case, cast, collate, func, or_, text, update
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ColumnElement

from callstats._json import is_text
from callstats._timestamps import format_time
from callstats.call import Key
from callstats.db.dialects.base import TIME_NAME, Dialect, Target, TimeColumn, parameter
from callstats.errors import ArgumentError

BUSY_SECONDS = 30
"""How long to wait for another program's lock. ``?timeout=`` in a URL and the settings of an Engine take precedence."""

_DATE_GLOB = "{0}{0}{0}{0}-{0}{0}-{0}{0}".format("[0-9]")
_TIME_GLOB = _DATE_GLOB + "[T ]{0}{0}:{0}{0}:{0}{0}*".format("[0-9]")
_FAST = 2  # zeros where they cost no further writes
_LEGACY_TRANSACTIONS = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, from Python 3.12

_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that surrogateescape never produces."""


class SQLite(Dialect):
    """The dialect of SQLite."""

    name = "SQLite"
    driver = "pysqlite"
    locks_rows = False
    blob_kinds = frozenset({"text", "blob"})
    wrong_use = frozenset(
        {
            sqlite3.ProgrammingError,
            sqlite3.InterfaceError,
            sqlite3.SQLITE_ERROR,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
        }
    )

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Return the lock timeout; and keep no connection open, except for a database in memory."""
        options: dict[str, Any] = {} if "timeout" in url.query else {"connect_args": {"timeout": BUSY_SECONDS}}
        return options if _is_in_memory(url) else {**options, "poolclass": NullPool}

    def missing_file(self, url: URL) -> str | None:
        path = file_of(url)
        return None if path is None or Path(path).is_file() else path

    @contextmanager
    def prepared(self, connection: Connection) -> Iterator[None]:
        """Take over the driver's transactions and decode text that is not UTF-8; restore both at the end.

        The sqlite3 module starts transactions by itself, in one of three ways, but never an immediate one.
        """
        driver: Any = connection.connection.dbapi_connection
        if "isolation_level" not in dir(driver):
            raise ArgumentError("url_or_engine", "an engine of the sqlite3 module", driver)
        names = [name for name in ("autocommit", "isolation_level", "text_factory") if hasattr(driver, name)]
        kept = [(name, getattr(driver, name)) for name in names]
        if "autocommit" in names:
            driver.rollback()
            driver.autocommit = _LEGACY_TRANSACTIONS
        driver.isolation_level = None
        driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        driver.create_function("callstats_rows", 1, _rows, deterministic=True)
        try:
            yield
        finally:
            driver.create_function("callstats_rows", 1, None)
            if driver.in_transaction:
                driver.rollback()
            for name, value in reversed(kept):
                setattr(driver, name, value)

    @contextmanager
    def transaction(self, connection: Connection, *, write: bool) -> Iterator[None]:
        """Run one transaction. A write takes the lock at once, so that nothing it reads can change before it ends."""
        with connection.begin():
            if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
                connection.exec_driver_sql("ROLLBACK")  # an event hook of the caller's engine started it
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield

    @contextmanager
    def secure_delete(self, connection: Connection, on: bool | None) -> Iterator[None]:
        with self.transaction(connection, write=False):
            kept = int(connection.exec_driver_sql("PRAGMA secure_delete").scalar_one())
            if on is not None:
                connection.exec_driver_sql(f"PRAGMA secure_delete = {on:d}")
        try:
            yield
        finally:
            with self.transaction(connection, write=False):
                connection.exec_driver_sql(f"PRAGMA secure_delete = {'FAST' if kept == _FAST else kept}")

    def check_database(self, connection: Connection) -> None:
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar_one()
        if encoding != "UTF-8":
            raise ArgumentError("url_or_engine", "a database in UTF-8", encoding)

    def version(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def columns(self, connection: Connection) -> list[str]:
        return [row.name for row in self._table_info(connection)]

    def _table_info(self, connection: Connection) -> Sequence[Any]:
        # SQLAlchemy's own reflection of generated columns wants a table's name in its own case.
        return connection.execute(text("SELECT name, pk, hidden FROM pragma_table_xinfo(:t)"), {"t": self.table}).all()

    def reserves(self, table: str) -> bool:
        return table.lower().startswith("sqlite_")

    def same_name(self, one: str, other: str) -> bool:
        """Return whether two names mean the same column. Only the letters A to Z ignore case."""
        return one.encode("utf-8", "replace").lower() == other.encode("utf-8", "replace").lower()

    def key(self, connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the key in the collation of its unique index. Raise if the column isn't unique."""
        name = str(column.name)
        found = text("SELECT name FROM pragma_index_list(:t) WHERE \"unique\" AND NOT partial ORDER BY origin = 'pk' DESC, seq")
        for (index,) in connection.execute(found, {"t": self.table}).all():
            parts = connection.execute(text("SELECT name, coll FROM pragma_index_xinfo(:i) WHERE key"), {"i": index}).all()
            if len(parts) == 1 and self.has([parts[0].name], name):
                # The column's own collation may be another one, in which different keys are equal.
                return collate(column, parts[0].coll)
        primary = self.primary_key(connection)
        if len(primary) == 1 and self.has(primary, name):
            return column  # the row id itself, which has no index
        raise self.no_key(connection, name)

    def primary_key(self, connection: Connection) -> list[str]:
        return [row.name for row in sorted(self._table_info(connection), key=lambda row: row.pk) if row.pk]

    def check_update(self, connection: Connection, column: str) -> None:  # noqa: ARG002 - it knows no privileges
        """Raise if the database is read-only. It is not tried, which would take the lock."""
        query = connection.engine.url.query
        path = next(row.file for row in connection.exec_driver_sql("PRAGMA database_list") if row.name == "main")
        for read_only, hint in (
            (connection.exec_driver_sql("PRAGMA query_only").scalar(), "PRAGMA query_only is on"),
            (query.get("mode") == "ro" or query.get("immutable"), "the URL opens it to be read only"),
            (path and not os.access(path, os.W_OK), f"this user may not write the file {path!r}"),
        ):
            if read_only:
                raise self.not_writable(hint)

    def is_generated(self, connection: Connection, column: str) -> bool:
        return self.has([row.name for row in self._table_info(connection) if row.hidden in (2, 3)], column)

    def may_undo(self, connection: Connection) -> bool:
        found = text(
            "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' "
            "UNION ALL SELECT tbl_name FROM sqlite_temp_master WHERE type = 'trigger'"
        )
        return self.has([name for (name,) in connection.execute(found)], self.table)

    def in_transaction(self, connection: Connection) -> bool:
        return bool(connection.connection.dbapi_connection.in_transaction)  # type: ignore[union-attr]

    def time_column(self, connection: Connection, column: ColumnElement[Any]) -> TimeColumn:  # noqa: ARG002 - any value may be a time
        """Return a column of RFC 3339 text; without an offset it is UTC. SQLite's functions are exact to the millisecond.

        They take February 30 for March 1, and 24:30 for half past midnight.
        """
        upper = func.upper(column)
        day = func.substr(upper, 1, 10)
        shaped = and_(func.typeof(column) == "text", or_(upper.op("GLOB")(_TIME_GLOB), upper.op("GLOB")(_DATE_GLOB)))
        exists = and_(func.date(day, "+0 days", type_=String) == day, func.substr(upper, 12, 2) < "24")
        time: ColumnElement[Any] = case((and_(shaped, exists), func.julianday(upper)))
        return time, lambda ns: func.julianday(format_time(ns, digits=3))

    def not_before(self, connection: Connection, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:  # noqa: ARG002
        """Return a condition that every time from that day on meets. ISO 8601 text sorts by its date."""
        return or_(func.typeof(column) != "text", column >= f"{day:%Y-%m-%d}")

    def blob(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return a blob's bytes and its kind, as expressions. sqlite3 fails a whole fetch on text that is not UTF-8."""
        return cast(column, LargeBinary), func.typeof(column, type_=String)

    def to_driver(self, blob: bytes, *, is_bytes: bool) -> str | bytes | None:
        return blob if is_bytes else blob.decode()

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """Return a blob's size in bytes. ``length`` of text counts characters, and only those before a NUL."""
        return func.length(cast(column, LargeBinary))

    def rows(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return how often a blob contains the name of a row's time. SQLite's own `replace` takes ten times as long."""
        return func.callstats_rows(cast(column, LargeBinary))

    def literal(self, key: Key) -> ColumnElement[Any]:
        if _is_plain(key):
            return parameter(key)
        return cast(bindparam(None, str(key).encode("utf-8", "surrogateescape"), LargeBinary, unique=True), Text)

    def among(self, key: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        return super().among(key, keys) if all(map(_is_plain, keys)) else key.in_([self.literal(one) for one in keys])

    def write(self, connection: Connection, target: Target, blobs: Sequence[tuple[Key, bytes, bool]]) -> int:
        """Write blobs: in one statement, but each by itself whose key is text that is not UTF-8."""
        plain = [blob for blob in blobs if _is_plain(blob[0])]
        changed = super().write(connection, target, plain) if plain else 0
        for key, blob, is_bytes in blobs if len(plain) < len(blobs) else ():
            if not _is_plain(key):
                value = parameter(self.to_driver(blob, is_bytes=is_bytes))
                one = update(target.table).where(target.key == self.literal(key)).values(target.values(value))
                changed += connection.execute(one).rowcount
        return changed

    def can_hold(self, key: Key) -> bool:
        if isinstance(key, str):
            return not _SURROGATE.search(key)
        return not isinstance(key, int) or -(2**63) <= key < 2**63

    def explain(self, error: BaseException | None) -> str:
        line = super().explain(error)
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{line}: another program kept its lock for too long"
        return line

    def codes(self, error: BaseException | None) -> Collection[object]:
        return type(error), _code(error)

    def rejects_row(self, error: BaseException | None) -> bool:
        return isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError))


def file_of(url: URL) -> str | None:
    """Return the path of a database's file; None for a database in memory."""
    path = url.database
    if path is None or _is_in_memory(url):
        return None
    return unquote(path.removeprefix("file:")) if url.query.get("uri") and path.startswith("file:") else path


def _rows(blob: bytes | None) -> int:
    return 0 if blob is None else blob.count(TIME_NAME.encode())


def _is_in_memory(url: URL) -> bool:
    return url.query.get("mode") == "memory" or ":memory:" in (url.database or ":memory:")


def _code(error: BaseException | None) -> int | None:
    """Return the primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_plain(key: Key) -> bool:
    """Return whether the driver takes a key as it is: all but text that was not UTF-8."""
    return not isinstance(key, str) or is_text(key)
