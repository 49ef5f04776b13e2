"""Stored text to reduced text, and the number of rows that fits a budget. The specification of `json_reduce_cy`.

Only the compiled backend reduces text at once: see `json_py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from callstats._types import Block, Bytes, Counts, Times
from callstats.kernels._budget import Search

PlanForColumns: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]

UNCHANGED, REWRITTEN, UNREAD, NO_RESULT = range(4)
"""The status of a blob. UNREAD: the fallback decoder decides. NO_RESULT: a sum is too large, or no text fits."""


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
) -> tuple[list[bytes | None], Bytes]:
    """Reduce a list of blobs as `reduce_packed` does. Return a list, with None where a blob has no result, and the statuses."""
    return [None] * len(blobs), np.full(len(blobs), UNREAD, dtype=np.uint8)


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

    Return 0 when none fits, and -k where a sum is too large at k. `plan`, `keys` and `key_ends` are those of `reduce_packed`.
    `with_counts`: the text has counts.
    """
    search = Search(times, values, present, counts, plan, key_ends, max_bytes, zero, with_counts)
    return search.fit(min(max_samples, len(times)))
