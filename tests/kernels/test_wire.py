"""The stored form: what is written, what is read, what is refused and where the fault lies."""

from __future__ import annotations

import array
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats import CallstatsError, DecodeError, StatSeries, decimate
from support import strategies
from support.reference import TIME_MAX, TIME_MIN, Row, text
from support.zoo import Item, rows_of, series_of, zoo

pytestmark = pytest.mark.usefixtures("backend")

ZOO = zoo()
T = "2017-11-27T14:52:53.123Z"
NS = 1_511_794_373_123_000_000


def row(metrics: str = '{"x":1}', time: str = T, more: str = "") -> str:
    return f'{{"timestamp":"{time}","metrics":{metrics}{more}}}'


def blob(*rows: str) -> str:
    return f"[{','.join(rows)}]"


def fault(value: Any, **fields: Any) -> DecodeError:
    """The error that a blob is refused with."""
    with pytest.raises(DecodeError) as caught:
        StatSeries.from_json(value, **fields)
    error = caught.value
    assert isinstance(error, CallstatsError)
    assert isinstance(error, ValueError)
    assert (error.offset is None) != (error.path is None)
    assert error.offset is None or type(error.offset) is int
    assert "\n" not in str(error)
    assert len(str(error)) < 500
    str(error).encode()
    return error


def metrics_of(value: Any) -> dict[str, int]:
    (stat,) = StatSeries.from_json(value)
    return stat.metrics


# --- 4.1: written -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_the_zoo_is_written_as_the_reference_writes(item: Item) -> None:
    """One form: compact, names in order, floored milliseconds, counts of more than one, one newline."""
    series = item.series()
    assert series.to_json() == text(item.rows)
    assert series.to_json(counts=False) == text(item.rows, counts=False)
    assert series.to_json(digits=9) == text(item.rows, digits=9)
    assert series.to_json(counts=False, digits=9) == text(item.rows, counts=False, digits=9)
    assert series.to_db() == text(item.rows).decode()


@given(strategies.rows(most=8))
def test_what_is_written_is_read_back(rows: list[Row]) -> None:
    """With 9 digits nothing is lost; with 3, the times are floored, and a second writing is the first."""
    series = series_of(rows)
    assert series.to_json() == text(rows)
    assert StatSeries.from_json(series.to_json(digits=9)) == series
    back = StatSeries.from_json(series.to_json())
    assert rows_of(back) == [(time // 10**6 * 10**6, metrics, count) for time, metrics, count in rows]
    assert back.to_json() == series.to_json()


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=6))
def test_any_name_is_written_and_read_back(name: str) -> None:
    """Every name that encodes is written as Go writes it, is valid JSON, and comes back."""
    series = StatSeries([0], {name: [1]})
    assert series.to_json() == text([(0, {name: 1}, 1)])
    assert json.loads(series.to_json())[0]["metrics"] == {name: 1}
    assert StatSeries.from_json(series.to_json()) == series


def test_empty_is_no_bytes() -> None:
    """The empty series is b"", in the database ""."""
    assert StatSeries([], {}).to_json() == b""
    assert StatSeries([], {}).to_db() == ""


def test_one_row_by_hand() -> None:
    """The shape, character by character."""
    series = StatSeries([NS + 999_999, NS + 10**9], {"b": [1, None], "a": [2**64 - 1, 0]}, counts=[1, 15])
    assert series.to_json() == (
        b'[{"timestamp":"2017-11-27T14:52:53.123Z","metrics":{"a":18446744073709551615,"b":1}},'
        b'{"timestamp":"2017-11-27T14:52:54.123Z","metrics":{"a":0},"count":15}]\n'
    )
    assert type(series.to_json()) is bytes
    assert type(series.to_db()) is str


