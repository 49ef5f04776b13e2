"""Bins: samples into rows, one value a metric and row. The specification of `decimate_cy`."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from callstats._types import U64_MAX, AnyArray, Block, Bytes, Counts, Times

MEAN, MIN, MAX, FIRST, LAST, SUM = range(6)

_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)


class _Rows(NamedTuple):
    """Which samples each row takes: samples ``starts[r]`` to ``starts[r] + sizes[r]``, `weights` raw samples in all."""

    starts: Counts
    sizes: Counts
    weights: Block


def decimate(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    offsets: Counts | None,
    max_samples: int,
    zero: bool,
    columns: Counts,
) -> tuple[Times, Block, Bytes | None, Counts | None, Counts | None, tuple[int, int] | None]:
    """Reduce each series of a batch to at most max_samples rows.

    Series i holds the samples offsets[i] to offsets[i + 1]; without offsets there is one series, and none are given back. Column
    j of the result is metric columns[0, j] (-1: a new one), whose absent values are taken from metric columns[1, j] (-1: none),
    reduced by columns[2, j]; a row of one sample takes its own value only. Where columns[3, j] is 0, a series that has no value
    of its own for the column gets none. Gives times, values, present (None: all), counts (None: all one), offsets, and the
    (row, column) of the first sum that is too large.

    The caller guarantees non-decreasing times, max_samples >= 1, and 0 wherever a value is absent.
    """
    one = offsets is None
    offsets = np.array([0, len(times)], dtype=np.int64) if offsets is None else offsets
    starts, row_offsets = _edges(times, offsets, max_samples)
    n, r, k = len(times), len(starts), columns.shape[1]
    sizes = np.diff(starts, append=n)
    out_values = np.zeros((k, r), dtype=np.uint64)
    if r == 0:
        return np.zeros(0, dtype=np.int64), out_values, None, None, None if one else row_offsets, None
    weighed = sizes if counts is None else np.add.reduceat(counts, starts)
    rows = _Rows(starts, sizes, weighed.astype(np.uint64))
    weights = None if counts is None else counts.astype(np.uint64)

    base = times[starts]
    since = (times - np.repeat(base, sizes)).view(np.uint64)
    out_times = (base.view(np.uint64) + _mean(since, weights, rows.starts, rows.weights)).view(np.int64)

    out_present = np.ones((k, r), dtype=np.uint8)
    fault: tuple[int, int] | None = None
    for j, (own, other, reducer, asked) in enumerate(columns.T.tolist()):
        there, wrong = _column(values, present, weights, rows, own, other, reducer, zero, out_values[j])
        if there is not None and not asked:
            there &= _owned(present, own, offsets, row_offsets)
            out_values[j, ~there] = 0
        if there is not None:
            out_present[j] = there
        if wrong is not None:
            fault = min(fault or (wrong, j), (wrong, j))
    return (
        out_times,
        out_values,
        None if out_present.all() else out_present,
        None if (weighed == 1).all() else weighed,
        None if one else row_offsets,
        fault,
    )


def _edges(times: Times, offsets: Counts, max_samples: int) -> tuple[Counts, Counts]:
    """First sample of each row, and the rows' own offsets."""
    parts = [np.zeros(0, dtype=np.int64)]
    row_offsets = np.zeros(len(offsets), dtype=np.int64)
    bounds = offsets.tolist()
    for i, (begin, end) in enumerate(pairwise(bounds)):
        starts = begin + first_samples(times[begin:end], max_samples)
        parts.append(starts)
        row_offsets[i + 1] = row_offsets[i] + len(starts)
    return np.concatenate(parts), row_offsets


