"""Growth from call to call: `leak_trend`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from callstats._extras import needs
from callstats._types import Block
from callstats.stats.rightsize import Integers

MIN_CALLS = 20
MAX_P = 0.01
MAX_POINTS = 500
"""The slopes of all pairs of more values would not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakTrend:
    """The trend of a value from call to call.

    Attributes
    ----------
    n, s : int
        Values, and pairs of them that rise, less those that fall.
    p : float or None
        The probability of an `s` at least as far from 0 without a trend; None for fewer than two different values.
    slope : float or None
        The median slope of all pairs, in units per call.
    growing : bool or None
        True for an upward trend: p < 0.01 and a slope above 0. None below 20 values, which are too few to tell.
    """

    n: int
    s: int
    p: float | None
    slope: float | None
    growing: bool | None


def leak_trend(values: Integers) -> LeakTrend:
    """Test whether values grow in their order, such as the min memory of each call of a function.

    Parameters
    ----------
    values : (n,) int
        Integers from 0 to 2**64 - 1, in the order of the calls.

    Returns
    -------
    LeakTrend

    Notes
    -----
    It needs the extra ``callstats[stats]``. The test is Mann's (1945), "Nonparametric tests against trend", Econometrica 13:
    two-sided, with Kendall's variance for ties and his correction for continuity. The slope is that of Theil (1950), "A
    rank-invariant method of linear and polynomial regression analysis", and Sen (1968), "Estimates of the regression coefficient
    based on Kendall's tau". Above 500 values it is the slope of 500 of them, evenly spaced.

    Examples
    --------
    >>> found = leak_trend([100 + 3 * call + call % 2 for call in range(30)])
    >>> found.growing, found.slope, found.p < 1e-14
    (True, 3.0, True)
    """
    with needs("stats.leak_trend", "stats"):
        from scipy import stats
    array: Block = np.asarray(values, dtype=np.uint64)
    n = len(array)
    if n < 2:
        return LeakTrend(n=n, s=0, p=None, slope=None, growing=None)
    _, ranks, sizes = np.unique(array, return_inverse=True, return_counts=True)  # SciPy compares floats, exact below 2**53
    tied = [size for size in sizes.tolist() if size > 1]
    # 18 times the variance is an integer.
    variance_18 = n * (n - 1) * (2 * n + 5) - sum(size * (size - 1) * (2 * size + 5) for size in tied)
    pairs = n * (n - 1) // 2
    s, p = 0, None
    if variance_18:
        tau = stats.kendalltau(np.arange(n), ranks).statistic
        s = round(tau * math.sqrt(pairs * (pairs - sum(size * (size - 1) // 2 for size in tied))))
        p = float(2 * stats.norm.sf(max(abs(s) - 1, 0) / math.sqrt(variance_18 / 18)))
    indexes = np.arange(n) if n <= MAX_POINTS else np.linspace(0, n - 1, MAX_POINTS).astype(np.int64)
    slope = float(stats.theilslopes((array[indexes] - array.min()).astype(np.float64), indexes).slope)
    growing = None if n < MIN_CALLS else p is not None and p < MAX_P and slope > 0
    return LeakTrend(n=n, s=s, p=p, slope=slope, growing=growing)
