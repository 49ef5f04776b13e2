"""decimate: limits, bins, reducers, peaks and budgets, against the reference and by hand."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callstats import BudgetError, CallstatsError, Rule, SeriesError, StatBatch, StatSeries, decimate
from support import strategies
from support.reference import TIME_MAX, TIME_MIN, NothingFitsError, Row, SumTooLargeError, fitted, reduced, text
from support.zoo import EPOCH, SECOND, Item, rows_of, series_of, zoo

pytestmark = pytest.mark.usefixtures("backend")

ZOO = zoo()

RULES: dict[str, dict[str, Any]] = {
    "mean-240": {},
    "mean-12": {"max_samples": 12},
    "mean-3-zero": {"max_samples": 3, "missing": "zero"},
    "mean-1": {"max_samples": 1},
    "mean-2": {"max_samples": 2},
    "min-max": {"max_samples": 7, "how": ("min", "max")},
    "peaks-zero": {"max_samples": 5, "how": ("mean", "min", "max", "first", "last"), "missing": "zero"},
    "first": {"max_samples": 5, "how": "first"},
    "last-zero": {"max_samples": 5, "how": "last", "missing": "zero"},
    "by-name": {"max_samples": 60, "how": {"mem_usage": ("mean", "max"), "net_rx": "last", "*": "max"}},
    "sum": {"max_samples": 100, "how": "sum"},
    "no-limit": {"max_samples": None},
    "nothing": {"max_samples": 0},
    "less-than-nothing": {"max_samples": -3},
}


def check(rows: list[Row], fields: dict[str, Any], series: StatSeries | None = None) -> None:
    """`decimate` gives what the reference gives, or refuses what it refuses."""
    series = series_of(rows) if series is None else series
    try:
        want = fitted(rows, **fields)
    except SumTooLargeError:
        with pytest.raises(SeriesError):
            decimate(series, Rule(**fields))
    except NothingFitsError:
        with pytest.raises(BudgetError):
            decimate(series, Rule(**fields))
    else:
        got = decimate(series, Rule(**fields))
        assert rows_of(got) == want
        assert got == series_of(want)


def step(values: list[int], **fields: Any) -> list[Row]:
    """Values of one metric x, one a second from 0, reduced."""
    return rows_of(decimate(StatSeries([i * SECOND for i in range(len(values))], {"x": values}), Rule(**fields)))


# --- against the reference --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_the_zoo(item: Item) -> None:
    """Every input under every rule is what big integers say."""
    for fields in RULES.values():
        check(item.rows, fields, item.series())


@given(strategies.rows(), strategies.rules())
def test_random_series(rows: list[Row], fields: dict[str, Any]) -> None:
    """Random series under random rules are what big integers say."""
    check(rows, fields)


@given(st.lists(strategies.rows(most=12), max_size=6), strategies.rules())
def test_a_batch_equals_its_members(members: list[list[Row]], fields: dict[str, Any]) -> None:
    """A batch is reduced as its members are, one by one."""
    singles = [series_of(rows) for rows in members]
    try:
        want = [decimate(series, Rule(**fields)) for series in singles]
    except SeriesError:
        with pytest.raises(SeriesError):
            decimate(StatBatch(singles), Rule(**fields))
        return
    got = decimate(StatBatch(singles), Rule(**fields))
    assert type(got) is StatBatch
    assert list(got) == want
    assert [series.names for series in got] == [series.names for series in want]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "sum"])
def test_the_whole_zoo_as_one_batch(rule: str) -> None:
    """Members of every length and with every metric don't touch one another."""
    got = decimate(StatBatch([item.series() for item in ZOO]), Rule(**RULES[rule]))
    assert [rows_of(series) for series in got] == [reduced(item.rows, **RULES[rule]) for item in ZOO]


