"""What is special to MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary, bindparam, case, cast, func, literal_column, or_, text, true
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats.db.dialects.base import Clock
from callstats.db.dialects.server import LOCK_SECONDS, Server
from callstats.db.moments import TEXT_OFFSET, TEXT_TIME, utc_text
from callstats.db.results import Key
from callstats.errors import CallstatsError

_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_BYTES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_FIRST_WITH_SKIP_LOCKED = {True: (10, 6), False: (8, 0, 1)}
"""The first release whose row locks can be skipped, of MariaDB and of MySQL."""

_WRONG_USE = frozenset({1044, 1045, 1046, 1049, 1054, 1064, 1130, 1142, 1143, 1146, 1227, 1251, 1292, 1305, 1698, 2054, 2059})
_PASSING = frozenset({1020, 1205, 1213, 1305, 3572})
"""Deadlocks and lock timeouts. 1305: the savepoint went with the transaction that a deadlock rolled back."""
_LOST = frozenset({0, 1040, 1053, 1077, 1079, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
_REFUSALS = frozenset({1644, 3819, 4025})
"""A trigger's signal, and check constraints, which PyMySQL has among other errors."""


_FIRST_FREE = 5000
"""From here on no server has errors of its own for a statement: a trigger's signal that has a number has such a one."""


class _Column(NamedTuple):
    kind: str
    room: int | None
    charset: str | None


