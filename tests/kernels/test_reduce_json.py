"""reduce_json: blob to blob (rule 4.5)."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats import BudgetError, CallstatsError, DecodeError, Rule, SeriesError, StatBatch, StatSeries, decimate, reduce_json
from support import strategies
from support.reference import NothingFitsError, Row, SumTooLargeError, fitted, text
from support.zoo import SECOND, rows_of, series_of, zoo

pytestmark = pytest.mark.usefixtures("backend")

ZOO = [item.series().to_json() for item in zoo()]


def long(n: int, **fields: Any) -> bytes:
    """A blob of n rows, one a second."""
    return StatSeries([i * SECOND for i in range(n)], {"x": [10 ** (i * 7 % 19) for i in range(n)]}).to_json(**fields)


SPACED = b'\n[ {"metrics" : {"b": 1, "a" : 2}, "other": [1e5], "timestamp":"1970-01-01 00:00:00+00:00"} ]\t\n'
COUNTED = (
    b'[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":1},"count":5},{"timestamp":"1970-01-01T00:00:01Z","metrics":{"x":7}}]'
)
BACK = b'[{"timestamp":"1970-01-01T00:00:01Z","metrics":{"x":1}},{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":2}}]'
ORDERED = (
    b'[{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{"x":2}},{"timestamp":"1970-01-01T00:00:01.000Z","metrics":{"x":1}}]\n'
)


# --- what is reduced --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"rule": 60}, {"rule": 7, "how": ("mean", "max")}, {"rule": 5, "missing": "zero"}, {"rule": 0}, {}]
)
def test_the_zoo_through_text(fields: dict[str, Any]) -> None:
    """Blob to blob is reading, decimating and writing; what the rule leaves alone is passed on."""
    got = reduce_json(ZOO, **fields)
    for blob, out in zip(ZOO, got, strict=True):
        series = StatSeries.from_json(blob)
        assert type(out) is bytes
        assert out == decimate(series, **fields).to_json()


@given(st.lists(strategies.rows(most=12), max_size=4), strategies.rules(), st.booleans(), st.none() | st.integers(1, 1500))
def test_random_blobs(members: list[list[Row]], fields: dict[str, Any], counts: bool, max_bytes: int | None) -> None:
    """Random blobs under random rules are what the reference makes of them, each by itself."""
    members = [[(time // 10**6 * 10**6, metrics, count) for time, metrics, count in rows] for rows in members]
    fields = {**fields, "max_bytes": max_bytes}
    got = reduce_json([text(rows) for rows in members], Rule(**fields), counts=counts, errors="return")
    for rows, out in zip(members, got, strict=True):
        unchanged = fields["max_samples"] is None or len(rows) <= fields["max_samples"]
        try:
            want = fitted(rows, **fields, counts=counts)
        except (SumTooLargeError, NothingFitsError) as error:
            if unchanged and len(text(rows)) <= (max_bytes or 2**60):
                assert out == text(rows)
            else:
                assert type(out) is (SeriesError if isinstance(error, SumTooLargeError) else BudgetError)
        else:
            passed_on = unchanged and (max_bytes is None or len(text(rows)) <= max_bytes)
            assert out == text(rows, counts=counts or passed_on) if passed_on else out == text(want, counts=counts)


def test_fields_build_the_rule() -> None:
    """A number, a Rule or fields say the same."""
    blobs = [long(60), long(9)]
    want = reduce_json(blobs, Rule(12, "max", "zero", 3000))
    assert reduce_json(blobs, 12, how="max", missing="zero", max_bytes=3000) == want
    assert reduce_json([long(700)]) == reduce_json([long(700)], 240)


def test_a_number_of_rows_and_keywords() -> None:
    """A number and keywords make the rule; None as the number is no limit."""
    assert reduce_json([long(60)], 12, how="max", missing="zero") == reduce_json([long(60)], Rule(12, "max", "zero"))
    assert reduce_json([long(700)], None) == [long(700)]


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, bytes.decode, json.loads], ids=["bytes", "bytearray", "memoryview", "str", "list"]
)
def test_every_form_of_a_blob(kind: Any) -> None:
    """Whatever `from_json` takes is taken, and bytes come back, reduced or not."""
    for rule in (60, 3):
        (out,) = reduce_json([kind(long(9))], rule)
        assert type(out) is bytes
        assert out == decimate(StatSeries.from_json(long(9)), rule).to_json()


@pytest.mark.parametrize("blobs", [list, lambda: (), lambda: iter([]), lambda: iter([long(9)] * 3), lambda: tuple([long(9)] * 2)])
def test_any_iterable(blobs: Any) -> None:
    """The blobs may come from any iterable, and as many come back."""
    got = reduce_json(blobs(), 3)
    assert type(got) is list
    assert got == [reduce_json([long(9)], 3)[0] for _ in blobs()]


def test_counts_false_writes_fns_shape() -> None:
    """`counts=False` leaves the counts out of what is written anew, and they still weigh in the means."""
    assert reduce_json([COUNTED], 1) == [b'[{"timestamp":"1970-01-01T00:00:00.166Z","metrics":{"x":2},"count":6}]\n']
    assert reduce_json([COUNTED], 1, counts=False) == [b'[{"timestamp":"1970-01-01T00:00:00.166Z","metrics":{"x":2}}]\n']


# --- what is passed on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    "rule", [{"rule": 240}, {"rule": 2}, {"rule": Rule(None)}, {"rule": 2, "how": "sum"}, {"rule": 2, "max_bytes": 1000}]
)
@pytest.mark.parametrize(
    "blob", [SPACED, COUNTED, b"", b"null", b" [ ] ", b"[]", long(2), long(2, digits=9), SPACED.decode(), "[]"]
)
def test_what_the_rule_leaves_alone_comes_back_byte_for_byte(blob: Any, rule: dict[str, Any], counts: bool) -> None:
    """White space, unknown fields, order of keys and counts included, whatever `counts` says."""
    want = blob.encode() if isinstance(blob, str) else blob
    assert reduce_json([blob], **rule, counts=counts) == [want]
    assert reduce_json([blob], **rule, counts=counts, sort=True) == [want]


def test_none_gives_no_bytes() -> None:
    """None in, b"" out."""
    for rule in (240, 0, -1):
        assert reduce_json([None, None], rule) == [b"", b""]
    assert reduce_json([None], max_bytes=1) == [b""]


def test_no_rows_wanted() -> None:
    """With max_samples 0 or less the empty series is written, which is b""."""
    for rule in (0, -1):
        assert reduce_json([long(1), SPACED, COUNTED], rule, max_bytes=1) == [b"", b"", b""]
    assert reduce_json([b"null", b"[]"], 0) == [b"null", b"[]"]
    assert reduce_json([b"null", b"[]"], -1) == [b"", b""]


def test_a_parsed_list_has_no_bytes_of_its_own() -> None:
    """An unchanged parsed list is written in the one written form."""
    assert reduce_json([json.loads(COUNTED)]) == [StatSeries.from_json(COUNTED).to_json()]
    assert reduce_json([json.loads(COUNTED)], counts=False) == [StatSeries.from_json(COUNTED).to_json(counts=False)]
    assert reduce_json([[]]) == [b""]


@pytest.mark.parametrize(
    "blob",
    [
        b"[null]",
        b'[{"timestamp":"0001-01-01T00:00:00Z"}]',
        b"\xff",
        b" ",
        b"[{}",
        BACK,
        5,
        {},
        b'[{"timestamp":"1970-01-01T00:00:00Z","count":0}]',
    ],
)
def test_what_is_passed_on_is_checked_in_full(blob: Any) -> None:
    """A bad blob is refused even where nothing is to be reduced, with the error of `from_json`."""
    with pytest.raises(DecodeError) as want:
        StatSeries.from_json(blob)
    for rule in (Rule(240), Rule(None), Rule(0), Rule(1), Rule(240, max_bytes=10)):
        (error,) = reduce_json([blob], rule, errors="return")
        assert type(error) is DecodeError
        assert (str(error), error.offset, error.path) == (str(want.value), want.value.offset, want.value.path)


# --- max_bytes --------------------------------------------------------------------------------------------------------


def test_own_bytes_that_fit_are_passed_on() -> None:
    """The bytes that count are the blob's own, white space and all."""
    assert reduce_json([SPACED], max_bytes=len(SPACED)) == [SPACED]
    assert reduce_json([COUNTED], max_bytes=len(COUNTED), counts=False) == [COUNTED]


