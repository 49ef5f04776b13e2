"""One table of calls over one connection: what the jobs ask of it, in SQL that most databases understand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, column, func, literal_column, null, select, table, update
from sqlalchemy.engine import URL, Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from callstats.errors import CallstatsError
from callstats.store.report import Key, StoreError
from callstats.store.sqlite import SQLite
from callstats.store.urls import parse_url

DIALECTS = {"sqlite": SQLite}
"""What is special to each database, by SQLAlchemy's name for it."""


class Row(NamedTuple):
    """A cell as it is stored: its bytes, and the kind of it as the database names it."""

    key: Key
    cell: bytes | None
    kind: str


class Batch(NamedTuple):
    """The rows of one stretch of keys that a rule may touch."""

    rows: list[Row]
    in_all: int
    """How many rows the stretch has in all."""
    end: Key | None
    """Its last key; None when it goes on to the end of the table."""
    version: int
    """The database's version before the rows were read."""


class CallTable:
    """A table with a unique key and a column of stored histograms."""

    def __init__(
        self,
        connection: Connection,
        dialect: SQLite,
        *,
        name: str,
        key: str,
        column_name: str,
        where: str | None = None,
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        for what, given in (("table", name), ("key", key), ("column", column_name), ("where", where or "")):
            if not _encodes(given):
                raise CallstatsError(f"{what} must be text that encodes to UTF-8: got {given!r}")
        if dialect.same_name(key, column_name):
            raise CallstatsError(f"key and column must be two columns: got {key!r} for both")
        self.stats: ColumnElement[Any] = column(column_name)
        self._bare_key: ColumnElement[Any] = column(key)
        self.table = table(name, self._bare_key, self.stats)
        # Not text(), which would take a colon in it for a parameter; the new line ends a comment.
        self.scope: list[ColumnElement[bool]] = [] if where is None else [literal_column(f"({where}\n)")]
        with dialect.transaction(connection, write=False):
            has = dialect.columns(connection, name)
            if not has:
                raise CallstatsError(f"there is no table {name!r}: the database has {_listed(dialect.tables(connection))}")
            for asked in (key, column_name):
                if not any(dialect.same_name(asked, other) for other in has):
                    raise CallstatsError(f"table {name!r} has no column {asked!r}: it has {_listed(has)}")
            self.key = dialect.key(connection, name, self._bare_key)
            with translated(dialect, f"where {where!r}: "):
                connection.execute(self._select(func.count()).where(literal_column("0 = 1"))).all()
        self._update = (
            update(self.table)
            .where(self.key == bindparam("this_key", type_=NullType()))
            .values({self.stats: bindparam("new_cell", type_=NullType())})
        )

    def total(self) -> int:
        """How many rows are in scope."""
        return self._count([])

    def without_key(self, sizes: ColumnElement[bool] | None) -> int:
        """How many rows that a rule may touch have no key to update them by."""
        return self._count([self._bare_key.is_(None), *_given(sizes)])

    def longer_than(self, size: int | None) -> ColumnElement[bool] | None:
        """The condition that a cell has more bytes than this; None for no condition."""
        return None if size is None else self.dialect.size(self.stats) > size

    def is_bytes(self, row: Row) -> bool:
        """Whether a row's cell takes bytes, and not text."""
        return self.dialect.is_bytes(row.kind)

    def read(self, after: Key | None, sizes: ColumnElement[bool] | None, *, most: int, most_bytes: int) -> Batch:
        """The next stretch of at most `most` keys and about `most_bytes` bytes, in one read transaction that ends here."""
        with self.transaction(write=False):
            version = self.dialect.version(self.connection)
            ends = select(self.key).select_from(self.table).where(*self._stretch(after, None))
            end = self.connection.execute(ends.order_by(self.key).offset(most - 1).limit(1)).scalar()
            rows: list[Row] = []
            size = 0
            with self.connection.execute(self._cells(after, end, sizes).limit(most)) as found:
                for row in map(Row._make, found):
                    rows.append(row)
                    size += len(row.cell or b"")
                    if size >= most_bytes or len(rows) == most:
                        end = row.key
                        break
            in_all = self.connection.execute(self._select(func.count()).where(*self._stretch(after, end))).scalar_one()
            return Batch(rows, int(in_all), end, version)

    def read_again(self, after: Key | None, batch: Batch, sizes: ColumnElement[bool] | None) -> list[Row]:
        """The rows of a batch as they are now; those that are gone, or no longer to be touched, are left out."""
        if self.dialect.version(self.connection) == batch.version:
            return batch.rows
        known = {row.key for row in batch.rows}
        with self.connection.execute(self._cells(after, batch.end, sizes)) as found:
            return [row for row in map(Row._make, found) if row.key in known]

    def following(
        self, after: Key | None, what: Sequence[ColumnElement[Any]], condition: ColumnElement[bool] | None, most: int
    ) -> Select[Any]:
        """The next rows in the order of the keys: of each its key, its cell, the kind of that, and what else is asked for."""
        cell, kind = self.dialect.cell(self.stats)
        rows = self._select(self.key, cell, kind, *what).where(*self._stretch(after, None), *_given(condition))
        return rows.order_by(self.key).limit(most)

    def find(self, key: Key) -> Row | None:
        """One row by its key."""
        if not self.dialect.holds(key):
            return None
        cell, kind = self.dialect.cell(self.stats)
        with self.transaction(write=False):
            query = self._select(self.key, cell, kind).where(self.key == self.dialect.literal(key))
            found = self.connection.execute(query).first()
        return None if found is None else Row._make(found)

    def detailed(self, key: Key | None, names: Sequence[str | None]) -> tuple[Any, ...] | None:
        """One row, or that of the greatest key: its key, its cell, the kind of that, and the named columns, NULL for None."""
        if key is not None and not self.dialect.holds(key):
            return None
        cell, kind = self.dialect.cell(self.stats)
        rows = self._select(self.key, cell, kind, *(null() if name is None else column(name) for name in names))
        rows = rows.order_by(self.key.desc()) if key is None else rows.where(self.key == self.dialect.literal(key))
        with self.transaction(write=False):
            found = self.connection.execute(rows.limit(1)).first()
        return None if found is None else tuple(found)

    def write(self, cells: Sequence[tuple[Key, str | bytes]]) -> dict[Key, str]:
        """Put cells into their rows, and tell which ones the database refused, and why."""
        plain = [{"this_key": key, "new_cell": cell} for key, cell in cells if self.dialect.is_plain(key)]
        odd = [(key, cell) for key, cell in cells if not self.dialect.is_plain(key)]
        try:
            if plain:
                with self.connection.begin_nested():
                    self.connection.execute(self._update, plain)
        except (IntegrityError, DataError):  # a constraint or a trigger refuses one of them: which?
            odd = list(cells)
        refused = {}
        for key, cell in odd:
            try:
                with self.connection.begin_nested():
                    self.write_one(key, cell)
            except (IntegrityError, DataError) as error:
                refused[key] = f"the database refuses the reduced text: {self.dialect.explain(error.orig)}"
        return refused

    def write_one(self, key: Key, cell: str | bytes) -> int:
        """Put a cell into its row; 0 when there is no such row."""
        if not self.dialect.holds(key):
            return 0
        if self.dialect.is_plain(key):
            return self.connection.execute(self._update, {"this_key": key, "new_cell": cell}).rowcount
        one = update(self.table).where(self.key == self.dialect.literal(key))
        return self.connection.execute(one.values({self.stats: bindparam(None, cell, NullType())})).rowcount

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        """A transaction whose failure is a StoreError."""
        with translated(self.dialect, setting_up=False), self.dialect.transaction(self.connection, write=write):
            yield

    def _select(self, *what: Any) -> Select[Any]:
        return select(*what).select_from(self.table).where(*self.scope)

    def _stretch(self, after: Key | None, end: Key | None) -> list[ColumnElement[bool]]:
        low = self._bare_key.is_not(None) if after is None else self.key > self.dialect.literal(after)
        return [low] if end is None else [low, self.key <= self.dialect.literal(end)]

    def _cells(self, after: Key | None, end: Key | None, sizes: ColumnElement[bool] | None) -> Select[Any]:
        cell, kind = self.dialect.cell(self.stats)
        return self._select(self.key, cell, kind).where(*self._stretch(after, end), *_given(sizes)).order_by(self.key)

    def _count(self, conditions: Iterable[ColumnElement[bool]]) -> int:
        with self.transaction(write=False):
            return int(self.connection.execute(self._select(func.count()).where(*conditions)).scalar_one())


@contextmanager
def connected(source: str | os.PathLike[str] | URL | Engine, *, create: bool = False) -> Iterator[tuple[Connection, SQLite]]:
    """A connection, ready for the dialect's transactions, to a database that must exist unless it may be created."""
    own = not isinstance(source, Engine)
    engine = source if isinstance(source, Engine) else _engine(parse_url(source), create=create)
    try:
        dialect = _dialect(engine.dialect.name)
        with translated(dialect, setting_up=True), engine.connect() as connection, dialect.prepared(connection):
            with dialect.transaction(connection, write=False):
                dialect.check_database(connection)
            yield connection, dialect
    finally:
        if own:
            engine.dispose()


@contextmanager
def writing(source: str | os.PathLike[str] | URL | Engine, *, create: bool = False) -> Iterator[tuple[Connection, SQLite]]:
    """The same, in one transaction that writes."""
    with (
        connected(source, create=create) as (connection, dialect),
        translated(dialect, setting_up=False),
        dialect.transaction(connection, write=True),
    ):
        yield connection, dialect


@contextmanager
def translated(dialect: SQLite, where: str = "", *, setting_up: bool = True) -> Iterator[None]:
    """A driver's error as one of ours: in one line, without SQL, cells and URL."""
    try:
        yield
    except DBAPIError as error:
        kind = CallstatsError if setting_up and dialect.is_wrong_use(error.orig) else StoreError
        raise kind(f"{where}{dialect.explain(error.orig)}") from None


def _engine(url: URL, *, create: bool) -> Engine:
    dialect = _dialect(url.get_backend_name())
    if not create:
        dialect.check_exists(url)
    try:
        return create_engine(url, **dialect.engine_options(url))
    except (ArgumentError, NoSuchModuleError, ValueError):  # their texts may hold the whole URL
        raise CallstatsError(f"expected a URL for {dialect.name} in SQLAlchemy's form") from None


def _dialect(name: str) -> SQLite:
    if name not in DIALECTS:
        raise CallstatsError(f"callstats.store works over {', '.join(d.name for d in DIALECTS.values())}: got a URL for {name!r}")
    return DIALECTS[name]()


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _given(condition: ColumnElement[bool] | None) -> Iterable[ColumnElement[bool]]:
    return () if condition is None else (condition,)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
