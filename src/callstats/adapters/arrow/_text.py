"""Arrow's arrays of text and their buffers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from callstats._types import I64_MAX, AnyArray
from callstats.batch import StatBatch, decode_buffer
from callstats.errors import CallstatsError
from callstats.reduce import reduce_buffer
from callstats.rule import Rule
from callstats.series import StatSeries

Reduced: TypeAlias = "dict[int, CallstatsError]"
"""Refusals by row."""

_MOST = {4: 2**31 - 1, 8: I64_MAX}
"""The most bytes of an array by the width of its offsets."""


def arrow_of(x: Any) -> Any:
    """What pyarrow makes of an object, by the PyCapsule protocol; its own objects as they are."""
    import pyarrow as pa

    if isinstance(x, (pa.Array, pa.ChunkedArray, pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return x
    if hasattr(x, "__arrow_c_stream__"):
        chunked = pa.chunked_array(x)
        return pa.Table.from_struct_array(chunked) if pa.types.is_struct(chunked.type) else chunked
    if hasattr(x, "__arrow_c_array__"):
        array = pa.array(x)
        return pa.RecordBatch.from_struct_array(array) if pa.types.is_struct(array.type) else array
    raise TypeError(f"expected an Arrow array or table, or what speaks Arrow's PyCapsule protocol, got {type(x).__name__}")


def one_array(x: Any) -> Any:
    """A chunked array as one, which is a copy only where there are several chunks."""
    import pyarrow as pa

    if not isinstance(x, pa.ChunkedArray):
        return x
    return x.chunk(0) if x.num_chunks == 1 else x.combine_chunks()


def text_type(kind: Any) -> Any:
    """The type with offsets and one buffer by which an array of text or binary is worked on."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return text_type(kind.storage_type)
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()) or pa.types.is_null(kind):
        return kind
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    raise TypeError(f"expected stored histograms as text or binary, got an Arrow array of {kind}")


def reduce_array(array: Any, rule: Rule, *, counts: bool, sort: bool, threads: int = 1) -> tuple[Any, Reduced]:
    """An array of the same type, null where it is null or refused; and the refusals."""
    import pyarrow as pa

    kind = array.type
    working = text_type(kind)
    if isinstance(kind, pa.BaseExtensionType):
        result, refused = reduce_array(array.storage, rule, counts=counts, sort=sort, threads=threads)
        return pa.ExtensionArray.from_storage(kind, result), refused
    if pa.types.is_null(kind) or not len(array):
        return array, {}
    if working != kind:
        result, refused = reduce_array(array.cast(working), rule, counts=counts, sort=sort, threads=threads)
        return result.cast(kind), refused
    data, offsets, width = text_buffer(array)
    pieces, ends, refused = reduce_buffer(data, offsets, rule, counts=counts, sort=sort, threads=threads)
    most = _MOST[width]
    if ends[-1] > most:
        raise CallstatsError(f"expected at most {most} bytes in one array of {kind}, got {ends[-1]}: make it pa.large_{kind}()")
    buffers = [_validity(array, refused), pa.py_buffer(ends.astype(f"i{width}", copy=False)), _joined(pieces, int(ends[-1]))]
    return pa.Array.from_buffers(kind, len(array), buffers), refused


def _joined(pieces: list[Any], size: int) -> Any:
    """Pieces as one buffer, which Arrow's pool gives: its pages have been used before."""
    import pyarrow as pa

    if len(pieces) == 1:
        return pa.py_buffer(pieces[0])
    buffer = pa.allocate_buffer(size)
    room, at = memoryview(buffer).cast("B"), 0
    for piece in pieces:
        room[at : at + len(piece)] = piece
        at += len(piece)
    return buffer


def read_array(array: Any, *, sort: bool) -> tuple[StatBatch, Reduced]:
    """The series of an array of stored histograms, empty where null or refused; and the refusals."""
    import pyarrow as pa

    array = one_array(array)
    working = text_type(array.type)
    if isinstance(array, pa.ExtensionArray):
        return read_array(array.storage, sort=sort)
    if pa.types.is_null(working) or not len(array):
        return StatBatch([StatSeries([], {})] * len(array)), {}
    data, offsets, _ = text_buffer(array if working == array.type else array.cast(working))
    return decode_buffer(data, offsets, sort=sort)


def text_buffer(array: Any) -> tuple[AnyArray, AnyArray, int]:
    """The bytes of a text array, its int64 offsets, between which a null has none, and the width of its own offsets."""
    import pyarrow as pa
    import pyarrow.compute as pc

    width = 8 if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type) else 4
    n = len(array)
    for _ in range(2):
        _, places, bytes_ = array.buffers()
        offsets = np.frombuffer(places, f"i{width}", n + 1, array.offset * width).astype(np.int64)
        if not array.null_count or not np.diff(offsets)[array.is_null().to_numpy(zero_copy_only=False)].any():
            break
        # A null may have bytes, which are nobody's.
        array = pc.fill_null(array, pa.scalar(b"", pa.binary()).cast(array.type))
    data = np.zeros(0, np.uint8) if bytes_ is None or not bytes_.size else np.frombuffer(bytes_, np.uint8)
    return data, offsets, width


def _validity(array: Any, refused: Reduced) -> Any:
    """The bitmap of what is neither null nor refused; None for all."""
    import pyarrow as pa

    if not array.null_count and not refused:
        return None
    valid = np.array(array.is_valid().to_numpy(zero_copy_only=False))
    valid[list(refused)] = False
    return pa.array(valid).buffers()[1]
