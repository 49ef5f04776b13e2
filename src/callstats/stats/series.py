"""The statistics of one series: `summarize`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import overload

import numpy as np

from callstats import kernels
from callstats._columns import Columns
from callstats._json import as_bytes
from callstats._types import FN_COUNTERS, Block, Counts
from callstats.batch import StatBatch
from callstats.errors import CallstatsError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries

_NS_PER_SECOND = 10**9
_STAND_INS = ("min", "max", "first", "last")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a series says of one metric. ``Summary()`` is that of a metric without values: all None.

    Attributes
    ----------
    n : int
        Rows that have the metric.
    first : int or None
        The first value: the first row's ``x@first`` where it is kept.
    last : int or None
        The last value: the last row's ``x@last`` where it is kept.
    min : int or None
        The least value: of each row its ``x@min`` where it is kept, else its ``x``.
    max : int or None
        The largest value: of each row its ``x@max`` where it is kept, else its ``x``.
    mean : float or None
        Weighed by the rows' counts, and correctly rounded.
    median : int or None
        The floor of the mean of the middle two rows, or the middle row.
    p95 : int or None
        The value at place ``ceil(p * n / 100)`` of the rows in order of size, p being 95.
    p99 : int or None
        The same for 99.
    increase : int or None
        By how much a counter rose in all; a value below the one before is a reset to 0. None for what is no counter.
    growth : float or None
        Units per second: the slope of the least-squares line through the rows, of rows with one time the last. None for fewer
        than two times.
    exact : bool
        Whether `max`, or the `increase` of a counter, is that of the raw samples: each row stands for one sample, or keeps its
        ``x@max``, of a counter its ``x@first`` and ``x@last`` (then resets inside a row are still missed). A blob without counts
        is taken at its word: Fn's own reduced blobs have none.
    """

    n: int = 0
    first: int | None = None
    last: int | None = None
    min: int | None = None
    max: int | None = None
    mean: float | None = None
    median: int | None = None
    p95: int | None = None
    p99: int | None = None
    increase: int | None = None
    growth: float | None = None
    exact: bool = True


@overload
def summarize(x: StatSeries, *, counters: Iterable[str] = ...) -> dict[str, Summary]: ...
@overload
def summarize(x: StatBatch, *, counters: Iterable[str] = ...) -> list[dict[str, Summary]]: ...
def summarize(
    x: StatSeries | StatBatch, *, counters: Iterable[str] = FN_COUNTERS
) -> dict[str, Summary] | list[dict[str, Summary]]:
    """Statistics of each metric of a series, or of every series of a batch.

    Parameters
    ----------
    x : StatSeries or StatBatch
    counters : iterable of str
        The metrics that only rise; by default those of Fn's nine.

    Returns
    -------
    dict of str to Summary
        For each metric that the series has; ``x@max`` and the like enter that of ``x``. For a batch a list of them.

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
        raise CallstatsError(f"counters must be the names of metrics, got the text {counters!r}")
    rising = frozenset(counters)
    if isinstance(x, StatSeries):
        offsets = np.array([0, len(x)], dtype=np.int64)
        return next(_summaries(x._columns, offsets, rising))
    if not isinstance(x, StatBatch):
        raise TypeError(f"summarize takes a StatSeries or a StatBatch, got {type(x).__name__}")
    return list(_summaries(x._columns, x.offsets, rising))


def _summaries(columns: Columns, offsets: Counts, counters: frozenset[str]) -> Iterator[dict[str, Summary]]:
    """The summaries of each series of a batch."""
    metrics, plan = plan_of(columns.names)
    present = as_bytes(columns.present)
    totals = kernels.active.totals(columns.values, present, columns.counts, offsets, plan)
    moments = kernels.active.moments(columns.times, columns.values, present, offsets, plan[0])
    bounds = offsets.tolist()
    for i, (begin, end) in enumerate(pairwise(bounds)):
        ranks = _ranks(columns, plan[0], begin, end)
        every = zip(metrics, totals[:, i].tolist(), moments[:, i].tolist(), ranks, strict=True)
        yield {name: _summary(total, moment, rank, name in counters) for name, total, moment, rank in every if total[0]}


def _summary(total: list[int], moment: list[int], ranks: tuple[int, int, int], counter: bool) -> Summary:
    n, weight, first, last, least, most, sum_high, sum_low, risen_high, risen_low, _, whole_max, whole_ends = total
    median, p95, p99 = ranks
    return Summary(
        n=n,
        first=first,
        last=last,
        min=least,
        max=most,
        mean=(sum_high << 64 | sum_low) / weight,
        median=median,
        p95=p95,
        p99=p99,
        increase=risen_high << 64 | risen_low if counter else None,
        growth=growth_of(moment),
        exact=bool(whole_ends if counter else whole_max),
    )


def growth_of(moment: list[int]) -> float | None:
    """Units per second, of the sums that the kernel gives; the one rounding is that of the result."""
    n, t_high, t_low, x_high, x_low, *products = moment
    if n < 2:
        return None
    t, x = t_high << 64 | t_low, x_high << 64 | x_low
    tx, tt = (high << 128 | middle << 64 | low for high, middle, low in (products[:3], products[3:]))
    return (n * tx - t * x) * _NS_PER_SECOND / (n * tt - t * t)


@lru_cache(maxsize=256)
def plan_of(names: tuple[str, ...]) -> tuple[tuple[str, ...], Counts]:
    """The metrics that get a summary, and for each its place and those of its peaks, as the kernel takes them."""
    places = {name: place for place, name in enumerate(names)}
    metrics = tuple(name for name in names if parse_peak_name(name) is None)
    plan = [[places[name], *(places.get(f"{name}@{kept}", -1) for kept in _STAND_INS)] for name in metrics]
    return metrics, np.ascontiguousarray(np.array(plan, dtype=np.int64).reshape(len(metrics), 5).T)


def _ranks(columns: Columns, metrics: Counts, begin: int, end: int) -> list[tuple[int, int, int]]:
    """Median, 95th and 99th percentile of each metric of the series that lies there; zeros for one that it lacks."""
    if begin == end:
        return [(0, 0, 0)] * len(metrics)
    if columns.present is None:
        return _picked(columns.values[metrics, begin:end])
    ranks = []
    for metric in metrics.tolist():
        cells = columns.values[metric, begin:end][columns.present[metric, begin:end]]
        ranks += _picked(cells[np.newaxis]) if len(cells) else [(0, 0, 0)]
    return ranks


def _picked(cells: Block) -> list[tuple[int, int, int]]:
    """The same for each row of a block."""
    n = cells.shape[1]
    places = [(n - 1) // 2, n // 2, place_of(95, n), place_of(99, n)]
    ordered = np.partition(cells, sorted(set(places)), axis=1)[:, places].tolist()
    return [((low + high) // 2, p95, p99) for low, high, p95, p99 in ordered]


def place_of(percent: int, n: int) -> int:
    """Where the percentile of n >= 1 values in order stands, from 0."""
    return max((percent * n + 99) // 100 - 1, 0)
