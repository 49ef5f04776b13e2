"""The restore job: old blobs are saved to a file of JSON lines before each commit, and put back from it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from callstats._json import Number, is_text, json_text, parsed
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.jobs.batches import BatchSession, same_value
from callstats.db.query import Names
from callstats.db.results import FIRST_REJECTS, ConnectionLostError, RestoreResult, RolledBackError
from callstats.errors import ArgumentError, DatabaseError, DecodeError

_UNDONE = "the database keeps another text: something, such as a trigger or a rule, undoes the change"
_BATCH_ROWS = 1000
_BATCH_BYTES = 32 * 2**20


class SavedBlob(NamedTuple):
    """A row's old blob."""

    key: Key
    blob: bytes
    is_bytes: bool

    def line(self) -> bytes:
        """Return one line of JSON, in ASCII."""
        mark = {"blob": True} if self.is_bytes else {}
        row = {"key": self.key, "stats": self.blob.decode(), **mark}
        return json_text(row, separators=(",", ":")).encode() + b"\n"


class Saver:
    """A new file for saved blobs. Those of a failed batch are removed from it, and an empty file is deleted."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._file: io.FileIO = self._path.open("xb", buffering=0)
        except FileExistsError:
            hint = "its saved rows would be lost"
            raise ArgumentError("save", "a new file", str(self._path), hint=hint) from None
        except OSError as error:
            raise ArgumentError("save", "a file that can be written", str(self._path), hint=_reason(error)) from None
        with suppress(OSError):  # not every system can sync a folder
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if not self._file.tell():
                self._path.unlink()
        self._file.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Remove the lines of a transaction that fails. After a lost connection they stay, as it may have been committed."""
        start = self._file.tell()
        try:
            yield
        except ConnectionLostError:
            raise
        except BaseException:
            with suppress(OSError):
                self._file.truncate(start)
                self._file.seek(start)
            raise

    def write(self, blobs: Iterable[SavedBlob]) -> None:
        """Write blobs and sync the file to disk."""
        try:
            for saved in blobs:
                left = memoryview(saved.line())
                while left:
                    left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DatabaseError(f"save: {_reason(error)}: {str(self._path)!r}") from None


