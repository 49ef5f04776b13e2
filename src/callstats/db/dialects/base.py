"""The base of all dialects: everything that jobs need beyond SQL that all databases understand."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, TypeAlias

from sqlalchemy import Select, TableClause, bindparam, func, inspect, update
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SAWarning
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats.call import Key
from callstats.errors import ArgumentError, CallstatsError

TimeColumn: TypeAlias = tuple[ColumnElement[Any], Callable[[int], ColumnElement[Any]]]
"""A row's time, NULL if it has none; and a time in nanoseconds since the epoch, to compare with it."""

TIME_NAME = '"timestamp"'
"""The name of a row's time in a blob. Every row has it once, unless it is written with escapes."""


class Target(NamedTuple):
    """The table and the columns that blobs are written to."""

    table: TableClause
    key: ColumnElement[Any]
    blob: ColumnElement[Any]
    kept: Sequence[ColumnElement[Any]]
    """Columns that an update sets to themselves: by default the database would set them to the time of the update."""

    def values(self, blob: ColumnElement[Any]) -> dict[Any, ColumnElement[Any]]:
        """Return what an update sets."""
        return {self.blob: blob, **dict(zip(self.kept, self.kept, strict=True))}


class Dialect(ABC):
    """One database's own ways, for one connection and one table."""

    name: ClassVar[str]
    driver: ClassVar[str]
    """SQLAlchemy's name of the supported driver."""
    extra: ClassVar[str] = "cli"
    """The extra of this package that installs the driver."""
    locks_rows: ClassVar[bool]
    """Whether single rows can be locked, and those locked by others skipped."""
    blob_kinds: ClassVar[frozenset[str]]
    """The kinds of value that may be a blob."""
    rewrites = False
    """Whether the column keeps a blob not as it was written, but in the database's own form: some JSON types do."""
    wrong_use: ClassVar[frozenset[object]]
    """Codes of errors for which the arguments are at fault, and not the database's state."""
    transient: ClassVar[frozenset[object]] = frozenset()
    """Codes of deadlocks and lock timeouts, after which a retry may succeed."""
    timed_out: ClassVar[frozenset[object]] = frozenset()
    """Codes of statements that the server ended since they took too long."""
    lost: ClassVar[frozenset[object]] = frozenset()
    """Codes of lost connections."""
    table = ""
    schema: str | None = None
    blob_kind = "text"
    """The kind of the column's values, where it has a type."""
    max_bytes: int | None = None
    """The maximum size of a blob in the column; None for no limit of practical size."""

    # --- the connection ---

    @abstractmethod
    def engine_options(self, url: URL) -> dict[str, Any]:
        """Return the arguments for `create_engine`."""

    def missing_file(self, url: URL) -> str | None:  # noqa: ARG002 - servers have none
        """Return the path of the database's file if it is missing, so that connecting would create it."""
        return None

    @contextmanager
    def secure_delete(self, connection: Connection, on: bool | None) -> Iterator[None]:  # noqa: ARG002 - only SQLite's
        """Set whether deleted content is overwritten with zeros, and restore it at the end; None leaves it as it is."""
        if on is not None:
            raise ArgumentError("secure_delete", "None for a server: only SQLite has it", on)
        yield

    @contextmanager
    def prepared(self, connection: Connection) -> Iterator[None]:
        """Make the connection ready for transactions, and restore its settings at the end."""
        connection.rollback()
        yield

    @abstractmethod
    def transaction(self, connection: Connection, *, write: bool) -> AbstractContextManager[None]:
        """Run one transaction."""

    @abstractmethod
    def check_database(self, connection: Connection) -> None:
        """Raise if the database as a whole can't be worked on."""

    def version(self, connection: Connection) -> int:
        """Return a number that another connection's commit changes. Needed only without row locks."""
        raise NotImplementedError

    # --- the table ---

    def locate(self, connection: Connection, name: str) -> list[str]:
        """Set the table that the other methods are about, and return its columns; none if it is missing."""
        self.table, self.schema = name, None
        return self.columns(connection)

    def tables(self, connection: Connection) -> list[str]:
        """Return the names of the tables, sorted."""
        with quiet():
            return sorted(inspect(connection).get_table_names(self.schema))

    @abstractmethod
    def columns(self, connection: Connection) -> list[str]:
        """Return the names of the columns of the table or view."""

    def has(self, names: Iterable[str | None], name: str | None) -> bool:
        """Return whether a column is among these."""
        return name is not None and any(other is not None and self.same_name(name, other) for other in names)

    def primary_key(self, connection: Connection) -> list[str]:
        """Return the columns of the primary key."""
        with quiet():
            return inspect(connection).get_pk_constraint(self.table, self.schema)["constrained_columns"]

    def indexed(self, connection: Connection) -> list[str | None]:
        """Return the first column of each index; None for an expression."""
        with quiet():
            return [index["column_names"][0] for index in inspect(connection).get_indexes(self.table, self.schema)]

    def index_length(self, connection: Connection, column: str) -> int | None:  # noqa: ARG002 - only MySQL needs one
        """Return how much of a column an index may hold; None for all of it."""
        return None

    def reserves(self, table: str) -> bool:  # noqa: ARG002 - only SQLite does
        """Return whether the database reserves that name for tables of its own."""
        return False

    @abstractmethod
    def same_name(self, one: str, other: str) -> bool:
        """Return whether two names mean the same column."""

    @abstractmethod
    def key(self, connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the key as an expression whose order has each value once. Raise if the column isn't unique."""

    @abstractmethod
    def check_update(self, connection: Connection, column: str) -> None:
        """Raise if this session may not update the column: the session is read-only, or lacks a privilege."""

    def forbidden(self, connection: Connection) -> ColumnElement[bool] | None:  # noqa: ARG002 - only PostgreSQL forbids single rows
        """Return a condition that rows meet which this session may see but not update; None if there are none."""
        return None

    def not_writable(self, hint: str) -> CallstatsError:
        """Return the error for a table that this session may not update."""
        return ArgumentError("table", "one that this session may update", self.table, hint=hint)

    @abstractmethod
    def is_generated(self, connection: Connection, column: str) -> bool:
        """Return whether the database computes a column, so that it can't be written."""

    def self_setting(self, connection: Connection) -> list[str]:  # noqa: ARG002 - only MySQL has some
        """Return the columns that the database sets by itself when a row is updated."""
        return []

    @abstractmethod
    def may_undo(self, connection: Connection) -> bool:
        """Return whether a trigger or a rule may silently undo an update."""

    def in_transaction(self, connection: Connection) -> bool:  # noqa: ARG002 - only SQLite's triggers can end one
        """Return whether the transaction is still open."""
        return True

    def selected_key(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the key as it is selected."""
        return column

    def inspect_column(self, connection: Connection, column: str) -> None:  # noqa: B027 - SQLite's columns hold any type
        """Learn what the column of histograms can hold. Raise if its type can't hold them."""

    def check_size(self, key: object, column: str, size: int) -> None:
        """Raise if a blob is too large for the column: a server that isn't strict would cut it."""
        if self.max_bytes is not None and size > self.max_bytes:
            most = f"a blob of at most the {self.max_bytes} bytes that column {column!r} holds"
            raise ArgumentError(f"stats[{key!r}]", most, size, hint="reduce it, or give the column a larger type")

    @abstractmethod
    def time_column(self, connection: Connection, column: ColumnElement[Any]) -> TimeColumn:
        """Return a column of times. Raise if its type is none of times."""

    @abstractmethod
    def not_before(self, connection: Connection, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """Return a condition that every time from that day on meets, however it is stored."""

    def no_key(self, connection: Connection, column: str) -> CallstatsError:
        """Return the error for a column that isn't unique."""
        primary = self.primary_key(connection)
        if self.has(primary, column):
            hint = f"the primary key of {self.table!r} is ({', '.join(primary)})"
            return ArgumentError("key", "one column that is unique by itself", column, hint=hint)
        hint = "it has no unique index of its own"
        return ArgumentError("key", f"a unique column of table {self.table!r}", column, hint=hint)

    # --- blobs ---

    @abstractmethod
    def blob(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """Return a blob's bytes and its kind, as expressions."""

    @abstractmethod
    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """Return a blob's size in bytes, as an expression."""

    def rows(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return how often a blob contains the name of a row's time, as an expression."""
        left = func.octet_length(func.replace(column, TIME_NAME, ""))
        return (func.octet_length(column) - left) / len(TIME_NAME)

    @abstractmethod
    def to_driver(self, blob: bytes, *, is_bytes: bool) -> str | bytes | None:
        """Convert a blob to the type that the driver expects for the column."""

    def blob_parameter(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression that stores a parameter as a blob."""
        return value

    def fetch(self, connection: Connection, query: Select[Any]) -> Sequence[Any]:
        """Return the rows of a query whose blobs are large."""
        return connection.execute(query).all()

    def write(self, connection: Connection, target: Target, blobs: Sequence[tuple[Key, bytes, bool]]) -> int:
        """Write blobs, each given with its key and whether the column has it as bytes. Return the number of rows changed."""
        key, blob = (bindparam(name, type_=NullType()) for name in ("this_key", "new_blob"))
        values = target.values(self.blob_parameter(blob))
        one = update(target.table).where(target.key == self.key_parameter(key)).values(values)
        rows = [{"this_key": key, "new_blob": self.to_driver(blob, is_bytes=is_bytes)} for key, blob, is_bytes in blobs]
        return connection.execute(one, rows).rowcount

    # --- keys ---

    def among(self, key: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        """Return whether a key is among these, as an expression."""
        return key.in_(bindparam(None, [*keys], NullType(), unique=True, expanding=True))

    def literal(self, key: Key) -> ColumnElement[Any]:
        """Return a key as an expression, without any conversion on the way."""
        return parameter(key)

    def key_parameter(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression for a parameter that is a key."""
        return parameter

    @abstractmethod
    def can_hold(self, key: Key) -> bool:
        """Return whether the key column could hold such a key."""

    # --- errors ---

    def driver_errors(self) -> tuple[type[Exception], ...]:
        """Return the driver's errors that SQLAlchemy may not wrap."""
        return ()

    def explain(self, error: BaseException | None) -> str:
        """Return one line about the driver's error, without rows' contents."""
        return " ".join(str(error).split()) or type(error).__name__

    @abstractmethod
    def codes(self, error: BaseException | None) -> Collection[object]:
        """Return the driver's codes of an error, from the finest to the coarsest, as the sets of codes have them."""

    def is_among(self, error: BaseException | None, codes: frozenset[object]) -> bool:
        """Return whether an error has one of these codes."""
        return not codes.isdisjoint(self.codes(error))

    @abstractmethod
    def rejects_row(self, error: BaseException | None) -> bool:
        """Return whether the database rejected a row's new contents."""


def parameter(value: object) -> ColumnElement[Any]:
    """Return a value as an expression that the driver gets as it is."""
    return bindparam(None, value, NullType(), unique=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore SQLAlchemy's warnings about types and clauses that it doesn't know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        yield
