"""A table's histograms as a Parquet file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from callstats.batch import StatBatch
from callstats.db.results import FIRST_REJECTS, Key, Reject
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError, DatabaseError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine
    from sqlalchemy.sql.elements import ColumnElement

    from callstats.adapters import parquet
    from callstats.db.query import CallTable

PAGE_ROWS = 1000
GROUP_BYTES = 32 * 2**20
GROUP_CALLS = 2**16
"""When what was read makes a row group: by the bytes of its stored text, or by its calls."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What `export_table` did.

    Attributes
    ----------
    rows : int
        Rows that were read: ``written + refused``.
    written : int
        Calls in the file.
    refused : int
        Rows left out: their cell is no stored histogram (in long form) or no UTF-8, or their key is NULL.
    bytes_read : int
        Bytes of all cells that were read.
    bytes_written : int
        Bytes of the file.
    seconds : float
    stopped : str or None
        Why the job ended before the last row, and left no file; None when it didn't.
    rejects : tuple of Reject
        The first 100 refused rows.
    """

    rows: int = 0
    written: int = 0
    refused: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    rejects: tuple[Reject, ...] = ()


class _StopError(Exception):
    """The job was asked to stop."""


def export_table(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    path: str | os.PathLike[str],
    *,
    long: bool = False,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    where: str | None = None,
    others: Sequence[str] = (),
    on_reject: Callable[[Reject], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ExportReport:
    """Write the histograms of a table to a new Parquet file, row group by row group.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    path : str or path
        The file. It appears when it is whole, and one that is there is not replaced.
    long : bool
        A row for each value, as `callstats.adapters.arrow.write_long` has it, instead of one for each call with its stored text.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    where : str, optional
        An SQL condition that rows must meet, in the database's own SQL.
    others : sequence of str
        Further columns of the table to write, as text: times in ISO 8601, bytes in hex.
    on_reject : callable, optional
        Called with the `Reject` of each refused row.
    stop : callable, optional
        Asked before each page; True ends the job there.

    Returns
    -------
    ExportReport
        Also when the job had to stop early: then `stopped` says why, and there is no file.

    Raises
    ------
    CallstatsError
        When the arguments don't fit the database, or the file can't be written.
    ImportError
        When SQLAlchemy or pyarrow is missing.

    Notes
    -----
    Stored text is written as it is; in long form each is read, and what breaks the stored form is left out and reported. At any
    time no more than a row group is in memory.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from callstats import StatSeries
    >>> from callstats.db import add_calls, init_table
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
    >>> _ = add_calls(db, [{"id": "1", "fn_id": "resize", "stats": minute.to_db()}])
    >>> with TemporaryDirectory() as folder:
    ...     export_table(db, Path(folder, "calls.parquet")).written
    1
    """
    require_sqlalchemy("export_table")
    from callstats.adapters import parquet
    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    job = _Job(on_reject)
    try:
        with (
            connected(url_or_engine) as (connection, dialect),
            parquet.Writer(path, key=key, column=column, long=long, others=others) as file,
        ):
            calls = CallTable(connection, dialect, name=table, key=key, column_name=column, where=where)
            wanted = calls.columns(others)
            if without := calls.without_key(None):
                job.reject(Reject(None, f"rows whose key is NULL, which no page can go on from: {without}"), without)
            for page in _pages(calls, wanted):
                if stop is not None and stop():
                    raise _StopError
                for call, cell, kind, *rest in page:
                    known = cell is None or kind in dialect.cell_kinds
                    job.take(call, cell, rest, None if known else f"expected text or bytes, got a cell of type {kind}", long)
                job.flush(file, whole=True)
            job.flush(file)
    except (DatabaseError, _StopError) as error:
        return job.report(stopped=str(error) or "asked to stop")
    return job.report(bytes_written=file.size)


def _pages(calls: CallTable, wanted: Sequence[ColumnElement[Any]]) -> Iterator[list[tuple[Any, ...]]]:
    """Key, cell, its kind and what else is wanted of all rows in the order of the keys, each page in a transaction of its own."""
    after: Key | None = None
    while True:
        page: list[tuple[Any, ...]] = []
        size = 0
        following = calls.following(after, wanted, None, PAGE_ROWS)
        with calls.transaction(write=False), calls.connection.execute(following) as found:
            for row in found:
                page.append(tuple(row))
                size += len(row[1] or b"")
                if size >= GROUP_BYTES:
                    break
        if page:
            after = page[-1][0]
            yield page
        if len(page) < PAGE_ROWS and size < GROUP_BYTES:
            return


def _text(value: object) -> str | None:
    """What a column holds, as text that UTF-8 can hold."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, date):
        return value.isoformat()
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


class _Job:
    """A row group in the making, and the report."""

    def __init__(self, on_reject: Callable[[Reject], object] | None) -> None:
        self._on_reject = on_reject
        self._keys: list[Key] = []
        self._texts: list[bytes | None] = []
        self._series: list[StatSeries] = []
        self._others: list[list[str | None]] = []
        self._size = 0
        self._rejects: list[Reject] = []
        self._began = time.perf_counter()
        self._written = self._refused = self._bytes_read = 0

    def reject(self, reject: Reject, rows: int = 1) -> None:
        self._refused += rows
        if len(self._rejects) < FIRST_REJECTS:
            self._rejects.append(reject)
        if self._on_reject is not None:
            self._on_reject(reject)

    def take(self, call: Key, cell: bytes | None, others: Sequence[object], reason: str | None, long: bool) -> None:
        """Take a row in."""
        self._bytes_read += len(cell or b"")
        try:
            if reason is not None:
                raise CallstatsError(reason)
            if long:
                self._series.append(StatSeries.from_json(cell))
            else:
                if cell is not None:
                    cell.decode()
                self._texts.append(cell)
        except UnicodeDecodeError as error:
            self.reject(Reject(call, f"byte {error.start}: expected UTF-8"))
        except CallstatsError as error:
            self.reject(Reject(call, str(error)))
        else:
            self._keys.append(call)
            self._others.append([_text(value) for value in others])
            self._size += len(cell or b"")

    def flush(self, file: parquet.Writer, *, whole: bool = False) -> None:
        """Write what was taken in; `whole`: only if it makes a row group."""
        enough = self._size >= GROUP_BYTES or len(self._keys) >= GROUP_CALLS
        if not self._keys or (whole and not enough):
            return
        file.add(self._keys, StatBatch(self._series) if file.long else self._texts, self._others)
        self._written += len(self._keys)
        self._keys, self._texts, self._series, self._others, self._size = [], [], [], [], 0

    def report(self, *, bytes_written: int = 0, stopped: str | None = None) -> ExportReport:
        return ExportReport(
            rows=self._written + len(self._keys) + self._refused,
            written=0 if stopped else self._written,
            refused=self._refused,
            bytes_read=self._bytes_read,
            bytes_written=bytes_written,
            seconds=time.perf_counter() - self._began,
            stopped=stopped,
            rejects=tuple(self._rejects),
        )
