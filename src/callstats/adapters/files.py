"""Files of many blobs, read and written page by page: JSON lines, plain or compressed, and Parquet.

A line is a blob, or an object with a blob among its fields, as text or as an array. Parquet files, ``.zst`` and URLs such as
``s3://bucket/calls.parquet`` need pyarrow.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from errno import ENOENT
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, TypeVar

from callstats._extras import needs
from callstats._files import new_file
from callstats._json import json_text
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, shorten_repr
from callstats.reduce import reduce_json
from callstats.rule import Rule

if TYPE_CHECKING:
    from callstats.adapters import parquet

    Page: TypeAlias = "LinePage | parquet.ArrowPage"
    Reader: TypeAlias = "LineReader | parquet.Reader"

Streamed = TypeVar("Streamed")

STANDARD = "-"
"""Stands for standard input or output."""
PAGE_ROWS, PAGE_BYTES = 1000, 32 * 2**20

_LINES = re.compile(r"\.(jsonl|ndjson|json)(\.gz|\.zst)?$", re.IGNORECASE)
_FILES_OR_URLS = re.compile(r"\.(parquet|pq)$|^(file|s3|gs|gcs|abfss?|hdfs|viewfs|hf|fsspec\+\w+)://", re.IGNORECASE)


def has_blob_name(text: str) -> bool:
    """Return whether a text is the name of a file of blobs."""
    return has_lines(text) or _FILES_OR_URLS.search(text) is not None


def is_blob_file(text: str) -> bool:
    """Return whether a text names a file or a folder of blobs, by its form or by what is there."""
    if has_blob_name(text):
        return True
    with suppress(OSError, ValueError):
        path = Path(text)
        if path.is_file():  # to open a pipe would wait for its other end
            with path.open("rb") as file:
                return file.read(4) == b"PAR1"
        return path.is_dir()
    return False


def has_lines(path: str) -> bool:
    """Return whether a file has JSON lines, by its name. Any other file is Parquet."""
    return path == STANDARD or _LINES.search(path) is not None


def file_text(path: str) -> str:
    """Return a file as a message names it."""
    return "standard input" if path == STANDARD else repr(path)


def no_blobs(path: str, column: str, columns: str) -> ArgumentError:
    """Return the error for a file without a column of blobs. `columns` tells what it has."""
    return ArgumentError("column", f"a column of {file_text(path)} with text or bytes", column, hint=f"it has {columns}")


@contextmanager
def open_reader(path: str, column: str) -> Iterator[Reader]:
    """Open a file, or a folder of Parquet files. If it can't be read to its end, a DatabaseError says why."""
    try:
        file: Any = _open_lines(path) if has_lines(path) else None
    except OSError as error:
        raise ArgumentError("path", "a file that can be read", path, hint=reason_of(error)) from None
    try:
        if file is None:
            from callstats.adapters import parquet

            yield parquet.Reader(path, column)
        else:
            yield LineReader(file, column, path)
    except _ReadError as error:
        raise DatabaseError(f"can't read {file_text(path)}: {error}") from None
    finally:
        if file is not None and path != STANDARD:
            file.close()


@contextmanager
def open_writer(
    path: str,
    parameter: str = "path",
    *,
    key: str = "call",
    column: str = "stats",
    long: bool = False,
    openmetrics: bool = False,
    others: Sequence[str] = (),
) -> Iterator[Any]:
    """Open a new file, which gets its name when it is complete, with a `LineWriter`, or one for Parquet or OpenMetrics.

    An existing file is not replaced.
    """
    kind: Any = LineWriter
    if openmetrics:
        from callstats.adapters import openmetrics as text

        kind = text.Writer
    elif not has_lines(path):
        if not path.lower().endswith((".parquet", ".pq")):
            raise ArgumentError(parameter, "a file of JSON lines (.jsonl) or Parquet (.parquet)", path)
        from callstats.adapters import parquet

        kind = parquet.Writer
    if path != STANDARD and "://" in path:
        raise ArgumentError(parameter, "a path on this machine", path)
    with nullcontext(sys.stdout.buffer) if path == STANDARD else new_file(path, parameter) as sink:
        writer = kind(sink, path, key=key, column=column, long=long, others=others)
        complete = False
        try:
            yield writer
            complete = True
        finally:
            writer.close(complete=complete)


