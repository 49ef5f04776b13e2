"""PostgreSQL, through psycopg 3."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    collate,
    false,
    func,
    inspect,
    literal_column,
    or_,
    select,
    table,
    text,
    true,
    update,
)
from sqlalchemy import column as sql_column
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import LargeBinary, NullType, UserDefinedType

from callstats._timestamps import format_time
from callstats.call import Key
from callstats.db.dialects.base import Target, TimeColumn, parameter, quiet
from callstats.db.dialects.server import LOCK_SECONDS, TEXT_OFFSET, TEXT_TIME, Server
from callstats.errors import ArgumentError

_BLOB_KINDS = {
    "text": "text",
    "character varying": "text",
    "bytea": "blob",
    "json": "json",
    "jsonb": "json",
}
_NOT_THE_ROW = ("08", "40", "53", "55", "57", "58", "XX", "")
"""Classes of errors in a function that the row did not cause: connections, conflicts, resources, locks, and the server itself."""


_PLAIN_TIME = (
    "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?Z$"
)
"""A time in UTC that exists in every month, which a cast can't fail for. Parts of it take ten times as long."""


class _Type(UserDefinedType[Any]):
    """A type by its name in the database."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        return self.name


class _Blobs(list[Any]):
    """A list that psycopg sends in its binary form."""


class Postgres(Server):
    """The dialect of PostgreSQL."""

    name = "PostgreSQL"
    driver = "psycopg"
    extra = "postgres"
    wrong_use = frozenset({"wrong use", "0A", "22", "28", "3D", "3F", "42", "25006"})  # the last: a read-only session
    transient = frozenset({"40", "55P03"})  # lock_timeout
    timed_out = frozenset({"57014"})  # statement_timeout, or somebody's pg_cancel_backend
    # The server stops or starts, or ended an idle session or a long transaction.
    lost = frozenset({"lost", "08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
    whole_types = frozenset({"smallint", "integer", "bigint"})
    text_types = frozenset({"text", "character varying", "bpchar", "name"})

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Prepare no statement on the server: behind a pooler the next transaction may have another session."""
        return {**super().engine_options(url), "connect_args": {"prepare_threshold": None}}

    def set_up(self, connection: Connection) -> None:
        """Prepare no statement in a connection of the caller's Engine either."""
        connection.connection.dbapi_connection.prepare_threshold = None  # type: ignore[union-attr]

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

    def check_update(self, connection: Connection, column: str) -> None:
        """Raise for a read-only session, or a missing privilege."""
        found = text(
            "SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::boolean AS read_only, "
            "current_user AS name, has_column_privilege(to_regclass(:t), :c, 'UPDATE') AS may_update"
        )
        this = connection.execute(found, {"t": self._relation, "c": column}).one()
        if this.read_only:
            raise self.not_writable("the server is a standby" if this.standby else "default_transaction_read_only is on")
        if not this.may_update:
            raise self.not_writable(f"user {this.name!r} lacks the privilege to UPDATE column {column!r}")

    def forbidden(self, connection: Connection) -> ColumnElement[bool] | None:
        """Return what the policies of row security for updates say of a row."""
        found = text(
            "SELECT polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(coalesce(polwithcheck, polqual), polrelid) "
            "FROM pg_policy WHERE polrelid = to_regclass(:t) AND polcmd IN ('*', 'w') AND EXISTS "
            "(SELECT FROM unnest(polroles) role WHERE role = 0 OR pg_has_role(role, 'USAGE'))"
        )
        active = text("SELECT row_security_active(to_regclass(:t)::oid)")
        if not connection.execute(active, {"t": self._relation}).scalar():
            return None
        policies = connection.execute(found, {"t": self._relation}).all()
        allowed = []
        for which in (1, 2):  # the old row, and the new one
            conditions: dict[bool, list[ColumnElement[bool]]] = {True: [], False: []}
            for one in policies:
                conditions[one[0]].append(literal_column(f"({one[which]})"))
            allowed.append(and_(or_(false(), *conditions[True]), *conditions[False]))
        return func.coalesce(and_(*allowed), false()).is_(false())

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
        self._check_heirs(connection, column)
        self.key_type = this.kind
        return collate(column, index[1]) if index[0] != this.collation else column

    def _check_heirs(self, connection: Connection, column: ColumnElement[Any]) -> None:
        """Raise if a table that inherits from this one has one of its keys: no index is unique over both."""
        heirs = text(
            "SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = to_regclass(:t) AND NOT relispartition)"
        )
        if not connection.execute(heirs, {"t": self._relation}).scalar():
            return
        this = table(self.table, sql_column(column.name), schema=self.schema)
        key = this.c[column.name]
        twice = select(cast(key, Text)).where(key.is_not(None)).group_by(key).having(func.count() > 1)
        if (found := connection.execute(twice.limit(1)).first()) is not None:
            hint = f"{found[0]!r} is in it more than once: reduce each table on its own, or make the keys unique"
            raise ArgumentError("key", f"unique over {self.table!r} and the tables that inherit from it", column.name, hint=hint)

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

    def rows(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        if self.rewrites:  # it can't be malformed, but it may be something else than an array
            kind = func.jsonb_typeof(column)
            return case((kind == "array", func.greatest(func.jsonb_array_length(column), 1)), (kind != "null", 0))
        if self.blob_kind == "blob":  # whose bytes may be no text
            column = func.encode(column, "escape")
        return super().rows(cast(column, Text))

    def fetch(self, connection: Connection, query: Select[Any]) -> Sequence[Any]:
        """Return the rows of a query. They travel as bytes: in text each byte of a blob would be two digits."""
        with _binary(connection):
            return super().fetch(connection, query)

    def write(self, connection: Connection, target: Target, blobs: Sequence[tuple[Key, bytes, bool]]) -> int:
        """Write blobs in one statement, as bytes: in an array of text each quote would be escaped."""
        keys, new = (bindparam(name, type_=NullType()) for name in ("keys", "blobs"))
        lists = func.unnest(cast(keys, _Type(f"{self.key_type}[]")), cast(new, _Type("bytea[]")))
        rows = lists.table_valued(sql_column("callstats_key"), sql_column("callstats_blob")).render_derived(name="callstats_new")
        value: ColumnElement[Any] = rows.c.callstats_blob
        if self.blob_kind != "blob":
            value = self.blob_parameter(func.convert_from(value, "UTF8"))
        many = update(target.table).values({target.blob: value}).where(target.key == rows.c.callstats_key)
        from psycopg.types.array import ListBinaryDumper

        driver: Any = connection.connection.dbapi_connection
        driver.adapters.register_dumper(_Blobs, ListBinaryDumper)
        stored = _Blobs(blob if blob or self.blob_kind != "json" else None for _, blob, _ in blobs)
        return connection.execute(many, {"keys": [key for key, _, _ in blobs], "blobs": stored}).rowcount

    def among(self, key: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        return key == func.any(cast(parameter([*keys]), _Type(f"{self.key_type}[]")))

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

    def codes(self, error: BaseException | None) -> Collection[object]:
        """Return the error's state and its class; for an error without a state what it means."""
        import psycopg

        if (state := getattr(error, "sqlstate", None)) is not None:
            return state, state[:2]
        line = str(error)
        starts = any(word in line for word in ("starting up", "shutting down", "recovery", "too many"))
        is_wrong = isinstance(error, psycopg.ProgrammingError) or ("FATAL" in line and not starts)
        is_lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return [*["wrong use"] * is_wrong, *["lost"] * is_lost]

    def rejects_row(self, error: BaseException | None) -> bool:
        """Return whether a type, a constraint, a view or a trigger rejected a row's new contents.

        A function may raise any state; then the error has a context.
        """
        kind = (getattr(error, "sqlstate", None) or "")[:2]
        context = getattr(getattr(error, "diag", None), "context", None)
        return kind in ("22", "23", "44", "P0") or (bool(context) and kind not in _NOT_THE_ROW)

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


@contextmanager
def _binary(connection: Connection) -> Iterator[None]:
    """Get results in their binary form."""
    import psycopg

    class BinaryCursor(psycopg.Cursor[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.format = psycopg.pq.Format.BINARY

    driver: Any = connection.connection.dbapi_connection
    kept, driver.cursor_factory = driver.cursor_factory, BinaryCursor
    try:
        yield
    finally:
        driver.cursor_factory = kept


def _parsed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return RFC 3339 text as a time in UTC; NULL for a date that doesn't exist.

    A cast would end the whole query at the first text that is no time.
    """

    def part(pattern: str, kind: str = "integer") -> Any:
        return cast(func.substring(column, pattern), _Type(kind))

    years, months, days = part("^([0-9]{4})") - 1, part("^.{4}-([0-9]{2})") - 1, part("^.{7}-([0-9]{2})") - 1
    hours, minutes = part("^.{10}.([0-9]{2})"), part("^.{13}:([0-9]{2})")
    seconds = part("^.{16}:([0-9]{2}(?:[.][0-9]+)?)", "double precision")
    clock = func.make_interval(0, 0, 0, 0, *(func.coalesce(one, 0) for one in (hours, minutes, seconds)))
    # A sign and two digits, as in +02:30, cast to whole numbers.
    east, further = part("([+-][0-9]{2}):[0-9]{2}$"), part("[+-][0-9]{2}:([0-9]{2})$")
    sign = case((column.op("~")("-[0-9]{2}:[0-9]{2}$"), -1), else_=1)
    offset = case((column.op("~")(TEXT_OFFSET), func.make_interval(0, 0, 0, 0, east, sign * further)), else_=func.make_interval())
    start: ColumnElement[Any] = literal_column("timestamp '0001-01-01 00:00:00'")
    day = start + func.make_interval(years, months, 0, days)
    exists = func.to_char(day, "YYYY-MM-DD") == func.substring(column, 1, 10)
    in_utc = cast(func.rtrim(column, "Z"), _Type("timestamp without time zone"))
    return case((column.op("~")(_PLAIN_TIME), in_utc), (column.op("~")(TEXT_TIME), case((exists, day + clock - offset))))