@pytest.mark.parametrize(
    ("char", "written"),
    [
        ('"', '\\"'),
        ("\\", "\\\\"),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
        ("\b", "\\u0008"),
        ("\f", "\\u000c"),
        ("\x00", "\\u0000"),
        ("\x1f", "\\u001f"),
        ("\x7f", "\x7f"),
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2027", "\u2027"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
        ("\u202a", "\u202a"),
        ("/", "/"),
        ("'", "'"),
        ("é", "é"),
        ("\u00ad", "\u00ad"),
        ("\ufeff", "\ufeff"),
        ("\uffff", "\uffff"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_escapes_are_gos_before_1_22(char: str, written: str) -> None:
    """Which characters of a name are escaped, and how; all else is raw UTF-8."""
    want = f'[{{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{{"a{written}b":1}}}}]\n'
    assert StatSeries([0], {f"a{char}b": [1]}).to_json() == want.encode()


def test_names_are_in_bytewise_order_before_escaping() -> None:
    """`<` sorts as itself and not as its escape; astral characters come after U+FFFF."""
    series = StatSeries([0], {"\U0001f600": [1], "\uffff": [2], "<": [3], "=": [4], "Z": [5], "a": [6], "\\": [7]})
    assert list(json.loads(series.to_json())[0]["metrics"]) == ["<", "=", "Z", "\\", "a", "\uffff", "\U0001f600"]


@pytest.mark.parametrize(
    ("time", "three", "nine"),
    [
        (0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999999999Z"),
        (999_999, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000999999Z"),
        (TIME_MIN, "1677-09-21T00:12:43.146Z", "1677-09-21T00:12:43.146000000Z"),
        (TIME_MAX, "2262-04-11T23:47:16.854Z", "2262-04-11T23:47:16.854775807Z"),
        (951_782_400 * 10**9, "2000-02-29T00:00:00.000Z", "2000-02-29T00:00:00.000000000Z"),
        (-2_203_891_200 * 10**9, "1900-03-01T00:00:00.000Z", "1900-03-01T00:00:00.000000000Z"),
        (-2_203_891_200 * 10**9 - 1, "1900-02-28T23:59:59.999Z", "1900-02-28T23:59:59.999999999Z"),
    ],
)
def test_times_are_floored(time: int, three: str, nine: str) -> None:
    """Milliseconds are floored, before 1970 too; nine digits keep the nanosecond."""
    series = StatSeries([time], {})
    assert series.to_db() == f'[{{"timestamp":"{three}","metrics":{{}}}}]\n'
    assert series.to_json(digits=9).decode() == f'[{{"timestamp":"{nine}","metrics":{{}}}}]\n'


def test_each_minute_begins_and_ends() -> None:
    """A time is written as it is alone, whatever was before it: in the same minute, the next one, or the last one there is."""
    minute, centre = 60 * 10**9, [TIME_MIN, -60 * 10**9, 0, 951_782_400 * 10**9, TIME_MAX]
    near = {
        at + offset for at in centre for offset in (-minute - 1, -minute, -1, 0, 1, 10**6, 59_999_999_999, minute, minute + 1)
    }
    times = sorted(at for at in near if TIME_MIN <= at <= TIME_MAX)
    for series in (StatSeries(times, {}), StatSeries([TIME_MIN, TIME_MAX], {})):
        for digits in (3, 9):
            alone = [StatSeries([at.timestamp], {}).to_json(digits=digits).decode()[1:-2] for at in series]
            assert series.to_json(digits=digits).decode() == f"[{','.join(alone)}]\n"


@pytest.mark.parametrize("size", range(1, 21))
def test_numbers_of_any_size(size: int) -> None:
    """Around each power of ten."""
    values = [n for n in (10 ** (size - 1), 10**size - 1, 10**size // 3, 10**size // 9 * 8) if n < 2**64]
    written = StatSeries([0] * len(values), {"x": values}).to_json().decode()
    assert [part.split("}")[0] for part in written.split('"x":')[1:]] == [str(n) for n in values]


@pytest.mark.parametrize("digits", [0, 1, 6, 12, -3, "3", 3.5, None, True])
def test_other_digits(digits: Any) -> None:
    """Only 3 and 9 digits are written."""
    for series in (StatSeries([0], {}), StatSeries([], {})):
        with pytest.raises(ValueError, match="digits"):
            series.to_json(digits=digits)


def test_counts_are_written_where_they_are_more_than_one() -> None:
    """Without counts a mean of means is all a reader can make; a row of one sample has none to tell."""
    series = StatSeries([0, 1], {}, counts=[1, 2])
    assert series.to_db().count("count") == 1
    assert StatSeries.from_db(series.to_db()) == StatSeries([0, 0], {}, counts=[1, 2])
    assert StatSeries.from_json(series.to_json(counts=False)) == StatSeries([0, 0], {})


def test_the_largest_count() -> None:
    """A count of 2**63 - 1 is written and read."""
    series = StatSeries([0], {}, counts=[2**63 - 1])
    assert StatSeries.from_json(series.to_json()) == series


# --- 4.2: what is taken -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        bytearray(),
        memoryview(b""),
        "null",
        b" null\n",
        "\t[ ]\r\n",
        b"[]",
        "[\n]",
        [],
        memoryview(b"[]"),
        bytearray(b"null "),
    ],
)
def test_empty_in_every_form(value: Any) -> None:
    """None, no text, null and [] are the empty series."""
    assert StatSeries.from_json(value) == StatSeries.from_db(value) == StatSeries([], {})


@pytest.mark.parametrize(
    "form",
    [
        str.encode,
        str,
        lambda text: bytearray(text.encode()),
        lambda text: memoryview(text.encode()),
        lambda text: memoryview(bytearray(text.encode())),
        lambda text: memoryview(array.array("B", text.encode())),
        lambda text: memoryview(b"".join(bytes([byte, 0]) for byte in text.encode()))[::2],
        json.loads,
        type("Text", (str,), {}),
        type("Raw", (bytes,), {"__new__": lambda cls, text: bytes.__new__(cls, text.encode())}),
    ],
    ids=[
        "bytes",
        "str",
        "bytearray",
        "memoryview",
        "memoryview-writable",
        "memoryview-array",
        "memoryview-strided",
        "list",
        "str-sub",
        "bytes-sub",
    ],
)
def test_every_form_of_a_blob(form: Any) -> None:
    """Bytes, bytearray, memoryview, str and a parsed list hold the same series."""
    value = form(blob(row('{"é":1,"x":18446744073709551615}'), row("null", more=',"count":7')))
    want = [(NS, {"é": 1, "x": 2**64 - 1}, 1), (NS, {}, 7)]
    assert rows_of(StatSeries.from_json(value)) == rows_of(StatSeries.from_db(value)) == want


@pytest.mark.parametrize(
    "value", [5, 1.5, True, False, {}, {"timestamp": T}, (), ({"timestamp": T},), set(), object(), StatSeries, iter([])]
)
def test_any_other_type_is_refused(value: Any) -> None:
    """A value of any other type is a bad blob, not a TypeError."""
    assert fault(value).path == "$"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([None], "$[0]"),
        ([[]], "$[0]"),
        (["x"], "$[0]"),
        ([{}], "$[0].timestamp"),
        ([{"timestamp": None}], "$[0].timestamp"),
        ([{"timestamp": 5}], "$[0].timestamp"),
        ([{"timestamp": T}, {"timestamp": ""}], "$[1].timestamp"),
        ([{"timestamp": T, "metrics": []}], "$[0].metrics"),
        ([{"timestamp": T, "metrics": {"x": -1}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": 1.0}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": True}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": "1"}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": float("nan")}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": 2**64}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": 10**5000}}], "$[0].metrics.x"),
        ([{"timestamp": T, "metrics": {"x": -(10**5000)}}], "$[0].metrics.x"),
        ([{"timestamp": T, "count": True}], "$[0].count"),
        ([{"timestamp": T, "count": None}], "$[0].count"),
        ([{"timestamp": T, "count": 1.0}], "$[0].count"),
        ([{"timestamp": T, "count": 0}], "$[0].count"),
        ([{"timestamp": T, "count": 10**5000}], "$[0].count"),
    ],
)
def test_a_parsed_list_is_checked_like_text(value: Any, path: str) -> None:
    """Faults of a parsed list are faults of shape, each with its path."""
    assert fault(value).path == path


