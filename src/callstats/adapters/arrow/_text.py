"""Stored blobs in Arrow arrays of text, on their buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callstats._types import I64_MAX, AnyArray
from callstats.adapters._frames import column_index
from callstats.adapters.arrow._arrays import array_of, arrow_of, is_null
from callstats.batch import StatBatch, decode_buffer
from callstats.errors import ArgumentError, CallstatsError, raise_first, suggest_keywords
from callstats.reduce import reduce_buffer
from callstats.rule import How, Missing, Rule, make_rule
from callstats.series import StatSeries

Rejected: TypeAlias = "dict[int, CallstatsError]"
"""The errors of the rejected blobs, by index."""

_WORKING_TYPES = {kind: kind for kind in (pa.null(), pa.string(), pa.large_string(), pa.binary(), pa.large_binary())}
_WORKING_TYPES |= {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""The types, with offsets and one buffer, that the kernels can work on, by the types of arrays."""

_MAX_BYTES = {4: 2**31 - 1, 8: I64_MAX}
"""How many bytes an array can have, by the width of its offsets."""


@suggest_keywords
def reduce(
    x: Any,
    rule: Rule | int | None = 240,
    *,
    column: str = "stats",
    how: How | Mapping[str, How] | None = None,
    missing: Missing | None = None,
    max_bytes: int | None = None,
    counts: bool = True,
    sort: bool = False,
    threads: int = 1,
    errors: Literal["raise", "null", "return"] = "raise",
) -> Any:
    """Reduce stored blobs, Arrow to Arrow, as `reduce_json` does.

    Parameters
    ----------
    x : Array, ChunkedArray, RecordBatch, Table, RecordBatchReader, or an object of Arrow's PyCapsule protocol
        Text or binary of any kind (plain, large, view, or JSON's extension type), with nulls, sliced or not.
    column : str
        The column of a table that has the blobs.
    rule, how, missing, max_bytes, counts, sort, threads
        As for `reduce_json`.
    errors : {"raise", "null", "return"}
        "raise" raises the error of the first rejected blob, with its row: ``stats[17]: $[3].timestamp: …``. "null" makes each
        rejected blob null. "return" leaves it unchanged, and returns the reasons too; a RecordBatchReader has no such form.

    Returns
    -------
    Array, ChunkedArray, RecordBatch, Table or RecordBatchReader
        It has the kind and type of `x`. A null stays null. A blob that the rule leaves unchanged stays byte for byte. With
        ``errors="return"`` it is the first of two: the second is an Array of text, with the reason of each rejected blob.

    Examples
    --------
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":1}},{"timestamp":"2017-11-27T14:52:54Z","metrics":{"x":4}}]'
    >>> table = pa.table({"id": ["a", "b"], "stats": [blob, None]})
    >>> print(reduce(table, 1)["stats"][0].as_py(), end="")
    [{"timestamp":"2017-11-27T14:52:53.500Z","metrics":{"x":2},"count":2}]
    >>> reduced, reasons = reduce(pa.array(["[]", "no blob"]), 1, errors="return")
    >>> reduced.to_pylist(), reasons.is_null().to_pylist()
    (['[]', 'no blob'], [True, False])
    """
    rule = make_rule(rule, how, missing, max_bytes)
    x = arrow_of(x)
    _validate_errors(errors, "raise", "null", *(() if isinstance(x, pa.RecordBatchReader) else ("return",)))
    options: dict[str, Any] = {"counts": counts, "sort": sort, "threads": threads, "keep": errors == "return"}
    if isinstance(x, pa.RecordBatchReader):
        index = column_index(column, x.schema.names, "table")
        return pa.RecordBatchReader.from_batches(x.schema, _reduce_stream(x, rule, index, errors, options))
    is_table = isinstance(x, (pa.Table, pa.RecordBatch))
    index = column_index(column, x.schema.names, "table") if is_table else 0
    blobs = x.column(index) if is_table else x
    result, rejected = reduce_array(blobs, rule, **options)
    if errors == "raise":
        raise_first(rejected, column if is_table else "blobs")
    if is_table:
        result = x.set_column(index, x.schema.field(index), result)
    return (result, reasons_of(rejected, len(blobs))) if errors == "return" else result


def read_stored(array: Any, *, sort: bool = False, errors: Literal["raise", "null"] = "raise") -> StatBatch:
    """Decode an array of stored blobs.

    Parameters
    ----------
    array : Array, ChunkedArray, or an object of Arrow's PyCapsule protocol
        As for `reduce`. A null is an empty series.
    sort : bool
        As for `reduce_json`.
    errors : {"raise", "null"}
        As for `reduce`, but "null" makes an empty series of each rejected blob, as of a null.

    Examples
    --------
    >>> batch = read_stored(pa.array(['[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]', None]))
    >>> [len(series) for series in batch]
    [1, 0]
    """
    _validate_errors(errors, "raise", "null")
    batch, rejected = read_array(array_of(array), sort=sort)
    if errors == "raise":
        raise_first(rejected, "blobs")
    return batch


