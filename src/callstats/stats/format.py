"""What calls say together, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from callstats._units import duration_text, limit_text, memory_text, plural, size_text
from callstats.stats.calls import CallsSummary, Spread
from callstats.stats.rightsize import RightSize

PERCENTILES = ("p50", "p95", "p99", "max")


def figures(summary: CallsSummary) -> Iterator[tuple[str, str]]:
    """What there is to say of calls, each with its title: only what they have something for."""
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
                else f" in {summary.page_cache:,} of {plural(summary.memory.n, 'call')}"
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
            f"{mark}{near.k:,} of {plural(near.n, 'call')} came within 10 % of it: {mark}{share} (95 %: {low} to {high})",
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
        yield "right size", rightsize_text(summary.rightsize, _mark(summary, "rightsize"))


def _trend_text(summary: CallsSummary) -> str:
    trend = summary.trend
    if trend is None:
        return 'not told without SciPy: pip install "callstats[stats]"'
    if trend.growing is None:
        return f"can't tell from {plural(trend.n, 'call')}"
    mark = _mark(summary, "trend")
    p = "" if trend.p is None else f" (p = {trend.p:.2g})"
    if trend.growing and trend.slope is not None:
        return f"{mark}yes, by {memory_text(round(trend.slope))} from call to call{p}"
    return f"{mark}no{p}"


def rightsize_text(found: RightSize, mark: str = "") -> str:
    """The size that calls need, what speaks for it, and what it saves; or why there is none."""
    if found.size is None or found.bound is None:
        return found.reason or "none"
    text = (
        f"{mark}{limit_text(found.size)}: {found.over:,} of {plural(found.calls, 'call')} would have gone over, "
        f"at most {100 * found.bound:.3g} % with 95 % confidence"
    )
    if found.saved is None or found.limit is None:
        return text
    limit = f"limits of {memory_text(found.limit)} on average"
    if found.saved < 0:
        return f"{text}; takes {-100 * found.saved:.0f} % more than {limit}"
    return f"{text}; saves {100 * found.saved:.0f} % of {limit}"


def _mark(summary: CallsSummary, name: str) -> str:
    return "~" if name in summary.approximate else ""


def _spread_text(spread: Spread, mark: str, text: Callable[[int], str]) -> str:
    return ", ".join(f"{name} {mark}{text(getattr(spread, name))}" for name in PERCENTILES)
