"""A track as text: blocks, or plain ASCII, with each piece told what it is, so that it can be coloured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from callstats._types import AnyArray
from callstats._units import duration_text, limit_text, memory_text, printable
from callstats.plot.panels import Track, value_text

Ink: TypeAlias = Literal["title", "text", "axis", "value", "band", "limit"]

HEIGHT = 6


class Piece(NamedTuple):
    """A piece of a line, and what it shows."""

    text: str
    ink: Ink


class _Glyphs(NamedTuple):
    eighths: str
    """From nothing to full; plain text has but two."""
    below: str
    """The band under the value."""
    above: str
    """The band over it."""
    limit: str
    up: str
    corner: str
    along: str


_BLOCKS = _Glyphs(" ▁▂▃▄▅▆▇█", "▒", "░", "╌", "│", "└", "─")
_ASCII = _Glyphs(" ___#####", "=", ":", "-", "|", "+", "-")

GLYPHS = "".join(_BLOCKS)
"""All that a terminal must be able to show for blocks."""


class _Scale(NamedTuple):
    top: float
    limit: float | None
    marks: dict[int, str]


def charts(tracks: Sequence[Track], *, width: int, blocks: bool = True) -> list[list[list[Piece]]]:
    """Metrics over time in so many columns, their axes one under the other: of each chart its lines.

    A chart is solid up to the value, the band around it light, and blank where there is no value.
    """
    scales = [_scale(track) for track in tracks]
    margin = max((len(mark) for _, _, marks in scales for mark in marks.values()), default=0)
    glyphs = _BLOCKS if blocks else _ASCII
    return [_chart(track, scale, width, margin, glyphs) for track, scale in zip(tracks, scales, strict=True)]


def _scale(track: Track) -> _Scale:
    """The largest value of the chart, the limit if it is drawn, and the texts beside its levels."""
    if not track.top:
        return _Scale(1.0, None, {})
    top = max(track.top, track.drawn_limit or 0.0)
    return _Scale(top, track.drawn_limit, {HEIGHT: value_text(track.kind, top), HEIGHT // 2: value_text(track.kind, top / 2)})


def _chart(track: Track, scale: _Scale, width: int, margin: int, glyphs: _Glyphs) -> list[list[Piece]]:
    name, figures = _title(track, width)
    lines = [[Piece(name, "title"), Piece(figures, "text")]]
    if not np.isfinite(track.values).any():
        return [*lines, [Piece("  two rows are needed for a rate", "text")]] if track.kind == "rate" else lines
    height = HEIGHT if scale.marks else 1
    columns = _columns(track, max(width - margin - 2, 1))
    eighths = [np.floor(np.minimum(cells / scale.top, 1) * 8 * height).tolist() for cells in columns]
    line_at = None if scale.limit is None else min(int(scale.limit / scale.top * height), height - 1)
    for level in range(height - 1, -1, -1):
        cells = [_cell(low, value, high, level, glyphs) for low, value, high in zip(*eighths, strict=True)]
        if level == line_at:
            cells = [Piece(glyphs.limit, "limit") if cell.text == " " else cell for cell in cells]
        mark = scale.marks.get(level + 1, "")
        lines.append([Piece(f"{mark:>{margin}} ", "text"), Piece(glyphs.up, "axis"), *_joined(cells)])
    n = len(eighths[0])
    lines.append([Piece(f"{'0':>{margin}} ", "text"), Piece(glyphs.corner + glyphs.along * n, "axis")])
    end = duration_text(round(float(track.seconds[-1]) * 10**9))
    lines.append([Piece(f"{'':>{margin}}  0 s{end:>{max(n - 3, len(end) + 1)}}", "text")])
    return lines


def plain(line: list[Piece]) -> str:
    """A line without its inks."""
    return "".join(piece.text for piece in line).rstrip()


def _title(track: Track, width: int) -> list[str]:
    """The metric's name and figures; only as many of these as fit."""
    found = track.summary
    about = "" if found.exact else "~"
    figures = []
    if track.kind == "rate":
        figures.append(f"{about}{memory_text(found.increase or 0)} in all")
        if track.top:
            figures.append(f"up to {value_text(track.kind, track.top)}")
    elif found.mean is not None and found.max is not None:
        figures += [f"max {about}{value_text(track.kind, found.max)}", f"mean {value_text(track.kind, found.mean)}"]
    if track.limit is not None:
        figures.insert(1, f"limit {limit_text(int(track.limit))}")
    name = printable(track.name)
    while len(figures) > 1 and len(name) + 2 + len(", ".join(figures)) > width:
        figures.pop()
    return [name, f"  {', '.join(figures)}"]


def _columns(track: Track, width: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Low, value and high of each column, by time; NaN in columns that nothing is known of."""
    seconds, values = track.seconds, track.values
    low = values if track.low is None else track.low
    high = values if track.high is None else track.high
    span = float(seconds[-1])
    if not span:
        width = 1
    places = np.rint(seconds / (span or 1.0) * (width - 1)).astype(np.int64)
    there = np.isfinite(values)
    counts = np.bincount(places[there], minlength=width)
    means = np.bincount(places[there], weights=values[there], minlength=width) / np.where(counts, counts, np.nan)
    lows, highs = np.full(width, np.nan), np.full(width, np.nan)
    np.fmin.at(lows, places[there], low[there])
    np.fmax.at(highs, places[there], high[there])
    known = np.flatnonzero(counts)
    for row in np.flatnonzero(there[1:] & there[:-1]):
        begin, end = places[row], places[row + 1]
        between = np.arange(begin + 1, end)
        for cells in (lows, means, highs):
            cells[between] = np.interp(between, known, cells[known])
    return lows, means, highs


def _cell(low: float, value: float, high: float, level: int, glyphs: _Glyphs) -> Piece:
    """What a column shows between two levels, all in eighths of a level."""
    if np.isnan(value):
        return Piece(" ", "value")
    base, middle = 8 * level, 8 * level + 4
    if low < middle <= high and high - low >= 4:
        return Piece(glyphs.below if value >= middle else glyphs.above, "band")
    solid = low if low >= middle else value
    return Piece(glyphs.eighths[int(min(max(solid - base, 0 if level else 1), 8))], "value")


def _joined(cells: list[Piece]) -> list[Piece]:
    """Neighbours of one ink as one piece."""
    joined: list[Piece] = []
    for cell in cells:
        if joined and joined[-1].ink == cell.ink:
            joined[-1] = Piece(joined[-1].text + cell.text, cell.ink)
        else:
            joined.append(cell)
    return joined
