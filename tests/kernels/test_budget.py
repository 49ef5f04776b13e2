"""The search for the largest number of rows whose text fits a budget, against each number tried."""

from __future__ import annotations

import gc
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import callstats.kernels
from callstats import CallstatsError, Rule, SeriesError, StatSeries, _json, decimate, reduce_json
from callstats._types import FIRST_TIME, I64_MAX
from callstats.kernels._budget import Search
from callstats.reduce import _decimate_columns, plan_metrics
from support.zoo import EPOCH, SECOND

pytestmark = pytest.mark.usefixtures("backend")


def every_k(series: StatSeries, rule: Rule, max_bytes: int, counts: bool) -> int:
    """What trying every number of rows downward finds: 0 for none, -k where a sum is too large."""
    n = len(series)
    for k in range(n if rule.max_samples is None else min(n, rule.max_samples), 0, -1):
        try:
            reduced = _decimate_columns(series._columns, None, rule, k)[0]
        except SeriesError:
            return -k
        if len(_json.encode(reduced, counts=counts)) <= max_bytes:
            return k
    return 0


def found(series: StatSeries, rule: Rule, max_bytes: int, counts: bool = True) -> int:
    """What the kernel finds."""
    names, times, values, present, weights = series._columns
    times = np.r_[times[:1], times][1:]  # a part of a longer array: what lies before it must not count
    out_names, plan = plan_metrics(names, rule)
    rows = len(times) if rule.max_samples is None else min(len(times), rule.max_samples)
    zero, keys = rule.missing == "zero", _json.keys_of(out_names)
    result: int = callstats.kernels.active.fit_rows(
        times, values, _json.as_bytes(present), weights, rows, max_bytes, zero, counts, plan, *keys
    )
    return result


