"""Statistics of one series, against the same by Python's integers and fractions."""

from __future__ import annotations

import math
import random
import sqlite3
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from callstats import CallstatsError, StatBatch, StatSeries, Summary, bernoulli, decimate, kernels, summarize
from callstats.adapters.sqlite import register
from callstats.kernels import totals_py
from callstats.stats.series import totals_plan
from support import strategies
from support.backends import compiled
from support.parity import same
from support.reference import PEAKS, Row
from support.zoo import SECOND, Item, series_of, zoo

ZOO = zoo()
COUNTERS = ("disk_read", "disk_write", "net_rx", "net_tx", "x")
UNLIMITED = 9223372036854771712


def slow_summaries(rows: list[Row], counters: tuple[str, ...] = COUNTERS) -> dict[str, Summary]:
    """The same once more, with nothing of the package's own but the class."""
    names = sorted({name for _, metrics, _ in rows for name in metrics})
    ordinary = [name for name in names if not (name.rpartition("@")[1] and name.rpartition("@")[2] in PEAKS)]
    return {name: slow_summary(rows, name, name in counters) for name in ordinary}


def slow_summary(rows: list[Row], name: str, counter: bool) -> Summary:
    """One metric's statistics by the words of the contract."""
    held = [(time, metrics, count) for time, metrics, count in rows if name in metrics]
    values = [metrics[name] for _, metrics, _ in held]
    ordered, n = sorted(values), len(values)

    def kept(*reducers: str) -> list[int]:
        found = [metrics.get(f"{name}@{reducer}", metrics.get(name)) for _, metrics, _ in rows for reducer in reducers]
        return [value for value in found if value is not None]

    mean = Fraction(sum(value * count for value, (_, _, count) in zip(values, held, strict=True)), sum(row[2] for row in held))
    steps = kept("first", "last")
    needed = ("first", "last") if counter else ("max",)
    told = [
        (metrics, count) for _, metrics, count in rows if {name, *(f"{name}@{r}" for r in needed if counter)} & metrics.keys()
    ]
    return Summary(
        n=n,
        first=steps[0],
        last=steps[-1],
        min=min(kept("min")),
        max=max(kept("max")),
        mean=float(mean),
        median=(ordered[(n - 1) // 2] + ordered[n // 2]) // 2,
        p95=ordered[math.ceil(Fraction(95 * n, 100)) - 1],
        p99=ordered[math.ceil(Fraction(99 * n, 100)) - 1],
        increase=sum(b - a if b >= a else b for a, b in pairwise(steps)) if counter else None,
        growth=None if (slope := slow_slope(held, name)) is None else float(slope),
        exact=all(count == 1 or all(f"{name}@{r}" in metrics for r in needed) for metrics, count in told),
    )


def slow_slope(held: list[Row], name: str) -> Fraction | None:
    """Least squares in fractions, of rows with one time the last."""
    points = {time: metrics[name] for time, metrics, _ in held}
    if len(points) < 2:
        return None
    middle_t, middle_x = Fraction(sum(points), len(points)), Fraction(sum(points.values()), len(points))
    over = sum((t - middle_t) * (x - middle_x) for t, x in points.items())
    return over / sum((t - middle_t) ** 2 for t in points) * SECOND


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_every_figure_of_the_zoo(item: Item) -> None:
    """Each figure equals that of Python's integers and fractions, the floats to the bit."""
    assert summarize(item.series(), counters=COUNTERS) == slow_summaries(item.rows)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("item", [item for item in ZOO if 8 < len(item.rows) < 200], ids=lambda item: item.name)
def test_every_figure_of_the_zoo_reduced(item: Item) -> None:
    """So it does for reduced rows that keep all their peaks, and for such as keep some."""
    for how in (("mean", "min", "max", "first", "last"), ("mean", "max"), "mean"):
        reduced = decimate(item.series(), 7, how=how)
        rows = [(s.timestamp, s.metrics, c) for s, c in zip(reduced, reduced.counts.tolist(), strict=True)]
        assert summarize(reduced, counters=COUNTERS) == slow_summaries(rows)


@pytest.mark.usefixtures("backend")
def test_a_batch_is_its_members() -> None:
    """Many series in one go give what each gives by itself."""
    series = [item.series() for item in ZOO]
    assert summarize(StatBatch(series), counters=COUNTERS) == [summarize(one, counters=COUNTERS) for one in series]
    assert summarize(StatBatch([])) == []


@given(strategies.rows())
def test_any_rows(rows: list[Row]) -> None:
    """Both twins give the slow figures for whatever rows there may be."""
    assert same(lambda: list(summarize(series_of(rows), counters=COUNTERS).items())) == list(slow_summaries(rows).items())


def test_parity_of_the_kernels() -> None:
    """Both twins give the same words for the whole zoo as one batch."""
    batch = StatBatch([item.series() for item in ZOO])
    assert same(lambda: summarize(batch, counters=COUNTERS))
    places = np.arange(len(batch.names), dtype=np.int64)
    plan = np.array([places, np.roll(places, 1), places[::-1], places * 0 - 1, places], dtype=np.int64)
    present = None if batch.present is None else batch.present.view(np.uint8)

    def words() -> object:
        totals = kernels.active.totals(batch.values, present, batch.counts, batch.offsets, plan)
        return totals, kernels.active.moments(batch.timestamps, batch.values, present, batch.offsets, places)

    totals, moments = same(words)
    assert totals.shape == (len(places), len(batch), totals_py.TOTALS)
    assert moments.shape == (len(places), len(batch), totals_py.MOMENTS)


def plan_for(names: tuple[bytes, ...]) -> tuple[Any, Any]:
    """Fill each metric in by others, and by one alone, and ask for the moments of all but the first."""
    own = np.arange(len(names), dtype=np.int64)
    other = np.roll(own, 1)
    return np.hstack([[own, other, own[::-1], own * 0 - 1, own], [own, other, other, other, other]]), own[1:]


@compiled
@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_totals_and_moments_of_a_blob(item: Item) -> None:
    """They are those of its columns, and absent where the columns are left to the fallback decoder: times of 1677 and 2262."""
    blob = item.series().to_json(digits=9)
    columns, found = kernels.active.decode_blob(blob), kernels.active.blob_totals(blob, plan_for)
    if columns is None:
        assert found is None
        return
    names, times, values, present, counts = columns
    plan, metrics = plan_for(names)
    offsets = np.array([0, len(times)], dtype=np.int64)
    assert found[:4] == (names, len(times), *((times[0], times[-1]) if len(times) else (0, 0)))
    assert found[4].tolist() == totals_py.totals(values, present, counts, offsets, plan)[:, 0].tolist()
    assert found[5].tolist() == totals_py.moments(times, values, present, offsets, metrics)[:, 0].tolist()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("backwards", [False, True])
def test_a_row_with_nothing_but_a_peak(backwards: bool) -> None:
    """The kernel's peak counts in a row without the metric, as the last of a recording may be; so do ends and a min."""
    rows = [{"x": 5}, {"x@max": 900}, {"x@min": 2}, {"x@first": 7}, {"x@last": 9}]
    series = series_of([(time, row, 1) for time, row in enumerate(reversed(rows) if backwards else rows)])
    found = summarize(series, counters=("x",))["x"]
    assert (found.n, found.min, found.max, found.mean, found.exact) == (1, 2, 900, 5.0, True)
    assert (found.first, found.last, found.increase) == ((9, 5, 12) if backwards else (5, 9, 4))
    for counted in (bernoulli(series, "x", at_least=900), bernoulli(series, "x", at_most=2)):
        assert (counted.k, counted.n) == (1, 2)
    merged = decimate(series, 1, how=("mean", "min", "max"))
    assert summarize(merged)["x"].max == 900
    connection = sqlite3.connect(":memory:")
    register(connection)
    assert connection.execute("SELECT stats_max(?, 'x')", [series.to_db()]).fetchone() == (900,)
    connection.close()


@pytest.mark.usefixtures("backend")
def test_no_limit_stays_exact() -> None:
    """Both ways of no limit come out as they are, and their mean too."""
    series = StatSeries([0, 1, 2], {"mem_limit": [UNLIMITED] * 3, "other": [2**64 - 1] * 3})
    found = summarize(series)
    assert (found["mem_limit"].max, found["mem_limit"].median, found["mem_limit"].mean) == (
        UNLIMITED,
        UNLIMITED,
        float(UNLIMITED),
    )
    assert (found["other"].min, found["other"].p99) == (2**64 - 1, 2**64 - 1)


@pytest.mark.usefixtures("backend")
def test_growth_over_equal_times() -> None:
    """Of rows with one time the last counts, and a span of 0 has no growth."""
    assert summarize(StatSeries([0, 0, SECOND], {"net_rx": [10, 15, 25]}))["net_rx"].growth == 10.0
    assert summarize(StatSeries([5, 5, 5], {"net_rx": [10, 15, 25]}))["net_rx"].growth is None


@pytest.mark.usefixtures("backend")
def test_no_sample_or_one() -> None:
    """No sample has no statistics, and one is all of them, without growth."""
    assert summarize(StatSeries([], {})) == {}
    assert Summary() == Summary(n=0, exact=True)
    one = summarize(StatSeries([7], {"x": [9], "net_rx": [4]}))
    assert one["x"] == Summary(n=1, first=9, last=9, min=9, max=9, mean=9.0, median=9, p95=9, p99=9)
    assert one["net_rx"].increase == 0


@pytest.mark.usefixtures("backend")
def test_medians_of_large_values() -> None:
    """The middle of two large values doesn't wrap, and of three it is the second."""
    two = StatSeries([0, 1], {"x": [2**63, 2**63 + 2]})
    three = StatSeries([0, 1, 2], {"x": [2**64 - 3, 2**64 - 2, 2**64 - 1]})
    assert summarize(two)["x"].median == 9223372036854775809
    assert summarize(three)["x"].median == 18446744073709551614


@pytest.mark.usefixtures("backend")
def test_metrics_that_no_row_has() -> None:
    """All words of both twins are 0, in each series."""
    times, none, offsets = np.arange(3), np.zeros((2, 3), dtype=np.uint8), np.array([0, 1, 3])
    values, (_, plan) = np.zeros((2, 3), dtype=np.uint64), totals_plan(("a", "b"))
    assert not kernels.active.totals(values, none, None, offsets, plan).any()
    assert not kernels.active.moments(times, values, none, offsets, plan[0]).any()
    assert not kernels.active.ranks(values, none, offsets, plan[0]).any()


def test_a_counter_that_restarts() -> None:
    """A value below the one before began anew at 0."""
    assert summarize(StatSeries(range(4), {"net_rx": [100, 110, 5, 15]}))["net_rx"].increase == 25


@pytest.mark.usefixtures("backend")
def test_an_increase_may_pass_64_bits() -> None:
    """Resets can add up to more than any value holds."""
    series = StatSeries(range(5), {"net_rx": [0, 2**64 - 1, 0, 2**64 - 1, 5]})
    assert summarize(series)["net_rx"].increase == 2 * (2**64 - 1) + 5


@pytest.mark.usefixtures("backend")
def test_nothing_but_zeros() -> None:
    """Processor use of 0 throughout gives zeros, and no warning."""
    found = summarize(StatSeries([SECOND * i for i in range(9)], {"cpu_total": [0] * 9}))["cpu_total"]
    assert (found.mean, found.max, found.growth, found.p95) == (0.0, 0, 0.0, 0)


@pytest.mark.usefixtures("backend")
def test_a_peak_survives_two_reductions() -> None:
    """A lone row without a peak of its own has its value for one."""
    series = StatSeries([t * SECOND for t in (0, 1, 2, 3, 100)], {"cpu_total": [0, 0, 0, 0, 1500]})
    for steps in ((), (2,), (2, 1)):
        reduced = series
        for step in steps:
            reduced = decimate(reduced, step, how=("mean", "max"))
        found = summarize(reduced)["cpu_total"]
        assert (found.max, found.exact) == (1500, True)
    assert list(summarize(reduced)) == ["cpu_total"]


@pytest.mark.usefixtures("backend")
def test_a_counter_reduced_to_means() -> None:
    """Its increase is short by about a row and says so; with the ends of rows kept it is exact, save across a reset in a row."""
    steady = StatSeries([SECOND * i for i in range(3600)], {"net_rx": [1000 * i for i in range(3600)]})
    whole = summarize(steady)["net_rx"]
    means = summarize(decimate(steady, 12))["net_rx"]
    ends = summarize(decimate(steady, 12, how=("mean", "first", "last")))["net_rx"]
    assert (whole.increase, whole.exact) == (3_599_000, True)
    assert not means.exact
    assert 0.91 < means.increase / whole.increase < 0.93
    assert (ends.increase, ends.exact, ends.first, ends.last) == (3_599_000, True, 0, 3_599_000)
    restarted = StatSeries(range(4), {"net_rx": [100, 110, 5, 15]})
    assert summarize(decimate(restarted, 2, how=("mean", "first", "last")))["net_rx"].increase == 25


@pytest.mark.usefixtures("backend")
def test_counts_weigh_the_mean_alone() -> None:
    """A row of three samples counts threefold in the mean, once elsewhere."""
    found = summarize(StatSeries([0, SECOND], {"x": [10, 50]}, counts=[3, 1]))["x"]
    assert (found.n, found.mean, found.median, found.growth, found.exact) == (2, 20.0, 30, 40.0, False)


def test_only_series_and_names() -> None:
    """What is no series is a TypeError, and one text is no list of names."""
    with pytest.raises(TypeError, match="x must be a StatSeries or a StatBatch, got list"):
        summarize([])  # type: ignore[call-overload]
    with pytest.raises(CallstatsError, match="counters must be a collection of metric names, got 'net_rx'"):
        summarize(StatSeries([], {}), counters="net_rx")


@pytest.mark.usefixtures("backend")
def test_against_numpy_and_scipy() -> None:
    """Median, percentiles and slope are the field's own on random data."""
    stats = pytest.importorskip("scipy.stats")
    dice = random.Random("scipy")
    for n in (2, 3, 10, 99, 100, 101, 240, 2000):
        times = sorted(dice.sample(range(10**12), n))
        values = [dice.randrange(2**33) for _ in range(n)]
        found = summarize(StatSeries(times, {"x": values}))["x"]
        assert found.median == math.floor(np.median(values))
        assert [found.p95, found.p99] == np.percentile(values, [95, 99], method="inverted_cdf").tolist()
        assert found.growth == pytest.approx(stats.linregress(times, values).slope * 1e9, rel=1e-8)
        assert found.mean == pytest.approx(np.mean(values), rel=1e-15)
