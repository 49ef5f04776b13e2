"""Whether something grows from call to call: `leak_trend`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from callstats._extras import needs
from callstats._types import Block
from callstats.stats.rightsize import Whole

LEAST_CALLS = 20
LARGEST_P = 0.01
MOST_POINTS = 500
"""Slopes are taken of the pairs of so many values at most: those of more would not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakTrend:
    """How a value changes from call to call.

    Attributes
    ----------
    n : int
        Values.
    s : int
        By how many the pairs that rise outnumber those that fall.
    p : float or None
        The chance of an `s` at least as far from 0 in values without a trend; None for fewer than two values that differ.
    slope : float or None
        The median slope of all pairs, in units per call.
    growing : bool or None
        Whether there is an upward trend: p < 0.01 and a slope above 0. None, for can't tell, below 20 values.
    """

    n: int
    s: int
    p: float | None
    slope: float | None
    growing: bool | None


def leak_trend(values: Whole) -> LeakTrend:
    """Tell whether values grow in the order in which they come, such as the least memory of each call of a function.

    Parameters
    ----------
    values : (n,) int
        Whole numbers from 0 to 2**64 - 1, in the order of the calls.

    Returns
    -------
    LeakTrend

    Raises
    ------
    ImportError
        When SciPy is missing.

    Notes
    -----
    The test is that of Mann (1945), "Nonparametric tests against trend", with Kendall's variance for ties and his correction for
    continuity; two-sided. The slope is that of Theil (1950) and Sen (1968); of more than 500 values it is that of 500 spread
    evenly among them. SciPy counts the pairs, and takes the median of the slopes.

    Examples
    --------
    >>> found = leak_trend([100 + 3 * call + call % 2 for call in range(30)])
    >>> found.growing, found.slope, found.p < 1e-14
    (True, 3.0, True)
    """
    with needs("stats.leak_trend", "stats"):
        from scipy import stats
    cells: Block = np.asarray(values, dtype=np.uint64)
    n = len(cells)
    if n < 2:
        return LeakTrend(n=n, s=0, p=None, slope=None, growing=None)
    tied = [size for size in np.unique(cells, return_counts=True)[1].tolist() if size > 1]
    # Eighteen times the variance is a whole number, and so are the pairs that can rise or fall.
    spread = n * (n - 1) * (2 * n + 5) - sum(size * (size - 1) * (2 * size + 5) for size in tied)
    pairs = n * (n - 1) // 2
    s, p = 0, None
    if spread:
        tau = stats.kendalltau(np.arange(n), cells).statistic
        s = round(tau * math.sqrt(pairs * (pairs - sum(size * (size - 1) // 2 for size in tied))))
        p = float(2 * stats.norm.sf(max(abs(s) - 1, 0) / math.sqrt(spread / 18)))
    places = np.arange(n) if n <= MOST_POINTS else np.linspace(0, n - 1, MOST_POINTS).astype(np.int64)
    slope = float(stats.theilslopes((cells[places] - cells.min()).astype(np.float64), places).slope)
    growing = None if n < LEAST_CALLS else p is not None and p < LARGEST_P and slope > 0
    return LeakTrend(n=n, s=s, p=p, slope=slope, growing=growing)