def test_a_parsed_list_with_bad_names() -> None:
    """A name that is no text, or does not encode, is refused in a parsed list."""
    assert "$[0].metrics" in str(fault([{"timestamp": T, "metrics": {5: 1}}]).path)
    assert "$[0].metrics" in str(fault([{"timestamp": T, "metrics": {"\ud800": 1}}]).path)


def test_a_parsed_list_is_left_alone() -> None:
    """The caller's list holds what it held; unknown fields of any kind are passed over."""
    value = [{"timestamp": T, "metrics": {"x": 1, "y": None}, "other": {"deep": [1.5]}}]
    before = json.dumps(value)
    assert rows_of(StatSeries.from_json(value)) == [(NS, {"x": 1}, 1)]
    assert json.dumps(value) == before


def test_sort() -> None:
    """Times that go back are refused, or with `sort=True` moved, stably and with their counts."""
    value = blob(
        row('{"x":1}', "2017-11-27T14:52:55Z"),
        row('{"x":2}', "2017-11-27T14:52:54Z", ',"count":2'),
        row('{"x":3}', "2017-11-27T14:52:55Z"),
        row('{"x":4}', "2017-11-27T14:52:54Z"),
    )
    assert fault(value).path == "$[1].timestamp"
    assert [(m["x"], count) for _, m, count in rows_of(StatSeries.from_json(value, sort=True))] == [
        (2, 2),
        (4, 1),
        (1, 1),
        (3, 1),
    ]
    assert StatSeries.from_json(json.loads(value), sort=True) == StatSeries.from_json(value, sort=True)


