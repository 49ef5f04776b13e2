"""TableSession: one table over one connection, read in SQL that all databases understand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import index
from typing import Any, cast

from sqlalchemy import Select, Text, column, func, literal_column, null, select, table
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from callstats._json import is_text
from callstats._timestamps import format_time, stored_time_ns
from callstats._types import I64_MAX
from callstats.call import LOST, RUNNING, Call, Key, Value, is_lost
from callstats.db.dialects.base import Dialect
from callstats.db.engine import WrongUseError, translated
from callstats.errors import ArgumentError, CallstatsError
from callstats.series import StatSeries

PAGE_ROWS = 1000
PAGE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Names:
    """The names of a table and its columns. A missing column with its default name is left out; any other must exist."""

    table: str = "calls"
    key: str = "id"
    column: str = "stats"
    time_column: str | None = "created_at"
    start_column: str | None = "started_at"
    end_column: str | None = "completed_at"
    group_column: str | None = "fn_id"
    status_column: str | None = "status"


OPTIONAL_COLUMNS = {name: str(default) for name, default in vars(Names()).items() if name not in ("table", "key", "column")}
"""The default names of the columns that a table may lack, by parameter."""
CALL_COLUMNS = {
    "status": "status_column",
    "created_at": "time_column",
    "started_at": "start_column",
    "completed_at": "end_column",
}
"""The parameters that name the columns of a Call's fields."""
PLAIN_COLUMNS = ("error", "exit_code", "command", "host", "pid")
"""Fields of a Call whose columns have their names, and hold them as they are."""
_OTHERS = (*PLAIN_COLUMNS, "tags")


