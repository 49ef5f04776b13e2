"""Files of a reduce job: old blobs, on disk before the new ones are committed, and rejected rows. Both are lines of JSON."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple, Self, TypeAlias

from callstats._files import sync_folder, write_all
from callstats._json import Number, is_text, json_text, parsed
from callstats.adapters.files import reason_of
from callstats.call import Key
from callstats.db.results import ConnectionLostError, Reject
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DecodeError
from callstats.reduce import reduce_json

_ROWS = b',"rows":'
"""The text before a blob that is a part of its line as it is. No key contains it: in JSON text a key's quotes are escaped."""


class SavedBlob(NamedTuple):
    """A row's old blob."""

    key: Key
    blob: bytes
    is_bytes: bool

    def line(self) -> bytes:
        """Return one line of JSON. A blob without line breaks but at its end is a part of it as it is, any other is text."""
        row: dict[str, object] = {"key": self.key, **({"blob": True} if self.is_bytes else {})}
        size = len(self.blob) - self.blob.endswith(b"\n")
        if self.blob.startswith(b"[") and self.blob.find(b"\n", 0, size) < 0:
            end = {} if size == len(self.blob) else {"end": "\n"}
            head = json_text({**row, **end}, separators=(",", ":")).encode()[:-1]
            return b"".join((head, _ROWS, memoryview(self.blob)[:size], b"}\n"))
        return json_text({**row, "stats": self.blob.decode()}, separators=(",", ":")).encode() + b"\n"


_WAYS_OUT = "; reduce --save and record write such files, in lines of JSON; summary, report and reduce read those of export"

Saving: TypeAlias = Callable[[Iterable[SavedBlob]], AbstractContextManager[None]]
"""Save blobs while a block runs."""


class Saver:
    """A new file for saved blobs, which is deleted if it stays empty. Several threads may write batches to it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = Lock()
        self._threads = ThreadPoolExecutor()
        try:
            self._file = io.FileIO(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))
        except FileExistsError:
            hint = "its saved rows would be lost, so name another"
            raise ArgumentError("save", "a new file", str(self._path), hint=hint) from None
        except OSError as error:
            raise ArgumentError("save", "a file that can be written", str(self._path), hint=reason_of(error)) from None
        sync_folder(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        with suppress(OSError):
            if not self._file.tell():
                self._path.unlink()
        self._file.close()

    @contextmanager
    def batch(self) -> Iterator[Saving]:
        """Run a transaction, and remove its blobs if it fails. After a lost connection they stay, as it may have been committed.

        It yields a function that writes blobs while a block runs; all are on disk when the block ends.
        """
        parts: list[tuple[int, int]] = []

        @contextmanager
        def saving(blobs: Iterable[SavedBlob]) -> Iterator[None]:
            written = self._threads.submit(self.write, parts, blobs)
            try:
                yield
            finally:
                written.result()

        try:
            yield saving
        except ConnectionLostError:
            raise
        except BaseException:
            with suppress(OSError), self._lock:
                for start, end in reversed(parts):
                    self._remove(start, end)
            raise

    def _remove(self, start: int, end: int) -> None:
        """Remove a part of the file; if another batch follows it, make it a line of spaces."""
        if self._file.tell() == end:
            self._file.truncate(start)
        else:
            self._file.seek(start)
            write_all(self._file, b" " * (end - start - 1) + b"\n")
        self._file.seek(0, os.SEEK_END)

    def write(self, parts: list[tuple[int, int]], blobs: Iterable[SavedBlob]) -> None:
        """Write blobs and sync the file to disk, and add the part of the file that they fill."""
        try:
            with self._lock:
                start = self._file.tell()
                try:
                    for saved in blobs:
                        write_all(self._file, saved.line())
                finally:
                    parts.append((start, self._file.tell()))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DatabaseError(f"save: {reason_of(error)}: {str(self._path)!r}") from None


class SavedFile:
    """The blobs of a file that `Saver` wrote."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn_line: int | None = None

    @property
    def torn(self) -> bool:
        """Whether the file ends in half a line, as after a kill. The row of that line was not changed yet."""
        return self._torn_line is not None

    def read(self, lines: BinaryIO, *, check: bool = True) -> Iterator[SavedBlob]:
        """Yield the blobs, all checked unless the whole file was. A line of spaces stands for a batch that failed."""
        number = 0
        while part := lines.readlines(_PART_BYTES):
            split = [_split(line) for line in part]
            blobs = [b"" if saved is None else saved.blob for saved in split]
            results = reduce_json(blobs, None, errors="return") if check else blobs
            for line, saved, result in zip(part, split, results, strict=True):
                number += 1
                if number == self._torn_line:
                    return
                if saved is None and len(line) > 1 and not line.strip(b" \n"):
                    continue
                try:
                    if saved is None or isinstance(result, CallstatsError):
                        saved = _parse(line)  # the line as a whole says where its fault is
                except DecodeError as error:
                    if _is_torn(line, error):
                        self._torn_line = number
                        return
                    hint = _WAYS_OUT if error.offset is not None or error.path == "$" else ""
                    error.args = (f"{self._path}: line {number}: {error}{hint}",)
                    raise
                yield saved


