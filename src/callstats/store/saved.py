"""The old cells of changed rows: saved to a file of JSON lines before each commit, and put back from it."""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from callstats.errors import CallstatsError
from callstats.store.report import FIRST_REJECTS, ImportReport, Key, LostError, StoreError, key_object
from callstats.store.urls import require_sqlalchemy

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.engine import URL, Engine

    from callstats.store.table import CallTable

_BATCH_ROWS = 1000
_BATCH_BYTES = 32 * 2**20


class SavedCell(NamedTuple):
    """A cell that a row had."""

    key: Key
    cell: bytes
    is_bytes: bool

    def line(self) -> bytes:
        """One line of JSON, in ASCII."""
        mark = {"blob": True} if self.is_bytes else {}
        row = {"key": key_object(self.key), "stats": self.cell.decode(), **mark}
        return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


class Saver:
    """A new file for saved cells. What it holds of a batch that fails is taken out again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._file: io.FileIO = self._path.open("xb", buffering=0)
        except FileExistsError:
            raise CallstatsError(
                f"save must be a new file, so that no saved rows are lost: {str(self._path)!r} is there"
            ) from None
        except OSError as error:
            raise CallstatsError(f"save: {_told(error, self._path)}") from None
        with suppress(OSError):  # a folder can't be synced everywhere
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        is_empty = self._file.tell() == 0
        self._file.close()
        if is_empty:
            self._path.unlink(missing_ok=True)  # the next run may want the name

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Around a transaction: when it fails, its lines go. With a lost connection they stay: it may have been committed."""
        start = self._file.tell()
        try:
            yield
        except LostError:
            raise
        except BaseException:
            with suppress(OSError):
                self._file.truncate(start)
                self._file.seek(start)
            raise

    def write(self, cells: Iterable[SavedCell]) -> None:
        """Put cells on the disk, for good."""
        try:
            for cell in cells:
                left = memoryview(cell.line())
                while left:
                    left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StoreError(f"save: {_told(error, self._path)}") from None