# --- 4.3: what is accepted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        f'[{{"metrics":{{"x":1}},"timestamp":"{T}"}}]',
        f' \t\r\n[ {{ "timestamp" : "{T}" , "metrics" : {{ "x" : 1 }} }} ] \n',
        blob(row(more=',"a":null,"b":[1e999,-0,1.5,{"timestamp":5}],"c":"\\ud800","Timestamp":1,"":true')),
        f'[{{"\\u0074imestamp":"{T.replace("-", chr(92) + "u002d")}","m\\u0065trics":{{"\\u0078":1}}}}]',
        blob(row(more=',"count":1')),
        blob(row('{"x":1,"y":null,"z":null}')),
        blob(row('{"x":-1,"x":"2","x":{},"x":1}')),
        blob(row('{"y":5}', more=',"metrics":{"x":1}')),
        blob(row("5", more=',"metrics":{"x":1}')),
        blob(row('{"\\ud800":1}', more=',"metrics":{"x":1}')),
        blob(row(time="bad", more=f',"timestamp":"{T}"')),
        blob(row(more=',"timestamp":5,"timestamp":null,"timestamp":"' + T + '"')),
        blob(row(more=',"count":-5,"count":null,"count":1')),
        blob(row(more=',"other":' + "9" * 5000)),
        blob(row('{"x":' + "9" * 5000 + ',"x":1}')),
        blob(row(more=',"other":1E+400,"more":1e-400,"third":0.0e0')),
        blob(row(more=',"other":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\x7f"')),
        blob(row(more=',"deep":' + "[" * 62 + "]" * 62)),
        blob(row(more=',"deep":"' + "[" * 100 + '{\\"[","d":"]"')),
        blob(row(more=',"deep":' + '{"a":' * 61 + "{}" + "}" * 61)),
        blob(row(more=',"wide":[' + ",".join(["[]"] * 200) + "]")),
    ],
)
def test_one_row_in_many_guises(value: str) -> None:
    """Any order, white space, escapes, unknown fields, nulls and duplicates: the last of a name counts."""
    for form in (value, value.encode()):
        assert rows_of(StatSeries.from_json(form)) == [(NS, {"x": 1}, 1)]


def test_two_metrics_objects_are_not_merged() -> None:
    """The last `metrics` counts, alone, and may be null."""
    assert metrics_of(blob(row('{"x":1}', more=',"metrics":{"y":2}'))) == {"y": 2}
    assert metrics_of(blob(row('{"x":1}', more=',"metrics":null'))) == {}
    assert metrics_of(blob(row('{"x":1,"y":2,"x":null}'))) == {"y": 2}


@pytest.mark.parametrize(
    ("time", "ns"),
    [
        ("2017-11-27T14:52:53Z", 1_511_794_373 * 10**9),
        ("2017-11-27t14:52:53z", 1_511_794_373 * 10**9),
        ("2017-11-27 14:52:53Z", 1_511_794_373 * 10**9),
        ("2017-11-27 14:52:53+00:00", 1_511_794_373 * 10**9),
        ("2017-11-27T14:52:53-00:00", 1_511_794_373 * 10**9),
        ("2017-11-28T14:51:53+23:59", 1_511_794_373 * 10**9),
        ("2017-11-26T14:53:53-23:59", 1_511_794_373 * 10**9),
        ("2017-11-27T14:52:53.1Z", 1_511_794_373_100_000_000),
        ("2017-11-27T14:52:53.000000001Z", 1_511_794_373_000_000_001),
        ("2017-11-27T14:52:53.9999999999999Z", 1_511_794_373_999_999_999),
        ("2017-11-27T14:52:53." + "1" * 4000 + "Z", 1_511_794_373_111_111_111),
        ("2000-02-29T23:59:59Z", 951_868_799 * 10**9),
        ("1677-09-21T00:12:43.146Z", TIME_MIN),
        ("1677-09-20T00:13:43.146-23:59", TIME_MIN),
        ("2262-04-11T23:47:16.854775807Z", TIME_MAX),
        ("2262-04-11T23:47:16.8547758079Z", TIME_MAX),
        ("2262-04-12T23:46:16.854775807+23:59", TIME_MAX),
    ],
)
def test_times_that_are_read(time: str, ns: int) -> None:
    """RFC 3339 with T, t or a space, any fraction, any offset up to 23:59."""
    assert StatSeries.from_json(blob(row(time=time))).timestamps.tolist() == [ns]
    assert StatSeries.from_json(json.loads(blob(row(time=time)))).timestamps.tolist() == [ns]


