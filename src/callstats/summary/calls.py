"""Many calls of one function: a few scalars of each, then what they say together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from callstats import kernels
from callstats._types import FN_COUNTERS, U64_MAX, AnyArray, Counts
from callstats.columns import Columns
from callstats.series import StatSeries
from callstats.summary.chance import UNLIMITED, Bernoulli, wilson
from callstats.summary.figures import growth_of, place_of, plan_of
from callstats.summary.sizing import MIB, NO_LIMIT, RightSize, rightsize
from callstats.summary.trend import LeakTrend, leak_trend
from callstats.wire import as_bytes

FAILED = frozenset({"error", "timeout", "killed"})
KILLED = "killed"
WORKING, USAGE, LIMIT, CPU = "mem_working", "mem_usage", "mem_limit", "cpu_total"
NEAR_TENTHS = 9
"""A call whose peak is so many tenths of its limit came near it."""


class Call(NamedTuple):
    """One call: its series, and what is known of it besides."""

    series: StatSeries
    status: str | None = None
    """``error``, ``timeout`` and ``killed`` count as errors; ``killed`` is a kill for memory."""
    time_ns: int | None = None
    """When it came, which puts calls in order; by default the time of its first sample."""
    duration_ns: int | None = None
    """By default the time from its first to its last sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A scalar over calls: exact percentiles, the median being the mean of the middle two (of ints its floor)."""

    n: int = 0
    p50: int | float | None = None
    p95: int | float | None = None
    p99: int | float | None = None
    max: int | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsSummary:
    """What the calls of one group say together.

    Attributes
    ----------
    calls, errors, killed, unsampled : int
        All calls; of them those that failed in any way, that were killed for memory, and that have no sample.
    duration_ns : Spread
    memory : Spread
        Each call's peak in bytes: of ``mem_working`` where the call has it with its peaks, else of ``mem_usage``.
    page_cache : int
        Calls whose peak is that of ``mem_usage``, which takes in the page cache.
    limit : int or None
        The largest ``mem_limit`` of the latest call; 2**63 - 4096 or more means that there is none.
    headroom : int or None
        What lies between that limit and the largest peak: negative where the limit was lowered since. None without a limit.
    near : Bernoulli
        Calls whose peak came within 10 % of their limit, or that were killed, among those with a peak and a limit.
    cpu_mean : float or None
        Percent of one core over all samples of all calls.
    cpu : Spread
        Each call's mean.
    cpu_peak : Spread
    increases : dict of str to int
        By how much each of Fn's four counters rose over all calls.
    increase : dict of str to Spread
        The same of each call; 2**64 - 1 stands for more.
    growth : Spread
        Of memory within each call, in bytes per second.
    trend : LeakTrend
        Of each call's least memory, over the calls in order.
    rightsize : RightSize or None
        When it was asked for.
    approximate : frozenset of str
        Which of these figures come from reduced rows that no longer hold what an exact one needs, by name, of `increases` by
        the counter's name; and ``duration_ns`` where it is the time between samples.
    """

    calls: int = 0
    errors: int = 0
    killed: int = 0
    unsampled: int = 0
    duration_ns: Spread
    memory: Spread
    page_cache: int
    limit: int | None
    headroom: int | None
    near: Bernoulli
    cpu_mean: float | None
    cpu: Spread
    cpu_peak: Spread
    increases: dict[str, int]
    increase: dict[str, Spread]
    growth: Spread
    trend: LeakTrend
    rightsize: RightSize | None
    approximate: frozenset[str]

    @property
    def is_unlimited(self) -> bool:
        """Whether the limit means that there is none."""
        return self.limit is not None and self.limit >= UNLIMITED


def summarize_calls(calls: Iterable[Call], *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
    """What many calls of one function say together, in one pass.

    Parameters
    ----------
    calls : iterable of Call
    risk : float, optional
        Asks for the memory size that they need at this risk: see `rightsize`.
    step : int
        Its steps, in bytes.

    Examples
    --------
    >>> calls = [Call(StatSeries([0, 10**9], {"mem_usage": [peak // 2, peak]})) for peak in range(100, 200)]
    >>> summarize_calls(calls).memory
    Spread(n=100, p50=149, p95=194, p99=198, max=199)
    """
    scalars = CallScalars()
    for call in calls:
        scalars.add(call.series._columns, call.status, call.time_ns, call.duration_ns)
    return scalars.summary(risk=risk, step=step)


class CallScalars:
    """The scalars of calls: 8 bytes for each call and scalar."""

    def __init__(self) -> None:
        self.calls = self.errors = self.killed = self.unsampled = self.page_cache = 0
        self.near = self.limited = self.blind_kills = 0
        self.durations = array("q")
        # Of calls with memory, in step with each other:
        self.peaks, self.leasts, self.limits = array("Q"), array("Q"), array("Q")
        self.times, self.spans, self.kills = array("q"), array("q"), array("b")
        self.growths = array("d")
        self.cpu_means, self.cpu_peaks = array("d"), array("Q")
        self.cpu_total = self.cpu_weight = 0
        self.increases = dict.fromkeys(FN_COUNTERS, 0)
        self.increase = {name: array("Q") for name in FN_COUNTERS}
        self.latest: tuple[int, int] | None = None
        self.approximate: set[str] = set()

    def add(self, columns: Columns, status: str | None, time_ns: int | None, duration_ns: int | None) -> None:
        """Take one call in."""
        killed = status == KILLED
        self.calls += 1
        self.errors += status in FAILED
        self.killed += killed
        if not len(columns.times):
            self.unsampled += 1
            if duration_ns is not None:
                self.durations.append(duration_ns)
        elif self._add_sampled(columns, killed, time_ns, duration_ns):
            return
        self.blind_kills += killed

    def _add_sampled(self, columns: Columns, killed: bool, time_ns: int | None, duration_ns: int | None) -> bool:
        """Take in a call with samples, and tell whether there is memory among them."""
        names, times, values, present, counts = columns
        n = len(times)
        first = times.item(0)
        if duration_ns is None:
            duration_ns = min(times.item(n - 1) - first, 2**63 - 1)
            self.approximate.add("duration_ns")
        self.durations.append(duration_ns)
        metrics, plan, places = _plan(names)
        if not metrics:
            return False
        there, offsets = as_bytes(present), _one(n)
        totals = kernels.active.totals(values, there, counts, offsets, plan)[:, 0].tolist()
        found = {name: total for name, total in zip(metrics, totals, strict=True) if total[0]}
        memory = self._memory(found)
        if memory is not None:
            total = found[memory]
            peak, limit = total[5], found[LIMIT][5] if LIMIT in found else NO_LIMIT
            when = first if time_ns is None else time_ns
            self.peaks.append(peak)
            self.leasts.append(total[4])
            self.limits.append(limit)
            self.times.append(when)
            self.spans.append(duration_ns)
            self.kills.append(killed)
            if limit != NO_LIMIT:
                self.limited += 1
                self.near += killed or (limit < UNLIMITED and 10 * peak >= NEAR_TENTHS * limit)
                if self.latest is None or when >= self.latest[0]:
                    self.latest = when, limit
            moments = kernels.active.moments(times, values, there, offsets, places[memory])
            growth = growth_of(moments[0, 0].tolist())
            if growth is not None:
                self.growths.append(growth)
        if CPU in found:
            self._add_cpu(found[CPU])
        for name in FN_COUNTERS:
            if name in found:
                risen = found[name][8] << 64 | found[name][9]
                self.increases[name] += risen
                self.increase[name].append(min(risen, U64_MAX))
                if not found[name][12]:
                    self.approximate.add(name)
        return memory is not None

    def _memory(self, found: dict[str, list[int]]) -> str | None:
        """Which metric tells of a call's memory: the working set, unless its peaks are lost."""
        memory = None
        if WORKING in found and (found[WORKING][11] or USAGE not in found):
            memory = WORKING
        elif USAGE in found:
            memory = USAGE
            self.page_cache += 1
        if memory is not None:
            _, weight, *_ = total = found[memory]
            if not total[11]:
                self.approximate.update(("memory", "headroom", "near", "rightsize"))
            if not total[10]:
                self.approximate.add("trend")
            if weight != total[0]:
                self.approximate.add("growth")
        return memory

    def _add_cpu(self, total: list[int]) -> None:
        n, weight = total[:2]
        used = total[6] << 64 | total[7]
        self.cpu_total += used
        self.cpu_weight += weight
        self.cpu_means.append(used / weight)
        self.cpu_peaks.append(total[5])
        if weight != n:  # each reduced row is the floor of its mean
            self.approximate.update(("cpu_mean", "cpu"))
        if not total[11]:
            self.approximate.add("cpu_peak")

    def summary(self, *, risk: float | None = None, step: int = 64 * MIB) -> CallsSummary:
        """What the calls so far say together."""
        memory = _spread(self.peaks)
        limit = None if self.latest is None else self.latest[1]
        order = np.argsort(_view(self.times), kind="stable")
        return CallsSummary(
            calls=self.calls,
            errors=self.errors,
            killed=self.killed,
            unsampled=self.unsampled,
            duration_ns=_spread(self.durations),
            memory=memory,
            page_cache=self.page_cache,
            limit=limit,
            headroom=None if limit is None or limit >= UNLIMITED or memory.max is None else limit - int(memory.max),
            near=wilson(self.near, self.limited),
            cpu_mean=self.cpu_total / self.cpu_weight if self.cpu_weight else None,
            cpu=_spread(self.cpu_means),
            cpu_peak=_spread(self.cpu_peaks),
            increases=dict(self.increases),
            increase={name: _spread(risen) for name, risen in self.increase.items()},
            growth=_spread(self.growths),
            trend=leak_trend(_view(self.leasts)[order]),
            rightsize=None if risk is None else self._rightsize(risk, step),
            approximate=frozenset(self.approximate),
        )

    def _rightsize(self, risk: float, step: int) -> RightSize:
        # A killed call without memory in its samples is over at every size.
        blind = np.zeros(self.blind_kills, dtype=np.int8)
        peaks, limits, spans = (
            np.append(_view(cells), blind.astype(cells.typecode)) for cells in (self.peaks, self.limits, self.spans)
        )
        killed = np.append(_view(self.kills), blind + 1)
        return rightsize(peaks, risk=risk, step=step, limits=limits, killed=killed, durations=spans)


@lru_cache(maxsize=256)
def _plan(names: tuple[str, ...]) -> tuple[tuple[str, ...], Counts, dict[str, Counts]]:
    """The metrics that calls are asked for, as the kernels take them."""
    metrics, plan = plan_of(names)
    wanted = [place for place, name in enumerate(metrics) if name in (WORKING, USAGE, LIMIT, CPU, *FN_COUNTERS)]
    kept = np.ascontiguousarray(plan[:, wanted])
    chosen = tuple(metrics[place] for place in wanted)
    return chosen, kept, {name: kept[0, place : place + 1] for place, name in enumerate(chosen)}


@lru_cache(maxsize=512)
def _one(n: int) -> Counts:
    """The offsets of a batch of one."""
    return np.array([0, n], dtype=np.int64)


def _view(cells: array[int] | array[float]) -> AnyArray:
    """The same memory as numpy sees it."""
    return np.frombuffer(cells, dtype=cells.typecode) if len(cells) else np.zeros(0, dtype=cells.typecode)


def _spread(cells: array[int] | array[float]) -> Spread:
    n = len(cells)
    if not n:
        return Spread()
    places = [(n - 1) // 2, n // 2, place_of(95, n), place_of(99, n), n - 1]
    low, high, p95, p99, most = np.partition(_view(cells), sorted(set(places)))[places].tolist()
    middle = (low + high) // 2 if isinstance(low, int) else low / 2 + high / 2
    return Spread(n=n, p50=middle, p95=p95, p99=p99, max=most)
