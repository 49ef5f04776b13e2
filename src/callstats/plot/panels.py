"""The plots of a call: tracks, which are metrics over time in floats, and panels of tracks with one unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from callstats._types import FN_COUNTERS, AnyArray
from callstats._units import memory_text, memory_unit, size_text, size_unit
from callstats.errors import ArgumentError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries
from callstats.stats import UNLIMITED, Summary, summarize
from callstats.stats.call import LIMIT, USAGE, WORKING, CallTotals, call_totals

Kind: TypeAlias = Literal["memory", "percent", "rate", "number"]

COLORS = ("#2f6fdb", "#d9822b", "#2e9d6a", "#b0479d", "#8a7a1f", "#5b5fc7")
LIMIT_COLOR = "#d64545"
OUTCOME_COLORS = (COLORS[0], "#e0a030", LIMIT_COLOR)
"""Of calls that succeeded, failed and were killed."""

GAP = 3
"""A gap is a step of more than so many usual steps."""

LIMIT_FACTOR = 4
"""A limit above so many times the max is not drawn: the plot would be flat."""

_FLOORED_NS = 10**6
"""A row may be so long before the start of its call: stored samples have milliseconds, and starts may have microseconds."""

_ORDER = (WORKING, USAGE, "cpu_total", "cpu_user", "cpu_kernel", "net_rx", "net_tx", "disk_read", "disk_write")
"""The order of the known metrics; others follow by name."""

_PREFIXES: dict[str, Kind] = {"mem_": "memory", "cpu_": "percent"}

_TITLES = {"mem": "Memory", "cpu": "Processor", "net": "Network", "disk": "Disk"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """One metric over time."""

    name: str
    kind: Kind
    """``memory`` in bytes, ``percent`` of one core, ``rate`` in bytes per second (of a counter), or a ``number``."""
    seconds: AnyArray
    """Since the start of the call, or where that is not known since the first row of the series."""
    end: float
    """The seconds at which the axis ends: those of the end of the call, or else of the last row."""
    values: AnyArray
    """NaN where the metric is absent, and once in each gap."""
    low: AnyArray | None
    """The lower edge of the band: ``x@min``, if the series has it."""
    high: AnyArray | None
    """The upper edge: ``x@max``."""
    limit: float | None
    """The max memory limit; None for other metrics, and for an unlimited call."""
    summary: Summary
    traffic: tuple[int, bool] | None
    """The total increase of a counter, as `CallsSummary.increases` has it, and whether it is exact; None for other metrics."""
    reduced: bool
    """Whether any row stands for several samples, so that means and rates are not exact."""

    @property
    def top(self) -> float:
        """The max that is drawn; 0 without values."""
        drawn = self.values if self.high is None else np.fmax(self.values, self.high)
        return float(np.nanmax(drawn)) if np.isfinite(drawn).any() else 0.0

    @property
    def top_text(self) -> str:
        """The same with its unit, and ``~`` if it is not exact."""
        exact = not self.reduced if self.kind == "rate" else self.summary.exact
        return ("" if exact else "~") + value_text(self.kind, self.top)

    @property
    def drawn_limit(self) -> float | None:
        """The limit, unless it is too far above the values."""
        return self.limit if self.limit is not None and self.limit <= LIMIT_FACTOR * self.top else None

    @property
    def band(self) -> tuple[AnyArray, AnyArray] | None:
        """Both edges of the band, with the values in place of an edge that the series does not have."""
        if self.low is None and self.high is None:
            return None
        return self.values if self.low is None else self.low, self.values if self.high is None else self.high

    @property
    def needs_markers(self) -> bool:
        """Whether the values are too few for a visible line."""
        return bool(np.count_nonzero(np.isfinite(self.values)) < 3)


class Panel(NamedTuple):
    """Tracks of one kind, for one plot on one scale."""

    title: str
    unit: str
    divisor: float
    """It converts the tracks' values to the unit."""
    tracks: list[Track]

    @property
    def limit(self) -> float | None:
        """The limit to draw, in the panel's unit."""
        drawn = [track.drawn_limit for track in self.tracks if track.drawn_limit is not None]
        return max(drawn) / self.divisor if drawn else None

    @property
    def top_text(self) -> str:
        """The max that is drawn, with its unit."""
        return max(self.tracks, key=lambda track: track.top).top_text


def tracks(series: StatSeries, metrics: Iterable[str] | None = None, *, span: tuple[int, int] | None = None) -> list[Track]:
    """Return the tracks of some metrics of a series: by default of all but the memory limit, which is a line in others.

    The span is the start and the end of the call in nanoseconds since the epoch, as `Call.span` has them. Without it, or where a
    row is outside of it, the axis of time lasts from the first row to the last.

    Examples
    --------
    >>> [track] = tracks(StatSeries([0, 10**9, 2 * 10**9], {"net_rx": [100, 250, 400]}))
    >>> track.kind, track.values[1:].tolist()
    ('rate', [150.0, 150.0])
    """
    summaries = summarize(series)
    if metrics is None:
        known = [name for name in _ORDER if name in summaries]
        chosen = [*known, *sorted(summaries.keys() - {*_ORDER, LIMIT})]
    else:
        chosen = list(metrics)
        for name in chosen:
            if name not in summaries:
                hint = f"it has {', '.join(map(repr, summaries)) or ('none' if len(series) else 'no samples')}"
                raise ArgumentError("metrics", "among those of the series", name, hint=hint)
    totals = call_totals(series)
    return [_make_track(series, name, summaries, totals, span) for name in chosen]