class MySQL(Server):
    """The dialect object that `CallTable` works through."""

    name = "MySQL"
    drivers = ("pymysql",)
    extra = "mysql"
    whole_types = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
    text_types = _TEXTS | {"uuid"}
    _charset: str | None = None
    _is_mariadb = False

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Bytes are sent as bytes, and text as all of Unicode."""
        return {"connect_args": {"binary_prefix": True} | ({} if "charset" in url.query else {"charset": "utf8mb4"})}

    def settings(self, connection: Connection) -> Any:
        """How long the session waits for locks."""
        return connection.exec_driver_sql("SELECT @@session.innodb_lock_wait_timeout, @@session.lock_wait_timeout").one()

    def get_ready(self, connection: Connection) -> None:
        """A statement waits neither long for a row's lock nor for ever behind a change of the table."""
        self._wait(connection, LOCK_SECONDS, LOCK_SECONDS)

    def put_back(self, connection: Connection, kept: Any) -> None:
        """As they were; a session that is gone takes nothing back, nor is it missed."""
        with suppress(DBAPIError, *self.driver_errors()):
            if not connection.closed and not connection.invalidated and connection.connection.dbapi_connection is self._ready:
                connection.rollback()
                self._wait(connection, *kept)
                connection.rollback()

    @staticmethod
    def _wait(connection: Connection, rows: int, table: int) -> None:
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {rows:d}, lock_wait_timeout = {table:d}")

    def check_database(self, connection: Connection) -> None:
        """Refuse servers without the row locks, and sessions without all of Unicode."""
        version, database, charset = connection.exec_driver_sql("SELECT VERSION(), DATABASE(), @@character_set_client").one()
        self._is_mariadb = "mariadb" in version.lower()
        number = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
        if number < _FIRST_WITH_SKIP_LOCKED[self._is_mariadb]:
            raise CallstatsError(f"expected MySQL 8.0.1, MariaDB 10.6 or newer, which can skip locked rows: this is {version}")
        if database is None:
            raise CallstatsError("expected a URL that names a database, such as mysql://user:password@host/database")
        if charset != "utf8mb4":
            raise CallstatsError(f"expected a connection whose text is utf8mb4: this one's is {charset}")

    def tables(self, connection: Connection) -> list[str]:
        """The names of the tables, sorted."""
        rows = connection.exec_driver_sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME"
        )
        return [row[0] for row in rows]

    def columns(self, connection: Connection, table: str) -> list[str]:
        """The names of a table's or view's columns; none when it isn't there."""
        found = text(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :t ORDER BY ORDINAL_POSITION"
        )
        return [row[0] for row in connection.execute(found, {"t": table})]

    def same_name(self, one: str, other: str) -> bool:
        """Whether two names mean one column: the case of letters is none."""
        return one.lower() == other.lower()

    def key(self, connection: Connection, table: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The key itself, in the order of its collation; refuse tables without transactions."""
        name = str(column.name)
        engine = connection.execute(
            text("SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :t"), {"t": table}
        ).scalar_one()
        found = text(
            "SELECT INDEX_NAME, MAX(COLUMN_NAME) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() "
            "AND TABLE_NAME = :t AND NON_UNIQUE = 0 GROUP BY INDEX_NAME HAVING COUNT(*) = 1"
        )
        unique = [row[1] for row in connection.execute(found, {"t": table})]
        if not any(part is not None and self.same_name(part, name) for part in unique):
            parts = text(
                "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() "
                "AND TABLE_NAME = :t AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
            )
            raise self.no_key(table, name, [row[0] for row in connection.execute(parts, {"t": table})])
        if engine != "InnoDB":
            raise CallstatsError(f"expected a table of InnoDB, which has transactions: {table!r} is kept by {engine}")
        self.key_type = self._column(connection, table, name).kind
        if self.key_type not in self.whole_types | self.text_types | _BYTES:
            raise self.no_key_type(table, name, self.key_type)
        return column

    def is_generated(self, connection: Connection, table: str, column: str) -> bool:
        """Whether the database itself works a column out."""
        found = text(
            "SELECT COALESCE(GENERATION_EXPRESSION, '') <> '' FROM information_schema.COLUMNS "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :t AND COLUMN_NAME = :c"
        )
        return bool(connection.execute(found, {"t": table, "c": column}).scalar_one())

    def may_undo(self, connection: Connection, table: str) -> bool:  # noqa: ARG002
        """Always: only whoever may make triggers sees them."""
        return True

    def inspect_cells(self, connection: Connection, table: str, column: str) -> None:
        """Learn the type of the column: a longer cell would be cut by a server that isn't strict."""
        this = self._column(connection, table, column)
        if this.kind in _TEXTS:
            self.cell_kind = "json" if self._is_mariadb and self._must_be_json(connection, table, column) else "text"
        elif this.kind in _BYTES:
            self.cell_kind = "blob"
        elif this.kind == "json":
            self.cell_kind = "json of its own form"
        else:
            raise self.no_cell_type(table, column, this.kind)
        self.room, self._charset = this.room, this.charset

    def clock(self, connection: Connection, table: str, column: ColumnElement[Any]) -> Clock:
        """A DATETIME or DATE (in UTC), a TIMESTAMP, or text of RFC 3339."""
        kind = self._column(connection, table, str(column.name)).kind
        if kind == "timestamp":  # the one function that doesn't go by the session's time zone
            return Clock(func.unix_timestamp(column), lambda ns: literal_column(f"({ns // 1000} * 0.000001)"))
        if kind in ("datetime", "date"):
            time: ColumnElement[Any] = column
        elif kind in _TEXTS:
            time = _parsed(column)
        else:
            raise self.no_time_type(table, str(column.name), kind)
        return Clock(time, lambda ns: cast(utc_text(ns, zone=""), DATETIME(fsp=6)))

    def not_before(self, connection: Connection, table: str, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """A condition that no time from that day on fails; ISO 8601 text sorts by its date."""
        kind = self._column(connection, table, str(column.name)).kind
        if kind not in ("timestamp", "datetime", "date", *_TEXTS):
            return true()
        return or_(column.is_(None), column >= f"{day:%Y-%m-%d}")

    def cell(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """A cell's bytes in UTF-8, and its kind."""
        kind = self.kind_of(column)
        if self.cell_kind == "blob":
            return column, kind
        utf8 = column if self._charset in ("utf8mb4", "utf8mb3", "utf8", "ascii") else func.convert(column.op("USING")(_UTF8))
        return cast(utf8, LargeBinary), kind

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """A cell's size in bytes."""
        return func.octet_length(column)

    def literal(self, key: Key) -> ColumnElement[Any]:
        """A key, to be compared by the column's collation."""
        return bindparam(None, key, NullType(), unique=True)

    def _in_range(self, key: int) -> bool:
        return -(2**63) <= key < 2**64

    def driver_errors(self) -> tuple[type[Exception], ...]:
        """Those of PyMySQL."""
        import pymysql

        return (pymysql.Error,)

    def explain(self, error: BaseException | None) -> str:
        """The server's line and its number."""
        code = _code(error)
        line = " ".join(str(error.args[1] if code is not None and error and len(error.args) > 1 else error).split())
        return f"{line or type(error).__name__}" + (f" ({code})" if code else "")

    def is_wrong_use(self, error: BaseException | None) -> bool:
        """Whether the server knows no such name, syntax or user."""
        return _code(error) in _WRONG_USE

    def refuses(self, error: BaseException | None) -> bool:
        """Whether a type, a constraint or a trigger refused a row's new contents."""
        import pymysql

        code = _code(error)
        by_signal = code in _REFUSALS or (code is not None and code >= _FIRST_FREE)
        return by_signal or isinstance(error, (pymysql.IntegrityError, pymysql.DataError))

    def is_passing(self, error: BaseException | None) -> bool:
        """Deadlocks, and locks that were waited for in vain."""
        return _code(error) in _PASSING

    def is_lost(self, error: BaseException | None) -> bool:
        """Whether the connection is gone, or can't be made."""
        return _code(error) in _LOST

    @staticmethod
    def _must_be_json(connection: Connection, table: str, column: str) -> bool:
        """Whether text is declared as JSON, which MariaDB keeps as text with a check."""
        found = text(
            "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS "
            "WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = :t AND CONSTRAINT_NAME = :c"
        )
        clauses = connection.execute(found, {"t": table, "c": column}).scalars()
        return any(clause.lower().startswith("json_valid(") for clause in clauses)

    def _column(self, connection: Connection, table: str, column: str) -> _Column:
        """A column's type, the most bytes that fit for sure, and its character set."""
        found = text(
            "SELECT DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, CHARACTER_SET_NAME FROM information_schema.COLUMNS "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = :t AND COLUMN_NAME = :c"
        )
        kind, room, charset = connection.execute(found, {"t": table, "c": column}).one()
        return _Column(kind.lower(), None if room is None else int(room), charset)


_UTF8: ColumnElement[Any] = literal_column("utf8mb4")


def _code(error: BaseException | None) -> int | None:
    """The error's number."""
    code = error.args[0] if error is not None and error.args else None
    return code if isinstance(code, int) else None


def _parsed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """RFC 3339 text as a time in UTC: NULL for a date that doesn't exist."""
    fraction = func.coalesce(func.regexp_substr(column, "[.][0-9]+"), "")
    clock = func.concat(func.substr(column, 1, 10), " ", func.substr(column, 12, 8), fraction)
    sign = case((func.substr(column, -6, 1) == "-", -1), else_=1)
    offset = sign * (func.substr(column, -5, 2) * literal_column("60") + func.substr(column, -2))
    minutes = case((column.op("REGEXP")(TEXT_OFFSET), offset), else_=0)
    at = func.timestampadd(literal_column("MINUTE"), -minutes, cast(clock, DATETIME(fsp=6)))
    return case((column.op("REGEXP")(TEXT_TIME), at))
