"""Batches of rows: found, locked, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Select, bindparam, case, column, func, literal_column, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnClause, ColumnElement
from sqlalchemy.types import NullType

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

    keys: Sequence[Key]
    end: Key | None
    """The last key of the beginning; the range's last key if the whole range was searched."""
    is_all: bool
    rows: Sequence[Row] = ()
    """The rows as they are, if they were read without locks."""
    version: int = 0
    """Without row locks, the database's version before the rows were read."""


class Limits(NamedTuple):
    """The maximum size of a batch: rows that a rule may change, and bytes of their blobs."""

    rows: int
    bytes: int


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
            if (forbidden := self.dialect.forbidden(self.connection)) is not None:
                found = self.connection.execute(self.select(self.selected_key).where(forbidden).limit(1)).first()
                if found is not None:
                    hint = (
                        f"row security forbids updates of the row {found[0]!r}, and perhaps of others: leave them out with where"
                    )
                    raise self.dialect.not_writable(hint)

    @property
    def size(self) -> ColumnElement[int]:
        """The size of a blob in bytes, as an expression."""
        return self.dialect.size(self.blob)

    # --- finding and reading ---

    def _bounded(self) -> AbstractContextManager[None]:
        """Run a reading transaction. On a server, one that may write is bounded in how long it waits for locks."""
        return self.transaction(write=self.dialect.locks_rows)

    def span(self, after: Key | None, rows: int, end: Key | None = None) -> Span:
        """Return the range of the next so many keys, up to the last one."""
        with self._bounded():
            rest = self.select(self.selected_key).where(*self.key_range(after, end)).order_by(self.key)
            last = self.connection.execute(rest.offset(rows - 1).limit(1)).scalar()
            return Span(after, last, rows) if last is not None else Span(after, end, self._count(after, end))

    def times(self, after: Key | None, end: Key | None, plan: Plan) -> tuple[int, list[tuple[Key, object]]]:
        """Return how many rows in a range have no time, and the keys and values of unreadable times."""
        if plan.untimed is None or plan.unreadable is None:
            return 0, []
        unreadable = self.select(self.selected_key, column(str(self.names.time_column)))
        with self._bounded():
            rows = self.connection.execute(unreadable.where(*self.key_range(after, end), plan.unreadable).order_by(self.key))
            return self._count(after, end, plan.untimed), [(key, value) for key, value in rows]

    def count_range(self, after: Key | None, end: Key | None, *conditions: ColumnElement[bool]) -> int:
        """Return how many rows of a range meet the conditions."""
        with self._bounded():
            return self._count(after, end, *conditions)

    def _count(self, after: Key | None, end: Key | None, *conditions: ColumnElement[bool]) -> int:
        rows = self.select(func.count()).where(*self.key_range(after, end), *conditions)
        return int(self.connection.execute(rows).scalar_one())

    def find(self, span: Span, plan: Plan, limits: Limits, *, exactly: bool) -> Found:
        """Find the rows that a rule may change, up to the limits, without locks and without reading their blobs."""
        conditions = [*self.key_range(span.after, span.end), *plan.touched(exactly=exactly)]
        with self._bounded():
            query = self.select(self.selected_key, func.coalesce(self.size, 0)).where(*conditions)
            sizes = self.connection.execute(query.order_by(self.key).limit(limits.rows)).all()
        keys: list[Key] = []
        total = 0
        for key, size in sizes:
            keys.append(key)
            total += size
            if total >= limits.bytes:
                break
        is_all = len(keys) == span.size or len(keys) == len(sizes) < limits.rows
        return Found(keys, span.end if is_all else keys[-1], is_all)

    def read(self, span: Span, plan: Plan, limits: Limits, *, exactly: bool) -> Found:
        """Find the rows that a rule may change, up to the limits, and read them one by one, in one transaction."""
        with self.transaction(write=False):
            version = self.dialect.version(self.connection)
            rows: list[Row] = []
            size = 0
            conditions = [*self.key_range(span.after, span.end), *plan.touched(exactly=exactly)]
            with self.connection.execute(self._rows(conditions, plan).limit(limits.rows)) as result:
                for row in result:
                    rows.append(Row(*row))
                    size += len(row[1] or b"")
                    if size >= limits.bytes or len(rows) == limits.rows:
                        is_all = len(rows) == span.size
                        return Found([], span.end if is_all else row[0], is_all, rows, version)
            return Found([], span.end, True, rows, version)

    def read_again(self, after: Key | None, found: Found, plan: Plan) -> Sequence[Row]:
        """Return rows as they are now, without those that are gone or that no rule may change any more."""
        if self.dialect.version(self.connection) == found.version:
            return found.rows
        known = {row.key for row in found.rows}
        conditions = [*self.key_range(after, found.end), *plan.touched(exactly=False)]
        with self.connection.execute(self._rows(conditions, plan)) as rows:
            return [row for row in (Row(*row) for row in rows) if row.key in known]

    def peek(self, keys: Sequence[Key], plan: Plan) -> list[Row]:
        """Read rows that were found, without locks."""
        with self._bounded():
            return self._fetch(keys, plan)

    def lock(self, keys: Sequence[Key], plan: Plan) -> list[Row]:
        """Lock and read rows that were found, except those that others have locked or changed."""
        return self._fetch(keys, plan, lock=True)

    def still(self, keys: Sequence[Key], plan: Plan) -> tuple[int, list[Key]]:
        """Return how many rows with these keys there still are, and the keys of those that a rule may change."""
        touched = literal_column("1 = 1") if plan.cheap is None else plan.cheap
        query = self.select(self.selected_key, case((touched, 1), else_=0)).where(self.dialect.among(self.key))
        now = self.connection.execute(query.order_by(self.key), {"keys": [*keys]}).all()
        return len(now), [key for key, is_touched in now if is_touched]

    def _fetch(self, keys: Sequence[Key], plan: Plan, *, lock: bool = False) -> list[Row]:
        query = self._rows([*plan.touched(exactly=False), self.dialect.among(self.key)], plan).order_by(None)
        if lock:  # as an update does: rows of other tables that refer to these can still be inserted
            query = query.with_for_update(skip_locked=True, key_share=True)
        order = {key: i for i, key in enumerate(keys)}
        parts = ({"keys": [*keys[begin : begin + _KEYS_AT_ONCE]]} for begin in range(0, len(keys), _KEYS_AT_ONCE))
        rows = (Row(*row) for part in parts for row in self.dialect.fetch(self.connection, query, part))
        return sorted((row for row in rows if row.key in order), key=lambda row: order[row.key])

    def _rows(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        columns = [self.selected_key, *self.dialect.blob(self.blob), *optional(plan.tier)]
        return self.select(*columns).where(*conditions).order_by(self.key)

    # --- writing ---

    def write(self, blobs: Sequence[NewBlob]) -> dict[Key, str]:
        """Write reduced blobs. Return the reason for each one that the database rejected."""
        others = [blob for blob in blobs if not self.dialect.is_plain(blob[0])]
        plain = [blob for blob in blobs if self.dialect.is_plain(blob[0])] if others else blobs
        try:
            if plain:
                with self._savepoint():
                    changed = self._write_many(plain)
                    self.may_undo = self.may_undo or changed not in (len(plain), -1)
        except DBAPIError as error:
            if not self.dialect.rejects_row(error.orig):
                raise
            others = list(blobs)  # to find the row that a constraint or a trigger rejects
        missing, rejected = self._write_each(others, "reduced")
        self.may_undo = self.may_undo or bool(missing)
        return rejected

    def undone(self, rows: Iterable[tuple[Row, bytes]]) -> list[Key]:
        """Return the keys of rows that still have their old blob instead of the new blob."""
        written = {row.key: (row.blob, new) for row, new in rows}
        sizes = self._now(self.size, list(written))
        # The size tells the new blob from a longer one. Only a few are read back.
        alike = [key for key, (old, new) in written.items() if sizes.get(key, -1) != len(new) or len(new) == len(old or b"")]
        return [key for key, now in self.blobs_now(alike).items() if now == written[key][0]]

    def blobs_now(self, keys: Sequence[Key]) -> dict[Key, bytes | None]:
        """Return the blobs of the rows with these keys that exist."""
        return self._now(self.dialect.blob(self.blob)[0], keys)

    def _now(self, value: ColumnElement[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """Return an expression's value for the rows with these keys that exist."""
        now: dict[Key, Any] = {}
        possible = [key for key in keys if self.dialect.can_hold(key)]
        plain = [key for key in possible if self.dialect.is_plain(key)]
        rows = select(self.selected_key, value).select_from(self.table)
        for begin in range(0, len(plain), _KEYS_AT_ONCE):
            part = {"keys": plain[begin : begin + _KEYS_AT_ONCE]}
            now.update(tuple(row) for row in self.dialect.fetch(self.connection, rows.where(self.dialect.among(self.key)), part))
        for key in possible:
            if not self.dialect.is_plain(key):
                now.update(tuple(row) for row in self.connection.execute(rows.where(self.key == self.dialect.literal(key))))
        return now

    def put_back(self, blobs: Sequence[NewBlob]) -> tuple[list[Key], dict[Key, str]]:
        """Write saved blobs. Return the keys that no row has, and the reason for each one that the database rejected."""
        last = {blob[0]: blob for blob in blobs if self.dialect.can_hold(blob[0])}  # of one key the last line counts
        plain = [blob for key, blob in last.items() if self.dialect.is_plain(key)]
        try:
            with self._savepoint():
                changed = self._write_many(plain) if plain else 0
                changed += sum(self._write_one(blob) for key, blob in last.items() if not self.dialect.is_plain(key))
        except DBAPIError as error:
            if not self.dialect.rejects_row(error.orig):
                raise
            return self._write_each(blobs, "saved")
        existing = last if changed == len(last) else self._now(literal_column("1"), list(last))
        return [blob[0] for blob in blobs if blob[0] not in existing], {}

    def differing(self, blobs: Sequence[NewBlob]) -> dict[Key, bytes | None]:
        """Return the blobs of existing rows whose size is not that of these: all others have what was written."""
        sizes = self._now(self.size, [key for key, *_ in blobs])
        return self.blobs_now([key for key, blob, _ in blobs if key in sizes and sizes[key] != len(blob)])

    def _write_each(self, blobs: Sequence[NewBlob], what: str) -> tuple[list[Key], dict[Key, str]]:
        missing, rejected = [], {}
        for blob in blobs:
            try:
                with self._savepoint():
                    if not self._write_one(blob):
                        missing.append(blob[0])
            except DBAPIError as error:
                if not self.dialect.rejects_row(error.orig):
                    raise
                rejected[blob[0]] = f"the database rejects the {what} text: {self.dialect.explain(error.orig)}"
        return missing, rejected

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

    def _write_many(self, blobs: Sequence[NewBlob]) -> int:
        """Write the blobs of plain keys. Return how many rows there were."""
        changed = self.dialect.write(self.connection, self._target, blobs)
        return self._check_number(changed, len({key for key, *_ in blobs}))

    def _write_one(self, blob: NewBlob) -> int:
        """Write a row's blob. Return 0 if there is no such row."""
        key, new, is_bytes = blob
        if not self.dialect.can_hold(key):
            return 0
        if self.dialect.is_plain(key):
            return self._write_many([blob])
        one = update(self.table).where(self.key == self.dialect.literal(key))
        value: ColumnElement[Any] = bindparam(None, self.dialect.to_driver(new, is_bytes=is_bytes), NullType())
        return self._check_number(self.connection.execute(one.values(self._target.values(value))).rowcount, 1)

    def _check_number(self, changed: int, written: int) -> int:
        """Raise, so that the transaction is rolled back, if an update changed more rows than it was to write."""
        if changed > written:
            name = self.names.key
            raise DatabaseError(f"key {name!r} is not unique: an update of {written} rows changed {changed}, and was rolled back")
        return changed


def same_value(blob: bytes | None, other: bytes) -> bool:
    """Return whether a database that rewrites JSON in its own form would store both alike."""
    try:
        return bool(blob) and bool(other) and json.loads(blob or b"") == json.loads(other)
    except ValueError:  # a field of no interest may have more digits than Python reads
        return False
