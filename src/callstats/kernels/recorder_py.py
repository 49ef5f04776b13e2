"""Samples of a recording, one by one, and rows whose neighbours merge when they are full. The specification of `recorder_cy`."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from operator import itemgetter
from threading import Lock

import numpy as np

from callstats._types import FIRST_TIME, I64_MAX, U64_MAX, Block, Bytes, Counts, Times

HAS_FIRST, HAS_LAST = 1, 2
"""Flags of a cell: the row's first sample has the metric; its last one does."""

SUM_HIGH, SUM_LOW, COUNT, MIN, MAX, FIRST, LAST = range(7)
"""What `Rows.rows` tells of a cell."""


@dataclass(slots=True)
class _Cell:
    """One metric over a row's samples that have it."""

    sum: int = 0
    count: int = 0
    low: int = 0
    high: int = 0
    first: int = 0
    last: int = 0
    first_time: int = 0
    last_time: int = 0
    flags: int = 0

    def take(self, timestamp: int, value: int) -> None:
        """Take a value in."""
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
        """Take the next row's cell in."""
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
    """Some samples next to each other; `sum` is that of their times since the first possible one."""

    cells: list[_Cell]
    start: int
    end: int
    sum: int = 0
    count: int = 0


class Rows:
    """Samples, up to `capacity`; from one more on at most as many rows. The caller guarantees a capacity of 2 or more.

    One thread may write while another one closes; all else is done by one thread at a time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: dict[str, int] = {}
        self._columns: list[tuple[int, int]] = []
        self._samples: list[tuple[int, list[int | None]]] = []
        self._rows: list[_Row] = []
        self._share = 1  # samples that a row takes before the next one begins, late ones apart
        self._filled = 0  # how many the last row has taken
        self._closed = False
        self._lock = Lock()

    def add_name(self, name: str) -> None:
        """Make a metric known; its number is how many were known before."""
        self._names[name] = len(self._names)

    def add_column(self, own: int, other: int, like: int) -> None:
        """Keep a metric (own), in samples that lack it another one (-1: none), and begin as column `like` (-1: empty)."""
        self._columns.append((own, other))
        for row in self._rows:
            row.cells.append(_Cell() if like < 0 else replace(row.cells[like]))

    def write(self, timestamp: object, metrics: object) -> bool:
        """Take in a sample of exact ints in range under known names in an exact dict; any other one changes nothing: False."""
        if type(timestamp) is not int or type(metrics) is not dict or not FIRST_TIME <= timestamp <= I64_MAX:
            return False
        values: list[int | None] = [None] * len(self._names)
        for name, value in metrics.items():
            place = self._names.get(name)
            if place is None or type(value) is not int or not 0 <= value <= U64_MAX:
                return False
            values[place] = value
        with self._lock:
            if self._closed:
                return False
            if len(self._samples) < self._capacity and not self._rows:
                self._samples.append((timestamp, values))
                return True
            if not self._rows:
                self._expand()
            self._take(self._row_for(timestamp), timestamp, values)
        return True

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            self._closed = True

    def samples(self) -> tuple[Times, Block, Bytes] | None:
        """Of n samples under k names (n,) times, (k, n) values and presence, as they came; None when they became rows."""
        if self._rows:
            return None
        n, k = len(self._samples), len(self._names)
        times = np.array([timestamp for timestamp, _ in self._samples], dtype=np.int64)
        values, present = np.zeros((k, n), dtype=np.uint64), np.zeros((k, n), dtype=np.uint8)
        for i, (_, sample) in enumerate(self._samples):
            for place, value in enumerate(sample):  # it knows no name that came later
                if value is not None:
                    values[place, i], present[place, i] = value, 1
        return times, values, present

    def rows(self) -> tuple[Counts, Block, Block, Bytes]:
        """Of n rows and k columns (n,) counts, (2, n) sums of times, (7, k, n) cells, (k, n) flags.

        A sum of times is that of ``time - FIRST_TIME``, its upper 64 bits first, then its lower ones.
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
        """Make every sample a row, in the order of their times, and merge these."""
        for timestamp, values in sorted(self._samples, key=itemgetter(0)):
            self._rows.append(_Row([_Cell() for _ in self._columns], timestamp, timestamp))
            self._take(self._rows[-1], timestamp, values)
        self._samples = []
        self._filled = 1
        self._merge()

    def _row_for(self, timestamp: int) -> _Row:
        """The row that a sample of this time belongs in."""
        rows = self._rows
        if timestamp < rows[-1].end:  # late: into the row whose span holds its time
            return rows[max(bisect_right(rows, timestamp, key=lambda row: row.start) - 1, 0)]
        if len(rows) == self._capacity and self._filled == self._share:
            self._merge()
        if self._filled == self._share:
            rows.append(_Row([_Cell() for _ in self._columns], timestamp, timestamp))
            self._filled = 0
        self._filled += 1
        return rows[-1]

    def _take(self, row: _Row, timestamp: int, values: list[int | None]) -> None:
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
                cell.take(timestamp, value)

    def _merge(self) -> None:
        """Halve the rows: each takes its right neighbour in."""
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