def test_own_bytes_that_exceed_the_budget_are_written_anew() -> None:
    """One byte too long, and the blob is written in the one form, which may fit without a reduction."""
    (out,) = reduce_json([SPACED], max_bytes=len(SPACED) - 1)
    assert out == StatSeries.from_json(SPACED).to_json()
    assert reduce_json([b" " * 99 + b"[]"], max_bytes=100) == [b""]
    assert reduce_json([b" " * 99 + b"null"], max_bytes=103) == [b" " * 99 + b"null"]


def test_the_text_measured_is_the_text_to_be_written() -> None:
    """Without counts more rows fit than with them (3.8)."""
    blob = series_of([(i * SECOND, {"x": i}, 1000 + i) for i in range(60)]).to_json()
    rows = rows_of(StatSeries.from_json(blob))
    for max_bytes in range(100, len(blob), 211):
        for counts in (True, False):
            (out,) = reduce_json([blob], Rule(None, max_bytes=max_bytes), counts=counts)
            assert len(out) <= max_bytes
            assert out == text(fitted(rows, None, max_bytes=max_bytes, counts=counts), counts=counts)


def test_a_budget_that_nothing_fits() -> None:
    """BudgetError, in its place or raised."""
    got = reduce_json([long(9), b"", long(1)], max_bytes=70, errors="return")
    assert type(got[0]) is BudgetError
    assert got[1] == b""
    assert got[2] == long(1)
    with pytest.raises(BudgetError, match=r"^blobs\[1\]: "):
        reduce_json([b"", long(9)], max_bytes=70)


