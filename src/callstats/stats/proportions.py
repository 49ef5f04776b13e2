"""Shares of rows or calls with their confidence intervals: `bernoulli`, and bounds of the binomial distribution."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast, overload

import numpy as np

from callstats._types import U64_MAX, AnyArray, Block
from callstats.batch import StatBatch
from callstats.errors import ArgumentError
from callstats.series import StatSeries

UNLIMITED = 2**63 - 4096
"""A limit of this many bytes or more means unlimited: the kernel reports the most whole pages within int64, or 2**64 - 1."""

CONFIDENCE = 0.95

Threshold: TypeAlias = "int | float | Fraction | tuple[float | Fraction, str]"

_Z = 1.959963984540054  # 95 % of the normal distribution lie within this many standard deviations
_MAX_DENOMINATOR = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """A share k of n with its 95 % interval."""

    k: int
    """Rows or calls that met the condition."""
    n: int
    """Rows or calls that were compared with it."""
    p: float | None
    """``k / n``; None, like the interval, where n is 0."""
    low: float | None
    """The low end of the 95 % interval by Wilson (1927); `high` is the high one."""
    high: float | None


@overload
def bernoulli(x: StatSeries, metric: str, *, at_least: Threshold | None = ..., at_most: Threshold | None = ...) -> Bernoulli: ...
@overload
def bernoulli(
    x: StatBatch, metric: str, *, at_least: Threshold | None = ..., at_most: Threshold | None = ...
) -> list[Bernoulli]: ...
def bernoulli(
    x: StatSeries | StatBatch, metric: str, *, at_least: Threshold | None = None, at_most: Threshold | None = None
) -> Bernoulli | list[Bernoulli]:
    """Count the rows where a metric reached a threshold, in a series or in each series of a batch.

    Parameters
    ----------
    x : StatSeries or StatBatch
        A batch gives a list, with one for each series.
    metric : str
        Where a row has ``metric@max`` (for `at_most` ``metric@min``), that one counts in its place, or without it. Each row
        counts once.
    at_least, at_most : number, or (share, metric)
        Exactly one of the two. A pair gives each row its own threshold: a share from 0 to 1 of another metric. Only rows with
        both metrics count then, and 2**63 - 4096 or more is unlimited and never reached.

    Returns
    -------
    Bernoulli
        The share of the rows that have the metric. A list of these for a batch.

    Examples
    --------
    >>> series = StatSeries([0, 1, 2, 3], {"mem_usage": [10, 95, 40, 97], "mem_limit": [100] * 4})
    >>> found = bernoulli(series, "mem_usage", at_least=(0.9, "mem_limit"))
    >>> found.k, found.n, found.p
    (2, 4, 0.5)
    """
    if not isinstance(x, (StatSeries, StatBatch)):
        raise TypeError(f"x must be a StatSeries or a StatBatch, got {type(x).__name__}")
    if (at_least is None) == (at_most is None):
        raise ArgumentError("at_most", "given exactly where at_least is not", at_most, hint="give at_least or at_most")
    where, threshold = ("at_least", at_least) if at_most is None else ("at_most", at_most)
    reached, present = _reached(x, metric, where, cast("Threshold", threshold))
    if isinstance(x, StatSeries):
        return wilson(int(np.count_nonzero(reached)), int(np.count_nonzero(present)))
    ks, ns = (np.diff(np.r_[0, np.cumsum(mask)][x.offsets]).tolist() for mask in (reached, present))
    return [wilson(k, n) for k, n in zip(ks, ns, strict=True)]


def _reached(x: StatSeries | StatBatch, metric: str, where: str, threshold: Threshold) -> tuple[AnyArray, AnyArray]:
    """Return which rows reached the threshold, and which were compared with it."""
    values, present = _values_of(x, metric)
    peaks, has_peak = _values_of(x, f"{metric}@{'max' if where == 'at_least' else 'min'}")
    values, present = np.where(has_peak, peaks, values), present | has_peak
    if isinstance(threshold, tuple):
        share, other = threshold
        limits, has_limit = _values_of(x, other)
        present = present & has_limit
        exact_share = _share(f"{where}[0]", share)
        if where == "at_least":
            reached = (values >= _scaled(limits, exact_share, up=True)) & (limits < UNLIMITED)
        else:
            reached = (values <= _scaled(limits, exact_share, up=False)) | (limits >= UNLIMITED)
        return reached & present, present
    number = _number(where, threshold)
    if where == "at_least":
        bound = math.ceil(number)
        return present & (values >= np.uint64(max(bound, 0)) if bound <= U64_MAX else False), present
    bound = math.floor(number)
    return present & (values <= np.uint64(min(bound, U64_MAX)) if bound >= 0 else False), present


def wilson(k: int, n: int) -> Bernoulli:
    # "Probable inference, the law of succession, and statistical inference", Journal of the American Statistical Association 22.
    if not n:
        return Bernoulli(k, n, None, None, None)
    return Bernoulli(k, n, k / n, *wilson_interval(k / n, n))


def wilson_interval(p: float, n: float, z: float = _Z) -> tuple[float, float]:
    """Return the ends of the interval that is z standard deviations wide to each side."""
    scale = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # Rounding must not move the ends away from 0, p and 1.
    return 0.0 if p == 0 else min(max(middle - half, 0.0), p), 1.0 if p == 1 else max(min(middle + half, 1.0), p)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return the probability of k or fewer successes in n trials, each with probability p."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k >= n * p:  # the other tail has fewer terms
        return 1 - binomial_cdf(n - k - 1, n, 1 - p)
    term = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p))
    odds, total = (1 - p) / p, term
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term <= total * 1e-17:
            break
    return min(total, 1.0)


def upper_bound(k: int, n: int) -> float:
    """Return the one-sided upper bound of Clopper and Pearson: where k or fewer of n have the probability 1 - CONFIDENCE."""
    # "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934).
    if k >= n:
        return 1.0
    low, high = k / n, 1.0
    while low < (middle := (low + high) / 2) < high:
        if binomial_cdf(k, n, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def max_exceedances(n: int, risk: float) -> int:
    """Return the largest k of n whose upper bound is within the risk; -1 when n is too small for any."""
    return bisect_right(range(n), 1 - CONFIDENCE, key=lambda k: binomial_cdf(k, n, risk)) - 1


def min_calls(risk: float) -> int:
    """Return the smallest n for which 0 of n has an upper bound within the risk."""
    n = max(math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-risk)) - 1, 1)
    while max_exceedances(n, risk) < 0:
        n += 1
    return n


def _values_of(series: StatSeries | StatBatch, metric: str) -> tuple[Block, AnyArray]:
    """Return a metric's values, 0 where absent, and a mask of the present ones."""
    rows = len(series.timestamps)
    if metric not in series.names:
        return np.zeros(rows, dtype=np.uint64), np.zeros(rows, dtype=np.bool_)
    index = series.names.index(metric)
    return series.values[index], np.ones(rows, dtype=np.bool_) if series.present is None else series.present[index]


def _number(where: str, value: object) -> Fraction:
    if isinstance(value, (int, Fraction, np.integer)) and not isinstance(value, bool):
        return Fraction(value if isinstance(value, Fraction) else int(value))
    if isinstance(value, (float, np.floating)) and math.isfinite(value):
        return Fraction(float(value))
    raise ArgumentError(where, "a finite number or (share, metric)", value)


def _share(where: str, value: float | Fraction) -> Fraction:
    """Return a share as it is written: 0.9 is nine tenths."""
    try:
        share = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1 or share.denominator > _MAX_DENOMINATOR:
        raise ArgumentError(where, "a share from 0 to 1 of at most 9 digits", value)
    return share


def _scaled(limits: Block, share: Fraction, *, up: bool) -> Block:
    """Return the share of each limit, rounded up or down. Quotient and remainder are scaled apart, so that 64 bits suffice."""
    numerator, denominator = np.uint64(share.numerator), np.uint64(share.denominator)
    rest = limits % denominator * numerator
    rounding = denominator - np.uint64(1) if up else np.uint64(0)
    return limits // denominator * numerator + (rest + rounding) // denominator