def _starts(times: Times, max_samples: int) -> Counts:
    """First sample of each row of one series that has more than max_samples."""
    first, span = int(times[0]), int(times[-1]) - int(times[0])
    window = max(span // max_samples, 1)
    # Past the last inner edge there is one bin more, which holds the last sample.
    inner = np.arange(1, (span - 1) // window + 1, dtype=np.uint64) * np.uint64(window)
    ends = (inner + np.uint64(first % 2**64)).view(np.int64)
    starts = np.unique(np.searchsorted(times, ends, side="right"))
    return np.concatenate([np.zeros(1, dtype=np.int64), starts])[:max_samples]


def first_samples(times: Times, max_samples: int) -> Counts:
    """First sample of each row of one series."""
    return np.arange(len(times)) if len(times) <= max_samples else _starts(times, max_samples)


def _column(
    values: Block,
    present: Bytes | None,
    weights: Block | None,
    rows: _Rows,
    own: int,
    other: int,
    reducer: int,
    zero: bool,
    out: Block,
) -> tuple[AnyArray | None, int | None]:
    """Reduce one metric into `out`; which rows have it (None: all), and the first row whose sum is too large."""
    cells, has = values[own if own >= 0 else other], None
    if present is not None:
        has = present[own if own >= 0 else other].astype(np.bool_)
        if own >= 0 and other >= 0:
            cells = np.where(has, cells, values[other])
            has = has | present[other].astype(np.bool_)
    wrong = _reduce(cells, None if zero else has, weights, rows, reducer, out)
    there = None if has is None else np.logical_or.reduceat(has, rows.starts)
    if own < 0 or other >= 0:
        lone = rows.sizes == 1
        at = rows.starts[lone]
        out[lone] = values[own, at] if own >= 0 else 0
        there = np.ones(len(out), dtype=np.bool_) if there is None else there
        there[lone] = own >= 0 and (True if present is None else present[own, at])
    if there is not None:
        out[~there] = 0
    return there, wrong


def _owned(present: Bytes | None, own: int, offsets: Counts, row_offsets: Counts) -> AnyArray | bool:
    """Which rows belong to a series that has any value of its own for the metric."""
    if present is None:
        return True
    seen = np.concatenate([[0], np.cumsum(present[own])])
    return np.repeat(seen[offsets[1:]] > seen[offsets[:-1]], np.diff(row_offsets))


def _reduce(cells: Block, has: AnyArray | None, weights: Block | None, rows: _Rows, reducer: int, out: Block) -> int | None:
    """One value a row, over the samples that `has` marks (None: all); the first row whose sum is too large."""
    starts, sizes = rows.starts, rows.sizes
    if reducer == MEAN:
        if has is None:
            out[:] = _mean(cells, weights, starts, rows.weights)
        else:
            held = has.astype(np.uint64) if weights is None else weights * has
            out[:] = _mean(cells, weights, starts, np.maximum(np.add.reduceat(held, starts), np.uint64(1)))
    elif reducer == MIN:
        out[:] = np.minimum.reduceat(cells if has is None else np.where(has, cells, np.uint64(U64_MAX)), starts)
    elif reducer == MAX:
        out[:] = np.maximum.reduceat(cells, starts)
    elif reducer == SUM:
        sums = _wide_sums(cells, None, starts, int(sizes.max()))
        if isinstance(sums, list):
            large = [row for row, total in enumerate(sums) if total > U64_MAX]
            out[:] = [total & U64_MAX for total in sums]
            return large[0] if large else None
        out[:] = sums
    elif has is None:
        out[:] = cells[starts if reducer == FIRST else starts + sizes - 1]
    else:
        n = len(cells)
        places = np.arange(n)
        if reducer == FIRST:
            at = np.minimum.reduceat(np.where(has, places, n), starts)
        else:
            at = np.maximum.reduceat(np.where(has, places, -1), starts)
        out[:] = cells[np.clip(at, 0, n - 1)]
    return None


def _mean(cells: Block, weights: Block | None, starts: Counts, totals: Block) -> Block:
    """Floor of sum(cells * weights) / total, a row at a time; `totals` are at least 1."""
    sums = _wide_sums(cells, weights, starts, int(totals.max()))
    if isinstance(sums, list):
        return np.array([s // t for s, t in zip(sums, totals.tolist(), strict=True)], dtype=np.uint64)
    return sums // totals


def _wide_sums(cells: Block, weights: Block | None, starts: Counts, most: int) -> Block | list[int]:
    """Exact sum(cells * weights) of each row: an array where 64 bits are sure to hold them, else Python ints.

    `most` is the largest total of a row's weights (its size, without weights).
    """
    if int(cells.max()) * most <= U64_MAX:
        return np.add.reduceat(cells if weights is None else cells * weights, starts)
    halves = [(cells & _LOW, 0), (cells >> _HALF, 32)]
    if weights is not None:
        by = [(weights & _LOW, 0), (weights >> _HALF, 32)]
        halves = [
            (part, shift + a + b)
            for x, a in halves
            for y, b in by
            for part, shift in (((x * y) & _LOW, 0), ((x * y) >> _HALF, 32))
        ]
    sums = [(np.add.reduceat(part, starts).tolist(), shift) for part, shift in halves]
    return [sum(part[row] << shift for part, shift in sums) for row in range(len(starts))]
