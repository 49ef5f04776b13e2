"""Batches of rows: found, locked, read and written."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Select, case, column, func, literal_column, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnClause, ColumnElement

from callstats.call import Key
from callstats.db.dialects.base import Dialect, Target
from callstats.db.jobs.plan import Plan
from callstats.db.query import Names, TableSession, optional
from callstats.db.results import RolledBackError
from callstats.errors import ArgumentError, DatabaseError

NewBlob: TypeAlias = tuple[Key, bytes, bool]
"""A blob to write: its row's key, the blob, and whether the column has it as bytes."""

_KEYS_AT_ONCE = 900
"""How many keys a query names: SQLite used to take 999 parameters, and MariaDB makes a table of 1,000."""


class Row(NamedTuple):
    """A row as it is stored: its blob, the blob's kind as the database names it, and the index of the rule for it."""

    key: Key
    blob: bytes | None
    kind: str
    tier: int = 0

    @property
    def is_bytes(self) -> bool:
        """Whether the blob is bytes rather than text."""
        return self.kind == "blob"


class Span(NamedTuple):
    """A range of keys, of which a batch reads the beginning."""

    after: Key | None
    """The last key before the range; None at the start of the table."""
    end: Key | None
    """The last key of the range; None if it extends to the end of the table."""
    size: int
    """The number of its rows."""


class Found(NamedTuple):
    """The rows of the beginning of a range that a rule may change."""

    keys: list[Key]
    rows: list[Row]
    """The rows as they are, where single rows can't be locked."""
    end: Key | None
    """The last key of the beginning; the range's last key if the whole range was searched."""
    is_all: bool
    version: int
    """Without row locks, the database's version before the rows were read."""


