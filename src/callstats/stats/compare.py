"""Whether the calls of one group differ from another's: `compare_calls`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from callstats._types import AnyArray
from callstats.stats.calls import CallData, CallSamples, CallScalars
from callstats.stats.proportions import CONFIDENCE, wilson_interval
from callstats.stats.trend import centred_ranks, positive_correlation

MIN_COMPARED = 10
"""The fewest independent calls of each group that a difference is computed from; groups far apart need as many calls only."""

_DRAWS = 10_000
_BOOTSTRAP_SEED = 2_006


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one number differs between two groups of calls, a and b."""

    name: str
    """``duration_ns``, ``memory`` (the peak, in bytes), ``cpu`` (the mean, in percent of one core), or ``failures`` (a share)."""
    calls_a: int
    """Calls of a where it is known; `calls_b` those of b."""
    calls_b: int
    effective_a: float
    """The number of independent calls that tell as much as those of a; `effective_b` is the same of b."""
    effective_b: float
    exact_a: bool
    """Whether no reduction has changed a value of a, and no duration comes from the times of samples; `exact_b` is the same of b.
    The difference is exact where both are."""
    exact_b: bool
    a: float | None = None
    """The median over these calls, for failures their share; `b` is the same of b."""
    b: float | None = None
    difference: float | None = None
    """``b - a``, with an interval from `low` to `high`; None where `differs` is."""
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    """Confidence of the interval: of four intervals that differ from 0 all do so together with 95 %."""
    p: float | None = None
    """The probability of such a difference between equal groups, after Holm's correction."""
    differs: bool | None = None
    """Whether the interval excludes 0. None means that there are too few independent calls to tell, and the groups are not
    far apart."""


def compare_calls(a: Iterable[CallData], b: Iterable[CallData]) -> tuple[Difference, ...]:
    """Compare the calls of two groups: return a difference in duration, peak memory, CPU and failures each.

    Notes
    -----
    Differences are those of medians, with the percentile bootstrap's interval, which allows for ties: Wilcox (2006), "Comparing
    medians", Computational Statistics & Data Analysis 51. No resample is drawn: the share of the calls below a resample's median
    has a beta distribution. The interval for failures is the hybrid score interval of Newcombe (1998), "Interval estimation for
    the difference between independent proportions", Statistics in Medicine 17.

    Calls that resemble the call before tell less. So the number of calls in an interval is the effective number of independent
    ones: Bayley and Hammersley (1946), "The 'effective' number of independent observations in an autocorrelated time series".
    Few calls show less correlation than they have. Where it makes the number smaller, the number is that of a first-order process
    whose correlation is corrected for this bias: Marriott and Pope (1954), "Bias in the estimation of autocorrelations",
    Biometrika 41. Below 10 there is no answer, unless 10 or more calls of each group are far apart: the gap between the groups is
    wider than the ranges of both together. Equal groups are so in at most 0.1 % of cases, with a first-order process of a
    correlation up to 0.8.

    All four decisions together are wrong with a probability of at most 5 %, by Holm (1979), "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6. Each interval has the confidence of its step there.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> def calls(scale):
    ...     peaks = (scale * (1000 + call * 7 % 40) for call in range(50))
    ...     return [CallData(StatSeries([0], {"mem_usage": [peak]}), "success", duration_ns=9) for peak in peaks]
    >>> [found.differs for found in compare_calls(calls(10), calls(12))]
    [False, True, None, False]
    """
    groups = CallScalars(), CallScalars()
    for scalars, calls in zip(groups, (a, b), strict=True):
        for call in calls:
            scalars.add(*call)
    return compare_scalars(*groups)


def compare_scalars(a: CallScalars, b: CallScalars) -> tuple[Difference, ...]:
    """Compare two groups, as `compare_calls` does."""
    return compare_samples(a.samples(), b.samples(), (a.approximate, b.approximate))


