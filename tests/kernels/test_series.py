"""StatSeries, Stat and StatBatch: what they take, what they refuse, what they give."""

from __future__ import annotations

import array
import contextlib
import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from callstats import CallstatsError, SeriesError, Stat, StatBatch, StatSeries
from support.reference import TIME_MAX, TIME_MIN
from support.zoo import EPOCH, Item, rows_of, series_of, zoo

pytestmark = pytest.mark.usefixtures("backend")

ZOO = zoo()
NAN = float("nan")


def masked(values: list[Any], mask: list[bool], dtype: Any = None) -> np.ma.MaskedArray:
    return np.ma.array(values, mask=mask, dtype=dtype)


# --- what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_every_input_of_the_zoo_is_held_exactly(item: Item) -> None:
    """Whatever type and layout the values come in, the series holds them to the bit."""
    assert rows_of(item.series()) == item.rows


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_arrays_are_plain(item: Item) -> None:
    """The block is C-contiguous uint64, times are int64, presence is bool or None, and all are read-only."""
    series = item.series()
    k, n = len(series.names), len(item.rows)
    assert len(series) == n
    assert series.names == tuple(sorted({name for _, metrics, _ in item.rows for name in metrics}))
    assert series.timestamps.dtype == np.dtype("int64") and series.timestamps.shape == (n,)
    assert series.values.dtype == np.dtype("uint64") and series.values.shape == (k, n) and series.values.flags.c_contiguous
    held = [series.timestamps, series.values]
    if series.present is not None:
        assert series.present.dtype == np.dtype("bool") and series.present.shape == (k, n)
        assert not series.values[~series.present].any()
        held.append(series.present)
    assert series.counts.dtype == np.dtype("int64") and series.counts.shape == (n,)
    held.append(series.counts)
    assert all(type(one) is np.ndarray for one in held)
    for one in held:
        assert not one.flags.writeable
        assert one.dtype.isnative and one.flags.aligned


@pytest.mark.parametrize(
    "item", [item for item in ZOO if item.name.startswith(("layout", "type", "holes-masked"))], ids=lambda item: item.name
)
def test_the_input_is_copied_and_left_alone(item: Item) -> None:
    """Nothing of the caller's is written to, and the series shares no memory with it."""
    given = [item.timestamps, item.counts, *item.metrics.values()]
    before = copy.deepcopy(given)
    series = item.series()
    for one, old in zip(given, before, strict=True):
        if isinstance(one, np.ndarray):
            assert one.tobytes() == old.tobytes() and one.dtype == old.dtype
            for held in (series.timestamps, series.values, series.present, series.counts):
                assert held is None or not np.shares_memory(held, one)


def test_lists_never_go_through_float() -> None:
    """A list of mixed magnitudes, with holes, is read as Python ints."""
    series = StatSeries([0, 1, 2], {"x": [2**53 + 1, None, 2**64 - 1], "y": [None, 2**63, 0]})
    assert [stat.metrics for stat in series] == [{"x": 2**53 + 1}, {"y": 2**63}, {"x": 2**64 - 1, "y": 0}]
    assert list(StatSeries([2**53 + 1, 2**62 + 1], {}).timestamps.tolist()) == [2**53 + 1, 2**62 + 1]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param((1, 2, 3), id="tuple"),
        pytest.param(range(1, 4), id="range"),
        pytest.param(array.array("Q", [1, 2, 3]), id="array-Q"),
        pytest.param(array.array("b", [1, 2, 3]), id="array-b"),
        pytest.param(memoryview(array.array("I", [1, 2, 3])), id="memoryview"),
        pytest.param(memoryview(bytes([1, 9, 2, 9, 3]))[::2], id="memoryview-strided"),
        pytest.param(np.array([1, 2, 3], dtype=object), id="object-array"),
        pytest.param([np.uint64(1), np.int8(2), 3], id="numpy-scalars"),
        pytest.param([1.0, 2, np.float32(3)], id="whole-floats-in-a-list"),
        pytest.param(np.array([1, 2, 3], dtype=np.longdouble), id="longdouble"),
        pytest.param(masked([1, 2, 3], [False] * 3), id="masked-nowhere"),
        pytest.param(np.ma.array([1, 2, 3]), id="no-mask"),
    ],
)
def test_sequences_of_every_kind(values: Any) -> None:
    """Tuples, ranges, buffers, object arrays and whole floats are values like any other."""
    assert StatSeries([0, 1, 2], {"x": values}).values.tolist() == [[1, 2, 3]]
    assert StatSeries(np.arange(3), {"x": [1, 2, 3]}, counts=values) == StatSeries([0, 1, 2], {"x": [1, 2, 3]}, counts=[1, 2, 3])
    assert StatSeries(values, {"x": [1, 2, 3]}) == StatSeries([1, 2, 3], {"x": [1, 2, 3]})


