"""A small chart made of text."""

from __future__ import annotations

from collections.abc import Sequence

from callstats.readable import size_text

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_SHADE = "░"
_LABEL = 10


def fits(encoding: str | None) -> bool:
    """Whether an output of this encoding can show blocks."""
    try:
        (_EIGHTHS + _SHADE).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def chart_lines(values: Sequence[int], peaks: Sequence[int], *, seconds: int, height: int = 8, blocks: bool = True) -> list[str]:
    """Bytes over time, a column a row: up to the value solid, from there to the peak light."""
    top = max([*values, *peaks, 1])
    lines = []
    for level in range(height - 1, -1, -1):
        label = size_text(top * (level + 1) / height) if (height - 1 - level) % 4 == 0 else ""
        cells = (_cell(value, peak, level, height, top, blocks) for value, peak in zip(values, peaks, strict=True))
        lines.append(f"{label:>{_LABEL}} |{''.join(cells)}")
    end = time_text(seconds)
    lines.append(f"{'0':>{_LABEL}} +{'-' * len(values)}")
    lines.append(f"{'':>{_LABEL}}  0 s{end:>{max(len(values) - 3, len(end) + 1)}}")
    return lines


def time_text(seconds: int) -> str:
    """A length of time, as people say it."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minute:02} min"
    return f"{minute} min {second:02} s" if minute else f"{second} s"


def _cell(value: int, peak: int, level: int, height: int, top: int, blocks: bool) -> str:
    """What a column shows between two levels: integers, since values have up to 64 bits."""
    filled = min(max(value * 8 * height // top - 8 * level, 0), 8)
    beyond = peak * 8 * height // top - 8 * level >= 4
    if not blocks:
        return "#" if filled >= 4 else ":" if beyond else " "
    if not filled:
        return _SHADE if beyond else " "
    return _EIGHTHS[filled]
