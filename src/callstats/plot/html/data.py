"""What the page shows, as plain data: aggregated and put into words here, so that the page only draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from callstats._types import AnyArray
from callstats._units import duration_text, limit_text, memory_text, printable
from callstats.errors import CallstatsError
from callstats.plot.html.bins import Bins, duration_bins, memory_bins
from callstats.plot.panels import MOST_ABOVE, span_ns
from callstats.plot.plotly import Panel, panels, time_unit
from callstats.series import StatSeries
from callstats.stats import UNLIMITED, CallsSummary, summarize
from callstats.stats.call import LIMIT, USAGE, WORKING
from callstats.stats.format import summary_texts

DIGITS = 5
"""Digits of a value that is drawn: more can't be seen."""

Cell: TypeAlias = "int | tuple[str, float] | None"
"""A cell of the table: a count, or what it says and what it is sorted by; None is empty and comes last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportGroup:
    """The calls of a group.

    Attributes
    ----------
    name : str
    summary : CallsSummary
    peaks : (n,) int array-like
        The most memory of each call, in bytes.
    durations : (m,) int array-like
        How long each call took, in nanoseconds.
    """

    name: str
    summary: CallsSummary
    peaks: Sequence[int] | AnyArray = ()
    durations: Sequence[int] | AnyArray = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportCall:
    """A call that gets charts.

    Attributes
    ----------
    name : str
    series : StatSeries
    group : str
        The name of its group.
    facts : dict of str to str
        What else is known of it, such as its status, each with its title.
    """

    name: str
    series: StatSeries
    group: str = ""
    facts: dict[str, str] = field(default_factory=dict)


COLUMNS = (
    "calls",
    "errors",
    "killed",
    "duration p50",
    "duration p95",
    "memory p50",
    "memory p95",
    "memory max",
    "limit",
    "near limit",
    "CPU mean",
    "growing",
    "right size",
    "saves",
)
"""The columns of the table after the group's name."""


def content(groups: Iterable[ReportGroup], calls: Iterable[ReportCall], *, by: str, notes: Iterable[str]) -> dict[str, Any]:
    """All that the page shows."""
    shown = list(groups)
    places: dict[str, int] = {}
    for place, group in enumerate(shown):
        if places.setdefault(group.name, place) != place:
            raise CallstatsError(f"groups must have names that differ, got {group.name!r} twice")
    texts = _Texts()
    return {
        "by": printable(by),
        "notes": [printable(note) for note in notes],
        "columns": COLUMNS,
        "groups": [_group(group, texts) for group in shown],
        "texts": list(texts),
        "calls": [_call(call, places.get(call.group, -1)) for call in calls],
    }


class _Texts(dict[str, int]):
    """Texts that many groups have, each written once: a text's place among them."""

    def __missing__(self, text: str) -> int:
        place = self[text] = len(self)
        return place


def _group(group: ReportGroup, texts: _Texts) -> dict[str, Any]:
    summary = group.summary
    peaks, durations = np.asarray(group.peaks, dtype=np.uint64), np.asarray(group.durations, dtype=np.int64)
    lines = []
    most = int(peaks.max()) if len(peaks) else 0
    if summary.limit is not None and not summary.is_unlimited and summary.limit <= MOST_ABOVE * most:
        lines.append((summary.limit, f"limit {limit_text(summary.limit)}"))
    size = None if summary.rightsize is None else summary.rightsize.size
    if size is not None and size <= MOST_ABOVE * most:
        lines.append((size, f"right size {limit_text(size)}"))
    memory = memory_bins(peaks, max((at for at, _ in lines), default=0))
    return {
        "name": printable(group.name),
        "cells": list(_cells(summary)),
        "figures": [(texts[title], text) for title, text in summary_texts(summary)],
        "memory": _bars(memory, [(at / memory.width, text) for at, text in lines], texts),
        "duration": _bars(duration_bins(durations), [], texts),
    }


def _bars(bins: Bins, lines: list[tuple[float, str]], texts: _Texts) -> list[Any]:
    """Counts, the edges by their texts, and lines across."""
    return [bins.counts.tolist(), [texts[edge] for edge in bins.edges], [(round(at, 3), text) for at, text in lines]]


