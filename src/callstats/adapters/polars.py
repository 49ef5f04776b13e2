"""Series as polars frames with a column of times.

Stored histograms in a polars column are reduced by `callstats.adapters.arrow.reduce`, with the Arrow buffers that polars has::

    frame.with_columns(pl.col("stats").map_batches(lambda column: pl.Series(reduce(column, 60)), return_dtype=pl.String))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from callstats._types import AnyArray
from callstats.adapters._optional import needs
from callstats.adapters.arrow._tables import refuse_taken
from callstats.errors import SeriesError
from callstats.series import StatSeries

if TYPE_CHECKING:
    import polars as pl


def read(frame: pl.DataFrame, *, timestamp: str = "timestamp", counts: str | None = "count") -> StatSeries:
    """A series from a frame with a row for each sample.

    Parameters
    ----------
    frame : DataFrame
        A column of times of any unit and zone (without one they are UTC), or of whole nanoseconds, and one of whole numbers for
        each metric; null is absent.
    timestamp : str
        The column of times.
    counts : str or None
        The column that says how many raw samples each row stands for, if there is one; None takes every column for a metric.

    Returns
    -------
    StatSeries

    Raises
    ------
    SeriesError
        For anything that would not convert without losing a bit.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"x": [2**64 - 1, None]})
    >>> read(write(series)) == series
    True
    """
    with needs("adapters.polars.read", "polars", "polars"):
        import polars as pl
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"polars.read takes a DataFrame, got {type(frame).__name__}")
    if timestamp not in frame.columns:
        raise SeriesError(
            f"expected a column {timestamp!r} of times: the frame has {', '.join(map(repr, frame.columns)) or 'none'}"
        )
    metrics = {name: _cells(frame[name]) for name in frame.columns}
    times = metrics.pop(timestamp)
    weights = None if counts is None else metrics.pop(counts, None)
    return StatSeries(times, metrics, counts=weights)


def write(series: StatSeries, *, timestamp: str = "timestamp", counts: str | None = "count") -> pl.DataFrame:
    """A series as a frame: a column of times, nanoseconds and UTC, and one of UInt64 for each metric, null where absent.

    Parameters
    ----------
    series : StatSeries
    timestamp : str
        The column of times.
    counts : str or None
        The column for counts, written where some row stands for more than one sample; None leaves them out.

    Returns
    -------
    DataFrame

    Raises
    ------
    SeriesError
        When a metric has the name of one of those columns.

    Examples
    --------
    >>> write(StatSeries([0, 10**9], {"x": [7, None]}))["x"].to_list()
    [7, None]
    """
    with needs("adapters.polars.write", "polars", "polars"):
        import polars as pl
    refuse_taken(series.names, timestamp, counts)
    columns: dict[str, Any] = {timestamp: pl.Series(series.timestamps).cast(pl.Datetime("ns", "UTC"))}
    for j, name in enumerate(series.names):
        cells = pl.Series(series.values[j])
        columns[name] = cells if series.present is None else cells.set(pl.Series(~series.present[j]), None)
    if counts is not None and len(series) and series.counts.max() > 1:
        columns[counts] = pl.Series(series.counts)
    return pl.DataFrame(columns)


def _cells(column: pl.Series) -> AnyArray:
    """A column as numpy has it, masked where null; whether these are whole numbers or times, a series knows."""
    import polars as pl

    if column.dtype == pl.Null:
        return np.ma.MaskedArray(np.zeros(len(column), np.uint64), mask=True)
    if not column.null_count() or isinstance(column.dtype, pl.Datetime):
        return np.asarray(column.to_numpy())
    return np.ma.MaskedArray(column.fill_null(strategy="zero").to_numpy(), mask=column.is_null().to_numpy())
