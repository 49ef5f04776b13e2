"""One table of calls over one connection: what the jobs ask of it, in SQL that most databases understand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Select, bindparam, case, column, func, literal_column, null, select, table, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats._json import is_text
from callstats.db.dialects.base import Clock, Dialect
from callstats.db.engine import translated
from callstats.db.jobs.plan import Plan
from callstats.db.jobs.rows import Batch, Row, Stretch
from callstats.db.results import Key, RolledBackError
from callstats.errors import CallstatsError

_KEYS_AT_ONCE = 500
"""How many keys a query names: SQLite used to take 999 parameters."""


class CallTable:
    """A table with a unique key and a column of stored histograms."""

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        *,
        name: str,
        key: str,
        column_name: str,
        where: str | None = None,
        time_column: str | None = None,
        to_write: bool = False,
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        names = {"table": name, "key": key, "column": column_name, "where": where, "time_column": time_column}
        for what, given in names.items():
            if given is not None and not is_text(given):
                raise CallstatsError(f"{what} must be text that encodes to UTF-8, got {given!r}")
        if dialect.same_name(key, column_name):
            raise CallstatsError(f"key and column must be two columns, got {key!r} for both")
        self.stats: ColumnElement[Any] = column(column_name)
        self._bare_key: ColumnElement[Any] = column(key)
        self.table = table(name, self._bare_key, self.stats)
        # Not text(), which would take a colon in it for a parameter; the new line ends a comment.
        self.scope: list[ColumnElement[bool]] = [] if where is None else [literal_column(f"({where}\n)")]
        with dialect.transaction(connection, write=False):
            has = dialect.columns(connection, name)
            if not has:
                raise CallstatsError(f"there is no table {name!r}: the database has {_listed(dialect.tables(connection))}")
            for asked in (key, column_name, time_column):
                if asked is not None and not any(dialect.same_name(asked, other) for other in has):
                    raise CallstatsError(f"table {name!r} has no column {asked!r}: it has {_listed(has)}")
            self.key = dialect.key(connection, name, self._bare_key)
            dialect.inspect_cells(connection, name, column_name)
            if to_write and dialect.is_generated(connection, name, column_name):
                raise CallstatsError(f"expected a column that can be written: {column_name!r} of {name!r} is a generated one")
            self.may_undo = to_write and dialect.may_undo(connection, name)
            """Whether what is written must be read back."""
            self.clock: Clock | None = None if time_column is None else dialect.clock(connection, name, column(time_column))
            with translated(dialect, f"where {where!r}: "):
                connection.execute(self._select(func.count()).where(literal_column("0 = 1"))).all()
        self._update = (
            update(self.table)
            .where(self.key == dialect.bound_key(bindparam("this_key", type_=NullType())))
            .values({self.stats: dialect.new_cell(bindparam("new_cell", type_=NullType()))})
        )

    def total(self) -> int:
        """How many rows are in scope."""
        return self._count([])

    def without_key(self, condition: ColumnElement[bool] | None) -> int:
        """How many of the rows that meet a condition have no key to go on from, or to update them by."""
        return self._count([self._bare_key.is_(None), *_given(condition)])

    @property
    def size(self) -> ColumnElement[int]:
        """The size of a cell in bytes."""
        return self.dialect.size(self.stats)

    def is_bytes(self, row: Row) -> bool:
        """Whether a row's cell takes bytes, and not text."""
        return self.dialect.is_bytes(row.kind)

    def read(self, after: Key | None, plan: Plan, *, most: int, most_rows: int, most_bytes: int) -> Batch:
        """The next stretch of at most `most` keys, and `most_rows` rows or about `most_bytes` bytes that a rule may touch.

        It is read in one transaction that ends here; a dry run, and a database without row locks, read so.
        """
        with self.transaction(write=False):
            if self.dialect.locks_rows:  # its driver reads all rows before it gives the first: look at their sizes before
                version = 0
                end = self._scan(after, plan, most=most, most_rows=most_rows, most_bytes=most_bytes).end
            else:
                version = self.dialect.version(self.connection)
                ends = select(self._shown).select_from(self.table).where(*self._stretch(after, None))
                end = self.connection.execute(ends.order_by(self.key).offset(most - 1).limit(1)).scalar()
            rows: list[Row] = []
            size = 0
            with self.connection.execute(self._cells(after, end, plan).limit(most_rows)) as found:
                for row in found:
                    rows.append(Row(*row))
                    size += len(row[1] or b"")
                    if size >= most_bytes or len(rows) == most_rows:
                        end = row[0]
                        break
            in_all = self.connection.execute(self._select(func.count()).where(*self._stretch(after, end))).scalar_one()
            return Batch(rows, int(in_all), end, version)

    def read_again(self, after: Key | None, batch: Batch, plan: Plan) -> list[Row]:
        """The rows of a batch as they are now; those that are gone, or no longer to be touched, are left out."""
        if self.dialect.version(self.connection) == batch.version:
            return batch.rows
        known = {row.key for row in batch.rows}
        with self.connection.execute(self._cells(after, batch.end, plan)) as found:
            return [row for row in (Row(*row) for row in found) if row.key in known]

    def lock(self, after: Key | None, plan: Plan, *, most: int, most_rows: int, most_bytes: int) -> tuple[Stretch, list[Row]]:
        """The next stretch, and its rows that a rule may touch: locked, but for those that others have locked."""
        stretch = self._scan(after, plan, most=most, most_rows=most_rows, most_bytes=most_bytes)
        if not stretch.keys:
            return stretch, []
        known = set(stretch.keys)
        return stretch, [row for row in self._locked(self._cells(after, stretch.end, plan)) if row.key in known]

    def lock_keys(self, keys: Sequence[Key], plan: Plan) -> tuple[Stretch, list[Row]]:
        """The same for rows by their keys; those that are gone by now don't count."""
        these = [self.key.in_([self.dialect.literal(key) for key in keys])]
        stretch = self._stretch_of(self.connection.execute(self._sizes(these, plan)).all(), None, None)
        return stretch, self._locked(self._cells_where(these, plan)) if stretch.keys else []

    def following(
        self, after: Key | None, what: Sequence[ColumnElement[Any]], condition: ColumnElement[bool] | None, most: int
    ) -> Select[Any]:
        """The next rows in the order of the keys: of each its key, its cell, the kind of that, and what else is asked for."""
        cell, kind = self.dialect.cell(self.stats)
        rows = self._select(self._shown, cell, kind, *what).where(*self._stretch(after, None), *_given(condition))
        return rows.order_by(self.key).limit(most)

    def columns(self, names: Sequence[str]) -> list[ColumnElement[Any]]:
        """Further columns of the table; refuse one that it doesn't have."""
        with self.transaction(write=False):
            has = self.dialect.columns(self.connection, self.table.name)
        for name in names:
            if not any(self.dialect.same_name(name, other) for other in has):
                raise CallstatsError(f"table {self.table.name!r} has no column {name!r}: it has {_listed(has)}")
        return [column(name) for name in names]

    def find(self, key: Key) -> Row | None:
        """One row by its key."""
        if not self.dialect.holds(key):
            return None
        cell, kind = self.dialect.cell(self.stats)
        with self.transaction(write=False):
            query = self._select(self._shown, cell, kind).where(self.key == self.dialect.literal(key))
            found = self.connection.execute(query).first()
        return None if found is None else Row(*found)

    def detailed(self, key: Key | None, names: Sequence[str | None]) -> tuple[Any, ...] | None:
        """One row, or that of the greatest key: its key, its cell, the kind of that, and the named columns, NULL for None."""
        if key is not None and not self.dialect.holds(key):
            return None
        cell, kind = self.dialect.cell(self.stats)
        rows = self._select(self._shown, cell, kind, *(null() if name is None else column(name) for name in names))
        rows = rows.order_by(self.key.desc()) if key is None else rows.where(self.key == self.dialect.literal(key))
        with self.transaction(write=False):
            found = self.connection.execute(rows.limit(1)).first()
        return None if found is None else tuple(found)

    def write(self, cells: Sequence[tuple[Key, str | bytes | None]]) -> dict[Key, str]:
        """Put reduced cells into their rows, and tell which ones the database refused, and why."""
        plain = [{"this_key": key, "new_cell": cell} for key, cell in cells if self.dialect.is_plain(key)]
        odd = [(key, cell) for key, cell in cells if not self.dialect.is_plain(key)]
        try:
            if plain:
                with self._savepoint():
                    changed = self.connection.execute(self._update, plain).rowcount
                    self.may_undo = self.may_undo or changed not in (len(plain), -1)
        except DBAPIError as error:
            if not self.dialect.refuses(error.orig):
                raise
            odd = list(cells)  # a constraint or a trigger refuses one of them: which?
        unchanged, refused = self._write_each(odd, "reduced")
        self.may_undo = self.may_undo or bool(unchanged)
        return refused

    def put_back(self, cells: Sequence[tuple[Key, str | bytes | None]]) -> tuple[list[Key], dict[Key, str]]:
        """Put saved cells into their rows: the keys of rows that aren't there, and which the database refused, and why."""
        try:
            with self._savepoint():
                return [key for key, cell in cells if not self._write_one(key, cell)], {}
        except DBAPIError as error:
            if not self.dialect.refuses(error.orig):
                raise
        return self._write_each(cells, "saved")

    def cells_now(self, keys: Sequence[Key]) -> dict[Key, bytes | None]:
        """What the rows with these keys hold, of those that are there."""
        cell, _ = self.dialect.cell(self.stats)
        now: dict[Key, bytes | None] = {}
        held = [key for key in keys if self.dialect.holds(key)]
        for begin in range(0, len(held), _KEYS_AT_ONCE):
            these = [self.dialect.literal(key) for key in held[begin : begin + _KEYS_AT_ONCE]]
            rows = select(self._shown, cell).select_from(self.table).where(self.key.in_(these))
            now.update((key, found) for key, found in self.connection.execute(rows))
        return now

    def _write_each(self, cells: Sequence[tuple[Key, str | bytes | None]], what: str) -> tuple[list[Key], dict[Key, str]]:
        missing, refused = [], {}
        for key, cell in cells:
            try:
                with self._savepoint():
                    if not self._write_one(key, cell):
                        missing.append(key)
            except DBAPIError as error:
                if not self.dialect.refuses(error.orig):
                    raise
                refused[key] = f"the database refuses the {what} text: {self.dialect.explain(error.orig)}"
        return missing, refused

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """A part of the transaction that can be taken back, unless what failed in it has ended all of the transaction."""
        part = self.connection.begin_nested()
        try:
            yield
        except DBAPIError as error:
            if not self.dialect.in_transaction(self.connection):
                told = self.dialect.explain(error.orig)
                raise RolledBackError(f"a trigger refuses the text, and rolls back what was written with it: {told}") from None
            part.rollback()
            raise
        part.commit()

    def _write_one(self, key: Key, cell: str | bytes | None) -> int:
        """Put a cell into its row; 0 when there is no such row."""
        if not self.dialect.holds(key):
            return 0
        if self.dialect.is_plain(key):
            return self.connection.execute(self._update, {"this_key": key, "new_cell": cell}).rowcount
        one = update(self.table).where(self.key == self.dialect.literal(key))
        return self.connection.execute(one.values({self.stats: bindparam(None, cell, NullType())})).rowcount

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        """A transaction whose failure is a DatabaseError."""
        with translated(self.dialect, setting_up=False), self.dialect.transaction(self.connection, write=write):
            yield

    def _select(self, *what: Any) -> Select[Any]:
        return select(*what).select_from(self.table).where(*self.scope)

    def _stretch(self, after: Key | None, end: Key | None) -> list[ColumnElement[bool]]:
        low = self._bare_key.is_not(None) if after is None else self.key > self.dialect.literal(after)
        return [low] if end is None else [low, self.key <= self.dialect.literal(end)]

    @property
    def _shown(self) -> ColumnElement[Any]:
        return self.dialect.shown_key(self.key)

    def _cells(self, after: Key | None, end: Key | None, plan: Plan) -> Select[Any]:
        return self._cells_where(self._stretch(after, end), plan)

    def _cells_where(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        what = [self._shown, *self.dialect.cell(self.stats), *_given(plan.tier)]
        return self._select(*what).where(*conditions, *_given(plan.condition)).order_by(self.key)

    def _locked(self, query: Select[Any]) -> list[Row]:
        # The lock that an update takes: rows of other tables that point here can still be inserted.
        with self.connection.execute(query.with_for_update(skip_locked=True, key_share=True)) as found:
            return [Row(*row) for row in found]

    def _sizes(self, conditions: Sequence[ColumnElement[bool]], plan: Plan) -> Select[Any]:
        size = func.coalesce(self.size, 0) if plan.condition is None else case((plan.condition, self.size))
        return self._select(self._shown, size).where(*conditions).order_by(self.key)

    def _scan(self, after: Key | None, plan: Plan, *, most: int, most_rows: int, most_bytes: int) -> Stretch:
        sizes = self.connection.execute(self._sizes(self._stretch(after, None), plan).limit(most)).all()
        stretch = self._stretch_of(sizes, most_rows, most_bytes)
        is_last = stretch.in_all == len(sizes) < most
        return stretch._replace(end=None if is_last else stretch.end)

    @staticmethod
    def _stretch_of(sizes: Sequence[Any], most_rows: int | None, most_bytes: int | None) -> Stretch:
        keys: list[Key] = []
        total = in_all = 0
        key = None
        for key, size in sizes:
            in_all += 1
            if size is not None:
                keys.append(key)
                total += size
                if len(keys) == most_rows or (most_bytes is not None and total >= most_bytes):
                    break
        return Stretch(keys, in_all, key)

    def _count(self, conditions: Iterable[ColumnElement[bool]]) -> int:
        with self.transaction(write=False):
            return int(self.connection.execute(self._select(func.count()).where(*conditions)).scalar_one())


def _given(expression: ColumnElement[Any] | None) -> Iterable[ColumnElement[Any]]:
    return () if expression is None else (expression,)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
