"""What `summary` prints, as lines, JSON and CSV: built here, and not printed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from callstats._types import FN_COUNTERS
from callstats.cli.lines import key_text, size_text
from callstats.readable import duration_text, limit_text, memory_text, printable
from callstats.store import Group, TableSummary
from callstats.store.answers import GroupKey
from callstats.summary import CallsSummary, RightSize, Spread, summarize_calls

_PERCENTILES = ("p50", "p95", "p99", "max")


def answer_lines(summary: TableSummary) -> list[str]:
    """All groups, for people."""
    lines: list[str] = []
    for group in summary.groups:
        lines += [*_group_lines(summary.by, group), ""]
    if any(group.summary.approximate for group in summary.groups):
        lines += ["~ is not exact: it comes from reduced rows, of a duration from the times of samples", ""]
    groups = f" in {_plural(len(summary.groups), 'group')}" if summary.by else ""
    read = f"{size_text(summary.bytes_read)} in {summary.seconds:.1f} s, {summary.backend} backend"
    lines.append(f"{_plural(summary.calls, 'call')}{groups}, {summary.refused:,} refused; {read}")
    if summary.untimed:
        lines.append(f"left out, since their time can't be read: {_plural(summary.untimed, 'call')}")
    if summary.stopped is not None:
        lines.append(printable(f"stopped early: {summary.stopped}; the figures are of the calls read so far"))
    return lines


def _group_lines(by: str | None, group: Group) -> Iterator[str]:
    summary = group.summary
    name = printable(f"{by} {group_text(group.key)}") if by else "all"
    ends = f"{_plural(summary.errors, 'error')}, {summary.killed:,} killed, {summary.unsampled:,} not sampled"
    yield f"{name}: {_plural(summary.calls, 'call')}, {ends}"
    for title, text in _figures(summary):
        yield f"  {title:<11}{text}"


def _figures(summary: CallsSummary) -> Iterator[tuple[str, str]]:
    """The lines of a group: only those that it has something for."""
    if summary.duration_ns.n:
        mark = _mark(summary, "duration_ns")
        yield "duration", _spread_text(summary.duration_ns, mark, duration_text)
    if summary.memory.n:
        mark = _mark(summary, "memory")
        yield "memory", _spread_text(summary.memory, mark, memory_text)
        if summary.page_cache:
            of = (
                ""
                if summary.page_cache == summary.memory.n
                else f" in {summary.page_cache:,} of {_plural(summary.memory.n, 'call')}"
            )
            yield "", f"page cache included{of}"
    if summary.is_unlimited:
        yield "limit", "unlimited, headroom unlimited"
    elif summary.limit is not None and summary.headroom is not None:
        yield "limit", f"{limit_text(summary.limit)}, headroom {_mark(summary, 'headroom')}{memory_text(summary.headroom)}"
    if summary.near.p is not None and summary.near.low is not None and summary.near.high is not None:
        near, mark = summary.near, _mark(summary, "near")
        share, low, high = (f"{100 * part:.3g} %" for part in (summary.near.p, summary.near.low, summary.near.high))
        yield (
            "near limit",
            f"{mark}{near.k:,} of {_plural(near.n, 'call')} came within 10 % of it: {mark}{share} (95 %: {low} to {high})",
        )
    if summary.cpu_mean is not None and summary.cpu.p95 is not None:
        mean, p95 = _mark(summary, "cpu_mean"), _mark(summary, "cpu")
        yield "CPU", f"mean {mean}{summary.cpu_mean:.1f} %, p95 {p95}{summary.cpu.p95:.1f} % of one core"
    for title, received, sent, words in (
        ("network", "net_rx", "net_tx", ("received", "sent")),
        ("disk", "disk_read", "disk_write", ("read", "written")),
    ):
        if summary.increase[received].n or summary.increase[sent].n:
            totals = (f"{_mark(summary, name)}{size_text(summary.increases[name])}" for name in (received, sent))
            yield title, ", ".join(f"{total} {word}" for total, word in zip(totals, words, strict=True))
    if summary.memory.n:
        yield "growing", _trend_text(summary)
    if summary.rightsize is not None:
        yield "right size", _rightsize_text(summary.rightsize, _mark(summary, "rightsize"))


def _trend_text(summary: CallsSummary) -> str:
    trend = summary.trend
    if trend.growing is None:
        return f"can't tell from {_plural(trend.n, 'call')}"
    mark = _mark(summary, "trend")
    p = "" if trend.p is None else f" (p = {trend.p:.2g})"
    if trend.growing and trend.slope is not None:
        return f"{mark}yes, by {memory_text(round(trend.slope))} from call to call{p}"
    return f"{mark}no{p}"


def _rightsize_text(found: RightSize, mark: str) -> str:
    if found.size is None or found.bound is None:
        return found.reason or "none"
    text = (
        f"{mark}{limit_text(found.size)}: {found.over:,} of {_plural(found.calls, 'call')} would have gone over, "
        f"at most {100 * found.bound:.3g} % with 95 % confidence"
    )
    if found.saved is None or found.limit is None:
        return text
    limit = f"limits of {memory_text(found.limit)} on average"
    if found.saved < 0:
        return f"{text}; takes {-100 * found.saved:.0f} % more than {limit}"
    return f"{text}; saves {100 * found.saved:.0f} % of {limit}"


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _mark(summary: CallsSummary, name: str) -> str:
    return "~" if name in summary.approximate else ""


def _spread_text(spread: Spread, mark: str, text: Callable[[int], str]) -> str:
    return ", ".join(f"{name} {mark}{text(getattr(spread, name))}" for name in _PERCENTILES)


def group_text(key: GroupKey) -> str:
    """A group's key, as people read it."""
    if isinstance(key, bytes):
        return key_text(key)
    return "NULL" if key is None else printable(str(key))