def test_whole_floats_below_2_53() -> None:
    """The largest float taken is 2**53 - 1."""
    assert StatSeries([0], {"x": np.array([2.0**53 - 1])}).values.tolist() == [[2**53 - 1]]
    assert StatSeries(np.array([-(2.0**53) + 1]), {}).timestamps.tolist() == [-(2**53) + 1]


def test_masked_values_are_absent_whatever_lies_under_the_mask() -> None:
    """A value under the mask may be anything; it is absent, and stored as 0."""
    for under in (
        masked([1, -5, 3], [False, True, False]),
        masked([1, NAN, 3], [False, True, False], float),
        masked([1, "x", 3], [False, True, False], object),
        masked([1, None, 3], [False, False, False], object),
        masked([1, None, 3], [False, True, False], object),
    ):
        series = StatSeries([0, 1, 2], {"x": under})
        assert series.values.tolist() == [[1, 0, 3]]
        assert series.present is not None and series.present.tolist() == [[True, False, True]]
    both = StatSeries([0, 1, 2], {"x": masked([1, None, 3], [True, False, False], object)})
    assert [stat.metrics for stat in both] == [{}, {}, {"x": 3}]


def test_presence_is_none_when_nothing_is_absent() -> None:
    """A full block needs no presence, and None values in full columns leave none behind."""
    assert StatSeries([0, 1], {"x": [1, 2], "y": [3, 4]}).present is None
    assert StatSeries([0, 1], {"x": masked([1, 2], [False, False])}).present is None
    assert StatSeries([0, 1], {"x": [1, 2], "gone": [None, None]}).present is None


def test_a_metric_that_no_row_has_is_dropped() -> None:
    """All-absent columns vanish, in the constructor and in a slice."""
    series = StatSeries([0, 1], {"gone": [None, None], "x": [1, None], "all-masked": masked([1, 2], [True, True])})
    assert series.names == ("x",)
    assert series[1:].names == ()
    assert series[1:] == StatSeries([1], {})
    assert StatSeries([], {"x": []}).names == ()


