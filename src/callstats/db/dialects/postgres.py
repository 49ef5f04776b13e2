"""What is special to PostgreSQL, through psycopg 3."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, case, cast, collate, func, literal_column, or_, text, true
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import LargeBinary, NullType, UserDefinedType

from callstats.db.dialects.base import Clock
from callstats.db.dialects.server import LOCK_SECONDS, Server
from callstats.db.moments import TEXT_OFFSET, TEXT_TIME, utc_text
from callstats.db.results import Key
from callstats.errors import CallstatsError

_KINDS = {
    "text": "text",
    "character varying": "text",
    "bytea": "blob",
    "json": "json",
    "jsonb": "json of its own form",
}
_PASSING = ("55P03",)
"""A lock that was waited for in vain; all of class 40 pass too: deadlocks, serialization failures."""
_LOST = ("57P01", "57P02", "57P03", "57P05", "25P03")
"""The server goes down, comes up, or ended an idle session; all of class 08 are lost connections too."""


_NOT_THE_ROW = ("08", "40", "53", "55", "57", "58", "XX", "")
"""Classes of what befalls a function without the row's doing: connections, conflicts, resources, locks, and the server itself."""


class _Named(UserDefinedType[Any]):
    """A type by its name in the database."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        return self.name


class _Column(NamedTuple):
    number: int
    kind: str
    room: int | None
    collation: int


class Postgres(Server):
    """The dialect object that `CallTable` works through."""

    name = "PostgreSQL"
    drivers = ("psycopg",)
    extra = "postgres"
    whole_types = frozenset({"smallint", "integer", "bigint"})
    text_types = frozenset({"text", "character varying", "bpchar", "name"})

    def begin(self, connection: Connection, *, write: bool) -> None:
        """A write doesn't wait for ever behind a change of the table."""
        if write:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")

    def check_database(self, connection: Connection) -> None:
        """Refuse a database whose text has no encoding."""
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding == "SQL_ASCII":
            raise CallstatsError("expected a database whose text has an encoding: this one's is SQL_ASCII")

    def tables(self, connection: Connection) -> list[str]:
        """The names of the tables that the search path shows, sorted."""
        rows = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid) AND relnamespace NOT IN "
            "(SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema')) ORDER BY relname"
        )
        return [row[0] for row in rows]

    def columns(self, connection: Connection, table: str) -> list[str]:
        """The names of a table's or view's columns; none when it isn't there."""
        found = text(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(:t)) "
            "AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        return [row[0] for row in connection.execute(found, {"t": table})]

    def same_name(self, one: str, other: str) -> bool:
        """Whether two names mean one column."""
        return one == other

    def key(self, connection: Connection, table: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The key in the order of its unique index, whose collation may be another than the column's."""
        name = str(column.name)
        this = self._column(connection, table, name)
        found = text(
            "SELECT i.indcollation[0], c.collname FROM pg_index i LEFT JOIN pg_collation c ON c.oid = i.indcollation[0] "
            "WHERE i.indrelid = to_regclass(quote_ident(:t)) "
            "AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL "
            "AND i.indexprs IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = :n ORDER BY i.indisprimary DESC"
        )
        index = connection.execute(found, {"t": table, "n": this.number}).first()
        if index is None:
            parts = text(
                "SELECT a.attname FROM pg_index i, pg_attribute a WHERE i.indrelid = to_regclass(quote_ident(:t)) "
                "AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
                "ORDER BY array_position(i.indkey, a.attnum)"
            )
            raise self.no_key(table, name, [row[0] for row in connection.execute(parts, {"t": table})])
        self.key_type = this.kind
        return collate(column, index[1]) if index[0] != this.collation else column

    def shown_key(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Whole numbers, text and bytes as they are; any other type, such as uuid, as its text."""
        return column if self._is_simple() else cast(column, Text)

    def is_generated(self, connection: Connection, table: str, column: str) -> bool:
        """Whether the database itself works a column out."""
        found = text("SELECT attgenerated <> '' FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(:t)) AND attname = :c")
        return bool(connection.execute(found, {"t": table, "c": column}).scalar_one())

    def may_undo(self, connection: Connection, table: str) -> bool:
        """Whether there is a trigger or a rule, on the table or on a part or an heir of it."""
        found = text(
            "WITH RECURSIVE kin AS (SELECT CAST(to_regclass(quote_ident(:t)) AS oid) AS oid "
            "UNION SELECT inhrelid FROM pg_inherits JOIN kin ON inhparent = kin.oid) "
            "SELECT EXISTS (SELECT FROM pg_class JOIN kin USING (oid) WHERE relhasrules) "
            "OR EXISTS (SELECT FROM pg_trigger JOIN kin ON tgrelid = kin.oid WHERE NOT tgisinternal)"
        )
        return bool(connection.execute(found, {"t": table}).scalar_one())

    def inspect_cells(self, connection: Connection, table: str, column: str) -> None:
        """Learn the type of the column."""
        this = self._column(connection, table, column)
        if this.kind not in _KINDS:
            raise self.no_cell_type(table, column, this.kind)
        self.cell_kind, self.room = _KINDS[this.kind], this.room
        self._cell_type = _Named({"character varying": "text"}.get(this.kind, this.kind))

    def clock(self, connection: Connection, table: str, column: ColumnElement[Any]) -> Clock:
        """A timestamp (UTC if it has no time zone of its own), a date, or text of RFC 3339."""
        kind = self._column(connection, table, str(column.name)).kind
        if kind == "timestamp with time zone":
            return Clock(column, lambda ns: cast(_given(utc_text(ns)), _Named(kind)))
        plain = _Named("timestamp without time zone")
        if kind in ("timestamp without time zone", "date"):
            time: ColumnElement[Any] = cast(column, plain)
        elif kind in self.text_types:
            time = _parsed(column)
        else:
            raise self.no_time_type(table, str(column.name), kind)
        return Clock(time, lambda ns: cast(_given(utc_text(ns, zone="")), plain))

    def not_before(self, connection: Connection, table: str, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """A condition that no time from that day on fails; ISO 8601 text sorts by its date, if by its bytes."""
        kind = self._column(connection, table, str(column.name)).kind
        if kind in self.text_types:
            return or_(column.is_(None), collate(column, "C") >= _given(f"{day:%Y-%m-%d}"))
        if kind in ("timestamp with time zone", "timestamp without time zone", "date"):
            return or_(column.is_(None), column >= cast(_given(f"{day:%Y-%m-%d}"), _Named(kind)))
        return true()

    def cell(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """A cell's bytes in UTF-8, and its kind."""
        if self.cell_kind == "blob":
            return column, self.kind_of(column)
        return func.convert_to(cast(column, Text), "UTF8", type_=LargeBinary), self.kind_of(column)

    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """A cell's size in bytes, which PostgreSQL knows without reading the cell."""
        return func.octet_length(cast(column, Text) if "json" in self.cell_kind else column)

    def new_cell(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter for a cell. Its type has no length: a cast to one would cut."""
        return cast(value, self._cell_type)

    def literal(self, key: Key) -> ColumnElement[Any]:
        """A key of the column's type."""
        return self.bound_key(_given(key))

    def bound_key(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter of the key's type, again without a length."""
        return cast(parameter, _Named(self.key_type))

    def holds(self, key: Key) -> bool:
        """Whether the column could have such a key; of a type that it doesn't know, any text might be one."""
        return super().holds(key) if self._is_simple() else isinstance(key, str)

    def driver_errors(self) -> tuple[type[Exception], ...]:
        """Those of psycopg."""
        import psycopg

        return (psycopg.Error,)

    def explain(self, error: BaseException | None) -> str:
        """The first line of the report: the others hold values of the row."""
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        return " ".join(str(primary or error).split()) or type(error).__name__

    def is_wrong_use(self, error: BaseException | None) -> bool:
        """Whether the server knows no such name, syntax or user."""
        import psycopg

        state = getattr(error, "sqlstate", None)
        if state is None:
            line = str(error)
            return isinstance(error, psycopg.ProgrammingError) or (
                "FATAL" in line and not any(word in line for word in ("starting up", "shutting down", "recovery", "too many"))
            )
        return state[:2] in ("0A", "22", "28", "3D", "3F", "42")

    def refuses(self, error: BaseException | None) -> bool:
        """Whether a type, a constraint, a view or a trigger refused a row's new contents.

        A function may raise under any state; then the report says that it comes from one.
        """
        kind = (getattr(error, "sqlstate", None) or "")[:2]
        told = getattr(getattr(error, "diag", None), "context", None)
        return kind in ("22", "23", "44", "P0") or (bool(told) and kind not in _NOT_THE_ROW)

    def is_passing(self, error: BaseException | None) -> bool:
        """Deadlocks, serialization failures, locks that were waited for in vain."""
        state = getattr(error, "sqlstate", None) or ""
        return state[:2] == "40" or state in _PASSING

    def is_lost(self, error: BaseException | None) -> bool:
        """Whether the connection is gone: the server says so, or no server says anything."""
        import psycopg

        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return state[:2] == "08" or state in _LOST

    def _is_simple(self) -> bool:
        return self.key_type in self.whole_types | self.text_types | {"bytea"}

    def _column(self, connection: Connection, table: str, column: str) -> _Column:
        """A column's number, type (that under a domain), size and collation."""
        found = text(
            "SELECT a.attnum, CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, -1) ELSE format_type(a.atttypid, -1) END, "
            "CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, a.attcollation "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(quote_ident(:t)) AND a.attname = :c"
        )
        number, kind, length, collation = connection.execute(found, {"t": table, "c": column}).one()
        kind = "bpchar" if kind == "character" else kind
        return _Column(number, kind, length - 4 if kind == "character varying" and length > 0 else None, collation)


def _given(value: object) -> ColumnElement[Any]:
    return bindparam(None, value, NullType(), unique=True)


def _parsed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """RFC 3339 text as a time in UTC. A cast would end the whole query at the first text that is none."""

    def part(pattern: str) -> ColumnElement[Any]:
        return cast(func.substring(column, pattern), _Named("integer"))

    def span(*, years: Any = 0, months: Any = 0, days: Any = 0, hours: Any = 0, minutes: Any = 0, seconds: Any = 0) -> Any:
        return func.make_interval(years, months, 0, days, hours, minutes, seconds)

    clock = r"^.{10}.([0-9]{2})", r"^.{13}:([0-9]{2})", r"^.{16}:([0-9]{2}(?:[.][0-9]+)?)"
    since = span(
        years=part(r"^([0-9]{4})") - 1,
        months=part(r"^.{4}-([0-9]{2})") - 1,
        days=part(r"^.{7}-([0-9]{2})") - 1,
        hours=part(clock[0]),
        minutes=part(clock[1]),
        seconds=cast(func.substring(column, clock[2]), _Named("double precision")),
    )
    hours, minutes = part(r"[+-]([0-9]{2}):[0-9]{2}$"), part(r"[+-][0-9]{2}:([0-9]{2})$")
    offset = case(
        (column.op("~")(r"[+][0-9]{2}:[0-9]{2}$"), span(hours=hours, minutes=minutes)),
        (column.op("~")(TEXT_OFFSET), span(hours=-hours, minutes=-minutes)),
        else_=span(),
    )
    start: ColumnElement[Any] = literal_column("timestamp '0001-01-01 00:00:00'")
    return case((column.op("~")(TEXT_TIME), start + since - offset))
