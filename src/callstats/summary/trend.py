"""Whether something grows from call to call: `leak_trend`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from callstats._types import Block, Counts
from callstats.summary.sizing import Whole

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

    Notes
    -----
    The test is that of Mann (1945), "Nonparametric tests against trend", with Kendall's variance for ties and his correction for
    continuity; two-sided. The slope is that of Theil (1950) and Sen (1968); of more than 500 values it is that of 500 spread
    evenly among them. Time O(n log n) for the test.

    Examples
    --------
    >>> leak_trend([100 + 3 * call + call % 2 for call in range(30)])
    LeakTrend(n=30, s=435, p=9.709234566708501e-15, slope=3.0, growing=True)
    """
    cells: Block = np.asarray(values, dtype=np.uint64)
    n = len(cells)
    if n < 2:
        return LeakTrend(n=n, s=0, p=None, slope=None, growing=None)
    _, ranks, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    tied = [size for size in sizes.tolist() if size > 1]
    s = n * (n - 1) // 2 - sum(size * (size - 1) // 2 for size in tied) - 2 * _inversions(ranks.astype(np.int64))
    # Eighteen times the variance is a whole number.
    spread = n * (n - 1) * (2 * n + 5) - sum(size * (size - 1) * (2 * size + 5) for size in tied)
    p = math.erfc(max(abs(s) - 1, 0) / math.sqrt(spread / 18) / math.sqrt(2)) if spread else None
    slope = _slope(cells)
    growing = None if n < LEAST_CALLS else p is not None and p < LARGEST_P and slope > 0
    return LeakTrend(n=n, s=s, p=p, slope=slope, growing=growing)


def _inversions(ranks: Counts) -> int:
    """How many pairs stand in falling order: counted bit by bit, among values that are equal in all higher bits."""
    total = 0
    for bit in range(int(ranks.max()).bit_length() - 1, -1, -1):
        group, ones = ranks >> (bit + 1), ranks >> bit & 1
        # Ranks stand in the order of their groups, in each in the order of the values.
        before = np.cumsum(ones) - ones
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        before -= np.repeat(before[starts], np.diff(starts, append=len(ranks)))
        total += int(before[ones == 0].sum())
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return total


def _slope(cells: Block) -> float:
    """The median slope of all pairs."""
    places = np.arange(len(cells))
    if len(cells) > MOST_POINTS:
        places = np.linspace(0, len(cells) - 1, MOST_POINTS).astype(np.int64)
    values = (cells[places] - cells.min()).astype(np.float64)
    i, j = np.triu_indices(len(places), 1)
    return float(np.median((values[j] - values[i]) / (places[j] - places[i])))
