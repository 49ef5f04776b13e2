"""Samples of a recording, and rows that merge when there are too many. The specification of `recorder_cy`."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from operator import itemgetter
from threading import Lock

import numpy as np

from callstats._types import FIRST_TIME, I64_MAX, U64_MAX, Block, Bytes, Counts, Times

HAS_FIRST, HAS_LAST = 1, 2
"""The flags of a cell: the first sample of the row has the metric; the last one has it."""

SUM_HIGH, SUM_LOW, COUNT, MIN, MAX, FIRST, LAST = range(7)
"""The index of each word of a cell in `Rows.rows`."""


@dataclass(slots=True)
class _Cell:
    """One metric over the samples of a row that have it."""

    sum: int = 0
    count: int = 0
    low: int = 0
    high: int = 0
    first: int = 0
    last: int = 0
    first_time: int = 0
    last_time: int = 0
    flags: int = 0

    def add(self, timestamp: int, value: int) -> None:
        if self.count == 0 or value < self.low:
            self.low = value
        if self.count == 0 or value > self.high:
            self.high = value
        if self.count == 0 or timestamp < self.first_time:
            self.first, self.first_time = value, timestamp
        if self.count == 0 or timestamp >= self.last_time:
            self.last, self.last_time = value, timestamp
        self.sum += value
        self.count += 1

    def merge(self, later: _Cell) -> None:
        flags = self.flags & HAS_FIRST | later.flags & HAS_LAST
        if later.count and self.count:
            self.sum += later.sum
            self.count += later.count
            self.low = min(self.low, later.low)
            self.high = max(self.high, later.high)
            self.last, self.last_time = later.last, later.last_time
        elif later.count:
            for field in self.__slots__:
                setattr(self, field, getattr(later, field))
        self.flags = flags


@dataclass(slots=True)
class _Row:
    """Neighbouring samples. The sum is that of `time - FIRST_TIME`."""

    cells: list[_Cell]
    start: int
    end: int
    sum: int = 0
    count: int = 0


class Rows:
    """Keep up to `capacity` samples, or from one more on at most as many rows. The caller guarantees a capacity of 2 or more.

    One thread may write while another one closes; all else is done by one thread at a time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: dict[str, int] = {}
        self._columns: list[tuple[int, int]] = []
        self._samples: list[tuple[int, list[int | None]]] = []
        self._rows: list[_Row] = []
        self._share = 1  # samples in a row before the next row starts, late samples apart
        self._filled = 0  # samples in the last row so far, late samples apart
        self._closed = False
        self._lock = Lock()

    def add_name(self, name: str) -> None:
        """Add a metric, whose index is the number of metrics before it."""
        self._names[name] = len(self._names)

    def add_column(self, own: int, other: int, like: int) -> None:
        """Keep metric `own`, filled in by metric `other` (-1: none), and start with the cells of column `like` (-1: empty)."""
        self._columns.append((own, other))
        for row in self._rows:
            row.cells.append(_Cell() if like < 0 else replace(row.cells[like]))

    def write(self, timestamp: object, metrics: object) -> bool:
        """Add a sample: an exact int in range, and an exact dict of known names to such ints. Return False for any other."""
        if type(timestamp) is not int or type(metrics) is not dict or not FIRST_TIME <= timestamp <= I64_MAX:
            return False
        values: list[int | None] = [None] * len(self._names)
        for name, value in metrics.items():
            index = self._names.get(name)
            if index is None or type(value) is not int or not 0 <= value <= U64_MAX:
                return False
            values[index] = value
        with self._lock:
            if self._closed:
                return False
            if len(self._samples) < self._capacity and not self._rows:
                self._samples.append((timestamp, values))
                return True
            if not self._rows:
                self._expand()
            self._add_sample(self._row_for(timestamp), timestamp, values)
        return True

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            self._closed = True

    def samples(self) -> tuple[Times, Block, Bytes] | None:
        """Return (n,) times, (k, n) values and presence of n samples and k metrics, as written; None once they became rows."""
        if self._rows:
            return None
        n, k = len(self._samples), len(self._names)
        times = np.array([timestamp for timestamp, _ in self._samples], dtype=np.int64)
        values, present = np.zeros((k, n), dtype=np.uint64), np.zeros((k, n), dtype=np.uint8)
        for i, (_, sample) in enumerate(self._samples):
            for index, value in enumerate(sample):  # a sample is shorter when metrics were added after it
                if value is not None:
                    values[index, i], present[index, i] = value, 1
        return times, values, present

    def rows(self) -> tuple[Counts, Block, Block, Bytes]:
        """Return (n,) counts, (2, n) sums of times, (7, k, n) cells and (k, n) flags of n rows and k columns.

        A sum is that of ``time - FIRST_TIME``, its upper 64 bits first. For the order of cells see `recorder_py`.
        """
        n, k = len(self._rows), len(self._columns)
        counts = np.array([row.count for row in self._rows], dtype=np.int64)
        sums = np.array([[row.sum >> 64, row.sum & U64_MAX] for row in self._rows], dtype=np.uint64).reshape(n, 2)
        cells, flags = np.zeros((7, k, n), dtype=np.uint64), np.zeros((k, n), dtype=np.uint8)
        for i, row in enumerate(self._rows):
            for j, cell in enumerate(row.cells):
                cells[:, j, i] = cell.sum >> 64, cell.sum & U64_MAX, cell.count, cell.low, cell.high, cell.first, cell.last
                flags[j, i] = cell.flags
        return counts, np.ascontiguousarray(sums.T), cells, flags

    def _expand(self) -> None:
        """Make every sample a row, in the order of their times, and merge the rows."""
        for timestamp, values in sorted(self._samples, key=itemgetter(0)):
            self._rows.append(_Row([_Cell() for _ in self._columns], timestamp, timestamp))
            self._add_sample(self._rows[-1], timestamp, values)
        self._samples = []
        self._filled = 1
        self._merge()

    def _row_for(self, timestamp: int) -> _Row:
        """Return the row for a sample of this time, which may be new."""
        rows = self._rows
        if timestamp < rows[-1].end:  # late: into the row whose span has its time
            return rows[max(bisect_right(rows, timestamp, key=lambda row: row.start) - 1, 0)]
        if len(rows) == self._capacity and self._filled == self._share:
            self._merge()
        if self._filled == self._share:
            rows.append(_Row([_Cell() for _ in self._columns], timestamp, timestamp))
            self._filled = 0
        self._filled += 1
        return rows[-1]

    def _add_sample(self, row: _Row, timestamp: int, values: list[int | None]) -> None:
        is_first = row.count == 0 or timestamp < row.start
        is_last = row.count == 0 or timestamp >= row.end
        row.start = min(row.start, timestamp)
        row.end = max(row.end, timestamp)
        row.sum += timestamp - FIRST_TIME
        row.count += 1
        for cell, (own, other) in zip(row.cells, self._columns, strict=True):
            value = values[own] if own < len(values) else None
            if value is None and 0 <= other < len(values):
                value = values[other]
            if is_first:
                cell.flags = cell.flags & ~HAS_FIRST | (0 if value is None else HAS_FIRST)
            if is_last:
                cell.flags = cell.flags & ~HAS_LAST | (0 if value is None else HAS_LAST)
            if value is not None:
                cell.add(timestamp, value)

    def _merge(self) -> None:
        """Halve the rows: merge each with its right neighbour."""
        rows = self._rows
        for left, right in zip(rows[::2], rows[1::2], strict=False):
            left.end = right.end
            left.sum += right.sum
            left.count += right.count
            for cell, later in zip(left.cells, right.cells, strict=True):
                cell.merge(later)
        # A last row without a neighbour stays half full.
        self._filled = self._share if len(rows) % 2 else 2 * self._share
        self._share *= 2
        del rows[1::2]