def panels(series: StatSeries, metrics: Iterable[str] | None = None, *, span: tuple[int, int] | None = None) -> list[Panel]:
    """Return the panels of a series: for memory, processor, network and disk, and one for each other metric."""
    by_title: dict[str, list[Track]] = {}
    for track in tracks(series, metrics, span=span):
        title = track.name if track.kind == "number" else _TITLES[track.name.partition("_")[0]]
        by_title.setdefault(title, []).append(track)
    return [_make_panel(title, found) for title, found in by_title.items()]


def value_text(kind: Kind, value: float) -> str:
    """Return a value in the unit of its kind."""
    if kind == "memory":
        return memory_text(round(value))
    if kind == "rate":
        return f"{size_text(value)}/s"
    if kind == "percent":
        return f"{value:,.0f} %" if value >= 1000 or value == int(value) else f"{value:.1f} %"
    return f"{value:,.0f}" if value == int(value) and value < 10**6 else f"{value:,.4g}"


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit for an axis of time, and its seconds."""
    for unit, length, units in (("days", 86_400.0, 3.0), ("hours", 3_600.0, 3.0), ("minutes", 60.0, 5.0)):
        if seconds >= units * length:
            return unit, length
    return "seconds", 1.0


def _make_panel(title: str, found: list[Track]) -> Panel:
    kind = found[0].kind
    if kind in ("percent", "number"):
        return Panel(title, "% of one core" if kind == "percent" else "", 1.0, found)
    unit, divisor = (size_unit if kind == "rate" else memory_unit)(max(track.top for track in found))
    return Panel(title, unit + ("/s" if kind == "rate" else ""), divisor, found)


def _make_track(
    series: StatSeries, name: str, summaries: dict[str, Summary], totals: CallTotals, span: tuple[int, int] | None
) -> Track:
    kind: Kind = "rate" if name in FN_COUNTERS else _PREFIXES.get(name[:4], "number")
    since = series.timestamps.view(np.uint64) - series.timestamps[:1].view(np.uint64)  # a span may have 64 bits
    first, last = series.timestamps[[0, -1]].tolist()
    start, end = (first, last) if span is None or first < span[0] - _FLOORED_NS or last > span[1] else span
    seconds, values = since.astype(np.float64) / 1e9, _floats(series, name)
    low, high = (_peaks(series, name, values, reducer) for reducer in ("min", "max"))
    limit = summaries.get(LIMIT, Summary()).max if kind == "memory" and name != LIMIT else None
    if kind == "rate":
        seconds, values = _rates(series, name, seconds)
        low = high = None
    gaps = _gaps(seconds)
    seconds = np.clip(seconds + (first - start) / 1e9, 0, (end - start) / 1e9)  # a floored time, and rounded sums, stay inside
    return Track(
        name=name,
        kind=kind,
        seconds=np.insert(seconds, gaps, (seconds[gaps - 1] + seconds[gaps]) / 2),
        end=(end - start) / 1e9,
        values=np.insert(values, gaps, np.nan),
        low=None if low is None else np.insert(low, gaps, np.nan),
        high=None if high is None else np.insert(high, gaps, np.nan),
        limit=float(limit) if limit and limit < UNLIMITED else None,
        summary=summaries[name],
        traffic=totals.traffic(name) if kind == "rate" else None,
        reduced=bool((series.counts > 1).any()),
    )


def _floats(series: StatSeries, name: str) -> AnyArray:
    values: AnyArray = np.ma.filled(series[name].astype(np.float64), np.nan)
    return values


def _peaks(series: StatSeries, name: str, values: AnyArray, reducer: str) -> AnyArray | None:
    """Return each row's ``x@max``, or its x where it has none."""
    peak = f"{name}@{reducer}"
    if peak not in series.names or parse_peak_name(name) is not None:
        return None
    cells = _floats(series, peak)
    return np.where(np.isnan(cells), values, cells)


def _rates(series: StatSeries, name: str, seconds: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return a counter's increase per second, at the later of two rows. A decrease is a reset to 0."""
    cells = series[name]
    values, present = np.ma.getdata(cells), ~np.ma.getmaskarray(cells)
    last = np.append(seconds[1:] != seconds[:-1], True)  # of equal times the last row counts
    seconds, values, present = seconds[last], values[last], present[last]
    rates = np.full(len(seconds), np.nan)
    rows = np.flatnonzero(present)
    before, after = values[rows[:-1]], values[rows[1:]]
    increases = np.where(after >= before, after - before, after).astype(np.float64)
    rates[rows[1:]] = increases / np.diff(seconds[rows])
    return seconds, rates


def _gaps(seconds: AnyArray) -> AnyArray:
    """Return the rows after a gap."""
    steps = np.diff(seconds)
    return np.flatnonzero(steps > GAP * np.median(steps[steps > 0])) + 1 if steps.any() else np.zeros(0, dtype=np.int64)
