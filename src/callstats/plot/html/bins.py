"""The distributions of calls over bins with readable edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from callstats._types import AnyArray, Counts
from callstats._units import duration_text, memory_text
from callstats.stats.calls import OUTCOMES

MAX_BINS = 24
_MIN_NS = 10**6
_SECOND, _MINUTE, _HOUR = 10**9, 60 * 10**9, 3_600 * 10**9
_WIDTHS_NS = (
    *(number * 10**power for power in range(9) for number in (1, 2, 5)),
    *(number * unit for unit in (_SECOND, _MINUTE) for number in (1, 2, 5, 10, 20, 30)),
    *(number * 10**power * _HOUR for power in range(6) for number in (1, 2, 5)),
)
"""The widths that bins of equal width may have. Each is at most 2.5 times the one before it."""
_MAX_RATIO = 4  # of the max duration to the min one, for bins of equal width


class Bins(NamedTuple):
    """The distribution of calls over bins with readable edges."""

    counts: Counts
    """The calls of each outcome in each bin, of shape (3, n)."""
    edges: tuple[str, ...]
    """The start of each bin, and the end of the last."""
    width: float
    """The width of a bin in bytes or nanoseconds, or 0 if they differ in width."""


def memory_bins(sizes: AnyArray, reach: int = 0, outcomes: AnyArray | None = None) -> Bins:
    """Count sizes in bins of equal width, a power of two of bytes, from 0 to the max size and at least to `reach`.

    A bin includes its upper edge, since a peak equal to the limit is within the limit.
    """
    top = max(int(sizes.max()) if len(sizes) else 0, reach, 1)
    width = 1 << (top // MAX_BINS).bit_length()
    n = -(-top // width)
    indexes = ((np.maximum(sizes, 1) - np.uint64(1)) // np.uint64(width)).astype(np.int64)
    return Bins(_counted(indexes, n, outcomes), tuple(memory_text(width * index) for index in range(n + 1)), float(width))


def duration_bins(durations: AnyArray, outcomes: AnyArray | None = None) -> Bins:
    """Count durations in nanoseconds in bins that include their lower edge: 10 to 24, or more for more than 24 octaves.

    Similar durations have bins of equal width. Others have octaves, or halves, quarters or eighths of octaves.
    """
    if not len(durations):
        return Bins(_counted(np.zeros(0, dtype=np.int64), 0, outcomes), (), 0.0)
    low, high = int(durations.min()), int(durations.max())
    similar = high < _MAX_RATIO * max(low, _MIN_NS)
    return _even_bins(durations, low, high, outcomes) if similar else _octave_bins(durations, low, outcomes)


def _even_bins(durations: AnyArray, low: int, high: int, outcomes: AnyArray | None) -> Bins:
    """Count durations in bins of equal width. Equal ones have one bin, and empty bins on both sides of it."""
    if high - low < 10:
        margin = max(low, _MIN_NS) // 8
        low, high = max(low - margin, 0), high + margin
    width = next(width for width in _WIDTHS_NS if high // width - low // width < MAX_BINS)
    first, n = low // width, high // width - low // width + 1
    edges = tuple(_edge_text((first + index) * width, width) for index in range(n + 1))
    return Bins(_counted(durations // width - first, n, outcomes), edges, float(width))


def _octave_bins(durations: AnyArray, low: int, outcomes: AnyArray | None) -> Bins:
    """Count durations in bins that divide each octave into equal parts. The first has all below a millisecond."""
    fractions, octaves = np.frexp(np.maximum(durations, _MIN_NS) / 1e9)  # a fraction is at least 0.5 and below 1
    first, n = int(octaves.min()), int(octaves.max() - octaves.min()) + 1
    parts = 1 << max(MAX_BINS // n, 1).bit_length() - 1
    indexes = (octaves - first) * parts + ((2 * fractions - 1) * parts).astype(np.int64)
    starts = [10**9 * 2.0 ** (first - 1 + index // parts) * (1 + index % parts / parts) for index in range(parts * n + 1)]
    if low < starts[0]:
        starts[0] = 0.0
    return Bins(_counted(indexes, parts * n, outcomes), tuple(duration_text(round(start)) for start in starts), 0.0)


def _edge_text(ns: int, width: int) -> str:
    """Return an edge of bins of this width. Unlike `duration_text`, give all digits that tell it from the next edge."""
    if not width % _MINUTE:
        return duration_text(ns)
    digits = max(9 - len(str(width)) + len(str(width).rstrip("0")), 0)
    seconds = ns % _MINUTE / 10**9
    if ns < _MINUTE:
        return f"{seconds:.{digits}f} s"
    minutes = duration_text(ns - ns % _MINUTE).removesuffix(" 00 s")
    return f"{minutes} {seconds:0{digits + 3 if digits else 2}.{digits}f} s"


def _counted(indexes: AnyArray, n: int, outcomes: AnyArray | None) -> Counts:
    """Count the indexes of each outcome; without outcomes, all calls succeeded."""
    rows = 0 if outcomes is None else outcomes.astype(np.int64) * n
    counts: Counts = np.bincount(indexes + rows, minlength=len(OUTCOMES) * n).reshape(len(OUTCOMES), n)
    return counts
