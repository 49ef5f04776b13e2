"""What database servers have in common, as against a file: row locks, and columns that know their type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from sqlalchemy import case, literal_column
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from callstats._json import is_text
from callstats.db.dialects.base import Dialect
from callstats.db.results import Key
from callstats.errors import CallstatsError

LOCK_SECONDS = 10
"""How long a statement waits for a lock before the batch is tried again."""


class Server(Dialect):
    """A database server: each session reads what is committed, and locks rows."""

    locks_rows = True
    cell_kinds = frozenset({"text", "blob", "json", "json of its own form"})
    normal_kinds = frozenset({"json of its own form"})
    whole_types: ClassVar[frozenset[str]]
    text_types: ClassVar[frozenset[str]]

    def __init__(self) -> None:
        super().__init__()
        self.key_type = ""
        self.cell_kind = "text"
        self._ready: object = None
        """The driver's connection that was made ready; after a lost one it is another."""

    @contextmanager
    def prepared(self, connection: Connection) -> Iterator[None]:
        """Make the session ready, and put it back at the end."""
        kept = self.settings(connection)
        connection.rollback()
        try:
            yield
        finally:
            self.put_back(connection, kept)

    def settings(self, connection: Connection) -> Any:  # noqa: ARG002
        """What the session has, to be put back."""
        return None

    def put_back(self, connection: Connection, kept: Any) -> None:
        """Put the session's settings back."""

    def get_ready(self, connection: Connection) -> None:
        """Set the session up."""

    @contextmanager
    def transaction(self, connection: Connection, *, write: bool) -> Iterator[None]:
        """One transaction in which each statement sees what is committed; after a lost connection, on a new one.

        Whatever the caller's engine has: without transactions a lock would end with its statement, and in a snapshot what is
        read would not be what is locked.
        """
        driver = connection.connection.dbapi_connection
        if driver is not self._ready:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                self.get_ready(connection)
            self._ready = connection.connection.dbapi_connection
        with connection.begin():
            self.begin(connection, write=write)
            yield

    def begin(self, connection: Connection, *, write: bool) -> None:
        """What each transaction begins with."""

    # --- cells and keys ---

    def kind_of(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The kind of a cell: the column's, or ``null``."""
        return case((column.is_(None), literal_column("'null'")), else_=literal_column(f"'{self.cell_kind}'"))

    def is_bytes(self, kind: str) -> bool:
        """Whether the column takes bytes."""
        return kind == "blob"

    def value(self, cell: bytes, *, is_bytes: bool) -> str | bytes | None:  # noqa: ARG002 - the column decides
        """A cell as the column takes it; JSON has no empty text, so that is NULL."""
        if self.cell_kind == "blob":
            return cell
        return cell.decode() if cell or self.cell_kind == "text" else None

    def holds(self, key: Key) -> bool:
        """Whether the column could have such a key."""
        if self.key_type in self.whole_types:
            if isinstance(key, str):
                return key.isascii() and key.removeprefix("-").isdecimal() and self._in_range(int(key))
            return isinstance(key, int) and self._in_range(key)
        if self.key_type in self.text_types:
            return isinstance(key, str) and "\0" not in key and is_text(key)
        return isinstance(key, bytes)

    def _in_range(self, key: int) -> bool:
        return -(2**63) <= key < 2**63

    def no_key_type(self, table: str, column: str, kind: str) -> CallstatsError:
        """The error on a key of a type that can't be gone through."""
        return CallstatsError(f"expected a key of whole numbers, text or bytes: column {column!r} of {table!r} is of type {kind}")

    def no_key(self, table: str, column: str, primary: list[str]) -> CallstatsError:
        """The error on a column that isn't unique."""
        if any(self.same_name(part, column) for part in primary):
            return CallstatsError(f"expected a key of one column: the primary key of {table!r} is ({', '.join(primary)})")
        return CallstatsError(f"expected a key that is unique: column {column!r} of {table!r} has no unique index of its own")

    def no_cell_type(self, table: str, column: str, kind: str) -> CallstatsError:
        """The error on a column that holds no histograms."""
        return CallstatsError(f"expected a column of text, bytes or JSON: column {column!r} of {table!r} is of type {kind}")

    def keeps_form(self) -> bool:
        """Whether a cell is kept as it was written."""
        return self.cell_kind not in self.normal_kinds

    def no_time_type(self, table: str, column: str, kind: str) -> CallstatsError:
        """The error on a column that holds no times."""
        return CallstatsError(f"expected a column of times or text: column {column!r} of {table!r} is of type {kind}")
