"""The old cells of changed rows: saved to a file of JSON lines before each commit, and put back from it."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from callstats._json import Number, is_text, parsed
from callstats.db.plain import json_text, same_value
from callstats.db.results import FIRST_REJECTS, ImportReport, Key, LostError, Reject, RolledBackError
from callstats.db.urls import require_sqlalchemy
from callstats.errors import CallstatsError, DatabaseError, DecodeError

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.engine import URL, Engine

    from callstats.db.dialects.base import Dialect
    from callstats.db.query import CallTable

_KEPT = "the database keeps another text: something, such as a trigger or a rule, undoes the change"
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
        row = {"key": self.key, "stats": self.cell.decode(), **mark}
        return json_text(row, separators=(",", ":")).encode() + b"\n"


class Saver:
    """A new file for saved cells. What it holds of a batch that fails is taken out again; one that holds nothing goes."""

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
        with suppress(OSError):
            if not self._file.tell():
                self._path.unlink()
        self._file.close()

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
            raise DatabaseError(f"save: {_told(error, self._path)}") from None


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
    >>> from callstats.db import reduce_table
    >>> from callstats import StatSeries
    >>> from callstats.db import add_calls, init_table
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
    from callstats.db.engine import connected
    from callstats.db.query import CallTable

    path = Path(file)
    tally = _Tally()
    try:
        with path.open("rb") as lines:
            largest = max(
                _cells(lines, path, tally), key=lambda saved: len(saved.cell), default=None
            )  # every line can be put back
            lines.seek(0)
            with connected(url_or_engine) as (connection, dialect):
                calls = CallTable(connection, dialect, name=table, key=key, column_name=column, to_write=True)
                if largest is not None:
                    dialect.check_room(largest.key, column, len(largest.cell))
                _put_back(_batches(_cells(lines, path, tally)), calls, tally, progress, stop)
    except OSError as error:
        raise CallstatsError(_told(error, path)) from None
    except DatabaseError as error:
        tally.stopped = str(error)
    return tally.report()


@dataclass
class _Tally:
    """The report in the making."""

    restored: int = 0
    unknown: int = 0
    unknown_keys: list[Key] = field(default_factory=list)
    refused: int = 0
    rejects: list[Reject] = field(default_factory=list)
    torn: bool = False
    stopped: str | None = None
    began: float = field(default_factory=time.perf_counter)

    def add(self, batch: Sequence[SavedCell], missing: Sequence[Key], refused: Mapping[Key, str]) -> None:
        self.restored += len(batch) - len(missing) - len(refused)
        self.unknown += len(missing)
        self.unknown_keys += missing[: FIRST_REJECTS - len(self.unknown_keys)]
        self.refused += len(refused)
        self.rejects += [Reject(*row) for row in refused.items()][: FIRST_REJECTS - len(self.rejects)]

    def report(self) -> ImportReport:
        return ImportReport(
            rows=self.restored + self.unknown + self.refused,
            restored=self.restored,
            unknown=self.unknown,
            unknown_keys=tuple(self.unknown_keys),
            refused=self.refused,
            rejects=tuple(self.rejects),
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
        try:
            tally.add(batch, *_written(batch, calls))
        except RolledBackError:  # by a trigger on one of them: which?
            for saved in batch:
                try:
                    tally.add([saved], *_written([saved], calls))
                except RolledBackError as error:
                    tally.add([saved], [], {saved.key: str(error)})
        if progress is not None:
            progress(tally.report())


def _written(batch: Sequence[SavedCell], calls: CallTable) -> tuple[list[Key], dict[Key, str]]:
    """Write a batch: the keys of rows that aren't there, and the reasons of those that were refused."""
    with calls.transaction(write=True):
        missing, refused = calls.put_back(
            [(saved.key, calls.dialect.value(saved.cell, is_bytes=saved.is_bytes)) for saved in batch]
        )
        if calls.may_undo or missing:
            last = {saved.key: saved.cell for saved in batch if saved.key not in refused}  # of two with one key the later holds
            now = calls.cells_now(list(last))
            missing = [key for key in missing if key not in now]
            refused |= {key: _KEPT for key, cell in last.items() if key in now and not _is(now[key], cell, calls.dialect)}
    return missing, refused


def _is(now: bytes | None, cell: bytes, dialect: Dialect) -> bool:
    """Whether a row holds its saved cell; JSON has no empty text."""
    return (now or b"") == cell or (not dialect.keeps_form() and same_value(now, cell))


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
    """The cells of a file. The beginning of a line at its end is what a kill leaves: that row was not changed yet."""
    for number, line in enumerate(lines, 1):
        try:
            saved = _cell(line)
        except CallstatsError as error:
            if _is_torn(line, error):
                tally.torn = True
                return
            raise CallstatsError(f"{path}: line {number}: expected a saved row: {error}") from None
        yield saved


_BEGINNING = b'{"key":'
_LONGEST_ESCAPE = len("\\u0000")


def _is_torn(line: bytes, error: CallstatsError) -> bool:
    """Whether a line that is none is the beginning of one, with or without the zeros that a power cut leaves behind it."""
    text = line.rstrip(b"\0")
    if line.endswith(b"\n") or text[: len(_BEGINNING)] != _BEGINNING[: len(text)] or not isinstance(error, DecodeError):
        return False
    # An escape that is cut short breaks the line where it begins, and a text where that does.
    return error.offset is not None and (error.offset > len(text) - _LONGEST_ESCAPE or "unterminated" in error.reason)


def _cell(line: bytes) -> SavedCell:
    """The cell of a line; any CallstatsError says why it is none."""
    row = parsed(line)
    if not isinstance(row, dict) or not {"key", "stats"} <= row.keys() <= {"key", "stats", "blob"}:
        raise CallstatsError("expected an object with key, stats and perhaps blob")
    key, stats, is_bytes = _key(row["key"]), row["stats"], row.get("blob", False)
    if not isinstance(stats, str) or isinstance(stats, Number) or not isinstance(is_bytes, bool):
        raise CallstatsError("expected stats to be text, and blob true or false")
    if not is_text(stats):
        raise CallstatsError("expected stats to be text that UTF-8 can hold, got a lone surrogate")
    return SavedCell(key, stats.encode(), is_bytes)


def _key(key: object) -> Key:
    """The key that JSON stands for."""
    if isinstance(key, dict) and key.keys() == {"hex"} and isinstance(key["hex"], str) and _HEX.fullmatch(key["hex"]):
        return bytes.fromhex(key["hex"])
    if isinstance(key, dict) and key.keys() == {"real"} and key["real"] in ("inf", "-inf"):
        return float(key["real"])
    if isinstance(key, Number):
        return float(key) if {*key} & {*".eE"} or len(key) > _LONGEST_KEY else int(key)
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        raise CallstatsError("expected a key that is a number, text or hex")
    return key


_HEX = re.compile("(?:[0-9a-fA-F]{2})*")
_LONGEST_KEY = 40
"""Digits: past them a number is none of a database's, whatever its last digits are."""


def _told(error: OSError, path: Path) -> str:
    return f"{error.strerror or type(error).__name__}: {str(path)!r}"
