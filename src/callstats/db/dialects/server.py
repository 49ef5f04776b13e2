"""The base of the servers' dialects: row locks, and columns that have a type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, ClassVar

from sqlalchemy import case, literal_column
from sqlalchemy.engine import URL, Connection
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ColumnElement

from callstats._json import is_text
from callstats.call import Key
from callstats.db.dialects.base import Dialect
from callstats.errors import ArgumentError, CallstatsError

LOCK_SECONDS = 10
"""How long a statement waits for a lock before the batch is retried."""

_HOURS = "([01][0-9]|2[0-3]):[0-5][0-9]"
TEXT_TIME = f"^[0-9]{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([Tt ]{_HOURS}:[0-5][0-9]([.][0-9]+)?([Zz]|[+-]{_HOURS})?)?$"
"""An RFC 3339 time, or a date alone, as a regular expression for servers. Without an offset it is UTC."""

_LONGEST_NUMBER = len(str(-(2**63)))
"""Python's int() takes a few thousand digits."""

TEXT_OFFSET = "[+-][0-9]{2}:[0-9]{2}$"


class Server(Dialect):
    """A database server. Each session reads committed data and locks rows."""

    locks_rows = True
    blob_kinds = frozenset({"text", "blob", "json"})
    whole_types: ClassVar[frozenset[str]]
    text_types: ClassVar[frozenset[str]]
    key_type = ""
    _own: Any = None
    """The driver's connection that was taken from its engine."""
    _ready: Any = None
    """The driver's connection that is set up. After a lost connection there is another."""

    def engine_options(self, url: URL) -> dict[str, Any]:  # noqa: ARG002
        """Keep no connection open between jobs."""
        return {"poolclass": NullPool}

    def set_up(self, connection: Connection) -> None:
        """Change the settings of a connection that nobody else will use."""

    @contextmanager
    def transaction(self, connection: Connection, *, write: bool) -> Iterator[None]:
        """Run one transaction in which each statement sees committed data. After a lost connection it opens a new one.

        The isolation level of the caller's engine does not matter. Without transactions a lock would end with its statement, and
        in a snapshot the rows that are read would differ from those that are locked.
        """
        driver = connection.connection.dbapi_connection
        if driver is not self._ready:
            self._close_own()
            self._own = driver
            connection.execution_options(isolation_level="READ COMMITTED")
            connection.detach()  # an Engine of the caller's gets none back that has other settings
            with connection.begin():
                self.set_up(connection)
            self._ready = driver
        with connection.begin():
            self.begin(connection, write=write)
            yield

    @contextmanager
    def prepared(self, connection: Connection) -> Iterator[None]:
        with super().prepared(connection):
            try:
                yield
            finally:
                try:
                    connection.close()
                finally:
                    self._close_own()

    def _close_own(self) -> None:
        """Close the driver's connection. SQLAlchemy lets go of a detached one that is lost without closing it."""
        if self._own is not None:
            with suppress(*self.driver_errors()):
                self._own.close()

    def begin(self, connection: Connection, *, write: bool) -> None:
        """Start a transaction."""

    # --- the table ---

    def locate(self, connection: Connection, name: str) -> list[str]:
        """Set the table. A name with a dot that is no table's is a schema's name and a table's."""
        columns = super().locate(connection, name)
        if not columns and "." in name:
            self.schema, _, self.table = name.partition(".")
            columns = self.columns(connection)
        return columns

    # --- blobs and keys ---

    def kind_of(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the kind of a blob, as an expression: the column's, or ``null``."""
        return case((column.is_(None), literal_column("'null'")), else_=literal_column(f"'{self.blob_kind}'"))

    def to_driver(self, blob: bytes, *, is_bytes: bool) -> str | bytes | None:  # noqa: ARG002 - the column decides
        """Convert a blob to the column's type. JSON has no empty text, so it becomes NULL."""
        if self.blob_kind == "blob":
            return blob
        return blob.decode() if blob or self.blob_kind == "text" else None

    def can_hold(self, key: Key) -> bool:
        if self.key_type in self.whole_types:
            if isinstance(key, str):
                is_number = len(key) <= _LONGEST_NUMBER and key.isascii() and key.removeprefix("-").isdecimal()
                return is_number and self._in_range(int(key))
            return isinstance(key, int) and self._in_range(key)
        if self.key_type in self.text_types:
            return isinstance(key, str) and "\0" not in key and is_text(key)
        return isinstance(key, bytes)

    def _in_range(self, key: int) -> bool:
        return -(2**63) <= key < 2**63

    # --- errors ---

    def driver_errors(self) -> tuple[type[Exception], ...]:
        return (import_module(self.driver).Error,)

    @staticmethod
    def wrong_type(parameter: str, expected: str, column: str, kind: str) -> CallstatsError:
        """Return the error for a column of another type."""
        return ArgumentError(parameter, f"a column of {expected}", column, hint=f"it is of type {kind}")
