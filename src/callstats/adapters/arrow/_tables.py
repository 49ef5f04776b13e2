"""Columns of numbers and times between Arrow and series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from callstats import _coerce
from callstats._columns import Columns, validate_order, validate_totals
from callstats._types import AnyArray, Counts, Present
from callstats.adapters.arrow._text import one_array
from callstats.batch import StatBatch
from callstats.errors import SeriesError
from callstats.series import StatSeries


def cells(column: Any, where: str) -> AnyArray:
    """An Arrow column as numpy has it, masked where null; whether these are whole numbers or times, a series knows."""
    import pyarrow as pa

    column = one_array(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return np.ma.MaskedArray(np.zeros(len(column), np.uint64), mask=True)
    if pa.types.is_timestamp(kind):
        return np.asarray(column.cast(pa.timestamp(kind.unit)).to_numpy(zero_copy_only=False))
    if pa.types.is_decimal(kind):
        try:
            column = column.cast(pa.uint64())
        except pa.ArrowInvalid:
            raise SeriesError(f"{where} must be whole numbers from 0 to {2**64 - 1}, got an Arrow array of {kind}") from None
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise SeriesError(f"{where} must be whole numbers, got an Arrow array of {kind}")
    if not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    there = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))
    return np.ma.MaskedArray(there, mask=column.is_null().to_numpy(zero_copy_only=False))


def times_array(times: Counts) -> Any:
    """Nanoseconds, UTC, as Arrow has them."""
    import pyarrow as pa

    return pa.array(times).view(pa.timestamp("ns", "UTC"))


def metric_array(values: AnyArray, present: Present | None) -> Any:
    """The values of one metric, null where absent."""
    import pyarrow as pa

    return pa.array(values) if present is None else pa.array(values, mask=~present)


def series_of_columns(columns: Mapping[str, Any], timestamp: str, counts: str | None) -> StatSeries:
    """A series from the named columns of a table."""
    metrics = dict(columns)
    if timestamp not in metrics:
        raise SeriesError(f"expected a column {timestamp!r} of times: the table has {', '.join(map(repr, columns)) or 'none'}")
    times = cells(metrics.pop(timestamp), repr(timestamp))
    weights = None if counts is None or counts not in metrics else cells(metrics.pop(counts), repr(counts))
    return StatSeries(times, {name: cells(metrics[name], repr(name)) for name in metrics}, counts=weights)


def table_columns(series: StatSeries, timestamp: str, counts: str | None) -> dict[str, Any]:
    """The named columns of a table that is a series."""
    import pyarrow as pa

    refuse_taken(series.names, timestamp, counts)
    columns = {timestamp: times_array(series.timestamps)}
    present = series.present
    for j, name in enumerate(series.names):
        columns[name] = metric_array(series.values[j], None if present is None else present[j])
    if counts is not None and len(series) and series.counts.max() > 1:
        columns[counts] = pa.array(series.counts)
    return columns


def refuse_taken(names: tuple[str, ...], timestamp: str, counts: str | None) -> None:
    """Refuse a metric that has the name of another column."""
    for taken, option in ((timestamp, "timestamp"), (counts, "counts")):
        if taken in names:
            raise SeriesError(f"the column {taken!r} would stand for a metric and for the {option}: name it by {option}=")


def batch_of(
    times: object, metrics: Mapping[str, object], counts: object, offsets: Counts, *, present: Present | None = None
) -> StatBatch:
    """A batch from columns of all its series one after another, checked as a series checks its own.

    `present`, if given, has a row for each metric in the order of `metrics`.
    """
    stamps, _ = _coerce.column(times, "timestamps", _coerce.TIME)
    n = len(stamps)
    names = tuple(sorted(metrics))
    values = np.zeros((len(names), n), dtype=np.uint64)
    held = np.ones(values.shape, dtype=np.bool_)
    places = {name: place for place, name in enumerate(metrics)}
    for j, name in enumerate(names):
        values[j], there = _coerce.column(metrics[name], f"metrics[{name!r}]", _coerce.METRIC)
        if there is not None:
            held[j] = there
        if present is not None:
            held[j] &= present[places[name]]
            values[j][~held[j]] = 0
    validate_order(stamps, offsets)
    weights = None
    if counts is not None:
        weights, _ = _coerce.column(counts, "counts", _coerce.COUNT)
        validate_totals(weights, offsets.tolist())
    return StatBatch._of(Columns(names, stamps, values, None if held.all() else held, weights), offsets)
