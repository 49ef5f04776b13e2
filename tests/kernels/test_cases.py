"""Inputs from people who do this job, and the right result of each: one test for a case, or a few.

The numbers are those of the list of cases that the project was designed from. Statistics, drivers, databases and builds have
theirs in files of their own.
"""

from __future__ import annotations

import itertools
import json
import re
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from callstats import DecodeError, SeriesError, StatSeries, decimate, reduce_json
from support.reference import Row
from support.zoo import EPOCH, SECOND, rows_of

pytestmark = pytest.mark.usefixtures("backend")

T = 1_511_794_373 * SECOND
NO_LIMIT = [18446744073709551615, 9223372036854771712]


def seconds(*values: int | None, start: int = 0, name: str = "x") -> StatSeries:
    """One value a second."""
    return StatSeries([start + i * SECOND for i in range(len(values))], {name: list(values)})


def stored(metrics: str) -> str:
    """A blob of one row."""
    return f'[{{"timestamp":"2017-11-27T14:52:53.000Z","metrics":{metrics}}}]\n'


# --- 5: what means "no limit" -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", NO_LIMIT)
def test_5_no_limit_survives(limit: int) -> None:
    """The two numbers that mean no limit survive decode, mean and encode."""
    blob = stored(f'{{"mem_limit":{limit}}}')
    assert StatSeries.from_json(blob).to_db() == blob
    series = seconds(*[limit] * 9, start=T, name="mem_limit")
    (out,) = reduce_json([series.to_json()], 1, counts=False)
    assert out.decode() == blob.replace("53.000", "57.000")


# --- 9: times that go back --------------------------------------------------------------------------------------------

BACK = {
    "last-before-first": ([T, T + SECOND, T + 2 * SECOND, T - 5 * SECOND], 3),
    "neighbours-swapped": ([T, T + 2 * SECOND, T + SECOND, T + 3 * SECOND], 2),
    "up-and-down": ([T, T + SECOND, T + 2 * SECOND, T + SECOND, T], 3),
}


@pytest.mark.parametrize("case", BACK)
def test_9_times_that_go_back(case: str) -> None:
    """A clear error at every door, or with `sort=True` the sorted result; never a hang."""
    times, first = BACK[case]
    values = list(range(len(times)))
    order = sorted(values, key=lambda i: times[i])
    samples = [(moment, {"x": value}) for moment, value in zip(times, values, strict=True)]
    blob = json.dumps([{"timestamp": str(np.datetime64(moment, "ns")) + "Z", "metrics": metrics} for moment, metrics in samples])
    doors = {
        "constructor": lambda **sort: StatSeries(times, {"x": values}, **sort),
        "from_samples": lambda **sort: StatSeries.from_samples(samples, **sort),
        "from_json": lambda **sort: StatSeries.from_json(blob, **sort),
        "parsed": lambda **sort: StatSeries.from_json(json.loads(blob), **sort),
    }
    for door in doors.values():
        with pytest.raises((SeriesError, DecodeError), match=rf"\[{first}\]"):
            door()
        series = door(sort=True)
        assert series["x"].tolist() == order
        assert series.timestamps.tolist() == sorted(times)
    with pytest.raises(DecodeError, match=rf"^blobs\[0\]: \$\[{first}\]\.timestamp: "):
        reduce_json([blob], 2)
    assert reduce_json([blob], 2, sort=True) == [decimate(doors["constructor"](sort=True), 2).to_json()]


# --- 11: a call of under one second -----------------------------------------------------------------------------------


def test_11_no_sample_or_one() -> None:
    """Stored as no text, or as one row; a reduction leaves both alone."""
    assert decimate(StatSeries([], {}), 240).to_db() == ""
    one = seconds(7, start=T)
    assert decimate(one, 1) == one
    assert one.to_db() == stored('{"x":7}')
    assert reduce_json([b"", one.to_json()], 1) == [b"", one.to_json()]


