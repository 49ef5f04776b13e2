"""Batches of rows: read, locked and written; and the plan that says which rule each row gets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Select, Text, and_, bindparam, case, cast, column, func, literal_column, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnClause, ColumnElement
from sqlalchemy.types import NullType

from callstats._types import FIRST_TIME, I64_MAX
from callstats.call import Key
from callstats.db.dialects.base import Dialect
from callstats.db.query import Names, TableSession, optional
from callstats.db.results import RolledBackError
from callstats.errors import ArgumentError, DatabaseError
from callstats.rule import Rule

_KEYS_AT_ONCE = 500
"""How many keys a query names: SQLite used to take 999 parameters."""
_SHORTEST_ROW = len('{"timestamp":"2006-01-02T15:04:05Z"}')


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


class Batch(NamedTuple):
    """The rows of one range of keys that a rule may change."""

    rows: list[Row]
    size: int
    """The number of all rows in the range."""
    end: Key | None
    """The last key; None if the range extends to the end of the table."""
    version: int = 0
    """Without row locks, the database's version before the rows were read."""
    keys: Sequence[Key] = ()
    """With row locks, the keys of all rows that a rule may change, also of those that others have locked."""


class Plan(NamedTuple):
    """The rules, and as SQL which rows each is for."""

    rules: Sequence[Rule]
    tier: ColumnElement[Any] | None
    """The index of a row's rule; None if there is one rule for all."""
    condition: ColumnElement[bool] | None
    """Whether a rule may change a row; None to read all rows."""
    untimed: ColumnElement[bool] | None = None
    """With tiers, whether a row has no time."""
    unreadable: ColumnElement[bool] | None = None
    """With tiers, whether a row that is long enough for one of them has a time of another form."""


