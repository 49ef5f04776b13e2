"""Many calls of one function: a few scalars of each, then what they say together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from callstats import kernels
from callstats._columns import Columns
from callstats._json import as_bytes, decode
from callstats._types import FN_COUNTERS, I64_MAX, U64_MAX, AnyArray, Counts
from callstats.kernels.totals_py import (
    ENDS_ARE_EXACT,
    INCREASE,
    MAX,
    MAX_IS_EXACT,
    MIN,
    MIN_IS_EXACT,
    ROWS,
    SUM,
    WEIGHT,
)
from callstats.series import StatSeries
from callstats.stats.proportions import UNLIMITED, Bernoulli, wilson
from callstats.stats.rightsize import MIB, NO_LIMIT, RightSize, rightsize
from callstats.stats.series import growth_of, place_of, plan_of
from callstats.stats.trend import LeakTrend, leak_trend

FAILED = frozenset({"error", "timeout", "killed"})
KILLED = "killed"
WORKING, USAGE, LIMIT, CPU = "mem_working", "mem_usage", "mem_limit", "cpu_total"
NEAR_TENTHS = 9
"""A call whose peak is so many tenths of its limit came near it."""


class Call(NamedTuple):
    """One call: its series, and what is known of it besides.

    Attributes
    ----------
    series : StatSeries
    status : str or None
        ``error``, ``timeout`` and ``killed`` count as errors; ``killed`` is taken for want of memory.
    time_ns : int or None
        When it came, which puts calls in order; by default the time of its first sample.
    duration_ns : int or None
        By default the time from its first to its last sample.
    """

    series: StatSeries
    status: str | None = None
    time_ns: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A scalar over calls.

    Attributes
    ----------
    n : int
        Calls that have it.
    p50 : int, float or None
        The median: the mean of the middle two, of ints its floor. None, like the others, without any call.
    p95 : int, float or None
        The value at place ``ceil(p * n / 100)`` of the calls in order of size, p being 95.
    p99 : int, float or None
        The same for 99.
    max : int, float or None
    """

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
    calls : int
    errors : int
        Of all calls those that failed in any way.
    killed : int
        Those whose status is ``killed``.
    unsampled : int
        Those that have no sample.
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
    trend : LeakTrend or None
        Of each call's least memory, over the calls in order; None where SciPy is missing.
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
    trend: LeakTrend | None
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

    Returns
    -------
    CallsSummary

    Raises
    ------
    CallstatsError
        When risk or step is out of range.

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

    def add_text(self, text: bytes | None, status: str | None, time_ns: int | None, duration_ns: int | None) -> None:
        """Take in one call as it is stored.

        Raises
        ------
        DecodeError
            When it is no stored histogram; then nothing of the call is counted.
        """
        found = None if text is None else kernels.active.blob_totals(text, _layout)
        if found is None:
            self.add(decode(text)[0], status, time_ns, duration_ns)
            return
        names, n, first, last, totals, moments = found
        self._take(_plan(names), n, first, last, totals.tolist(), moments.tolist(), status, time_ns, duration_ns)

    def add(self, columns: Columns, status: str | None, time_ns: int | None, duration_ns: int | None) -> None:
        """Take one call in."""
        names, times, values, present, counts = columns
        plan, n, there = _plan(tuple(name.encode() for name in names)), len(times), as_bytes(present)
        offsets = np.array([0, n], dtype=np.int64)
        totals = kernels.active.totals(values, there, counts, offsets, plan.places)[:, 0].tolist()
        moments = kernels.active.moments(times, values, there, offsets, plan.memory_places)[:, 0].tolist()
        first, last = (times.item(0), times.item(n - 1)) if n else (0, 0)
        self._take(plan, n, first, last, totals, moments, status, time_ns, duration_ns)

    def _take(
        self,
        plan: _Plan,
        n: int,
        first: int,
        last: int,
        totals: list[list[int]],
        moments: list[list[int]],
        status: str | None,
        time_ns: int | None,
        duration_ns: int | None,
    ) -> None:
        """Take one call in by what the kernels give of it."""
        killed = status == KILLED
        self.calls += 1
        if killed or status in FAILED:
            self.errors += 1
            self.killed += killed
        if not n:
            self.unsampled += 1
        elif duration_ns is None:
            duration_ns = min(last - first, I64_MAX)
            self.approximate.add("duration_ns")
        if duration_ns is not None:
            self.durations.append(duration_ns)
        found = {name: total for name, total in zip(plan.metrics, totals, strict=True) if total[ROWS]}
        memory = self._memory(found)
        if memory is None:
            self.blind_kills += killed
        else:
            total = found[memory]
            peak, limit = total[MAX], found[LIMIT][MAX] if LIMIT in found else NO_LIMIT
            when = first if time_ns is None else time_ns
            self.peaks.append(peak)
            self.leasts.append(total[MIN])
            self.limits.append(limit)
            self.times.append(when)
            self.spans.append(duration_ns or 0)
            self.kills.append(killed)
            if limit != NO_LIMIT:
                self.limited += 1
                self.near += killed or (limit < UNLIMITED and 10 * peak >= NEAR_TENTHS * limit)
                if self.latest is None or when >= self.latest[0]:
                    self.latest = when, limit
            growth = growth_of(moments[plan.memories.index(memory)])
            if growth is not None:
                self.growths.append(growth)
        if CPU in found:
            self._add_cpu(found[CPU])
        for name in plan.counters:
            if name in found:
                total = found[name]
                risen = total[INCREASE] << 64 | total[INCREASE + 1]
                self.increases[name] += risen
                self.increase[name].append(min(risen, U64_MAX))
                if not total[ENDS_ARE_EXACT]:
                    self.approximate.add(name)

    def _memory(self, found: dict[str, list[int]]) -> str | None:
        """Which metric tells of a call's memory: the working set, unless its peaks are lost."""
        memory = None
        if WORKING in found and (found[WORKING][MAX_IS_EXACT] or USAGE not in found):
            memory = WORKING
        elif USAGE in found:
            memory = USAGE
            self.page_cache += 1
        if memory is not None:
            total = found[memory]
            if not total[MAX_IS_EXACT]:
                self.approximate.update(("memory", "headroom", "near", "rightsize"))
            if not total[MIN_IS_EXACT]:
                self.approximate.add("trend")
            if total[WEIGHT] != total[ROWS]:
                self.approximate.add("growth")
        return memory

    def _add_cpu(self, total: list[int]) -> None:
        used, weight = total[SUM] << 64 | total[SUM + 1], total[WEIGHT]
        self.cpu_total += used
        self.cpu_weight += weight
        self.cpu_means.append(used / weight)
        self.cpu_peaks.append(total[MAX])
        if weight != total[ROWS]:  # each reduced row is the floor of its mean
            self.approximate.update(("cpu_mean", "cpu"))
        if not total[MAX_IS_EXACT]:
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
            trend=_trend(_view(self.leasts)[order]),
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


