"""The exact sums behind statistics, of series or of stored text. The specification of `totals_cy`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from callstats._types import AnyArray, Block, Bytes, Counts, Times
from callstats.kernels.decimate_py import exact_sums, wide_sums

PlanForTotals: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, Counts]]

ROWS, WEIGHT, FIRST, LAST, MIN, MAX, SUM, INCREASE = 0, 1, 2, 3, 4, 5, 6, 8
MIN_IS_EXACT, MAX_IS_EXACT, ENDS_ARE_EXACT = 10, 11, 12
TOTALS = 13
"""The index of each word of `totals`, and their number. A sum has two words, the high one first."""

POINTS, SUM_T, SUM_X, SUM_TX, SUM_TT = 0, 1, 3, 5, 8
MOMENTS = 11
"""The same for `moments`. The last two sums have three words."""


def totals(values: Block, present: Bytes | None, counts: Counts | None, offsets: Counts, plan: Counts) -> Block:
    """Compute count, ends, min, max and exact sums of each metric of each series: (k, m, 13) words.

    Series i has the rows offsets[i] to offsets[i + 1]. Column j is metric plan[0, j], over the rows that have it. The min, max,
    first and last value of a row are the metrics plan[1:5, j] (-1: none), where the row has them. It may have them without the
    metric itself: the last row of a recording may have nothing but the kernel's peak. The sum is weighted by counts. For the
    increase, a value below the one before is a reset to 0.

    Three words are 0 or 1: whether each row of several samples has its own min; its own max; its own first and last. All words
    are 0 where no row has the metric. The constants in `totals_py` give the order.

    The caller guarantees counts whose total per series is within int64.
    """
    k, m = plan.shape[1], len(offsets) - 1
    out = np.zeros((k, m, TOTALS), dtype=np.uint64)
    weights = np.ones(values.shape[1], dtype=np.uint64) if counts is None else counts.astype(np.uint64)
    single = weights == 1
    for j in range(k):
        own, *others = plan[:, j].tolist()
        has = _mask(values, present, own)
        has_min, has_max, has_first, has_last = masks = [_mask(values, present, other) for other in others]
        low, high, first, last = (np.where(mask, values[other], values[own]) for mask, other in zip(masks, others, strict=True))
        every = rows, members, starts, sizes = _segments(has, offsets)
        result = out[j]
        result[members, ROWS] = sizes
        result[members, WEIGHT] = np.add.reduceat(weights[rows], starts)
        result[members, MIN_IS_EXACT] = np.logical_and.reduceat((single | has_min)[rows], starts)
        result[members, MAX_IS_EXACT] = np.logical_and.reduceat((single | has_max)[rows], starts)
        most = int(result[:, WEIGHT].max(initial=0))
        _put_sums(result, members, SUM, 2, wide_sums(values[own, rows], weights[rows], starts, most))
        for field, extreme, cells, mask in ((MIN, np.minimum, low, has_min), (MAX, np.maximum, high, has_max)):
            rows, members, starts, _ = _segments(has | mask, offsets) if mask.any() else every
            result[members, field] = extreme.reduceat(cells[rows], starts)
        has_ends = bool(has_first.any() or has_last.any())
        rows, members, starts, sizes = _segments(has | has_first | has_last, offsets) if has_ends else every
        result[members, ENDS_ARE_EXACT] = np.logical_and.reduceat((single | (has_first & has_last))[rows], starts)
        ends = first[rows]
        if has_ends:  # each row adds its first and its last value to one sequence, as far as it has them
            rows, members, starts, sizes = _segments(np.column_stack([has | has_first, has | has_last]).ravel(), 2 * offsets)
            ends = np.column_stack([first, last]).ravel()[rows]
        rises = np.zeros_like(ends)
        rises[1:] = _increase(ends[:-1], ends[1:])
        rises[starts] = 0
        result[members, FIRST] = ends[starts]
        result[members, LAST] = ends[starts + sizes - 1]
        _put_sums(result, members, INCREASE, 2, wide_sums(rises, None, starts, len(rises)))
        result[result[:, ROWS] == 0] = 0
    return out


def moments(times: Times, values: Block, present: Bytes | None, offsets: Counts, metrics: Counts) -> Block:
    """Compute exact sums for the slope of metrics[j] over time in each series: (k, m, 11) words.

    They are over the rows that have the metric; of rows with one time, over the last. Return the number of rows, and the sums of
    t, x, t * x and t * t, where t is the time since the first row. All words are 0 where no row has the metric.

    The caller guarantees non-decreasing times.
    """
    out = np.zeros((len(metrics), len(offsets) - 1, MOMENTS), dtype=np.uint64)
    for j, own in enumerate(metrics.tolist()):
        rows, members, starts, sizes = _segments(_mask(values, present, own), offsets)
        stamps = times[rows].astype(np.uint64)
        since = stamps - np.repeat(stamps[starts], sizes)
        final = np.ones(len(rows), dtype=np.bool_)
        final[:-1] = stamps[1:] != stamps[:-1]
        final[starts + sizes - 1] = True
        points = np.add.reduceat(final.astype(np.int64), starts)
        starts = np.cumsum(points) - points
        t, x = since[final], values[own, rows[final]]
        result = out[j]
        result[members, POINTS] = points
        _put_sums(result, members, SUM_T, 2, exact_sums(t, None, starts))
        _put_sums(result, members, SUM_X, 2, exact_sums(x, None, starts))
        _put_sums(result, members, SUM_TX, 3, exact_sums(t, x, starts))
        _put_sums(result, members, SUM_TT, 3, exact_sums(t, t, starts))
    return out


def ranks(values: Block, present: Bytes | None, offsets: Counts, metrics: Counts) -> Block:
    """Compute the median, p95 and p99 of metrics[j] in each series, over the rows that have it: (k, m, 3) words.

    The median is the middle value, or the floor of the mean of the middle two. Percentile p is element ``ceil(p * n / 100)``. All
    words are 0 where no row has the metric.
    """
    out = np.zeros((len(metrics), len(offsets) - 1, 3), dtype=np.uint64)
    for j, own in enumerate(metrics.tolist()):
        for i, (begin, end) in enumerate(pairwise(offsets.tolist())):
            cells = (
                values[own, begin:end] if present is None else values[own, begin:end][present[own, begin:end].astype(np.bool_)]
            )
            n = len(cells)
            if n:
                indexes = [(n - 1) // 2, n // 2, (95 * n + 99) // 100 - 1, (99 * n + 99) // 100 - 1]
                low, high, p95, p99 = np.partition(cells, sorted(set(indexes)))[indexes].tolist()
                out[j, i] = (low + high) // 2, p95, p99
    return out


def blob_totals(blob: bytes, plan_for: PlanForTotals) -> tuple[tuple[bytes, ...], int, int, int, Block, Block] | None:
    """Compute the totals and moments of a blob without its columns.

    Return None: the fallback decoder decides.
    """
    return None


def _mask(values: Block, present: Bytes | None, index: int) -> AnyArray:
    """Return the rows that have a metric (-1: none)."""
    if index < 0 or present is None:
        return np.full(values.shape[1], index >= 0)
    mask: AnyArray = present[index].astype(np.bool_)
    return mask


def _segments(mask: AnyArray, offsets: Counts) -> tuple[Counts, Counts, Counts, Counts]:
    """Return the rows of a mask, the series with such rows, and each one's start among these rows and size."""
    first, last = int(offsets[0]), int(offsets[-1])
    mask = mask[first:last]
    seen = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(mask, out=seen[1:])
    seen = seen[offsets - first]
    sizes = seen[1:] - seen[:-1]
    members = np.flatnonzero(sizes)
    sizes = sizes[members]
    return np.flatnonzero(mask) + first, members, np.cumsum(sizes) - sizes, sizes


def _increase(before: Block, after: Block) -> Block:
    """Return how much a counter rose. A counter that fell started again at 0."""
    return np.where(after >= before, after - before, after)


def _put_sums(result: Block, members: Counts, field: int, words: int, sums: Block | list[int]) -> None:
    """Write whole numbers as 64-bit words, the highest first."""
    if not isinstance(sums, list):  # they fit into the last word
        result[members, field + words - 1] = sums
        return
    for word in range(words):
        shift = 64 * (words - 1 - word)
        result[members, field + word] = np.array([total >> shift & (2**64 - 1) for total in sums], dtype=np.uint64)
