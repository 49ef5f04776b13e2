"""Arrow arrays from objects of other libraries, and their numbers and times as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from callstats import _coerce
from callstats._columns import Columns, validate_order, validate_totals
from callstats._types import AnyArray, Counts, Present
from callstats.batch import StatBatch
from callstats.errors import SeriesError

TIMES = pa.timestamp("ns", "UTC")


def arrow_of(x: Any) -> Any:
    """Convert an object to pyarrow by the PyCapsule protocol; leave pyarrow's own objects unchanged."""
    if isinstance(x, (pa.Array, pa.ChunkedArray, pa.Table, pa.RecordBatch, pa.RecordBatchReader)):
        return x
    if hasattr(x, "__arrow_c_stream__"):
        chunked = pa.chunked_array(x)
        return pa.Table.from_struct_array(chunked) if pa.types.is_struct(chunked.type) else chunked
    if hasattr(x, "__arrow_c_array__"):
        array = pa.array(x)
        return pa.RecordBatch.from_struct_array(array) if pa.types.is_struct(array.type) else array
    raise TypeError(f"expected an Arrow array or table, or an object of Arrow's PyCapsule protocol, got {type(x).__name__}")


def array_of(x: Any) -> Any:
    """Convert an object to one array, or raise if it is a table."""
    array = arrow_of(x)
    if not isinstance(array, (pa.Array, pa.ChunkedArray)):
        raise TypeError(f"expected an Arrow array, got {type(array).__name__}")
    return one_array(array)


def table_of(x: Any) -> pa.Table:
    """Convert an object to a table, or raise if it is an array."""
    table = arrow_of(x)
    if isinstance(table, (pa.RecordBatch, pa.RecordBatchReader)):
        return pa.table(table)
    if not isinstance(table, pa.Table):
        raise TypeError(f"expected an Arrow table, got {type(table).__name__}")
    return table


def one_array(x: Any) -> Any:
    """Join the chunks of a chunked array. Only several chunks are copied."""
    if not isinstance(x, pa.ChunkedArray):
        return x
    return x.chunk(0) if x.num_chunks == 1 else x.combine_chunks()


def plain_array(x: Any) -> Any:
    """Join the chunks of a chunked array, and decode a dictionary."""
    array = one_array(x)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def is_null(array: Any) -> Present:
    """Return which values of an array are null."""
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def cells(column: Any, where: str) -> AnyArray:
    """Return an Arrow column as a numpy array, masked where null. `StatSeries` checks the values."""
    column = plain_array(column)
    kind = column.type
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.timestamp(kind.unit)).to_numpy(zero_copy_only=False))
    if pa.types.is_null(kind) or pa.types.is_decimal(kind):
        try:
            column = column.cast(pa.uint64())
        except pa.ArrowInvalid:
            raise SeriesError(f"{where} must be whole numbers from 0 to {2**64 - 1}, got an Arrow array of {kind}") from None
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise SeriesError(f"{where} must be whole numbers, got an Arrow array of {kind}")
    if not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.ma.MaskedArray(column.fill_null(0).to_numpy(zero_copy_only=False), mask=is_null(column))


def batch_of(times: object, metrics: Mapping[str, object], counts: object, offsets: Counts) -> StatBatch:
    """Make a batch of columns that hold one series after another, with the checks of `StatSeries`."""
    stamps, _ = _coerce.column(times, "timestamps", _coerce.TIME)
    names = tuple(sorted(metrics))
    values = np.zeros((len(names), len(stamps)), dtype=np.uint64)
    present = np.ones(values.shape, dtype=np.bool_)
    for index, name in enumerate(names):
        values[index], mask = _coerce.column(metrics[name], f"metrics[{name!r}]", _coerce.METRIC)
        if mask is not None:
            present[index] = mask
    validate_order(stamps, offsets)
    weights = None
    if counts is not None:
        weights, _ = _coerce.column(counts, "counts", _coerce.COUNT)
        validate_totals(weights, offsets.tolist())
    return StatBatch._of(Columns(names, stamps, values, None if present.all() else present, weights), offsets)
