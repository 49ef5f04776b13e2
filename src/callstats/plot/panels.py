"""A metric of a call as it is drawn: seconds, values and the band around them in floats, open where nothing is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from callstats._types import FN_COUNTERS, AnyArray
from callstats._units import memory_text
from callstats.errors import CallstatsError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries
from callstats.stats import UNLIMITED, Summary, summarize
from callstats.stats.call import LIMIT, USAGE, WORKING

Kind: TypeAlias = Literal["memory", "percent", "rate", "number"]

GAP = 3
"""Rows further apart than so many times the usual step have a gap between them."""

MOST_ABOVE = 4
"""A limit more than so many times the largest value is told, and not drawn."""

_FIRST = (WORKING, USAGE, "cpu_total", "cpu_user", "cpu_kernel", "net_rx", "net_tx", "disk_read", "disk_write")
"""The order of the known metrics; others follow by name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """One metric over time.

    Attributes
    ----------
    name : str
    kind : str
        ``memory`` in bytes, ``percent`` of one core, ``rate`` in bytes per second (of a counter), or a ``number``.
    seconds : (m,) float
        Since the first row of the series.
    values : (m,) float
        NaN where the metric is absent, and once in every gap.
    low : (m,) float or None
        The lower edge of the band: ``x@min``, where it is kept.
    high : (m,) float or None
        The upper edge: ``x@max``.
    limit : float or None
        The largest memory limit; None for other metrics, and where there is no limit.
    summary : Summary
    """

    name: str
    kind: Kind
    seconds: AnyArray
    values: AnyArray
    low: AnyArray | None
    high: AnyArray | None
    limit: float | None
    summary: Summary

    @property
    def top(self) -> float:
        """The largest value drawn; 0 where there is none."""
        drawn = self.values if self.high is None else np.fmax(self.values, self.high)
        return float(np.nanmax(drawn)) if np.isfinite(drawn).any() else 0.0

    @property
    def drawn_limit(self) -> float | None:
        """The limit, unless it is so far above all values that a chart with it would be flat."""
        return self.limit if self.limit is not None and self.limit <= MOST_ABOVE * self.top else None


def tracks(series: StatSeries, metrics: Iterable[str] | None = None) -> list[Track]:
    """The tracks of a series.

    Parameters
    ----------
    series : StatSeries
    metrics : iterable of str, optional
        Those to draw; by default all but the memory limit, which is a line in others.

    Returns
    -------
    list of Track

    Raises
    ------
    CallstatsError
        When the series has no such metric.

    Examples
    --------
    >>> [track] = tracks(StatSeries([0, 10**9, 2 * 10**9], {"net_rx": [100, 250, 400]}))
    >>> track.kind, track.values[1:].tolist()
    ('rate', [150.0, 150.0])
    """
    summaries = summarize(series)
    if metrics is None:
        known = [name for name in _FIRST if name in summaries]
        chosen = [*known, *sorted(summaries.keys() - {*_FIRST, LIMIT})]
    else:
        chosen = list(metrics)
        for name in chosen:
            if name not in summaries:
                there = ", ".join(map(repr, summaries)) or "none"
                raise CallstatsError(f"expected a metric of the call, got {name!r}, and there are {there}")
    return [_track(series, name, summaries) for name in chosen]


def kind_of(name: str) -> Kind:
    """What a metric measures, told by its name."""
    if name in FN_COUNTERS:
        return "rate"
    return "memory" if name.startswith("mem_") else "percent" if name.startswith("cpu_") else "number"


def value_text(kind: Kind, value: float) -> str:
    """A value in the unit of its kind."""
    if kind == "memory":
        return memory_text(round(value))
    if kind == "rate":
        return f"{memory_text(round(value))}/s"
    if kind == "percent":
        return f"{value:,.0f} %" if value >= 1000 or value == int(value) else f"{value:.1f} %"
    return f"{value:,.0f}" if value == int(value) and value < 10**6 else f"{value:,.4g}"


def span_ns(series: StatSeries) -> int:
    """Nanoseconds from the first to the last row, which int64 need not hold."""
    return int(series.timestamps[-1]) - int(series.timestamps[0]) if len(series) else 0


def _track(series: StatSeries, name: str, summaries: dict[str, Summary]) -> Track:
    kind = kind_of(name)
    seconds, values = _seconds(series), _floats(series, name)
    low, high = (_peaks(series, name, values, kept) for kept in ("min", "max"))
    limit = None
    if kind == "memory" and name != LIMIT and LIMIT in summaries:
        largest = summaries[LIMIT].max
        limit = float(largest) if largest and largest < UNLIMITED else None
    if kind == "rate":
        seconds, values = _rates(series, name, seconds)
        low = high = None
    gaps = _gaps(seconds)
    return Track(
        name=name,
        kind=kind,
        seconds=np.insert(seconds, gaps, (seconds[gaps - 1] + seconds[gaps]) / 2),
        values=np.insert(values, gaps, np.nan),
        low=None if low is None else np.insert(low, gaps, np.nan),
        high=None if high is None else np.insert(high, gaps, np.nan),
        limit=limit,
        summary=summaries[name],
    )


def _seconds(series: StatSeries) -> AnyArray:
    since = series.timestamps.view(np.uint64) - series.timestamps[:1].view(np.uint64)  # a span may have 64 bits
    return since.astype(np.float64) / 1e9


def _floats(series: StatSeries, name: str) -> AnyArray:
    cells = series[name]
    values: AnyArray = np.ma.getdata(cells).astype(np.float64)
    values[np.ma.getmaskarray(cells)] = np.nan
    return values


def _peaks(series: StatSeries, name: str, values: AnyArray, kept: str) -> AnyArray | None:
    """A row's ``x@max``, else its x, as everywhere."""
    peak = f"{name}@{kept}"
    if peak not in series.names or parse_peak_name(name) is not None:
        return None
    cells = _floats(series, peak)
    return np.where(np.isnan(cells), values, cells)


def _rates(series: StatSeries, name: str, seconds: AnyArray) -> tuple[AnyArray, AnyArray]:
    """By how much a counter rose per second, at the later of two rows; a value below the one before is a reset to 0."""
    cells = series[name]
    values, there = np.ma.getdata(cells), ~np.ma.getmaskarray(cells)
    last = np.append(seconds[1:] != seconds[:-1], True)  # of equal times the last row counts
    seconds, values, there = seconds[last], values[last], there[last]
    rates = np.full(len(seconds), np.nan)
    rows = np.flatnonzero(there)
    before, after = values[rows[:-1]], values[rows[1:]]
    risen = np.where(after >= before, after - before, after).astype(np.float64)
    rates[rows[1:]] = risen / np.diff(seconds[rows])
    return seconds, rates


def _gaps(seconds: AnyArray) -> AnyArray:
    """The rows with a gap before them."""
    steps = np.diff(seconds)
    moving = steps[steps > 0]
    if len(moving) < 2:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(steps > GAP * np.median(moving)) + 1
