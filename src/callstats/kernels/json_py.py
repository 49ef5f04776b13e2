"""Stored text to columns, of one blob or of many, and columns to text. The specification of `json_cy`.

Only the compiled backend has a fast path for decoding. To leave every blob to the fallback decoder is always right, and costs
this backend about a fifth of its speed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from callstats._timestamps import format_times
from callstats._types import Block, Bytes, Counts, Times


def decode_blob(blob: bytes) -> tuple[tuple[bytes, ...], Times, Block, Bytes | None, Counts | None] | None:
    """Decode a blob: names, times, values, present (None: all), counts (None: all one).

    Return None: the fallback decoder decides.
    """
    return None


def decode_packed(data: Bytes, offsets: Counts) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None, Counts, Bytes]:
    """Decode the blobs data[offsets[i]:offsets[i + 1]] to one batch.

    Return a batch of empty series, none of which was decoded: the fallback decoder decides.
    """
    none = np.zeros(0, dtype=np.int64)
    ends, decoded = np.zeros(len(offsets), dtype=np.int64), np.zeros(len(offsets) - 1, dtype=np.uint8)
    return [], none, np.zeros((0, 0), dtype=np.uint64), None, None, ends, decoded


def decode_blobs(
    texts: list[bytes | None],
) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None, Counts, Bytes]:
    """Decode a list of bytes, or of None for what only the fallback decoder can decode, as `decode_packed` does."""
    return decode_packed(np.zeros(0, dtype=np.uint8), np.zeros(len(texts) + 1, dtype=np.int64))


def encode_columns(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    offsets: Counts | None,
    keys: bytes,
    key_ends: Counts,
    digits: int,
) -> list[bytes]:
    """Return the stored text of each series.

    Series i has the rows offsets[i] to offsets[i + 1]. Without offsets there is one series. `keys` and `key_ends` are those of
    `reduce_packed`; `digits` of a second are 3 or 9.
    """
    if offsets is None:
        return [_encode(times, values, present, counts, keys, key_ends, digits)]
    return [
        _encode(
            times[begin:end],
            values[:, begin:end],
            None if present is None else present[:, begin:end],
            None if counts is None else counts[begin:end],
            keys,
            key_ends,
            digits,
        )
        for begin, end in pairwise(offsets.tolist())
    ]


def _encode(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    keys: bytes,
    key_ends: Counts,
    digits: int,
) -> bytes:
    """Return the stored text of one series."""
    if not len(times):
        return b""
    stamps = format_times(times, digits)
    ends = [0, *key_ends.tolist()]
    names = [keys[begin + 1 : end].decode() for begin, end in pairwise(ends)]
    cells = values.T.tolist()
    if present is None:
        template = ",".join(name.replace("%", "%%") + "%d" for name in names)
        bodies = [template % tuple(row) for row in cells]
    else:
        bodies = [
            ",".join([f"{name}{cell}" for name, cell, is_present in zip(names, row, mask, strict=True) if is_present])
            for row, mask in zip(cells, present.T.tolist(), strict=True)
        ]
    if counts is None:
        tails = ["}"] * len(stamps)
    else:
        tails = [f'}},"count":{count}' if count > 1 else "}" for count in counts.tolist()]
    rows = [
        f'{{"timestamp":"{stamp}","metrics":{{{body}{tail}}}' for stamp, body, tail in zip(stamps, bodies, tails, strict=True)
    ]
    return ("[" + ",".join(rows) + "]\n").encode()
