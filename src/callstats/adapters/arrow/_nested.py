"""Many series in Arrow: an array of lists, and one long table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from callstats import _coerce
from callstats._types import AnyArray, Counts
from callstats.adapters._optional import needs
from callstats.adapters.arrow._tables import batch_of, cells, metric_array, times_array
from callstats.adapters.arrow._text import arrow_of, one_array
from callstats.batch import StatBatch
from callstats.errors import SeriesError
from callstats.series import StatSeries

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_SMALL = 2**31 - 1


def write_lists(x: StatSeries | StatBatch) -> pa.Array:
    """Series as an array of lists: an element for each, a struct of timestamp, metrics and count for each of its samples.

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
    with needs("adapters.arrow.write_lists", "pyarrow", "arrow"):
        import pyarrow as pa
    batch = _batch(x)
    n = len(batch.timestamps)
    columns = [
        metric_array(batch.values[j], None if batch.present is None else batch.present[j]) for j in range(len(batch.names))
    ]
    if columns:
        metrics = pa.StructArray.from_arrays(columns, names=list(batch.names))
    else:
        metrics = pa.Array.from_buffers(pa.struct([]), n, [None])
    rows = pa.StructArray.from_arrays(
        [times_array(batch.timestamps), metrics, pa.array(batch.counts)], names=["timestamp", "metrics", "count"]
    )
    if n > _MOST_SMALL:
        return pa.LargeListArray.from_arrays(pa.array(batch.offsets), rows)
    return pa.ListArray.from_arrays(pa.array(batch.offsets, pa.int32()), rows)


def read_lists(array: Any) -> StatBatch:
    """Series from an array of lists, as `write_lists` makes it.

    Parameters
    ----------
    array : Array, ChunkedArray, or whatever speaks Arrow's PyCapsule protocol
        Lists of structs with ``timestamp`` and, if they have them, ``metrics`` and ``count``. Null is an empty series.

    Returns
    -------
    StatBatch

    Raises
    ------
    SeriesError
        For anything that would not convert without losing a bit.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0, 1], {"x": [1, None]}), StatSeries([], {})])
    >>> read_lists(write_lists(batch)) == batch
    True
    """
    with needs("adapters.arrow.read_lists", "pyarrow", "arrow"):
        import pyarrow as pa
    array = one_array(arrow_of(array))
    kind = array.type if isinstance(array, pa.Array) else None
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        raise SeriesError(f"expected an Arrow array of lists of structs, got {type(array).__name__ if kind is None else kind}")
    rows = array.flatten()
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), out=offsets[1:])
    if rows.null_count:
        raise SeriesError(f"each sample must be a struct: {rows.null_count} of {len(rows)} are null")
    names = [field.name for field in rows.type]
    if "timestamp" not in names:
        raise SeriesError(f"expected structs with a timestamp: they have {', '.join(map(repr, names)) or 'none'}")
    found = dict(zip(names, rows.flatten(), strict=True))
    metrics: dict[str, object] = {}
    if "metrics" in found and not pa.types.is_null(found["metrics"].type):
        inner = found["metrics"]
        for field, column in zip(inner.type, inner.flatten(), strict=True):
            metrics[field.name] = cells(column, f"metrics[{field.name!r}]")
    weights = None if "count" not in found else cells(found["count"], "counts")
    return batch_of(cells(found["timestamp"], "timestamps"), metrics, weights, offsets)


def write_long(x: StatSeries | StatBatch, calls: Any = None) -> pa.Table:
    """Series as one long table: a row for each value that is there.

    Parameters
    ----------
    x : StatSeries or StatBatch
        A series is a batch of one.
    calls : array-like of Arrow, optional
        A key for each series; by default its number.

    Returns
    -------
    Table
        ``call``; ``row``, the number of the sample in its series; ``timestamp`` (ns, UTC); ``metric`` (a dictionary of text);
        ``value`` (uint64); ``count`` (int64), how many raw samples the sample stands for. A sample without any metric has a row
        whose metric and value are null, an empty series one with nothing but its call.

    Raises
    ------
    SeriesError
        When there is not a key for each series.

    Examples
    --------
    >>> table = write_long(StatSeries([0, 1], {"x": [7, 8]}), calls=["a"])
    >>> table.select(["call", "metric", "value"]).to_pylist()[1]
    {'call': 'a', 'metric': 'x', 'value': 8}
    """
    with needs("adapters.arrow.write_long", "pyarrow", "arrow"):
        import pyarrow as pa
    batch = _batch(x)
    m, n, k = len(batch), len(batch.timestamps), len(batch.names)
    keys = pa.array(np.arange(m)) if calls is None else calls if isinstance(calls, pa.Array) else pa.array(calls)
    if len(keys) != m:
        raise SeriesError(f"calls must have a key for each of the {m} series, got {len(keys)}")
    held = np.ones((n, k + 1), dtype=np.bool_)
    if batch.present is not None:
        held[:, :k] = batch.present.T
    held[:, k] = ~held[:, :k].any(axis=1)
    samples, metrics = np.nonzero(held)
    series = np.repeat(np.arange(m), np.diff(batch.offsets))
    bare = np.flatnonzero(np.diff(batch.offsets) == 0)
    # The empty series stand where they belong: each behind all samples of those before it.
    at = np.searchsorted(series[samples], bare)
    no_metric = metrics == k
    values = np.zeros(len(samples), dtype=np.uint64)
    values[~no_metric] = batch.values[metrics[~no_metric], samples[~no_metric]]
    empty = np.insert(np.zeros(len(samples), dtype=np.bool_), at, True)
    nothing = np.insert(no_metric, at, True)

    def column(cells: AnyArray, mask: AnyArray | None) -> Any:
        return pa.array(np.insert(cells, at, 0), mask=mask if mask is not None and mask.any() else None)

    whose = np.insert(series[samples], at, bare)
    rows = column((samples - batch.offsets[series[samples]]).astype(np.int64), empty)
    codes = column(np.where(no_metric, 0, metrics).astype(np.int32), nothing)
    return pa.table(
        {
            "call": keys.take(pa.array(whose)),
            "row": rows,
            "timestamp": column(batch.timestamps[samples], empty).view(pa.timestamp("ns", "UTC")),
            "metric": pa.DictionaryArray.from_arrays(codes, pa.array(batch.names, pa.string())),
            "value": column(values, nothing),
            "count": column(batch.counts[samples], empty),
        }
    )