def compare_samples(
    a: CallSamples, b: CallSamples, approximate: tuple[Collection[str], Collection[str]] = ((), ())
) -> tuple[Difference, ...]:
    """Compare the numbers of two groups. The names are of those that are not exact, of each group."""
    found: dict[str, Difference] = {}
    tests: dict[str, _Test] = {}
    for name, in_a, in_b in zip(CallSamples._fields, a, b, strict=True):
        middle, test = (np.mean, _test_shares) if name == "failures" else (np.median, _test_medians)
        of_a, of_b = (float(middle(values)) if len(values) else None for values in (in_a, in_b))
        n_a, n_b = _effective_number(in_a), _effective_number(in_b)
        found[name] = Difference(
            name=name,
            calls_a=len(in_a),
            calls_b=len(in_b),
            effective_a=n_a,
            effective_b=n_b,
            exact_a=name not in approximate[0],
            exact_b=name not in approximate[1],
            a=of_a,
            b=of_b,
        )
        if min(n_a, n_b) >= MIN_COMPARED or _are_far_apart(in_a, in_b):
            tests[name] = test(in_a, in_b, n_a, n_b)
    adjusted, alpha, differs = 0.0, 0.0, True
    for step, (name, (p, interval)) in enumerate(sorted(tests.items(), key=lambda item: item[1].p)):
        left = len(tests) - step
        adjusted = min(max(adjusted, p * left), 1.0)
        if differs:  # from the first step without a difference on, the level stays
            alpha = (1 - CONFIDENCE) / left
            differs = p <= alpha
        change = (found[name].b or 0) - (found[name].a or 0)
        low, high = interval(alpha)
        level = 1 - alpha
        found[name] = replace(found[name], difference=change, low=low, high=high, confidence=level, p=adjusted, differs=differs)
    return tuple(found.values())


class _Test(NamedTuple):
    """The probability of a difference between equal groups, and a function from a level to the interval of the difference."""

    p: float
    interval: Callable[[float], tuple[float, float]]


def _test_medians(a: AnyArray, b: AnyArray, n_a: float, n_b: float) -> _Test:
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    draws = np.sort(_resampled_medians(b, n_b, rng) - _resampled_medians(a, n_a, rng))
    on_one_side = min(int(np.count_nonzero(draws <= 0)), int(np.count_nonzero(draws >= 0)))

    def interval(alpha: float) -> tuple[float, float]:
        beyond = max(math.floor(alpha / 2 * (_DRAWS + 1)) - 1, 0)
        return float(draws[beyond]), float(draws[-1 - beyond])

    return _Test(min(2 * (on_one_side + 1) / (_DRAWS + 1), 1.0), interval)


def _resampled_medians(values: AnyArray, effective: float, rng: np.random.Generator) -> AnyArray:
    """Return the medians of resamples that are as uncertain as those of so many independent values."""
    n, ordered = len(values), np.sort(values).astype(np.float64)
    half = (effective + 1) / 2
    return ordered[np.minimum((rng.beta(half, half, _DRAWS) * n).astype(np.int64), n - 1)]


def _effective_number(values: AnyArray) -> float:
    """Return the number of independent values whose mean is as certain as that of these, in the order of time."""
    n = len(values)
    correlation = positive_correlation(centred_ranks(values))
    if not len(correlation):
        return float(n)
    # A first correlation r has a mean of about r - (1 + 4 r) / n; the 4 is 3 where its sum of n - 1 products is scaled up to n.
    first = min((n * float(correlation[0]) + 1) / max(n - 4, 1), 1.0)
    return min(n / (1 + 2 * float((1 - np.arange(1, len(correlation) + 1) / n) @ correlation)), n * (1 - first) / (1 + first))


def _are_far_apart(a: AnyArray, b: AnyArray) -> bool:
    """Return whether the values within each group wander less than the groups are apart, however they depend on each other."""
    if min(len(a), len(b)) < MIN_COMPARED:
        return False
    low_a, high_a, low_b, high_b = (float(end) for values in (a, b) for end in (values.min(), values.max()))
    return max(low_a - high_b, low_b - high_a) > high_a - low_a + high_b - low_b


def _test_shares(a: AnyArray, b: AnyArray, n_a: float, n_b: float) -> _Test:
    share_a, share_b = float(np.mean(a)), float(np.mean(b))

    def ends(z: float) -> tuple[float, float]:
        (low_a, high_a), (low_b, high_b) = wilson_interval(share_a, n_a, z), wilson_interval(share_b, n_b, z)
        change = share_b - share_a
        return change - math.hypot(share_b - low_b, high_a - share_a), change + math.hypot(high_b - share_b, share_a - low_a)

    low, high = 0.0, 40.0  # the interval begins to hold 0 between these
    for _ in range(60):
        z = (low + high) / 2
        low, high = (low, z) if ends(z)[0] <= 0 <= ends(z)[1] else (z, high)
    return _Test(math.erfc(high / math.sqrt(2)), lambda alpha: ends(NormalDist().inv_cdf(1 - alpha / 2)))
