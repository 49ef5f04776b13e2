"""Series in Arrow: one as a table with a row for each sample, many as an array of lists or a table with a row for each value."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from callstats import _coerce
from callstats._types import AnyArray, Counts
from callstats.adapters._frames import columns_of, require_columns, series_of
from callstats.adapters.arrow._arrays import TIMES, array_of, batch_of, cells, is_null, one_array, plain_array, table_of
from callstats.batch import StatBatch
from callstats.errors import SeriesError
from callstats.series import StatSeries


def read(table: Any, *, timestamp: str = "timestamp", counts: str | None = "count") -> StatSeries:
    """Return the series of a table with a row for each sample.

    Parameters
    ----------
    table : Table, RecordBatch, or an object of Arrow's PyCapsule protocol
        A column has the times, of any unit and zone, or whole nanoseconds. Each metric is a column of whole numbers. A null is
        an absent value.
    timestamp : str
        The column of times.
    counts : str or None
        The column with the number of raw samples of each row, if there is one; None reads every other column as a metric.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"x": [2**64 - 1, None]}, counts=[5, 1])
    >>> read(write(series)) == series
    True
    """
    table = table_of(table)
    columns = zip(table.column_names, table.columns, strict=True)
    return series_of({name: cells(column, repr(name)) for name, column in columns}, timestamp, counts, "table")


def write(series: StatSeries, *, timestamp: str = "timestamp", counts: str | None = "count") -> pa.Table:
    """Return a table with a row for each sample, as `read` takes it.

    The times are nanoseconds in UTC, the metrics uint64, null where absent. The counts are written where a row stands for several
    samples.

    Examples
    --------
    >>> write(StatSeries([0, 10**9], {"x": [7, None]})).to_pydict()["x"]
    [7, None]
    """
    columns = {timestamp: pa.array(series.timestamps).view(TIMES)}
    for name, values, present in columns_of(series, timestamp=timestamp, counts=counts):
        columns[name] = pa.array(values, mask=None if present is None else ~present)
    return pa.table(columns)


def write_long(x: StatSeries | StatBatch, calls: Any = None) -> pa.Table:
    """Return series as one long table with a row for each value.

    Parameters
    ----------
    x : StatSeries or StatBatch
        A series is a batch of one.
    calls : array-like of Arrow, optional
        A key for each series; its number by default.

    Returns
    -------
    Table
        ``call``; ``row``, the number of the sample in its series; ``timestamp`` (ns, UTC); ``metric`` (a dictionary of text);
        ``value`` (uint64); ``count`` (int64), the number of raw samples. A sample without metrics has a row whose metric and
        value are null. An empty series has a row with its call alone.

    Examples
    --------
    >>> table = write_long(StatSeries([0, 1], {"x": [7, 8]}), calls=["a"])
    >>> table.select(["call", "metric", "value"]).to_pylist()[1]
    {'call': 'a', 'metric': 'x', 'value': 8}
    """
    batch = _as_batch(x)
    m, n, k = len(batch), len(batch.timestamps), len(batch.names)
    keys = pa.array(np.arange(m)) if calls is None else calls if isinstance(calls, pa.Array) else pa.array(calls)
    if len(keys) != m:
        raise SeriesError(f"calls must have a key for each of the {m} series, got {len(keys)}")
    has_row = np.ones((n, k + 1), dtype=np.bool_)  # the last column is for samples without metrics
    if batch.present is not None:
        has_row[:, :k] = batch.present.T
    has_row[:, k] = ~has_row[:, :k].any(axis=1)
    samples, metrics = np.nonzero(has_row)
    series = np.repeat(np.arange(m), np.diff(batch.offsets))
    empty = np.flatnonzero(np.diff(batch.offsets) == 0)
    at = np.searchsorted(series[samples], empty)  # each empty series comes after the samples of all series before it
    no_metric = metrics == k
    values = np.zeros(len(samples), dtype=np.uint64)
    values[~no_metric] = batch.values[metrics[~no_metric], samples[~no_metric]]
    no_sample = np.insert(np.zeros(len(samples), dtype=np.bool_), at, True)
    no_value = np.insert(no_metric, at, True)

    def column(cells: AnyArray, mask: AnyArray) -> Any:
        return pa.array(np.insert(cells, at, 0), mask=mask if mask.any() else None)

    codes = column(np.where(no_metric, 0, metrics).astype(np.int32), no_value)
    return pa.table(
        {
            "call": keys.take(pa.array(np.insert(series[samples], at, empty))),
            "row": column((samples - batch.offsets[series[samples]]).astype(np.int64), no_sample),
            "timestamp": column(batch.timestamps[samples], no_sample).view(TIMES),
            "metric": pa.DictionaryArray.from_arrays(codes, pa.array(batch.names, pa.string())),
            "value": column(values, no_value),
            "count": column(batch.counts[samples], no_sample),
        }
    )


def read_long(table: Any) -> tuple[pa.Array, StatBatch]:
    """Return the calls and series of a long table, such as `write_long` makes, with its rows in any order.

    Parameters
    ----------
    table : Table, RecordBatch, or an object of Arrow's PyCapsule protocol
        It has ``timestamp``, ``metric`` and ``value``. Without ``call`` it is one series. Without ``row`` each time of a call
        is one sample. Without ``count`` each sample counts once. Rows of one sample must not contradict each other.

    Returns
    -------
    Array, StatBatch
        The calls in the order of their first rows, and the series of each.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0, 0], {"x": [2**64 - 1, None], "y": [1, 2]}), StatSeries([], {})])
    >>> calls, same = read_long(write_long(batch, ["a", "b"]))
    >>> calls.to_pylist(), same == batch
    (['a', 'b'], True)
    """
    table = table_of(table)
    columns = table.column_names
    require_columns(("timestamp", "metric", "value"), columns, "table")
    series, calls = _encoded(table["call"], "encode") if "call" in columns else (np.zeros(len(table), np.int64), pa.array([0]))
    sampled = ~is_null(one_array(table["timestamp"]))
    metrics, names = _encoded(table["metric"])
    if (metrics[~sampled] >= 0).any():
        raise SeriesError("expected a time for each value: timestamp is null where metric is not")
    some = table.filter(pa.array(sampled))
    metrics, series_of_row = metrics[sampled], series[sampled]
    times, _ = _coerce.column(cells(some["timestamp"], "timestamps"), "timestamps", _coerce.TIME)
    rows = times if "row" not in columns else np.asarray(cells(some["row"], "row"))
    first, sample = _samples(series_of_row, rows)
    if (times != times[first][sample]).any():
        raise SeriesError("expected one time for each sample: rows of one call and row number differ")
    counts = None
    if "count" in columns:
        weights, _ = _coerce.column(cells(some["count"], "counts"), "counts", _coerce.COUNT)
        if (weights != weights[first][sample]).any():
            raise SeriesError("expected one count for each sample: rows of one call and row number differ")
        counts = weights[first]
    amounts, mask = _coerce.column(cells(some["value"], "value"), "value", _coerce.METRIC)
    has_value = metrics >= 0 if mask is None else (metrics >= 0) & mask
    values = np.ma.MaskedArray(np.zeros((len(names), len(first)), dtype=np.uint64), mask=True)
    values[metrics[has_value], sample[has_value]] = amounts[has_value]
    if values.count() != has_value.sum():
        raise SeriesError("expected one value for each metric of a sample: some have two")
    offsets = np.zeros(len(calls) + 1, dtype=np.int64)
    np.cumsum(np.bincount(series_of_row[first], minlength=len(calls)), out=offsets[1:])
    return calls, batch_of(times[first], dict(zip(names.to_pylist(), values, strict=True)), counts, offsets)


def write_lists(x: StatSeries | StatBatch) -> pa.Array:
    """Return series as an array with a list of structs for each.

    Its type is ``list<struct<timestamp: timestamp[ns, UTC], metrics: struct<name: uint64, …>, count: int64>>``.

    Examples
    --------
    >>> [[sample["metrics"] for sample in call] for call in write_lists(StatSeries([0, 1], {"x": [7, 8]})).to_pylist()]
    [[{'x': 7}, {'x': 8}]]
    """
    batch = _as_batch(x)
    n, masks = len(batch.timestamps), repeat(None) if batch.present is None else ~batch.present
    columns = [pa.array(values, mask=mask) for values, mask in zip(batch.values, masks, strict=False)]
    metrics = pa.Array.from_buffers(pa.struct(zip(batch.names, repeat(pa.uint64()))), n, [None], children=columns)
    rows = pa.StructArray.from_arrays(
        [pa.array(batch.timestamps).view(TIMES), metrics, pa.array(batch.counts)], names=["timestamp", "metrics", "count"]
    )
    if n > 2**31 - 1:
        return pa.LargeListArray.from_arrays(pa.array(batch.offsets), rows)
    return pa.ListArray.from_arrays(pa.array(batch.offsets, pa.int32()), rows)


def read_lists(array: Any) -> StatBatch:
    """Return the series of an array of lists, such as `write_lists` makes.

    Parameters
    ----------
    array : Array, ChunkedArray, or an object of Arrow's PyCapsule protocol
        Its lists hold structs with ``timestamp``, and perhaps ``metrics`` and ``count``. A null is an empty series.

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
    require_columns(["timestamp"], names, "struct")
    columns = dict(zip(names, rows.flatten(), strict=True))
    metrics: dict[str, object] = {}
    inner = columns.get("metrics")
    if inner is not None and not pa.types.is_null(inner.type):
        for field, column in zip(inner.type, inner.flatten(), strict=True):
            metrics[field.name] = cells(column, f"metrics[{field.name!r}]")
    counts = None if "count" not in columns else cells(columns["count"], "counts")
    return batch_of(cells(columns["timestamp"], "timestamps"), metrics, counts, offsets)


def _as_batch(x: StatSeries | StatBatch) -> StatBatch:
    """Return a batch unchanged, and a series as a batch of one."""
    if not isinstance(x, (StatSeries, StatBatch)):
        raise TypeError(f"expected a StatSeries or a StatBatch, got {type(x).__name__}")
    return StatBatch([x]) if isinstance(x, StatSeries) else x


def _encoded(column: Any, null: str = "mask") -> tuple[Counts, pa.Array]:
    """Return the index of each value among the distinct values, and these; null is -1, or a value with "encode"."""
    encoded = plain_array(column).dictionary_encode(null)
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary


def _samples(series: Counts, rows: Counts) -> tuple[Counts, Counts]:
    """Return the first table row of each sample, by series and row number, and the sample of each table row."""
    order = np.lexsort((rows, series))
    s, r = series[order], rows[order]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (s[1:] != s[:-1]) | (r[1:] != r[:-1])
    sample = np.empty(len(order), dtype=np.int64)
    sample[order] = np.cumsum(new) - 1
    return order[new], sample