# --- for programs ------------------------------------------------------------------------------------------------------------


def answer_json(summary: TableSummary) -> str:
    """All there is, as JSON in ASCII."""
    groups = [{"group": group.key, **_plain(group.summary)} for group in summary.groups]
    rejects = [{"key": reject.key, "reason": reject.reason} for reject in summary.rejects]
    rest = {
        name: getattr(summary, name) for name in ("calls", "refused", "untimed", "bytes_read", "seconds", "backend", "stopped")
    }
    document = {"by": summary.by, "groups": groups, **rest, "rejects": rejects}
    return json.dumps(document, default=_other, indent=2, allow_nan=False)


def _plain(summary: CallsSummary) -> dict[str, Any]:
    fields = asdict(summary)
    return {**fields, "unlimited": summary.is_unlimited, "approximate": sorted(summary.approximate)}


def _other(value: object) -> object:
    return {"hex": value.hex()} if isinstance(value, bytes) else str(value)


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
    spreads = {"duration_ns": summary.duration_ns, "memory": summary.memory, "cpu": summary.cpu, "cpu_peak": summary.cpu_peak}
    return {
        "group": "" if group is None else group_text(group.key),
        **{name: getattr(summary, name) for name in ("calls", "errors", "killed", "unsampled")},
        **{f"{name}_{part}": getattr(spread, part) for name, spread in spreads.items() for part in _PERCENTILES},
        **{name: getattr(summary, name) for name in ("page_cache", "limit", "headroom", "cpu_mean")},
        "unlimited": int(summary.is_unlimited),
        **{f"near_{part}": getattr(near, part) for part in ("k", "n", "p", "low", "high")},
        **{name: summary.increases[name] if summary.increase[name].n else None for name in FN_COUNTERS},
        "growing": None if trend.growing is None else int(trend.growing),
        "trend_p": trend.p,
        "trend_slope": trend.slope,
        **{f"rightsize_{part}": getattr(sized, part, None) for part in ("size", "over", "bound", "saved", "reason")},
        "approximate": " ".join(sorted(summary.approximate)),
    }
