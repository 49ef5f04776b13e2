"""Growth from call to call: `leak_trend`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from callstats._types import AnyArray, Block
from callstats.stats.rightsize import MIB, Integers

MIN_CALLS = 40
MAX_P = 0.005
MAX_LAST_P = 0.1
MIN_GROWTH = 0.01
"""The smallest growth that counts, as a share of the median; it must also be 1 MiB."""

MAX_POINTS = 500
"""The slopes of all pairs of more points would take too much memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakTrend:
    """The trend of a value from call to call."""

    n: int
    s: int
    """Pairs of values that rise, less pairs that fall."""
    p: float | None
    """The probability of an `s` this high without a trend; None for fewer than two different values."""
    later_p: float | None
    """The same of the later half by itself."""
    last_p: float | None
    """The same of the last third."""
    slope: float | None
    """The median slope of all pairs, in units per call."""
    later_slope: float | None
    """The same of the later half."""
    growing: bool | None
    """Whether values grow; None below 40 values, which are too few to tell.

    All values and also the later half must grow: `p` below 0.005, and at least 1 % of the median and 1 MiB at that slope. The
    last third must still grow: `last_p` below 0.1."""


def leak_trend(values: Integers) -> LeakTrend:
    """Test whether memory grows from call to call, for instance the min memory of each call of a function.

    Parameters
    ----------
    values : (n,) int
        Bytes, from 0 to 2**64 - 1, in the order of the calls.

    Notes
    -----
    The test is Mann's (1945), "Nonparametric tests against trend", Econometrica 13: one-sided, with Kendall's variance for ties
    and his correction for continuity. It compares ranks only, so it is exact for all integers.

    Memory of one call often resembles that of the call before, which alone makes long rises. So the variance is multiplied by a
    factor for the autocorrelation of the ranks without their slope. The factor is that of Hamed and Rao (1998), "A modified
    Mann-Kendall trend test for autocorrelated data", Journal of Hydrology 204. Lags count up to the first without a positive
    correlation, as in the initial sequence of Geyer (1992), "Practical Markov chain Monte Carlo", Statistical Science 7.

    The later half must grow by itself, since a warm-up is no leak, and the last third too, since a great warm-up continues for
    long but slows down. A warm-up that is not over by a third of the calls can look like a leak, and so can a step up near the
    end.

    The slope is that of Theil (1950), "A rank-invariant method of linear and polynomial regression analysis", and Sen (1968),
    "Estimates of the regression coefficient based on Kendall's tau". Above 500 values it is the slope of the medians of blocks of
    consecutive values.

    Examples
    --------
    >>> found = leak_trend([2**30 + call * 2**20 + call % 2 for call in range(50)])
    >>> found.growing, found.slope, found.p < 1e-14
    (True, 1048576.0, True)
    >>> leak_trend([2**30 + call % 7 for call in range(50)]).growing
    False
    """
    array: Block = np.asarray(values, dtype=np.uint64)
    n = len(array)
    later = array[n // 2 :]
    s, p = _mann_kendall(array)
    _, later_p = _mann_kendall(later)
    _, last_p = _mann_kendall(array[n - n // 3 :])
    slope, later_slope = _median_slope(array), _median_slope(later)
    growing = None
    if n >= MIN_CALLS:
        floor = max(MIN_GROWTH * float(np.median(array)), MIB)
        growing = (last_p is not None and last_p < MAX_LAST_P) and all(
            probability is not None and probability < MAX_P and rate is not None and rate * (size - 1) >= floor
            for probability, rate, size in ((p, slope, n), (later_p, later_slope, len(later)))
        )
    return LeakTrend(n=n, s=s, p=p, later_p=later_p, last_p=last_p, slope=slope, later_slope=later_slope, growing=growing)


def _mann_kendall(values: Block) -> tuple[int, float | None]:
    """Return S, and the probability of an S this high without a trend."""
    n = len(values)
    _, ranks, sizes = np.unique(values, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return 0, None
    s = _concordance(ranks)
    # 18 times the variance is an integer.
    variance_18 = n * (n - 1) * (2 * n + 5) - sum(size * (size - 1) * (2 * size + 5) for size in sizes.tolist() if size > 1)
    twice_ranks = (2 * np.cumsum(sizes) - sizes).astype(np.uint64)[ranks]  # tied values share the middle of their ranks
    deviation = math.sqrt(variance_18 / 18 * _variance_factor(twice_ranks))
    return s, math.erfc((s - (s > 0) + (s < 0)) / deviation / math.sqrt(2)) / 2


def _concordance(ranks: AnyArray) -> int:
    """Return the number of pairs that rise less that of pairs that fall, bit by bit of the ranks from the highest.

    Two ranks differ first in one bit. There they are in the same group of equal higher bits, where order is kept.
    """
    s = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        is_one = ranks >> bit & 1
        starts = np.flatnonzero(np.diff(ranks >> (bit + 1), prepend=-1))
        sizes = np.diff(starts, append=len(ranks))
        ones = np.add.reduceat(is_one, starts)
        ones_before = np.cumsum(is_one) - is_one - np.repeat(np.cumsum(ones) - ones, sizes)
        zeros_before = np.arange(len(ranks)) - np.repeat(starts, sizes) - ones_before
        s += int((is_one * zeros_before).sum()) - int(((1 - is_one) * ones_before).sum())
        regrouped = np.empty_like(ranks)
        regrouped[np.repeat(starts, sizes) + np.where(is_one, np.repeat(sizes - ones, sizes) + ones_before, zeros_before)] = ranks
        ranks = regrouped
    return s


def _variance_factor(ranks: Block) -> float:
    """Return by how much autocorrelation raises the variance of S."""
    n = len(ranks)
    if n < 3:
        return 1.0
    rest = np.round(ranks.astype(np.float64) - (_median_slope(ranks) or 0.0) * np.arange(n), 6)  # ties stay ties
    correlation = positive_correlation(centred_ranks(rest))
    rest_after = n - np.arange(1.0, len(correlation) + 1)
    weights = rest_after * (rest_after - 1) * (rest_after - 2)
    return 1 + 2 * float(weights @ correlation) / (n * (n - 1) * (n - 2))


def centred_ranks(values: AnyArray) -> AnyArray:
    """Return the ranks of values less their mean; tied values share the middle of their ranks."""
    _, indexes, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks: AnyArray = (np.cumsum(sizes) - (sizes + len(values)) / 2)[indexes]
    return ranks


def positive_correlation(centred: AnyArray) -> AnyArray:
    """Return the correlation of values with those 1, 2, ... before, up to the first that is not positive."""
    n, total = len(centred), float(centred @ centred)
    if not total:
        return np.zeros(0)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * n)) ** 2)[1:n] / total
    return correlation[: np.argmax(np.r_[correlation <= 1e-9, True])]


def _median_slope(values: Block) -> float | None:
    """Return the median of the slopes of all pairs, in units per value."""
    if len(values) < 2:
        return None
    size = -(-len(values) // MAX_POINTS)
    points = len(values) // size
    blocks = values[len(values) - points * size :].reshape(points, size)
    middles = np.partition(blocks, (size - 1) // 2, axis=1)[:, (size - 1) // 2]
    first, second = np.triu_indices(points, 1)
    before, after = middles[first], middles[second]
    # The difference is taken before any rounding; unsigned, it does not wrap.
    rise = np.where(after < before, -(before - after).astype(np.float64), (after - before).astype(np.float64))
    return float(np.median(rise / (second - first))) / size