def test_a_second_run_changes_nothing() -> None:
    """What was reduced under a rule comes back byte for byte under the same rule."""
    for fields in (
        {"rule": 60},
        {"rule": 12, "how": ("mean", "max")},
        {"rule": Rule(None, max_bytes=2000)},
        {"rule": 30, "max_bytes": 1500},
    ):
        once = reduce_json([blob for blob in ZOO if b"@" not in blob and len(blob) < 40_000], **fields)
        assert reduce_json(once, **fields) == once


# --- sort -------------------------------------------------------------------------------------------------------------


def test_sort_that_moves_a_row_writes_anew() -> None:
    """A blob whose rows were moved can't come back as it was; counts obey."""
    assert reduce_json([BACK], sort=True) == [ORDERED]
    assert reduce_json([BACK.replace(b"}}]", b'},"count":3}]')], sort=True, counts=False) == [ORDERED]


def test_sort_that_moves_nothing_passes_on() -> None:
    """Times in order, equal ones too, are no reason to write anew."""
    ties = BACK.replace(b"00:00:01Z", b"00:00:00Z")
    assert reduce_json([SPACED, COUNTED, ties], sort=True) == [SPACED, COUNTED, ties]


def test_sort_comes_before_the_reduction() -> None:
    """The bins are those of the sorted times."""
    rows = json.loads(long(60))
    shuffled = [rows[i * 7 % 60] for i in range(60)]
    assert reduce_json([json.dumps(shuffled), shuffled], 7, sort=True) == reduce_json([long(60)] * 2, 7)
    with pytest.raises(DecodeError, match=r"^blobs\[0\]: \$\[9\]\.timestamp: "):
        reduce_json([json.dumps(shuffled)], 7)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_raise_names_the_blob() -> None:
    """The error keeps its type, offset and path; its text begins with the blob's place."""
    blobs: list[Any] = [long(3)] * 20
    blobs[17] = b'[{"timestamp":"1970-01-01T00:00:00Z"},{"timestamp":"1970-01-01T00:00:00Z"},{},{"timestamp":"x"}]'
    with pytest.raises(DecodeError, match=r"^blobs\[17\]: \$\[2\]\.timestamp: ") as caught:
        reduce_json(blobs)
    assert caught.value.path == "$[2].timestamp"
    assert caught.value.offset is None
    blobs[3] = "[é".encode()
    with pytest.raises(DecodeError, match=r"^blobs\[3\]: byte 1: ") as caught:
        reduce_json(blobs)
    assert (caught.value.offset, caught.value.path) == (1, None)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_bad_blob_is_named(threads: int) -> None:
    """With several bad blobs the first in order is told, whichever thread met one first."""
    blobs = [long(3000), b"", b"x", b"[", long(9), b"y"]
    for _ in range(5):
        with pytest.raises(DecodeError, match=r"^blobs\[2\]: byte 0: "):
            reduce_json(blobs, 3, threads=threads)


