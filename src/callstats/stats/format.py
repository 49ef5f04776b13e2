"""Statistics of calls as text. A ``~`` marks values that are not exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from callstats._units import duration_text, limit_text, memory_text, percent_text, plural, size_text
from callstats.stats.call import CallUsage
from callstats.stats.calls import CallsSummary, Percentiles
from callstats.stats.proportions import UNLIMITED
from callstats.stats.rightsize import MIB, RightSize
from callstats.stats.trend import MAX_P, MIN_CALLS

LEAKING = "memory grows from call to call, so no size suits it for long"
UNKNOWN_ENDS = "; how they ended is not known"
PERCENTILES = ("p50", "p95", "p99", "max")


def usage_text(usage: CallUsage, name: str) -> str:
    """Return a value of a `CallUsage` with its unit and its mark; an empty text for an unknown value."""
    value = getattr(usage, name)
    mark = "" if name in usage.exact else "~"
    return "" if value is None else mark + _USAGE_TEXTS.get(name, "{:,}".format)(value)


def samples_text(usage: CallUsage) -> str:
    """Return the number of a call's samples, and that of its rows where it is another."""
    rows = "" if usage.samples == usage.rows else f" in {plural(usage.rows, 'row')}"
    return f"{usage_text(usage, 'samples')}{rows}"


def peak_memory_text(usage: CallUsage) -> str:
    """Return a call's peak memory, as a bound where it was sampled; no text where it is unknown."""
    low, high = usage_text(usage, "peak_memory"), usage_text(usage, "peak_ceiling")
    bound = "at least " if usage.peak_source == "sampled" else ""
    return f"{bound}{low}, at most {high}" if high else f"{bound}{low}"


def memory_limit_text(limit: int) -> str:
    """Return a memory limit in whole units to the byte, else rounded; or "unlimited"."""
    whole = limit < MIB or limit % MIB == 0
    return "unlimited" if limit >= UNLIMITED else limit_text(limit) if whole else memory_text(limit)


_USAGE_TEXTS: dict[str, Callable[..., str]] = {
    "peak_memory": memory_text,
    "peak_source": str,
    "peak_ceiling": memory_text,
    "memory_metric": str,
    "memory_limit": memory_limit_text,
    "cpu_mean": "{:.1f} %".format,
    "cpu_peak": "{:.1f} %".format,
    "cpu_time_ns": duration_text,
    "duration_ns": duration_text,
}


def summary_texts(summary: CallsSummary) -> Iterator[tuple[str, str]]:
    """Yield each part of a summary that has values, as a title and a text."""

    def mark(name: str) -> str:
        return "~" if name in summary.approximate else ""

    if summary.duration_ns.n:
        yield "duration", _percentiles_text(summary.duration_ns, mark("duration_ns"), duration_text)
    if summary.memory.n:
        yield "memory", _percentiles_text(summary.memory, mark("memory"), memory_text)
        if summary.page_cache:
            some = summary.page_cache < summary.memory.n
            of = f" in {summary.page_cache:,} of {plural(summary.memory.n, 'call')}" if some else ""
            yield "", f"page cache included{of}"
    seen = ", as far as samples tell" if summary.kernel_peaks < summary.memory.n else ""
    if summary.limit is not None:
        text = f"{memory_limit_text(summary.limit)} of the latest call"
        if summary.headroom is not None:
            how = f"no call came nearer to its limit than {{}}{seen}" if summary.headroom > 0 else "a call was {} over its limit"
            how = how if summary.headroom else "a call reached its limit"
            text += f"; {how.format(mark('headroom') + memory_text(abs(summary.headroom)))}"
        yield "limit", text
    if summary.waste is not None:
        yield "waste", f"{mark('waste')}{waste_text(summary.waste)} reserved and not needed"
    near = summary.near
    if near.p is not None and near.low is not None and near.high is not None:
        share, low, high = (f"{100 * part:.3g} %" for part in (near.p, near.low, near.high))
        count = f"{mark('near')}{near.k:,} of {plural(near.n, 'call')} with a known limit came within 10 % of it"
        yield "near limit", f"{count}: {mark('near')}{share} (95 %: {low} to {high}){seen}"
    if summary.cpu_mean is not None and summary.cpu.p95 is not None:
        yield "CPU", f"mean {mark('cpu_mean')}{summary.cpu_mean:.1f} %, p95 {mark('cpu')}{summary.cpu.p95:.1f} % of one core"
    for title, counters in (
        ("network", {"net_rx": "received", "net_tx": "sent"}),
        ("disk", {"disk_read": "read", "disk_write": "written"}),
    ):
        if any(summary.increase[name].n for name in counters):
            known = ((mark(name), summary.increases[name], word) for name, word in counters.items())
            yield title, ", ".join(f"{inexact}{size_text(size)} {word}" for inexact, size, word in known if size is not None)
    if summary.memory.n:
        yield "growing", _trend_text(summary, mark("trend"))
    if summary.rightsize is not None:
        yield "right size", _rightsize_text(summary, summary.rightsize, mark("rightsize"))
        yield "covers", _coverage_text(summary, summary.rightsize)
    if summary.cpu_request is not None and summary.cpu.n:
        yield "CPU request", _cpu_request_text(summary.cpu_request, mark("cpu_request"))