class _ReadError(Exception):
    """A file is not what it says, or its end is missing."""


def read_on(items: Iterator[Streamed]) -> Iterator[Streamed]:
    """Yield the items that a codec or Arrow reads, whose errors are of many types."""
    try:
        yield from items
    except (OSError, EOFError, ValueError, NotImplementedError, zlib.error) as error:
        raise _ReadError(reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """Return an error of a system, a codec or Arrow in one line."""
    code = getattr(error, "errno", None) or (ENOENT if isinstance(error, FileNotFoundError) else None)
    if code:
        return os.strerror(code)
    return " ".join(str(error).partition(". Detail")[0].rpartition("': ")[2].split()) or type(error).__name__


def reduce_page(page: Page, rule: Rule, *, counts: bool = True, threads: int = 1) -> tuple[dict[int, bytes], dict[int, str], int]:
    """Return the new blobs of a page and the reasons why others are rejected, by index, and how many stay as they would grow."""
    changed, reasons, kept = {}, dict(page.faults), 0
    reduced = reduce_json(page.blobs, rule, counts=counts, threads=threads, errors="return")
    for index, (blob, new) in enumerate(zip(page.blobs, reduced, strict=True)):
        if isinstance(new, CallstatsError):
            reasons.setdefault(index, str(new))
        elif blob is not None and new != blob and index not in reasons:
            if len(new) > len(blob):
                kept += 1
            else:
                changed[index] = new
    return changed, reasons, kept


def batches_of(items: Iterable[Streamed], size_of: Callable[[Streamed], int], rows: int, size: int) -> Iterator[list[Streamed]]:
    """Yield items in batches of at most so many, which end with the item that makes them as large as this."""
    batch: list[Streamed] = []
    left = size
    for item in items:
        batch.append(item)
        left -= size_of(item)
        if len(batch) >= rows or left <= 0:
            yield batch
            batch, left = [], size
    if batch:
        yield batch


def _open_lines(path: str) -> Any:
    if path == STANDARD:
        if sys.stdin is None:
            raise OSError("it is closed")
        return sys.stdin.buffer
    if "://" in path or path.lower().endswith(".zst"):
        with needs("adapters.files", "arrow"):
            from pyarrow import fs
        try:
            system, name = fs.FileSystem.from_uri(path) if "://" in path else (fs.LocalFileSystem(), path)
        except (ValueError, ImportError) as error:
            raise OSError(str(error)) from None
        return io.BufferedReader(system.open_input_stream(name, compression="detect"), 2**20)
    return gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb")


def plain_value(value: Any) -> Any:
    """Return a value as a key, a name or a time may be; any other as text."""
    return value if value is None or isinstance(value, (str, int, float, bytes, date)) else json_text(value)


class _Line(NamedTuple):
    """A line of a file, and where its blob is."""

    text: bytes
    blob: bytes | None
    """The text of the whole line where there is a fault."""
    fields: dict[str, Any] | None = None
    """The other fields of an object; None for a line that is a blob."""
    start: int = 0
    end: int = 0
    fault: str | None = None

    def replaced(self, blob: bytes) -> bytes:
        """Return the line with another blob, in the form that the line has."""
        if self.fields is None:
            return blob or b"\n"
        is_text = self.text[self.start : self.start + 1] == b'"'
        new = json.dumps(blob.decode(), ensure_ascii=False).encode() if is_text else blob.rstrip() or b"[]"
        return b"".join((self.text[: self.start], new, self.text[self.end :]))


class LinePage:
    """Some rows of a file of JSON lines."""

    def __init__(self, lines: Sequence[bytes], column: str) -> None:
        self._lines = [_parse_line(line, column) for line in lines]
        self._column = column
        self.blobs = [line.blob for line in self._lines]
        """None where a row has no blob."""
        self.faults = {index: line.fault for index, line in enumerate(self._lines) if line.fault is not None}
        """Why a row has no blob that can be read, by index."""

    @property
    def columns(self) -> list[str]:
        """The names of the fields besides the blob."""
        return [*dict.fromkeys(name for line in self._lines for name in line.fields or ())]

    def values(self, name: str | None) -> list[Any]:
        """Return the scalars of a column; None for each row if there is no such column."""
        return [plain_value((line.fields or {}).get(name or "")) for line in self._lines]

    def lines(self, changed: Mapping[int, bytes]) -> Iterator[bytes]:
        """Yield the rows as lines, with new blobs by index."""
        return (line.replaced(changed[index]) if index in changed else line.text for index, line in enumerate(self._lines))

    def table(self, changed: Mapping[int, bytes], schema: Any = None) -> Any:
        """Return the rows as an Arrow table of this schema, or of their own, with new blobs by index."""
        from callstats.adapters import parquet

        rows = [line.fields or {} for line in self._lines]
        return parquet.table_of_rows(rows, self._column, [changed.get(i, blob) for i, blob in enumerate(self.blobs)], schema)


class LineReader:
    """A reader of JSON lines. An object without the column as the first line is an error, as of a Parquet file without it."""

    total = None

    def __init__(self, file: BinaryIO, column: str, path: str) -> None:
        self._column = column
        self._lines: Iterator[bytes] = read_on(iter(file))
        first = [*islice(self._lines, 1)]
        self._lines = chain(first, self._lines)
        for line in first:
            if (names := _names_without(line, column)) is not None:
                raise no_blobs(path, column, _names_text(line, names, len(names)))

    @cached_property
    def columns(self) -> list[str]:
        """The fields besides the blob in the first lines."""
        first = next(batches_of(self._lines, len, PAGE_ROWS, PAGE_BYTES), [])
        self._lines = chain(first, self._lines)
        return LinePage(first, self._column).columns

    def pages(self, rows: int, size: int, _columns: Sequence[str | None] | None = None) -> Iterator[LinePage]:
        """Yield pages of at most so many rows and about so many bytes."""
        for lines in batches_of(self._lines, len, rows, size):
            yield LinePage(lines, self._column)


class LineWriter:
    """A writer of JSON lines, compressed as the file's name says."""

    def __init__(self, sink: Any, path: str, *, key: str, column: str, long: bool, others: Sequence[str]) -> None:
        if long:
            raise ArgumentError("long", "False for JSON lines", long)
        if len({key, column, *others}) < 2 + len(others):
            raise ArgumentError("others", "names of further columns", [*others], hint="the file has a column of that name")
        self._key, self._column, self._others = key, column, others
        self._sink, self._is_standard = sink, path == STANDARD
        if path.lower().endswith(".gz"):
            self._sink = gzip.GzipFile("", "wb", 6, sink, 0)
        elif path.lower().endswith(".zst"):
            with needs("adapters.files", "arrow"):
                import pyarrow as pa
            self._sink = pa.CompressedOutputStream(sink, "zstd")
        self._end = self._sink.flush if self._sink is sink else self._sink.close

    def add_page(self, page: Page, changed: Mapping[int, bytes]) -> None:
        """Write the rows of a page, with new blobs by index. A reader of standard output gets them at once."""
        for line in page.lines(changed):
            self._sink.write(line)
        if self._is_standard:
            self._sink.flush()

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - as other writers have it
        """Write what the codec holds back."""
        self._end()

    def add(self, calls: Sequence[Any], cells: Any, others: Sequence[Sequence[str | None]] = ()) -> None:
        """Write calls: their keys, their blobs, their further columns."""
        for call, blob, values in zip(calls, cells, others or [()] * len(calls), strict=True):
            self._sink.write(line_of({self._key: call, **dict(zip(self._others, values, strict=True))}, self._column, blob))


def line_of(fields: Mapping[str, Any], column: str, blob: bytes | None) -> bytes:
    """Return a line with an object: its fields, and last its blob, as an array if it is one without line breaks, else as text."""
    bare = b"" if blob is None else blob.removesuffix(b"\n")
    if not bare.startswith(b"[") or b"\n" in bare:
        bare = json_text(None if blob is None else blob.decode("utf-8", "replace")).encode()
    return b"".join((json_text({**fields, column: 0}, separators=(",", ":")).encode()[:-2], bare, b"}\n"))


def _parse_line(line: bytes, column: str) -> _Line:
    text = line.rstrip(b"\r\n")
    if not text.startswith(b"{"):
        return _Line(line, text)
    mark = json.dumps(column, ensure_ascii=False).encode()
    fault, at = f"expected a histogram, or an object with {column!r}", -1
    while (at := text.find(mark, at + 1)) >= 0:
        start = at + len(mark)
        try:
            fields = json.loads(text[:start] + b":0}")
        except (ValueError, RecursionError):
            continue  # it is a part of a value before
        if column not in fields:
            continue  # it is the end of a longer name
        try:
            blob, start, end, more = _find_blob(text, start, column)
        except (ValueError, RecursionError) as error:
            fault = f"expected an object in JSON: {error}"
            break
        return _Line(line, blob, {name: value for name, value in {**fields, **more}.items() if name != column}, start, end)
    if (names := _names_without(text, column)) is not None:
        fault += f": it has {_names_text(text, names, _SHOWN_MEMBERS)}"
    return _Line(line, text, {}, fault=fault)


def _names_without(line: bytes, column: str) -> list[str] | None:
    """Return the names of an object's members; None for a line that is no object, or has this one."""
    try:
        members = json.loads(line) if line.startswith(b"{") else None
    except (ValueError, RecursionError):
        return None
    return None if members is None or column in members else [*members]


def _names_text(line: bytes, names: Sequence[str], most: int) -> str:
    """Return the first names of a line's members, and which command takes such a line, if another does."""
    shown = [*map(shorten_repr, names[:most])]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    advice = "; callstats import takes what reduce --save or record wrote" if _KEPT.match(line) else ""
    return f"{', '.join(shown) or 'none'}{more}{advice}"


def _find_blob(text: bytes, start: int, column: str) -> tuple[bytes | None, int, int, dict[str, Any]]:
    """Return the blob of an object, the range of its value, and the fields after it. `start` is the end of its name."""
    colon = _COLON.match(text, start)
    if colon is None:
        raise ValueError(f"expected a colon after {column!r}")
    start = colon.end()
    if text.startswith(b"[", start) and text.endswith(b"]}") and text.find(b"]", start) == len(text) - 2:
        return text[start:-1], start, len(text) - 1, {}  # the only bracket must be the array's end
    value, size = _DECODER.raw_decode(tail := text[start:].decode())
    end = start + len(tail[:size].encode())
    more = json.loads(b'{"":0' + text[end:])
    if column in more or not (value is None or isinstance(value, (str, list))):
        raise ValueError(f"expected one {column!r}, as text, an array or null")
    more.pop("")
    return value.encode() if isinstance(value, str) else None if value is None else text[start:end], start, end, more


_SHOWN_MEMBERS = 5
"""How many members of a rejected line are named."""
_KEPT = re.compile(rb'\{"(callstats":"call"|key":.*?,"rows":\[)')
_COLON = re.compile(rb"[ \t]*:[ \t]*")
_DECODER = json.JSONDecoder()