class _Plan(NamedTuple):
    """Which metrics calls are asked for, as the kernels take them."""

    metrics: tuple[str, ...]
    places: Counts
    memories: tuple[str, ...]
    """Those that may tell of memory."""
    memory_places: Counts
    counters: tuple[str, ...]


@lru_cache(maxsize=256)
def _plan(names: tuple[bytes, ...]) -> _Plan:
    metrics, plan = plan_of(tuple(name.decode() for name in names))
    wanted = [place for place, name in enumerate(metrics) if name in (WORKING, USAGE, LIMIT, CPU, *FN_COUNTERS)]
    memory = [place for place in wanted if metrics[place] in (WORKING, USAGE)]
    chosen = tuple(metrics[place] for place in wanted)
    return _Plan(
        chosen,
        np.ascontiguousarray(plan[:, wanted]),
        tuple(metrics[place] for place in memory),
        np.ascontiguousarray(plan[0, memory]),
        tuple(name for name in chosen if name in FN_COUNTERS),
    )


def _layout(names: tuple[bytes, ...]) -> tuple[Counts, Counts]:
    """What the kernel asks for the metrics that it finds."""
    plan = _plan(names)
    return plan.places, plan.memory_places


def _trend(leasts: AnyArray) -> LeakTrend | None:
    try:
        return leak_trend(leasts)
    except ImportError:
        return None


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
