"""What is special to SQLite: its driver, its one lock for the whole file, its cells of any type."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import LargeBinary, String, Text, and_, bindparam, case, cast, collate, func, or_, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats.db.dialects.base import Clock, Dialect
from callstats.db.moments import utc_text
from callstats.db.results import Key
from callstats.errors import CallstatsError

LOCK_SECONDS = 30
"""How long to wait for another program's lock; ``?timeout=`` in a URL and the settings of an Engine go first."""

_TIME = "{0}{0}{0}{0}-{0}{0}-{0}{0}[T ]{0}{0}:{0}{0}:{0}{0}*".format("[0-9]")
_WAS_LEFT_TO_THE_DRIVER = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL, from Python 3.12


_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""What stands neither for a character nor for a byte that is none."""


class SQLite(Dialect):
    """The dialect object that `CallTable` works through."""

    name = "SQLite"
    drivers = ("pysqlite",)
    locks_rows = False
    cell_kinds = frozenset({"text", "blob"})
    """The kinds of cell that may hold a histogram."""

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Arguments for `create_engine`."""
        return {} if "timeout" in url.query else {"connect_args": {"timeout": LOCK_SECONDS}}

    def missing_file(self, url: URL) -> str | None:
        """The database's file if it isn't there: SQLite would create it."""
        path = url.database or ":memory:"
        if url.query.get("mode") == "memory" or ":memory:" in path:
            return None
        if url.query.get("uri") and path.startswith("file:"):
            path = unquote(path.removeprefix("file:"))
        return None if Path(path).is_file() else path

    @contextmanager
    def prepared(self, connection: Connection) -> Iterator[None]:
        """Take the driver's transactions over, and read text that is no UTF-8; put all back at the end.

        The sqlite3 module begins transactions by itself, in one of three ways, and never an immediate one.
        """
        driver: Any = connection.connection.dbapi_connection
        if "isolation_level" not in dir(driver):
            raise CallstatsError(f"expected a connection of the sqlite3 module, got {type(driver).__name__}")
        names = [name for name in ("autocommit", "isolation_level", "text_factory") if hasattr(driver, name)]
        kept = [(name, getattr(driver, name)) for name in names]
        if "autocommit" in names:
            driver.rollback()
            driver.autocommit = _WAS_LEFT_TO_THE_DRIVER
        driver.isolation_level = None
        driver.text_factory = _decode
        try:
            yield
        finally:
            if driver.in_transaction:
                driver.rollback()
            for name, value in reversed(kept):
                setattr(driver, name, value)

    @contextmanager
    def transaction(self, connection: Connection, *, write: bool) -> Iterator[None]:
        """One transaction; for a write the lock is taken at once, so that nothing read in it can change before it ends."""
        with connection.begin():
            if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
                connection.exec_driver_sql("ROLLBACK")  # an event hook of the caller's engine began it
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield

    def check_database(self, connection: Connection) -> None:
        """Refuse what the job can't work on, whatever the table."""
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar_one()
        if encoding != "UTF-8":
            raise CallstatsError(f"expected a database whose text is UTF-8: this one's is {encoding}")

    def version(self, connection: Connection) -> int:
        """A number that another connection's commit changes, and this one's doesn't."""
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def tables(self, connection: Connection) -> list[str]:
        """The names of the tables, sorted."""
        rows = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        return [row[0] for row in rows]

    def columns(self, connection: Connection, table: str) -> list[str]:
        """The names of a table's or view's columns; none when it isn't there."""
        return [row[0] for row in connection.execute(text("SELECT name FROM pragma_table_xinfo(:t)"), {"t": table})]

    def reserves(self, table: str) -> bool:
        """Whether no table of users' may have that name."""
        return table.lower().startswith("sqlite_")

    def same_name(self, one: str, other: str) -> bool:
        """Whether two names mean one table or column: only A to Z have no case."""
        return one.encode("utf-8", "replace").lower() == other.encode("utf-8", "replace").lower()

    def key(self, connection: Connection, table: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The key as an expression in whose order each value stands once; refuse a column that isn't unique."""
        name = str(column.name)
        found = text("SELECT name FROM pragma_index_list(:t) WHERE \"unique\" AND NOT partial ORDER BY origin = 'pk' DESC, seq")
        for (index,) in connection.execute(found, {"t": table}).all():
            parts = connection.execute(text("SELECT name, coll FROM pragma_index_xinfo(:i) WHERE key"), {"i": index}).all()
            if len(parts) == 1 and parts[0].name is not None and self.same_name(parts[0].name, name):
                # The column's own collation may be another, in which different keys are equal.
                return collate(column, parts[0].coll)
        keys = text("SELECT name FROM pragma_table_xinfo(:t) WHERE pk ORDER BY pk")
        primary = [row[0] for row in connection.execute(keys, {"t": table})]
        if len(primary) == 1 and self.same_name(primary[0], name):
            return column  # the row id itself, which has no index
        if any(self.same_name(part, name) for part in primary):
            raise CallstatsError(f"expected a key of one column: the primary key of {table!r} is ({', '.join(primary)})")
        raise CallstatsError(f"expected a key that is unique: column {name!r} of {table!r} has no unique index of its own")

    def is_generated(self, connection: Connection, table: str, column: str) -> bool:
        """Whether the database itself works a column out."""
        found = text("SELECT name FROM pragma_table_xinfo(:t) WHERE hidden IN (2, 3)")
        return any(self.same_name(name, column) for (name,) in connection.execute(found, {"t": table}))

    def may_undo(self, connection: Connection, table: str) -> bool:
        """Whether there is a trigger."""
        found = text(
            "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' "
            "UNION ALL SELECT tbl_name FROM sqlite_temp_master WHERE type = 'trigger'"
        )
        return any(self.same_name(name, table) for (name,) in connection.execute(found))

    def in_transaction(self, connection: Connection) -> bool:
        """Whether no trigger has rolled it back."""
        return bool(connection.connection.dbapi_connection.in_transaction)  # type: ignore[union-attr]

    def clock(self, connection: Connection, table: str, column: ColumnElement[Any]) -> Clock:  # noqa: ARG002 - any cell may be a time
        """Text of RFC 3339; without an offset it is UTC, as in SQLite's own functions, which are exact to the millisecond."""
        upper = func.upper(column)
        shaped = and_(func.typeof(column) == "text", upper.op("GLOB")(_TIME))
        time: ColumnElement[Any] = case((shaped, func.julianday(upper)))
        return Clock(time, lambda ns: func.julianday(utc_text(ns, digits=3)))

    def cell(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """A cell's bytes and its kind, as expressions: sqlite3 fails a whole fetch on text that is no UTF-8."""
        return cast(column, LargeBinary), func.typeof(column, type_=String)

    def is_bytes(self, kind: str) -> bool:
        """Whether a cell of this kind takes bytes, and not text."""
        return kind == "blob"

    def value(self, cell: bytes, *, is_bytes: bool) -> str | bytes | None:
        """Text or bytes: any column takes both."""
        return cell if is_bytes else cell.decode()

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """A cell's size in bytes: ``length`` of text counts characters, and those before a NUL only."""
        return func.length(cast(column, LargeBinary))

    def not_before(
        self,
        connection: Connection,  # noqa: ARG002
        table: str,  # noqa: ARG002 - any cell may be a time
        column: ColumnElement[Any],
        day: datetime,
    ) -> ColumnElement[bool]:
        """A condition that no time from that day on fails, whatever it is stored as; ISO 8601 text sorts by its date."""
        return or_(func.typeof(column) != "text", column >= f"{day:%Y-%m-%d}")

    def literal(self, key: Key) -> ColumnElement[Any]:
        """A key as an expression, without any conversion on the way."""
        if isinstance(key, str) and (raw := _encode(key)) is not None:
            return cast(bindparam(None, raw, LargeBinary, unique=True), Text)
        return bindparam(None, key, NullType(), unique=True)

    def is_plain(self, key: Key) -> bool:
        """Whether the driver takes a key as it is."""
        return not isinstance(key, str) or _encode(key) is None

    def holds(self, key: Key) -> bool:
        """Whether a column could have such a key."""
        if isinstance(key, str):
            return not _SURROGATE.search(key)
        return not isinstance(key, int) or -(2**63) <= key < 2**63

    def explain(self, error: BaseException | None) -> str:
        """One line on what the driver reported."""
        line = " ".join(str(error).split()) or type(error).__name__
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{line}: another program kept its lock for too long"
        return line

    def is_wrong_use(self, error: BaseException | None) -> bool:
        """Whether the fault lies in what was asked for, and not in the database's state."""
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
            return True
        return _code(error) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN)

    def refuses(self, error: BaseException | None) -> bool:
        """Whether a constraint or a trigger refused a row's new contents."""
        return isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError))


def _code(error: BaseException | None) -> int | None:
    """The primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _encode(value: str) -> bytes | None:
    """The bytes of text that was no UTF-8; None for other text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape")
    return None
