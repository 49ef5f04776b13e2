"""Many series as an Arrow array of lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from callstats.adapters.arrow._arrays import TIMES, array_of, batch_of, cells
from callstats.adapters.arrow._tables import as_batch
from callstats.batch import StatBatch
from callstats.errors import SeriesError
from callstats.series import StatSeries

_I32_MAX = 2**31 - 1


def write_lists(x: StatSeries | StatBatch) -> pa.Array:
    """Return series as an array with a list of structs for each.

    Parameters
    ----------
    x : StatSeries or StatBatch
        A series is a batch of one.

    Returns
    -------
    Array
        Of ``list<struct<timestamp: timestamp[ns, UTC], metrics: struct<name: uint64, …>, count: int64>>``.

    Examples
    --------
    >>> [[sample["metrics"] for sample in call] for call in write_lists(StatSeries([0, 1], {"x": [7, 8]})).to_pylist()]
    [[{'x': 7}, {'x': 8}]]
    """
    batch = as_batch(x)
    n, absent = len(batch.timestamps), None if batch.present is None else ~batch.present
    columns = [pa.array(values, mask=None if absent is None else absent[index]) for index, values in enumerate(batch.values)]
    if columns:
        metrics = pa.StructArray.from_arrays(columns, names=list(batch.names))
    else:
        metrics = pa.Array.from_buffers(pa.struct([]), n, [None])
    rows = pa.StructArray.from_arrays(
        [pa.array(batch.timestamps).view(TIMES), metrics, pa.array(batch.counts)], names=["timestamp", "metrics", "count"]
    )
    if n > _I32_MAX:
        return pa.LargeListArray.from_arrays(pa.array(batch.offsets), rows)
    return pa.ListArray.from_arrays(pa.array(batch.offsets, pa.int32()), rows)


def read_lists(array: Any) -> StatBatch:
    """Return the series of an array of lists, such as `write_lists` makes.

    Parameters
    ----------
    array : Array, ChunkedArray, or an object of Arrow's PyCapsule protocol
        Its lists hold structs with ``timestamp``, and perhaps ``metrics`` and ``count``. A null is an empty series.

    Returns
    -------
    StatBatch

    Raises
    ------
    SeriesError
        When a value does not convert without losing a bit.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0, 1], {"x": [1, None]}), StatSeries([], {})])
    >>> read_lists(write_lists(batch)) == batch
    True
    """
    array = array_of(array)
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        raise SeriesError(f"expected an Arrow array of lists of structs, got {kind}")
    rows = array.flatten()
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), out=offsets[1:])
    if rows.null_count:
        raise SeriesError(f"each sample must be a struct: {rows.null_count} of {len(rows)} are null")
    names = [field.name for field in rows.type]
    if "timestamp" not in names:
        raise SeriesError(f"expected structs with a timestamp: they have {', '.join(map(repr, names)) or 'none'}")
    columns = dict(zip(names, rows.flatten(), strict=True))
    metrics: dict[str, object] = {}
    if "metrics" in columns and not pa.types.is_null(columns["metrics"].type):
        inner = columns["metrics"]
        for field, column in zip(inner.type, inner.flatten(), strict=True):
            metrics[field.name] = cells(column, f"metrics[{field.name!r}]")
    counts = None if "count" not in columns else cells(columns["count"], "counts")
    return batch_of(cells(columns["timestamp"], "timestamps"), metrics, counts, offsets)
