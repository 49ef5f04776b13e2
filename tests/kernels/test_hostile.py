"""Inputs that broke it once, or might: right results, clear refusals, and time and memory within bounds."""

from __future__ import annotations

import copy
import dataclasses
import re
import tracemalloc
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from time import process_time
from typing import Any

import numpy as np
import pytest

from callstats import BudgetError, CallstatsError, DecodeError, Rule, SeriesError, StatBatch, StatSeries, decimate, reduce_json
from callstats._timestamps import parse_time
from callstats.batch import decode_buffer
from callstats.reduce import reduce_buffer
from callstats.stats.calls import CallScalars
from support.routes import decoded_differently, disagreements

pytestmark = pytest.mark.usefixtures("backend")

GOOD = b'{"timestamp":"2017-11-27T14:52:53.000Z","metrics":{"x":1}}'


@pytest.mark.parametrize("byte", [0, 255, 48, 32], ids=hex)
@pytest.mark.parametrize("n", [8, 16, 24])
@pytest.mark.parametrize("before", [b"", GOOD + b","], ids=["first", "second"])
def test_runs_of_one_byte_are_no_time(byte: int, n: int, before: bytes) -> None:
    """A time of sixteen equal bytes is refused by both readers, whatever was read before."""
    blob = b"[" + before + b'{"timestamp":"' + bytes([byte]) * n + b':05Z","metrics":{"x":1}}]'
    with pytest.raises(DecodeError):
        StatSeries.from_json(blob)
    [result] = reduce_json([blob], 1, errors="return")
    assert isinstance(result, DecodeError)
    assert disagreements([blob, b"[" + GOOD + b"]"], rule=1) == []
    assert decoded_differently([blob]) == []


FIRST_MINUTE = b"1970-01-01T00:00"
OTHER_MINUTE = b"2017-11-27T14:52"


def spoiled(minute: bytes) -> dict[str, bytes]:
    """Sixteen bytes that are nearly a minute: a half of it, or a byte, is another."""
    halves = {f"{half}-half-{byte:02x}": bytes([byte]) * 8 for half in ("first", "second") for byte in (0, 255, 48, 32)}
    made = {name: minute[:8] + run if "second" in name else run + minute[8:] for name, run in halves.items()}
    made["second-half-of-the-first"] = minute[:8] * 2
    made["first-half-of-the-second"] = minute[8:] * 2
    for at in range(16):
        for byte in (0, 47, 58):
            made[f"byte-{at}-{byte:02x}"] = minute[:at] + bytes([byte]) + minute[at + 1 :]
    return {name: text for name, text in made.items() if text != minute}


def row(minute: bytes, second: int, metrics: bytes = b'{"x":1}') -> bytes:
    """A row of the written shape."""
    return b'{"timestamp":"%s:%02d.000Z","metrics":%s}' % (minute, second, metrics)


def wide() -> bytes:
    """A blob for which the scanner makes room, finds that it would need too much, and begins anew."""
    rows = (row(OTHER_MINUTE, 1, b'{"%d":1}' % i) for i in range(300))
    return b"[" + b",".join(rows) + b"]\n"


def in_one_buffer(blobs: list[bytes]) -> tuple[Any, Any]:
    """Blobs one after another, and where each begins."""
    offsets = np.cumsum([0, *map(len, blobs)], dtype=np.int64)
    return np.frombuffer(b"".join(blobs), dtype=np.uint8), offsets


def refused_by_every_reader(blob: bytes, before: list[bytes]) -> None:
    """Hold every reader to refusing a blob in the same words, alone or after others."""
    with pytest.raises(DecodeError) as caught:
        StatSeries.from_json(blob)
    words, last = str(caught.value), len(before)
    with pytest.raises(DecodeError) as caught:
        StatBatch.from_json([*before, blob])
    assert str(caught.value) == f"blobs[{last}]: {words}"
    *_, result = reduce_json([*before, blob], 1, errors="return")
    assert isinstance(result, DecodeError)
    assert str(result) == words
    _, refused = decode_buffer(*in_one_buffer([*before, blob]))
    assert {i: str(error) for i, error in refused.items()} == {last: words}
    *_, refused = reduce_buffer(*in_one_buffer([*before, blob]), Rule(1))
    assert {i: str(error) for i, error in refused.items()} == {last: words}
    scalars = CallScalars()
    with pytest.raises(DecodeError, match=f"^{re.escape(words)}$"):
        scalars.add(blob, None, None, None)
    assert scalars.summary().calls == 0
    assert decoded_differently([blob]) == []
    assert disagreements([*before, blob], rule=1) == []


