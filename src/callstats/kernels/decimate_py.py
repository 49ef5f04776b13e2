"""Reduce samples to rows, one value a metric and row. The specification of `decimate_cy`."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from callstats._columns import EMPTY, freeze
from callstats._types import U64_MAX, AnyArray, Block, Bytes, Counts, Times
from callstats.rule import REDUCERS, Reducer

_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)


class _Rows(NamedTuple):
    """The rows of the result. Row r has samples ``starts[r]`` to ``starts[r] + sizes[r]``: ``weights[r]`` raw samples."""

    starts: Counts
    sizes: Counts
    weights: Block


def decimate_columns(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    offsets: Counts | None,
    max_samples: int,
    zero: bool,
    plan: Counts,
) -> tuple[Times, Block, Bytes | None, Counts | None, Counts | None, tuple[int, int] | None]:
    """Reduce each series of a batch to at most max_samples rows.

    Series i has the samples offsets[i] to offsets[i + 1]. Without offsets there is one series, and none are returned. Column j of
    the result is metric plan[0, j] (-1: a new one). Metric plan[1, j] (-1: none) fills in its absent values, but not in a row of
    one sample. plan[2, j] is the number of the reducer. Where plan[3, j] is 0, only series that have any value of the metric get
    the column. `zero`: count absent values as 0.

    Return times, values, present (None: all), counts (None: all one), all read-only; offsets, and the (row, column) of the first
    sum above 2**64 - 1 (None: there is none).

    The caller guarantees non-decreasing times, max_samples >= 1, and 0 wherever a value is absent.
    """
    one = offsets is None
    offsets = np.array([0, len(times)], dtype=np.int64) if offsets is None else offsets
    starts, row_offsets = _edges(times, offsets, max_samples)
    n, r, k = len(times), len(starts), plan.shape[1]
    if r == 0:
        values = freeze(np.zeros((k, r), dtype=np.uint64))
        return EMPTY.times, values, None, None, None if one else row_offsets, None
    out_values, out_present, totals, faults = reduce_rows(values, present, counts, starts, zero, plan)
    for j, (own, _, _, requested) in enumerate(plan.T.tolist()):
        if not requested:
            out_present[j] &= _in_series(present, own, offsets, row_offsets)
            out_values[j, ~out_present[j]] = 0

    base = times[starts]
    since = (times - np.repeat(base, np.diff(starts, append=n))).view(np.uint64)
    weights = None if counts is None else counts.astype(np.uint64)
    out_times = (base.view(np.uint64) + _mean(since, weights, starts, totals.astype(np.uint64))).view(np.int64)
    return (
        freeze(out_times),
        freeze(out_values),
        None if out_present.all() else freeze(out_present).view(np.uint8),
        None if (totals == 1).all() else freeze(totals),
        None if one else row_offsets,
        min(faults, default=None),
    )


def reduce_rows(
    values: Block, present: Bytes | None, counts: Counts | None, starts: Counts, zero: bool, plan: Counts
) -> tuple[Block, AnyArray, Counts, list[tuple[int, int]]]:
    """Reduce the samples from each start to the next by a plan, as if each of its columns were requested.

    Return values, which of them are present, the raw samples of each row, and the first (row, column) of each column whose sum is
    too large.
    """
    n, r, k = values.shape[1], len(starts), plan.shape[1]
    sizes = np.diff(starts, append=n)
    totals: Counts = sizes if counts is None else np.add.reduceat(counts, starts)
    rows = _Rows(starts, sizes, totals.astype(np.uint64))
    weights = None if counts is None else counts.astype(np.uint64)
    out_values = np.zeros((k, r), dtype=np.uint64)
    out_present = np.ones((k, r), dtype=np.bool_)
    faults = []
    for j, (own, other, reducer, _) in enumerate(plan.T.tolist()):
        mask, wrong = _column(values, present, weights, rows, own, other, REDUCERS[reducer], zero, out_values[j])
        if mask is not None:
            out_present[j] = mask
        if wrong is not None:
            faults.append((wrong, j))
    return out_values, out_present, totals, faults


def _edges(times: Times, offsets: Counts, max_samples: int) -> tuple[Counts, Counts]:
    """Return the first sample of each row, and the offsets of the rows."""
    parts = [np.zeros(0, dtype=np.int64)]
    row_offsets = np.zeros(len(offsets), dtype=np.int64)
    for i, (begin, end) in enumerate(pairwise(offsets.tolist())):
        parts.append(begin + first_samples(times[begin:end], max_samples))
        row_offsets[i + 1] = row_offsets[i] + len(parts[-1])
    return np.concatenate(parts), row_offsets


def first_samples(times: Times, max_samples: int) -> Counts:
    """Return the first sample of each row of one series."""
    if len(times) <= max_samples:
        return np.arange(len(times))
    first, span = int(times[0]), int(times[-1]) - int(times[0])
    window = max(span // max_samples, 1)
    # After the last inner edge comes one more bin, with the last sample.
    inner = np.arange(1, (span - 1) // window + 1, dtype=np.uint64) * np.uint64(window)
    ends = (inner + np.uint64(first % 2**64)).view(np.int64)
    starts = np.unique(np.searchsorted(times, ends, side="right"))
    return np.concatenate([np.zeros(1, dtype=np.int64), starts])[:max_samples]


def _column(
    values: Block,
    present: Bytes | None,
    weights: Block | None,
    rows: _Rows,
    own: int,
    other: int,
    reducer: Reducer,
    zero: bool,
    out: Block,
) -> tuple[AnyArray | None, int | None]:
    """Reduce one metric into `out`. Return the rows that have it (None: all), and the first row whose sum is too large."""
    cells, valid = values[own if own >= 0 else other], None
    if present is not None:
        valid = present[own if own >= 0 else other].astype(np.bool_)
        if own >= 0 and other >= 0:
            cells = np.where(valid, cells, values[other])
            valid = valid | present[other].astype(np.bool_)
    wrong = _reduce(cells, None if zero else valid, weights, rows, reducer, out)
    mask = None if valid is None else np.logical_or.reduceat(valid, rows.starts)
    if own < 0 or other >= 0:
        single = rows.sizes == 1
        at = rows.starts[single]
        out[single] = values[own, at] if own >= 0 else 0
        mask = np.ones(len(out), dtype=np.bool_) if mask is None else mask
        mask[single] = own >= 0 and (True if present is None else present[own, at])
    if mask is not None:
        out[~mask] = 0
    return mask, wrong


def _in_series(present: Bytes | None, own: int, offsets: Counts, row_offsets: Counts) -> AnyArray | bool:
    """Return the rows of the series that have any value of the metric."""
    if present is None:
        return True
    seen = np.concatenate([[0], np.cumsum(present[own])])
    return np.repeat(seen[offsets[1:]] > seen[offsets[:-1]], np.diff(row_offsets))


def _reduce(cells: Block, valid: AnyArray | None, weights: Block | None, rows: _Rows, reducer: Reducer, out: Block) -> int | None:
    """Reduce each row over its valid samples (None: all). Return the first row whose sum is too large."""
    starts, sizes = rows.starts, rows.sizes
    if reducer == "mean":
        if valid is None:
            out[:] = _mean(cells, weights, starts, rows.weights)
        else:
            each = valid.astype(np.uint64) if weights is None else weights * valid
            out[:] = _mean(cells, weights, starts, np.maximum(np.add.reduceat(each, starts), np.uint64(1)))
    elif reducer == "min":
        out[:] = np.minimum.reduceat(cells if valid is None else np.where(valid, cells, np.uint64(U64_MAX)), starts)
    elif reducer == "max":
        out[:] = np.maximum.reduceat(cells, starts)
    elif reducer == "sum":
        sums = wide_sums(cells, None, starts, int(sizes.max()))
        if isinstance(sums, list):
            large = [row for row, total in enumerate(sums) if total > U64_MAX]
            out[:] = [total & U64_MAX for total in sums]
            return large[0] if large else None
        out[:] = sums
    elif valid is None:
        out[:] = cells[starts if reducer == "first" else starts + sizes - 1]
    else:
        n = len(cells)
        indexes = np.arange(n)
        if reducer == "first":
            at = np.minimum.reduceat(np.where(valid, indexes, n), starts)
        else:
            at = np.maximum.reduceat(np.where(valid, indexes, -1), starts)
        out[:] = cells[np.clip(at, 0, n - 1)]
    return None


def _mean(cells: Block, weights: Block | None, starts: Counts, totals: Block) -> Block:
    """Return the floor of sum(cells * weights) / total for each row. Totals are at least 1."""
    sums = wide_sums(cells, weights, starts, int(totals.max()))
    if isinstance(sums, list):
        return np.array([s // t for s, t in zip(sums, totals.tolist(), strict=True)], dtype=np.uint64)
    return sums // totals


def wide_sums(cells: Block, weights: Block | None, starts: Counts, max_total: int) -> Block | list[int]:
    """Return the exact sum(cells * weights) of each row: an array if the sums fit into 64 bits for sure, else Python ints.

    `max_total` is the max total of a row's weights, or without weights the max size of a row.
    """
    if int(cells.max(initial=0)) * max_total <= U64_MAX:
        return np.add.reduceat(cells if weights is None else cells * weights, starts)
    return exact_sums(cells, weights, starts)


def exact_sums(a: Block, b: Block | None, starts: Counts) -> list[int]:
    """Return the exact sum(a * b) from each start to the next (b None: all one), by 32-bit halves."""
    halves = [(a & _LOW, 0), (a >> _HALF, 32)]
    if b is not None:
        by = [(b & _LOW, 0), (b >> _HALF, 32)]
        products = [(x * y, shift + more) for x, shift in halves for y, more in by]
        halves = [part for xy, shift in products for part in ((xy & _LOW, shift), (xy >> _HALF, shift + 32))]
    sums = [(np.add.reduceat(part, starts).tolist(), shift) for part, shift in halves]
    return [sum(part[row] << shift for part, shift in sums) for row in range(len(starts))]
