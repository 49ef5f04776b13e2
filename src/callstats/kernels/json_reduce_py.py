"""Stored text to reduced text, and the number of rows that fits a budget. The specification of `json_reduce_cy`.

Only the compiled backend reduces text at once: see `json_py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from callstats._types import Block, Bytes, Counts, Times
from callstats.kernels.decimate_py import decimate_columns, first_samples

PlanForColumns: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]

UNCHANGED, REWRITTEN, UNREAD = range(3)
"""The status of a blob. UNREAD: the fallback decoder decides."""

BARE_ROW = len('{"timestamp":"2006-01-02T15:04:05.000Z","metrics":{}},')


def reduce_packed(
    data: Bytes,
    offsets: Counts,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    counts: bool,
    plan_for: PlanForColumns,
) -> tuple[bytes, Counts, Bytes]:
    """Reduce the blobs data[offsets[i]:offsets[i + 1]].

    Return empty texts, and status 2 for each: the fallback decoder decides.
    """
    return b"", np.zeros(len(offsets), dtype=np.int64), np.full(len(offsets) - 1, UNREAD, dtype=np.uint8)


def reduce_blobs(
    blobs: list[bytes],
    max_samples: int,
    max_bytes: int,
    zero: bool,
    counts: bool,
    plan_for: PlanForColumns,
) -> list[bytes | None]:
    """Reduce a list of blobs as `reduce_packed` does. Return a list with None where the fallback decoder decides."""
    return [None] * len(blobs)


def fit_rows(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    with_counts: bool,
    plan: Counts,
    keys: bytes,
    key_ends: Counts,
) -> int:
    """Find the largest k from max_samples >= 1 down for which the text of the series, reduced to k rows, fits max_bytes.

    Return k. Return 0 when none fits, and -k when a sum is too large at k. `plan`, `keys` and `key_ends` are those of
    `reduce_packed`. `with_counts`: the text has counts.
    """
    max_rows, row_size = min(max_samples, len(times)), _min_row_size(present, plan, key_ends)
    # Narrower bins make at least half as many rows: each of them meets at most two of the wide ones. So where half the rows for k
    # are too many, every number above k is out.
    k = 1
    while k < max_rows:
        if (len(first_samples(times, k)) + 1) // 2 * row_size + 2 > max_bytes:
            max_rows = k
        k *= 2
    rejected: bytes | None = None
    for k in range(max_rows, 0, -1):
        rows = first_samples(times, k)
        if len(rows) * row_size + 2 > max_bytes or rows.tobytes() == rejected:
            continue
        rejected = rows.tobytes()
        _, out_values, out_present, out_counts, _, fault = decimate_columns(times, values, present, counts, None, k, zero, plan)
        if fault is not None:
            return -k
        if _size(out_values, out_present, out_counts if with_counts else None, key_ends) <= max_bytes:
            return k
    return 0


def _min_row_size(present: Bytes | None, plan: Counts, key_ends: Counts) -> int:
    """Return the min size of a row's text: one digit for each metric that every sample has."""
    always = [own >= 0 and (present is None or bool(present[own].all())) for own in plan[0].tolist()]
    sizes = [size + 1 for size, every in zip(np.diff(key_ends, prepend=0).tolist(), always, strict=True) if every]
    return int(BARE_ROW + sum(sizes) - bool(sizes))


def _size(values: Block, present: Bytes | None, counts: Counts | None, key_ends: Counts) -> int:
    """Return the size of `encode_columns`'s text with 3 digits of a second, without encoding it."""
    n = values.shape[1]
    # A comma or bracket follows each row, a bracket precedes all, and a newline ends the text.
    size: int = n * BARE_ROW + 2
    sizes = np.diff(key_ends, prepend=0)
    if present is None:
        size += n * int(sizes.sum()) + int(_digits(values).sum()) - (n if len(sizes) else 0)
    else:
        mask = present.astype(np.bool_)
        size += int((mask.sum(axis=1) * sizes).sum()) + int(_digits(values)[mask].sum()) - int(mask.any(axis=0).sum())
    if counts is not None:
        grouped = counts[counts > 1]
        size += 9 * len(grouped) + int(_digits(grouped.astype(np.uint64)).sum())
    return size


_TENS = np.array([10**power for power in range(1, 20)], dtype=np.uint64)


def _digits(values: Block) -> Counts:
    return np.searchsorted(_TENS, values, side="right") + 1