@pytest.mark.parametrize(
    ("unit", "number", "ns"),
    [
        ("Y", 47, 1_483_228_800 * 10**9),
        ("M", -1, -31 * 86400 * 10**9),
        ("W", 1, 7 * 86400 * 10**9),
        ("D", -1, -86400 * 10**9),
        ("h", 1, 3600 * 10**9),
        ("m", 1, 60 * 10**9),
        ("s", 9_223_372_036, 9_223_372_036 * 10**9),
        ("25s", 3, 75 * 10**9),
        ("ms", -9_223_372_036_854, TIME_MIN),
        ("us", 9_223_372_036_854_775, 9_223_372_036_854_775_000),
        ("ns", TIME_MAX, TIME_MAX),
        ("ps", -2000, -2),
        ("fs", 3_000_000, 3),
        ("as", 9 * 10**9, 9),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_datetime64_of_every_unit(unit: str, number: int, ns: int, order: str) -> None:
    """datetime64 of any unit, in either byte order, becomes whole nanoseconds."""
    times = np.array([number], dtype="i8").view(f"M8[{unit}]").astype(f"{order}M8[{unit}]")
    assert StatSeries([*times], {}).timestamps.tolist() == StatSeries.from_samples([(times[0], {})]).timestamps.tolist() == [ns]
    assert StatSeries(times, {"x": [1]}).timestamps.tolist() == [ns]


def test_the_ends_of_time() -> None:
    """Times run from the first whole millisecond to 2**63 - 1."""
    assert StatSeries([TIME_MIN, TIME_MAX], {}).timestamps.tolist() == [TIME_MIN, TIME_MAX]
    assert StatSeries(np.array([TIME_MAX], dtype=np.uint64), {}).timestamps.tolist() == [TIME_MAX]


@pytest.mark.parametrize("name", ["", " ", "a.b", "x@max", "@", "é", "\U0001f600", "\x00", "\uffff", "*"])
def test_any_text_is_a_name(name: str) -> None:
    """A name is any text that encodes to UTF-8, the empty one too."""
    series = StatSeries([0], {name: [1]})
    assert series.names == (name,) and series[name].tolist() == [1]


def test_names_are_sorted_bytewise() -> None:
    """The order of the names is that of their UTF-8 bytes, so no UTF-16 order and no locale."""
    names = ["b", "a", "B", "é", "\uffff", "\U0001f600", "a@max", "aa"]
    series = StatSeries([0], {name: [i] for i, name in enumerate(names)})
    assert series.names == tuple(sorted(names, key=str.encode))
    assert all(series[name].tolist() == [i] for i, name in enumerate(names))


# --- what is refused --------------------------------------------------------------------------------------------------

BAD_VALUES = {
    "negative": ([1, -1, 3], ("[1]", "-1")),
    "negative-array": (np.array([1, 2, -3]), ("[2]", "-3")),
    "negative-int8": (np.array([1, -128, 2], dtype="i1"), ("[1]", "-128")),
    "negative-zero-is-first-fault": ([-7, -8, 1], ("[0]", "-7")),
    "fraction": ([1, 1.5, 2], ("[1]", "1.5")),
    "fraction-array": (np.array([1, 2, 2.25]), ("[2]", "2.25")),
    "nan": ([1, NAN, 2], ("[1]", "nan")),
    "nan-array": (np.array([NAN, 1, 2]), ("[0]", "nan")),
    "infinite": (np.array([1, 2, np.inf]), ("[2]", "inf")),
    "minus-infinite": ([1, -np.inf, 2], ("[1]", "-inf")),
    "float16-nan": (np.array([1, NAN, 2], dtype="f2"), ("[1]", "nan")),
    "2-to-64": ([1, 2**64, 2], ("[1]", "18446744073709551616")),
    "2-to-64-in-an-object-array": (np.array([1, 2, 2**64], dtype=object), ("[2]", "18446744073709551616")),
    "huge": ([1, 10**5000, 2], ("[1]",)),
    "float-2-53": (np.array([1, 2.0**53, 2]), ("[1]",)),
    "float-in-list-2-53": ([1, 2.0**53, 2], ("[1]",)),
    "float-1e300": ([1, 2, 1e300], ("[2]", "1e+300")),
    "float-negative": (np.array([1.0, -1.0, 2.0]), ("[1]", "-1")),
    "bool": ([1, True, 2], ("[1]", "True")),
    "bool-array": (np.array([True, False, True]), ("[0]", "True")),
    "numpy-bool": ([1, 2, np.True_], ("[2]", "True")),
    "text": ([1, "2", 3], ("[1]", "2")),
    "text-array": (np.array(["1", "2", "3"]), ("[0]", "'1'")),
    "bytes-array": (np.array([b"1", b"2", b"3"]), ("[0]", "b'1'")),
    "text-alone": ("123", ("sequence of whole numbers", "'123'")),
    "bytes-alone": (b"123", ("sequence of whole numbers", "b'123'")),
    "complex": (np.array([1j, 2, 3]), ("[0]", "1j")),
    "complex-in-list": ([1, 2, 3j], ("[2]",)),
    "fractions": ([1, Fraction(1, 2), 2], ("[1]",)),
    "datetime64": (np.array([1, 2, 3], dtype="M8[s]"), ("[0]", "1970-01-01T00:00:01")),
    "timedelta64": (np.array([1, 2, 3], dtype="m8[s]"), ("[0]", "seconds=1")),
    "structured": (np.zeros(3, dtype=[("a", "i8")]), ("[0]", "(0,)")),
    "list-inside": ([1, [2], 3], ("[1]",)),
    "object": ([1, object(), 3], ("[1]",)),
    "2-d": ([[1, 2, 3]], ("[0]", "[1, 2, 3]")),
    "2-d-array": (np.ones((3, 1), dtype=int), ("must have one dimension, got 2",)),
    "2-d-ragged": ([[1], [1, 2], 3], ("[0]", "[1]")),
    "scalar": (5, ("sequence of whole numbers, got 5",)),
    "0-d": (np.array(5), ("must have one dimension, got 0",)),
    "nothing": (None, ("sequence of whole numbers, got None",)),
    "too-short": ([1, 2], ("2", "3")),
    "too-long": (np.arange(4), ("4", "3")),
    "masked-negative": (masked([1, -2, -3], [False, True, False]), ("[2]", "-3")),
    "masked-nan": (masked([1, NAN, NAN], [False, True, False]), ("[2]", "nan")),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values_are_refused(case: str) -> None:
    """A bad value is a SeriesError in one line that names the metric, the index and the value."""
    values, pieces = BAD_VALUES[case]
    with pytest.raises(SeriesError) as caught:
        StatSeries([0, 1, 2], {"good": [1, 2, 3], "mem_usage": values})
    message = str(caught.value)
    for piece in ("mem_usage", *pieces):
        assert piece in message
    assert "\n" not in message and len(message) < 500


def test_the_error_is_a_value_error() -> None:
    """Every error is a CallstatsError and a ValueError."""
    with pytest.raises(ValueError, match="x") as caught:
        StatSeries([0], {"x": [-1]})
    assert isinstance(caught.value, CallstatsError)


BAD_TIMES = {
    "fraction": ([0, 1.5, 2], ("[1]", "1.5")),
    "nan": (np.array([0, NAN, 2]), ("[1]", "nan")),
    "none": ([0, None, 2], ("[1]", "None")),
    "masked": (masked([0, 1, 2], [False, True, False]), ("[1]",)),
    "bool": ([0, True, 2], ("[1]", "True")),
    "text": (["2017-11-27T14:52:53Z"] * 3, ("[0]",)),
    "too-early": ([TIME_MIN - 1, 0, 1], ("[0]", str(TIME_MIN - 1))),
    "too-early-array": (np.array([TIME_MIN - 1, 0, 1]), ("[0]", str(TIME_MIN - 1))),
    "int64-min": (np.array([-(2**63), 0, 1]), ("[0]", str(-(2**63)))),
    "too-late": ([0, 1, 2**63], ("[2]", str(2**63))),
    "too-late-array": (np.array([0, 1, 2**63], dtype=np.uint64), ("[2]", str(2**63))),
    "float-2-53": (np.array([0, 1, 2.0**53]), ("[2]",)),
    "float-beyond-int64": (np.array([0, 1, 1e19]), ("[2]",)),
    "goes-back": ([0, 2, 1], ("timestamps[2]", "timestamps[1]")),
    "goes-back-twice": ([5, 4, 3], ("timestamps[1]",)),
    "goes-back-unsigned": (np.array([5, 4, 6], dtype=np.uint64), ("timestamps[1]",)),
    "goes-back-across-zero": ([2**62, -(2**62), 0], ("timestamps[1]",)),
    "nat": (np.array([0, "NaT", 2], dtype="M8[ns]"), ("[1]", "NaT")),
    "nat-days": (np.array(["NaT", "2017-01-01", "2017-01-02"], dtype="M8[D]"), ("[0]", "NaT")),
    "year-1-days": (np.array(["0001-01-01", "2017-01-01", "2017-01-02"], dtype="M8[D]"), ("[0]", "0001-01-01")),
    "year-1-years": (np.array(["0001", "2017", "2018"], dtype="M8[Y]"), ("[0]", "0001")),
    "year-1-seconds": (np.array(["0001-01-01T00:00:00", "2017-01-01", "2017-01-02"], dtype="M8[s]"), ("[0]", "0001-01-01")),
    "year-9999-months": (np.array(["2017-01", "2017-02", "9999-12"], dtype="M8[M]"), ("[2]", "9999-12")),
    "ns-too-early": (np.array([TIME_MIN - 1, 0, 1]).view("M8[ns]"), ("[0]",)),
    "ms-too-early": (np.array([-9_223_372_036_855, 0, 1]).view("M8[ms]"), ("[0]",)),
    "us-too-late": (np.array([0, 1, 9_223_372_036_854_776]).view("M8[us]"), ("[2]",)),
    "years-beyond-int64": (np.array([0, 1, 2**62]).view("M8[Y]"), ("[2]",)),
    "weeks-that-wrap-to-a-good-time": (np.array([0, 1, 2**64 // 604800 // 10**9 + 1]).view("M8[W]"), ("[2]",)),
    "25-seconds-beyond": (np.array([0, 1, 2**60]).view("M8[25s]"), ("[2]",)),
    "part-of-a-ns": (np.array([0, 1500, 2000]).view("M8[ps]"), ("[1]",)),
    "attoseconds": (np.array([0, 1, 2]).view("M8[as]"), ("[1]",)),
    "datetime64-goes-back": (np.array([5, 4, 6]).view("M8[s]"), ("timestamps[1]",)),
    "timedelta64": (np.array([0, 1, 2]).view("m8[ns]"), ("[0]", "nanoseconds from")),
    "2-d": ([[0, 1, 2]], ("[0]", "[0, 1, 2]")),
    "scalar": (0, ("sequence of whole numbers, got 0",)),
    "nothing": (None, ("sequence of whole numbers, got None",)),
    "too-short": ([0, 1], ("2", "3")),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_bad_times_are_refused(case: str) -> None:
    """A bad time is a SeriesError that names the place and the value, before any silent conversion."""
    times, pieces = BAD_TIMES[case]
    with pytest.raises(SeriesError) as caught:
        StatSeries(times, {"x": [1, 2, 3]})
    for piece in pieces:
        assert piece in str(caught.value)
    assert "\n" not in str(caught.value)


def test_going_back_names_both_times() -> None:
    """The message shows the two times of the first step back."""
    with pytest.raises(SeriesError, match=r"timestamps\[3\]=5 .*timestamps\[2\]=9\b"):
        StatSeries([1, 1, 9, 5, 4], {"x": [0] * 5})


BAD_COUNTS = {
    "zero": ([1, 0, 1], ("[1]", "0")),
    "negative": ([1, 1, -1], ("[2]", "-1")),
    "fraction": ([1, 1.5, 1], ("[1]", "1.5")),
    "nan": (np.array([1, NAN, 1]), ("[1]", "nan")),
    "none": ([1, None, 1], ("[1]", "None")),
    "masked": (masked([1, 1, 1], [False, False, True]), ("[2]",)),
    "bool": ([1, True, 1], ("[1]", "True")),
    "bool-array": (np.array([True] * 3), ("[0]", "True")),
    "text": ([1, "1", 1], ("[1]",)),
    "2-to-63": ([1, 1, 2**63], ("[2]", "got 9223372036854775808")),
    "2-to-64": ([1, 1, 2**64], ("[2]", "got 18446744073709551616")),
    "total-2-to-63": ([2**62, 2**62, 1], ("total of at most 9223372036854775807, got 9223372036854775809",)),
    "total-2-to-63-array": (
        np.array([2**63 - 2, 1, 1], dtype=np.uint64),
        ("total of at most 9223372036854775807, got 9223372036854775808",),
    ),
    "total-wraps-to-a-good-one": (np.array([2**63 - 1, 2**63 - 1, 5], dtype=np.int64), ("got 18446744073709551619",)),
    "too-short": ([1, 1], ("2", "3")),
    "2-d": ([[1, 1, 1]], ("[0]", "[1, 1, 1]")),
    "scalar": (1, ("sequence of whole numbers, got 1",)),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_bad_counts_are_refused(case: str) -> None:
    """Counts are whole numbers from 1, one a row, and their total is within int64."""
    counts, pieces = BAD_COUNTS[case]
    with pytest.raises(SeriesError) as caught:
        StatSeries([0, 1, 2], {"x": [1, 2, 3]}, counts=counts)
    for piece in ("count", *pieces):
        assert piece in str(caught.value)


def test_the_largest_total_of_counts() -> None:
    """A total of 2**63 - 1 is within int64."""
    assert rows_of(StatSeries([0, 1], {}, counts=[2**63 - 2, 1])) == [(0, {}, 2**63 - 2), (1, {}, 1)]


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", 5, b"x", None, ("x",)])
def test_bad_names_are_refused(name: Any) -> None:
    """A name that is no text, or does not encode to UTF-8, is a SeriesError whose message can be printed."""
    with pytest.raises(SeriesError) as caught:
        StatSeries([0], {"x": [1], name: [1]})
    str(caught.value).encode()


@pytest.mark.parametrize("metrics", [None, [("x", [1])], "x", 5])
def test_metrics_that_are_no_mapping_are_refused(metrics: Any) -> None:
    """Metrics are a mapping."""
    with pytest.raises(SeriesError):
        StatSeries([0], metrics)


def test_counts_and_sort_are_by_keyword_only() -> None:
    """The third argument has to be named."""
    with pytest.raises(TypeError):
        StatSeries([0], {}, [1])  # type: ignore[misc]


# --- sort -------------------------------------------------------------------------------------------------------------


def test_sort_is_stable_and_moves_whole_rows() -> None:
    """Rows of equal times keep their order; values, holes and counts move along."""
    series = StatSeries(
        [3, 1, 3, 2, 1], {"x": [0, 1, 2, None, 4], "y": [None, 5, None, None, 6]}, counts=[1, 2, 3, 4, 5], sort=True
    )
    assert rows_of(series) == [(1, {"x": 1, "y": 5}, 2), (1, {"x": 4, "y": 6}, 5), (2, {}, 4), (3, {"x": 0}, 1), (3, {"x": 2}, 3)]


def test_sort_leaves_the_input_alone() -> None:
    """The caller's arrays stay in their order."""
    times, values = np.array([2, 1, 0]), np.array([7, 8, 9])
    assert StatSeries(times, {"x": values}, sort=True).values.tolist() == [[9, 8, 7]]
    assert times.tolist() == [2, 1, 0] and values.tolist() == [7, 8, 9]


def test_sort_of_a_long_series_is_stable() -> None:
    """Stable for thousands of ties, where an unstable sort would show."""
    series = StatSeries([i % 3 for i in range(3000)], {"x": list(range(3000))}, sort=True)
    assert series.values.tolist() == [[i for rest in range(3) for i in range(rest, 3000, 3)]]


# --- what a series can do ---------------------------------------------------------------------------------------------


def test_a_row_of_the_block_by_name() -> None:
    """`series["x"]` is an array, or a masked array where x has holes; a metric it lacks is a KeyError."""
    series = StatSeries([0, 1, 2], {"x": [1, None, 3], "y": [4, 5, 6]})
    assert type(series["y"]) is np.ndarray and series["y"].tolist() == [4, 5, 6] and series["y"].dtype == np.uint64
    assert isinstance(series["x"], np.ma.MaskedArray) and series["x"].tolist() == [1, None, 3] and series["x"].dtype == np.uint64
    with pytest.raises(KeyError):
        series["z"]


def test_a_row_cannot_be_used_to_change_the_series() -> None:
    """Writing to what `series["x"]` gives never reaches the series."""
    series = StatSeries([0, 1], {"x": [1, None], "y": [4, 5]})
    before = rows_of(series)
    for name in series.names:
        row = series[name]
        for write in (lambda row=row: row.__setitem__(0, 9), lambda row=row: row.__setitem__(1, 9)):
            with contextlib.suppress(ValueError):
                write()
    assert rows_of(series) == before


@pytest.mark.parametrize("attribute", ["timestamps", "values", "present", "counts"])
def test_arrays_refuse_to_be_written(attribute: str) -> None:
    """The arrays handed out are read-only, and the attributes can't be set."""
    series = StatSeries([0, 1], {"x": [1, None]}, counts=[2, 3])
    with pytest.raises(ValueError, match="read-only"):
        getattr(series, attribute)[..., 0] = 1
    with pytest.raises(AttributeError):
        setattr(series, attribute, None)


@pytest.mark.parametrize(
    "part", [slice(None), slice(2, 5), slice(-3, None), slice(None, -7), slice(5, 2), slice(100, 200), slice(0, 1)]
)
def test_slices_go_by_position(part: slice) -> None:
    """A slice holds the rows of those positions, with their counts and holes."""
    rows = [(i * 10, {"x": i, **({"y": i * i} if i % 3 else {})}, i + 1) for i in range(9)]
    assert rows_of(series_of(rows)[part]) == rows[part]
    assert series_of(rows)[part] == series_of(rows[part])


def test_iteration_yields_stats_of_python_ints() -> None:
    """Each row is a Stat of a Python int and a plain dict, absent metrics left out."""
    series = StatSeries(np.array([5, 6]), {"b": [1, None], "a": np.array([2, 2**64 - 1], dtype=np.uint64)}, counts=[1, 9])
    stats = list(series)
    assert stats == [Stat(5, {"a": 2, "b": 1}), Stat(6, {"a": 2**64 - 1})]
    assert (stats[0].timestamp, stats[0].metrics) == (5, {"a": 2, "b": 1})
    assert list(series) == stats
    for stat in stats:
        assert type(stat) is Stat and type(stat.timestamp) is int and type(stat.metrics) is dict
        assert all(type(value) is int for value in stat.metrics.values())


def test_equality_is_by_value() -> None:
    """Two series are equal when times, names, values, presence and counts are, however they came in."""
    one = StatSeries([0, 1], {"x": [1, None], "y": [0, 2]})
    assert one == StatSeries(np.array([0, 1], dtype="M8[ns]"), {"y": np.array([0.0, 2.0]), "x": masked([1, 7], [False, True])})
    assert one == StatSeries([0, 1], {"x": [1, None], "y": [0, 2], "z": [None, None]}, counts=[1, 1])
    different = [
        StatSeries([0, 2], {"x": [1, None], "y": [0, 2]}),
        StatSeries([0, 1], {"x": [1, 0], "y": [0, 2]}),
        StatSeries([0, 1], {"x": [1, None], "y": [None, 2]}),
        StatSeries([0, 1], {"x": [1, None], "z": [0, 2]}),
        StatSeries([0, 1], {"x": [1, None], "y": [0, 2]}, counts=[1, 2]),
        StatSeries([0], {"x": [1], "y": [0]}),
        StatSeries([], {}),
    ]
    assert all(one != other and one != other for other in different)
    assert one != [Stat(0, {"x": 1, "y": 0}), Stat(1, {"y": 2})] and one != 5 and one != None  # noqa: E711 - the operator is under test
    assert StatSeries([], {}) == StatSeries([], {"x": []})


def test_no_hash() -> None:
    """A series can't be a key."""
    with pytest.raises(TypeError):
        hash(StatSeries([0], {"x": [1]}))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int) -> None:
    """A pickled series comes back equal, its arrays read-only as before."""
    series = StatSeries([0, 1], {"x": [1, None], "é": [2**64 - 1, 0]}, counts=[1, 5])
    back = pickle.loads(pickle.dumps(series, protocol))
    assert back == series and rows_of(back) == rows_of(series)
    for one in (back.timestamps, back.values, back.present, back.counts):
        assert not one.flags.writeable
    assert copy.deepcopy(series) == series == copy.copy(series)


def test_repr_is_short() -> None:
    """The repr names the class and stays short, however much the series holds."""
    big = StatSeries(range(5000), {f"a_rather_long_metric_name_{i}": range(5000) for i in range(50)})
    for series in (big, StatSeries([], {}), StatSeries([0], {"x": [1]})):
        assert "StatSeries" in repr(series)
        assert len(repr(series)) < 300 and "\n" not in repr(series)


@pytest.mark.parametrize(
    ("n", "shown"), [(1, "a"), (4, "a, b, c, d"), (5, "a, b, c, d and 1 more"), (6, "a, b, c, d and 2 more")]
)
def test_repr_names_four_metrics(n: int, shown: str) -> None:
    """The fifth metric and those after it are a number."""
    time = "1970-01-01T00:00:00.000Z"
    series = StatSeries([0], {name: [1] for name in "abcdef"[:n]})
    assert repr(series) == f"<StatSeries: 1 row of {shown}, {time} to {time}>"
    assert repr(StatBatch([series])) == f"<StatBatch: 1 series, 1 row of {shown}>"


def test_in_and_key_completion() -> None:
    """`in` tells whether a metric is there; a sample, or its index, is none. IPython completes the names."""
    series = StatSeries([0, 1], {"y": [1, None], "x@max": [2, 3], "gone": [None, None]})
    assert "y" in series and "x@max" in series
    assert "x" not in series and "gone" not in series and 0 not in series and series[0] not in series and [] not in series
    assert series._ipython_key_completions_() == ["x@max", "y"]


def test_rejected_values_are_one_line() -> None:
    """A value of many lines, or a long one, is one line of an error."""

    class Table:
        shape = (3, 2)

        def __repr__(self) -> str:
            return "   a  b\n0  1  2\n1  3  4"

    class Poem:
        def __repr__(self) -> str:
            return "one\n  two"

    for value, shown in ((Table(), "a Table of shape (3, 2)"), (Poem(), "one two"), ("x" * 999, f"'{'x' * 56}...")):
        with pytest.raises(SeriesError) as caught:
            StatSeries([0], value)  # type: ignore[arg-type]
        assert str(caught.value) == f"metrics must be a mapping of names to values, got {shown}"


def test_no_rows_and_no_metrics() -> None:
    """A series may have no rows, and rows without metrics."""
    assert len(StatSeries([], {})) == 0 and not list(StatSeries([], {}))
    assert list(StatSeries([5, 5], {})) == [Stat(5, {}), Stat(5, {})]
    assert StatSeries([5, 5], {}).values.shape == (0, 2)


# --- from_samples -----------------------------------------------------------------------------------------------------


def test_from_samples_of_ints() -> None:
    """Pairs of a time and a mapping, from any iterable; a metric that a sample lacks is absent there."""
    pairs = ((EPOCH + i, {"x": i} if i % 2 else {"x": i, "y": 2**64 - 1}) for i in range(4))
    series = StatSeries.from_samples(pairs)
    assert rows_of(series) == [(EPOCH + i, {"x": i} if i % 2 else {"x": i, "y": 2**64 - 1}, 1) for i in range(4)]
    assert StatSeries.from_samples([]) == StatSeries([], {})


def test_from_samples_none_is_absent() -> None:
    """None in a sample's mapping is an absent value."""
    assert rows_of(StatSeries.from_samples([(0, {"x": None, "y": 1}), (1, {"x": 2})])) == [(0, {"y": 1}, 1), (1, {"x": 2}, 1)]


@pytest.mark.parametrize(
    ("time", "ns"),
    [
        (datetime(2017, 11, 27, 14, 52, 53, 123457, tzinfo=UTC), 1_511_794_373_123_457_000),
        (datetime(2017, 11, 27, 20, 22, 53, tzinfo=timezone(timedelta(hours=5, minutes=30))), 1_511_794_373_000_000_000),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone(timedelta(seconds=1))), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1000),
        (datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC), 9_223_372_036_854_775_000),
        (datetime(1677, 9, 21, 0, 12, 43, 146000, tzinfo=UTC), TIME_MIN),
        ("2017-11-27T14:52:53.123456789Z", 1_511_794_373_123_456_789),
        ("2017-11-27t14:52:53z", 1_511_794_373_000_000_000),
        ("2017-11-27 08:52:53.5-06:00", 1_511_794_373_500_000_000),
        ("2262-04-11T23:47:16.854775807Z", TIME_MAX),
        (np.int64(5), 5),
    ],
)
def test_from_samples_times(time: Any, ns: int) -> None:
    """A time is int ns, an aware datetime or RFC 3339 text, all exact."""
    assert StatSeries.from_samples([(time, {"x": 1})]).timestamps.tolist() == [ns]


@pytest.mark.parametrize(
    "time",
    [
        datetime(2017, 11, 27),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1677, 9, 21, 0, 12, 43, 145999, tzinfo=UTC),
        datetime(2262, 4, 11, 23, 47, 16, 854776, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=timezone(timedelta(hours=-23))),
        "2017-11-27T14:52:53",
        "0001-01-01T00:00:00Z",
        "1677-09-21T00:12:43.145999999Z",
        "2017-11-27T14:52:60Z",
        "",
        "now",
        True,
        1.5,
        None,
        TIME_MIN - 1,
        2**63,
        b"2017-11-27T14:52:53Z",
    ],
)
def test_from_samples_bad_times(time: Any) -> None:
    """A naive datetime, a time out of range and whatever is no time are refused, naming the sample."""
    with pytest.raises(SeriesError, match=r"\[1\]"):
        StatSeries.from_samples([(0, {"x": 1}), (time, {"x": 1})])


@pytest.mark.parametrize("value", [-1, 1.5, NAN, 2**64, True, "5"])
def test_from_samples_bad_values(value: Any) -> None:
    """A bad value names metric, index and value, as in the constructor."""
    with pytest.raises(SeriesError, match=r"net_rx.*\[1\]"):
        StatSeries.from_samples([(0, {"net_rx": 1}), (1, {"net_rx": value})])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(0, {}), 5], "samples[1] must be a (timestamp, metrics) pair, got 5"),
        ([(0,)], "samples[0] must be a (timestamp, metrics) pair, got (0,)"),
        ([(0, {}, 1)], "samples[0] must be a (timestamp, metrics) pair, got (0, {}, 1)"),
        ([(0, {}), (1, [2])], "samples[1] must have a mapping of names to values, got [2]"),
        ([(0, {"x": 1}), (1, {"x": -1})], f"metrics['x'][1] must be a whole number from 0 to {2**64 - 1}, got -1"),
    ],
)
def test_from_samples_that_are_none(samples: Any, message: str) -> None:
    """The error names the sample."""
    with pytest.raises(SeriesError) as caught:
        StatSeries.from_samples(samples)
    assert str(caught.value) == message


