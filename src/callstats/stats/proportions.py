"""Shares of rows or calls, and how sure they are: `bernoulli`, intervals and bounds of the binomial distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from callstats._types import U64_MAX, AnyArray, Block
from callstats.errors import CallstatsError
from callstats.series import StatSeries

UNLIMITED = 2**63 - 4096
"""A limit of this many bytes or more means that there is none: the largest whole pages that int64 holds, or 2**64 - 1."""

CONFIDENCE = 0.95

Threshold: TypeAlias = "int | float | Fraction | tuple[float | Fraction, str]"

_Z = 1.959963984540054  # the normal distribution has 95 % within so many standard deviations
_LARGEST_PART = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """How often something was so: k times of n.

    Attributes
    ----------
    k : int
        In how many rows or calls it was so.
    n : int
        How many there are that tell.
    p : float or None
        ``k / n``. None, like the interval, where n is 0.
    low : float or None
        The lower end of the 95 % interval by Wilson (1927), "Probable inference, the law of succession, and statistical
        inference".
    high : float or None
        Its upper end.
    """

    k: int
    n: int
    p: float | None
    low: float | None
    high: float | None


def bernoulli(
    series: StatSeries, metric: str, *, at_least: Threshold | None = None, at_most: Threshold | None = None
) -> Bernoulli:
    """In how many of the rows that have a metric it reached a threshold.

    Parameters
    ----------
    series : StatSeries
    metric : str
        Of each row its ``metric@max`` (for `at_most` its ``metric@min``) is judged where it is kept. Rows aren't weighed by
        counts.
    at_least, at_most : number, or (share, metric)
        Exactly one of the two. With a share from 0 to 1 of another metric the threshold is each row's own, over the rows that
        have both; an unlimited limit (2**63 - 4096 or more) is never reached.

    Returns
    -------
    Bernoulli
        With the 95 % interval by Wilson.

    Raises
    ------
    CallstatsError
        Unless exactly one threshold is given, a number or a pair of this form.

    Examples
    --------
    >>> series = StatSeries([0, 1, 2, 3], {"mem_usage": [10, 95, 40, 97], "mem_limit": [100] * 4})
    >>> found = bernoulli(series, "mem_usage", at_least=(0.9, "mem_limit"))
    >>> found.k, found.n, found.p
    (2, 4, 0.5)
    """
    if not isinstance(series, StatSeries):
        raise TypeError(f"bernoulli takes a StatSeries, got {type(series).__name__}")
    if (at_least is None) == (at_most is None):
        raise CallstatsError("exactly one of at_least and at_most must be given")
    values, there = _peaks(series, metric, "max" if at_most is None else "min")
    threshold = at_least if at_most is None else at_most
    if isinstance(threshold, tuple):
        share, other = threshold
        limits, has_limit = _cells(series, other)
        there = there & has_limit
        values, limits = values[there], limits[there]
        part = _share(share)
        if at_most is None:
            reached = (values >= _parts(limits, part, up=True)) & (limits < UNLIMITED)
        else:
            reached = (values <= _parts(limits, part, up=False)) | (limits >= UNLIMITED)
    else:
        values = values[there]
        number = _number(threshold)
        bound = math.ceil(number) if at_most is None else math.floor(number)
        if not 0 <= bound <= U64_MAX:
            reached = np.full(len(values), (bound < 0) == (at_most is None))
        else:
            reached = values >= np.uint64(bound) if at_most is None else values <= np.uint64(bound)
    return wilson(int(np.count_nonzero(reached)), len(values))


def wilson(k: int, n: int) -> Bernoulli:
    """The share k of n with its 95 % interval."""
    if not n:
        return Bernoulli(k, n, None, None, None)
    p, by = k / n, 1 + _Z * _Z / n
    middle = (p + _Z * _Z / (2 * n)) / by
    half = _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n)) / by
    # At its ends the interval is exact, whatever rounding makes of it.
    low = 0.0 if k == 0 else min(max(middle - half, 0.0), p)
    high = 1.0 if k == n else max(min(middle + half, 1.0), p)
    return Bernoulli(k, n, p, low, high)


def at_most_chance(k: int, n: int, p: float) -> float:
    """The chance of k or fewer of n, each with chance p."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k >= n * p:  # the other tail is the shorter one
        return 1 - at_most_chance(n - k - 1, n, 1 - p)
    term = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p))
    odds, total = (1 - p) / p, term
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term <= total * 1e-17:
            break
    return min(total, 1.0)


def upper_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound for the chance behind k of n, by Clopper and Pearson (1934).

    Notes
    -----
    The chance at which k or fewer come up with ``1 - confidence``, by bisection: the same as a quantile of the beta distribution.
    From "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    if k >= n:
        return 1.0
    low, high = k / n, 1.0
    while low < (middle := (low + high) / 2) < high:
        if at_most_chance(k, n, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def most_allowed(n: int, risk: float, confidence: float = CONFIDENCE) -> int:
    """The largest k of n whose upper bound is within the risk; -1 when n is too small for any."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if at_most_chance(middle, n, risk) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def least_calls(risk: float, confidence: float = CONFIDENCE) -> int:
    """The least n of which 0 have an upper bound within the risk."""
    n = max(math.ceil(math.log(1 - confidence) / math.log1p(-risk)) - 1, 1)
    while most_allowed(n, risk, confidence) < 0:
        n += 1
    return n


def _peaks(series: StatSeries, metric: str, kept: str) -> tuple[Block, AnyArray]:
    """A metric's peak in each row, and which rows have the metric."""
    values, there = _cells(series, metric)
    peaks, has_peak = _cells(series, f"{metric}@{kept}")
    return np.where(has_peak, peaks, values), there


def _cells(series: StatSeries, metric: str) -> tuple[Block, AnyArray]:
    """A metric's values, 0 where it has none, and where it has one."""
    if metric not in series.names:
        return np.zeros(len(series), dtype=np.uint64), np.zeros(len(series), dtype=np.bool_)
    place = series.names.index(metric)
    there = np.ones(len(series), dtype=np.bool_) if series.present is None else series.present[place]
    return series.values[place], there


def _number(value: object) -> Fraction:
    """A threshold as the number that it is, to the bit."""
    if isinstance(value, (int, Fraction, np.integer)) and not isinstance(value, bool):
        return Fraction(value if isinstance(value, Fraction) else int(value))
    if isinstance(value, (float, np.floating)) and math.isfinite(value):
        return Fraction(float(value))
    raise CallstatsError(f"a threshold must be a finite number, or (share, metric), got {value!r}")


def _share(value: float | Fraction) -> Fraction:
    """A share as it is written: 0.9 is nine tenths."""
    try:
        share = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1 or share.denominator > _LARGEST_PART:
        raise CallstatsError(f"a share must be from 0 to 1, of at most 9 digits, got {value!r}")
    return share


def _parts(limits: Block, share: Fraction, *, up: bool) -> Block:
    """The share of each limit, rounded up or down; exact, since neither half of it passes 64 bits."""
    over, under = np.uint64(share.numerator), np.uint64(share.denominator)
    rest = limits % under * over
    return limits // under * over + (rest + (under - np.uint64(1) if up else np.uint64(0))) // under