def reduce_array(array: Any, rule: Rule, *, keep: bool = False, **options: Any) -> tuple[Any, Rejected]:
    """Return an array of the same type, and the errors. A rejected blob becomes null, or stays with `keep`."""
    kind = array.type
    working = _working_type(kind)
    if isinstance(array, pa.ChunkedArray):
        results = [reduce_array(chunk, rule, keep=keep, **options) for chunk in array.chunks]
        starts = accumulate(map(len, array.chunks), initial=0)
        found = {start + i: error for start, (_, rejected) in zip(starts, results, strict=False) for i, error in rejected.items()}
        return pa.chunked_array([result for result, _ in results], kind), found
    if isinstance(kind, pa.BaseExtensionType):
        result, rejected = reduce_array(array.storage, rule, keep=keep, **options)
        return pa.ExtensionArray.from_storage(kind, result), rejected
    if pa.types.is_null(kind) or not len(array):
        return array, {}
    if working != kind:
        result, rejected = reduce_array(array.cast(working), rule, keep=keep, **options)
        return result.cast(kind), rejected
    data, offsets, width = _buffers(array)
    pieces, ends, rejected = reduce_buffer(data, offsets, rule, **options)
    size = int(ends[-1])
    if size > _MAX_BYTES[width]:
        raise ArgumentError("x", f"at most {_MAX_BYTES[width]} bytes when reduced", size, hint=f"make it pa.large_{kind}()")
    buffers = [_validity(array, rejected), pa.py_buffer(ends.astype(f"i{width}", copy=False)), _join_pieces(pieces, size)]
    result = pa.Array.from_buffers(kind, len(array), buffers)
    return pc.if_else(reasons_of(rejected, len(array)).is_null(), result, array) if keep and rejected else result, rejected


def read_array(array: Any, *, sort: bool = False) -> tuple[StatBatch, Rejected]:
    """Return the series of an array of blobs, empty where null or rejected, and the errors."""
    working = _working_type(array.type)
    if isinstance(array, pa.ExtensionArray):
        return read_array(array.storage, sort=sort)
    if pa.types.is_null(working) or not len(array):
        return StatBatch([StatSeries([], {})] * len(array)), {}
    data, offsets, _ = _buffers(array if working == array.type else array.cast(working))
    return decode_buffer(data, offsets, sort=sort)


def reasons_of(rejected: Rejected, n: int) -> pa.Array:
    """Return the reasons as text by index, null for the other blobs."""
    if not rejected:
        return pa.nulls(n, pa.string())
    return pa.array([str(rejected[i]) if i in rejected else None for i in range(n)], pa.string())


def _reduce_stream(batches: Any, rule: Rule, index: int, errors: str, options: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        result, rejected = reduce_array(batch.column(index), rule, **options)
        if errors == "raise":
            raise_first(rejected, batch.schema.names[index], start)
        yield batch.set_column(index, batch.schema.field(index), result)
        start += len(batch)


def _validate_errors(errors: str, *known: str) -> None:
    if errors not in known:
        raise ArgumentError("errors", f"one of {', '.join(map(repr, known))}", errors)


def _working_type(kind: Any) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return _working_type(kind.storage_type)
    if kind not in _WORKING_TYPES:
        raise TypeError(f"expected stored blobs as text or binary, got an Arrow array of {kind}")
    return _WORKING_TYPES[kind]


def _buffers(array: Any) -> tuple[AnyArray, AnyArray, int]:
    """Return the bytes of a text array, its int64 offsets, and the width of its own offsets. A null has no bytes."""
    width = 8 if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type) else 4
    n = len(array)
    for _ in range(2):
        _, ends, text = array.buffers()
        offsets = np.frombuffer(ends, f"i{width}", n + 1, array.offset * width).astype(np.int64)
        if not array.null_count or not np.diff(offsets)[is_null(array)].any():
            break
        array = pc.fill_null(array, pa.scalar(b"", pa.binary()).cast(array.type))  # Arrow allows bytes under a null
    data = np.zeros(0, np.uint8) if text is None or not text.size else np.frombuffer(text, np.uint8)
    return data, offsets, width


def _join_pieces(pieces: list[Any], size: int) -> Any:
    """Join pieces in a buffer of Arrow's pool, whose pages are warm."""
    if len(pieces) == 1:
        return pa.py_buffer(pieces[0])
    buffer = pa.allocate_buffer(size)
    room, at = memoryview(buffer).cast("B"), 0
    for piece in pieces:
        room[at : at + len(piece)] = piece
        at += len(piece)
    return buffer


def _validity(array: Any, rejected: Rejected) -> Any:
    """Return the bitmap without nulls and rejected blobs; None if all are valid."""
    if not array.null_count and not rejected:
        return None
    valid = ~is_null(array)
    valid[list(rejected)] = False
    return pa.array(valid).buffers()[1]