@pytest.mark.parametrize("what", spoiled(FIRST_MINUTE))
def test_the_first_row_is_compared_with_no_minute_by_halves(what: str) -> None:
    """Before any row was read, a time that shares a half or all but a byte with the epoch's minute is still refused."""
    minute = spoiled(FIRST_MINUTE)[what]
    for rows in ([row(minute, 7)], [row(minute, 7), row(FIRST_MINUTE, 8)], [row(minute, 7), row(minute, 8)]):
        refused_by_every_reader(b"[" + b",".join(rows) + b"]\n", [])


@pytest.mark.parametrize("what", spoiled(OTHER_MINUTE))
def test_a_row_is_compared_with_the_minute_before_in_full(what: str) -> None:
    """A time that shares a half or all but a byte with the minute read last, in this blob or one before, is no such time."""
    minute = spoiled(OTHER_MINUTE)[what]
    try:
        parse_time(f"{minute.decode()}:07.000Z")
    except (CallstatsError, UnicodeDecodeError):
        good = b"[" + row(OTHER_MINUTE, 6) + b"]\n"
        refused_by_every_reader(b"[" + row(minute, 7) + b"]\n", [good])
        refused_by_every_reader(b"[" + row(OTHER_MINUTE, 6) + b"," + row(minute, 7) + b"]\n", [])
    else:
        raise AssertionError(f"{minute!r} is a minute")


@pytest.mark.parametrize("what", spoiled(FIRST_MINUTE))
def test_the_scanner_begins_anew_after_a_blob_without_room(what: str) -> None:
    """After a blob whose table would be too large the scanner knows no minute, and takes no half of one."""
    blob = b"[" + row(spoiled(FIRST_MINUTE)[what], 7) + b"]\n"
    *_, result = reduce_json([wide(), blob], 1, errors="return")
    assert isinstance(result, DecodeError)
    assert decode_buffer(*in_one_buffer([wide(), blob]))[1].keys() == {1}


def test_the_minute_of_the_epoch_is_read_exactly() -> None:
    """The minute with which the scanner begins is one like any other, first or after others, and so are its neighbours."""
    minutes = [FIRST_MINUTE, OTHER_MINUTE, FIRST_MINUTE, b"1970-01-01T00:01", FIRST_MINUTE, b"1969-12-31T23:59", FIRST_MINUTE]
    blobs = [b"[" + row(minute, 7) + b"]\n" for minute in minutes]
    times = [7, 1_511_794_327, 7, 67, 7, -53, 7]
    wanted = [StatSeries([second * 10**9], {"x": [1]}) for second in times]
    assert [StatSeries.from_json(blob) for blob in blobs] == wanted
    assert list(StatBatch.from_json(blobs)) == wanted
    assert list(decode_buffer(*in_one_buffer(blobs))[0]) == wanted
    two = b"[" + row(FIRST_MINUTE, 7) + b"," + row(FIRST_MINUTE, 9) + b"]\n"
    assert reduce_json([two], 1) == [StatSeries([8 * 10**9], {"x": [1]}, counts=[2]).to_json()]


def test_a_string_that_does_not_end_takes_linear_time() -> None:
    """Many escaped quotes after many brackets are looked at once."""
    blob = b"[" * 65 + b'"' + b'\\"' * 200_000
    start = process_time()
    with pytest.raises(DecodeError):
        StatSeries.from_json(blob)
    assert process_time() - start < 5  # quadratic, it would be minutes