BAD_INSTANTS = [
    "2017-11-27T14:52:53",
    "2017-11-27T14:52Z",
    "2017-11-27T14Z",
    "2017-11-27T14:52:53.Z",
    "2017-11-27T14:52:53,5Z",
    "17-11-27T14:52:53Z",
    "02017-11-27T14:52:53Z",
    "12017-11-27T14:52:53Z",
    "+2017-11-27T14:52:53Z",
    "-2017-11-27T14:52:53Z",
    "2017-1-27T14:52:53Z",
    "2017-11-7T14:52:53Z",
    "2017-11-27T4:52:53Z",
    "2017-11-27T14:2:53Z",
    "2017-11-27T14:52:3Z",
    "2017-11-27T14:52:+3Z",
    "2017-00-27T14:52:53Z",
    "2017-13-27T14:52:53Z",
    "2017-11-00T14:52:53Z",
    "2017-11-31T14:52:53Z",
    "2017-02-29T14:52:53Z",
    "1900-02-29T00:00:00Z",
    "2017-11-27T24:00:00Z",
    "2017-11-27T14:60:53Z",
    "2017-11-27T14:52:60Z",
    "2016-12-31T23:59:60Z",
    "2017-11-27T14:52:61Z",
    "2017-11-27T14:52:53+24:00",
    "2017-11-27T14:52:53+23:60",
    "2017-11-27T14:52:53+0530",
    "2017-11-27T14:52:53+05",
    "2017-11-27T14:52:53+5:30",
    "2017-11-27T14:52:53+05:3",
    "2017-11-27T14:52:53+05:300",
    "2017-11-27T14:52:53+05:30Z",
    "2017-11-27T14:52:53ZZ",
    "2017-11-27T14:52:53UTC",
    "2017-11-27T14:52:53.1.2Z",
    "2017-11-27T14:52:53.1e3Z",
    "2017-11-27T14:52:53.-1Z",
    "2017-11-27T14:52:53.1_0Z",
    "20171127T145253Z",
    "2017/11/27T14:52:53Z",
    "2017-11-27T14.52.53Z",
    "2017-11-27_14:52:53Z",
    "2017-331T14:52:53Z",
    "2017-W48-1T14:52:53Z",
    "now",
    "0",
    "1511794373",
    "null",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "1677-09-21T00:12:43.145Z",
    "1677-09-21T00:12:43.145999999Z",
    "1677-09-21T00:12:43Z",
    "2262-04-11T23:47:16.854775808Z",
    "2262-04-11T23:47:17Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "",
    " ",
    f" {T}",
    f"{T} ",
    f"{T}\\n",
    f"{T}\\u0000",
    "2017-11-27  14:52:53Z",
    "\u0662017-11-27T14:52:53Z",
    "2017-11-27T14:52:5\uff13Z",
    "2017-11-27T1\u0664:52:53Z",
    "2017-11-27T14:1\u0665:53Z",
    "2017-11-27T14:52:53.\u0661Z",
    "2017-11-27T14:52:53+0\u0661:00",
    "2017-11-27T14:52:53\u00b101:00",
    "2017-11-27\u212a14:52:53Z",
]


@pytest.mark.parametrize("time", BAD_INSTANTS)
def test_times_that_are_refused(time: str) -> None:
    """Every field has all its digits, in range, and the whole is within the times a series holds."""
    assert fault(blob(row(time=time))).path == "$[0].timestamp"


# --- 4.4: what is refused, and where ----------------------------------------------------------------------------------

