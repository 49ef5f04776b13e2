"""Stats: the exact sums that statistics are made of, series by series. The specification of `totals_cy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from callstats._types import AnyArray, Block, Bytes, Counts, Times
from callstats.kernels import json_py

Layout: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, Counts]]

ROWS, WEIGHT, FIRST, LAST, MIN, MAX, SUM, INCREASE = 0, 1, 2, 3, 4, 5, 6, 8
MIN_IS_EXACT, MAX_IS_EXACT, ENDS_ARE_EXACT = 10, 11, 12
TOTALS = 13
"""Where `totals` puts what, and how many words that is. A sum has two, the high one first."""

POINTS, SUM_T, SUM_X, SUM_TX, SUM_TT = 0, 1, 3, 5, 8
MOMENTS = 11
"""The same for `moments`; the last two sums have three words."""

_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)


def totals(values: Block, present: Bytes | None, counts: Counts | None, offsets: Counts, plan: Counts) -> Block:
    """Count, ends, least, most and exact sums of each metric of each series: (k, m, 13) words.

    Series i holds the rows offsets[i] to offsets[i + 1]. Column j is metric plan[0, j], over the rows that have it; its least,
    most, first and last value in a row are the metrics plan[1:5, j] (-1: none) where the row has them. The sum is weighed by
    counts; the increase takes a value below the one before for a reset to 0. Then, as 0 or 1: whether each row stands for one
    sample or has its own least value; its own most; its own first and last. All 0 where no row has the metric.

    The caller guarantees counts whose total per series is within int64.
    """
    k, m = plan.shape[1], len(offsets) - 1
    out = np.zeros((k, m, TOTALS), dtype=np.uint64)
    for j in range(k):
        own, *others = plan[:, j].tolist()
        rows, kept, starts, sizes = _segments(present, own, offsets)
        if not len(kept):
            continue
        x = values[own, rows]
        weights = np.ones(len(rows), dtype=np.uint64) if counts is None else counts[rows].astype(np.uint64)
        (least, has_least), (most, has_most), (first, has_first), (last, has_last) = [
            _stand_in(values, present, other, rows, x) for other in others
        ]
        ends = starts + sizes - 1
        lone = weights == 1
        result = out[j]
        result[kept, ROWS] = sizes
        result[kept, WEIGHT] = np.add.reduceat(weights, starts)
        result[kept, FIRST] = first[starts]
        result[kept, LAST] = last[ends]
        result[kept, MIN] = np.minimum.reduceat(least, starts)
        result[kept, MAX] = np.maximum.reduceat(most, starts)
        _put(result, kept, SUM, 2, _sums(x, weights, starts))
        before = np.r_[last[:1], last[:-1]]
        between = _risen(before, first)
        between[starts] = 0
        risen = zip(_sums(_risen(first, last), None, starts), _sums(between, None, starts), strict=True)
        _put(result, kept, INCREASE, 2, [a + b for a, b in risen])
        result[kept, MIN_IS_EXACT] = np.logical_and.reduceat(lone | has_least, starts)
        result[kept, MAX_IS_EXACT] = np.logical_and.reduceat(lone | has_most, starts)
        result[kept, ENDS_ARE_EXACT] = np.logical_and.reduceat(lone | (has_first & has_last), starts)
    return out


def moments(times: Times, values: Block, present: Bytes | None, offsets: Counts, metrics: Counts) -> Block:
    """Exact sums for the slope of metrics[j] over time in each series: (k, m, 11) words.

    Over the rows that have the metric, of rows with one time the last: how many they are, and the sums of t, x, t * x and t * t,
    where t is the time since the first of them. All 0 where no row has the metric.

    The caller guarantees non-decreasing times.
    """
    out = np.zeros((len(metrics), len(offsets) - 1, MOMENTS), dtype=np.uint64)
    for j, own in enumerate(metrics.tolist()):
        rows, kept, starts, sizes = _segments(present, own, offsets)
        if not len(kept):
            continue
        stamps = times[rows].astype(np.uint64)
        since = stamps - np.repeat(stamps[starts], sizes)
        final = np.ones(len(rows), dtype=np.bool_)
        final[:-1] = stamps[1:] != stamps[:-1]
        final[starts + sizes - 1] = True
        points = np.add.reduceat(final.astype(np.int64), starts)
        starts = np.cumsum(points) - points
        t, x = since[final], values[own, rows[final]]
        result = out[j]
        result[kept, POINTS] = points
        _put(result, kept, SUM_T, 2, _sums(t, None, starts))
        _put(result, kept, SUM_X, 2, _sums(x, None, starts))
        _put(result, kept, SUM_TX, 3, _sums(t, x, starts))
        _put(result, kept, SUM_TT, 3, _sums(t, t, starts))
    return out


def text_totals(text: bytes, layout: Layout) -> tuple[tuple[bytes, ...], int, int, int, Block, Block] | None:
    """The totals and moments of a stored histogram of the written shape, without its columns.

    Gives the names of its metrics in the order in which they were met, the number of rows, the first and the last time, and what
    `totals` and `moments` give of it for the plan and the metrics that ``layout(names)`` gives: (k, 13) and (g, 11) words. None
    for a text of any other shape.
    """
    read = json_py.read_text(text)
    if read is None:
        return None
    met, times, values, present, counts = read
    names = tuple(met)
    plan, metrics = layout(names)
    offsets = np.array([0, len(times)], dtype=np.int64)
    first, last = (int(times[0]), int(times[-1])) if len(times) else (0, 0)
    found = totals(values, present, counts, offsets, plan)[:, 0]
    slopes = moments(times, values, present, offsets, metrics)[:, 0]
    return names, len(times), first, last, np.ascontiguousarray(found), np.ascontiguousarray(slopes)


def _segments(present: Bytes | None, own: int, offsets: Counts) -> tuple[Counts, Counts, Counts, Counts]:
    """The rows that have a metric, the series that have any, and where each of these begins among the rows, and its size."""
    first, last = int(offsets[0]), int(offsets[-1])
    there = np.ones(last - first, dtype=np.bool_) if present is None else present[own, first:last].astype(np.bool_)
    seen = np.r_[0, np.cumsum(there)]
    sizes = np.diff(seen[offsets - first])
    kept = np.flatnonzero(sizes)
    sizes = sizes[kept]
    return np.flatnonzero(there) + first, kept, np.cumsum(sizes) - sizes, sizes


def _stand_in(values: Block, present: Bytes | None, other: int, rows: Counts, x: Block) -> tuple[Block, AnyArray]:
    """Of each row the other metric's value, or x where it has none; and which rows have one."""
    if other < 0:
        return x, np.zeros(len(rows), dtype=np.bool_)
    has = np.ones(len(rows), dtype=np.bool_) if present is None else present[other, rows].astype(np.bool_)
    return np.where(has, values[other, rows], x), has


def _risen(before: Block, after: Block) -> Block:
    """How much a counter rose; one that fell began anew at 0."""
    return np.where(after >= before, after - before, after)


def _sums(a: Block, b: Block | None, starts: Counts) -> list[int]:
    """Exact sum(a * b) of each stretch (b None: 1), by 32-bit halves."""
    sums = [0] * len(starts)
    halves = [(a & _LOW, 0), (a >> _HALF, 32)]
    if b is not None:
        by = [(b & _LOW, 0), (b >> _HALF, 32)]
        products = [(x * y, shift + more) for x, shift in halves for y, more in by]
        halves = [part for p, shift in products for part in ((p & _LOW, shift), (p >> _HALF, shift + 32))]
    for part, shift in halves:
        for place, total in enumerate(np.add.reduceat(part, starts).tolist()):
            sums[place] += total << shift
    return sums


def _put(result: Block, kept: Counts, field: int, words: int, sums: list[int]) -> None:
    """Write whole numbers as 64-bit words, the highest first."""
    for word in range(words):
        shift = 64 * (words - 1 - word)
        result[kept, field + word] = np.array([total >> shift & (2**64 - 1) for total in sums], dtype=np.uint64)
