"""Summaries of many calls: a few numbers of each, then percentiles, totals and trends over all."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from callstats._types import FN_COUNTERS, U64_MAX, AnyArray
from callstats.kernels.totals_py import ENDS_ARE_EXACT, INCREASE, MIN, MIN_IS_EXACT, ROWS, WEIGHT
from callstats.series import StatSeries
from callstats.stats.call import CPU, USAGE, CallTotals, CallUsage, call_totals
from callstats.stats.proportions import UNLIMITED, Bernoulli, wilson
from callstats.stats.rightsize import MIB, RightSize, rightsize
from callstats.stats.series import percentile_index, slope_of
from callstats.stats.trend import LeakTrend, leak_trend

ERRORS = frozenset({"error", "timeout", "killed"})
KILLED = "killed"
NEAR_TENTHS = 9
"""A peak of this many tenths of the limit is near the limit."""


class CallData(NamedTuple):
    """The series of one call, and the rest that summaries need.

    Attributes
    ----------
    series : StatSeries
    status : str or None
        ``error``, ``timeout`` and ``killed`` count as errors. ``killed`` means that the call ran out of memory.
    time_ns, duration_ns : int or None
        The time that puts calls in order, by default that of the first sample; and that from the start to the end, by default
        from the first to the last sample.
    """

    series: StatSeries
    status: str | None = None
    time_ns: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Percentiles of one number over calls; all None without any call.

    Attributes
    ----------
    n : int
        Calls that have the number.
    p50 : int, float or None
        The median: the mean of the middle two, for ints its floor.
    p95, p99, max : int, float or None
        Element ``ceil(p * n / 100)`` of the sorted values, where p is 95, 99 or 100.
    """

    n: int = 0
    p50: int | float | None = None
    p95: int | float | None = None
    p99: int | float | None = None
    max: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSummary:
    """Statistics of the calls of one group. The numbers of each call are those of its `CallUsage`.

    Attributes
    ----------
    calls, errors, killed, unsampled : int
        All calls, those that count as errors (see `CallData`), those that were killed, and those without a sample.
    duration_ns : Percentiles
    memory : Percentiles
        Of `CallUsage.peak_memory`, over the calls where it is known.
    page_cache : int
        Calls whose peak is that of ``mem_usage``, which includes the page cache.
    limit : int or None
        The memory limit of the latest call that has one; 2**63 - 4096 or more means unlimited.
    headroom : int or None
        That limit less the largest peak. It is negative where the limit was lowered since, and None without a limit.
    near : Bernoulli
        Calls whose peak came within 10 % of their limit, or that were killed, among those with a known peak and limit.
    cpu_mean : float or None
        The mean of `CallUsage.cpu_mean`, weighted by the calls' samples of CPU.
    cpu, cpu_peak : Percentiles
        Of `CallUsage.cpu_mean` and `CallUsage.cpu_peak`.
    increases : dict of str to int
        The total increase of each of Fn's four counters over all calls.
    increase : dict of str to Percentiles
        The increase of each counter in a call; 2**64 - 1 stands for more.
    growth : Percentiles
        The slope of memory within a call, in bytes per second.
    trend : LeakTrend or None
        The trend of the calls' min memory over time; None where SciPy is missing.
    rightsize : RightSize or None
        Present where a risk was given.
    approximate : frozenset of str
        The names of the values above that are not exact, for `increases` the names of the counters.
    """

    calls: int = 0
    errors: int = 0
    killed: int = 0
    unsampled: int = 0
    duration_ns: Percentiles
    memory: Percentiles
    page_cache: int
    limit: int | None
    headroom: int | None
    near: Bernoulli
    cpu_mean: float | None
    cpu: Percentiles
    cpu_peak: Percentiles
    increases: dict[str, int]
    increase: dict[str, Percentiles]
    growth: Percentiles
    trend: LeakTrend | None
    rightsize: RightSize | None
    approximate: frozenset[str]

    @property
    def is_unlimited(self) -> bool:
        """Whether the limit means unlimited."""
        return self.limit is not None and self.limit >= UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsGroup:
    """The calls of one group.

    Attributes
    ----------
    name : object
        What its calls have in common, as the table tells it.
    summary : CallsSummary
    peaks, durations : (n,) int array-like
        The peak memory in bytes of each call that has one, and the nanoseconds of each call that has a duration.
    """

    name: object
    summary: CallsSummary
    peaks: Sequence[int] | AnyArray = field(default=(), repr=False, compare=False)
    durations: Sequence[int] | AnyArray = field(default=(), repr=False, compare=False)