def read_long(table: Any) -> tuple[pa.Array, StatBatch]:
    """Series from a long table, as `write_long` makes it, in whatever order its rows are.

    Parameters
    ----------
    table : Table, RecordBatch, or whatever speaks Arrow's PyCapsule protocol
        With ``timestamp``, ``metric`` and ``value``; without ``call`` it is one series, without ``row`` each time of a call is
        one sample, without ``count`` each sample stands for itself.

    Returns
    -------
    Array, StatBatch
        The calls in the order of their first rows, and the series of each.

    Raises
    ------
    SeriesError
        For what no series can hold, and for samples that contradict themselves.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0, 0], {"x": [2**64 - 1, None], "y": [1, 2]}), StatSeries([], {})])
    >>> calls, same = read_long(write_long(batch, ["a", "b"]))
    >>> calls.to_pylist(), same == batch
    (['a', 'b'], True)
    """
    with needs("adapters.arrow.read_long", "pyarrow", "arrow"):
        import pyarrow as pa
    table = arrow_of(table)
    if isinstance(table, pa.RecordBatchReader):
        table = table.read_all()
    if not isinstance(table, (pa.Table, pa.RecordBatch)):
        raise SeriesError(f"expected a table, got {type(table).__name__}")
    for name in ("timestamp", "metric", "value"):
        if name not in table.schema.names:
            raise SeriesError(f"expected a column {name!r}: the table has {', '.join(map(repr, table.schema.names)) or 'none'}")
    series, calls = (
        _coded(table["call"], "encode") if "call" in table.schema.names else (np.zeros(len(table), np.int64), pa.array([0]))
    )
    sampled = ~one_array(table["timestamp"]).is_null().to_numpy(zero_copy_only=False)
    metrics, names = _coded(table["metric"])
    if (metrics[~sampled] >= 0).any():
        raise SeriesError("expected a time for each value: timestamp is null where metric is not")
    some = table.filter(pa.array(sampled))
    metrics, series_of = metrics[sampled], series[sampled]
    times, _ = _coerce.column(cells(some["timestamp"], "timestamps"), "timestamps", _coerce.TIME)
    rows = times if "row" not in some.schema.names else np.asarray(cells(some["row"], "row"))
    first, sample = _samples(series_of, rows)
    if (times != times[first][sample]).any():
        raise SeriesError("expected one time for each sample: rows of one call and row number differ")
    counts = None
    if "count" in some.schema.names:
        weights, _ = _coerce.column(cells(some["count"], "counts"), "counts", _coerce.COUNT)
        if (weights != weights[first][sample]).any():
            raise SeriesError("expected one count for each sample: rows of one call and row number differ")
        counts = weights[first]
    n, k = len(first), len(names)
    amounts, there = _coerce.column(cells(some["value"], "value"), "value", _coerce.METRIC)
    held = metrics >= 0 if there is None else (metrics >= 0) & there
    values, present = np.zeros((k, n), dtype=np.uint64), np.zeros((k, n), dtype=np.bool_)
    values[metrics[held], sample[held]] = amounts[held]
    present[metrics[held], sample[held]] = True
    if present.sum() != held.sum():
        raise SeriesError("expected one value for each metric of a sample: some have two")
    offsets = np.zeros(len(calls) + 1, dtype=np.int64)
    np.cumsum(np.bincount(series_of[first], minlength=len(calls)), out=offsets[1:])
    by_name = dict(zip(names.to_pylist(), values, strict=True))
    return calls, batch_of(times[first], by_name, counts, offsets, present=present)


def _batch(x: StatSeries | StatBatch) -> StatBatch:
    if isinstance(x, StatSeries):
        return StatBatch([x])
    if isinstance(x, StatBatch):
        return x
    raise TypeError(f"expected a StatSeries or a StatBatch, got {type(x).__name__}")


def _coded(column: Any, null: str = "mask") -> tuple[Counts, Any]:
    """The place of each value among the distinct ones in order of appearance, -1 for null unless it is encoded; and those."""
    import pyarrow as pa

    array = one_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    coded = array.dictionary_encode(null)
    return coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), coded.dictionary


def _samples(series: Counts, rows: Counts) -> tuple[Counts, Counts]:
    """Of each sample of each series, in order, the first table row of it; and the sample of each table row."""
    order = np.lexsort((rows, series))
    s, r = series[order], rows[order]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (s[1:] != s[:-1]) | (r[1:] != r[:-1])
    sample = np.empty(len(order), dtype=np.int64)
    sample[order] = np.cumsum(new) - 1
    return order[new], sample