# --- 12: holes in time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "sizes"), [(0, [10, 10]), (1, [10, 9, 1])])
def test_12_a_hole_of_ten_minutes(late: int, sizes: list[int]) -> None:
    """Two groups give two rows; a last sample 1 ns later gives a third, for the floored window's remainder."""
    times = [i * SECOND for i in range(10)] + [(599 + i) * SECOND for i in range(10)]
    times[-1] += late
    got = rows_of(decimate(StatSeries(times, {"x": range(20)}), 5))
    ends = np.cumsum([0, *sizes]).tolist()
    want: list[Row] = []
    for begin, end in itertools.pairwise(ends):
        want.append((sum(times[begin:end]) // (end - begin), {"x": sum(range(begin, end)) // (end - begin)}, end - begin))
    assert got == want


def test_12_two_samples_a_year_apart() -> None:
    """The memory is that of the samples, not that of the time between them."""
    series = StatSeries([0, 1, 365 * 86400 * SECOND], {"x": [1, 3, 9]})
    decimate(series, 2)
    tracemalloc.start()
    got = decimate(series, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows_of(got) == [(0, {"x": 2}, 2), (365 * 86400 * SECOND, {"x": 9}, 1)]
    assert peak < 100_000


# --- 13, 14: how many rows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [241, 480, 481, 700])
def test_13_every_sample_in_one_row(n: int) -> None:
    """Every sample is in exactly one row, and no more than 240 rows come out."""
    got = decimate(seconds(*range(n), start=T), 240, how={"x": ("first", "last")})
    assert len(got) <= 240
    firsts, lasts = got["x"].tolist(), [stat.metrics.get("x@last", stat.metrics["x"]) for stat in got]
    assert firsts[0] == 0
    assert lasts[-1] == n - 1
    assert [last + 1 for last in lasts[:-1]] == firsts[1:]
    assert [count for _, _, count in rows_of(got)] == [last - first + 1 for first, last in zip(firsts, lasts, strict=True)]


def test_14_more_rows_than_nanoseconds() -> None:
    """300 samples within 149 ns to 240: returns at once, with a row for each nanosecond."""
    series = StatSeries([T + i // 2 for i in range(300)], {"x": range(300)})
    begun = time.monotonic()
    got = decimate(series, 240)
    assert time.monotonic() - begun < 20
    assert [count for _, _, count in rows_of(got)] == [4, *[2] * 148]  # the first bin has both its ends


# --- 15: means of large numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([9223372036854771712] * 3, 9223372036854771712),
        ([2**64 - 1] * 2, 2**64 - 1),
        ([2**53 + 1] * 3, 9007199254740993),
        ([18446744073699999744, 4970, 4749, 4719, 4704], 3689348814740003777),
    ],
)
def test_15_exact_means(values: list[int], mean: int) -> None:
    """No wrap and no rounding, through text and back."""
    series = seconds(*values)
    assert decimate(series, 1)["x"].tolist() == [mean]
    assert StatSeries.from_json(reduce_json([series.to_json()], 1)[0])["x"].tolist() == [mean]


# --- 17, 31: peaks ----------------------------------------------------------------------------------------------------


def test_17_a_spike_in_an_hour() -> None:
    """The mean hides a spike of one second; its peak is kept, and survives two more reductions by means."""
    values = [0] * 3600
    values[1800] = 1500
    got = decimate(seconds(*values, name="cpu_total"), 240, how=("mean", "max"))
    assert max(got["cpu_total"].tolist()) == 100
    blob = got.to_json()
    for k in (60, 12):
        got = decimate(got, k)
        (blob,) = reduce_json([blob], k)
        for series in (got, StatSeries.from_json(blob)):
            assert len(series) <= k
            assert series["cpu_total@max"].max() == 1500


def test_31_a_lone_peak() -> None:
    """The lone row has no `@max` of its own, and its value is the peak all the same."""
    series = StatSeries([i * SECOND for i in (0, 1, 2, 3, 100)], {"x": [0, 0, 0, 0, 1500]})
    two = decimate(series, 2, how=("mean", "max"))
    assert rows_of(two) == [(1_500_000_000, {"x": 0, "x@max": 0}, 4), (100 * SECOND, {"x": 1500}, 1)]
    assert rows_of(decimate(two, 1)) == [(21_200_000_000, {"x": 300, "x@max": 1500}, 5)]


# --- 18: reductions of reductions -------------------------------------------------------------------------------------


def test_18_two_steps_with_counts() -> None:
    """With counts the second mean loses less than 1 a floor and the time nothing; without, it is a mean of means."""
    series = seconds(0, 0, 0, 0, 0, 0, 70)
    assert rows_of(decimate(series, 1)) == [(3 * SECOND, {"x": 10}, 7)]
    two = decimate(series, 2)
    assert rows_of(two) == [(1_500_000_000, {"x": 0}, 4), (5 * SECOND, {"x": 23}, 3)]
    assert rows_of(decimate(two, 1)) == [(3 * SECOND, {"x": 9}, 7)]
    forgotten = StatSeries(two.timestamps, {"x": two["x"]})
    assert decimate(forgotten, 1)["x"].tolist() == [11]


@pytest.mark.parametrize(("counts", "mean", "count"), [(True, 9, 7), (False, 11, 2)])
def test_18_two_steps_through_text(counts: bool, mean: int, count: int) -> None:
    """The same through stored text: 9 with counts, 11 without; a second run over stored rows changes nothing."""
    blob = seconds(0, 0, 0, 0, 0, 0, 70).to_json()
    (two,) = reduce_json([blob], 2, counts=counts)
    (one,) = reduce_json([two], 1)
    ((_, metrics, got),) = rows_of(StatSeries.from_json(one))
    assert (metrics, got) == ({"x": mean}, count)
    assert reduce_json([two], 2, counts=counts) == [two]
    assert reduce_json([one], 1) == [one]


# --- 20: absent values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missing", "y"), [("skip", 9), ("zero", 3)])
def test_20_a_metric_of_one_sample_in_three(missing: str, y: int) -> None:
    """Skipped, y is its one value; as Fn's rule has it, the others count as 0."""
    blob = json.dumps(
        [{"timestamp": f"1970-01-01T00:00:0{i}Z", "metrics": m} for i, m in enumerate([{"x": 30}, {"x": 30, "y": 9}, {"x": 30}])]
    )
    assert next(iter(decimate(StatSeries.from_json(blob), 1, missing=missing))).metrics == {"x": 30, "y": y}
    assert json.loads(reduce_json([blob], 1, missing=missing)[0])[0]["metrics"] == {"x": 30, "y": y}


def test_20_null_metrics() -> None:
    """A sample without metrics adds its time and its count, and takes nothing from the mean."""
    blob = '[{"timestamp":"1970-01-01T00:00:00Z","metrics":null},{"timestamp":"1970-01-01T00:00:02Z","metrics":{"x":30}}]'
    assert rows_of(decimate(StatSeries.from_json(blob), 1)) == [(SECOND, {"x": 30}, 2)]


# --- 21, 22: numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_21_numbers_that_are_none(word: str) -> None:
    """NaN, infinities and 1e999 are refused, naming place and value."""
    blob = stored(f'{{"a":{word}}}')
    with pytest.raises(DecodeError) as caught:
        StatSeries.from_json(blob)
    place, _, reason = str(caught.value).partition(": ")
    at = blob.index(word)
    if "e" in word:
        assert place == "$[0].metrics.a"
    else:
        assert place in (f"byte {at}", f"byte {at + word.count('-')}")  # at the minus or past it
    assert word.lstrip("-") in reason


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1.5])
def test_21_floats_that_are_no_counts(bad: float) -> None:
    """Float arrays with NaN, an infinity or a fraction are refused, naming metric, place and value."""
    with pytest.raises(SeriesError, match=rf"cpu_total.*\[1\].*{bad}"):
        StatSeries([0, 1, 2], {"cpu_total": np.array([1.0, bad, 2.0])})


def test_21_only_digits_are_written() -> None:
    """Whatever type the values came in, plain digits come out."""
    metrics: dict[str, Any] = {"a": np.array([1e15, 0.0]), "b": np.array([2**64 - 1, 1], dtype=np.uint64), "c": [10**19, None]}
    written = StatSeries([EPOCH, EPOCH + 1], metrics).to_db()
    assert re.fullmatch(r'\[(\{"timestamp":"[-:.TZ\d]+","metrics":\{("[abc]":\d+,?)+\}\},?)+\]\n', written)
    assert '"a":1000000000000000,' in written


def test_22_numbers_beyond_float_and_int64() -> None:
    """0 and 2**63 in one metric, and 2**53 + 1, are exact."""
    series = StatSeries.from_json(
        '[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":0,"y":9007199254740993}},'
        '{"timestamp":"1970-01-01T00:00:01Z","metrics":{"x":9223372036854775808}}]'
    )
    assert [stat.metrics for stat in series] == [{"x": 0, "y": 9007199254740993}, {"x": 9223372036854775808}]
    assert decimate(series, 1)["x"].tolist() == [2**62]


@pytest.mark.parametrize("digits", ["18446744073709551616", "9" * 5000, "-" + "9" * 5000])
def test_22_numbers_that_are_too_large(digits: str) -> None:
    """2**64 and an integer of 5000 digits are DecodeErrors at their path; Python's own limit does not leak."""
    with pytest.raises(DecodeError, match=r"^\$\[0\]\.metrics\.x: ") as caught:
        StatSeries.from_json(stored(f'{{"x":{digits}}}'))
    assert "4300" not in str(caught.value)
    assert reduce_json([stored(f'{{"x":{digits}}}')], errors="return")[0].path == "$[0].metrics.x"  # type: ignore[union-attr]


# --- 33: names --------------------------------------------------------------------------------------------------------


def test_33_only_the_mark_makes_a_peak() -> None:
    """`memory` and `memory.max` are two metrics, unrelated."""
    series = StatSeries([0, 1], {"memory": [1, 3], "memory.max": [100, 300]})
    assert next(iter(decimate(series, 1))).metrics == {"memory": 2, "memory.max": 200}
    assert next(iter(decimate(series, 1, how=("mean", "max")))).metrics == {
        "memory": 2,
        "memory@max": 3,
        "memory.max": 200,
        "memory.max@max": 300,
    }
