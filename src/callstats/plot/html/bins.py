"""Distributions over calls: a few bins with edges that people can read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from callstats._types import AnyArray, Counts
from callstats._units import duration_text, memory_text

MOST_BINS = 24
_SHORTEST_NS = 10**6


class Bins(NamedTuple):
    """How many calls lie in each bin; places along the axis are counted in bins."""

    counts: Counts
    edges: tuple[str, ...]
    """Where each bin begins, and where the last ends."""
    width: float
    """Of a bin, where all are equally wide."""


def memory_bins(sizes: AnyArray, reach: int = 0) -> Bins:
    """Bins of equal width, a power of two of bytes, from 0 to the largest size and `reach` or beyond.

    A bin holds its upper edge: what needs just a limit is not beyond it.
    """
    most = max(int(sizes.max()) if len(sizes) else 0, reach, 1)
    width = 1 << (most // MOST_BINS).bit_length()
    n = -(-most // width)
    counts = np.bincount(((np.maximum(sizes, 1) - np.uint64(1)) // np.uint64(width)).astype(np.int64), minlength=n)
    return Bins(counts, tuple(memory_text(width * place) for place in range(n + 1)), float(width))


def duration_bins(lengths: AnyArray) -> Bins:
    """Each bin goes to twice the length at which it begins; shorter than a millisecond is the first."""
    if not len(lengths):
        return Bins(np.zeros(0, dtype=np.int64), (), 0.0)
    octaves = np.frexp(np.maximum(lengths, _SHORTEST_NS) / 1e9)[1] - 1
    first = int(octaves.min())
    counts = np.bincount(octaves - first)
    edges = tuple(duration_text(round(10**9 * 2.0 ** (first + place))) for place in range(len(counts) + 1))
    return Bins(counts, edges, 0.0)
