"""Recorder past its capacity: rows merge, and each is what `decimate` makes of the samples that it stands for."""

from __future__ import annotations

import tracemalloc
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats import BudgetError, Recorder, Rule, SeriesError, Stat, StatSeries, decimate
from support.parity import same

SECOND = 10**9
Sample = tuple[int, dict[str, int]]


def record(samples: list[Sample], rule: Any = 240, **options: Any) -> StatSeries:
    """A recording from end to end."""
    recorder = Recorder(rule, **options)
    for time, metrics in samples:
        recorder.write_stat(time, metrics)
    return recorder.end()


class Model:
    """Which samples each row holds, told as the contract tells it: lists that merge in pairs."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.share, self.rows, self.filled = capacity, 1, [], 0
        self.samples: list[Sample] = []

    def write(self, time: int, metrics: dict[str, int]) -> None:
        """Take a sample in."""
        if not self.rows:
            self.samples.append((time, metrics))
            if len(self.samples) <= self.capacity:
                return
            self.rows = [[sample] for sample in sorted(self.samples[:-1], key=lambda sample: sample[0])]
            self.filled = 1
            self.merge()
        if time < max(time for time, _ in self.rows[-1]):
            spans = [row for row in self.rows if min(time for time, _ in row) <= time]
            self.insert(spans[-1] if spans else self.rows[0], (time, metrics))
            return
        if self.filled == self.share:
            if len(self.rows) == self.capacity:
                self.merge()
            if self.filled == self.share:
                self.rows.append([])
                self.filled = 0
        self.filled += 1
        self.rows[-1].append((time, metrics))

    def insert(self, row: list[Sample], sample: Sample) -> None:
        """A late sample comes after those of its own time."""
        row.append(sample)
        row.sort(key=lambda sample: sample[0])

    def merge(self) -> None:
        """Neighbours become one."""
        odd = len(self.rows) % 2
        self.rows = [[*chain(*self.rows[i : i + 2])] for i in range(0, len(self.rows), 2)]
        self.filled = self.share if odd else 2 * self.share
        self.share *= 2

    def end(self, rule: Rule) -> StatSeries:
        """Each bin's samples reduced to one row by `decimate`."""
        if not self.rows:
            return decimate(StatSeries.from_samples(self.samples, sort=True), rule)
        means = [sum(time for time, _ in row) // len(row) for row in self.rows]
        places = decimate(StatSeries(means, {"place": range(len(means))}), rule.max_samples, how="first")["place"].tolist()
        bins = [[*chain(*self.rows[a:b])] for a, b in zip(places, [*places[1:], len(means)], strict=True)]
        rows = [self.row(StatSeries.from_samples(row), rule) for row in bins]
        whole = StatSeries.from_samples(rows)
        return StatSeries(whole.timestamps, {name: whole[name] for name in whole.names}, counts=[*map(len, bins)])

    def row(self, samples: StatSeries, rule: Rule) -> Stat:
        """One row, with each peak that came as a metric of its own in any sample: where this bin has none it is its metric's."""
        row = decimate(samples, Rule(1, how=rule.how, missing=rule.missing))[0]
        for name in {name for row in self.rows for _, metrics in row for name in metrics}:
            base, _, reducer = name.rpartition("@")
            if base and len(samples) > 1:
                asked = decimate(samples, Rule(1, how={base: ("mean", reducer)}, missing=rule.missing))[0].metrics
                row.metrics.update({name: asked[name]} if name in asked else {})
        return row


NAMES = ("x", "y", "x@max", "x@first")
VALUES = st.integers(0, 9) | st.integers(2**64 - 3, 2**64 - 1)
STREAMS = st.lists(
    st.tuples(
        st.integers(-20, 60) | st.integers(10**18, 10**18 + 5), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
    ),
    max_size=60,
)
REDUCER = st.sampled_from(["mean", "min", "max", "first", "last"])
HOWS = REDUCER | st.just(("mean", "min", "max", "first", "last")) | st.just({"x": ("last", "max"), "y": "min"})


@given(STREAMS, st.integers(2, 9), st.integers(1, 8), HOWS, st.sampled_from(["skip", "zero"]), st.booleans())
def test_every_row_is_that_of_its_samples(
    samples: list[Sample], capacity: int, most: int, how: Any, missing: Any, late: bool
) -> None:
    """Past the capacity each row of the result is what `decimate` makes of exactly the samples that it stands for."""
    if not late:
        samples = sorted(samples, key=lambda sample: sample[0])
    rule, model = Rule(most, how=how, missing=missing), Model(capacity)
    for sample in samples:
        model.write(*sample)
    result = same(lambda: record(samples, rule, capacity=capacity))
    assert result == model.end(rule)
    assert len(result) <= most


def test_rows_stand_for_a_power_of_two(backend: str) -> None:
    """All rows but the last stand for 2^j samples each, whatever the capacity."""
    for capacity in (2, 3, 5, 8):
        for n in range(1, 70):
            series = record([(i, {"x": i}) for i in range(n)], None, capacity=capacity)
            *rows, last = series.counts.tolist()
            share = 1
            while share * capacity < n:
                share *= 2
            assert len(series) <= capacity and set(rows) <= {share} and 1 <= last <= share and sum(rows) + last == n


def test_a_late_sample_goes_where_its_time_lies(backend: str) -> None:
    """A late sample goes into the row whose span holds its time, and is first or last there only by its time."""
    recorder = Recorder(Rule(None, how=("first", "last", "max")), capacity=4)
    for second in range(16):
        recorder.write_stat(second * 10, {"x": second})
    recorder.write_stat(65, {"x": 500})  # rows of four: 0-30, 40-70, 80-110, 120-150
    recorder.write_stat(-5, {"x": 300})
    recorder.write_stat(80, {"x": 7})
    recorder.write_stat(75, {"x": 40})
    series = recorder.end()
    assert series.counts.tolist() == [5, 6, 5, 4]
    assert series["x"].tolist() == [300, 4, 8, 12]
    assert series["x@last"].tolist() == [3, 40, 11, 15]
    assert series["x@max"].tolist() == [300, 500, 11, 15]


def test_a_lone_merged_row_is_reduced_too(backend: str) -> None:
    """A row that stands for many samples is reduced by its reducer even when it is alone in its bin."""
    samples = [(i, {"x": value}) for i, value in enumerate([1, 9, 2, 8, 5])]
    assert record(samples, Rule(240, how="max"), capacity=3)["x"].tolist() == [9, 8, 5]
    assert record(samples, Rule(240, how="first"), capacity=3)["x"].tolist() == [1, 2, 5]
    assert record(samples, Rule(240, how="sum"), capacity=3)["x"].tolist() == [10, 10, 5]


def test_peaks_of_rows(backend: str) -> None:
    """A metric x@max is x's in samples without it, those before it was first seen too; a sample alone keeps what it has."""
    samples = [(0, {"x": 9}), (1, {"x": 3}), (2, {"x": 1, "x@max": 5}), (3, {"x": 2}), (4, {"x": 7})]
    series = record(samples, None, capacity=3)
    assert series.counts.tolist() == [2, 2, 1]
    assert [stat.metrics for stat in series] == [{"x": 6, "x@max": 9}, {"x": 1, "x@max": 5}, {"x": 7}]


def test_sums_are_exact_past_64_bits(backend: str) -> None:
    """Means of the largest values are exact; a sum that no value can hold is refused, each time that the end is asked for."""
    samples = [(i, {"x": 2**64 - 1 - i % 2}) for i in range(100)]
    assert record(samples, 1, capacity=4)["x"].tolist() == [2**64 - 2]
    recorder = Recorder(Rule(1, how="sum"), capacity=4)
    for time, metrics in samples:
        recorder.write_stat(time, metrics)
    for _ in range(2):
        with pytest.raises(
            SeriesError, match=r"the sum of metrics\['x'\] must be at most 18446744073709551615, got more in row 0"
        ):
            recorder.end()


def test_extreme_times(backend: str) -> None:
    """The first and the last time that a series can hold go through a merge."""
    low, high = -9223372036854000000, 2**63 - 1
    series = record([(low, {"x": 1}), (low, {"x": 3}), (high, {"x": 5}), (high, {"x": 5})], 2, capacity=2)
    assert series.timestamps.tolist() == [low, high] and series["x"].tolist() == [2, 5]


def test_a_late_sample_of_a_metric_that_came_once(backend: str) -> None:
    """It is the first of its row, and not the last."""
    samples = [(0, {"x": 1}), (1, {"x": 1}), (2, {"x": 1}), (150, {"x": 1, "y": 7}), (120, {"x": 1, "y": 9})]
    for reducer, want in (("first", 9), ("last", 7)):
        assert record(samples, Rule(1, how=reducer), capacity=2)["y"].tolist() == [want]


@pytest.mark.parametrize("capacity", [8, 4096])
def test_max_bytes(backend: str, capacity: int) -> None:
    """The stored text of a recording fits the budget, with as many rows as do; one that nothing fits is refused."""
    samples = [(i * SECOND, {"mem_usage": 10**6 + i}) for i in range(100)]
    series = record(samples, Rule(240, max_bytes=400), capacity=capacity)
    size = len(series.to_json())
    assert size <= 400 and len(series) in (4, 5)
    assert record(samples, Rule(240, max_bytes=size), capacity=capacity) == series
    assert len(record(samples, Rule(240, max_bytes=size - 1), capacity=capacity)) < len(series)
    with pytest.raises(BudgetError, match=r"max_bytes must be at least the size of one row, .* bytes, got 20"):
        record(samples, Rule(240, max_bytes=20), capacity=capacity)


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_max_bytes_that_fits_exactly(backend: str, rows: int) -> None:
    """A budget of just the bytes of so many rows gives them; one byte less gives fewer, and of one row none."""
    samples = [(i * SECOND, {"mem_usage": 10**6 + i}) for i in range(rows)]
    size = len(record(samples, Rule(240)).to_json())
    assert len(record(samples, Rule(240, max_bytes=size))) == rows
    if rows > 1:
        assert len(record(samples, Rule(240, max_bytes=size - 1))) < rows
    else:
        with pytest.raises(BudgetError, match=f"at least the size of one row, {size} bytes, got {size - 1}"):
            record(samples, Rule(240, max_bytes=size - 1))


def test_no_rows_asked_for(backend: str) -> None:
    """A rule of no rows gives none, merged or not."""
    assert len(record([(i, {"x": 1}) for i in range(9)], 0, capacity=4)) == 0
    assert len(record([(i, {"x": 1}) for i in range(4)], -1, capacity=4)) == 0


@pytest.mark.parametrize("n", [10_000_000], ids=["10M"])
def test_ten_million_samples(backend: str, n: int) -> None:
    """10 million samples stay within the bound of rows, and lose no peak, no sample and less than 1 of the mean."""
    n = n if backend == "cython" else n // 100  # the twin in Python takes the same way, if not as far
    recorder = Recorder(Rule(240, how=("mean", "min", "max")))
    random, part, low, high, total = np.random.default_rng(17), 100_000, 2**64, 0, 0
    for start in range(0, n, part):
        values = random.integers(2**64, size=part, dtype=np.uint64).tolist()
        for i, value in enumerate(values, start):
            recorder.write_stat(i * 1000, {"x": value})
        low, high, total = min(low, *values), max(high, *values), total + sum(values)
    series = recorder.end()
    counts = series.counts.tolist()
    assert len(series) <= 240 and sum(counts) == n
    assert series["x@min"].min() == low and series["x@max"].max() == high
    weighed = sum(count * mean for count, mean in zip(counts, series["x"].tolist(), strict=True))
    assert 0 <= total - weighed < n
    steps = np.diff(series.timestamps)
    assert len(series) >= 200 and steps.max() <= 2 * steps[:-1].min()


def test_memory_is_bounded(backend: str) -> None:
    """Memory grows no more once the rows are full."""
    tracemalloc.start()
    try:
        recorder = Recorder(capacity=64)
        sizes = []
        for stop in (1_000, 10_000):
            for i in range(stop):
                recorder.write_stat(i, {"x": i, "y": 2**64 - 1})
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] + 5_000


def test_twins_agree_on_what_they_hold(backend: str) -> None:
    """The kernels' own arrays are equal to the byte, before and after a merge."""

    def held(n: int) -> Any:
        from callstats import kernels

        rows = kernels.active.Rows(6)
        for number, name in enumerate(("x", "y")):
            rows.add_name(name)
            rows.add_column(number, -1, -1)
        refused = [
            rows.write(5, {"z": 1}),
            rows.write(5.0, {}),
            rows.write(5, {"x": -1}),
            rows.write(2**63, {}),
            rows.write(1, 2),
        ]
        for i in range(n):
            assert rows.write((i * 7) % n, {"x": 2**64 - 1 - i} if i % 3 else {"y": i, "x": 5})
        if n > 6:
            rows.add_column(0, 1, 0)
        return rows.samples(), rows.rows() if n > 6 else None, refused, rows.close(), rows.write(1, {})

    for n in (0, 1, 6, 7, 12, 13, 100):
        result = same(lambda n=n: held(n))
        assert result[2] == [False] * 5 and result[4] is False
