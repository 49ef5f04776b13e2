"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Text, case, cast, collate, func, inspect, literal_column, or_, text, true
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import LargeBinary, UserDefinedType

from callstats._timestamps import format_time
from callstats.call import Key
from callstats.db.dialects.base import TimeColumn, parameter, quiet
from callstats.db.dialects.server import LOCK_SECONDS, TEXT_OFFSET, TEXT_TIME, Server
from callstats.errors import ArgumentError

_BLOB_KINDS = {
    "text": "text",
    "character varying": "text",
    "bytea": "blob",
    "json": "json",
    "jsonb": "json",
}
_LOST_STATES = ("57P01", "57P02", "57P03", "57P05", "25P03")
"""The server stops, starts, or ended an idle session. Class 08 means a lost connection too."""

_NOT_THE_ROW = ("08", "40", "53", "55", "57", "58", "XX", "")
"""Classes of errors in a function that the row did not cause: connections, conflicts, resources, locks, and the server itself."""


class _Type(UserDefinedType[Any]):
    """A type by its name in the database."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        return self.name


class Postgres(Server):
    """The dialect of PostgreSQL."""

    name = "PostgreSQL"
    driver = "psycopg"
    extra = "postgres"
    whole_types = frozenset({"smallint", "integer", "bigint"})
    text_types = frozenset({"text", "character varying", "bpchar", "name"})

    def begin(self, connection: Connection, *, write: bool) -> None:
        """Bound the time that a write waits behind a change of the table."""
        if write:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")

    def check_database(self, connection: Connection) -> None:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding == "SQL_ASCII":
            raise ArgumentError("url_or_engine", "a database with a real encoding", encoding)

    def same_name(self, one: str, other: str) -> bool:
        return one == other

    def columns(self, connection: Connection) -> list[str]:
        try:
            with quiet():
                return [str(column["name"]) for column in inspect(connection).get_columns(self.table, self.schema)]
        except NoSuchTableError:
            return []

    def is_generated(self, connection: Connection, column: str) -> bool:
        with quiet():
            found = inspect(connection).get_columns(self.table, self.schema)
        return any("computed" in one and one["name"] == column for one in found)

    def key(self, connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the key in the order of its unique index, whose collation may differ from the column's."""
        name = str(column.name)
        this = self._column(connection, name)
        found = text(
            "SELECT i.indcollation[0], c.collname FROM pg_index i LEFT JOIN pg_collation c ON c.oid = i.indcollation[0] "
            "WHERE i.indrelid = to_regclass(:t) "
            "AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL "
            "AND i.indexprs IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = :n ORDER BY i.indisprimary DESC"
        )
        index = connection.execute(found, {"t": self._relation, "n": this.number}).first()
        if index is None:
            raise self.no_key(connection, name)
        self.key_type = this.kind
        return collate(column, index[1]) if index[0] != this.collation else column

    def selected_key(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return whole numbers, text and bytes as they are, and any other type, such as uuid, as its text."""
        return column if self._is_simple() else cast(column, Text)

    def may_undo(self, connection: Connection) -> bool:
        """Return whether there is a trigger or a rule on the table, its partitions or the tables that inherit from it."""
        found = text(
            "WITH RECURSIVE kin AS (SELECT CAST(to_regclass(:t) AS oid) AS oid "
            "UNION SELECT inhrelid FROM pg_inherits JOIN kin ON inhparent = kin.oid) "
            "SELECT EXISTS (SELECT FROM pg_class JOIN kin USING (oid) WHERE relhasrules) "
            "OR EXISTS (SELECT FROM pg_trigger JOIN kin ON tgrelid = kin.oid WHERE NOT tgisinternal)"
        )
        return bool(connection.execute(found, {"t": self._relation}).scalar_one())

    def inspect_column(self, connection: Connection, column: str) -> None:
        this = self._column(connection, column)
        if this.kind not in _BLOB_KINDS:
            raise self.wrong_type("column", "text, bytes or JSON", column, this.kind)
        self.blob_kind, self.rewrites = _BLOB_KINDS[this.kind], this.kind == "jsonb"
        self.max_bytes = this.modifier - 4 if this.kind == "character varying" and this.modifier > 0 else None
        self._blob_type = _Type({"character varying": "text"}.get(this.kind, this.kind))

    def time_column(self, connection: Connection, column: ColumnElement[Any]) -> TimeColumn:
        """Return a timestamp (UTC if it has no time zone), a date, or text of RFC 3339."""
        kind = self._column(connection, str(column.name)).kind
        if kind == "timestamp with time zone":
            return column, lambda ns: cast(parameter(format_time(ns)), _Type(kind))
        plain = _Type("timestamp without time zone")
        if kind in ("timestamp without time zone", "date"):
            time: ColumnElement[Any] = cast(column, plain)
        elif kind in self.text_types:
            time = _parsed(column)
        else:
            raise self.wrong_type("time_column", "times or text", str(column.name), kind)
        return time, lambda ns: cast(parameter(format_time(ns, zone="")), plain)

    def not_before(self, connection: Connection, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """Return a condition that every time from that day on meets. ISO 8601 text sorts by its date if sorted by bytes."""
        kind = self._column(connection, str(column.name)).kind
        if kind in self.text_types:
            return or_(column.is_(None), collate(column, "C") >= parameter(f"{day:%Y-%m-%d}"))
        if kind in ("timestamp with time zone", "timestamp without time zone", "date"):
            return or_(column.is_(None), column >= cast(parameter(f"{day:%Y-%m-%d}"), _Type(kind)))
        return true()

    def blob(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        if self.blob_kind == "blob":
            return column, self.kind_of(column)
        return func.convert_to(cast(column, Text), "UTF8", type_=LargeBinary), self.kind_of(column)

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """Return a blob's size in bytes, which PostgreSQL knows without reading the blob."""
        return func.octet_length(cast(column, Text) if self.blob_kind == "json" else column)

    def blob_parameter(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a parameter of the column's type, but without a length: a cast to a length would cut."""
        return cast(value, self._blob_type)

    def literal(self, key: Key) -> ColumnElement[Any]:
        return self.key_parameter(parameter(key))

    def key_parameter(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return a parameter of the key's type, but without a length."""
        return cast(parameter, _Type(self.key_type))

    def can_hold(self, key: Key) -> bool:
        """Return whether the key column could hold such a key. A type unknown here might hold any text."""
        return super().can_hold(key) if self._is_simple() else isinstance(key, str)

    def explain(self, error: BaseException | None) -> str:
        """Return the first line of the message: the others contain values of the row."""
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        return " ".join(str(primary or error).split()) or type(error).__name__

    def is_wrong_use(self, error: BaseException | None) -> bool:
        import psycopg

        state = getattr(error, "sqlstate", None)
        if state is None:
            line = str(error)
            return isinstance(error, psycopg.ProgrammingError) or (
                "FATAL" in line and not any(word in line for word in ("starting up", "shutting down", "recovery", "too many"))
            )
        return state[:2] in ("0A", "22", "28", "3D", "3F", "42")

    def rejects_row(self, error: BaseException | None) -> bool:
        """Return whether a type, a constraint, a view or a trigger rejected a row's new contents.

        A function may raise any state; then the error has a context.
        """
        kind = (getattr(error, "sqlstate", None) or "")[:2]
        context = getattr(getattr(error, "diag", None), "context", None)
        return kind in ("22", "23", "44", "P0") or (bool(context) and kind not in _NOT_THE_ROW)

    def is_transient(self, error: BaseException | None) -> bool:
        state = getattr(error, "sqlstate", None) or ""
        return state[:2] == "40" or state == "55P03"  # lock_timeout

    def is_lost(self, error: BaseException | None) -> bool:
        import psycopg

        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return state[:2] == "08" or state in _LOST_STATES

    def _is_simple(self) -> bool:
        return self.key_type in self.whole_types | self.text_types | {"bytea"}

    @property
    def _relation(self) -> str:
        """The quoted name of the table, as to_regclass takes it."""
        return ".".join('"' + part.replace('"', '""') + '"' for part in (self.schema, self.table) if part is not None)

    def _column(self, connection: Connection, column: str) -> Any:
        """Return a column's number, collation, type (of a domain, the one below it) and modifier of the type."""
        found = text(
            "SELECT a.attnum AS number, a.attcollation AS collation, "
            "CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier, regexp_replace("
            "format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END, -1), '^character$', 'bpchar') AS kind "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(:t) AND a.attname = :c"
        )
        return connection.execute(found, {"t": self._relation, "c": column}).one()


def _parsed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return RFC 3339 text as a time in UTC. A cast would end the whole query at the first text that is no time."""

    def part(pattern: str, kind: str = "integer") -> Any:
        return cast(func.substring(column, pattern), _Type(kind))

    years, months, days = part("^([0-9]{4})") - 1, part("^.{4}-([0-9]{2})") - 1, part("^.{7}-([0-9]{2})") - 1
    hours, minutes = part("^.{10}.([0-9]{2})"), part("^.{13}:([0-9]{2})")
    seconds = part("^.{16}:([0-9]{2}(?:[.][0-9]+)?)", "double precision")
    since = func.make_interval(years, months, 0, days, hours, minutes, seconds)
    # A sign and two digits, as in +02:30, cast to whole numbers.
    east, further = part("([+-][0-9]{2}):[0-9]{2}$"), part("[+-][0-9]{2}:([0-9]{2})$")
    sign = case((column.op("~")("-[0-9]{2}:[0-9]{2}$"), -1), else_=1)
    offset = case((column.op("~")(TEXT_OFFSET), func.make_interval(0, 0, 0, 0, east, sign * further)), else_=func.make_interval())
    start: ColumnElement[Any] = literal_column("timestamp '0001-01-01 00:00:00'")
    return case((column.op("~")(TEXT_TIME), start + since - offset))
