"""Whether the calls of one group differ from another's: `compare_calls`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from callstats._types import AnyArray
from callstats.stats.calls import CallData, CallScalars
from callstats.stats.proportions import CONFIDENCE, wilson_interval
from callstats.stats.trend import centred_ranks, positive_correlation

MIN_COMPARED = 10
"""The fewest calls of each group that a difference is computed from."""

_DRAWS = 10_000
_BOOTSTRAP_SEED = 2_006


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one number differs between two groups of calls, a and b.

    Attributes
    ----------
    name : {"duration_ns", "memory", "cpu", "failures"}
        Nanoseconds, peak memory in bytes, mean CPU in percent of one core, or the share of calls that failed.
    calls_a, calls_b : int
        Calls where it is known.
    a, b : float or None
        The median over these calls, for failures their share.
    difference, low, high : float or None
        ``b - a`` with its interval; None below 10 calls of either group.
    confidence : float or None
        That of the interval: of four intervals that differ from 0 all do so together with 95 %.
    p : float or None
        The probability of such a difference between equal groups, after Holm's correction.
    differs : bool or None
        Whether the interval excludes 0. None means that there are too few calls to tell.
    """

    name: str
    calls_a: int
    calls_b: int
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    p: float | None = None
    differs: bool | None = None


class CallSamples(NamedTuple):
    """The numbers of calls that are compared, each in the order of time, without unknown values."""

    duration_ns: AnyArray
    memory: AnyArray
    cpu: AnyArray
    failures: AnyArray


def compare_calls(a: Iterable[CallData], b: Iterable[CallData]) -> tuple[Difference, ...]:
    """Compare the calls of two groups by duration, peak memory, CPU and failures.

    Parameters
    ----------
    a, b : iterable of CallData

    Returns
    -------
    tuple of Difference
        One for each of the four.

    Notes
    -----
    Differences are those of medians, with the percentile bootstrap's interval, which allows for ties: Wilcox (2006), "Comparing
    medians", Computational Statistics & Data Analysis 51. No resample is drawn: the share of the calls below a resample's median
    has a beta distribution. The interval for failures is the hybrid score interval of Newcombe (1998), "Interval estimation for
    the difference between independent proportions", Statistics in Medicine 17.

    Calls that resemble the call before tell less. So the number of calls in an interval is the effective number of independent
    ones: Bayley and Hammersley (1946), "The 'effective' number of independent observations in an autocorrelated time series".

    All four decisions together are wrong with a probability of at most 5 %, by Holm (1979), "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6. Each interval has the confidence of its step there.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> def calls(scale):
    ...     peaks = (scale * (1000 + call * 7 % 40) for call in range(50))
    ...     return [CallData(StatSeries([0], {"mem_usage": [peak]}), duration_ns=9) for peak in peaks]
    >>> [found.differs for found in compare_calls(calls(10), calls(12))]
    [False, True, None, False]
    """
    scalars = CallScalars(), CallScalars()
    for group, calls in zip(scalars, (a, b), strict=True):
        for call in calls:
            group.add(*call)
    return compare_samples(*(samples_of(group) for group in scalars))


def samples_of(scalars: CallScalars) -> CallSamples:
    """Return the samples of calls."""
    durations, peaks, cpu, failures = scalars.in_time_order()
    return CallSamples(durations[durations >= 0], peaks[peaks > 0], cpu[~np.isnan(cpu)], failures)


def compare_samples(a: CallSamples, b: CallSamples) -> tuple[Difference, ...]:
    """Compare two groups, as `compare_calls` does."""
    found, tests = {}, {}
    for name in CallSamples._fields:
        test = (_ShareTest if name == "failures" else _MedianTest)(getattr(a, name), getattr(b, name))
        found[name] = Difference(name=name, calls_a=test.n_a, calls_b=test.n_b, a=test.a, b=test.b)
        if min(test.n_a, test.n_b) >= MIN_COMPARED:
            tests[name] = test
    adjusted, alpha, differs = 0.0, 0.0, True
    for step, (name, test) in enumerate(sorted(tests.items(), key=lambda item: item[1].p)):
        left = len(tests) - step
        adjusted = min(max(adjusted, test.p * left), 1.0)
        if differs:  # from the first step without a difference on, the level stays
            alpha = (1 - CONFIDENCE) / left
            differs = test.p <= alpha
        low, high = test.interval(alpha)
        change = (test.b or 0) - (test.a or 0)
        level = 1 - alpha
        found[name] = replace(found[name], difference=change, low=low, high=high, confidence=level, p=adjusted, differs=differs)
    return tuple(found.values())


class _MedianTest:
    """The difference of two medians."""

    def __init__(self, a: AnyArray, b: AnyArray) -> None:
        self.n_a, self.n_b = len(a), len(b)
        self.a, self.b = (float(np.median(values)) if len(values) else None for values in (a, b))
        rng = np.random.default_rng(_BOOTSTRAP_SEED)
        self._draws = np.sort(_resampled_medians(b, rng) - _resampled_medians(a, rng)) if len(a) and len(b) else np.zeros(_DRAWS)
        beyond = min(int(np.count_nonzero(self._draws <= 0)), int(np.count_nonzero(self._draws >= 0)))
        self.p = min(2 * (beyond + 1) / (_DRAWS + 1), 1.0)

    def interval(self, alpha: float) -> tuple[float, float]:
        beyond = max(math.floor(alpha / 2 * (_DRAWS + 1)) - 1, 0)
        return float(self._draws[beyond]), float(self._draws[-1 - beyond])


def _resampled_medians(values: AnyArray, rng: np.random.Generator) -> AnyArray:
    """Return the medians of resamples of values in the order of time."""
    n, ordered = len(values), np.sort(values).astype(np.float64)
    half = (_effective_number(values) + 1) / 2
    return ordered[np.minimum((rng.beta(half, half, _DRAWS) * n).astype(np.int64), n - 1)]


def _effective_number(values: AnyArray) -> float:
    """Return the number of independent values whose mean is as certain as that of these."""
    n = len(values)
    correlation = positive_correlation(centred_ranks(values))
    return n / (1 + 2 * float((1 - np.arange(1, len(correlation) + 1) / n) @ correlation))


class _ShareTest:
    """The difference of two shares of calls."""

    def __init__(self, a: AnyArray, b: AnyArray) -> None:
        self.n_a, self.n_b = len(a), len(b)
        self.a, self.b = (float(values.mean()) if len(values) else None for values in (a, b))
        if not self.n_a or not self.n_b:
            self.p = 1.0
            return
        self._effective = _effective_number(a), _effective_number(b)
        # The level at which the interval begins to hold 0.
        low, high = 0.0, 40.0
        while low < (z := (low + high) / 2) < high:
            ends = self._ends(z)
            low, high = (low, z) if ends[0] <= 0 <= ends[1] else (z, high)
        self.p = math.erfc(high / math.sqrt(2))

    def interval(self, alpha: float) -> tuple[float, float]:
        return self._ends(NormalDist().inv_cdf(1 - alpha / 2))

    def _ends(self, z: float) -> tuple[float, float]:
        a, b = self.a or 0.0, self.b or 0.0
        (low_a, high_a), (low_b, high_b) = (wilson_interval(p, n, z) for p, n in zip((a, b), self._effective, strict=True))
        change = b - a
        return change - math.hypot(b - low_b, high_a - a), change + math.hypot(high_b - b, a - low_a)
