"""What `summary` prints, as lines, JSON and CSV: built here, and not printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from callstats._json import json_text
from callstats._types import FN_COUNTERS
from callstats._units import plural, printable, size_text
from callstats.call import Value
from callstats.cli.lines import key_text
from callstats.db import Group, TableSummary
from callstats.stats import CallsSummary, summarize_calls
from callstats.stats.format import PERCENTILES, summary_texts


def answer_lines(summary: TableSummary) -> list[str]:
    """All groups, for people."""
    lines: list[str] = []
    for group in summary.groups:
        lines += [*_group_lines(summary.by, group), ""]
    if any(group.summary.approximate for group in summary.groups):
        lines += ["~ is not exact: it comes from reduced rows, of a duration from the times of samples", ""]
    groups = f" in {plural(len(summary.groups), 'group')}" if summary.by else ""
    read = f"{size_text(summary.bytes_read)} in {summary.seconds:.1f} s, {summary.backend} backend"
    lines.append(f"{plural(summary.calls, 'call')}{groups}, {summary.rejected:,} refused; {read}")
    if summary.untimed:
        lines.append(f"left out, since their time can't be read: {plural(summary.untimed, 'call')}")
    if summary.stopped is not None:
        lines.append(printable(f"stopped early: {summary.stopped}; the figures are of the calls read so far"))
    return lines


def _group_lines(by: str | None, group: Group) -> Iterator[str]:
    summary = group.summary
    name = printable(f"{by} {group_text(group.name)}") if by else "all"
    ends = f"{plural(summary.errors, 'error')}, {summary.killed:,} killed, {summary.unsampled:,} not sampled"
    yield f"{name}: {plural(summary.calls, 'call')}, {ends}"
    for title, text in summary_texts(summary):
        yield f"  {title:<11}{text}"


def group_text(key: Value) -> str:
    """A group's key, as people read it."""
    if isinstance(key, bytes):
        return key_text(key)
    return "NULL" if key is None else printable(str(key))


# --- for programs ------------------------------------------------------------------------------------------------------------


def answer_json(summary: TableSummary) -> str:
    """All there is, as JSON in ASCII."""
    groups = [{"group": group.name, **_plain(group.summary)} for group in summary.groups]
    rejects = [reject._asdict() for reject in summary.rejects]
    rest = {
        name: getattr(summary, name) for name in ("calls", "rejected", "untimed", "bytes_read", "seconds", "backend", "stopped")
    }
    document = {"by": summary.by, "groups": groups, **rest, "rejects": rejects}
    return json_text(document, indent=2)


def _plain(summary: CallsSummary) -> dict[str, Any]:
    fields = asdict(summary)
    return {**fields, "unlimited": summary.is_unlimited, "approximate": sorted(summary.approximate)}


def answer_csv(summary: TableSummary) -> str:
    """A line for each group; an empty field is no value."""
    text = io.StringIO()
    rows = [_flat(group) for group in summary.groups]
    writer = csv.DictWriter(text, list(_flat(None)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _flat(group: Group | None) -> dict[str, object]:
    """The fields of a line; of no group their names."""
    summary = summarize_calls([]) if group is None else group.summary
    sized, near, trend = summary.rightsize, summary.near, summary.trend
    spreads = {name: getattr(summary, name) for name in ("duration_ns", "memory", "growth", "cpu", "cpu_peak")}
    return {
        "group": "" if group is None else group_text(group.name),
        **{name: getattr(summary, name) for name in ("calls", "errors", "killed", "unsampled")},
        **{f"{name}_{part}": getattr(spread, part) for name, spread in spreads.items() for part in PERCENTILES},
        **{name: getattr(summary, name) for name in ("page_cache", "limit", "headroom", "cpu_mean")},
        "unlimited": int(summary.is_unlimited),
        **{f"near_{part}": getattr(near, part) for part in ("k", "n", "p", "low", "high")},
        **{name: summary.increases[name] if summary.increase[name].n else None for name in FN_COUNTERS},
        "growing": None if trend is None or trend.growing is None else int(trend.growing),
        "trend_p": None if trend is None else trend.p,
        "trend_slope": None if trend is None else trend.slope,
        **{f"rightsize_{part}": getattr(sized, part, None) for part in ("size", "over", "bound", "saved", "reason")},
        "approximate": " ".join(sorted(summary.approximate)),
    }
