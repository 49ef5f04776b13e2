"""Functions on stored histograms for SQLite's SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from callstats._types import I64_MAX
from callstats.adapters import _sql_functions as _sql
from callstats.errors import CallstatsError, shorten_repr
from callstats.reduce import reduce_json


def register(connection: sqlite3.Connection) -> Callable[[], Exception | None]:
    """Give a connection the functions.

    ================================  ==========================================================================================
    ``stats_decimate(stats, n)``      reduced to at most n samples, as text or blob as it came
    ``stats_count(stats)``            how many rows there are
    ``stats_max(stats, metric)``      a metric's largest value, by its kept peaks where there are some
    ``stats_mean(stats, metric)``     its mean, weighed by counts
    ``stats_growth(stats, metric)``   by how much it grows, in units per second
    ``stats_valid(stats)``            1 where nothing refuses the histogram, else 0
    ``stats_error(stats)``            why a histogram is refused; NULL where it is not
    ================================  ==========================================================================================

    NULL gives NULL, and so does a metric that the histogram lacks.

    Parameters
    ----------
    connection : sqlite3.Connection

    Returns
    -------
    callable
        Gives the last error of a function of this connection, with its path, or None. A refused histogram ends the statement, and
        of the reason SQLite itself passes on only that a ``user-defined function raised exception``.

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
    function("stats_count", _sql.count, 1)
    function("stats_max", _largest, 2)
    function("stats_mean", _sql.mean, 2)
    function("stats_growth", _sql.growth, 2)
    function("stats_valid", _sql.is_valid, 1)
    function("stats_error", _sql.fault, 1)
    return lambda: last[0]


def _decimate(stats: object, n: object) -> str | bytes:
    if not isinstance(n, int):
        raise CallstatsError(f"stats_decimate takes a whole number of samples, got {shorten_repr(n)}")
    try:
        [result] = reduce_json([stats], n)
    except CallstatsError as error:
        error.args = (str(error).removeprefix("blobs[0]: "),)
        raise
    return result if isinstance(stats, bytes) else result.decode()


def _largest(stats: object, metric: str) -> int | None:
    found = _sql.peak(stats, metric)
    if found is not None and found > I64_MAX:
        raise CallstatsError(f"stats_max gives whole numbers up to {I64_MAX}, as SQLite has them, got {found}")
    return found
