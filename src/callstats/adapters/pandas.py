"""Series from pandas frames with an index of times. `StatSeries.to_pandas` is the way back."""

from __future__ import annotations

import numpy as np

from callstats._extras import needs
from callstats._types import AnyArray
from callstats.errors import SeriesError
from callstats.series import StatSeries

with needs("adapters.pandas", "pandas"):
    import pandas as pd


def read(frame: pd.DataFrame, *, counts: str | None = "count") -> StatSeries:
    """Return the series of a frame, as `callstats.adapters.arrow.read` does of a table.

    Parameters
    ----------
    frame : DataFrame
        Its index has the times, of any unit and zone (without a zone they are UTC), or whole nanoseconds. Each column is a
        metric of whole numbers. A value that is missing in pandas (NA, NaN, None) is absent.
    counts : str or None
        The column with the number of raw samples of each row, if there is one; None reads every column as a metric.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"x": [2**64 - 1, None]})
    >>> read(series.to_pandas()) == series
    True
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame must be a DataFrame, got {type(frame).__name__}")
    if not frame.columns.is_unique:
        raise SeriesError(f"frame must have distinct column names, got {', '.join(map(repr, frame.columns))}")
    metrics = {name: _cells(frame[name]) for name in frame.columns}
    weights = None if counts is None else metrics.pop(counts, None)
    return StatSeries(frame.index, metrics, counts=weights)


def _cells(column: pd.Series) -> AnyArray | list[object]:
    """Return a column as a numpy array, masked where a value is missing. `StatSeries` checks the values."""
    missing = column.isna().to_numpy(dtype=np.bool_)
    if column.dtype == object:
        return [None if absent else cell for cell, absent in zip(column, missing, strict=True)]
    if not missing.any():
        return np.asarray(column.to_numpy())
    return np.ma.MaskedArray(column.fillna(0).to_numpy(), mask=missing)