def test_from_samples_order() -> None:
    """Times that go back are refused, unless sorted, and then stably."""
    samples = [(3, {"x": 1}), (1, {"x": 2}), (3, {"x": 3}), ("1970-01-01T00:00:00.000000001Z", {"x": 4})]
    with pytest.raises(SeriesError, match=r"timestamps\[1\]"):
        StatSeries.from_samples(samples)
    assert [stat.metrics["x"] for stat in StatSeries.from_samples(samples, sort=True)] == [2, 4, 1, 3]


# --- StatBatch --------------------------------------------------------------------------------------------------------


def test_a_batch_gives_its_members_back() -> None:
    """len, index and iteration give the series that went in, whatever their lengths and metrics."""
    members = [item.series() for item in ZOO]
    batch = StatBatch(iter(members))
    assert len(batch) == len(members)
    assert list(batch) == members
    assert [batch[i] for i in range(len(batch))] == members
    assert batch[-1] == members[-1] and type(batch[0]) is StatSeries
    assert [series.names for series in batch] == [series.names for series in members]
    assert [series.present is None for series in batch] == [series.present is None for series in members]


def test_an_empty_batch() -> None:
    """A batch may hold nothing, or series of nothing."""
    assert len(StatBatch([])) == 0 and list(StatBatch([])) == [] and StatBatch([]).to_json() == []
    assert list(StatBatch([StatSeries([], {})] * 2)) == [StatSeries([], {})] * 2


