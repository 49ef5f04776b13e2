"""Series as polars frames with a column of times. `callstats.adapters.arrow.reduce` reduces the blobs of a polars column."""

from __future__ import annotations

from typing import Any

import numpy as np

from callstats._extras import needs
from callstats._types import AnyArray
from callstats.adapters._frames import columns_of, series_of
from callstats.series import StatSeries

with needs("adapters.polars", "polars"):
    import polars as pl


def read(frame: pl.DataFrame, *, timestamp: str = "timestamp", counts: str | None = "count") -> StatSeries:
    """Return the series of a frame with the columns that `callstats.adapters.arrow.read` takes. Times without a zone are UTC.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"x": [2**64 - 1, None]})
    >>> read(write(series)) == series
    True
    """
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"frame must be a DataFrame, got {type(frame).__name__}")
    return series_of({name: _cells(frame[name]) for name in frame.columns}, timestamp, counts, "frame")


def write(series: StatSeries, *, timestamp: str = "timestamp", counts: str | None = "count") -> pl.DataFrame:
    """Return the frame of a series, with the columns that `callstats.adapters.arrow.write` makes.

    Examples
    --------
    >>> write(StatSeries([0, 10**9], {"x": [7, None]}))["x"].to_list()
    [7, None]
    """
    columns: dict[str, Any] = {timestamp: pl.Series(series.timestamps).cast(pl.Datetime("ns", "UTC"))}
    for name, values, present in columns_of(series, timestamp=timestamp, counts=counts):
        columns[name] = pl.Series(values) if present is None else pl.Series(values).set(pl.Series(~present), None)
    return pl.DataFrame(columns)


def _cells(column: pl.Series) -> AnyArray:
    """Return a column as a numpy array, masked where a value is null. `StatSeries` checks the values."""
    if column.dtype == pl.Null:
        return np.ma.MaskedArray(np.zeros(len(column), np.uint64), mask=True)
    if not column.null_count() or isinstance(column.dtype, pl.Datetime):
        return np.asarray(column.to_numpy())
    return np.ma.MaskedArray(column.fill_null(strategy="zero").to_numpy(), mask=column.is_null().to_numpy())
