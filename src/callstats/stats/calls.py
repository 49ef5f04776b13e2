"""Summaries of many calls: a few numbers of each, then percentiles, totals and trends over all."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from callstats._types import FN_COUNTERS, U64_MAX, AnyArray, Counts
from callstats.kernels.totals_py import MIN, MIN_IS_EXACT, POINTS, ROWS, SUM_T, WEIGHT
from callstats.series import StatSeries
from callstats.stats.call import CPU_TIME, USAGE, WORKING, CallTotals, CallUsage, call_totals
from callstats.stats.proportions import UNLIMITED, Bernoulli, wilson
from callstats.stats.rightsize import MIB, RightSize, cpu_request, rightsize
from callstats.stats.series import slope_of
from callstats.stats.trend import LeakTrend, leak_trend

_ERROR, _KILLED = 1, 2

ERRORS = frozenset({"error", "timeout", "killed", "cancelled"})
KILLED = "killed"
STATUSES = ERRORS | {"success", "", None}
"""The statuses whose meaning is known. Others count as successes."""


class CallData(NamedTuple):
    """The series of one call, and the rest that summaries need."""

    series: StatSeries
    status: str | None = None
    """``error``, ``timeout``, ``killed`` and ``cancelled`` count as errors. ``killed`` means that the call ran out of memory."""
    time_ns: int | None = None
    """The time that puts calls in order, by default that of the first sample."""
    duration_ns: int | None = None
    """The time from the start to the end, by default from the first to the last sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Percentiles of one number over calls; all None without any call."""

    n: int = 0
    """Calls that have the number."""
    p50: int | float | None = None
    """The median: the mean of the middle two, for ints its floor."""
    p95: int | float | None = None
    """Element ``ceil(p * n / 100)`` of the sorted values, where p is 95; so is `p99`."""
    p99: int | float | None = None
    max: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSummary:
    """Statistics of the calls of one group. The numbers of each call are those of its `CallUsage`."""

    calls: int = 0
    sampled: int = 0
    """Calls with a sample."""
    errors: int | None = 0
    """Calls whose status counts as an error (see `CallData`); None where no call has a status, and so with `killed`."""
    killed: int | None = 0
    interval_ns: int | None
    """How long a peak may last unseen: the time between two samples of memory in a call, the median over the calls whose peak
    was sampled. The sample at the end of a call does not count, since it may come soon after the one before."""
    duration_ns: Percentiles
    memory: Percentiles
    """Of `CallUsage.peak_memory`, over the calls where it is known."""
    kernel_peaks: int
    """Calls whose peak the kernel measured. A sampled peak may miss a higher one that is shorter than the interval."""
    page_cache: int
    """Calls whose peak is that of a container's ``mem_usage``, which includes the page cache."""
    limit: int | None
    """The memory limit of the latest call that has one; 2**63 - 4096 or more means unlimited."""
    headroom: int | None
    """The smallest distance from a call's peak to its own limit, 0 for a killed call; None where no call has both."""
    near: Bernoulli
    """Calls whose peak came within 10 % of their limit, or that were killed, among those whose limit is known."""
    waste: int | None
    """Memory that calls reserved and did not need, in bytes times seconds: from each call's peak to its limit, for its duration.
    None where no call has all three."""
    cpu_mean: float | None
    """The mean of `CallUsage.cpu_mean`, weighted by the calls' durations; a call without one has next to no weight."""
    cpu: Percentiles
    """Of `CallUsage.cpu_mean`."""
    cpu_peak: Percentiles
    """Of `CallUsage.cpu_peak`."""
    cpu_request: RightSize | None
    """Of `CallUsage.cpu_mean`; present where a risk was given."""
    increases: dict[str, int | None]
    """The total increase of each of Fn's four counters over all calls, None where no call has it: since the start of a recording,
    else since the first sample, which is exact only where the counter was 0 then."""
    increase: dict[str, Percentiles]
    """The increase of each counter in a call; 2**64 - 1 stands for more."""
    growth: Percentiles
    """The slope of memory within a call, in bytes per second."""
    trend: LeakTrend
    """The trend of the calls' min memory over time."""
    rightsize: RightSize | None
    """Present where a risk was given."""
    approximate: frozenset[str]
    """The names of the values above that are not exact, for `increases` the names of the counters."""

    @property
    def is_unlimited(self) -> bool:
        """Whether the limit means unlimited."""
        return self.limit is not None and self.limit >= UNLIMITED


class CallColumns(NamedTuple):
    """Numbers of calls, as arrays of equal length in the order of time."""

    times: AnyArray
    """Nanoseconds since the epoch; 0 where unknown."""
    durations: AnyArray
    """Nanoseconds; -1 where unknown."""
    peaks: AnyArray
    """Peak memory in bytes; 0 where unknown."""
    limits: AnyArray
    """Memory limits in bytes; 0 where unknown."""
    outcomes: AnyArray
    """Of each call its index in `OUTCOMES`."""