class TableSession:
    """A table with a unique key and a column of blobs, over one connection."""

    def __init__(self, connection: Connection, dialect: Dialect, names: Names, *, where: str | None = None) -> None:
        self.connection, self.dialect, self.names = connection, dialect, names
        for parameter, given in {**vars(names), "where": where}.items():
            if given is not None and not is_text(given):
                raise ArgumentError(parameter, "text that encodes to UTF-8", given)
        if dialect.same_name(names.key, names.column):
            raise ArgumentError("column", "another column than the key", names.column)
        self.blob: ColumnElement[Any] = column(names.column)
        self._bare_key: ColumnElement[Any] = column(names.key)
        # Not text(), which would take a colon in it for a parameter; the new line ends a comment.
        self._where: list[ColumnElement[bool]] = [] if where is None else [literal_column(f"({where}\n)")]
        with dialect.transaction(connection, write=False):
            self.columns = locate(connection, dialect, names)
            self.table = table(dialect.table, self._bare_key, self.blob, schema=dialect.schema)
            self.check_columns(key=names.key, column=names.column)
            self.key = dialect.key(connection, self._bare_key)
            dialect.inspect_column(connection, names.column)
            none: ColumnElement[bool] = literal_column("0 = 1")
            connection.execute(select(self._bare_key, self.blob).select_from(self.table).where(none)).all()
            if where is not None:
                # "1=1) or (1=1" fits the parentheses, but is no expression; nothing but an expression fits this as well.
                alone: ColumnElement[bool] = literal_column(f"CASE WHEN {where}\n THEN 1 ELSE 0 END = 1")
                try:
                    with translated(dialect):
                        connection.execute(select(func.count()).select_from(self.table).where(none, alone)).all()
                        connection.execute(self.select(func.count()).where(none)).all()
                except WrongUseError as error:
                    raise ArgumentError("where", f"a condition in the SQL of {dialect.name}", where, hint=str(error)) from None

    def check_columns(self, **asked: str | None) -> None:
        """Raise unless the table has the columns, each given by its parameter."""
        for parameter, name in asked.items():
            if not self.dialect.has(self.columns, name):
                raise missing_column(parameter, name, self.names.table, self.columns)

    def present(self, by: str | None) -> list[str | None]:
        """Return the columns of group, status and times, None for those that the table lacks.

        Raise for a missing column, unless it has its default name.
        """
        return present_columns(self.names, by, self.check_columns, lambda name: self.dialect.has(self.columns, name))

    def kept(self, row: tuple[Any, ...]) -> Key:
        """Return by what `calls` finds a row again."""
        return cast(Key, row[0])

    def count(self, *conditions: ColumnElement[bool]) -> int:
        """Return the number of rows in scope that meet the conditions."""
        with self.transaction(write=False):
            return int(self.connection.execute(self.select(func.count()).where(*conditions)).scalar_one())

    def count_without_key(self, *conditions: ColumnElement[bool]) -> int:
        """Return how many of the rows that meet the conditions have no key to find them by."""
        return self.count(self._bare_key.is_(None), *conditions)

    # --- reading ---

    def scan(
        self,
        columns: Iterable[str | None] = (),
        *conditions: ColumnElement[bool],
        each_page: Callable[[], object] = lambda: None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows in the order of their keys: key, blob, its kind, and the given columns (NULL for None).

        Each page is one transaction, in which its rows are yielded: a blob is read fastest while it is in the processor's cache.
        `each_page` is called before each page.
        """
        blob, kind = self.dialect.blob(self.blob)
        more = (null() if name is None else column(name) for name in columns)
        query = self.select(self.selected_key, blob, kind, *more).where(*conditions)
        query = query.order_by(self.key.desc() if newest_first else self.key)
        last: Key | None = None
        left = I64_MAX if limit is None else limit
        while left > 0:
            each_page()
            rows = size = 0
            wanted = min(left, PAGE_ROWS)
            page = query.where(*self.key_range(*((None, last) if newest_first else (last, None)), inclusive=False)).limit(wanted)
            with self.transaction(write=False), self.connection.execute(page) as found:
                for row in found:
                    rows += 1
                    size += len(row[1] or b"")
                    last = row[0]
                    yield tuple(row)
                    if size >= PAGE_BYTES:
                        break
            left -= rows
            if rows < wanted and size < PAGE_BYTES:
                return

    def calls(
        self,
        *,
        by: str | None = None,
        key: Key | None = None,
        name: str | None = None,
        since: int | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Iterator[Call]:
        """Yield the calls with the greatest keys, or the call with this key. `by` is the column of their name."""
        others = [name if self.dialect.has(self.columns, name) else None for name in _OTHERS]
        if key is not None and not self.dialect.can_hold(key):
            return
        conditions = [] if key is None else [self.key == self.dialect.literal(key)]
        columns = self.present(by)
        if name is not None:
            if columns[0] is None:
                raise no_names(name)
            conditions.append(is_named(columns[0], name))
        if since is not None:
            conditions += optional(recent_calls(self, columns[2], since))
        if tags:
            check_tags(self, tags)
            conditions.append(column("tags").is_not(None))
        rows = self.scan([*columns, *others], *conditions, limit=None if tags or since is not None else limit, newest_first=True)
        chosen = (row for row in rows if is_since(row[5], since) and has_tags(row[-1], tags))
        for row in islice(chosen, limit):
            yield self._call(*row)

    def _call(self, key: Key, blob: bytes | None, kind: str, *values: Any) -> Call:
        fields = dict(zip(("name", *CALL_COLUMNS, *_OTHERS), values, strict=True))
        series, rejected = None, self.kind_fault(blob, kind)
        if rejected is None:
            try:
                series = StatSeries.from_json(blob)
            except CallstatsError as fault:
                rejected = str(fault)
        for name in ("exit_code", "pid"):
            fields[name] = fields[name] if isinstance(fields[name], int) else None
        if fields["status"] == RUNNING and is_lost(fields["host"], fields["pid"], fields["created_at"]):
            fields["status"] = LOST
        return Call(key=key, series=series, rejected=rejected, tags=parse_tags(fields.pop("tags")), **fields)

    def kind_fault(self, blob: object, kind: str) -> str | None:
        """Return why a value of this kind is no blob; None if it may be one."""
        fits = blob is None or kind in self.dialect.blob_kinds
        return None if fits else f"expected text or bytes, got a value of type {kind}"

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[None]:
        """Run a transaction; its failure is a DatabaseError."""
        with translated(self.dialect, wrong_use=False), self.dialect.transaction(self.connection, write=write):
            yield

    # --- parts of statements ---

    def select(self, *columns: Any) -> Select[Any]:
        """Select from the rows in scope."""
        return select(*columns).select_from(self.table).where(*self._where)

    def key_range(self, after: Key | None, end: Key | None, *, inclusive: bool = True) -> list[ColumnElement[bool]]:
        """Return the conditions of a range of keys: after the first one, up to the last one."""
        low = self._bare_key.is_not(None) if after is None else self.key > self.dialect.literal(after)
        if end is None:
            return [low]
        last = self.dialect.literal(end)
        return [low, self.key <= last if inclusive else self.key < last]

    @property
    def selected_key(self) -> ColumnElement[Any]:
        """The key as it is selected."""
        return self.dialect.selected_key(self.key)


def locate(connection: Connection, dialect: Dialect, names: Names) -> list[str]:
    """Set the dialect's table, and return its columns. Raise if it is missing."""
    columns = dialect.locate(connection, names.table)
    if not columns:
        hint = f"it has {_listed(dialect.tables(connection))}"
        raise ArgumentError("table", "a table of the database", names.table, hint=hint)
    return columns


def present_columns(names: Names, by: str | None, check: Callable[..., None], has: Callable[[str], bool]) -> list[str | None]:
    """Return the columns of group, status and times, None for those that are missing, and checked unless it is a default."""
    asked = {"by": by, **{parameter: getattr(names, parameter) for parameter in CALL_COLUMNS.values()}}
    for parameter, name in asked.items():
        if name is not None and name not in OPTIONAL_COLUMNS.values():
            check(**{parameter: name})
    return [name if name is not None and has(name) else None for name in asked.values()]


def is_named(by: str, *names: object) -> ColumnElement[bool]:
    """Return the condition of calls of these names, compared as text, since a name may be a number. Databases may ignore case."""
    return sql_cast(column(by), Text).in_([str(name) for name in names])


def no_names(name: str) -> ArgumentError:
    """Return the error where calls are asked for by name, and no column has it."""
    return ArgumentError("name", "left out for a table without names", name)


def missing_column(
    parameter: str, name: str | None, table: str, columns: Iterable[str], *, file: str | None = None
) -> ArgumentError:
    """Return the error for a column that a table lacks, or a file, which a message names so."""
    return ArgumentError(parameter, f"a column of {file or f'table {table!r}'}", name, hint=f"it has {_listed(columns)}")


def parse_tags(stored: object) -> Mapping[str, str]:
    """Return tags from a JSON object, as text or as the driver decodes it; none if it is something else."""
    try:
        tags = json.loads(stored) if isinstance(stored, (str, bytes)) else stored
    except ValueError:
        return {}
    return {name: str(value) for name, value in tags.items()} if isinstance(tags, dict) else {}


def has_tags(stored: object, wanted: Mapping[str, str] | None) -> bool:
    """Return whether a call has all the wanted tags."""
    return not wanted or wanted.items() <= parse_tags(stored).items()


def check_tags(session: Any, tags: Any) -> None:
    """Raise unless tags are a mapping, and the table has a column of tags."""
    if not isinstance(tags, Mapping):
        raise ArgumentError("tags", "a mapping such as {'team': 'web'}", tags)
    try:
        session.check_columns(tags="tags")
    except ArgumentError:
        raise ArgumentError("tags", f"left out for {session.names.table!r}, which has no column 'tags'", dict(tags)) from None


def is_since(stored: Value, since: int | None) -> bool:
    """Return whether a call was created at that time or later."""
    time = None if since is None else stored_time_ns(stored)
    return since is None or (time is not None and time >= since)


def check_time(parameter: str, value: Any) -> None:
    """Raise unless a time is a whole number."""
    try:
        index(value)
    except TypeError:
        raise ArgumentError(parameter, "a whole number, in nanoseconds since the epoch", value) from None


def no_times(parameter: str, value: int, names: Names) -> ArgumentError:
    """Return the error for a time where the table has none."""
    lacks = f"left out for {names.table!r}, which has no column {names.time_column!r}"
    return ArgumentError(parameter, lacks, format_time(value), hint="name its column of times, if it has one")


def recent_calls(session: Any, time_column: str | None, since: int) -> ColumnElement[bool] | None:
    """Return a condition that all calls since then meet, so that a database need not read older ones."""
    check_time("since", since)
    if time_column is None:
        raise no_times("since", since, session.names)
    if not isinstance(session, TableSession) or since <= 0:
        return None
    # A day earlier, since text is compared as it is, whatever its offset from UTC.
    day = datetime.fromtimestamp(min(since, I64_MAX) // 10**9, UTC) - timedelta(days=1)
    with session.transaction(write=False):
        return session.dialect.not_before(session.connection, column(time_column), day)


def optional(expression: ColumnElement[Any] | None) -> Iterable[ColumnElement[Any]]:
    """Return the expression as what ``*`` unpacks: nothing for None."""
    return () if expression is None else (expression,)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