def import_saved(
    url_or_engine: str | os.PathLike[str] | URL | Engine,
    file: str | os.PathLike[str],
    *,
    table: str = "calls",
    key: str = "id",
    column: str = "stats",
    progress: Callable[[ImportReport], object] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ImportReport:
    """Put the cells that `reduce_table` saved back into their rows, to the byte.

    Parameters
    ----------
    url_or_engine : str, path, URL or Engine
        A SQLAlchemy URL or Engine, or the path of an SQLite file.
    file : str or path
        What `reduce_table` saved. It is checked as a whole before anything is written.
    table, key, column : str
        The table, its unique key, and the column with the histograms.
    progress : callable, optional
        Called with the report so far after each batch.
    stop : callable, optional
        Asked before each batch; True ends the job there, with all done so far committed.

    Returns
    -------
    ImportReport
        Saved rows that the table no longer has are counted and named in it.

    Raises
    ------
    CallstatsError
        When the file is no such file, or the arguments don't fit the database.
    ImportError
        When SQLAlchemy is missing.

    Notes
    -----
    A row gets its saved cell whatever it holds by now; a key that was saved twice gets the later one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from callstats.store import reduce_table
    >>> from callstats import StatSeries
    >>> from callstats.store import add_calls, init_table
    >>> from sqlalchemy import create_engine
    >>> db = create_engine("sqlite://")  # an engine, a URL or a path
    >>> _ = init_table(db)
    >>> minute = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(60)})
    >>> _ = add_calls(db, [{"id": "1", "fn_id": "resize", "stats": minute.to_db()}])
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "old.jsonl")
    ...     reduce_table(db, 10, save=file).changed, import_saved(db, file).restored
    (1, 1)
    """
    require_sqlalchemy("import_saved")
    from callstats.store.connect import connected
    from callstats.store.table import CallTable

    path = Path(file)
    tally = _Tally()
    try:
        with path.open("rb") as lines:
            largest = max(
                _cells(lines, path, tally), key=lambda saved: len(saved.cell), default=None
            )  # every line can be put back
            lines.seek(0)
            with connected(url_or_engine) as (connection, dialect):
                calls = CallTable(connection, dialect, name=table, key=key, column_name=column)
                calls.check_writable()
                if largest is not None:
                    dialect.check_room(largest.key, column, len(largest.cell))
                _put_back(_batches(_cells(lines, path, tally)), calls, tally, progress, stop)
    except OSError as error:
        raise CallstatsError(_told(error, path)) from None
    except StoreError as error:
        tally.stopped = str(error)
    return tally.report()


@dataclass
class _Tally:
    """The report in the making."""

    restored: int = 0
    unknown: int = 0
    unknown_keys: list[Key] = field(default_factory=list)
    torn: bool = False
    stopped: str | None = None
    began: float = field(default_factory=time.perf_counter)

    def report(self) -> ImportReport:
        return ImportReport(
            rows=self.restored + self.unknown,
            restored=self.restored,
            unknown=self.unknown,
            unknown_keys=tuple(self.unknown_keys),
            torn=self.torn,
            seconds=time.perf_counter() - self.began,
            stopped=self.stopped,
        )


def _put_back(
    batches: Iterable[list[SavedCell]],
    calls: CallTable,
    tally: _Tally,
    progress: Callable[[ImportReport], object] | None,
    stop: Callable[[], bool] | None,
) -> None:
    for batch in batches:
        if stop is not None and stop():
            tally.stopped = "asked to stop"
            return
        with calls.transaction(write=True):
            lost = [
                saved.key
                for saved in batch
                if not calls.write_one(saved.key, calls.dialect.value(saved.cell, is_bytes=saved.is_bytes))
            ]
        tally.restored += len(batch) - len(lost)
        tally.unknown += len(lost)
        tally.unknown_keys += lost[: FIRST_REJECTS - len(tally.unknown_keys)]
        if progress is not None:
            progress(tally.report())


def _batches(cells: Iterable[SavedCell]) -> Iterator[list[SavedCell]]:
    batch: list[SavedCell] = []
    size = 0
    for saved in cells:
        batch.append(saved)
        size += len(saved.cell)
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cells(lines: BinaryIO, path: Path, tally: _Tally) -> Iterator[SavedCell]:
    """The cells of a file. A broken last line without a line end is what a kill leaves: its row was not changed yet."""
    for number, line in enumerate(lines, 1):
        try:
            yield _cell(line)
        except ValueError as error:
            if not line.endswith(b"\n") and _is_half(line):
                tally.torn = True
                return
            raise CallstatsError(f"{path}: line {number}: expected a saved row: {error}") from None


def _is_half(line: bytes) -> bool:
    """Whether a line may be the beginning of one; after a crash of the system, the rest of it may be zeros."""
    begins, written = b'{"key":', line.rstrip(b"\0")
    return written[: len(begins)] == begins[: len(written)]


def _cell(line: bytes) -> SavedCell:
    """The cell of a line; any ValueError says why it is none, in words of ours."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"character {error.pos + 1} is not what JSON has there") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets in thousands of brackets
        raise ValueError("it holds what no saved row has") from None
    if not isinstance(row, dict) or not {"key", "stats"} <= row.keys() <= {"key", "stats", "blob"}:
        raise ValueError("expected an object with key, stats and perhaps blob")
    key, stats, is_bytes = row["key"], row["stats"], row.get("blob", False)
    if isinstance(key, dict) and key.keys() == {"hex"} and isinstance(key["hex"], str):
        if not re.fullmatch("(?:[0-9a-f]{2})*", key["hex"]):
            raise ValueError("expected hex to be pairs of the digits 0 to 9 and a to f")
        key = bytes.fromhex(key["hex"])
    if isinstance(key, dict) and key.keys() == {"real"} and key["real"] in ("inf", "-inf"):
        key = float(key["real"])
    if isinstance(key, bool) or not isinstance(key, (int, str, float, bytes)):
        raise ValueError("expected a key that is a number, text or hex")
    if not isinstance(stats, str) or not isinstance(is_bytes, bool):
        raise ValueError("expected stats to be text, and blob true or false")
    try:
        return SavedCell(key, stats.encode(), is_bytes)
    except UnicodeEncodeError:
        raise ValueError("expected stats to be text that UTF-8 can hold") from None


def _told(error: OSError, path: Path) -> str:
    return f"{error.strerror or type(error).__name__}: {str(path)!r}"