def summarize_calls(calls: Iterable[CallData], *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
    """Summarize the calls of one function in one pass.

    Parameters
    ----------
    calls : iterable of CallData
    risk, step
        As for `rightsize`. A risk adds the memory size that the calls need.

    Returns
    -------
    CallsSummary

    Examples
    --------
    >>> calls = [CallData(StatSeries([0, 10**9], {"mem_usage": [peak // 2, peak]})) for peak in range(100, 200)]
    >>> summarize_calls(calls).memory
    Percentiles(n=100, p50=149, p95=194, p99=198, max=199)
    """
    scalars = CallScalars()
    for call in calls:
        scalars.add(*call)
    return scalars.summary(risk=risk, step=step)


class CallScalars:
    """Numbers of calls for a summary: 8 bytes for each call and number."""

    def __init__(self) -> None:
        self.calls = self.errors = self.killed = self.unsampled = self.page_cache = self.near = self.limited = 0
        # In step with each other. Unknown memory and limits are 0, unknown durations -1.
        self.peaks, self.min_memory, self.limits = array("Q"), array("Q"), array("Q")
        self.times, self.durations, self.kills = array("q"), array("q"), array("b")
        self.growths = array("d")
        self.cpu_means, self.cpu_peaks = array("d"), array("Q")
        self.cpu_mean, self.cpu_weight = 0.0, 0
        self.increases = dict.fromkeys(FN_COUNTERS, 0)
        self.increase = {name: array("Q") for name in FN_COUNTERS}
        self.approximate: set[str] = set()

    def add(
        self,
        series: StatSeries | bytes | None,
        status: str | None = None,
        time_ns: int | None = None,
        duration_ns: int | None = None,
    ) -> CallUsage:
        """Add a call, given by its series or its stored blob, and return what it used. Bytes that are no blob are not counted."""
        totals = call_totals(series)
        usage = totals.usage(duration_ns)
        killed = status == KILLED
        self.calls += 1
        self.errors += status in ERRORS
        self.killed += killed
        self.unsampled += not usage.rows
        self.kills.append(killed)
        self.times.append(totals.first if time_ns is None else time_ns)
        self.durations.append(-1 if usage.duration_ns is None else usage.duration_ns)
        if usage.duration_ns is not None and "duration_ns" not in usage.exact:
            self.approximate.add("duration_ns")
        self._add_memory(totals, usage, killed=killed)
        self._add_cpu(totals, usage)
        for name in FN_COUNTERS:
            if name in totals.totals:
                total = totals.totals[name]
                increase = total[INCREASE] << 64 | total[INCREASE + 1]
                self.increases[name] += increase
                self.increase[name].append(min(increase, U64_MAX))
                if not total[ENDS_ARE_EXACT]:
                    self.approximate.add(name)
        return usage

    def _add_memory(self, totals: CallTotals, usage: CallUsage, *, killed: bool) -> None:
        peak, limit, metric = usage.peak_memory, usage.memory_limit, usage.memory_metric
        total = None if metric is None else totals.totals.get(metric)
        self.peaks.append(peak or 0)
        self.limits.append(limit or 0)
        self.min_memory.append(0 if total is None else total[MIN])
        if peak is None:
            return
        self.page_cache += metric == USAGE
        if limit is not None:
            self.limited += 1
            self.near += killed or (limit < UNLIMITED and 10 * peak >= NEAR_TENTHS * limit)
        if "peak_memory" not in usage.exact:
            self.approximate.update(("memory", "headroom", "near", "rightsize"))
        if metric is not None and total is not None:
            if not total[MIN_IS_EXACT]:
                self.approximate.add("trend")
            if total[WEIGHT] != total[ROWS]:
                self.approximate.add("growth")
            slope = slope_of(totals.moments[metric])
            if slope is not None:
                self.growths.append(slope)

    def _add_cpu(self, totals: CallTotals, usage: CallUsage) -> None:
        if usage.cpu_mean is not None:
            weight = totals.totals[CPU][WEIGHT] if CPU in totals.totals else usage.samples
            self.cpu_weight += weight
            self.cpu_mean += (usage.cpu_mean - self.cpu_mean) * (weight / self.cpu_weight)  # of one call exactly its own
            self.cpu_means.append(usage.cpu_mean)
            if "cpu_mean" not in usage.exact:
                self.approximate.update(("cpu_mean", "cpu"))
        if usage.cpu_peak is not None:
            self.cpu_peaks.append(usage.cpu_peak)
            if "cpu_peak" not in usage.exact:
                self.approximate.add("cpu_peak")

    def summary(self, *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
        memory = percentiles(self.known_peaks())
        limit = self._latest_limit()
        return CallsSummary(
            calls=self.calls,
            errors=self.errors,
            killed=self.killed,
            unsampled=self.unsampled,
            duration_ns=percentiles(self.known_durations()),
            memory=memory,
            page_cache=self.page_cache,
            limit=limit,
            headroom=None if limit is None or limit >= UNLIMITED or memory.max is None else limit - int(memory.max),
            near=wilson(self.near, self.limited),
            cpu_mean=self.cpu_mean if self.cpu_weight else None,
            cpu=percentiles(_view(self.cpu_means)),
            cpu_peak=percentiles(_view(self.cpu_peaks)),
            increases=dict(self.increases),
            increase={name: percentiles(_view(increases)) for name, increases in self.increase.items()},
            growth=percentiles(_view(self.growths)),
            trend=self._trend(),
            rightsize=None if risk is None else self._rightsize(risk, step),
            approximate=frozenset(self.approximate),
        )

    def known_peaks(self) -> AnyArray:
        peaks = _view(self.peaks)
        return peaks[peaks > 0]

    def known_durations(self) -> AnyArray:
        durations = _view(self.durations)
        return durations[durations >= 0]

    def _latest_limit(self) -> int | None:
        limits, times = _view(self.limits), _view(self.times)
        known = np.flatnonzero(limits)
        if not len(known):
            return None
        latest = known[times[known] == times[known].max()][-1]
        return int(limits[latest])

    def _trend(self) -> LeakTrend | None:
        values = _view(self.min_memory)[np.argsort(_view(self.times), kind="stable")]
        try:
            return leak_trend(values[values > 0])
        except ImportError:
            return None

    def _rightsize(self, risk: float, step: int) -> RightSize:
        durations = np.maximum(_view(self.durations), 0)
        peaks, limits, kills = _view(self.peaks), _view(self.limits), _view(self.kills)
        return rightsize(peaks, risk=risk, step=step, limits=limits, killed=kills, durations=durations)


def percentiles(values: AnyArray) -> Percentiles:
    n = len(values)
    if not n:
        return Percentiles()
    indexes = [(n - 1) // 2, n // 2, percentile_index(95, n), percentile_index(99, n), n - 1]
    low, high, p95, p99, largest = np.partition(values, sorted(set(indexes)))[indexes].tolist()
    median = (low + high) // 2 if isinstance(low, int) else low / 2 + high / 2
    return Percentiles(n=n, p50=median, p95=p95, p99=p99, max=largest)


def _view(values: array[int] | array[float]) -> AnyArray:
    """Return an array over the same memory."""
    return np.frombuffer(values, dtype=values.typecode) if len(values) else np.zeros(0, dtype=values.typecode)
