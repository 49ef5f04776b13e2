"""Batch: many stored histograms to columns at once. The specification of `json_batch_cy`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from callstats._types import Block, Bytes, Counts, Times
from callstats.kernels.json_py import read_text


def read_buffer(data: Bytes, offsets: Counts) -> tuple[list[bytes], Times, Block, Bytes | None, Counts | None, Counts, Bytes]:
    """The columns of the stored histograms data[offsets[i]:offsets[i + 1]] as one batch.

    Gives the names, sorted; times, values, present (None: all), counts (None: all one) and the offsets of each series in them;
    and of each whether it was read: one whose text has not the written shape has no rows, and the general route is to tell.
    """
    texts = [read_text(data[begin:end].tobytes()) for begin, end in pairwise(offsets.tolist())]
    was_read = np.array([text is not None for text in texts], dtype=np.uint8)
    found = [(i, text) for i, text in enumerate(texts) if text is not None and len(text[1])]
    sizes = np.zeros(len(texts), dtype=np.int64)
    for i, text in found:
        sizes[i] = len(text[1])
    ends = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(sizes, out=ends[1:])
    n = int(ends[-1])
    names = sorted({name for _, text in found for name in text[0]})
    places = {name: place for place, name in enumerate(names)}
    times = np.empty(n, dtype=np.int64)
    values = np.zeros((len(names), n), dtype=np.uint64)
    full = all(text[3] is None and len(text[0]) == len(names) for _, text in found)
    present = None if full else np.zeros((len(names), n), dtype=np.uint8)
    counts = np.ones(n, dtype=np.int64) if any(text[4] is not None for _, text in found) else None
    for i, (own, own_times, own_values, own_present, own_counts) in found:
        rows = slice(ends[i], ends[i + 1])
        at = [places[name] for name in own]
        times[rows] = own_times
        values[at, rows] = own_values
        if present is not None:
            present[at, rows] = 1 if own_present is None else own_present
        if counts is not None and own_counts is not None:
            counts[rows] = own_counts
    return names, times, values, present, counts, ends, was_read
