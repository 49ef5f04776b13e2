"""Statistics of calls as text. A ``~`` marks values that are not exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from callstats._units import duration_text, limit_text, memory_text, plural, size_text
from callstats.stats.call import CallUsage
from callstats.stats.calls import CallsSummary, Percentiles
from callstats.stats.proportions import UNLIMITED
from callstats.stats.rightsize import RightSize

PERCENTILES = ("p50", "p95", "p99", "max")


def usage_text(usage: CallUsage, name: str) -> str:
    """Return a value of a `CallUsage` with its unit and its mark; an empty text for an unknown value."""
    value = getattr(usage, name)
    mark = "" if name in usage.exact else "~"
    return "" if value is None else mark + _USAGE_TEXTS.get(name, "{:,}".format)(value)


def memory_limit_text(limit: int) -> str:
    """Return a memory limit to the byte, or "unlimited"."""
    return "unlimited" if limit >= UNLIMITED else limit_text(limit)


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
    if summary.is_unlimited:
        yield "limit", "unlimited, headroom unlimited"
    elif summary.limit is not None and summary.headroom is not None:
        yield "limit", f"{limit_text(summary.limit)}, headroom {mark('headroom')}{memory_text(summary.headroom)}"
    near = summary.near
    if near.p is not None and near.low is not None and near.high is not None:
        share, low, high = (f"{100 * part:.3g} %" for part in (near.p, near.low, near.high))
        count = f"{mark('near')}{near.k:,} of {plural(near.n, 'call')} came within 10 % of it"
        yield "near limit", f"{count}: {mark('near')}{share} (95 %: {low} to {high})"
    if summary.cpu_mean is not None and summary.cpu.p95 is not None:
        yield "CPU", f"mean {mark('cpu_mean')}{summary.cpu_mean:.1f} %, p95 {mark('cpu')}{summary.cpu.p95:.1f} % of one core"
    for title, counters in (
        ("network", {"net_rx": "received", "net_tx": "sent"}),
        ("disk", {"disk_read": "read", "disk_write": "written"}),
    ):
        if any(summary.increase[name].n for name in counters):
            yield title, ", ".join(f"{mark(name)}{size_text(summary.increases[name])} {word}" for name, word in counters.items())
    if summary.memory.n:
        yield "growing", _trend_text(summary, mark("trend"))
    if summary.rightsize is not None:
        yield "right size", _rightsize_text(summary.rightsize, mark("rightsize"))


def _trend_text(summary: CallsSummary, mark: str) -> str:
    trend = summary.trend
    if trend is None:
        return 'unknown without SciPy: pip install "callstats[stats]"'
    if trend.growing is None:
        return f"can't tell from {plural(trend.n, 'call')}"
    p = "" if trend.p is None else f" (p = {trend.p:.2g})"
    if trend.growing and trend.slope is not None:
        return f"{mark}yes, by {memory_text(round(trend.slope))} from call to call{p}"
    return f"{mark}no{p}"


def _rightsize_text(found: RightSize, mark: str) -> str:
    left_out = f"; {plural(found.unsampled, 'call')} without known memory left out" if found.unsampled else ""
    if found.size is None or found.bound is None:
        return f"{found.reason or 'none'}{left_out}"
    text = (
        f"{mark}{limit_text(found.size)}: {found.over:,} of {plural(found.calls, 'call')} would have gone over, "
        f"at most {100 * found.bound:.3g} % with 95 % confidence{left_out}"
    )
    if found.saved is None or found.limit is None:
        return text
    limit = f"limits of {memory_text(found.limit)} on average"
    if found.saved < 0:
        return f"{text}; takes {-100 * found.saved:.0f} % more than {limit}"
    return f"{text}; saves {100 * found.saved:.0f} % of {limit}"


def _percentiles_text(numbers: Percentiles, mark: str, text: Callable[[int], str]) -> str:
    return ", ".join(f"{name} {mark}{text(getattr(numbers, name))}" for name in PERCENTILES)