def test_a_budget_that_no_number_of_rows_changes() -> None:
    """Where every number of rows gives the same two rows, they are made once."""
    n = 20_000
    series = StatSeries([0] * (n - 1) + [10**9], {f"m{i}": [2**64 - 1] * n for i in range(9)})
    two = len(decimate(series, 2).to_json())
    start = process_time()
    with pytest.raises(BudgetError):
        decimate(series, None, max_bytes=two // 2 - 20)
    assert process_time() - start < 20
    assert len(decimate(series, None, max_bytes=two)) == 2


def test_rows_that_share_no_metric_are_refused_before_they_fill_the_memory() -> None:
    """A small text of many rows with a metric each of its own is no table that one could hold."""
    rows = [f'{{"timestamp":"2017-11-27T14:52:53.000Z","metrics":{{"m{i}":1}}}}' for i in range(12_000)]
    tracemalloc.start()
    with pytest.raises(DecodeError, match="at most 16777216 cells") as caught:
        StatSeries.from_json("[" + ",".join(rows) + "]")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.path == "$[1398].metrics.m1398"
    assert peak < 400 * 2**20


def test_a_constant_after_a_long_string() -> None:
    """What lies in a string is passed over at little cost."""
    blob = '[{"' + "a" * 1_000_000 + '":NaN}]'
    tracemalloc.start()
    with pytest.raises(DecodeError) as caught:
        StatSeries.from_json(blob)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.offset == 1_000_005
    assert peak < 20 * len(blob)


@pytest.mark.parametrize(
    "times",
    [
        np.array([2**62 + 3]).view("M8[4M]"),
        np.array([2**62]).view("M8[4Y]"),
        np.array([-(2**62)]).view("M8[2Y]"),
        np.array([5]).view("M8"),
    ],
    ids=["months", "years", "years-back", "no-unit"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dates_that_would_wrap(times: Any) -> None:
    """Steps of months and years are judged before they are multiplied; a number without a unit is no date."""
    with pytest.raises(SeriesError, match=r"timestamps\[0\]"):
        StatSeries(times, {"x": [1]})


def test_names_of_an_enumeration() -> None:
    """A member of a text enumeration is its text."""

    class Metric(str, Enum):  # noqa: UP042 - a StrEnum's str() is its text already
        CPU = "cpu_total"

    plain = StatSeries([0], {"cpu_total": [1]})
    assert StatSeries([0], {Metric.CPU: [1]}) == plain
    assert StatSeries.from_samples([(0, {Metric.CPU: 1})]) == plain
    parsed = StatSeries.from_json([{"timestamp": "1970-01-01T00:00:00Z", "metrics": {Metric.CPU: 1}}])
    assert parsed == plain
    assert type(parsed.names[0]) is str


class Broken:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", [(10**5000,), 10**5000, -(10**5000), Broken()], ids=["tuple", "huge", "tiny", "broken"])
def test_messages_survive_what_they_name(value: Any) -> None:
    """Values that can't be printed are refused in callstats' own words."""
    for work in (  # each names the value in its message
        lambda: StatSeries([0], {"x": [value]}),
        lambda: StatSeries([value], {}),
        lambda: StatSeries.from_json([{"timestamp": "1970-01-01T00:00:00Z", "metrics": {"x": value}}]),
        lambda: StatSeries.from_json([value]),
        lambda: Rule(how=value),
        lambda: Rule(missing=value),
        lambda: reduce_json([], threads=value),
        lambda: StatSeries([], {}).to_json(digits=value),
    ):
        try:
            work()
        except CallstatsError as error:
            assert "digits)" not in str(error)
        else:
            assert isinstance(value, int)  # fine as a number of threads


def test_a_view_that_was_released() -> None:
    """A blob that can no longer be read is refused like any other."""
    view = memoryview(b"[]")
    view.release()
    [result] = reduce_json([view], errors="return")
    assert isinstance(result, DecodeError)


def test_a_zone_that_knows_no_offset() -> None:
    """A datetime whose zone gives no offset is as good as a naive one."""

    class Nowhere(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            return None

    with pytest.raises(SeriesError, match="offset from UTC"):
        StatSeries.from_samples([(datetime(2017, 11, 27, tzinfo=Nowhere()), {"x": 1})])


class Column:
    """An array of another library: absent values make its numpy form float."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([np.nan if value is None else value for value in self.values], dtype=float)

    def tolist(self) -> list[Any]:
        return self.values


def test_absent_values_of_another_library() -> None:
    """Whole numbers beside absent values are read as they are, and not through float."""
    series = StatSeries([0, 1], {"x": Column([2**60 + 1, None])})
    assert [stat.metrics for stat in series] == [{"x": 2**60 + 1}, {}]
    with pytest.raises(SeriesError, match="nan"):
        StatSeries([0, 1], {"x": Column([1, float("nan")])})


def test_a_reducer_that_is_an_array() -> None:
    """What is no name of a reducer is refused, whatever it says when compared."""
    with pytest.raises(CallstatsError, match=r"how\[1\]"):
        Rule(how=("mean", np.array([1, 2])))  # type: ignore[arg-type]


def test_rules_can_be_copied_and_taken_apart() -> None:
    """A rule by metric is as good a value as any other."""
    rule = Rule(how={"x": ("mean", "max")})
    assert copy.deepcopy(rule) == rule
    assert dict(dataclasses.asdict(rule)["how"]) == {"x": ("mean", "max")}
    assert hash(copy.copy(rule)) == hash(rule)


def test_arrays_can_not_be_made_writeable() -> None:
    """What a series hands out can't be turned back."""
    series = StatSeries([0, 1], {"x": [1, None]}, counts=[1, 2])
    for array in (series.timestamps, series.values, series.present, series.counts):
        assert array is not None
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