# Each `¦` marks where the fault lies: the first byte that no valid blob can have there.
SYNTAX = [
    f"{blob(row())}¦x",
    f"{blob(row())} ¦[]",
    f"{blob(row())}¦\x00",
    f"{blob(row())}¦\x0b",
    f"[{row()},¦]",
    f"[¦,{row()}]",
    f"[{row()} ¦{row()}]",
    f"[{row()}¦}}",
    f"[{row(more=',¦')}]",
    f"[{row(more=',¦5')}]",
    f"[{row(more=',¦a:5')}]",
    f"[{row(more=',¦' + chr(39) + 'a' + chr(39) + ':5')}]",
    f'[{row(more=""","a"¦5""")}]',
    f'[{row(more=""","a"¦}""")}]',
    f'[{row(more=""","a":¦,""")}]',
    f"[{row('{¦x:1}')}]",
    f"[{row('{¦,}')}]",
    "[¦/* x */]",
    "[¦'x']",
    "¦}",
    "¦]",
    "¦,",
    '[{"é":"\U0001f600",¦]',
]
SYNTAX += [f'[{{"é":¦{word}}}]' for word in ("NaN", "Infinity", "+1", ".5", "undefined", "True", "None", "x", "١", "'x'")]
SYNTAX += [
    '[{"é":' + numbers + "}]"
    for numbers in ("0¦1", "-0¦1", "1¦_000", "0¦x10", "1¦a", "1¦١", "1 ¦2", "true¦x", "null¦5", '"a"¦"b"')
]

# Faults of a token, which may be laid at its start or at the byte that breaks it; `¦` marks the start, `‖` the byte.
TOKENS = [
    '[{"a":¦-‖Infinity}]',
    '[{"a":¦1.‖}]',
    '[{"a":¦1.‖e5}]',
    '[{"a":¦1e‖}]',
    '[{"a":¦1e+‖,"b":1}]',
    '[{"a":¦-‖}]',
    '[{"a":¦-‖é}]',
    '[{"a":¦tru‖}]',
    '[{"a":¦fals‖é}]',
    '[{"é":¦"\\‖x"}]',
    '[{"é":¦"\\‖U0041"}]',
    '[{"é":¦"\\‖u12"}]',
    '[{"é":¦"\\‖u00_1"}]',
    '[{"é":¦"a\n‖"}]',
    '[{"é":¦"a\x00‖"}]',
    '[{"é":¦"a\x1f‖"}]',
]


@pytest.mark.parametrize("marked", SYNTAX)
def test_the_offset_of_a_fault_of_syntax(marked: str) -> None:
    """The offset is in bytes, whatever the characters before it take, and the same for str and bytes."""
    before, _, after = marked.partition("¦")
    value = before + after
    error = fault(value)
    assert error.offset == len(before.encode())
    assert error.offset == fault(value.encode()).offset
    assert str(error).startswith(f"byte {error.offset}: ")


@pytest.mark.parametrize("marked", TOKENS)
def test_the_offset_of_a_broken_token(marked: str) -> None:
    """A number, word or string that breaks off is a fault between its start and the byte that breaks it."""
    before, _, rest = marked.partition("¦")
    inside, _, after = rest.partition("‖")
    start = len(before.encode())
    for value in (before + inside + after, (before + inside + after).encode()):
        offset = fault(value).offset
        assert offset is not None
        assert start <= offset <= start + len(inside.encode())


@pytest.mark.parametrize("cut", range(1, len(blob(row('{"é":1}', more=',"c":[true,-1.5e3,"\\n"]')).encode())))
def test_a_blob_that_is_cut(cut: int) -> None:
    """A blob cut anywhere is refused with an offset, within the cut blob."""
    whole = blob(row('{"é":1}', more=',"c":[true,-1.5e3,"\\n"]')).encode()
    error = fault(whole[:cut])
    assert error.offset is not None
    assert 0 <= error.offset <= cut


@pytest.mark.parametrize(
    ("value", "offset"),
    [
        (b"\xef\xbb\xbf[]", 0),
        ("\ufeff[]", 0),
        (b"\xff\xfe[\x00]\x00", 0),
        (b"[\x00]\x00", 1),
        (b"\x00[\x00]", 0),
        (b'[{"\xff":1}]', 3),
        ('[{"é":"'.encode() + b'a\xc3("}]', 9),
        (b'[{"\xed\xa0\x80":1}]', 3),
        (b'[{"\xc0\x80":1}]', 3),
        (b'[{"\xf4\x90\x80\x80":1}]', 3),
        (b"[]\xff", 2),
        ('[{"é":"\ud800"}]', 8),
        ("\udc80", 0),
    ],
)
def test_the_offset_of_a_fault_of_encoding(value: Any, offset: int) -> None:
    """A BOM, UTF-16, invalid UTF-8 and a lone surrogate in a str are faults at their byte."""
    assert fault(value).offset == offset