def random_times(rng: np.random.Generator, n: int) -> Any:
    """Evenly spaced, with jitter, at random, with a pause, or of few nanoseconds."""
    even = np.arange(n) * SECOND
    match rng.integers(6):
        case 0:
            return even
        case 1:
            return even + rng.integers(0, SECOND // 200, n)
        case 2:
            return even + rng.integers(0, SECOND // 2, n)
        case 3:
            return np.cumsum(rng.exponential(SECOND, n)).astype(np.int64)
        case 4:
            return even + np.where(np.arange(n) > n // 2, int(rng.integers(1, 200)) * SECOND, 0)
    return np.sort(rng.integers(0, 2 * n, n))


def random_metric(rng: np.random.Generator, n: int) -> Any:
    """Gauges, counters, values of any length, or the largest; with holes or without."""
    values = [
        lambda: rng.integers(0, 10 ** int(rng.integers(1, 19)), n, dtype=np.uint64),
        lambda: np.cumsum(rng.integers(0, 10 ** int(rng.integers(1, 9)), n)).astype(np.uint64),
        lambda: (10 ** rng.integers(0, 19, n)).astype(np.uint64),
        lambda: np.full(n, 2**64 - 1, dtype=np.uint64),
    ][int(rng.integers(4))]()
    return np.ma.MaskedArray(values, mask=rng.random(n) < rng.random()) if rng.integers(2) else values


def random_case(seed: tuple[int, int], most: int) -> tuple[StatSeries, Rule, int]:
    """A series of at least two and fewer than so many rows, a rule and a budget."""
    rng, turn = np.random.default_rng(seed), seed[1]
    n = int(rng.integers(2, most))
    names = [f"{name}{'@max' if rng.integers(4) == 0 else ''}" for name in "abc"[: int(rng.integers(1, 4))]]
    counts = rng.integers(1, int(rng.integers(2, 2_000)), n) if rng.integers(3) == 0 else None
    metrics = {name: random_metric(rng, n) for name in names}
    series = StatSeries(EPOCH + random_times(rng, n), metrics, counts=counts)
    rule = Rule(None if rng.integers(2) else int(rng.integers(1, n + 1)), HOWS[turn % 8], ("skip", "zero")[turn % 2])
    return series, rule, int(len(series.to_json()) * rng.random()) + 1


HOWS: tuple[Any, ...] = (None, "max", "min", "first", "last", ("mean", "max"), ("max", "min"), "sum")


@pytest.mark.parametrize("seed", range(8))
def test_every_number_of_rows(seed: int) -> None:
    """The result is that of every number tried downward, for each reducer, with holes, peaks, counts and pauses."""
    for turn in range(40):
        series, rule, max_bytes = random_case((seed, turn), 30 if turn % 8 else 150)
        want = every_k(series, rule, max_bytes, turn % 3 > 0)
        assert found(series, rule, max_bytes, turn % 3 > 0) == want, (seed, turn)


def test_pauses_in_which_windows_are_empty() -> None:
    """They are no rows, so more numbers of rows may fit than there are windows."""
    for turn in range(60):
        rng, n = np.random.default_rng((100, 6, 10, turn)), 100
        pauses = np.zeros(n, dtype=np.int64)
        pauses[rng.integers(1, n, 6)] = rng.integers(1, 10, 6)
        times = SECOND * (np.arange(n) + np.cumsum(pauses)) + rng.integers(0, SECOND, n)
        series = StatSeries(EPOCH + np.sort(times), {"x": np.full(n, 2**64 - 1, np.uint64)})
        max_bytes = int(len(series.to_json()) * rng.uniform(0.4, 0.99))
        assert found(series, Rule(None), max_bytes, False) == every_k(series, Rule(None), max_bytes, False), turn


def test_a_budget_that_is_met_to_the_byte() -> None:
    """Means just below and just above 10 have another number of digits."""
    values = np.random.default_rng(1).integers(9, 11, 24)
    series = StatSeries(EPOCH + SECOND * np.arange(24), {"a": values, "b": np.ma.MaskedArray(values[::-1], mask=values > 9)})
    for k in range(1, 24):
        max_bytes = len(decimate(series, k).to_json())
        for less in (0, 1):
            assert found(series, Rule(None), max_bytes - less) == every_k(series, Rule(None), max_bytes - less, True), k


def test_rows_of_equal_size_that_fit_to_the_byte() -> None:
    """The bounds are those sizes themselves, and rule out none that is just met."""
    series = StatSeries(EPOCH + SECOND * np.arange(300), {"x": np.full(300, 2**64 - 1, np.uint64)})
    sizes = [len(decimate(series, k).to_json(counts=False)) for k in range(1, 301)]
    for size in sizes[::3]:
        for max_bytes in (size, size - 1):
            want = max((k for k, other in enumerate(sizes, 1) if other <= max_bytes), default=0)
            assert found(series, Rule(None), max_bytes, False) == want, max_bytes


@pytest.mark.parametrize("where", ["all of int64", "the end of int64", "two halves far apart"])
def test_times_whose_sums_are_too_large(where: str) -> None:
    """Spans of more than 2**62 ns, and windows past the last time, rule out no number of rows that fits."""
    rng, n = np.random.default_rng(3), 150
    for turn in range(6):
        times = {
            "all of int64": lambda: np.sort(rng.integers(FIRST_TIME, I64_MAX, n)),
            "the end of int64": lambda: I64_MAX - np.arange(n)[::-1] * 3_000_000 * SECOND,
            "two halves far apart": lambda: (
                np.where(np.arange(n) < n // 2, FIRST_TIME, I64_MAX - n * SECOND) + np.arange(n) * SECOND
            ),
        }[where]()
        series = StatSeries(times, {"a": random_metric(rng, n), "b": random_metric(rng, n)})
        max_bytes = int(len(series.to_json()) * rng.uniform(0.2, 0.9))
        assert found(series, Rule(None), max_bytes) == every_k(series, Rule(None), max_bytes, True), turn


def test_windows_past_the_last_time() -> None:
    """A window that begins before 2262 and would end after it holds all samples that are left."""
    rng = np.random.default_rng(694)
    n = int(rng.integers(20, 160))
    rng.integers(3)
    times = I64_MAX - np.sort(rng.integers(0, 10 ** int(rng.integers(12, 19)), n))[::-1]
    series = StatSeries(times, {name: random_metric(rng, n) for name in "abc"[: int(rng.integers(1, 4))]})
    max_bytes = int(len(series.to_json()) * rng.uniform(0.05, 0.95))
    assert found(series, Rule(None), max_bytes) == every_k(series, Rule(None), max_bytes, True) == 144


def test_two_crowds_of_samples() -> None:
    """Windows that take all of the second with each of the first have more paths than are looked through."""
    crowd = 100 * SECOND + np.arange(100)
    times = np.sort(np.r_[np.arange(300) * SECOND, crowd, crowd + 6 * SECOND // 10])
    series = StatSeries(EPOCH + times, {"a": np.full(500, 2**64 - 1, dtype=np.uint64)})
    max_bytes = len(decimate(series, 440).to_json())
    assert found(series, Rule(None), max_bytes) == every_k(series, Rule(None), max_bytes, True) == 497


def long_series(n: int, *, holes: bool = False, jitter: int = 0) -> StatSeries:
    """Nine metrics of up to ten digits."""
    rng = np.random.default_rng(1)
    metrics = {f"m{i}": rng.integers(0, 2**33, n, dtype=np.uint64) for i in range(9)}
    if holes:
        metrics = {name: np.ma.MaskedArray(values, mask=rng.random(n) < 0.2) for name, values in metrics.items()}
    return StatSeries(EPOCH + SECOND * np.arange(n) + rng.integers(0, jitter + 1, n), metrics)


SHAPES: dict[str, Callable[[int], StatSeries]] = {
    "even": long_series,
    "jitter": lambda n: long_series(n, jitter=SECOND // 200),
    "holes": lambda n: long_series(n, holes=True),
    "one-of-20-digits": lambda n: StatSeries(EPOCH + SECOND * np.arange(n), {"x": np.full(n, 2**64 - 1, np.uint64)}),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_of_thousands_the_first_that_fits(shape: Callable[[int], StatSeries]) -> None:
    """The bounds rule out nearly all of thousands of numbers of rows, and none that fits: the next one is too long."""
    n = 4_000
    series = shape(n)
    size = len(series.to_json())
    for part in (2, 10, 40):
        k = found(series, Rule(None), size // part)
        assert 0 < k < n // part
        assert len(decimate(series, k).to_json()) <= size // part < len(decimate(series, k + 1).to_json())


@pytest.mark.parametrize("backend", ["python"], indirect=True)
def test_the_bounds_spare_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few numbers of rows are measured, and so many rows to rule out others: a weaker bound would need more."""
    done = Counter[str]()
    for name in ("measure", "_row_size"):

        def counted(*args: Any, name: str = name, real: Any = getattr(Search, name)) -> int:
            done[name] += 1
            return int(real(*args))

        monkeypatch.setattr(Search, name, counted)
    for shape in SHAPES.values():
        series = shape(1_000)
        for part in (2, 10, 40):
            found(series, Rule(None), len(series.to_json()) // part)
    assert done["measure"] <= 537 and done["_row_size"] <= 44_701, done  # of 12,000 numbers of rows
    done.clear()
    for turn in range(80):
        found(*random_case((9, turn), 400))
    assert done["measure"] <= 2_062 and done["_row_size"] <= 64_208, done  # of 5,178


def test_a_budget_for_more_than_a_million_sums() -> None:
    """Each mean has the sums of its cells at hand, in memory without much to spare."""
    series = long_series(60_000)
    size = len(series.to_json())
    assert [found(series, Rule(None), max_bytes) for max_bytes in (size, size - 1)] == [60_000, 59_999]


def test_single_samples_lack_the_new_metrics() -> None:
    """The series itself fits, though rows of three samples each, with peaks of a long name, are longer."""
    times, name = np.repeat(np.arange(50) * SECOND, 3), "x" * 200
    series = StatSeries(EPOCH + times, {name: np.arange(150) % 7})
    rule = Rule(None, ("mean", "min", "max", "first", "last"))
    max_bytes = len(series.to_json())
    assert len(decimate(series, Rule(149, rule.how)).to_json()) > max_bytes
    assert found(series, rule, max_bytes) == every_k(series, rule, max_bytes, True) == 150


def test_rows_of_one_sample_beside_others() -> None:
    """Only the row of the two samples that are near each other has the new metrics."""
    times, name = np.r_[np.arange(100) * 10 * SECOND, 505 * SECOND, 507 * SECOND], "x" * 200
    series = StatSeries(EPOCH + np.sort(times), {name: np.arange(102) % 7})
    rule = Rule(101, ("mean", "min", "max", "first", "last"))
    max_bytes = len(decimate(series, rule).to_json())
    assert found(series, rule, max_bytes) == every_k(series, rule, max_bytes, True) == 101


def test_a_sum_that_is_too_large_is_an_error_at_the_first_such_number() -> None:
    """Although the text of that many rows would not fit either."""
    n = 800
    series = StatSeries(EPOCH + SECOND * np.arange(n), {"x": np.full(n, 2**60, np.uint64)})
    rule, max_bytes = Rule(None, "sum"), 3_600
    want = every_k(series, rule, max_bytes, True)
    assert want < 0
    assert found(series, rule, max_bytes) == want
    with pytest.raises(SeriesError, match="the sum of metrics"):
        decimate(series, rule=None, how="sum", max_bytes=max_bytes)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that signal")
@pytest.mark.parametrize("route", ["decimate", "reduce_json", "threads"])
def test_the_search_can_be_interrupted(route: str) -> None:
    """Times at random keep the bound far from the sizes, so the search takes long. Ctrl-C ends it on each route."""
    n = 150_000
    times = np.cumsum(np.random.default_rng(1).exponential(SECOND, n)).astype(np.int64)
    series = StatSeries(EPOCH + times, {"x": np.arange(n)})
    blob = series.to_json()
    work: Callable[[], object] = {
        "decimate": lambda: decimate(series, None, max_bytes=len(blob) // 2),
        "reduce_json": lambda: reduce_json([blob], None, max_bytes=len(blob) // 2),
        "threads": lambda: reduce_json([blob, blob], None, max_bytes=len(blob) // 2, threads=2),
    }[route]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before, callbacks = signal.signal(signal.SIGALRM, interrupt), gc.callbacks[:]
    gc.callbacks.clear()  # an exception in one is lost, and Hypothesis has one
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = callbacks


def test_both_ways_agree_on_the_error() -> None:
    """A budget below one row is an error that tells the size of one."""
    series = long_series(300)
    (error,) = reduce_json([series.to_json()], max_bytes=80, errors="return")
    assert isinstance(error, CallstatsError)
    with pytest.raises(CallstatsError, match=str(len(decimate(series, 1).to_json()))):
        decimate(series, max_bytes=80)


@pytest.mark.parametrize("per_time", [1, 3, 10])
def test_more_rows_than_nanoseconds(per_time: int) -> None:
    """Windows without a width, of samples that share their nanoseconds, are measured one by one."""
    samples = StatSeries([i // per_time for i in range(120)], {"x": [10 ** (i % 19) for i in range(120)], "y": range(120)})
    for budget in range(200, 9_000, 400):
        assert found(samples, Rule(None, max_bytes=budget), budget) == every_k(
            samples, Rule(None, max_bytes=budget), budget, True
        )