@given(strategies.rows(), strategies.rules(st.integers(1, 12)))
def test_a_second_run_changes_nothing(rows: list[Row], fields: dict[str, Any]) -> None:
    """A reduced series has at most max_samples rows, so the same rule leaves it alone."""
    fields = {**fields, "how": "max"} if "sum" in repr(fields["how"]) else fields
    once = decimate(series_of(rows), Rule(**fields))
    assert len(once) <= fields["max_samples"]
    assert decimate(once, Rule(**fields)) == once


@given(strategies.rows(), st.integers(1, 12), st.integers(1, 12))
def test_no_raw_sample_is_lost(rows: list[Row], first: int, second: int) -> None:
    """Counts add up to the same total, through two reductions."""
    total = sum(count for _, _, count in rows)
    once = decimate(series_of(rows), first)
    assert sum(count for _, _, count in rows_of(once)) == total
    assert sum(count for _, _, count in rows_of(decimate(once, second))) == total


@given(strategies.rows(), st.integers(1, 12), st.integers(1, 12))
def test_peaks_survive_every_reduction(rows: list[Row], first: int, second: int) -> None:
    """The largest `x@max`, or else x, of all rows is the same before and after."""
    rows = [(time, {name: metrics[name] for name in ("x",) if name in metrics}, count) for time, metrics, count in rows]

    def peak(rows: list[Row]) -> int | None:
        return max((metrics.get("x@max", metrics.get("x", -1)) for _, metrics, _ in rows), default=None)

    once = decimate(series_of(rows), first, how={"x": ("mean", "max")})
    assert peak(rows_of(once)) == peak(rows)
    kept = "min" if "x@max" in once.names else ("min", "max")  # a first step that left all rows alone kept nothing
    assert peak(rows_of(decimate(once, second, how=kept))) == peak(rows)


@given(strategies.rows(most=10), strategies.rules(), st.integers(0, 1200))
@example([(i, {"x": 10 ** (i % 19)}, 1 + i % 2) for i in range(10)], {"max_samples": 8, "how": "last", "missing": "skip"}, 300)
def test_the_budget_against_every_k(rows: list[Row], fields: dict[str, Any], max_bytes: int) -> None:
    """The largest k whose text fits is found, however uneven the sizes are."""
    check(rows, {**fields, "max_bytes": max_bytes + 1})


# --- 3.1 to 3.3: which rows there are ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_samples", [None, 5, 6, 240, 2**40, 2**63, 2**64, 10**30])
def test_few_enough_rows_are_left_alone(max_samples: int | None) -> None:
    """At most max_samples rows: unchanged, whatever `how` says, and counts and holes with them."""
    series = StatSeries([0, 1, 1, 5, 9], {"x": [1, None, 3, 4, 5]}, counts=[1, 2, 3, 4, 5])
    assert decimate(series, Rule(max_samples, how=("sum", "max"))) == series


@pytest.mark.parametrize("max_samples", [0, -1, -(2**63), -(10**30)])
def test_no_rows_wanted(max_samples: int) -> None:
    """0 or less gives the empty series."""
    assert decimate(StatSeries([0], {"x": [1]}), max_samples) == StatSeries([], {})
    assert decimate(StatSeries([], {}), max_samples) == StatSeries([], {})


def test_right_ends_belong_to_their_bins() -> None:
    """Bin 0 is closed at both ends, every other one open at its left."""
    times = [0, 10, 11, 20, 21, 30, 31, 40]  # to 4: the window is 10
    series = StatSeries(times, {"x": times})
    assert [stat.timestamp for stat in decimate(series, 4, how="first")] == [5, 15, 25, 35]
    assert [stat.metrics["x"] for stat in decimate(series, 4, how="first")] == [0, 11, 21, 31]
    assert [stat.metrics["x"] for stat in decimate(series, 4, how="last")] == [10, 20, 30, 40]


