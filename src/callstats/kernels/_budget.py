"""The largest number of rows whose text fits a budget. The specification of `_budget.pxd`.

Sizes are not monotone in the number of rows, so the search must rule out every number above its result. A lower bound rules out
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
        self.measured = 0
        self.n = len(times)
        self.span = int(times[-1]) - int(times[0])
        self._since = times - times[0] if self.span < _MAX_SPAN else times
        self._times: list[int] = times.tolist()
        self._by_samples: dict[int, list[int]] = {}

    def fit(self, max_rows: int) -> int:
        """Return the largest number of rows, from max_rows down, whose text fits.

        Return 0 when none fits. Return -k when a sum is too large at k, before any fits.
        """
        n, high, low, low_too_large = self.n, max_rows, 0, False
        # Find some number that fits, near the largest: sizes rise nearly evenly.
        over, low_size, over_size = high + 1, 2, 2 + high * self.min_row
        for attempt in range(16):
            if over - low <= 1 or (over - low) * 512 < over:
                break
            between = 0.5 if attempt % 4 == 3 else (self.max_bytes - low_size) / (over_size - low_size)
            k = min(max(low + int((over - low) * between), low + 1), over - 1)
            size = self.measure(k)
            if size <= self.max_bytes:
                low, low_too_large, low_size = k, size < 0, size if size > 0 else self.max_bytes
            else:
                over, over_size = k, size
        # Rule out the numbers above it, a range at a time from the top. Near the result a bound must be closer, so ranges are
        # shorter.
        step, high_size = high, 0
        while (high - low) * high > 4 * n:
            k = low + (high - low) // 2 + 1
            if self.is_too_many(k, high):
                high, high_size = k - 1, 0
                continue
            if high_size == 0:
                high_size = self.measure(high)
                if high_size <= self.max_bytes:
                    return -high if high_size < 0 else high
                if high == n:  # each sample is a row, so there are no windows
                    high, high_size = high - 1, 0
                    continue
            # In a range, rows may differ by about one sample.
            step = min(step, high - k + 1, 1 + high * high // n)
            k = high - step + 1
            if step * high > 4 * n:
                size = self.measure(k)
                if size <= self.max_bytes:
                    low, low_too_large = k, size < 0
                elif self.is_excluded(k, high, (high_size - size) / max(high - k, 1)):
                    high, high_size, step = k - 1, size, step * 2
                else:
                    step = 1 + step // 4
                continue
            # To measure all of a short range costs no more.
            while high >= k:
                size = self.measure(high)
                if size <= self.max_bytes:
                    return -high if size < 0 else high
                high -= 1
            high_size, step = 0, step * 8
        while high > low:
            size = self.measure(high)
            if size <= self.max_bytes:
                return -high if size < 0 else high
            high -= 1
        return -low if low_too_large else low

    def measure(self, k: int) -> int:
        """Return the size of the text of k rows; -1 where a sum is too large."""
        raise_if_stopped()
        self.measured += 1
        sizes = self._row_sizes(0, self.n, first_samples(self.times, k))
        return -1 if (sizes < 0).any() else 2 + int(sizes.sum())

    def is_too_many(self, low: int, high: int) -> bool:
        """Return whether no number of rows from low to high fits, by what each row has at least.

        Windows of the widest size, each begun at a sample, are the fewest that can hold all samples. Narrower ones are no fewer.
        A row lacks a metric only if its window lies in a gap of the metric.
        """
        if self.may_overflow or self.span >= _MAX_SPAN:
            return False
        times, window, narrow = self._times, max(self.span // low, 1), self.span // high
        i = rows = 0
        while i < self.n and rows < low:
            rows += 1
            i = bisect_right(times, times[i] + window, i)
        size = 2 + rows * self.min_row
        if size > self.max_bytes or narrow == 0:
            return size > self.max_bytes
        size -= rows  # the first metric of a row has no comma
        for key, gaps, ends, new in self._optional:
            lacking = int((gaps // narrow).sum()) + ends
            if new:
                lacking += int(np.count_nonzero(self.times[2:] - self.times[:-2] > narrow)) + 2
            size += max(rows - lacking, 0) * (key + 1)
        return size > self.max_bytes

    def is_excluded(self, low: int, high: int, price: float) -> bool:
        """Return whether a lower bound shows that no number of rows from low to high fits.

        Each of these reductions is a path through rows from the first sample to the last. A window that holds a row spans its
        samples, but not those beside it too. So the shortest path through all such rows is a lower bound. A row costs its size
        less a price, which is added for as many rows as there are at least. The price is what one row more costs. It keeps paths
        of fewer rows from being shorter.
        """
        n, times = self.n, self._times
        wide, narrow = self.span // low, self.span // high
        if narrow == 0 or self.span >= _MAX_SPAN:
            return False  # windows have a min width
        since, price = self._since, max(price, 0.0)  # of fewer rows than the paths have, a negative price would be too much
        gaps = np.diff(since)
        rows = low - int((gaps[gaps > narrow] // narrow).sum())  # so many windows may be empty
        first_ends = np.maximum(np.searchsorted(since, np.r_[since[:1], since[:-1]] + narrow, side="right"), np.arange(1, n + 1))
        last_ends = np.minimum(np.searchsorted(since, since + wide, side="right"), n - 1)
        if np.maximum(last_ends - first_ends + 1, 0).sum() > 16 * n:
            return False
        best: list[float] = [0.0, *[np.inf] * n]
        total = np.inf
        for begin, (first, last) in enumerate(zip(first_ends.tolist(), last_ends.tolist(), strict=True)):
            before = best[begin] - price
            if before == np.inf:
                continue
            for end in range(first, last + 1):
                row = self._row_size(begin, end)
                if row < 0:
                    return False
                if before + row < best[end]:
                    best[end] = before + row
            if times[begin] - times[0] + wide + high >= self.span:
                # The last row takes all samples that are left, however many.
                if n - begin > 256:
                    return False
                row = self._row_size(begin, n)
                if row < 0:
                    return False
                total = min(total, before + row)
        return bool(total < np.inf and 1 + total + price * max(rows, 0) > self.max_bytes)

    @cached_property
    def may_overflow(self) -> bool:
        """Whether a sum may be too large."""
        sums = self.values[self.plan[0, self.plan[2] == _SUM]]
        return any(sum(row) > U64_MAX for row in sums.tolist())

    @cached_property
    def min_row(self) -> int:
        """The min size of a row: the metrics that every row has, each with the digits of its min."""
        always = [own for own, key in zip(self.plan[0].tolist(), self.keys, strict=True) if own >= 0 and self._is_full(own)]
        keys = [key for own, key in zip(self.plan[0].tolist(), self.keys.tolist(), strict=True) if own in always]
        return BARE_ROW + sum(keys) + int(digits_of(self.values[always].min(axis=1)).sum()) - bool(always) if always else BARE_ROW

    @cached_property
    def _optional(self) -> list[tuple[int, Counts, int, bool]]:
        """For each metric that rows may lack: its key, the times without it, how many of them have no end, and whether it is new.

        Single samples lack a new metric.
        """
        found = []
        for (own, other, _, requested), key in zip(self.plan.T.tolist(), self.keys.tolist(), strict=True):
            if own >= 0 and self._is_full(own):
                continue
            mask = (
                np.ones(self.n, np.bool_) if self.present is None else self.present[own if own >= 0 else other].astype(np.bool_)
            )
            if not requested and not mask.any():
                continue
            at = np.r_[-1, np.flatnonzero(mask), self.n]
            apart = np.diff(at) > 1
            stamps = self.times[np.clip(at, 0, self.n - 1)]
            found.append((key, np.diff(stamps)[apart], int(apart[0]) + int(apart[-1]), own < 0))
        return found

    def _is_full(self, own: int) -> bool:
        return self.present is None or bool(self.present[own].all())

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
        mask = mask & self._kept[:, np.newaxis]
        sizes += ((self.keys[:, np.newaxis] + digits_of(cells)) * mask).sum(axis=0) - mask.any(axis=0)
        if self.with_counts:
            sizes += np.where(totals > 1, 9 + digits_of(totals.astype(np.uint64)), 0)
        sizes[[row for row, _ in faults]] = -1  # the first is enough
        return sizes

    @cached_property
    def _kept(self) -> AnyArray:
        """Which metrics of the plan the result has: the others are not requested, and the series has none of them."""
        found = [
            requested or self.present is None or bool(self.present[own].any()) for own, _, _, requested in self.plan.T.tolist()
        ]
        return np.array(found, dtype=np.bool_)