class RestoreJob(Job):
    """The job of `CallTable.restore`, and the counts of its result."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__({**arguments, "on_reject": None})
        self.restored = self.unknown = 0
        self.unknown_keys: list[Key] = []
        self.torn = False

    def run(self, database: Database, names: Names) -> RestoreResult:
        """Check the whole file, then put its blobs back."""
        path = Path(self.arguments.path)
        stopped = None
        try:
            with path.open("rb") as lines:
                largest = max(self._read(lines, path), key=lambda saved: len(saved.blob), default=None)
                lines.seek(0)
                with database.session() as (connection, dialect):
                    self.session = BatchSession(connection, dialect, names)
                    if largest is not None:
                        dialect.check_size(largest.key, names.column, len(largest.blob))
                    self._put_back(_batches(self._read(lines, path)))
        except OSError as error:
            raise ArgumentError("path", "a file that can be read", str(path), hint=_reason(error)) from None
        except DatabaseError as error:
            stopped = str(error)
        return self._result(stopped)

    def _read(self, lines: BinaryIO, path: Path) -> Iterator[SavedBlob]:
        """Yield the blobs of a file. A kill may leave half a last line; the row of that line was not changed yet."""
        for number, line in enumerate(lines, 1):
            try:
                saved = _parse(line)
            except DecodeError as error:
                if _is_torn(line, error):
                    self.torn = True
                    return
                error.args = (f"{path}: line {number}: {error}",)
                raise
            yield saved

    def _put_back(self, batches: Iterable[list[SavedBlob]]) -> None:
        for batch in batches:
            self.check_stop()
            try:
                self._count(batch, *self._write(batch))
            except RolledBackError:  # by a trigger on one of the rows: find it
                for saved in batch:
                    try:
                        self._count([saved], *self._write([saved]))
                    except RolledBackError as error:
                        self._count([saved], [], {saved.key: str(error)})
            if self.arguments.progress is not None:
                self.arguments.progress(self._result(None))

    def _write(self, batch: Sequence[SavedBlob]) -> tuple[list[Key], dict[Key, str]]:
        """Write a batch. Return the keys that no row has, and the reasons for rejected rows."""
        session, dialect = self.session, self.session.dialect
        with session.transaction(write=True):
            missing, rejected = session.put_back(
                [(saved.key, dialect.to_driver(saved.blob, is_bytes=saved.is_bytes)) for saved in batch]
            )
            if session.may_undo or missing:
                last = {saved.key: saved.blob for saved in batch if saved.key not in rejected}  # of one key the last line counts
                now = session.blobs_now(list(last))
                missing = [key for key in missing if key not in now]
                rejected |= {key: _UNDONE for key, blob in last.items() if key in now and not self._is_stored(blob, now[key])}
        return missing, rejected

    def _is_stored(self, blob: bytes, now: bytes | None) -> bool:
        """Return whether a row has its saved blob again. JSON has no empty text."""
        return (now or b"") == blob or (self.session.dialect.rewrites and same_value(now, blob))

    def _count(self, batch: Sequence[SavedBlob], missing: Sequence[Key], rejected: Mapping[Key, str]) -> None:
        self.restored += len(batch) - len(missing) - len(rejected)
        self.unknown += len(missing)
        self.unknown_keys += missing[: FIRST_REJECTS - len(self.unknown_keys)]
        for key, reason in rejected.items():
            self.reject(key, reason)

    def _result(self, stopped: str | None) -> RestoreResult:
        return RestoreResult(
            rows=self.restored + self.unknown + self.rejected,
            stopped=stopped,
            restored=self.restored,
            unknown=self.unknown,
            unknown_keys=tuple(self.unknown_keys),
            torn=self.torn,
            **self.fields(),
        )


def _batches(blobs: Iterable[SavedBlob]) -> Iterator[list[SavedBlob]]:
    batch: list[SavedBlob] = []
    size = 0
    for saved in blobs:
        batch.append(saved)
        size += len(saved.blob)
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_BEGINNING = b'{"key":'
_LONGEST_ESCAPE = len("\\u0000")


def _is_torn(line: bytes, error: DecodeError) -> bool:
    """Return whether a faulty line is the beginning of a good one, perhaps with the zeros that a power cut leaves after it."""
    text = line.rstrip(b"\0")
    if line.endswith(b"\n") or text[: len(_BEGINNING)] != _BEGINNING[: len(text)]:
        return False
    # The fault of a cut escape is where the escape starts, and that of a cut text where the text starts.
    return error.offset is not None and (error.offset > len(text) - _LONGEST_ESCAPE or "unterminated" in error.reason)


def _parse(line: bytes) -> SavedBlob:
    """Return the blob of a line. A DecodeError says what is wrong with it."""
    row = parsed(line)
    if not isinstance(row, dict) or not {"key", "stats"} <= row.keys() <= {"key", "stats", "blob"}:
        raise DecodeError("expected an object with key, stats and perhaps blob", path="$")
    key, stats, is_bytes = _parse_key(row["key"]), row["stats"], row.get("blob", False)
    if not isinstance(stats, str) or isinstance(stats, Number) or not isinstance(is_bytes, bool):
        raise DecodeError("expected text, and blob true or false", path="$.stats")
    if not is_text(stats):
        raise DecodeError("expected text that encodes to UTF-8, got a lone surrogate", path="$.stats")
    return SavedBlob(key, stats.encode(), is_bytes)


def _parse_key(key: object) -> Key:
    """Return the key that is written in JSON."""
    if isinstance(key, dict) and key.keys() == {"hex"} and isinstance(key["hex"], str) and _HEX_BYTES.fullmatch(key["hex"]):
        return bytes.fromhex(key["hex"])
    if isinstance(key, dict) and key.keys() == {"real"} and key["real"] in ("inf", "-inf"):
        return float(key["real"])
    if isinstance(key, Number):
        return float(key) if {*key} & {*".eE"} or len(key) > _LONGEST_KEY else int(key)
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        raise DecodeError("expected a number, text or hex", path="$.key")
    return key


_HEX_BYTES = re.compile("(?:[0-9a-fA-F]{2})*")
_LONGEST_KEY = 40
"""Digits of a whole number. No database has larger keys, whatever the last digits are."""


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