class Limits(NamedTuple):
    """The maximum size of a batch: keys of the table, rows that a rule may change, and bytes of their blobs."""

    keys: int
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
            self._kept: dict[Any, Any] = dict(zip(kept, kept, strict=True))
            """Columns that an update sets to themselves: by default the database would set them to the time of the update."""
        for one in kept:
            self.table.append_column(one)
        key = dialect.key_parameter(bindparam("this_key", type_=NullType()))
        blob = dialect.blob_parameter(bindparam("new_blob", type_=NullType()))
        self._update = update(self.table).where(self.key == key).values({self.blob: blob, **self._kept})

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

    def read(self, after: Key | None, plan: Plan, limits: Limits) -> Batch:
        """Read the next range of keys, in a transaction that ends here, without locks."""
        with self.transaction(write=False):
            version = 0
            if self.dialect.locks_rows:  # its driver fetches all rows before it returns the first: select by size before
                end = self._next_range(after, plan, limits).end
            else:
                version = self.dialect.version(self.connection)
                ends = select(self.selected_key).select_from(self.table).where(*self.key_range(after, None))
                end = self.connection.execute(ends.order_by(self.key).offset(limits.keys - 1).limit(1)).scalar()
            rows: list[Row] = []
            size = 0
            with self.connection.execute(self._rows(self.key_range(after, end), plan).limit(limits.rows)) as found:
                for row in found:
                    rows.append(Row(*row))
                    size += len(row[1] or b"")
                    if size >= limits.bytes or len(rows) == limits.rows:
                        end = row[0]
                        break
            total = self.connection.execute(self.select(func.count()).where(*self.key_range(after, end))).scalar_one()
            return Batch(rows, int(total), end, version)

    def read_again(self, after: Key | None, batch: Batch, plan: Plan) -> list[Row]:
        """Return the rows of a batch as they are now, without those that are gone or that no rule may change any more."""
        if self.dialect.version(self.connection) == batch.version:
            return batch.rows
        known = {row.key for row in batch.rows}
        with self.connection.execute(self._rows(self.key_range(after, batch.end), plan)) as found:
            return [row for row in (Row(*row) for row in found) if row.key in known]

    def lock(self, after: Key | None, plan: Plan, limits: Limits) -> Batch:
        """Lock and read the rows of the next range that a rule may change, except those locked by others."""
        found = self._next_range(after, plan, limits)
        return self._locked(found, self._rows(self.key_range(after, found.end), plan))

    def lock_keys(self, keys: Sequence[Key], plan: Plan) -> Batch:
        """Lock and read rows by their keys. Rows that are gone by now are not counted."""
        these = [self.key.in_([self.dialect.literal(key) for key in keys])]
        found = _range_of(self.connection.execute(self._sizes(these, plan)).all(), Limits(I64_MAX, I64_MAX, I64_MAX))
        return self._locked(found, self._rows(these, plan))

    def times(self, after: Key | None, end: Key | None, plan: Plan) -> tuple[int, list[tuple[Key, object]]]:
        """Return how many rows in a range have no time, and the keys and values of unreadable times."""
        if plan.untimed is None or plan.unreadable is None:
            return 0, []
        keys = self.key_range(after, end)
        unreadable = self.select(self.selected_key, column(str(self.names.time_column))).where(*keys, plan.unreadable)
        with self.transaction(write=False):
            untimed = self.connection.execute(self.select(func.count()).where(*keys, plan.untimed)).scalar_one()
            return int(untimed), [(key, value) for key, value in self.connection.execute(unreadable.order_by(self.key))]

    def blobs_now(self, keys: Sequence[Key]) -> dict[Key, bytes | None]:
        """Return the blobs of the rows with these keys that exist."""
        blob, _ = self.dialect.blob(self.blob)
        now: dict[Key, bytes | None] = {}
        possible = [key for key in keys if self.dialect.can_hold(key)]
        for begin in range(0, len(possible), _KEYS_AT_ONCE):
            these = [self.dialect.literal(key) for key in possible[begin : begin + _KEYS_AT_ONCE]]
            rows = select(self.selected_key, blob).select_from(self.table).where(self.key.in_(these))
            now.update((key, found) for key, found in self.connection.execute(rows))
        return now

    # --- writing ---

    def write(self, blobs: Sequence[tuple[Key, str | bytes | None]]) -> dict[Key, str]:
        """Write reduced blobs. Return the reason for each one that the database rejected."""
        plain = [{"this_key": key, "new_blob": blob} for key, blob in blobs if self.dialect.is_plain(key)]
        others = [(key, blob) for key, blob in blobs if not self.dialect.is_plain(key)]
        try:
            if plain:
                with self._savepoint():
                    changed = self._check_number(self.connection.execute(self._update, plain).rowcount, len(plain))
                    self.may_undo = self.may_undo or changed not in (len(plain), -1)
        except DBAPIError as error:
            if not self.dialect.rejects_row(error.orig):
                raise
            others = list(blobs)  # to find the row that a constraint or a trigger rejects
        missing, rejected = self._write_each(others, "reduced")
        self.may_undo = self.may_undo or bool(missing)
        return rejected

    def put_back(self, blobs: Sequence[tuple[Key, str | bytes | None]]) -> tuple[list[Key], dict[Key, str]]:
        """Write saved blobs. Return the keys that no row has, and the reason for each one that the database rejected."""
        try:
            with self._savepoint():
                return [key for key, blob in blobs if not self._write_one(key, blob)], {}
        except DBAPIError as error:
            if not self.dialect.rejects_row(error.orig):
                raise
        return self._write_each(blobs, "saved")

    def _write_each(self, blobs: Sequence[tuple[Key, str | bytes | None]], what: str) -> tuple[list[Key], dict[Key, str]]:
        missing, rejected = [], {}
        for key, blob in blobs:
            try:
                with self._savepoint():
                    if not self._write_one(key, blob):
                        missing.append(key)
            except DBAPIError as error:
                if not self.dialect.rejects_row(error.orig):
                    raise
                rejected[key] = f"the database rejects the {what} text: {self.dialect.explain(error.orig)}"
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

    def _write_one(self, key: Key, blob: str | bytes | None) -> int:
        """Write a row's blob. Return 0 if there is no such row."""
        if not self.dialect.can_hold(key):
            return 0
        if self.dialect.is_plain(key):
            return self._check_number(self.connection.execute(self._update, {"this_key": key, "new_blob": blob}).rowcount, 1)
        one = update(self.table).where(self.key == self.dialect.literal(key))
        values = {self.blob: bindparam(None, blob, NullType()), **self._kept}
        return self._check_number(self.connection.execute(one.values(values)).rowcount, 1)

    def _check_number(self, changed: int, written: int) -> int:
        """Raise, so that the transaction is rolled back, if an update changed more rows than it was to write."""
        if changed > written:
            name = self.names.key
            raise DatabaseError(f"key {name!r} is not unique: an update of {written} rows changed {changed}, and was rolled back")
        return changed

    # --- parts of statements ---

    def _rows(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        columns = [self.selected_key, *self.dialect.blob(self.blob), *optional(plan.tier)]
        return self.select(*columns).where(*conditions, *optional(plan.condition)).order_by(self.key)

    def _locked(self, batch: Batch, query: Select[Any]) -> Batch:
        """Add the batch's rows, as far as others have not locked them."""
        if not batch.keys:
            return batch
        known = set(batch.keys)
        # The lock that an update takes: rows of other tables that refer to these can still be inserted.
        with self.connection.execute(query.with_for_update(skip_locked=True, key_share=True)) as found:
            return batch._replace(rows=[Row(*row) for row in found if row[0] in known])

    def _sizes(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        size = func.coalesce(self.size, 0) if plan.condition is None else case((plan.condition, self.size))
        return self.select(self.selected_key, size).where(*conditions).order_by(self.key)

    def _next_range(self, after: Key | None, plan: Plan, limits: Limits) -> Batch:
        sizes = self.connection.execute(self._sizes(self.key_range(after, None), plan).limit(limits.keys)).all()
        found = _range_of(sizes, limits)
        is_last = found.size == len(sizes) < limits.keys
        return found._replace(end=None if is_last else found.end)


def make_plan(rule: Rule, tiers: Sequence[tuple[timedelta, int]], session: BatchSession, as_of: int, *, verify: bool) -> Plan:
    """Return the plan that gives each row the rule, or with tiers that of the oldest tier that it is old enough for."""
    # A server that isn't strict would cut a text that is longer than its column.
    limits = [limit for limit in (rule.max_bytes, session.dialect.max_bytes) if limit is not None]
    rule = replace(rule, max_bytes=min(limits, default=None))
    if not tiers:
        return Plan([rule], None, None if verify else session.size > _max_untouched(rule))
    rules = [replace(rule, max_samples=rows) for _, rows in tiers]
    # An age before the first possible time is never reached.
    times = [max(as_of - age // timedelta(microseconds=1) * 1000, FIRST_TIME) for age, _ in tiers]
    stored: ColumnElement[Any] = column(str(session.names.time_column))
    with session.dialect.transaction(session.connection, write=False):
        session.check_columns(time_column=session.names.time_column)
        time, at = session.dialect.time_column(session.connection, stored)
        session.connection.execute(session.select(stored).where(literal_column("0 = 1"))).all()  # fails without the privilege
    # Go's zero time, in year 1, means none.
    old_enough = [time.between(at(FIRST_TIME + 10**9), at(ns)) for ns in times]
    indices = list(range(len(rules)))[::-1]
    tier = case(*((old_enough[i], literal_column(str(i))) for i in indices))
    untouched = case(*((old_enough[i], literal_column(str(_max_untouched(rules[i])))) for i in indices))
    untimed = or_(stored.is_(None), cast(stored, Text) == "", time < at(FIRST_TIME + 10**9))
    long_enough = [] if verify else [session.size > min(map(_max_untouched, rules))]
    unreadable = and_(time.is_(None), cast(stored, Text) != "", *long_enough)
    return Plan(rules, tier, old_enough[0] if verify else session.size > untouched, untimed, unreadable)


def sorted_tiers(tiers: Iterable[tuple[timedelta, int]] | None, rule: Rule) -> list[tuple[timedelta, int]]:
    """Validate tiers and return them from the youngest to the oldest."""
    if tiers is None:
        return []
    ordered = sorted(tiers)
    if not ordered:
        raise ArgumentError("tiers", "None, or at least one tier", ordered)
    if rule.max_samples is not None:
        raise ArgumentError("max_samples", "None beside tiers, which have their own", rule.max_samples)
    if ordered[0][0] < timedelta(0):
        raise ArgumentError("tiers", "of ages that are 0 or more", str(ordered[0][0]))
    for (one, _), (other, _) in pairwise(ordered):
        if one == other:
            raise ArgumentError("tiers", "of different ages", str(one))
    return ordered


def same_value(blob: bytes | None, other: bytes) -> bool:
    """Return whether a database that rewrites JSON in its own form would store both alike."""
    try:
        return bool(blob) and bool(other) and json.loads(blob or b"") == json.loads(other)
    except ValueError:  # a field of no interest may have more digits than Python reads
        return False


def _range_of(sizes: Sequence[Any], limits: Limits) -> Batch:
    """Return the range of these keys, up to the limits. Rows that no rule may change have no size."""
    keys: list[Key] = []
    total = count = 0
    key = None
    for key, size in sizes:
        count += 1
        if size is not None:
            keys.append(key)
            total += size
            if len(keys) == limits.rows or total >= limits.bytes:
                break
    return Batch([], count, key, keys=keys)


def _max_untouched(rule: Rule) -> int:
    """Return the size in bytes up to which the rule changes no blob."""
    sizes = [I64_MAX, I64_MAX if rule.max_bytes is None else rule.max_bytes]
    if rule.max_samples is not None:
        rows = max(rule.max_samples, 0) + 1
        sizes.append(len("[]") + rows * _SHORTEST_ROW + (rows - 1) * len(",") - 1)
    return min(sizes)