def test_return_keeps_every_other_blob() -> None:
    """Any CallstatsError takes its blob's place, unprefixed; the others are done."""
    large = StatSeries([0, SECOND], {"x": [2**64 - 1, 1]}).to_json()
    got = reduce_json([long(9), b"x", large, None, SPACED], 1, how="sum", errors="return")
    assert [type(one) for one in got] == [bytes, DecodeError, SeriesError, bytes, bytes]
    assert all(isinstance(error, CallstatsError) for error in got[1:3])
    assert str(got[1]).startswith("byte 0: ")
    assert "x" in str(got[2])
    assert got[3:] == [b"", SPACED]


def test_a_sum_that_is_too_large_is_raised() -> None:
    """A SeriesError names its blob too."""
    large = StatSeries([0, SECOND], {"x": [2**64 - 1, 1]}).to_json()
    with pytest.raises(SeriesError, match=r"^blobs\[1\]: .*x"):
        reduce_json([b"", large], 1, how="sum")


@pytest.mark.parametrize(
    "fields", [{"errors": "ignore"}, {"errors": None}, {"how": "median"}, {"missing": "x"}, {"threads": 0}, {"threads": -1}]
)
def test_bad_arguments_are_refused(fields: dict[str, Any]) -> None:
    """A bad argument is a CallstatsError, before any blob is read."""

    def blobs() -> Any:
        raise AssertionError("read")
        yield b""

    with pytest.raises(CallstatsError):
        reduce_json(blobs(), 60, **fields)


def test_an_unknown_field_is_refused() -> None:
    """No keyword sinks without a word."""
    with pytest.raises((CallstatsError, TypeError), match="max_rows"):
        reduce_json([], max_rows=5)


def test_one_blob_alone_is_refused() -> None:
    """A blob is no list of blobs, though bytes and str can be iterated."""
    for blob in (b"[]", "[]", bytearray(b"[]"), None, 5):
        with pytest.raises((CallstatsError, TypeError)):
            reduce_json(blob)  # type: ignore[arg-type]


def test_errors_can_be_sent_between_processes() -> None:
    """A returned or raised error keeps text, offset and path through pickle."""
    (returned,) = reduce_json([b"[]x"], errors="return")
    with pytest.raises(DecodeError) as raised:
        reduce_json([b"[null]"])
    for error in (returned, raised.value):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), str(back), back.offset, back.path) == (type(error), str(error), error.offset, error.path)


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_give_what_one_gives(threads: int) -> None:
    """The same bytes and the same errors in the same order, however many threads share the work."""
    blobs = [*ZOO, b"x", *ZOO[::-1], b"[null]", None, SPACED]
    one = reduce_json(blobs, 12, how=("mean", "max"), errors="return")
    many = reduce_json(iter(blobs), 12, how=("mean", "max"), errors="return", threads=threads)
    assert [(type(out), str(out)) for out in many] == [(type(out), str(out)) for out in one]


def test_the_input_is_left_alone() -> None:
    """Writable buffers and parsed lists hold what they held, and what comes back shares nothing with them."""
    raw, parsed = bytearray(long(9)), json.loads(BACK)
    (out,) = reduce_json([raw], 60)
    raw[:] = b"x" * len(raw)
    assert out == long(9)
    before = json.dumps(parsed)
    reduce_json([parsed], 1, sort=True)
    assert json.dumps(parsed) == before


def test_a_batch_goes_the_same_way() -> None:
    """`StatBatch.from_json`, `decimate` and `to_json` give the same text, where nothing is passed on."""
    blobs = [blob for blob in ZOO if blob]
    assert decimate(StatBatch.from_json(blobs), 5).to_json() == reduce_json(blobs, 5)
