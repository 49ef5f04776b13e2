"""Statistics of each metric of a series: `summarize`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np

from callstats import kernels
from callstats._columns import Columns
from callstats._json import as_bytes
from callstats._types import FN_COUNTERS, Counts
from callstats.batch import StatBatch
from callstats.errors import ArgumentError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries

_NS_PER_SECOND = 10**9
_PEAKS = ("min", "max", "first", "last")
"""The order of the peaks in a plan of the totals kernel."""


class Summary(NamedTuple):
    """Statistics of one metric of a series. ``Summary()`` is that of a metric without values: all None.

    `exact` covers `max` and `increase` alone. The other statistics are of the rows, whatever a row stands for.
    """

    n: int = 0
    """Rows that have the metric."""
    first: int | None = None
    """The first value, by the rows' own ``x@first`` where they are kept; so are `last`, `min` and `max` by their peaks."""
    last: int | None = None
    min: int | None = None
    max: int | None = None
    mean: float | None = None
    """Weighted by counts, and correctly rounded."""
    median: int | None = None
    """The middle value of the rows, or the floor of the mean of the middle two."""
    p95: int | None = None
    """Element ``ceil(p * n / 100)`` of the sorted values, where p is 95; so is `p99`."""
    p99: int | None = None
    increase: int | None = None
    """The total increase of a counter from the first row on, where a value below the one before is a reset to 0. None for other
    metrics. A counter that is a sum over interfaces falls when one of them goes away, which looks like a reset."""
    growth: float | None = None
    """The slope of the linear regression over the rows, in units per second. Of rows with the same time the last counts. None for
    fewer than two times."""
    exact: bool = True
    """Whether `max`, or the `increase` of a counter, is that of the raw samples: each row stands for one sample or has ``x@max``,
    for a counter ``x@first`` and ``x@last`` (resets inside a row are still missed). Rows without counts are taken for single
    samples, although Fn's own reduced blobs have none."""


@overload
def summarize(x: StatSeries, *, counters: Iterable[str] = ...) -> dict[str, Summary]: ...
@overload
def summarize(x: StatBatch, *, counters: Iterable[str] = ...) -> list[dict[str, Summary]]: ...
def summarize(
    x: StatSeries | StatBatch, *, counters: Iterable[str] = FN_COUNTERS
) -> dict[str, Summary] | list[dict[str, Summary]]:
    """Compute statistics of each metric of a series, or of each series of a batch.

    Parameters
    ----------
    x : StatSeries or StatBatch
    counters : iterable of str
        The metrics that only rise; by default Fn's four.

    Returns
    -------
    dict of str to Summary
        One for each metric of the series; ``x@max`` and other peaks are part of that of ``x``. A list of these for a batch.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> series = StatSeries([0, 10**9, 2 * 10**9], {"mem_usage": [10, 30, 50], "net_rx": [100, 110, 5]})
    >>> memory = summarize(series)["mem_usage"]
    >>> memory.max, memory.mean, memory.growth
    (50, 30.0, 20.0)
    >>> summarize(series)["net_rx"].increase
    15
    """
    if isinstance(counters, str):
        raise ArgumentError("counters", "a collection of metric names", counters)
    rising = frozenset(counters)
    if isinstance(x, StatSeries):
        offsets = np.array([0, len(x)], dtype=np.int64)
        return next(_summaries(x._columns, offsets, rising))
    if not isinstance(x, StatBatch):
        raise TypeError(f"x must be a StatSeries or a StatBatch, got {type(x).__name__}")
    return list(_summaries(x._columns, x.offsets, rising))


def _summaries(columns: Columns, offsets: Counts, counters: frozenset[str]) -> Iterator[dict[str, Summary]]:
    metrics, plan = totals_plan(columns.names)
    present = as_bytes(columns.present)
    found = (
        kernels.active.totals(columns.values, present, columns.counts, offsets, plan),
        kernels.active.moments(columns.times, columns.values, present, offsets, plan[0]),
        kernels.active.ranks(columns.values, present, offsets, plan[0]),
    )
    for of_series in zip(*(words.swapaxes(0, 1).tolist() for words in found), strict=True):
        every = zip(metrics, *of_series, strict=True)
        yield {name: _summary(total, moment, ranks, name in counters) for name, total, moment, ranks in every if total[0]}


def _summary(total: list[int], moment: list[int], ranks: list[int], counter: bool) -> Summary:
    n, weight, first, last, low, high, sum_high, sum_low, rise_high, rise_low, _, max_is_exact, ends_are_exact = total
    median, p95, p99 = ranks
    mean = (sum_high << 64 | sum_low) / weight
    increase = rise_high << 64 | rise_low if counter else None
    exact = ends_are_exact == 1 if counter else max_is_exact == 1
    return Summary(n, first, last, low, high, mean, median, p95, p99, increase, slope_of(moment), exact)


def slope_of(moment: list[int]) -> float | None:
    """Return units per second from the exact moments of a kernel; only the result is rounded."""
    n, t2, t1, x2, x1, tx3, tx2, tx1, tt3, tt2, tt1 = moment
    if n < 2:
        return None
    t, x, tx, tt = t2 << 64 | t1, x2 << 64 | x1, tx3 << 128 | tx2 << 64 | tx1, tt3 << 128 | tt2 << 64 | tt1
    return (n * tx - t * x) * _NS_PER_SECOND / (n * tt - t * t)


@lru_cache(maxsize=256)
def totals_plan(names: tuple[str, ...]) -> tuple[tuple[str, ...], Counts]:
    """Return the metrics that get a summary, and the (5, k) indexes of each and of its peaks for the totals kernel."""
    indexes = {name: index for index, name in enumerate(names)}
    metrics = tuple(name for name in names if parse_peak_name(name) is None)
    plan = [plan_column(name, indexes) for name in metrics]
    return metrics, np.ascontiguousarray(np.array(plan, dtype=np.int64).reshape(len(metrics), 5).T)


def plan_column(name: str, indexes: Mapping[str, int]) -> list[int]:
    """Return the indexes of a metric and of its peaks, -1 for absent ones."""
    return [indexes.get(name, -1), *(indexes.get(f"{name}@{peak}", -1) for peak in _PEAKS)]