def _cells(summary: CallsSummary) -> Iterator[Cell]:
    """The cells of a group, one for each of `COLUMNS`."""
    duration, memory, sized = summary.duration_ns, summary.memory, summary.rightsize

    def mark(name: str) -> str:
        return "~" if name in summary.approximate else ""

    yield from (summary.calls, summary.errors, summary.killed)
    for ns in (duration.p50, duration.p95):
        yield _or_none(ns, lambda value: mark("duration_ns") + duration_text(int(value)))
    for size in (memory.p50, memory.p95, memory.max):
        yield _or_none(size, lambda value: mark("memory") + memory_text(int(value)))
    if summary.is_unlimited:
        yield "unlimited", UNLIMITED
    else:
        yield _or_none(summary.limit, lambda value: limit_text(int(value)))
    yield _or_none(summary.near.p, lambda value: f"{mark('near')}{100 * value:.3g} %")
    yield _or_none(summary.cpu_mean, lambda value: f"{mark('cpu_mean')}{value:.1f} %")
    growing = None if summary.trend is None else summary.trend.growing
    yield None if growing is None else (mark("trend") + ("yes" if growing else "no"), int(growing))
    yield _or_none(None if sized is None else sized.size, lambda value: mark("rightsize") + limit_text(int(value)))
    yield _or_none(None if sized is None else sized.saved, lambda value: f"{mark('rightsize')}{100 * value:.0f} %")


def _or_none(value: float | None, text: Callable[[float], str]) -> Cell:
    return None if value is None else (text(value), value if isinstance(value, int) else float(f"{value:.{DIGITS}g}"))


def _call(call: ReportCall, group: int) -> dict[str, Any]:
    series = call.series
    found = summarize(series)
    memory = next((name for name in (WORKING, USAGE) if name in found), None)
    peak, limit = (found[name].max if name in found else None for name in (memory or "", LIMIT))
    shown = [panel for panel in panels(series) if any(np.isfinite(track.values).any() for track in panel.tracks)]
    unit, divisor = time_unit(span_ns(series) / 1e9)
    facts = [(title, text) for title, text in call.facts.items() if text]
    samples = int(series.counts.sum()) if len(series) else 0
    facts.append(("samples", f"{samples:,}" + ("" if samples == len(series) else f" in {len(series):,} rows")))
    if peak is not None:
        facts.append((memory or "", memory_text(peak)))
    if limit is not None:
        facts.append(("limit", "unlimited" if limit >= UNLIMITED else limit_text(limit)))
    return {
        "name": printable(call.name),
        "group": group,
        "facts": [(printable(title), printable(text)) for title, text in facts],
        "peak": "" if peak is None else memory_text(peak),
        "length": duration_text(span_ns(series)),
        "unit": unit,
        "panels": [_panel(panel, divisor) for panel in shown],
    }


def _panel(panel: Panel, seconds_in_unit: float) -> dict[str, Any]:
    times: list[list[float | None]] = []
    drawn = []
    for track in panel.tracks:
        x = rounded(track.seconds / seconds_in_unit, 7)
        if x not in times:
            times.append(x)
        one: dict[str, Any] = {"name": printable(track.name), "x": times.index(x), "y": rounded(track.values / panel.divisor)}
        for part, cells in (("low", track.low), ("high", track.high)):
            if cells is not None:
                one[part] = rounded(cells / panel.divisor)
        drawn.append(one)
    limit = None if panel.limit is None else float(f"{panel.limit:.{DIGITS}g}")
    return {"title": printable(panel.title), "unit": panel.unit, "times": times, "tracks": drawn, "limit": limit}


def rounded(cells: AnyArray, digits: int = DIGITS) -> list[float | None]:
    """Values to so many digits, whole ones without a fraction; None for NaN."""
    found: list[float | None] = []
    for value in cells.tolist():
        if math.isnan(value):
            found.append(None)
        else:
            short = float(f"{value:.{digits}g}")
            found.append(int(short) if short == int(short) and abs(short) < 2**53 else short)
    return found
