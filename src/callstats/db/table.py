"""connect() and CallTable: a table of stored calls, and everything that can be done with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from callstats._extras import needs
from callstats.call import Call, Key
from callstats.db.jobs.base import TableJobs
from callstats.errors import ArgumentError, suggest_keywords

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from callstats.db.jobs.files import CallFile

Calls: TypeAlias = "list[Call]"  # `list` is a method of CallTable


@suggest_keywords
def connect(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    time_column: str | None = "created_at",
    start_column: str | None = "started_at",
    end_column: str | None = "completed_at",
    group_column: str | None = "fn_id",
    status_column: str | None = "status",
) -> CallTable:
    """Return a `CallTable`, the handle to a table of calls. Use it in a ``with`` statement, or call its `close`.

    Nothing is read before the first verb. Between verbs no connection stays open, except to a database in memory.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file. An Engine is used as it is, and stays open.
    table : str
        The table; on servers also ``schema.table``.
    key : str
        A column whose values are unique.
    column : str
        The column with the histograms: text, bytes or JSON.
    time_column, start_column, end_column : str or None
        The columns with the times at which a call was created, started and completed: RFC 3339 text, the database's own times, or
        a number of seconds, milliseconds, microseconds or nanoseconds since 1970. A time without an offset is UTC.
    group_column : str or None
        The column with what was called, such as a function or image.
    status_column : str or None
        The column with how a call ended. ``error``, ``timeout`` and ``killed`` count as errors.

    Raises
    ------
    ImportError
        If SQLAlchemy or the database's driver is missing.

    Notes
    -----
    A column with a default name may be missing in the table. Any other column that is given must exist.

    Examples
    --------
    >>> from callstats import StatSeries, connect
    >>> with connect("sqlite://") as calls:
    ...     calls.create()
    ...     calls.add([{"id": "1", "fn_id": "resize", "stats": StatSeries([0], {"mem_usage": [4096]})}])
    ...     calls.get("1").usage.peak_memory
    'created'
    1
    4096
    """
    with needs("connect", "cli"):
        from callstats.db.engine import Database
        from callstats.db.query import Names

    names = Names(table, key, column, time_column, start_column, end_column, group_column, status_column)
    return CallTable(Database(url_or_engine), names)


def open_file(path: str | os.PathLike[str], **names: str | None) -> CallFile:
    """Return a `CallFile`, the handle to a file of calls: JSON lines (plain, ``.gz`` or ``.zst``) or Parquet.

    Parameters
    ----------
    path : str or path
        The file or folder, a URL that pyarrow takes, or ``-`` for JSON lines of standard input. A line is a histogram or has one.
    **names : str or None
        The names of columns or fields, as for `connect`. Only the histograms must be there.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from callstats import StatSeries
    >>> hour = StatSeries(range(0, 3600 * 10**9, 10**9), {"mem_usage": range(3600)})
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "calls.jsonl")
    ...     _ = file.write_bytes(hour.to_json())
    ...     result = open_file(file).reduce(Path(folder, "reduced.jsonl.gz"), 60)
    >>> result.changed, result.bytes_after
    (1, 6086)
    """
    with needs("db.open_file", "cli"):
        from callstats.db.jobs.files import CallFile

    return CallFile(path, **names)


class CallTable(TableJobs):
    """A table of calls; made by `connect`.

    Notes
    -----
    A faulty argument, table or file is a `CallstatsError`, before anything is changed. A method that returns a `JobResult` raises
    no `DatabaseError`, for instance for a locked database: `stopped` says why the job ended. The others raise it.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        from callstats.db.engine import shown_url

        return f"<CallTable {self._names.table!r} of {shown_url(self._database.engine.url)!r}>"

    def close(self) -> None:
        """Close the connections of an engine that was made from a URL."""
        self._database.close()

    def create(
        self, *, views: bool = False, on_add: Callable[[str], object] | None = None
    ) -> Literal["created", "added", "nothing"]:
        """Create the table, or add the columns and the index on the times that it lacks.

        With `views`, also create or replace its views ``call_samples`` and ``call_usage``; those of a table ``runs`` are
        ``run_samples`` and ``run_usage``. Return ``"created"`` if there was no table, ``"added"`` if it lacked something, else
        ``"nothing"``. `on_add` is called with the name of each column that was added to an older table, and then for the index.

        Examples
        --------
        >>> from callstats import connect
        >>> with connect("sqlite://") as calls:
        ...     calls.create(), calls.create()
        ('created', 'nothing')
        """
        from callstats.db.schema import create_table

        return create_table(self._database, self._names, views=views, on_add=on_add)

    def add(self, calls: Iterable[Call | Mapping[str, object]]) -> int:
        """Insert calls, all or none, and return their number.

        Parameters
        ----------
        calls : iterable of Call, or of mappings of column to value
            Histograms are StatSeries or stored text. Columns that are not given get the table's defaults. Of a Call, values that
            the table has no column for are left out.

        Examples
        --------
        >>> from callstats import Call, StatSeries, connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create()
        ...     calls.add([Call(key="1", name="resize", series=StatSeries([0], {"mem_usage": [4096]}), tags={"team": "web"})])
        1
        """
        from callstats.db.rows import add_calls

        return add_calls(self._database, self._names, calls)

    def begin(self, call: Call) -> int | None:
        """Insert the row of a call that is about to run, and return what `max_blob_bytes` does.

        A missing table is created. An existing table keeps its columns.

        Parameters
        ----------
        call : Call
            Its status is ``running``. Values that the table has no column for are left out. A table without a column of status
            gets no row yet.

        Returns
        -------
        int or None
            The maximum size of a stored histogram in the column.

        Examples
        --------
        >>> from callstats import Call, StatSeries, connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.begin(Call(key="1", name="resize", status="running", series=StatSeries([], {})))
        ...     calls.get("1").status
        'running'
        """
        from callstats.db.rows import begin_call
        from callstats.db.schema import create_table

        create_table(self._database, self._names, extend=False)
        return begin_call(self._database, self._names, call)

    def finish(self, calls: Iterable[Call]) -> int:
        """Store calls that have ended, all or none, and return how many were new.

        Parameters
        ----------
        calls : iterable of Call
            The row of a call is updated if it is ``running``. Without a row the call is inserted, and any other row stays
            unchanged: a second `finish` changes nothing. A histogram that is too large for the column is reduced to fit.

        Examples
        --------
        >>> from dataclasses import replace
        >>> from callstats import Call, StatSeries, connect
        >>> call = Call(key="1", name="resize", status="running", series=StatSeries([], {}))
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.begin(call)
        ...     [calls.finish([replace(call, status=status)]) for status in ("success", "error")], calls.get("1").status
        ([1, 0], 'success')
        """
        from callstats.db.rows import finish_calls

        return finish_calls(self._database, self._names, calls)

    def max_blob_bytes(self) -> int | None:
        """Return the maximum size of a stored histogram in the column; None for no limit of practical size.

        Examples
        --------
        >>> from callstats import connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create()
        ...     calls.max_blob_bytes() is None
        True
        """
        from callstats.db.rows import max_blob_bytes

        return max_blob_bytes(self._database, self._names)

    def get(self, key: Key | None = None) -> Call:
        """Return one call; without a series if its blob was rejected.

        Parameters
        ----------
        key : int, str, float or bytes, optional
            By default the greatest key. Where keys sort by time, as Fn's do, this is the latest call.

        Raises
        ------
        ArgumentError
            If there is no such call.

        Examples
        --------
        >>> from callstats import connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create(), calls.add([{"id": "1", "fn_id": "resize", "stats": ""}])
        ...     call = calls.get("1")
        >>> call.name, call.status, len(call.series)
        ('resize', None, 0)
        """
        # The key of a table with numbers, as it comes from a command line.
        numbers = [int(key)] if isinstance(key, str) and key.isdecimal() and len(key) < 20 else []
        for one in (key, *numbers):
            found = self._read(one, limit=1)
            if found:
                return found[0]
        if key is None:
            raise ArgumentError("table", "a table with calls", self._names.table, hint="it has none")
        raise ArgumentError("key", f"the key of a call in table {self._names.table!r}", key, hint="list shows the latest")

    def list(
        self,
        limit: int | None = 20,
        *,
        name: str | None = None,
        where: str | None = None,
        since: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Calls:
        """Return the calls with the greatest keys, in descending order.

        Parameters
        ----------
        limit : int or None
            The maximum number of calls; None for all.
        name : str, optional
            Only calls of this name, compared as text, as the database does it.
        where, since, tags
            As for `summarize`. Calls whose time can't be read are left out by `since`.

        Examples
        --------
        >>> from callstats import connect
        >>> with connect("sqlite://") as calls:
        ...     _ = calls.create(), calls.add({"id": str(i), "stats": ""} for i in range(5))
        ...     [call.key for call in calls.list(2)]
        ['4', '3']
        """
        return self._read(where=where, limit=limit, name=name, since=since, tags=tags)

    def _read(self, key: Key | None = None, *, where: str | None = None, **asked: Any) -> Calls:
        from callstats.db.query import TableSession

        with self._database.session() as (connection, dialect):
            session = TableSession(connection, dialect, self._names, where=where)
            return [*session.calls(by=self._names.group_column, key=key, **asked)]
