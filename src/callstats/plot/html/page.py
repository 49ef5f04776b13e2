"""A whole table as one HTML file without references to others. All is aggregated and formatted here, so that it only draws."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

from callstats._extras import needs
from callstats._types import AnyArray
from callstats._units import limit_text, memory_unit, percent_text, printable
from callstats.errors import ArgumentError
from callstats.plot.html.bins import Bins, duration_bins, memory_bins
from callstats.plot.panels import LIMIT_FACTOR, OUTCOME_COLORS, Panel, panels, time_unit
from callstats.plot.plotly import traces
from callstats.series import StatSeries
from callstats.stats.call import CallUsage, usage_of
from callstats.stats.calls import ERRORS, KILLED, OUTCOMES, CallColumns, CallScalars, CallsGroup, CallsSummary, percentiles
from callstats.stats.format import (
    FINDINGS,
    count_text,
    finding_mark,
    finding_text,
    number_text,
    peak_memory_text,
    samples_text,
    summary_texts,
    usage_text,
)
from callstats.stats.proportions import UNLIMITED

_MARK = re.compile(r"<!--(\w+)-->|/\*(\w+)\*/")
_IN_SCRIPTS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

_COUNT_COLUMNS = {
    "calls": "All calls, sampled or not.",
    "failed": "Calls with the status error, timeout, killed or cancelled.",
    "killed": "Calls with the status killed, as SIGKILL gives it, whoever sent that. They count as out of memory.",
}
_NUMBER_COLUMNS = {
    "duration p95": "95 % of the calls took at most this long.",
    "memory p95": "95 % of the calls peaked at this memory or less.",
    "memory max": "The highest peak of all calls.",
    "limit": "The memory limit of the latest call.",
    "near limit": "Calls that came within 10 % of their limit or were killed, of those whose samples tell the limit.",
    "CPU mean": "The mean use of the processor, in percent of one core.",
    "right size": "The smallest memory that {risk} of calls exceed, with 95 % confidence. Fewer than {calls} calls have none.",
    "waste": "Memory that calls reserved by their limit and did not need, over time. It gives the order of names at first.",
}
"""The numbers of a group in the table, and what each means."""

_FINDING_TIP = (
    "The finding about a name. Memory grows: a leak from call to call. Too little memory: the right size is above the limit. "
    "Too much memory: the right size saves 20 % or more. Warms up: memory rises at first. No limit: none is known, or it is "
    "unlimited. Fits: the limit suits the calls. Too few calls: there is no right size yet. Empty: nothing is known."
)
_SPARK_TIP = "The p95 of peak memory over time, and the limit as a dashed line where it is near. Empty: too few times."

_MINUTE_NS, _HOUR_NS, _DAY_NS = 60 * 10**9, 3_600 * 10**9, 86_400 * 10**9
_STEPS = {
    "minute": (_MINUTE_NS, 1, 0),
    "hour": (_HOUR_NS, 1, 0),
    "day": (_DAY_NS, 1, 0),
    "week": (_DAY_NS, 7, 4),
    "four weeks": (_DAY_NS, 28, 4),
}
"""How a timeline may be cut: a unit in nanoseconds, how many of it make a step, and the unit with which step 0 begins.

Weeks begin on Monday; the first one since the epoch was its day 4.
"""
_MAX_STEPS = 120  # of a minute, a day or a week each

Cell: TypeAlias = "int | tuple[str, float] | None"
"""A cell of the table: a count, or a text and its sort key; None is empty and comes last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportCall:
    """A call with charts."""

    name: str
    series: StatSeries
    group: str = ""
    """The name of its group."""
    facts: dict[str, str] = field(default_factory=dict)
    """Further facts, such as its status, by their titles."""
    outcome: str | None = None
    """Its status, if a failed or killed call is to be seen in colour."""
    usage: CallUsage | None = None
    """The resources that it used; by default those of the series."""
    span: tuple[int, int] | None = None
    """Its start and end, as `Call.span` has them; by default those of the series."""


