"""What the jobs ask of a database, over and above SQL that all of them understand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from sqlalchemy.engine import URL, Connection
from sqlalchemy.sql.elements import ColumnElement

from callstats._types import FIRST_TIME
from callstats.db.results import Key
from callstats.errors import CallstatsError


class Clock(NamedTuple):
    """A column of times."""

    time: ColumnElement[Any]
    """A row's time as an expression: NULL where there is none."""
    at: Callable[[int], ColumnElement[Any]]
    """A time in nanoseconds since the epoch, as an expression to compare with it."""

    def until(self, ns: int) -> ColumnElement[bool]:
        """The condition that a row's time is not later. Go's zero time, in year 1, means none."""
        return self.time.between(self.at(FIRST_TIME + 10**9), self.at(ns))


class Dialect(ABC):
    """What is special to one database, for one connection to it."""

    name: ClassVar[str]
    drivers: ClassVar[tuple[str, ...]]
    """SQLAlchemy's names of the drivers that it knows, the usual one first."""
    extra: ClassVar[str] = "cli"
    """The extra of this package that brings the driver."""
    locks_rows: ClassVar[bool]
    """Whether rows can be locked one by one, and those locked by others skipped."""
    cell_kinds: ClassVar[frozenset[str]]
    """The kinds of cell that may hold a histogram."""
    normal_kinds: ClassVar[frozenset[str]] = frozenset()
    """Those whose text the database writes in a form of its own."""

    def __init__(self) -> None:
        self.room: int | None = None
        """The most bytes that a cell can have; None for no limit to speak of."""

    # --- the connection ---

    def engine_options(self, url: URL) -> dict[str, Any]:  # noqa: ARG002 - for those that need it
        """Arguments for `create_engine`."""
        return {}

    def missing_file(self, url: URL) -> str | None:  # noqa: ARG002 - servers have none
        """The database's file if it isn't there, so that connecting would make it."""
        return None

    @abstractmethod
    def prepared(self, connection: Connection) -> AbstractContextManager[None]:
        """A context in which the connection is ready for transactions; it is given back as it was."""

    @abstractmethod
    def transaction(self, connection: Connection, *, write: bool) -> AbstractContextManager[None]:
        """A context of one transaction."""

    @abstractmethod
    def check_database(self, connection: Connection) -> None:
        """Refuse what the job can't work on, whatever the table."""

    def version(self, connection: Connection) -> int:
        """A number that another connection's commit changes; asked only where there are no row locks."""
        raise NotImplementedError

    # --- tables and columns ---

    @abstractmethod
    def tables(self, connection: Connection) -> list[str]:
        """The names of the tables, sorted."""

    @abstractmethod
    def columns(self, connection: Connection, table: str) -> list[str]:
        """The names of a table's columns; none when it isn't there."""

    def reserves(self, table: str) -> bool:  # noqa: ARG002 - only SQLite does
        """Whether no table of users' may have that name."""
        return False

    @abstractmethod
    def same_name(self, one: str, other: str) -> bool:
        """Whether two names mean one column."""

    @abstractmethod
    def key(self, connection: Connection, table: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The key as an expression in whose order each value stands once; refuse a column that isn't unique."""

    @abstractmethod
    def is_generated(self, connection: Connection, table: str, column: str) -> bool:
        """Whether the database itself works a column out, so that nobody can write to it."""

    @abstractmethod
    def may_undo(self, connection: Connection, table: str) -> bool:
        """Whether a trigger or a rule may silently undo an update."""

    def in_transaction(self, connection: Connection) -> bool:  # noqa: ARG002 - only SQLite's triggers can end one
        """Whether the transaction still goes on."""
        return True

    def shown_key(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The key as it is read."""
        return column

    def inspect_cells(self, connection: Connection, table: str, column: str) -> None:  # noqa: B027 - SQLite's cells have any type
        """Learn what the column of histograms can hold; refuse a type that can't hold them."""

    def keeps_form(self) -> bool:
        """Whether a cell is kept as it was written; there are JSON types that have a form of their own."""
        return True

    def check_room(self, key: object, column: str, size: int) -> None:
        """Refuse a cell that the column can't hold: a server that isn't strict would cut it."""
        if self.room is not None and size > self.room:
            raise CallstatsError(
                f"the cell of {key!r} has {size} bytes, and column {column!r} holds {self.room}: "
                "reduce it, or give the column a larger type"
            )

    @abstractmethod
    def clock(self, connection: Connection, table: str, column: ColumnElement[Any]) -> Clock:
        """A column of times; refuse a type that is none."""

    @abstractmethod
    def not_before(self, connection: Connection, table: str, column: ColumnElement[Any], day: datetime) -> ColumnElement[bool]:
        """A condition that no time from that day on fails, whatever it is stored as."""

    # --- cells ---

    @abstractmethod
    def cell(self, column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """A cell's bytes and its kind, as expressions."""

    @abstractmethod
    def size(self, column: ColumnElement[Any]) -> ColumnElement[int]:
        """A cell's size in bytes."""

    @abstractmethod
    def is_bytes(self, kind: str) -> bool:
        """Whether a cell of this kind takes bytes, and not text."""

    @abstractmethod
    def value(self, cell: bytes, *, is_bytes: bool) -> str | bytes | None:
        """A cell as the driver takes it, into a column that may have its own mind on whether that is bytes."""

    def new_cell(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter for a cell, as the column takes it."""
        return value

    # --- keys ---

    @abstractmethod
    def literal(self, key: Key) -> ColumnElement[Any]:
        """A key as an expression, without any conversion on the way."""

    def bound_key(self, parameter: ColumnElement[Any]) -> ColumnElement[Any]:
        """A parameter for a plain key."""
        return parameter

    def is_plain(self, key: Key) -> bool:  # noqa: ARG002 - only SQLite has other ones
        """Whether the driver takes a key as it is."""
        return True

    @abstractmethod
    def holds(self, key: Key) -> bool:
        """Whether the column could have such a key."""

    # --- errors ---

    def driver_errors(self) -> tuple[type[Exception], ...]:
        """The driver's errors where SQLAlchemy doesn't wrap them."""
        return ()

    @abstractmethod
    def explain(self, error: BaseException | None) -> str:
        """One line on what the driver reported, without rows' contents."""

    @abstractmethod
    def is_wrong_use(self, error: BaseException | None) -> bool:
        """Whether the fault lies in what was asked for, and not in the database's state."""

    @abstractmethod
    def refuses(self, error: BaseException | None) -> bool:
        """Whether the database refused a row's new contents."""

    def is_passing(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Whether another try may do: a deadlock, a lock that was waited for in vain."""
        return False

    def is_lost(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Whether the connection is gone."""
        return False