@pytest.mark.parametrize("value", [" ", "\n", b"\t\r\n ", bytearray(b" "), " \n "])
def test_white_space_alone(value: Any) -> None:
    """White space alone is no blob; its fault has an offset."""
    error = fault(value)
    assert error.offset is not None
    assert 0 <= error.offset <= len(value)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"a":[', '[[{"a":'])
def test_the_65th_open_bracket(opening: str) -> None:
    """64 brackets may be open at once, the outer array's the first; the 65th is a fault at its byte."""
    head = f'[{{"timestamp":"{T}","metrics":{{"é":1}},"y":'
    deep = opening * 70
    places = [place for place, char in enumerate(deep) if char in "[{"]

    def nested(brackets: int) -> str:
        """A valid blob with so many brackets open at once, of which the head opens two."""
        inner = deep[: places[brackets - 3] + 1]
        return head + inner + "".join({"[": "]", "{": "}"}[char] for char in reversed(inner) if char in "[{") + "}]"

    assert len(StatSeries.from_json(nested(64))) == 1
    for brackets in (65, 66, 71):
        assert fault(nested(brackets)).offset == len(head.encode()) + places[62]


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_depth_never_ends_the_process(depth: int) -> None:
    """However deep, cut off or not, it is a DecodeError at the 65th bracket and no RecursionError."""
    assert fault("[" * depth).offset == 64
    assert fault("[" * depth + "]" * depth).offset == 64
    assert fault('{"a":' * depth).offset == 64 * 5


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("{}", "$"),
        ("5", "$"),
        ('"x"', "$"),
        ("true", "$"),
        (row(), "$"),
        ("[null]", "$[0]"),
        (blob(row(), "5"), "$[1]"),
        (blob(row(), "[]"), "$[1]"),
        (blob(*[row()] * 17, row('{"net_rx":-1}')), "$[17].metrics.net_rx"),
        ('[{"metrics":{"x":1}}]', "$[0].timestamp"),
        (f'[{{"Timestamp":"{T}"}}]', "$[0].timestamp"),
        ('[{"timestamp":null}]', "$[0].timestamp"),
        ('[{"timestamp":1511794373}]', "$[0].timestamp"),
        ('[{"timestamp":{}}]', "$[0].timestamp"),
        (blob(row(), row(time="2017-11-27T14:52:53.122Z")), "$[1].timestamp"),
        (blob(row(), row(time="2017-11-27T15:52:53.122999999+01:00")), "$[1].timestamp"),
        (blob(row("[]")), "$[0].metrics"),
        (blob(row("5")), "$[0].metrics"),
        (blob(row('"x"')), "$[0].metrics"),
        (blob(row("false")), "$[0].metrics"),
        *(
            (blob(row(f'{{"ok":1,"x":{value}}}')), "$[0].metrics.x")
            for value in (
                "-1",
                "-0",
                "1.5",
                "1.0",
                "1e3",
                "1E0",
                "0.0",
                '"1"',
                "true",
                "false",
                "{}",
                "[]",
                "[1]",
                "18446744073709551616",
                "1e999",
                "-1e999",
                "9" * 5000,
                "-" + "9" * 5000,
                "9" * 5000 + ".0",
                '""',
            )
        ),
        *(
            (blob(row(more=f',"count":{value}')), "$[0].count")
            for value in (
                "0",
                "-1",
                "-0",
                "1.0",
                "1e0",
                '"1"',
                "true",
                "null",
                "[]",
                "{}",
                "9223372036854775808",
                "18446744073709551616",
                "9" * 5000,
            )
        ),
        (blob(row(more=',"count":9223372036854775807'), row(more=',"count":1')), "$[1].count"),
        (blob(row(more=',"count":9223372036854775807'), row()), "$[1].count"),
        (blob(row('{"":-1}')), '$[0].metrics[""]'),
        (blob(row('{"a b":-1}')), '$[0].metrics["a b"]'),
        (blob(row('{"mem_usage@max":-1}')), '$[0].metrics["mem_usage@max"]'),
        (blob(row('{"a.b":-1}')), '$[0].metrics["a.b"]'),
        (blob(row('{"1a":-1}')), '$[0].metrics["1a"]'),
        (blob(row('{"\\u0078":-1}')), "$[0].metrics.x"),
        (blob(row('{"x":1,"x":-1}')), "$[0].metrics.x"),
        (blob(row(more=f',"timestamp":"{T}","timestamp":"bad"')), "$[0].timestamp"),
        (blob(row(more=',"metrics":5')), "$[0].metrics"),
    ],
)
def test_the_path_of_a_fault_of_shape(value: str, path: str) -> None:
    """Each fault of shape is named by its path."""
    for form in (value, value.encode()):
        error = fault(form)
        assert error.path == path
        assert str(error).startswith(f"{path}: ")


def test_a_lone_surrogate_in_a_name() -> None:
    """Escaped, it is valid JSON but no name: a fault of shape, whose message can be printed."""
    for name in ("\\ud800", "a\\udc00b", "\\udc00\\ud800"):
        assert str(fault(blob(row(f'{{"ok":1,"{name}":1}}'))).path).startswith("$[0].metrics")
    assert metrics_of(blob(row('{"\\ud83d\\ude00":1}'))) == {"\U0001f600": 1}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (blob(row('{"x":-1}'), row(time="bad")), "$[0].metrics.x"),
        (blob(row('{"x":-1}', time="bad", more=',"count":0')), "$[0].timestamp"),
        (blob(f'{{"count":0,"metrics":{{"x":-1}},"timestamp":"{T}"}}'), "$[0].metrics.x"),
        (blob(row(), row('{"x":-1}', "2017-11-27T14:52:52Z", ',"count":0')), "$[1].timestamp"),
        (blob(row('{"b":-1,"a":-1}')), "$[0].metrics.b"),
        (blob(row('{"x":1,"b":-1,"x":-1}')), "$[0].metrics.b"),
        (blob(row("5", more=',"count":0')), "$[0].metrics"),
        (blob(row(more=',"count":0'), "null"), "$[0].count"),
        (blob(row(time="bad"), "null"), "$[0].timestamp"),
        (blob("null", row(time="bad")), "$[0]"),
    ],
)
def test_rows_are_judged_in_order(value: str, where: str) -> None:
    """Rows in order; in each the time, its order, the metrics as written, the count."""
    assert fault(value).path == where


