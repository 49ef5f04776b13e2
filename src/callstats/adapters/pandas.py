"""Series as pandas frames with an index of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from callstats._types import AnyArray
from callstats.adapters._optional import needs
from callstats.errors import SeriesError
from callstats.series import StatSeries

if TYPE_CHECKING:
    import pandas as pd

TIMESTAMP = "timestamp"


def read(frame: pd.DataFrame, *, counts: str | None = "count") -> StatSeries:
    """A series from a frame with an index of times.

    Parameters
    ----------
    frame : DataFrame
        Indexed by times of any unit and zone (without one they are UTC), or by whole nanoseconds. Each column is a metric of
        whole numbers; what pandas takes for missing (NA, NaN, None) is absent.
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
    with needs("adapters.pandas.read", "pandas", "pandas"):
        import pandas as pd
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"pandas.read takes a DataFrame, got {type(frame).__name__}")
    if not frame.columns.is_unique:
        raise SeriesError(f"expected columns with names of their own, got {', '.join(map(repr, frame.columns))}")
    metrics = {name: _cells(frame[name]) for name in frame.columns}
    weights = None if counts is None else metrics.pop(counts, None)
    return StatSeries(frame.index, metrics, counts=weights)


def write(series: StatSeries, *, counts: str | None = "count") -> pd.DataFrame:
    """A series as a frame: an index of times, nanoseconds and UTC, and a column of nullable UInt64 for each metric.

    Parameters
    ----------
    series : StatSeries
    counts : str or None
        The column for counts, written where some row stands for more than one sample; None leaves them out.

    Returns
    -------
    DataFrame

    Raises
    ------
    SeriesError
        When a metric has the name of that column.

    Examples
    --------
    >>> write(StatSeries([0, 10**9], {"x": [1, None]}))["x"].tolist()
    [1, <NA>]
    """
    with needs("adapters.pandas.write", "pandas", "pandas"):
        import pandas as pd
    if counts in series.names:
        raise SeriesError(f"the column {counts!r} would stand for a metric and for the counts: name it by counts=")
    present = series.present
    columns: dict[str, Any] = {}
    for j, name in enumerate(series.names):
        mask = np.zeros(len(series), np.bool_) if present is None else ~present[j]
        columns[name] = pd.arrays.IntegerArray(series.values[j].copy(), mask)
    if counts is not None and len(series) and series.counts.max() > 1:
        columns[counts] = series.counts.copy()
    index = pd.DatetimeIndex(series.timestamps.view("M8[ns]"), tz="UTC", name=TIMESTAMP)
    return pd.DataFrame(columns, index=index)


def _cells(column: pd.Series) -> AnyArray | list[object]:
    """A column as numpy has it, masked where missing; whether these are whole numbers, a series knows."""
    missing = column.isna().to_numpy(dtype=np.bool_)
    if column.dtype == object:
        return [None if gone else cell for cell, gone in zip(column, missing, strict=True)]
    if not missing.any():
        return np.asarray(column.to_numpy())
    return np.ma.MaskedArray(column.fillna(0).to_numpy(), mask=missing)