def test_the_last_row_takes_all_that_is_left() -> None:
    """Once max_samples - 1 rows are out, the rest is one row, across any number of bins."""
    series = StatSeries([0, 1, 2, 3, 4, 5, 6, 100], {"x": range(8)})
    assert rows_of(decimate(series, 8)) == rows_of(series)
    assert [count for _, _, count in rows_of(decimate(series, 2))] == [7, 1]
    even = StatSeries(range(11), {"x": range(11)})  # to 4: the window is 2, six bins of which the last is the remainder's
    assert [count for _, _, count in rows_of(decimate(even, 4))] == [3, 2, 2, 4]


def test_the_times_of_the_next_series_are_no_part_of_a_row() -> None:
    """After a row of three, the next one is looked for where a series of a batch ends, and another one begins."""
    one = StatSeries([at * SECOND for at in (0, 1, 2, 100, 200, 300)], {"x": range(6)})
    for got in decimate(StatBatch([one, one]), 4):
        assert (got.timestamps // SECOND).tolist() == [1, 100, 200, 300]


def test_the_remainder_of_the_floored_window_may_be_a_row() -> None:
    """While fewer rows are out, bins go on past the max_samples-th."""
    times = [0, 0, 0, 0, 29, 30, 31]  # to 3: the window is 10, and 31 lies in the fourth bin
    assert [(time, count) for time, _, count in rows_of(decimate(StatSeries(times, {}), 3))] == [(0, 4), (29, 2), (31, 1)]


@pytest.mark.parametrize(("span", "max_samples"), [(0, 1), (0, 240), (2, 3), (149, 240), (2, 239)])
def test_spans_below_the_number_of_rows(span: int, max_samples: int) -> None:
    """The window is never below 1 ns, and the call returns."""
    rows = [(EPOCH + i * (span + 1) // 300, {"x": i}, 1) for i in range(300)]
    check(rows, {"max_samples": max_samples})
    assert len(decimate(series_of(rows), max_samples)) <= min(span + 1, max_samples)


def test_the_widest_span() -> None:
    """From the first time to the last, the difference is taken unsigned."""
    rows = [(TIME_MIN, {"x": 1}, 1), (TIME_MIN + 1, {"x": 2}, 1), (-1, {"x": 3}, 1), (0, {"x": 5}, 1), (TIME_MAX, {"x": 7}, 1)]
    for max_samples in (1, 2, 3, 4):
        check(rows, {"max_samples": max_samples})
    assert [time for time, _, _ in rows_of(decimate(series_of(rows), 2))] == [(2 * TIME_MIN + 1 - 1 + 0) // 4, TIME_MAX]


# --- 3.4 and 3.5: what a row holds ------------------------------------------------------------------------------------


def test_a_lone_sample_is_passed_on_untouched() -> None:
    """A bin of one sample keeps its values, its holes and its count, and gains no peak."""
    series = StatSeries([0, 1, 100], {"x": [1, 3, 7], "y": [1, 1, None]}, counts=[1, 1, 5])
    got = rows_of(decimate(series, 2, how=("sum", "max"), missing="zero"))
    assert got == [(0, {"x": 4, "x@max": 3, "y": 2, "y@max": 1}, 2), (100, {"x": 7}, 5)]


@pytest.mark.parametrize(
    ("times", "mean"), [([1, 2], 1), ([-1, -2], -2), ([-1, 0], -1), ([TIME_MAX - 1, TIME_MAX], TIME_MAX - 1)]
)
def test_the_time_of_a_row_is_floored(times: list[int], mean: int) -> None:
    """The mean of the times goes down, before 1970 too."""
    assert decimate(StatSeries(sorted(times), {}), 1).timestamps.tolist() == [mean]


def test_whole_seconds_average_to_whole_seconds() -> None:
    """Whole seconds 1, 2, 3 average to 2.000, where Go's terms lose a millisecond."""
    series = StatSeries([SECOND, 2 * SECOND, 3 * SECOND], {})
    assert decimate(series, 1).to_json() == b'[{"timestamp":"1970-01-01T00:00:02.000Z","metrics":{},"count":3}]\n'


def test_means_are_weighed_by_counts() -> None:
    """Values and times are weighed by counts, and no other reducer is."""
    series = StatSeries([0, 10], {"x": [0, 10], "y": [None, 9], "z": [6, None]}, counts=[3, 1])
    assert rows_of(decimate(series, 1)) == [(2, {"x": 2, "y": 9, "z": 6}, 4)]
    assert rows_of(decimate(series, 1, missing="zero")) == [(2, {"x": 2, "y": 2, "z": 4}, 4)]
    assert rows_of(decimate(series, 1, how="sum")) == [(2, {"x": 10, "y": 9, "z": 6}, 4)]


@pytest.mark.parametrize(
    ("how", "skip", "zero"),
    [("mean", 6, 3), ("min", 5, 0), ("max", 7, 7), ("first", 5, 0), ("last", 7, 0), ("sum", 12, 12)],
)
def test_absent_values(how: str, skip: int, zero: int) -> None:
    """`skip` passes over samples without the metric; `zero` takes them as 0 where another sample has it."""
    series = StatSeries([0, 1, 2, 3, 50, 51], {"x": [None, 5, 7, None, None, None], "y": [1] * 6})
    assert [metrics.get("x") for _, metrics, _ in rows_of(decimate(series, 2, how=how))] == [skip, None]
    assert [metrics.get("x") for _, metrics, _ in rows_of(decimate(series, 2, how=how, missing="zero"))] == [zero, None]


def test_a_metric_of_no_row_left_is_dropped() -> None:
    """The result has no name that none of its rows has."""
    assert decimate(StatSeries([0, 1], {"x": [1, 2]}), 0).names == ()
    assert decimate(StatSeries([0, 1], {}), 1).names == ()


# --- 3.6: reducers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "want"), [("mean", 4), ("min", 1), ("max", 9), ("first", 3), ("last", 5), ("sum", 18)])
def test_each_reducer(how: str, want: int) -> None:
    """The six reducers over one bin, the mean floored."""
    assert step([3, 1, 9, 5], max_samples=1, how=how) == [(1_500_000_000, {"x": want}, 4)]


def test_how_by_metric() -> None:
    """A mapping names a metric's reducer, `*` the others', and names that the series lacks are ignored."""
    series = StatSeries([0, 1], {"a": [1, 4], "b": [1, 4], "c": [1, 4]})
    got = decimate(series, 1, how={"a": "max", "b": ("min", "last"), "missing": ("sum", "max"), "*": "sum"})
    assert rows_of(got) == [(0, {"a": 4, "b": 1, "b@last": 4, "c": 5}, 2)]
    assert rows_of(decimate(series, 1, how={"a": "max"})) == [(0, {"a": 4, "b": 2, "c": 2}, 2)]


def test_a_metric_that_is_called_star() -> None:
    """A metric may bear the name that stands for the others."""
    assert rows_of(decimate(StatSeries([0, 1], {"*": [1, 4]}), 1, how={"*": "max"})) == [(0, {"*": 4}, 2)]


@pytest.mark.parametrize("values", [[2**64 - 1, 1], [2**63, 2**63], [2**64 - 1] * 40, [1] * 10 + [2**64 - 10]])
def test_a_sum_that_is_too_large(values: list[int]) -> None:
    """A sum past 2**64 - 1 is a SeriesError that names the metric."""
    series = StatSeries(range(len(values)), {"a": [0] * len(values), "big": values, "z": [0] * len(values)})
    with pytest.raises(SeriesError, match="big"):
        decimate(series, 1, how="sum")


@pytest.mark.parametrize("values", [[2**64 - 1, 0], [2**63, 2**63 - 1], [1] * 10 + [2**64 - 11]])
def test_the_largest_sum(values: list[int]) -> None:
    """A sum of 2**64 - 1 is exact."""
    assert step(values, max_samples=1, how="sum")[0][1] == {"x": 2**64 - 1}


def test_a_sum_that_is_too_large_in_a_batch() -> None:
    """One member's sum fails the batch."""
    good, bad = StatSeries([0, 1], {"x": [1, 1]}), StatSeries([0, 1], {"x": [2**64 - 1, 1]})
    with pytest.raises(SeriesError, match="x"):
        decimate(StatBatch([good, bad, good]), 1, how="sum")


@given(st.lists(st.tuples(strategies.values, st.integers(1, 2**61)), min_size=2, max_size=3))
def test_means_of_anything_are_exact(pairs: list[tuple[int, int]]) -> None:
    """No product of value and count is too large, nor of time and count."""
    rows = [(TIME_MIN if i == 0 else TIME_MAX, {"x": value}, count) for i, (value, count) in enumerate(pairs)]
    check(rows, {"max_samples": 1})


# --- 3.7: peaks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 11))
@pytest.mark.parametrize("top", [2**8, 2**51, 2**52, 2**53, 2**63])
def test_means_just_below_a_whole_number(top: int, size: int) -> None:
    """Rows whose sums lack 1 to a multiple of their size: a quotient that is rounded up would be one too large."""
    values = [(top // size - i // size) - (i % size == 0) for i in range(9 * size)]
    assert [max(row[1].values()) for row in step(values, max_samples=9)] == [top // size - i - 1 for i in range(9)]


def test_a_tuple_adds_peaks() -> None:
    """The first reducer gives x, each further one a metric of its own."""
    got = step([3, 1, 9, 5], max_samples=1, how=("mean", "min", "max", "first", "last"))
    assert got[0][1] == {"x": 4, "x@min": 1, "x@max": 9, "x@first": 3, "x@last": 5}


def test_peaks_are_reduced_by_their_own_reducer() -> None:
    """`x@max` goes by max, whatever `how` says of it, and falls back to x where a sample lacks it."""
    series = StatSeries([0, 1, 2], {"x": [5, 50, 6], "x@max": [9, None, 7], "x@min": [None, 2, 3]})
    for how in ("mean", "sum", {"x@max": "min", "x@min": "sum", "x": "mean"}, {"*": "last", "x": "mean"}):
        metrics = rows_of(decimate(series, 1, how=how))[0][1]
        assert (metrics["x@max"], metrics["x@min"]) == (50, 2)


def test_a_row_gets_the_peak_from_x_alone() -> None:
    """Where the series has `x@max`, a row whose samples have x only gets it from x; lone rows stay as they are."""
    series = StatSeries([0, 1, 50, 51, 99], {"x": [1, 2, 3, 8, 9], "x@max": [7, None, None, None, None]})
    assert [metrics for _, metrics, _ in rows_of(decimate(series, 3))] == [{"x": 1, "x@max": 7}, {"x": 5, "x@max": 8}, {"x": 9}]


def test_a_peak_without_its_metric() -> None:
    """`x@max` stands alone where the series has no x, and a `how` for x adds nothing to it."""
    series = StatSeries([0, 1, 2], {"x@max": [1, None, 3]})
    assert rows_of(decimate(series, 1, how={"x": ("mean", "max", "min")})) == [(1, {"x@max": 3}, 3)]
    assert rows_of(decimate(series, 1, missing="zero", how="min")) == [(1, {"x@max": 3}, 3)]


def test_peaks_of_absent_values() -> None:
    """Under `zero` a sample with neither counts as 0 for a peak, under `skip` it is passed over."""
    series = StatSeries([0, 1, 2], {"x": [5, None, None], "x@min": [None, 3, None], "x@last": [None, 3, None]})
    assert rows_of(decimate(series, 1))[0][1] == {"x": 5, "x@min": 3, "x@last": 3}
    assert rows_of(decimate(series, 1, missing="zero"))[0][1] == {"x": 1, "x@min": 0, "x@last": 0}


@pytest.mark.parametrize("name", ["x@sum", "x@mean", "x@", "@", "x@Max", "x@max ", "x.max", "max", "x@max@sum"])
def test_ordinary_names(name: str) -> None:
    """Only `@min @max @first @last` at the end are special."""
    assert (
        rows_of(decimate(StatSeries([0, 1], {name: [1, 4], "x": [100, 100]}), 1, how={"x": "mean", "*": "sum"}))[0][1][name] == 5
    )


def test_a_name_is_split_at_its_last_mark() -> None:
    """`x@max@min` is the min of `x@max`, and falls back one step, not two."""
    series = StatSeries([0, 1, 2], {"x": [1, 1, 1], "x@max": [9, None, None], "x@max@min": [None, 8, None]})
    assert rows_of(decimate(series, 1))[0][1] == {"x": 1, "x@max": 9, "x@max@min": 8}
    assert rows_of(decimate(series, 1, missing="zero"))[0][1] == {"x": 1, "x@max": 9, "x@max@min": 0}


def test_the_empty_name_may_have_peaks() -> None:
    """`@max` is the peak of the metric whose name is empty."""
    series = StatSeries([0, 1], {"": [5, 7], "@max": [6, None]})
    assert rows_of(decimate(series, 1))[0][1] == {"": 6, "@max": 7}
    assert rows_of(decimate(StatSeries([0, 1], {"": [5, 7]}), 1, how=("min", "max")))[0][1] == {"": 5, "@max": 7}


def test_a_peak_of_an_ordinary_mark() -> None:
    """A tuple keeps the peaks of a metric whose own name bears a mark."""
    assert rows_of(decimate(StatSeries([0, 1], {"x@sum": [1, 4]}), 1, how=("mean", "max")))[0][1] == {"x@sum": 2, "x@sum@max": 4}


def test_names_are_each_members_own() -> None:
    """A series has a peak when its own rows do, whatever else is in its batch."""
    bare, kept = StatSeries([0, 1], {"x": [1, 3]}), StatSeries([0, 1], {"x": [1, 3], "x@max": [8, None]})
    got = decimate(StatBatch([bare, kept, bare]), 1)
    assert [rows_of(series)[0][1] for series in got] == [{"x": 2}, {"x": 2, "x@max": 8}, {"x": 2}]


# --- 3.8: the byte budget ---------------------------------------------------------------------------------------------


def uneven(n: int) -> StatSeries:
    """A series whose texts are not monotone in the number of rows: long values next to short ones, and gaps."""
    return StatSeries([(i + i // 7 * 100) * SECOND for i in range(n)], {"x": [10 ** (i * 7 % 19) for i in range(n)]})


def test_a_text_that_fits_is_left_alone() -> None:
    """The exact size fits, and one byte less does not."""
    series = uneven(9)
    size = len(series.to_json())
    assert decimate(series, Rule(None, max_bytes=size)) == series
    assert 0 < len(decimate(series, Rule(None, max_bytes=size - 1))) < 9


@pytest.mark.parametrize("max_samples", [None, 5, 30, 100])
@pytest.mark.parametrize("how", ["mean", "max", ("mean", "max")])
def test_every_budget_against_every_k(max_samples: int | None, how: Any) -> None:
    """For budgets from none to all, the largest k that fits is found as trying every one finds it."""
    series = uneven(60)
    for max_bytes in range(1, len(series.to_json()) + 40, 97):
        check(rows_of(series), {"max_samples": max_samples, "how": how, "max_bytes": max_bytes}, series)


def test_the_sizes_are_not_monotone() -> None:
    """The inputs above do have a k whose text is longer than that of k + 1, or the search would prove nothing."""
    rows = rows_of(uneven(60))
    sizes = [len(text(reduced(rows, k, "mean"))) for k in range(1, 61)]
    assert any(one > next_ for one, next_ in itertools.pairwise(sizes))


def test_no_budget_is_too_small_for_nothing() -> None:
    """The empty series fits, and 3.1 comes first: with max_samples 0 the result is empty whatever the budget."""
    assert decimate(StatSeries([], {}), 5, max_bytes=1) == StatSeries([], {})
    assert decimate(uneven(9), 0, max_bytes=1) == StatSeries([], {})


def test_a_budget_that_nothing_fits() -> None:
    """BudgetError, a ValueError, when one row is too long."""
    series = uneven(9)
    one = len(decimate(series, 1).to_json())
    assert len(decimate(series, Rule(None, max_bytes=one))) >= 1
    with pytest.raises(BudgetError, match="10") as caught:
        decimate(series, Rule(None, max_bytes=10))
    assert isinstance(caught.value, CallstatsError)
    with pytest.raises(BudgetError):
        decimate(StatBatch([StatSeries([0], {}), series]), Rule(None, max_bytes=60))


def test_counts_and_peaks_weigh_in_the_budget() -> None:
    """The text that is measured has the counts and the peaks that `to_json` writes."""
    series = uneven(60)
    for how in ("mean", ("mean", "max", "min")):
        for max_bytes in (500, 1000, 2000):
            got = decimate(series, Rule(None, how=how, max_bytes=max_bytes))
            assert len(got.to_json()) <= max_bytes
            check(rows_of(series), {"max_samples": None, "how": how, "max_bytes": max_bytes}, series)


def test_names_that_are_escaped_weigh_as_written() -> None:
    """Each `<` in a name is six bytes of the text, each `é` two."""
    series = StatSeries([i * SECOND for i in range(9)], {'<é\n"\x01&': range(9)})
    for max_bytes in range(60, len(series.to_json()) + 1, 5):
        check(rows_of(series), {"max_samples": None, "max_bytes": max_bytes}, series)


@pytest.mark.parametrize("metrics", [{}, {"x": [None] * 8 + [1]}, {"x": [7, *[None] * 8]}, {"x": [1] * 9, "y": [None] * 8 + [1]}])
def test_rows_without_metrics_weigh_as_written(metrics: dict[str, list[int | None]]) -> None:
    """A row has its braces whether or not it has metrics, and commas only between them."""
    series = StatSeries([i * SECOND for i in range(9)], metrics)
    for max_bytes in range(50, len(series.to_json()) + 2):
        check(rows_of(series), {"max_samples": None, "max_bytes": max_bytes}, series)


def test_the_budget_in_a_batch() -> None:
    """Each member finds its own k."""
    members = [uneven(n) for n in (0, 1, 5, 60)] + [StatSeries([0, 1], {"y": [None, 2]})]
    got = decimate(StatBatch(members), 40, max_bytes=400)
    assert list(got) == [decimate(series, 40, max_bytes=400) for series in members]


def test_fn_at_its_largest_fits_mysqls_text() -> None:
    """240 points of nine metrics at 2**64 - 1 take 82,802 bytes; 65,535 hold fewer rows, the most that fit."""
    names = ["cpu_total", "cpu_user", "cpu_kernel", "mem_usage", "mem_limit", "net_rx", "net_tx", "disk_read", "disk_write"]
    rows = [(EPOCH + i * SECOND, dict.fromkeys(names, 2**64 - 1), 1) for i in range(240)]
    series = series_of(rows)
    assert len(series.to_json()) == 82_802
    got = decimate(series, max_bytes=65_535)
    assert rows_of(got) == fitted(rows, 240, max_bytes=65_535)
    assert len(got.to_json()) <= 65_535


# --- the call ---------------------------------------------------------------------------------------------------------


def test_fields_build_the_rule() -> None:
    """A number, fields or a Rule say the same."""
    series = uneven(60)
    want = decimate(series, Rule(12, ("mean", "max"), "zero", 3000))
    assert decimate(series, 12, how=("mean", "max"), missing="zero", max_bytes=3000) == want
    assert decimate(uneven(700)) == decimate(uneven(700), Rule()) == decimate(uneven(700), 240)


def test_a_number_of_rows_and_keywords() -> None:
    """A number and keywords make the rule; None as the number is no limit."""
    series = uneven(60)
    assert decimate(series, 12, how="max", missing="zero") == decimate(series, Rule(12, "max", "zero"))
    assert decimate(series, rule=12, max_bytes=900) == decimate(series, Rule(12, max_bytes=900))
    assert decimate(series, None) == series


@pytest.mark.parametrize("fields", [{"how": "median"}, {"missing": "nan"}, {"max_bytes": -1}, {"rule": 1.5}])
def test_a_bad_rule_is_refused(fields: dict[str, Any]) -> None:
    """A bad field is a CallstatsError, whatever the series."""
    with pytest.raises(CallstatsError):
        decimate(StatSeries([], {}), **fields)


@pytest.mark.parametrize("rule", ["60", 1.5, True, object()])
def test_what_is_no_rule_is_refused(rule: Any) -> None:
    """A rule is a Rule or a whole number."""
    with pytest.raises((CallstatsError, TypeError)):
        decimate(uneven(9), rule)


def test_an_unknown_field_is_refused() -> None:
    """No keyword sinks without a word."""
    with pytest.raises((CallstatsError, TypeError), match="max_rows"):
        decimate(uneven(9), max_rows=5)


@pytest.mark.parametrize("x", [None, [1, 2], np.arange(5), [uneven(3)]])
def test_what_is_no_series_is_refused(x: Any) -> None:
    """Only a series or a batch can be reduced."""
    with pytest.raises((CallstatsError, TypeError)):
        decimate(x, 1)


@pytest.mark.parametrize("rule", RULES)
def test_the_series_is_left_alone(rule: str) -> None:
    """The input holds what it held."""
    rows = [(i * SECOND, {"x": i, "mem_usage": 2 * i}, 1) for i in range(300)]
    series = series_of(rows)
    got = decimate(series, Rule(**RULES[rule]))
    assert rows_of(series) == rows
    assert all(type(value) is int for stat in got for value in (stat.timestamp, *stat.metrics.values()))


@pytest.mark.parametrize("x", [uneven(300), StatSeries(range(300), {"x": [7, *[None] * 299]}), StatSeries([], {})])
@pytest.mark.parametrize("max_samples", [0, 10, 299])
def test_the_arrays_of_a_result_are_read_only(x: StatSeries, max_samples: int) -> None:
    """No array of a reduced series, or of a reduced batch, can be written to."""
    for got in (decimate(x, max_samples), decimate(StatBatch([x, x]), max_samples)):
        assert not any(
            array.flags.writeable for array in (got.timestamps, got.values, got.present, got.counts) if array is not None
        )


def test_extra_memory_is_that_of_the_output() -> None:
    """A span of a year to many rows makes no bins for the empty time between."""
    n = 200_000
    series = StatSeries(np.concatenate([np.arange(n - 1), [365 * 86400 * SECOND]]), {"x": np.arange(n)})
    decimate(series, 10)
    tracemalloc.start()
    got = decimate(series, n - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [count for _, _, count in rows_of(got)] == [n - 1, 1]
    assert peak < 64 * n  # a few arrays of the input's length at most


def test_threads_share_a_series() -> None:
    """Many threads reduce one series at once, each as if alone."""
    series = uneven(5000)
    want = decimate(series, 60, how=("mean", "max"))
    got: list[StatSeries] = []
    threads = [threading.Thread(target=lambda: got.append(decimate(series, 60, how=("mean", "max")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert all(one == want for one in got)
