"""Tracks as text, in blocks or plain ASCII. Each piece has a role, for its colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from callstats._types import AnyArray
from callstats._units import duration_text, limit_text, printable, size_text
from callstats.plot.panels import Track, value_text

Ink: TypeAlias = Literal["title", "text", "axis", "value", "band", "limit"]

HEIGHT = 6


class Piece(NamedTuple):
    """A part of a line, and its role."""

    text: str
    ink: Ink


class _Glyphs(NamedTuple):
    eighths: str
    """From empty to full; ASCII has only two."""
    above: str
    """From the value to the max."""
    limit: str
    up: str
    corner: str
    along: str


_BLOCKS = _Glyphs(" ▁▂▃▄▅▆▇█", "░", "╌", "│", "└", "─")
_ASCII = _Glyphs(" ___#####", ":", "-", "|", "+", "-")

GLYPHS = "".join(_BLOCKS)
"""The characters that a terminal needs for blocks."""


def charts(tracks: Sequence[Track], *, width: int, blocks: bool = True) -> list[list[list[Piece]]]:
    """Return the lines of a chart for each track, with aligned axes.

    A chart is solid up to the mean of the rows in each column, light from there to their max, and blank without a value.
    """
    margin = max((len(mark) for track in tracks for mark in _marks(track).values()), default=0)
    return [_chart(track, width, margin, _BLOCKS if blocks else _ASCII) for track in tracks]


def _top(track: Track) -> float:
    return max(track.top, track.drawn_limit or 0.0)


def _marks(track: Track) -> dict[int, str]:
    """Return the texts beside the levels; none without values above 0."""
    top = _top(track)
    return {level: value_text(track.kind, top * level / HEIGHT) for level in (HEIGHT, HEIGHT // 2)} if top else {}


def _chart(track: Track, width: int, margin: int, glyphs: _Glyphs) -> list[list[Piece]]:
    name, numbers = _title(track, width)
    lines = [[Piece(name, "title"), Piece(numbers, "text")]]
    if not np.isfinite(track.values).any():
        return [*lines, [Piece("  two times are needed for a rate", "text")]] if track.kind == "rate" else lines
    marks, top, limit = _marks(track), _top(track) or 1.0, track.drawn_limit
    height = HEIGHT if marks else 1
    columns = _by_column(track, max(width - margin - 2, 1))
    eighths = [np.floor(np.minimum(cells / top, 1) * 8 * height).tolist() for cells in columns]
    line_at = None if limit is None else min(int(limit / top * height), height - 1)
    for level in range(height - 1, -1, -1):
        cells = [_piece(value, high, level, glyphs) for value, high in zip(*eighths, strict=True)]
        if level == line_at:
            cells = [Piece(glyphs.limit, "limit") if cell.text == " " else cell for cell in cells]
        mark = marks.get(level + 1, "")
        lines.append([Piece(f"{mark:>{margin}} ", "text"), Piece(glyphs.up, "axis"), *_join_inks(cells)])
    n = len(eighths[0])
    lines.append([Piece(f"{'0':>{margin}} ", "text"), Piece(glyphs.corner + glyphs.along * n, "axis")])
    end = duration_text(round(track.end * 10**9)) if track.end else ""
    lines.append([Piece(f"{'':>{margin}}  0 s{end:>{max(n - 3, len(end) + 1)}}".rstrip(), "text")])
    return lines


def _title(track: Track, width: int) -> list[str]:
    """Return the metric's name and as many of its numbers as fit."""
    summary = track.summary
    numbers = []
    if track.traffic is not None:
        total, is_exact = track.traffic
        numbers.append(f"{'' if is_exact else '~'}{size_text(total)} in all")
        if track.top:
            numbers.append(f"up to {track.top_text}")
    elif summary.mean is not None:
        mean = ("~" if track.reduced else "") + value_text(track.kind, summary.mean)
        numbers += [f"max {track.top_text}", f"mean {mean}"]
    if track.limit is not None:
        numbers.insert(1, f"limit {limit_text(int(track.limit))}")
    name = printable(track.name)
    while len(numbers) > 1 and len(name) + 2 + len(", ".join(numbers)) > width:
        numbers.pop()
    return [name, f"  {', '.join(numbers)}"]


def _by_column(track: Track, width: int) -> tuple[AnyArray, AnyArray]:
    """Return the value and the high of each column, by time; NaN where no row of a column has them."""
    seconds, values = track.seconds, track.values
    _, high = track.band or (values, values)
    if not track.end:
        width = 1
    columns = np.rint(seconds / (track.end or 1.0) * (width - 1)).astype(np.int64)
    present, known_high = np.isfinite(values), np.isfinite(high)
    counts = np.bincount(columns[present], minlength=width)
    means = np.bincount(columns[present], weights=values[present], minlength=width) / np.where(counts, counts, np.nan)
    highs = np.full(width, np.nan)
    np.fmax.at(highs, columns[known_high], high[known_high])
    known = np.flatnonzero(counts)
    for row in np.flatnonzero(present[1:] & present[:-1]):
        begin, end = columns[row], columns[row + 1]
        between = np.arange(begin + 1, end)
        for cells in (means, highs):
            cells[between] = np.interp(between, known, cells[known])
    return means, highs


def _piece(value: float, high: float, level: int, glyphs: _Glyphs) -> Piece:
    """Return the piece of a column between two levels. All numbers are eighths of a level."""
    base, middle = 8 * level, 8 * level + 4
    if np.isnan(value):  # the last row of a recording may have nothing but a peak
        return Piece(glyphs.above, "band") if high >= middle else Piece(" ", "value")
    if value < middle <= high and high - value >= 4:
        return Piece(glyphs.above, "band")
    return Piece(glyphs.eighths[int(min(max(value - base, 0 if level else 1), 8))], "value")


def _join_inks(cells: list[Piece]) -> list[Piece]:
    """Join neighbours of one ink."""
    return [Piece("".join(cell.text for cell in run), ink) for ink, run in groupby(cells, key=lambda cell: cell.ink)]
