"""The largest number of rows whose text fits a budget. The specification of `_budget.pxd`.

Sizes are not monotone in the number of rows, so the search must rule out every number above its result. Lower bounds rule out
whole ranges of them. The rest are measured.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property

import numpy as np

from callstats._parallel import raise_if_stopped
from callstats._types import U64_MAX, AnyArray, Block, Bytes, Counts, Times
from callstats.kernels.decimate_py import first_samples, reduce_rows
from callstats.rule import REDUCERS

BARE_ROW = len('{"timestamp":"2006-01-02T15:04:05.000Z","metrics":{}},')

_SUM = REDUCERS.index("sum")
_MAX_SPAN = 2**62
"""Series of a longer span, some 146 years, are measured at every number of rows: sums of times would not fit int64."""
_TENS = np.array([10**power for power in range(1, 20)], dtype=np.uint64)


def digits_of(values: Block) -> Counts:
    return np.searchsorted(_TENS, values, side="right") + 1


class Search:
    """The sizes of the text of a series, reduced to different numbers of rows."""

    def __init__(
        self,
        times: Times,
        values: Block,
        present: Bytes | None,
        counts: Counts | None,
        plan: Counts,
        key_ends: Counts,
        max_bytes: int,
        zero: bool,
        with_counts: bool,
    ) -> None:
        self.times, self.values, self.present, self.counts = times, values, present, counts
        self.plan, self.keys = plan, np.diff(key_ends, prepend=0)
        self.max_bytes, self.zero, self.with_counts = max_bytes, zero, with_counts
        self.n = len(times)
        self.span = int(times[-1]) - int(times[0])
        self._times: list[int] = times.tolist()
        self._by_samples: dict[int, list[int]] = {}

    def fit(self, max_rows: int) -> int:
        """Return the largest number of rows, from max_rows down, whose text fits.

        Return 0 when none fits. Return -k when a sum is too large at k, before any fits.
        """
        if max_rows == self.n:  # each sample is a row, so there are no windows
            size = self.max_bytes + 1 if self.is_too_many(self.n, self.n) else self.measure(self.n)
            if size <= self.max_bytes:
                return -max_rows if size < 0 else max_rows
            max_rows -= 1
        return self._fit_between(1, max_rows) if max_rows else 0

    def _fit_between(self, low: int, high: int, *, low_size: int = 0, high_size: int = 0) -> int:
        """Return the largest number of rows from low to high whose text fits; 0, or -k, as `fit` does.

        The sizes are those at low and high; 0 where they were not measured yet.
        """
        if self.is_too_many(low, high):
            return 0
        if (high - low) * high <= 4 * self.n:  # to measure all of them costs no more
            for k in range(high, low - 1, -1):
                size = self.measure(k)
                if size <= self.max_bytes:
                    return -k if size < 0 else k
            return 0
        if (high - low) * 2 * self.n <= high * high:  # rows differ by about one sample, so there are not too many paths
            high_size = high_size or self.measure(high)
            if high_size <= self.max_bytes:
                return -high if high_size < 0 else high
            low_size = low_size or self.measure(low)
            # Where the lowest number fits, so may others.
            if low_size > self.max_bytes and self.is_excluded(low, high, (high_size - low_size) / (high - low)):
                return 0
        middle = low + (high - low) // 2
        return self._fit_between(middle + 1, high, high_size=high_size) or self._fit_between(low, middle, low_size=low_size)

    def measure(self, k: int) -> int:
        """Return the size of the text of k rows; -1 where a sum is too large."""
        raise_if_stopped()
        sizes = self._row_sizes(0, self.n, first_samples(self.times, k))
        return -1 if (sizes < 0).any() else 2 + int(sizes.sum())

    def is_too_many(self, low: int, high: int) -> bool:
        """Return whether no number of rows from low to high fits, by what each row has at least.

        The widest windows, each begun at a sample whose row must be counted, are the fewest that can hold all such samples.
        """
        if self.may_overflow or self.span >= _MAX_SPAN:
            return False
        wide, narrow = self.span // low + high, self.span // high
        rows = _min_windows(self._times, wide)
        size = 2 + rows * (BARE_ROW - 1)  # the first metric has no comma
        if size + rows * sum(size for size, _, _ in self._metrics) <= self.max_bytes:
            return False
        crowded = np.zeros(self.n, dtype=np.bool_)  # samples whose neighbours are near, so that they are in no row alone
        crowded[1:-1] = self.times[2:] - self.times[:-2] <= narrow
        for min_size, mask, is_new in self._metrics:
            if mask is None:
                size += rows * min_size
            elif not is_new or high < self.n:  # in n rows each sample is alone, and lacks the new metrics
                size += min_size * _min_windows(self.times[mask & crowded if is_new else mask].tolist(), wide)
        return size > self.max_bytes

    def is_excluded(self, low: int, high: int, price: float) -> bool:
        """Return whether a lower bound shows that no number of rows from low to high fits.

        Each of these reductions is a path through rows from the first sample to the last. A window that holds a row spans its
        samples, but not those beside it too. So the shortest path through all such rows is a lower bound. A row costs its size
        less a price, which is added for as many rows as there are at least. The price is what one row more costs. It keeps paths
        of fewer rows from being shorter.
        """
        n, wide, narrow = self.n, self.span // low + high, self.span // high
        if narrow == 0 or self.span >= _MAX_SPAN:
            return False  # windows have a min width, and sums of times must fit
        since = self.times - self.times[0]
        gaps = np.diff(since)
        rows = low - int((gaps[gaps > narrow] // narrow).sum())  # so many windows may be empty
        first_ends = np.maximum(np.searchsorted(since, np.r_[since[:1], since[:-1]] + narrow, side="right"), np.arange(1, n + 1))
        last_ends = np.searchsorted(since, since + wide, side="right")
        if np.maximum(last_ends - first_ends + 1, 0).sum() > 16 * n:
            return False
        price = max(price, 0.0)  # of fewer rows than the paths have, a negative price would be too much
        best: list[float] = [0.0, *[np.inf] * n]
        for begin, (first, last) in enumerate(zip(first_ends.tolist(), last_ends.tolist(), strict=True)):
            before = best[begin] - price
            if before == np.inf:
                continue
            for end in range(first, last + 1):
                row = self._row_size(begin, end)
                if row < 0:
                    return False
                best[end] = min(best[end], before + row)
        return bool(best[n] < np.inf and 2 + best[n] + price * max(rows, 0) > self.max_bytes)

    @cached_property
    def may_overflow(self) -> bool:
        """Whether a sum may be too large."""
        sums = self.values[self.plan[0, self.plan[2] == _SUM]]
        return any(sum(row) > U64_MAX for row in sums.tolist())

    @cached_property
    def _metrics(self) -> list[tuple[int, AnyArray | None, bool]]:
        """For each metric of the result: the min size of key and value, which samples have it (None: all), if it is new."""
        found = []
        for (own, other, _, _), key in zip(self.plan.T.tolist(), self.keys.tolist(), strict=True):
            source = own if own >= 0 else other
            mask = None if self.present is None or self.present[source].all() else self.present[source].astype(np.bool_)
            if own < 0 and mask is None:
                mask = np.ones(self.n, dtype=np.bool_)
            # No reducer gives less than the min, and absent cells are 0.
            found.append((key + int(digits_of(self.values[source].min())), mask, own < 0))
        return found

    def _row_size(self, begin: int, end: int) -> int:
        """Return the size of the row of the samples from begin to end; -1 where a sum is too large."""
        samples = end - begin
        sizes = self._by_samples.get(samples)
        if sizes is None:
            every = np.zeros(self.n, dtype=np.int64)
            for phase in range(min(samples, self.n - samples + 1)):
                starts = np.arange(phase, self.n - samples + 1, samples)
                every[starts] = self._row_sizes(phase, int(starts[-1]) + samples, starts - phase)
            sizes = self._by_samples[samples] = every.tolist()
        return sizes[begin]

    def _row_sizes(self, begin: int, end: int, starts: Counts) -> Counts:
        """Return the size of each row of the samples from begin to end, with the comma after it; -1 where a sum is too large."""
        values = self.values[:, begin:end]
        present = None if self.present is None else self.present[:, begin:end]
        counts = None if self.counts is None else self.counts[begin:end]
        cells, mask, totals, faults = reduce_rows(values, present, counts, starts, self.zero, self.plan)
        sizes: Counts = np.full(len(starts), BARE_ROW)
        sizes += ((self.keys[:, np.newaxis] + digits_of(cells)) * mask).sum(axis=0) - mask.any(axis=0)
        if self.with_counts:
            sizes += np.where(totals > 1, 9 + digits_of(totals.astype(np.uint64)), 0)
        sizes[[row for row, _ in faults]] = -1  # the first is enough
        return sizes


def _min_windows(times: list[int], wide: int) -> int:
    """Return how many windows can hold all these times: the fewest, each begun at one of them."""
    i = windows = 0
    while i < len(times):
        windows += 1
        i = bisect_right(times, times[i] + wide, i)
    return windows