def render(
    groups: Iterable[CallsGroup],
    calls: Iterable[ReportCall] = (),
    *,
    title: str = "callstats report",
    by: str = "function",
    notes: Iterable[str] = (),
) -> str:
    """Return a report on calls as the text of one HTML file, which opens from disk and needs no network.

    The file has 2 MB for Plotly, compressed. Its own policy lets only its two scripts run, and load nothing.

    Parameters
    ----------
    groups : iterable of CallsGroup
        The rows of the table, whose names are distinct. The distributions of each group are computed here.
    calls : iterable of ReportCall
        The calls with charts.
    title : str
        The heading, and the name of the page.
    by : str
        The name of a group's kind.
    notes : iterable of str
        Lines below the title.

    Examples
    --------
    >>> render([], [ReportCall(name="1", series=StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]}))])[:15]
    '<!DOCTYPE html>'
    """
    with needs("plot.render", "report"):
        plotly_hash, plotly = _packed_plotly()
    script = _part("page.js")
    data = json.dumps(_page_data(groups, calls, by=by, notes=notes), separators=(",", ":"), allow_nan=False, default=str)
    policy = (
        f"default-src 'none'; script-src {plotly_hash} {_hash(script)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(printable(title)),
        "by": html.escape(printable(by)),
        "style": _part("page.css"),
        "data": data.translate(_IN_SCRIPTS),
        "plotly": plotly,
        "script": script,
    }
    return _MARK.sub(lambda found: parts[found[1] or found[2]], _part("page.html"))


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> tuple[str, str]:
    """Return the hash of Plotly's script, and the script compressed: of a small report that is most work."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    return _hash(script), base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _hash(script: str) -> str:
    """Return the hash that lets a script run under the page's policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _page_data(groups: Iterable[CallsGroup], calls: Iterable[ReportCall], *, by: str, notes: Iterable[str]) -> dict[str, Any]:
    """Return all data of the page."""
    shown = list(groups)
    indexes: dict[str, int] = {}
    for index, group in enumerate(shown):
        if indexes.setdefault(str(group.name), index) != index:
            raise ArgumentError("groups", "groups with distinct names", group.name, hint="two groups have it")
    texts: dict[str, int] = defaultdict(lambda: len(texts))  # the texts that many groups share, and the index of each
    return {
        "by": printable(by),
        "notes": [printable(note) for note in notes],
        "columns": [
            ("finding", _FINDING_TIP),
            ("memory over time", _SPARK_TIP),
            *_COUNT_COLUMNS.items(),
            *_number_columns(shown),
        ],
        "findings": FINDINGS,
        "outcomes": list(zip(OUTCOMES, OUTCOME_COLORS, strict=True)),
        "groups": [_group_data(group, texts) for group in shown],
        "texts": list(texts),
        "calls": [_call_data(call, indexes.get(call.group, -1)) for call in calls],
    }


def _number_columns(groups: Iterable[CallsGroup]) -> Iterator[tuple[str, str]]:
    """Yield the columns of numbers, and what each means at the risk of the right sizes."""
    sized = next((group.summary.rightsize for group in groups if group.summary.rightsize), None)
    risk, calls = ("few enough", "they need") if sized is None else (f"at most {percent_text(sized.risk)}", f"{sized.needed:,}")
    for title, tip in _NUMBER_COLUMNS.items():
        yield title, tip.format(risk=risk, calls=calls)


def _group_data(group: CallsGroup, texts: dict[str, int]) -> dict[str, Any]:
    summary = group.summary
    calls = group.calls or CallScalars().columns()
    has_peak, has_duration = calls.peaks > 0, calls.durations >= 0
    peaks = calls.peaks[has_peak]
    reach = LIMIT_FACTOR * int(peaks.max()) if len(peaks) else 0
    limit = None if summary.is_unlimited else summary.limit
    sizes = {"limit": limit, "right size": None if summary.rightsize is None else summary.rightsize.size}
    lines = [(at, f"{title} {limit_text(at)}") for title, at in sizes.items() if at is not None and at <= reach]
    memory = memory_bins(peaks, max((at for at, _ in lines), default=0), calls.outcomes[has_peak])
    durations = duration_bins(calls.durations[has_duration], calls.outcomes[has_duration])
    return {
        "name": printable(str(group.name)),
        "finding": FINDINGS.index(finding_text(summary)),
        "mark": finding_mark(summary),
        "count": count_text(summary),
        "cells": _table_cells(summary),
        "summary": [(texts[title], texts[text]) for title, text in summary_texts(summary)],
        "memory": _bars(memory, [(at / memory.width, text) for at, text in lines], texts),
        "duration": _bars(durations, [], texts),
        "timeline": _timeline(calls),
    }


def _bars(bins: Bins, lines: list[tuple[float, str]], texts: dict[str, int]) -> list[Any]:
    """Return the counts of each outcome, the edges as texts, and lines across."""
    return [
        [counts.tolist() if counts.any() else [] for counts in bins.counts],
        [texts[edge] for edge in bins.edges],
        [(round(at, 3), text) for at, text in lines],
    ]


