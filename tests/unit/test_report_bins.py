"""The bins of a name's distributions in the report."""

from __future__ import annotations

import math

import numpy as np
import pytest

from callstats.plot.html.bins import MAX_BINS, duration_bins, memory_bins
from support.reports import MIB
from support.zoo import SECOND


@pytest.mark.parametrize("most", [0, 1, 23, 24, 25, 47, 48, 1000, 2**20 - 1, 2**20, 2**63, 2**64 - 1])
def test_memory_bins(most: int) -> None:
    """All calls are counted, in at most 24 bins, each a power of two wide."""
    bins = memory_bins(np.array([0, most // 2, most], dtype=np.uint64))
    assert bins.counts.sum() == bins.counts[0].sum() == 3
    assert bins.counts[0, -1] or not most
    assert bins.counts.shape[1] == len(bins.edges) - 1 <= MAX_BINS
    assert math.frexp(bins.width)[0] == 0.5


def test_memory_bins_reach_the_limit() -> None:
    """The axis goes on to a limit beyond all calls."""
    bins = memory_bins(np.array([MIB], dtype=np.uint64), 64 * MIB)
    assert (bins.counts.shape[1], bins.width, bins.edges[:2]) == (16, 4 * MIB, ("0 B", "4 MiB"))


def test_a_peak_at_the_limit_is_not_beyond_it() -> None:
    """A bin holds its upper edge, and the first also what needs nothing."""
    bins = memory_bins(np.array([0, 1, 4 * MIB, 4 * MIB + 1, 64 * MIB], dtype=np.uint64))
    assert (bins.counts[0, :2].tolist(), bins.counts[0, -1], bins.edges[-1]) == ([3, 1], 1, "64 MiB")


def test_bins_tell_outcomes_apart() -> None:
    """Calls that failed and that were killed are counted apart, in the same bins."""
    outcomes = np.array([0, 1, 2, 2], dtype=np.int8)
    sizes = memory_bins(np.array([MIB, MIB, MIB, 3 * MIB], dtype=np.uint64), 0, outcomes)
    assert sizes.counts.sum(axis=1).tolist() == [1, 1, 2]
    assert sizes.counts[:, 3].tolist() == [1, 1, 1]
    for longest in (2, 20):  # seconds: bins of equal width, and octaves
        spans = duration_bins(np.array([SECOND, SECOND, SECOND, longest * SECOND]), outcomes)
        assert spans.counts.sum(axis=1).tolist() == [1, 1, 2]
        assert (spans.counts[:, 0].tolist(), spans.counts[:, 1:].sum()) == ([1, 1, 1], 1)


def test_octaves_of_durations() -> None:
    """Over many octaves, a bin ends at twice its start, and the first has all that is below two milliseconds."""
    bins = duration_bins(np.array([0, 10**6, SECOND, 2 * SECOND - 1, 2 * SECOND, 2**63 - 1]))
    assert bins.counts.sum() == 6
    assert (bins.counts[0, 0], bins.edges[:3]) == (2, ("0 s", "0.00195 s", "0.00391 s"))
    assert bins.counts[0, bins.edges.index("1 s")] == 2
    assert bins.counts[0, bins.edges.index("2 s")] == 1
    assert duration_bins(np.zeros(0, dtype=np.int64)).counts.size == 0
    wide = duration_bins(np.array([SECOND // 10, 3 * 3600 * SECOND]))
    assert (wide.counts.shape[1], wide.edges[:3], wide.edges[-1]) == (18, ("0.0625 s", "0.125 s", "0.25 s"), "4 h 33 min")


@pytest.mark.parametrize(
    ("most", "edges", "n"),
    [
        (4, ("1 s", "1.12 s", "1.25 s"), 24),
        (31, ("1 s", "1.25 s", "1.5 s"), 20),
        (4000, ("1 s", "1.5 s", "2 s"), 24),
        (5000, ("1 s", "2 s", "4 s"), 13),
    ],
)
def test_parts_of_octaves(most: int, edges: tuple[str, ...], n: int) -> None:
    """Fewer octaves are divided, so that there are more than ten bins; an edge belongs to the bin that it begins."""
    parts = np.array([SECOND, 1_125_000_000 - 1, 1_125_000_000, 3 * SECOND - 1, 3 * SECOND, most * SECOND])
    bins = duration_bins(parts)
    assert (bins.edges[:3], bins.counts.shape[1], bins.counts.sum(), bins.width) == (edges, n, 6, 0)
    assert bins.counts[0, 0] == (2 if edges[1] == "1.12 s" else 3)
    if "3 s" in bins.edges:
        at = bins.edges.index("3 s")
        assert (bins.counts[0, :at].sum(), bins.counts[0, at]) == (4, 1)


@pytest.mark.parametrize(
    ("low", "high", "width", "first", "last"),
    [
        (80_000_000, 97_000_000, 10**6, "0.080 s", "0.098 s"),
        (SECOND, 2 * SECOND, 5 * 10**7, "1.00 s", "2.05 s"),
        (0, 10**5, 5000, "0.000000 s", "0.000105 s"),
        (0, 4 * 10**6 - 1, 2 * 10**5, "0.0000 s", "0.0040 s"),
        (50 * SECOND, 80 * SECOND, 2 * SECOND, "50 s", "1 min 22 s"),
        (65 * SECOND, 65 * SECOND + 10**7, 5 * 10**5, "1 min 05.0000 s", "1 min 05.0105 s"),
        (20 * 60 * SECOND, 40 * 60 * SECOND, 60 * SECOND, "20 min 00 s", "41 min 00 s"),
        (7200 * SECOND, 7230 * SECOND, 2 * SECOND, "2 h 00 min 00 s", "2 h 00 min 32 s"),
        (3600 * SECOND, 10_000 * SECOND, 300 * SECOND, "1 h 00 min", "2 h 50 min"),
        (2**62, 2**63 - 1, 10**5 * 3600 * SECOND, "1200000 h 00 min", "2600000 h 00 min"),
    ],
)
def test_similar_durations(low: int, high: int, width: int, first: str, last: str) -> None:
    """They have 10 to 24 bins of a readable width, whose edges read apart, and no empty bins outside."""
    middle = low - low % width + 5 * width
    bins = duration_bins(np.array([low, middle - 1, middle, high]))
    assert (bins.width, bins.edges[0], bins.edges[-1]) == (width, first, last)
    assert 10 <= bins.counts.shape[1] == len(bins.edges) - 1 <= MAX_BINS
    assert len(set(bins.edges)) == len(bins.edges)
    found = bins.counts[0]
    assert (found[0], found[4], found[5], found[-1], found.sum()) == (1, 1, 1, 1, 4)


@pytest.mark.parametrize("step", [*range(0, 40, 3), *range(40, 4000, 97)])
def test_any_difference_shows(step: int) -> None:
    """Whatever the shortest and the longest, there are 10 to 24 bins, and calls that differ are apart."""
    for low in (10**6, 80_000_000, 2_210_000_000, 59 * SECOND, 3_599 * SECOND):
        high = low + low * step // 1000
        bins = duration_bins(np.array([low, high]))
        assert 10 <= bins.counts.shape[1] <= MAX_BINS
        assert (bins.counts.sum(), np.count_nonzero(bins.counts)) == (2, 2 if step else 1)


@pytest.mark.parametrize(
    ("ns", "label"),
    [
        (2_210_000_000, "2.20 s to 2.25 s"),
        (0, "0.00000 s to 0.00001 s"),
        (90 * SECOND, "1 min 30 s to 1 min 31 s"),
        (2**63 - 1, "2550000 h 00 min to 2600000 h 00 min"),
    ],
)
def test_equal_durations(ns: int, label: str) -> None:
    """A single call, or equal ones, have one bar of at most a fortieth of the duration, between empty bins."""
    for durations in ([ns], [ns] * 30, [ns, ns - 1 if ns % 2 else ns + 1]):
        bins = duration_bins(np.array(durations))
        [at] = np.flatnonzero(bins.counts[0])
        assert f"{bins.edges[at]} to {bins.edges[at + 1]}" == label
        assert bins.counts[0, at] == len(durations)
        assert 10 <= bins.counts.shape[1] <= MAX_BINS
        assert (at >= 4 or not ns) and bins.counts.shape[1] - at > 4