class BatchSession(TableSession):
    """A table whose rows are changed in batches."""

    def __init__(self, connection: Connection, dialect: Dialect, names: Names, *, where: str | None = None) -> None:
        super().__init__(connection, dialect, names, where=where)
        with dialect.transaction(connection, write=False):
            dialect.check_update(connection, names.column)
            if dialect.is_generated(connection, names.column):
                raise ArgumentError("column", "writable", names.column, hint="the database generates it")
            self.may_undo = dialect.may_undo(connection)
            """Whether written blobs must be read back."""
            kept: list[ColumnClause[Any]] = [column(name) for name in dialect.self_setting(connection)]
        for one in kept:
            self.table.append_column(one)
        self._target = Target(self.table, self.key, self.blob, kept)

    def check_rows(self) -> None:
        """Raise if there are rows in scope that this session may not update."""
        with self.dialect.transaction(self.connection, write=False):
            forbidden = self.dialect.forbidden(self.connection)
            if forbidden is None:
                return
            found = self.connection.execute(self.select(self.selected_key).where(forbidden).limit(1)).first()
        if found is not None:
            hint = f"row security forbids updates of the row {found[0]!r}, and perhaps of others: leave them out with where"
            raise self.dialect.not_writable(hint)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        """Run a transaction. On a server, one that may write is bounded in how long it waits for locks: so are all of a job."""
        with super().transaction(write=write or self.dialect.locks_rows):
            yield

    # --- finding and reading ---

    def has_histograms(self) -> bool:
        """Return whether any blob in scope has a row. A key that is spelt with escapes goes unseen."""
        with self.transaction(write=False):
            query = self.select(literal_column("1")).where(self.dialect.rows(self.blob) > 0).limit(1)
            return self.connection.execute(query).first() is not None

    def span(self, after: Key | None, rows: int, end: Key | None = None) -> Span:
        """Return the range of the next so many keys, up to the last one."""
        rest = self.select(self.selected_key).where(*self.key_range(after, end)).order_by(self.key)
        with self.transaction(write=False):
            last = self.connection.execute(rest.offset(rows - 1).limit(1)).scalar()
        return Span(after, last, rows) if last is not None else Span(after, end, self.count(*self.key_range(after, end)))

    def times(self, after: Key | None, end: Key | None, plan: Plan) -> tuple[int, list[tuple[Key, object]]]:
        """Return how many rows in a range have no time, and the keys and values of unreadable times."""
        if plan.untimed is None or plan.unreadable is None:
            return 0, []
        span = self.key_range(after, end)
        unreadable = self.select(self.selected_key, column(str(self.names.time_column))).where(*span, plan.unreadable)
        with self.transaction(write=False):
            rows = [(key, value) for key, value in self.connection.execute(unreadable.order_by(self.key))]
        return self.count(*span, plan.untimed), rows

    def find(self, span: Span, plan: Plan, most_rows: int, most_bytes: int, *, exactly: bool) -> Found:
        """Find the rows that a rule may change, up to so many, or so many bytes of blobs, without locks.

        Their blobs are read with them only where single rows can't be locked.
        """
        reads = not self.dialect.locks_rows
        conditions = [*self.key_range(span.after, span.end), *plan.touched(exactly=exactly)]
        sizes = self.select(self.selected_key, func.coalesce(self.dialect.size(self.blob), 0)).where(*conditions)
        query = self._rows(conditions, plan) if reads else sizes
        keys: list[Key] = []
        rows: list[Row] = []
        size = 0
        with self.transaction(write=False):
            version = self.dialect.version(self.connection) if reads else 0
            with self.connection.execute(query.order_by(self.key).limit(most_rows)) as found:
                for row in found:
                    keys.append(row[0])
                    if reads:
                        rows.append(Row(*row))
                    size += len(row[1] or b"") if reads else row[1]
                    if size >= most_bytes:
                        break
        is_all = len(keys) == span.size or (len(keys) < most_rows and size < most_bytes)
        return Found(keys, rows, span.end if is_all else keys[-1], is_all, version)

    def read_again(self, after: Key | None, found: Found, plan: Plan) -> list[Row]:
        """Return rows as they are now, without those that are gone or that no rule may change any more."""
        if self.dialect.version(self.connection) == found.version:
            return found.rows
        known = {row.key for row in found.rows}
        conditions = [*self.key_range(after, found.end), *plan.touched(exactly=False)]
        with self.connection.execute(self._rows(conditions, plan).order_by(self.key)) as rows:
            return [row for row in (Row(*row) for row in rows) if row.key in known]

    def fetch(self, keys: Sequence[Key], plan: Plan, *, lock: bool) -> list[Row]:
        """Read rows that were found, except those that others have changed. With `lock` they are locked, or left out as well."""
        query = self._rows(plan.touched(exactly=False), plan)
        if lock:  # as an update does: rows of other tables that refer to these can still be inserted
            query = query.with_for_update(skip_locked=True, key_share=True)
        order = {key: i for i, key in enumerate(keys)}
        rows = [Row(*row) for row in self._among(keys, query)]
        return sorted((row for row in rows if row.key in order), key=lambda row: order[row.key])

    def still(self, keys: Sequence[Key], plan: Plan) -> tuple[int, list[Key]]:
        """Return how many rows with these keys there still are, and the keys of those that a rule may change."""
        touched = literal_column("1 = 1") if plan.cheap is None else plan.cheap
        query = self.select(self.selected_key, case((touched, 1), else_=0))
        now: dict[Key, int] = dict(self._among(keys, query))
        return len(now), [key for key in keys if now.get(key)]

    def _rows(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        return self.select(self.selected_key, *self.dialect.blob(self.blob), *optional(plan.tier)).where(*conditions)

    def _among(self, keys: Sequence[Key], query: Select[Any]) -> Iterator[Any]:
        """Yield the rows of a query that have one of these keys."""
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            some = self.dialect.among(self.key, keys[begin : begin + _KEYS_AT_ONCE])
            yield from self.dialect.fetch(self.connection, query.where(some))

    def _now(self, value: ColumnElement[Any], keys: Iterable[Key]) -> dict[Key, Any]:
        """Return an expression's value for the rows with these keys that exist, whether they are in scope or not."""
        possible = [key for key in keys if self.dialect.can_hold(key)]
        return dict(self._among(possible, select(self.selected_key, value).select_from(self.table)))

    # --- writing ---

    def write(self, blobs: Sequence[NewBlob], what: str) -> tuple[list[Key], dict[Key, str]]:
        """Write blobs; of one key the last counts. Return the keys that no row has, and why the database rejected others."""
        last = {blob[0]: blob for blob in blobs if self.dialect.can_hold(blob[0])}
        missing, rejected, changed = {blob[0] for blob in blobs} - last.keys(), dict[Key, str](), 0
        try:
            with self._savepoint():
                changed = self._write(list(last.values()))
        except DBAPIError as error:
            if not self.dialect.rejects_row(error.orig):
                raise
            for key, blob in last.items():  # to find the row that a constraint or a trigger rejects
                try:
                    with self._savepoint():
                        changed += self._write([blob])
                except DBAPIError as fault:
                    if not self.dialect.rejects_row(fault.orig):
                        raise
                    rejected[key] = f"the database rejects the {what} text: {self.dialect.explain(fault.orig)}"
        if changed + len(rejected) != len(last):  # a trigger may leave out rows that exist
            self.may_undo = True
            missing |= last.keys() - rejected.keys() - self._now(literal_column("1"), last).keys()
        return [blob[0] for blob in blobs if blob[0] in missing], rejected

    def differing(self, blobs: Mapping[Key, bytes], others: Container[Key] = ()) -> dict[Key, bytes | None]:
        """Return the blobs of existing rows whose size is not that of these, or that are among others. All are written."""
        sizes = self._now(self.dialect.size(self.blob), blobs)
        alike = [key for key, size in sizes.items() if key in others or size != len(blobs[key])]
        return self._now(self.dialect.blob(self.blob)[0], alike)

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Run a part of the transaction that can be rolled back, unless its failure has ended the whole transaction."""
        part = self.connection.begin_nested()
        try:
            yield
        except DBAPIError as error:
            if not self.dialect.in_transaction(self.connection):
                reason = self.dialect.explain(error.orig)
                raise RolledBackError(f"a trigger rejects the text and rolls back the whole batch: {reason}") from None
            part.rollback()
            raise
        part.commit()

    def _write(self, blobs: Sequence[NewBlob]) -> int:
        """Write the blobs of different keys. Return how many rows there were; raise, and so roll back, if it is more."""
        changed = self.dialect.write(self.connection, self._target, blobs) if blobs else 0
        if changed > len(blobs):
            rows = f"an update of {len(blobs)} rows changed {changed}, and was rolled back"
            raise DatabaseError(f"key {self.names.key!r} is not unique: {rows}")
        return changed


def same_value(blob: bytes | None, other: bytes) -> bool:
    """Return whether a database that rewrites JSON in its own form would store both alike."""
    try:
        return bool(blob) and bool(other) and json.loads(blob or b"") == json.loads(other)
    except ValueError:  # a field of no interest may have more digits than Python reads
        return False
