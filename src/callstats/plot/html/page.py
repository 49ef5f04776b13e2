"""A whole table as one HTML file without references to others. All is aggregated and formatted here, so that it only draws."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from callstats._extras import needs
from callstats._types import AnyArray, Counts
from callstats._units import duration_text, limit_text, memory_text, printable
from callstats.errors import ArgumentError
from callstats.plot.panels import COLORS, LIMIT_FACTOR, Panel, panels, time_unit
from callstats.plot.plotly import traces
from callstats.series import StatSeries
from callstats.stats import CallsGroup, CallsSummary, summarize_calls
from callstats.stats.call import CallUsage, usage_of
from callstats.stats.format import number_text, samples_text, summary_texts, usage_text

MAX_BINS = 24
_MIN_NS = 10**6
_MARK = re.compile(r"<!--(\w+)-->|/\*(\w+)\*/")
_IN_SCRIPTS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

_NUMBER_COLUMNS = (
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
    "savings",
)
"""The numbers of a group in the table."""

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
    usage: CallUsage | None = None
    """The resources that it used; by default those of the series."""


def render(
    groups: Iterable[CallsGroup],
    calls: Iterable[ReportCall] = (),
    *,
    title: str = "callstats report",
    by: str = "function",
    notes: Iterable[str] = (),
) -> str:
    """Return a report on calls as the text of one HTML file, which opens from disk and needs no network.

    The file has 5 MB, mostly Plotly. Its own policy lets only its two scripts run, and load nothing.

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
        from plotly.offline import get_plotlyjs
    plotly, script = _inline(get_plotlyjs()), _part("page.js")
    data = json.dumps(_page_data(groups, calls, by=by, notes=notes), separators=(",", ":"), allow_nan=False, default=str)
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; style-src 'unsafe-inline'; img-src data: blob:; "
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


def _inline(script: str) -> str:
    """Escape all parts of a script that could end it in a page."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE).replace("<!--", "<\\!--")


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
        "columns": list(_table_cells(summarize_calls([]))),
        "color": COLORS[0],
        "groups": [_group_data(group, texts) for group in shown],
        "texts": list(texts),
        "calls": [_call_data(call, indexes.get(call.group, -1)) for call in calls],
    }


def _group_data(group: CallsGroup, texts: dict[str, int]) -> dict[str, Any]:
    summary = group.summary
    peaks, durations = np.asarray(group.peaks, dtype=np.uint64), np.asarray(group.durations, dtype=np.int64)
    reach = LIMIT_FACTOR * int(peaks.max()) if len(peaks) else 0
    limit = None if summary.is_unlimited else summary.limit
    sizes = {"limit": limit, "right size": None if summary.rightsize is None else summary.rightsize.size}
    lines = [(at, f"{title} {limit_text(at)}") for title, at in sizes.items() if at is not None and at <= reach]
    memory = memory_bins(peaks, max((at for at, _ in lines), default=0))
    return {
        "name": printable(str(group.name)),
        "cells": list(_table_cells(summary).values()),
        "summary": [(texts[title], texts[text]) for title, text in summary_texts(summary)],
        "memory": _bars(memory, [(at / memory.width, text) for at, text in lines], texts),
        "duration": _bars(duration_bins(durations), [], texts),
    }


def _bars(bins: Bins, lines: list[tuple[float, str]], texts: dict[str, int]) -> list[Any]:
    """Return counts, the edges as texts, and lines across."""
    return [bins.counts.tolist(), [texts[edge] for edge in bins.edges], [(round(at, 3), text) for at, text in lines]]


def _table_cells(summary: CallsSummary) -> dict[str, Cell]:
    """Return the cells of a row by their columns, which follow the group's name."""
    cells: dict[str, Cell] = {"calls": summary.calls, "errors": summary.errors, "killed": summary.killed}
    for title in _NUMBER_COLUMNS:
        value, text = number_text(summary, title)
        cells[title] = None if value is None else (text, int(value) if isinstance(value, int) else float(f"{value:.5g}"))
    return cells


def _call_data(call: ReportCall, group: int) -> dict[str, Any]:
    usage = call.usage or usage_of(call.series)
    shown = [panel for panel in panels(call.series) if any(np.isfinite(track.values).any() for track in panel.tracks)]
    unit, divisor = time_unit(max((panel.tracks[0].seconds[-1] for panel in shown), default=0.0))
    duration = usage_text(usage, "duration_ns")
    facts = {
        **call.facts,
        "duration": duration,
        "samples": samples_text(usage),
        usage.memory_metric or "memory": usage_text(usage, "peak_memory"),
        "limit": usage_text(usage, "memory_limit"),
        "CPU mean": usage_text(usage, "cpu_mean"),
    }
    return {
        "name": printable(call.name),
        "group": group,
        "facts": [(printable(title), printable(text)) for title, text in facts.items() if text],
        "peak": usage_text(usage, "peak_memory"),
        "duration": duration,
        "unit": unit,
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


class Bins(NamedTuple):
    """The distribution of calls over bins with readable edges."""

    counts: Counts
    edges: tuple[str, ...]
    """The start of each bin, and the end of the last."""
    width: float
    """The width of a bin, if all are equally wide."""


def memory_bins(sizes: AnyArray, reach: int = 0) -> Bins:
    """Count sizes in bins of equal width, a power of two of bytes, from 0 to the max size and at least to `reach`.

    A bin includes its upper edge, since a peak equal to the limit is within the limit.
    """
    top = max(int(sizes.max()) if len(sizes) else 0, reach, 1)
    width = 1 << (top // MAX_BINS).bit_length()
    n = -(-top // width)
    counts = np.bincount(((np.maximum(sizes, 1) - np.uint64(1)) // np.uint64(width)).astype(np.int64), minlength=n)
    return Bins(counts, tuple(memory_text(width * index) for index in range(n + 1)), float(width))


def duration_bins(durations: AnyArray) -> Bins:
    """Count durations in bins that each end at twice their start. The first has all below a millisecond."""
    if not len(durations):
        return Bins(np.zeros(0, dtype=np.int64), (), 0.0)
    octaves = np.frexp(np.maximum(durations, _MIN_NS) / 1e9)[1] - 1
    first = int(octaves.min())
    counts = np.bincount(octaves - first)
    edges = tuple(duration_text(round(10**9 * 2.0 ** (first + index))) for index in range(len(counts) + 1))
    return Bins(counts, edges, 0.0)