@pytest.mark.parametrize(
    "tail",
    [",]", "] x", ',{"a":NaN}]', "", ',{"y":' + "[" * 70, "]\x00"],
)
def test_json_is_judged_over_the_whole_blob_first(tail: str) -> None:
    """A fault of JSON at the end is told before a fault of shape at the start."""
    value = f"[{row(chr(123) + chr(34) + 'x' + chr(34) + ':-1}', 'bad')}{tail}"
    assert fault(value).offset is not None
    assert fault(f"[null{tail}").offset is not None
    assert fault(value.encode() + b"\xff").offset is not None


def test_pythons_digit_limit_does_not_leak() -> None:
    """The interpreter's own limit is neither met nor changed."""
    before = sys.get_int_max_str_digits()
    error = fault(blob(row('{"x":' + "1" * 100_000 + "}")))
    assert "digits" not in str(error).lower() or "limit" not in str(error).lower()
    assert len(str(error)) < 500
    assert sys.get_int_max_str_digits() == before


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    """Whatever the bytes, they are a series or a DecodeError."""
    try:
        StatSeries.from_json(value)
    except DecodeError as error:
        assert (error.offset is None) != (error.path is None)
        assert error.offset is None or 0 <= error.offset <= len(value)


MUTATED = blob(
    row('{"é":12,"x":18446744073709551615}', more=',"count":3'), row('{"x":null}', "2017-11-27T14:52:54+01:30", ',"o":[1.5e3]')
).encode()


@given(st.integers(0, len(MUTATED) - 1), st.sampled_from(b'"{}[]:,0123456789-+.eE \\tn/\xff\xc3\x00Z') | st.none())
def test_one_byte_off_agrees_with_the_standard_library(at: int, byte: int | None) -> None:
    """With one byte replaced or left out, a fault has an offset just when strict JSON refuses the text."""
    value = MUTATED[:at] + (b"" if byte is None else bytes([byte])) + MUTATED[at + 1 :]

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(value.decode(), parse_constant=refuse)
        sound = True
    except ValueError:
        sound = False
    try:
        StatSeries.from_json(value, sort=True)
    except DecodeError as error:
        assert (error.offset is None) == sound
    else:
        assert sound


# --- through the database and back ------------------------------------------------------------------------------------


def test_reductions_go_through_stored_text() -> None:
    """Counts and peaks survive the text, so that a later mean is weighed as before."""
    series = StatSeries([i * 10**9 for i in range(60)], {"x": [i * i for i in range(60)]})
    once = decimate(series, 7, how=("mean", "max"))
    again = StatSeries.from_db(once.to_db())
    assert again == StatSeries.from_json(once.to_json())
    assert rows_of(decimate(again, 1))[0][2] == 60
    assert rows_of(decimate(again, 1))[0][1]["x@max"] == 59 * 59