def count_text(summary: CallsSummary) -> str:
    """Return how many calls there are, and how they ended."""
    sampled = f"{summary.sampled:,} sampled, {summary.calls - summary.sampled:,} not"
    failed = f"; {summary.errors:,} failed, {summary.killed:,} of them killed" if summary.errors else ""
    failed = UNKNOWN_ENDS if summary.errors is None else failed
    return f"{plural(summary.calls, 'call')}: {sampled}{failed}"


FINDINGS = ("", "too few calls", "fits", "no limit", "warms up", "too much memory", "too little memory", "memory grows")
"""Findings about a group of calls, the gravest last. An empty text: nothing is known, as of calls without a status."""

_MUCH_SAVED = 0.2
"""A right size that saves this share of memory is a finding."""


def finding_text(summary: CallsSummary) -> str:
    """Return which of `FINDINGS` a summary shows."""
    sized, trend = summary.rightsize, summary.trend
    if trend.growing:
        return "memory grows"
    if sized is None or sized.size is None:
        return "too few calls" if sized is not None and sized.calls < sized.needed else ""
    if summary.limit is not None and sized.size > summary.limit:
        return "too little memory"
    if sized.saved is not None and sized.saved >= _MUCH_SAVED:
        return "too much memory"
    rose_at_first = trend.p is not None and trend.p < MAX_P and (trend.later_p is None or trend.later_p >= MAX_P)
    if rose_at_first or summary.limit is None or summary.is_unlimited:
        return "warms up" if rose_at_first else "no limit"
    return "" if summary.killed is None else "fits"


def finding_mark(summary: CallsSummary) -> str:
    """Return ``~`` where values that reductions have changed decide the finding."""
    causes = {"trend"} if summary.trend.growing else {"trend", "rightsize"}
    return "~" if finding_text(summary) not in FINDINGS[:2] and causes & summary.approximate else ""


def _trend_text(summary: CallsSummary, mark: str) -> str:
    trend = summary.trend
    if trend.growing is None:
        left_out = f"; {plural(lacking, 'call')} without min memory left out" if (lacking := summary.memory.n - trend.n) else ""
        return f"can't tell from {plural(trend.n, 'call')}: needs {MIN_CALLS}{left_out}"
    if trend.growing and trend.slope is not None and trend.p is not None:
        chance = "< 0.001" if trend.p < 0.001 else f"= {trend.p:.2g}"
        return f"{mark}yes, by {memory_text(round(trend.slope))} from call to call (p {chance})"
    return f"{mark}no"


def _rightsize_text(summary: CallsSummary, found: RightSize, mark: str) -> str:
    """Return the size, how many calls exceed it, and what it saves."""
    parts = [_bound_text(found, mark, limit_text)]
    if found.saved is not None and found.limit is not None:
        same = percent_text(abs(found.saved), ".0f") == "0 %"
        text = "as large as" if same else f"{savings_text(found.saved)} {'than' if found.saved < 0 else 'of'}"
        parts.append(f"{text} limits of {memory_text(found.limit)} on average")
    if summary.trend.growing and found.size is not None:
        parts.append(LEAKING)
    return "; ".join(parts)


