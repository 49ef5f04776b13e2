"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary, case, cast, func, literal_column, or_, table, text, true, update
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from callstats._timestamps import format_time
from callstats.call import Key
from callstats.db.dialects.base import Target, TimeColumn
from callstats.db.dialects.server import LOCK_SECONDS, TEXT_OFFSET, TEXT_TIME, Server
from callstats.errors import ArgumentError

_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_BYTES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_FIRST_WITH_SKIP_LOCKED = {True: (10, 6), False: (8, 0, 1)}
"""The first releases of MariaDB and of MySQL that can skip locked rows."""

_FORBIDDEN = frozenset({1044, 1142, 1143, 1227, 1290, 1792, 1836})
"""Missing privileges, and sessions or servers that are read-only."""
_REJECTIONS = frozenset({1644, 3819, 4025})
"""A trigger's signal and check constraints, which PyMySQL does not report as integrity errors."""

_STATEMENT_ROWS = 200
_STATEMENT_BYTES = 4 * 2**20

_FIRST_FREE = 5000
"""No server has errors of its own for statements from this number on; a trigger's signal may use them."""


class MySQL(Server):
    """The dialect of MySQL and MariaDB."""

    name = "MySQL"
    driver = "pymysql"
    extra = "mysql"
    wrong_use = frozenset(
        {1044, 1045, 1046, 1049, 1054, 1064, 1130, 1142, 1143, 1146, 1227, 1251, 1290, 1292, 1305, 1698, 1792, 1836, 2054, 2059}
    )
    transient = frozenset({1020, 1205, 1213, 1305, 3572})  # 1305: a deadlock rolled back the transaction with its savepoint
    timed_out = frozenset({1317, 1969, 3024})  # max_statement_time, max_execution_time, and somebody's KILL QUERY
    lost = frozenset({0, 1040, 1053, 1077, 1079, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
    whole_types = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
    text_types = _TEXTS | {"uuid"}
    _charset: str | None = None
    _is_mariadb = False
    _statement_bytes = _STATEMENT_BYTES

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Send bytes as bytes, and text as utf8mb4."""
        charset = {} if "charset" in url.query else {"charset": "utf8mb4"}
        return {**super().engine_options(url), "connect_args": {"binary_prefix": True, **charset}}

    def set_up(self, connection: Connection) -> None:
        """Bound the time that a statement waits for a row's lock, or behind a change of the table."""
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}")

    def check_database(self, connection: Connection) -> None:
        asked = "SELECT VERSION(), DATABASE(), @@character_set_client, @@max_allowed_packet"
        version, database, charset, packet = connection.exec_driver_sql(asked).one()
        self._statement_bytes = min(_STATEMENT_BYTES, packet // 2)
        self._is_mariadb = "mariadb" in version.lower()
        number = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
        if number < _FIRST_WITH_SKIP_LOCKED[self._is_mariadb]:
            raise ArgumentError("url_or_engine", "MySQL 8.0.1, MariaDB 10.6 or newer, which skip locked rows", version)
        if database is None:
            raise ArgumentError("url_or_engine", "a URL with a database, such as mysql://user:password@host/database", database)
        if charset != "utf8mb4":
            raise ArgumentError("url_or_engine", "a connection with the character set utf8mb4", charset)

    def same_name(self, one: str, other: str) -> bool:
        return one.lower() == other.lower()

    def key(self, connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the key itself, in the order of its collation. Raise for a table without transactions."""
        name = str(column.name)
        engine = self._catalogue(connection, "SELECT ENGINE FROM information_schema.TABLES").scalar()
        unique = self._catalogue(
            connection,
            "SELECT MAX(COLUMN_NAME) FROM information_schema.STATISTICS",
            "AND NON_UNIQUE = 0 GROUP BY INDEX_NAME HAVING COUNT(*) = 1",
        ).scalars()
        if not self.has(unique, name):
            raise self.no_key(connection, name)
        if engine != "InnoDB":
            raise ArgumentError("table", "an InnoDB table, which has transactions", self.table, hint=f"its engine is {engine}")
        self.key_type = self._column(connection, name).kind
        if self.key_type not in self.whole_types | self.text_types | _BYTES:
            raise self.wrong_type("key", "whole numbers, text or bytes", name, self.key_type)
        return column

    def columns(self, connection: Connection) -> list[str]:
        """Return the names of the columns; SHOW CREATE TABLE would need more privileges than a few columns'."""
        found = self._catalogue(connection, "SELECT COLUMN_NAME FROM information_schema.COLUMNS", "ORDER BY ORDINAL_POSITION")
        return [*found.scalars()]

    def check_update(self, connection: Connection, column: str) -> None:
        """Raise for a column whose history MariaDB keeps, since that only grows, and if an update of no row fails."""
        found = self._catalogue(connection, "SELECT TABLE_TYPE FROM information_schema.TABLES").scalar()
        extra = self._column(connection, column).extra
        if found == "SYSTEM VERSIONED" and "WITHOUT SYSTEM VERSIONING" not in extra.upper():
            hint = f"it is system-versioned, so each old value would be kept: make column {column!r} WITHOUT SYSTEM VERSIONING"
            raise self.not_writable(hint)
        names = [column, *self.self_setting(connection)]
        this = table(self.table, *map(sql_column, names), schema=self.schema)
        try:
            connection.execute(update(this).where(literal_column("0 = 1")).values({this.c[name]: this.c[name] for name in names}))
        except DBAPIError as error:
            if _error_number(error.orig) not in _FORBIDDEN:
                raise
            raise self.not_writable(self.explain(error.orig)) from None

    def is_generated(self, connection: Connection, column: str) -> bool:
        return bool(self._column(connection, column).generated)

    def self_setting(self, connection: Connection) -> list[str]:
        """Return the columns with ON UPDATE CURRENT_TIMESTAMP."""
        select = "SELECT COLUMN_NAME FROM information_schema.COLUMNS"
        return [*self._catalogue(connection, select, "AND EXTRA LIKE '%on update%'").scalars()]

    def may_undo(self, connection: Connection) -> bool:  # noqa: ARG002
        """Return True: triggers are visible only to users who may create them."""
        return True

    def index_length(self, connection: Connection, column: str) -> int | None:
        """Return the characters of a time that are indexed in a column of unbounded text."""
        return 32 if self._column(connection, column).kind.endswith("text") else None

    def inspect_column(self, connection: Connection, column: str) -> None:
        """Learn the type and the size of the column: a server that isn't strict would cut a longer blob."""
        this = self._column(connection, column)
        if this.kind in _TEXTS:
            self.blob_kind = "json" if self._is_mariadb and self._must_be_json(connection, column) else "text"
        elif this.kind in _BYTES:
            self.blob_kind = "blob"
        elif this.kind == "json":
            self.blob_kind = "json"
        else:
            raise self.wrong_type("column", "text, bytes or JSON", column, this.kind)
        self.max_bytes, self._charset, self.rewrites = this.max_bytes, this.charset, this.kind == "json"

    def time_column(self, connection: Connection, column: ColumnElement[Any]) -> TimeColumn:
        """Return a DATETIME or DATE (in UTC), a TIMESTAMP, or text of RFC 3339."""
        kind = self._column(connection, str(column.name)).kind
        if kind == "timestamp":  # unix_timestamp is the only function that ignores the session's time zone
            return func.nullif(func.unix_timestamp(column), literal_column("0")), lambda ns: literal_column(
                f"({ns // 1000} * 0.000001)"
            )
        if kind in ("datetime", "date"):
            time: ColumnElement[Any] = column
        elif kind in _TEXTS:
            time = _parsed(column)
        else:
            raise self.wrong_type("time_column", "times or text", str(column.name), kind)
        return time, lambda ns: cast(format_time(ns, zone=""), DATETIME(fsp=6))

    def not_before(self, connection: Connection, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """Return a condition that every time from that day on meets. ISO 8601 text sorts by its date."""
        kind = self._column(connection, str(column.name)).kind
        if kind not in ("timestamp", "datetime", "date", *_TEXTS):
            return true()
        return or_(column.is_(None), column >= f"{day:%Y-%m-%d}")

    def blob(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        kind = self.kind_of(column)
        if self.blob_kind == "blob":
            return column, kind
        if self._charset not in ("utf8mb4", "utf8mb3", "utf8", "ascii"):
            column = func.convert(column.op("USING")(literal_column("utf8mb4")))
        return cast(column, LargeBinary), kind

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        return func.octet_length(column)

    def rows(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.greatest(func.json_length(column), 1) if self.rewrites else super().rows(column)

    def write(self, connection: Connection, target: Target, blobs: Sequence[tuple[Key, bytes, bool]]) -> int:
        """Write blobs in statements of many rows, with keys and blobs in hex: PyMySQL takes ten times as long to escape them.

        A CASE needs no privilege, unlike a temporary table.
        """
        changed = 0
        key, blob, *kept = (str(part.compile(dialect=connection.dialect)) for part in (target.key, target.blob, *target.kept))
        end = "".join(f", {name} = {name}" for name in kept)
        start = f"UPDATE {connection.dialect.identifier_preparer.format_table(target.table)} SET {blob} = CASE {key}"  # noqa: S608 - quoted
        for part in self._statements(blobs):
            if len(part) == 1:
                changed += super().write(connection, target, part)
                continue
            pairs = [(_hex_of(this), self._hex_blob(new)) for this, new, _ in part]
            cases = " ".join(f"WHEN {this} THEN {new}" for this, new in pairs)
            keys = ", ".join(this for this, _ in pairs)
            changed += connection.exec_driver_sql(f"{start} {cases} END{end} WHERE {key} IN ({keys})").rowcount
        return changed

    def _statements(self, blobs: Sequence[tuple[Key, bytes, bool]]) -> Iterator[list[tuple[Key, bytes, bool]]]:
        """Divide blobs into statements that the server takes. A blob that is too large as hex gets its own."""
        part: list[tuple[Key, bytes, bool]] = []
        left = self._statement_bytes
        for row in blobs:
            left -= 2 * len(row[1])
            if part and (left < 0 or len(part) == _STATEMENT_ROWS):
                yield part
                part, left = [], self._statement_bytes - 2 * len(row[1])
            part.append(row)
        yield part

    def _hex_blob(self, blob: bytes) -> str:
        if self.blob_kind == "blob":
            return f"x'{blob.hex()}'"
        return f"_utf8mb4 x'{blob.hex()}'" if self.to_driver(blob, is_bytes=False) is not None else "NULL"

    def _in_range(self, key: int) -> bool:
        return -(2**63) <= key < 2**64

    def explain(self, error: BaseException | None) -> str:
        code = _error_number(error)
        line = " ".join(str(error.args[1] if code is not None and error and len(error.args) > 1 else error).split())
        return f"{line or type(error).__name__}" + (f" ({code})" if code else "")

    def codes(self, error: BaseException | None) -> Collection[object]:
        return (_error_number(error),)

    def rejects_row(self, error: BaseException | None) -> bool:
        import pymysql

        code = _error_number(error)
        by_signal = code in _REJECTIONS or (code is not None and code >= _FIRST_FREE)
        return by_signal or isinstance(error, (pymysql.IntegrityError, pymysql.DataError))

    def _must_be_json(self, connection: Connection, column: str) -> bool:
        """Return whether text is declared as JSON, which MariaDB stores as text with a check."""
        found = text(
            "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS "
            "WHERE CONSTRAINT_SCHEMA = COALESCE(:s, DATABASE()) AND TABLE_NAME = :t AND CONSTRAINT_NAME = :c"
        )
        clauses = connection.execute(found, {"s": self.schema, "t": self.table, "c": column}).scalars()
        return any(clause.lower().startswith("json_valid(") for clause in clauses)

    def _column(self, connection: Connection, column: str) -> Any:
        """Return a column's type, the number of bytes that always fit, its character set, and what generates it."""
        select = (
            "SELECT LOWER(DATA_TYPE) AS kind, CHARACTER_MAXIMUM_LENGTH AS max_bytes, CHARACTER_SET_NAME AS charset, "
            "GENERATION_EXPRESSION AS generated, EXTRA AS extra FROM information_schema.COLUMNS"
        )
        return self._catalogue(connection, select, "AND COLUMN_NAME = :c", c=column).one()

    def _catalogue(self, connection: Connection, select: str, more: str = "", **values: str) -> Any:
        """Select from a view of the catalogue what it says about the table."""
        query = text(f"{select} WHERE TABLE_SCHEMA = COALESCE(:s, DATABASE()) AND TABLE_NAME = :t {more}")
        return connection.execute(query, {"s": self.schema, "t": self.table, **values})


def _hex_of(key: Key) -> str:
    """Return a key as SQL."""
    if isinstance(key, str):
        return f"_utf8mb4 x'{key.encode().hex()}'"
    return f"x'{key.hex()}'" if isinstance(key, bytes) else str(key)


def _error_number(error: BaseException | None) -> int | None:
    """Return the error's number."""
    code = error.args[0] if error is not None and error.args else None
    return code if isinstance(code, int) else None


def _parsed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return RFC 3339 text as a time in UTC; NULL for a date that doesn't exist."""
    fraction = func.coalesce(func.regexp_substr(column, "[.][0-9]+"), "")
    time = case((func.char_length(column) == 10, "00:00:00"), else_=func.substr(column, 12, 8))
    clock = func.concat(func.substr(column, 1, 10), " ", time, fraction)
    sign = case((func.substr(column, -6, 1) == "-", -1), else_=1)
    offset = sign * (func.substr(column, -5, 2) * literal_column("60") + func.substr(column, -2))
    minutes = case((column.op("REGEXP")(TEXT_OFFSET), offset), else_=0)
    at = func.timestampadd(literal_column("MINUTE"), -minutes, cast(clock, DATETIME(fsp=6)))
    return case((column.op("REGEXP")(TEXT_TIME), at))
