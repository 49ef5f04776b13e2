"""CallUsage: the memory, CPU and time of one call, and which of these values are exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from callstats import kernels
from callstats._columns import Columns
from callstats._json import as_bytes, decode
from callstats._types import FN_COUNTERS, I64_MAX, AnyArray, Counts
from callstats.kernels.totals_py import ENDS_ARE_EXACT, FIRST, INCREASE, LAST, MAX, MAX_IS_EXACT, MIN, ROWS, SUM, WEIGHT
from callstats.series import StatSeries
from callstats.stats.series import plan_column

WORKING, USAGE, LIMIT, CPU = "mem_working", "mem_usage", "mem_limit", "cpu_total"
CPU_TIME = "cpu_time@last"
KERNEL_PEAK = "mem_peak@last"
"""The kernel's own peak of ``mem_usage`` over the whole call. As the last value, it survives every reduction."""

_MAX_OF = {metric: f"{metric}@max" for metric in (WORKING, USAGE, LIMIT, CPU)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallUsage:
    """The resources that one call used. A value is None where the call does not tell it."""

    peak_memory: int | None = None
    """The max of `memory_metric`, in bytes. A max of 0 counts as unknown."""
    peak_source: Literal["sampled", "kernel"] | None = None
    """``kernel`` where the kernel kept the peak of the whole call. A sampled peak is a lower bound: memory may rise and fall
    between two samples."""
    peak_ceiling: int | None = None
    """An upper bound of the peak, in bytes: the kernel's peak of ``mem_usage``, where `memory_metric` is ``mem_working``. Without
    ``mem_peak@last`` it is known only while no reduction has mixed it with sampled values."""
    memory_metric: str | None = None
    """``mem_working`` where the series has it, else ``mem_usage``."""
    memory_limit: int | None = None
    """The max of ``mem_limit``, in bytes; 2**63 - 4096 or more means unlimited, and 0 counts as unknown. It counts as exact, as
    the default reduction keeps the max."""
    cpu_mean: float | None = None
    """Percent of one core: `cpu_time_ns` by the duration that the caller gave, else the rise of processor time over that of the
    samples, else the mean of ``cpu_total``."""
    cpu_peak: int | None = None
    """The max of ``cpu_total``, in percent of one core."""
    cpu_time_ns: int | None = None
    """The last ``cpu_time@last``; exact where the last row has it."""
    duration_ns: int | None = None
    """The duration that the caller gave, else the inexact time from the first to the last row."""
    samples: int = 0
    """Raw samples: the sum of the counts."""
    rows: int = 0
    """Stored rows. Every reduction changes them, so they are never exact."""
    exact: frozenset[str] = frozenset()
    """The names of the known values that no reduction has changed."""


def usage_of(series: StatSeries | bytes | None, duration_ns: int | None = None) -> CallUsage:
    """Return the resources that a call used.

    Parameters
    ----------
    series : StatSeries, bytes or None
        The call's samples; bytes are a stored blob, and None is a call without samples.
    duration_ns : int, optional
        The time from the start to the end of the call, as its row tells it.

    Examples
    --------
    >>> usage = usage_of(StatSeries([0, 10**9], {"mem_usage": [4096, 8192], "cpu_total": [50, 70]}))
    >>> usage.peak_memory, usage.cpu_mean, usage.duration_ns
    (8192, 60.0, 1000000000)
    >>> sorted(usage.exact)
    ['cpu_mean', 'cpu_peak', 'peak_memory', 'samples']
    """
    return call_totals(series).usage(duration_ns)


class CallTotals(NamedTuple):
    """The kernels' totals of one call, by name of metric or peak; a name without values is absent."""

    rows: int
    samples: int
    first: int
    last: int
    totals: dict[str, list[int]]
    moments: dict[str, list[int]]
    """Of ``mem_working`` and ``mem_usage``."""
    cpu_time_in_last_row: bool

    def usage(self, duration_ns: int | None = None) -> CallUsage:
        totals, exact = self.totals, ["samples"]
        metric: str | None = WORKING
        peak, is_exact = self._max(WORKING)
        if not peak:
            metric = USAGE
            peak, is_exact = self._max(USAGE)
        kernel_peak = totals[KERNEL_PEAK][LAST] if KERNEL_PEAK in totals else 0
        is_kernels = bool(kernel_peak) and metric == USAGE
        if is_kernels:
            peak, is_exact = max(peak or 0, kernel_peak), True
        if not peak:
            metric = peak = None
        elif is_exact:
            exact.append("peak_memory")
        ceiling = (kernel_peak or self._ceiling()) if metric == WORKING else None
        if ceiling is not None:
            exact.append("peak_ceiling")
        limit = self._max(LIMIT)[0] or None
        if limit is not None:
            exact.append("memory_limit")
        cpu_peak, is_exact = self._max(CPU)
        if is_exact:
            exact.append("cpu_peak")
        cpu_time = totals[CPU_TIME][LAST] if CPU_TIME in totals else None
        if cpu_time is not None and self.cpu_time_in_last_row:
            exact.append("cpu_time_ns")
        cpu_mean = None
        if duration_ns is not None:
            exact.append("duration_ns")
            if cpu_time is not None and duration_ns:
                cpu_mean = 100 * cpu_time / duration_ns
                if "cpu_time_ns" in exact:
                    exact.append("cpu_mean")
        elif self.rows:
            duration_ns = min(self.last - self.first, I64_MAX)
            if cpu_time is not None and duration_ns and totals[CPU_TIME][ROWS] > 1:
                cpu_mean = 100 * _wide(totals[CPU_TIME], INCREASE) / duration_ns
        if cpu_mean is None and CPU in totals:
            total = totals[CPU]
            cpu_mean = _wide(total, SUM) / total[WEIGHT]
            if total[WEIGHT] == total[ROWS] and cpu_time is None:
                exact.append("cpu_mean")
        return CallUsage(
            peak_memory=peak,
            peak_source=None if peak is None else "kernel" if is_kernels else "sampled",
            peak_ceiling=ceiling,
            memory_metric=metric,
            memory_limit=limit,
            cpu_mean=cpu_mean,
            cpu_peak=cpu_peak,
            cpu_time_ns=cpu_time,
            duration_ns=duration_ns,
            samples=self.samples,
            rows=self.rows,
            exact=frozenset(exact),
        )

    def traffic(self, counter: str) -> tuple[int, bool] | None:
        """Return what a counter rose by since the start of the call, and whether that is exact; None where it has no values.

        A recording, which ends with its processor time, counts from 0. In other calls what was there at the first row is not
        known to be the call's own, and is left out.
        """
        if counter not in self.totals:
            return None
        total, is_recording = self.totals[counter], CPU_TIME in self.totals and self.cpu_time_in_last_row
        first = total[FIRST]
        increase = _wide(total, INCREASE) + (first if is_recording else 0)
        return increase, bool(total[ENDS_ARE_EXACT]) and (is_recording or not first)

    def _max(self, metric: str) -> tuple[int | None, bool]:
        """Return the max of a metric, and whether it is exact. A row may have the metric, its peak or both."""
        own, peak = self.totals.get(metric), self.totals.get(_MAX_OF[metric])
        if own is None or peak is None:
            total = own or peak
            return (None, False) if total is None else (total[MAX], bool(total[MAX_IS_EXACT]))
        return max(own[MAX], peak[MAX]), bool(own[MAX_IS_EXACT] and peak[MAX_IS_EXACT])

    def _ceiling(self) -> int | None:
        # A row of one sample has this peak from the kernel; a row of several may have it from a reduction.
        total = self.totals.get(_MAX_OF[USAGE])
        return None if total is None or total[WEIGHT] != total[ROWS] else total[MAX] or None


def _wide(words: list[int], field: int) -> int:
    """Return a number of two words."""
    return words[field] << 64 | words[field + 1]


def call_totals(series: StatSeries | bytes | None) -> CallTotals:
    """Return the totals of a call; of a stored blob without building its series, where the kernel can."""
    if isinstance(series, bytes):
        found = kernels.active.blob_totals(series, _kernel_layout)
        if found is not None:
            names, rows, first, last, totals, moments = found
            layout = _layout(names)
            by_name = _by_name(layout.columns, totals)
            samples = next((total[WEIGHT] for total in by_name.values() if total[ROWS] == rows), None if rows else 0)
            in_last_row = CPU_TIME not in by_name or by_name[CPU_TIME][ROWS] == rows
            if samples is not None and in_last_row and not _has_zeros(by_name):
                return CallTotals(rows, samples, first, last, by_name, _by_name(layout.memory, moments), True)
    columns = series._columns if isinstance(series, StatSeries) else decode(series)[0]
    found = _column_totals(columns)
    return _column_totals(_without_zeros(columns)) if _has_zeros(found.totals) else found


def _has_zeros(totals: dict[str, list[int]]) -> bool:
    """Return whether a call with memory has rows with a memory of 0 too."""
    return any(name in totals and not totals[name][MIN] and totals[name][MAX] for name in (WORKING, USAGE))


def _without_zeros(columns: Columns) -> Columns:
    """Leave out memory of 0, which is no measurement: an engine reports it for a container that is gone."""
    present = np.ones(columns.values.shape, dtype=np.bool_) if columns.present is None else columns.present.copy()
    for index, name in enumerate(columns.names):
        if name.removesuffix("@min") in (WORKING, USAGE):
            present[index] &= columns.values[index] > 0
    return columns._replace(present=present)


def _column_totals(columns: Columns) -> CallTotals:
    names, times, values, present, counts = columns
    rows, mask = len(times), as_bytes(present)
    layout, offsets = _layout(tuple(name.encode() for name in names)), np.array([0, rows], dtype=np.int64)
    totals = kernels.active.totals(values, mask, counts, offsets, layout.plan)[:, 0]
    moments = kernels.active.moments(times, values, mask, offsets, layout.memory_indexes)[:, 0]
    first, last = (times.item(0), times.item(rows - 1)) if rows else (0, 0)
    samples = rows if counts is None else int(counts.sum())
    in_last_row = CPU_TIME in names and (present is None or bool(present[names.index(CPU_TIME), -1]))
    return CallTotals(rows, samples, first, last, _by_name(layout.columns, totals), _by_name(layout.memory, moments), in_last_row)


def _by_name(names: tuple[str, ...], words: AnyArray) -> dict[str, list[int]]:
    """Return the kernel's words by name, without names that no row has."""
    return {name: row for name, row in zip(names, words.tolist(), strict=True) if row[ROWS]}


class _Layout(NamedTuple):
    columns: tuple[str, ...]
    plan: Counts
    memory: tuple[str, ...]
    memory_indexes: Counts


@lru_cache(maxsize=256)
def _layout(encoded: tuple[bytes, ...]) -> _Layout:
    indexes = {name.decode(): index for index, name in enumerate(encoded)}
    columns: dict[str, list[int]] = {}
    for metric in (WORKING, USAGE, LIMIT, CPU, *FN_COUNTERS):
        own, *peaks = column = plan_column(metric, indexes)
        peak_max, any_peak = peaks[1], max(peaks)
        if own >= 0:
            columns[metric] = column
        if metric in _MAX_OF and peak_max >= 0:
            columns[_MAX_OF[metric]] = [peak_max, -1, peak_max, -1, -1]  # its own max, and so it is exact
        elif metric in _MAX_OF and own < 0 <= any_peak:
            columns[_MAX_OF[metric]] = [any_peak, -1, -1, -1, -1]
    for metric in (CPU_TIME, KERNEL_PEAK):
        if metric in indexes:
            columns[metric] = [indexes[metric], -1, -1, -1, -1]
    if not columns and encoded:
        columns[next(iter(indexes))] = [0, -1, -1, -1, -1]  # any metric may tell the number of samples
    plan = np.array(list(columns.values()), dtype=np.int64).reshape(len(columns), 5)
    memory = tuple(name for name in (WORKING, USAGE) if name in indexes)
    memory_indexes = np.array([indexes[name] for name in memory], dtype=np.int64)
    return _Layout(tuple(columns), np.ascontiguousarray(plan.T), memory, memory_indexes)


def _kernel_layout(encoded: tuple[bytes, ...]) -> tuple[Counts, Counts]:
    layout = _layout(encoded)
    return layout.plan, layout.memory_indexes