@pytest.mark.parametrize("index", [2, -3])
def test_a_batch_ends(index: int) -> None:
    """An index past either end is an IndexError."""
    with pytest.raises(IndexError):
        StatBatch([StatSeries([0], {})] * 2)[index]


def test_a_batch_and_stored_text() -> None:
    """`from_json` and `to_json` are those of the members, one by one."""
    members = [item.series() for item in ZOO]
    blobs = StatBatch(members).to_json()
    assert blobs == [series.to_json() for series in members] and all(type(blob) is bytes for blob in blobs)
    assert list(StatBatch.from_json(blobs)) == [StatSeries.from_json(blob) for blob in blobs]
    assert list(StatBatch.from_json([None, "", "[]", *blobs[:3]]))[3:] == [StatSeries.from_json(blob) for blob in blobs[:3]]


def test_a_batch_of_something_else_is_refused() -> None:
    """Only series go into a batch."""
    with pytest.raises((CallstatsError, TypeError)):
        StatBatch([StatSeries([0], {}), "x"])  # type: ignore[list-item]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_date_without_a_unit() -> None:
    """NaT of no unit is refused like any other; newer numpys warn of making it."""
    with pytest.raises(SeriesError, match=r"timestamps\[0\].*NaT"):
        StatSeries(np.array(["NaT"], dtype="M8"), {"x": [1]})