OUTCOMES = ("succeeded", "failed", "killed")
"""How calls end, as a distribution tells them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsGroup:
    """The calls of one group."""

    name: object
    """The value that its calls have in common, as in the table."""
    summary: CallsSummary
    calls: CallColumns | None = field(default=None, repr=False, compare=False)
    """Numbers of each call, for the distributions and the timeline of a report."""


def summarize_calls(calls: Iterable[CallData], *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
    """Summarize the calls of one function in one pass. A risk adds the memory size that they need, as for `rightsize`.

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


class CallSamples(NamedTuple):
    """Numbers of calls, each in the order of time and without unknown values."""

    duration_ns: AnyArray
    memory: AnyArray
    cpu: AnyArray
    failures: AnyArray


class CallScalars:
    """Numbers of calls for a summary: 8 bytes for each call and number."""

    def __init__(self) -> None:
        self.calls = self.sampled = self.errors = self.killed = self.kernel_peaks = self.page_cache = self.near = self.limited = 0
        self.has_status = False
        self.headroom: int | None = None
        self.waste: int | None = None
        # In step with each other. Unknown memory and limits are 0, unknown durations -1, unknown CPU is NaN.
        self.peaks, self.min_memory, self.limits = array("Q"), array("Q"), array("Q")
        self.times, self.durations, self.outcomes = array("q"), array("q"), array("b")
        self.intervals, self.growths = array("Q"), array("d")
        self.cpu_means, self.cpu_peaks = array("d"), array("Q")
        self.cpu_mean, self.cpu_weight, self.cpu_durations_are_exact = 0.0, 0, True
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
        killed, failed = status == KILLED, status in ERRORS
        self.calls += 1
        self.errors += failed
        self.killed += killed
        self.has_status |= status not in (None, "")
        self.sampled += usage.rows > 0
        if usage.peak_source == "sampled" and (interval := _interval(totals, usage)):
            self.intervals.append(interval)
        self.outcomes.append(_KILLED if killed else _ERROR if failed else 0)
        # An engine reports 0 of everything for a container that is gone.
        gone = not usage.cpu_mean and usage.peak_memory is None and not totals.totals.keys().isdisjoint((WORKING, USAGE))
        self.cpu_means.append(math.nan if usage.cpu_mean is None or gone else usage.cpu_mean)
        self.times.append(totals.first if time_ns is None else time_ns)
        self.durations.append(-1 if usage.duration_ns is None else usage.duration_ns)
        if usage.duration_ns is not None and "duration_ns" not in usage.exact:
            self.approximate.add("duration_ns")
        self._add_memory(totals, usage, killed=killed)
        if not gone:
            self._add_cpu(usage)
        for name in FN_COUNTERS:
            if (traffic := totals.traffic(name)) is not None:
                increase, is_exact = traffic
                self.increases[name] += increase
                self.increase[name].append(min(increase, U64_MAX))
                if not is_exact:
                    self.approximate.add(name)
        return usage

    def _add_memory(self, totals: CallTotals, usage: CallUsage, *, killed: bool) -> None:
        peak, limit, metric = usage.peak_memory, usage.memory_limit, usage.memory_metric
        total = None if metric is None else totals.totals.get(metric)
        self.peaks.append(peak or 0)
        self.limits.append(limit or 0)
        self.min_memory.append(0 if total is None else total[MIN])
        if limit is not None and (killed or peak is not None):
            self.limited += 1
            if limit < UNLIMITED:
                unused = 0 if killed or peak is None else limit - peak
                self.near += 10 * unused <= limit
                self.headroom = unused if self.headroom is None else min(self.headroom, unused)
                if usage.duration_ns is not None:
                    self.waste = (self.waste or 0) + max(unused, 0) * max(usage.duration_ns, 0)
                    if "duration_ns" not in usage.exact:
                        self.approximate.add("waste")
            else:
                self.near += killed
        if peak is None:
            return
        self.kernel_peaks += usage.peak_source == "kernel"
        # A recorded process has no network counters, but others; its memory is that of the processes alone.
        is_process = "net_rx" not in totals.totals and not totals.totals.keys().isdisjoint((CPU_TIME, "disk_read"))
        self.page_cache += metric == USAGE and not is_process
        if "peak_memory" not in usage.exact:
            self.approximate.update(("memory", "headroom", "near", "rightsize", "waste"))
        if metric is not None and total is not None:
            if not total[MIN_IS_EXACT]:
                self.approximate.add("trend")
            if total[WEIGHT] != total[ROWS]:
                self.approximate.add("growth")
            slope = slope_of(totals.moments[metric])
            if slope is not None:
                self.growths.append(slope)

    def _add_cpu(self, usage: CallUsage) -> None:
        if usage.cpu_mean is not None:
            weight = max(usage.duration_ns or 0, 1)  # so that calls of unknown duration count equally, if there are no others
            self.cpu_weight += weight
            self.cpu_durations_are_exact &= "duration_ns" in usage.exact
            self.cpu_mean += (usage.cpu_mean - self.cpu_mean) * (weight / self.cpu_weight)  # of one call exactly its own
            if "cpu_mean" not in usage.exact:
                self.approximate.update(("cpu_mean", "cpu", "cpu_request"))
        if usage.cpu_peak is not None:
            self.cpu_peaks.append(usage.cpu_peak)
            if "cpu_peak" not in usage.exact:
                self.approximate.add("cpu_peak")

    def summary(self, *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
        known, order = self.samples(), self._time_order()
        has_ends = self.has_status or not self.calls
        limits, min_memory = (values[values > 0] for values in (_view(self.limits)[order], _view(self.min_memory)[order]))
        request = sized = None
        spans = {"cpu_mean"} if len(known.cpu) > 1 and not self.cpu_durations_are_exact else set()  # one call's mean is its own
        if risk is not None:
            request = replace(cpu_request(known.cpu), unknown=self.calls - len(known.cpu))
            kills, durations = _view(self.outcomes) == _KILLED, np.maximum(_view(self.durations), 0)
            peaks, caps = _view(self.peaks), _view(self.limits)
            sized = rightsize(peaks, risk=risk, step=step, limits=caps, killed=kills, durations=durations)
        return CallsSummary(
            calls=self.calls,
            sampled=self.sampled,
            errors=self.errors if has_ends else None,
            killed=self.killed if has_ends else None,
            interval_ns=int(np.median(_view(self.intervals))) if self.intervals else None,
            duration_ns=percentiles(known.duration_ns),
            memory=percentiles(known.memory),
            kernel_peaks=self.kernel_peaks,
            page_cache=self.page_cache,
            limit=int(limits[-1]) if len(limits) else None,
            headroom=self.headroom,
            near=wilson(self.near, self.limited),
            waste=None if self.waste is None else self.waste // 10**9,
            cpu_mean=self.cpu_mean if self.cpu_weight else None,
            cpu=percentiles(known.cpu),
            cpu_peak=percentiles(_view(self.cpu_peaks)),
            cpu_request=request,
            increases={name: self.increases[name] if found else None for name, found in self.increase.items()},
            increase={name: percentiles(_view(increases)) for name, increases in self.increase.items()},
            growth=percentiles(_view(self.growths)),
            trend=leak_trend(min_memory),
            rightsize=sized,
            approximate=frozenset(self.approximate | spans),
        )

    def samples(self) -> CallSamples:
        """Return the known numbers of the calls."""
        calls, cpu = self.columns(), _view(self.cpu_means)[self._time_order()]
        durations, peaks = calls.durations, calls.peaks
        failures = calls.outcomes[: self.calls if self.has_status else 0] != 0
        return CallSamples(durations[durations >= 0], peaks[peaks > 0], cpu[~np.isnan(cpu)], failures)

    def columns(self) -> CallColumns:
        """Return numbers of each call."""
        order = self._time_order()
        numbers = (self.times, self.durations, self.peaks, self.limits, self.outcomes)
        return CallColumns(*(_view(values)[order] for values in numbers))

    def _time_order(self) -> Counts:
        return np.argsort(_view(self.times), kind="stable")


def _interval(totals: CallTotals, usage: CallUsage) -> int | None:
    """Return the time between two samples of a call's memory; None where its samples can't tell.

    Rows are taken as evenly spaced. A single one before the end stands between the start and the end.
    """
    metric, span = usage.memory_metric or "", totals.last - totals.first
    if metric not in totals.moments:
        return None
    total, sums = totals.totals[metric], totals.moments[metric]
    rows, since_first = sums[POINTS], sums[SUM_T] << 64 | sums[SUM_T + 1]
    if total[ROWS] == usage.rows:  # else the last row has no memory
        rows, since_first = rows - 1, since_first - span
    gap = 0
    if rows > 1:
        gap = 2 * since_first // (rows * (rows - 1))
    elif rows and usage.duration_ns is not None and "duration_ns" in usage.exact:
        gap = max(span, usage.duration_ns - span)
    return gap * total[ROWS] // total[WEIGHT] or None


def percentiles(values: AnyArray) -> Percentiles:
    n = len(values)
    if not n:
        return Percentiles()
    indexes = [(n - 1) // 2, n // 2, (95 * n + 99) // 100 - 1, (99 * n + 99) // 100 - 1, n - 1]
    low, high, p95, p99, largest = np.partition(values, sorted(set(indexes)))[indexes].tolist()
    median = (low + high) // 2 if isinstance(low, int) else low / 2 + high / 2
    return Percentiles(n=n, p50=median, p95=p95, p99=p99, max=largest)


def _view(values: array[int] | array[float]) -> AnyArray:
    """Return an array over the same memory."""
    return np.frombuffer(values, dtype=values.typecode) if len(values) else np.zeros(0, dtype=values.typecode)
