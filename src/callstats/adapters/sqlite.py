"""Functions on stored blobs for SQLite's SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from callstats._types import I64_MAX, AnyArray, Present
from callstats.batch import StatBatch
from callstats.errors import ArgumentError, CallstatsError, SeriesError
from callstats.reduce import reduce_json
from callstats.series import StatSeries
from callstats.stats import batch as batches


def register(connection: sqlite3.Connection) -> Callable[[], Exception | None]:
    """Register the functions on a connection.

    ================================  ==========================================================================================
    ``stats_decimate(stats, n)``      the blob, reduced to at most n samples.
    ``stats_count(stats)``            the number of rows.
    ``stats_max(stats, metric)``      the max of a metric, by its kept peaks where it has some.
    ``stats_mean(stats, metric)``     the mean of a metric, weighted by counts.
    ``stats_growth(stats, metric)``   the growth of a metric, in units per second.
    ``stats_valid(stats)``            1 where the blob is valid, else 0.
    ``stats_error(stats)``            the reason why the blob is not valid, else NULL.
    ================================  ==========================================================================================

    NULL gives NULL, and so does a metric that the blob does not have. A blob is TEXT or BLOB.

    A rejected blob ends the statement, and SQLite itself reports only that a ``user-defined function raised exception``. So the
    result is a function that returns the last error of this connection's functions, with its path, or None.

    Examples
    --------
    >>> connection = sqlite3.connect(":memory:")
    >>> last_error = register(connection)
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"mem_usage":7}}]'
    >>> connection.execute("SELECT stats_max(?, 'mem_usage'), stats_max(NULL, 'mem_usage')", [blob]).fetchone()
    (7, None)
    >>> connection.close()
    """
    last: list[Exception | None] = [None]

    def function(name: str, work: Callable[..., Any], arguments: int) -> None:
        def called(*values: Any) -> Any:
            if None in values:
                return None
            try:
                return work(*values)
            except Exception as error:
                last[0] = error
                raise

        connection.create_function(name, arguments, called, deterministic=True)

    function("stats_decimate", _decimate, 2)
    function("stats_count", lambda stats: len(StatSeries.from_json(stats)), 1)
    function("stats_max", _max, 2)
    function("stats_mean", partial(_metric_value, batches.means), 2)
    function("stats_growth", partial(_metric_value, batches.growths), 2)
    function("stats_valid", lambda stats: _error(stats) is None, 1)
    function("stats_error", _error, 1)
    return lambda: last[0]


def _decimate(stats: object, n: object) -> str | bytes:
    if not isinstance(n, int):
        raise ArgumentError("n", "a whole number", n)
    [result] = reduce_json([stats], n, errors="return")
    if isinstance(result, CallstatsError):
        raise result
    return result if isinstance(stats, bytes) else result.decode()


def _metric_value(values_of: Callable[[StatBatch, str], tuple[AnyArray, Present]], stats: object, metric: str) -> Any:
    series = StatSeries.from_json(stats)
    [value], [present] = values_of(StatBatch._of(series._columns, np.array([0, len(series)])), metric)
    return value.item() if present else None


def _max(stats: object, metric: str) -> Any:
    found = _metric_value(batches.peaks, stats, metric)
    if found is not None and found > I64_MAX:
        raise SeriesError(f"the result of stats_max must be at most {I64_MAX}, the largest integer of SQLite, got {found}")
    return found


def _error(stats: object) -> str | None:
    try:
        StatSeries.from_json(stats)
    except CallstatsError as error:
        return str(error)
    return None