def _timeline(calls: CallColumns) -> dict[str, Any]:
    """Return the calls of each minute, hour, day, week or four weeks: how many of each outcome, p95 peak, limit and p95 duration.

    Values that are unknown are NaN. A step without calls is left out. Calls of a single step are no timeline.
    """
    dated = CallColumns(*(column[calls.times != 0] for column in calls))
    if not len(dated.times):
        return {}
    span = int(dated.times[-1]) - int(dated.times[0])
    limits_ns = {
        "minute": _MAX_STEPS * _MINUTE_NS,
        "hour": 2 * _DAY_NS,
        "day": _MAX_STEPS * _DAY_NS,
        "week": 7 * _MAX_STEPS * _DAY_NS,
    }
    step = next((step for step, limit in limits_ns.items() if span < limit), "four weeks")
    unit_ns, units, origin = _STEPS[step]
    starts = (dated.times // unit_ns - origin) // units
    at, first = np.unique(starts, return_index=True)
    if len(at) < 2:
        return {}
    counts = [np.bincount(np.searchsorted(at, starts[dated.outcomes == n]), minlength=len(at)) for n in range(len(OUTCOMES))]
    peaks, limits, seconds = (np.full(len(at), np.nan) for _ in range(3))
    for index, part in enumerate(np.split(np.arange(len(starts)), first[1:])):
        known = (dated.peaks[part], dated.limits[part], dated.durations[part])
        found = known[0][known[0] > 0], known[1][(known[1] > 0) & (known[1] < UNLIMITED)], known[2][known[2] >= 0]
        peaks[index] = percentiles(found[0]).p95 or np.nan
        limits[index] = found[1][-1] if len(found[1]) else np.nan
        seconds[index] = np.nan if not len(found[2]) else (percentiles(found[2]).p95 or 0) / 1e9
    top = np.nanmax(peaks) if np.isfinite(peaks).any() else 0.0
    unit, divisor = memory_unit(float(top))
    time, seconds_in_unit = time_unit(float(np.nanmax(seconds)) if np.isfinite(seconds).any() else 0.0)
    return {
        "step": step,
        "ms": units * unit_ns // 10**6,
        "start": (int(at[0]) * units + origin) * unit_ns // 10**6,
        "at": (at - at[0]).tolist(),
        "counts": [column.tolist() if column.any() else [] for column in counts],
        "peaks": packed(peaks / divisor),
        "limits": packed(np.where(limits <= LIMIT_FACTOR * top, limits, np.nan) / divisor),
        "unit": unit,
        "durations": packed(seconds / seconds_in_unit),
        "time_unit": time,
    }


def _table_cells(summary: CallsSummary) -> list[Cell]:
    """Return the cells of a row by their columns, which follow the finding and the memory over time."""
    cells: list[Cell] = [summary.calls, summary.errors, summary.killed]
    for title in _NUMBER_COLUMNS:
        value, text = number_text(summary, title)
        cells.append(None if value is None else (text, int(value) if isinstance(value, int) else float(f"{value:.5g}")))
    return cells


def _call_data(call: ReportCall, group: int) -> dict[str, Any]:
    usage = call.usage or usage_of(call.series)
    shown = [
        panel for panel in panels(call.series, span=call.span) if any(np.isfinite(track.values).any() for track in panel.tracks)
    ]
    end = shown[0].tracks[0].end if shown else 0.0  # of a call, all tracks have one
    unit, divisor = time_unit(end)
    duration = usage_text(usage, "duration_ns")
    facts = {
        "call": call.name,
        **call.facts,
        "duration": duration,
        "samples": samples_text(usage),
        usage.memory_metric or "memory": peak_memory_text(usage),
        "limit": usage_text(usage, "memory_limit"),
        "CPU mean": usage_text(usage, "cpu_mean"),
    }
    if shown and not end:  # a chart of one moment is all but empty
        values = {track.name: track.top_text for panel in shown for track in panel.tracks}
        facts |= {name: text for name, text in values.items() if name not in facts}
        shown = []
    return {
        "name": printable(call.name),
        "group": group,
        "outcome": OUTCOMES.index("killed" if call.outcome == KILLED else "failed" if call.outcome in ERRORS else "succeeded"),
        "facts": [(printable(title), printable(text)) for title, text in facts.items() if text],
        "peak": usage_text(usage, "peak_memory"),
        "duration": duration,
        "unit": unit,
        "end": float(np.float32(end / divisor)),  # rounded as the rows' times are: Plotly hides a marker after it
        "panels": [_panel_data(panel, divisor) for panel in shown],
    }


def _panel_data(panel: Panel, seconds_in_unit: float) -> dict[str, Any]:
    return {
        "title": printable(panel.title),
        "unit": panel.unit,
        "top": panel.top_text,
        "limit": panel.limit,
        "traces": [{**trace, "x": packed(trace["x"]), "y": packed(trace["y"])} for trace in traces(panel, seconds_in_unit)],
    }


def packed(values: AnyArray) -> dict[str, str]:
    """Return values in Plotly's binary form, with 7 digits: more can't be seen."""
    return {"dtype": "f4", "bdata": base64.b64encode(values.astype("<f4").tobytes()).decode()}