def _coverage_text(summary: CallsSummary, found: RightSize) -> str:
    """Return what the size covers: how many calls were sampled, lack a known memory or were killed, and how peaks were seen."""
    parts = [f"{summary.sampled:,} of {plural(summary.calls, 'call')} sampled"]
    parts += [f"{found.unknown:,} without known memory left out"] * (found.unknown > 0)
    unseen = found.calls - summary.memory.n
    also = f", {unseen:,} of them without known memory" if unseen > 0 else ""
    killed = UNKNOWN_ENDS if summary.killed is None else f", {summary.killed:,} killed{also}"
    parts = [f"{', '.join(parts)}{killed}"]
    if found.assumed:
        one, rest = found.assumed == 1, found.killed - found.assumed
        some = f"{found.assumed:,} of {found.killed:,} killed" if rest else f"{found.assumed:,} killed"
        parts.append(f"{some} {'is' if one else 'are'} taken to need twice the limit, and may need more")
        parts[-1] += f"; the other {rest:,} would have exceeded it" * bool(rest)
    if summary.kernel_peaks < summary.memory.n:
        of = "peaks" if not summary.kernel_peaks else f"peaks of {plural(summary.memory.n - summary.kernel_peaks, 'call')}"
        parts.append(f"{of} sampled{_interval_text(summary.interval_ns)}; a shorter peak would not be seen")
    return "; ".join(parts)


def _cpu_request_text(found: RightSize, mark: str) -> str:
    left_out = [f"{plural(found.unknown, 'call')} without known CPU left out"] * (found.unknown > 0)
    return "; ".join([_bound_text(found, mark, cores_text), *left_out])


def _bound_text(found: RightSize, mark: str, text: Callable[[int], str]) -> str:
    if found.size is None or found.bound is None:
        return found.reason or "none"
    over = f"{found.over:,} of {plural(found.calls, 'call')} would have exceeded it"
    return f"{mark}{text(found.size)}: {over}, at most {100 * found.bound:.3g} % with 95 % confidence"


def _interval_text(interval_ns: int | None) -> str:
    if not interval_ns:
        return ""
    return " each second" if 0.95e9 <= interval_ns < 1.05e9 else f" each {duration_text(interval_ns)}"


def savings_text(saved: float) -> str:
    """Return a share of costs that is saved, or how much more it costs."""
    return f"costs {percent_text(-saved, '.0f')} more" if saved < 0 else f"saves {percent_text(saved, '.0f')}"


def cores_text(thousandths: int) -> str:
    """Return an amount of CPU in cores."""
    return "1 core" if thousandths == 1000 else f"{thousandths / 1000:g} cores"


def waste_text(byte_seconds: int) -> str:
    """Return an amount of memory over time."""
    gib_hours = byte_seconds / (2**30 * 3600)
    return "<0.01 GiB h" if 0 < gib_hours < 0.01 else f"{gib_hours:,.2f} GiB h" if gib_hours else "0 GiB h"


def _percentiles_text(numbers: Percentiles, mark: str, text: Callable[[int], str]) -> str:
    return ", ".join(f"{name} {mark}{text(getattr(numbers, name))}" for name in PERCENTILES)


_TABLE_NUMBERS: dict[str, tuple[str, Callable[[CallsSummary], Any], Callable[[Any], str]]] = {
    "duration p50": ("duration_ns", lambda summary: summary.duration_ns.p50, duration_text),
    "duration p95": ("duration_ns", lambda summary: summary.duration_ns.p95, duration_text),
    "memory p50": ("memory", lambda summary: summary.memory.p50, memory_text),
    "memory p95": ("memory", lambda summary: summary.memory.p95, memory_text),
    "memory max": ("memory", lambda summary: summary.memory.max, memory_text),
    "limit": ("limit", lambda summary: summary.limit, memory_limit_text),
    "near limit": ("near", lambda summary: summary.near.p, percent_text),
    "CPU mean": ("cpu_mean", lambda summary: summary.cpu_mean, "{:.1f} %".format),
    "growing": ("trend", lambda summary: summary.trend.growing, lambda growing: "yes" if growing else "no"),
    "right size": ("rightsize", lambda summary: summary.rightsize and summary.rightsize.size, limit_text),
    "savings": ("rightsize", lambda summary: summary.rightsize and summary.rightsize.saved, savings_text),
    "CPU request": ("cpu_request", lambda summary: summary.cpu_request and summary.cpu_request.size, cores_text),
    "waste": ("waste", lambda summary: summary.waste, waste_text),
}
"""The numbers of a table of summaries: the name of each value, how to get it, and its text."""


def number_text(summary: CallsSummary, title: str) -> tuple[Any, str]:
    """Return a number of a summary, and its text with its mark; None and an empty text where it is unknown."""
    name, get, text = _TABLE_NUMBERS[title]
    value = get(summary)
    return value, "" if value is None else ("~" if name in summary.approximate else "") + text(value)