def known_line(reject: Reject) -> str:
    """Return a line of JSON, as `read_known` reads it."""
    digest = {} if reject.digest is None else {"digest": reject.digest}
    return json_text({**reject._asdict(), **digest}) + "\n"


def read_known(path: str | os.PathLike[str]) -> frozenset[tuple[Key, str]]:
    """Return the keys and digests of a file of rejected rows. Rows without a key have no digest, and are never known."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise ArgumentError("known", "a file that can be read", os.fspath(path), hint=reason_of(error)) from None
    found = set()
    for number, line in enumerate(lines, 1):
        try:
            row = parsed(line)
            if not isinstance(row, dict) or not {"key", "reason"} <= row.keys():
                raise DecodeError("expected an object with key and reason", path="$")
            if isinstance(digest := row.get("digest"), str):
                found.add((parse_key(row["key"]), str(digest)))
        except DecodeError as error:
            hint = f"line {number}: {error}"
            raise ArgumentError("known", "a file of rejected rows", os.fspath(path), hint=hint) from None
    return frozenset(found)


_PART_BYTES = 2**20
_BEGINNING = b'{"key":'
_LONGEST_ESCAPE = len("\\u0000")


def _is_torn(line: bytes, error: DecodeError) -> bool:
    """Return whether a faulty line is the beginning of a good one, perhaps with the zeros that a power cut leaves after it."""
    text = line.rstrip(b"\0")
    if line.endswith(b"\n") or text[: len(_BEGINNING)] != _BEGINNING[: len(text)]:
        return False
    # The fault of a cut escape is where the escape starts, and that of a cut text where the text starts.
    return error.offset is not None and (error.offset > len(text) - _LONGEST_ESCAPE or "unterminated" in error.reason)


def _split(line: bytes) -> SavedBlob | None:
    """Return the blob that is a part of a line, unchecked; None for a line of another form."""
    middle = line.find(_ROWS)
    blob = line[middle + len(_ROWS) : -2 if line.endswith(b"\n") else -1]  # the only copy of it
    if middle < 0 or not blob.startswith(b"[") or not line.endswith((b"}\n", b"}")):
        return None
    with suppress(CallstatsError):
        row = parsed(line[:middle] + b"}")
        if isinstance(row, dict) and {"key"} <= row.keys() <= {"key", "blob", "end"} and row.get("end", "\n") == "\n":
            return SavedBlob(parse_key(row["key"]), blob + b"\n" * ("end" in row), row.get("blob") is True)
    return None


def _parse(line: bytes) -> SavedBlob:
    """Return the blob of a line as text. A DecodeError says what is wrong with it."""
    row = parsed(line)
    if not isinstance(row, dict) or not {"key", "stats"} <= row.keys() <= {"key", "stats", "blob"}:
        raise DecodeError("expected an object with key, stats and perhaps blob", path="$")
    key, stats, is_bytes = parse_key(row["key"]), row["stats"], row.get("blob", False)
    if not isinstance(stats, str) or isinstance(stats, Number) or not isinstance(is_bytes, bool):
        raise DecodeError("expected text, and blob true or false", path="$.stats")
    if not is_text(stats):
        raise DecodeError("expected text that encodes to UTF-8, got a lone surrogate", path="$.stats")
    return SavedBlob(key, stats.encode(), is_bytes)


def parse_key(key: object) -> Key:
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
