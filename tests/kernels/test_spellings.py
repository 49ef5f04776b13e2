"""One meaning in many spellings: both decoders, and every order of blobs and rows, give the same series or the same refusal."""

from __future__ import annotations

import json
import random
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import callstats._json
from callstats import DecodeError, StatSeries, decimate, reduce_json
from callstats._limits import MAX_CELLS, MAX_DEPTH
from callstats.batch import decode_buffer
from support.routes import decoded_differently, disagreements
from support.spellings import OTHER, SAME, compact

pytestmark = pytest.mark.usefixtures("backend")

SECOND = 10**9
FULL = StatSeries([i * SECOND for i in range(240)], {name: [i * j**9 for i in range(240)] for j, name in enumerate("abcdefghx")})
ROWS: list[Any] = json.loads(FULL.to_json())


@pytest.mark.parametrize("name", SAME)
def test_the_same_series_from_each_spelling(name: str) -> None:
    """White space, the order of members, unknown ones, escapes, nulls and forms of times change nothing."""
    blob = SAME[name](ROWS).encode()
    assert StatSeries.from_json(blob) == FULL
    assert reduce_json([blob], 60) == [decimate(FULL, 60).to_json()]
    assert reduce_json([blob], 240) == [blob]


@pytest.mark.parametrize("name", OTHER)
def test_both_decoders_agree_on_every_spelling(name: str) -> None:
    """Alone, and with a budget."""
    blob = OTHER[name](ROWS[:50]).encode()
    assert decoded_differently([blob]) == []
    assert disagreements([blob], rule=7, how=("mean", "max")) == []
    assert disagreements([blob], rule=None, max_bytes=2_000) == []


def test_blobs_of_all_spellings_in_turn() -> None:
    """What was learnt from one blob does no harm to any other."""
    rng = random.Random(3)
    spelled = [spell(ROWS[i : i + 4]).encode() for i, spell in enumerate((SAME | OTHER).values())]
    blobs = [blob for _ in range(6) for blob in rng.sample(spelled, len(spelled))]
    assert disagreements(blobs, rule=2) == []
    data = np.frombuffer(b"".join(blobs), dtype=np.uint8)
    batch, refused = decode_buffer(data, np.cumsum([0, *map(len, blobs)]))
    assert not refused
    assert list(batch) == [StatSeries.from_json(blob) for blob in blobs]


def test_rows_of_all_spellings_in_turn() -> None:
    """In one blob too."""
    rng = random.Random(4)
    texts = [spell([row])[1:].strip()[:-1] for row in ROWS[:3] for spell in (SAME | OTHER).values()]
    texts = [text for text in texts if text.strip()]
    for _ in range(40):
        some = rng.sample(texts, 20)
        some.sort(key=lambda text: text[text.index("1970") :][:23].upper().replace(" ", "T"))
        assert decoded_differently([("[" + ",".join(some) + "]").encode()]) == []


GOOD = '{"timestamp":"1970-01-01T00:00:07Z","metrics":{"x":1,"y":2},"count":2,"more":3}'
ODD: dict[str, tuple[str, str]] = {
    "twice-a-metric": ('"y"', '"x"'),
    "twice-a-metric-by-an-escape": ('"y"', '"\\u0078"'),
    "twice-the-time": ('"more":3', '"timestamp":"1970-01-01T00:00:08Z"'),
    "twice-the-metrics": ('"more":3', '"metrics":{"z":1}'),
    "twice-the-metrics-as-null": ('"more":3', '"metrics":null'),
    "twice-the-count": ('"more":3', '"count":3'),
    "twice-an-unknown-member": ('"more":3', '"more":3,"more":[4]'),
    "no-time": ('"timestamp"', '"timestamps"'),
    "time-null": ('"1970-01-01T00:00:07Z"', "null"),
    "time-a-number": ('"1970-01-01T00:00:07Z"', "7"),
    "time-escaped": ("Z", "\\u005a"),
    "time-cut": ("07Z", "07"),
    "time-in-1677": ("1970", "1677"),
    "time-by-offset-in-2262": ("1970-01-01T00:00:07Z", "2262-04-11T23:47:16.854775807Z"),
    "fraction-empty": ("07Z", "07.Z"),
    "fraction-long": ("07Z", "07.1234567891234567890123456789Z"),
    "fraction-of-nine": ("07Z", "07.123456789Z"),
    "comma-mark": ("07Z", "07,5Z"),
    "second-60": ("07Z", "60Z"),
    "offset": ("07Z", "07+23:59"),
    "offset-24": ("07Z", "07+24:00"),
    "offset-minute-60": ("07Z", "07-00:60"),
    "offset-without-colon": ("07Z", "07+0100"),
    "count-0": ('"count":2', '"count":0'),
    "count-1": ('"count":2', '"count":1'),
    "count-null": ('"count":2', '"count":null'),
    "count-float": ('"count":2', '"count":2.0'),
    "count-negative": ('"count":2', '"count":-2'),
    "count-text": ('"count":2', '"count":"2"'),
    "count-zeros": ('"count":2', '"count":02'),
    "count-too-large": ('"count":2', f'"count":{2**63}'),
    "count-largest": ('"count":2', f'"count":{2**63 - 1}'),
    "counts-in-all-too-large": ('"count":2', f'"count":{2**63 - 3}'),
    "value-float": ('"x":1', '"x":1.0'),
    "value-exponent": ('"x":1', '"x":1e3'),
    "value-minus-zero": ('"x":1', '"x":-0'),
    "value-zeros": ('"x":1', '"x":01'),
    "value-zero": ('"x":1', '"x":0'),
    "value-null": ('"x":1', '"x":null'),
    "value-nul": ('"x":1', '"x":nul'),
    "value-nullx": ('"x":1', '"x":nullx'),
    "value-true": ('"x":1', '"x":true'),
    "value-text": ('"x":1', '"x":"1"'),
    "value-none": ('"x":1', '"x":'),
    "value-largest": ('"x":1', f'"x":{2**64 - 1}'),
    "value-too-large": ('"x":1', f'"x":{2**64}'),
    "value-of-21-digits": ('"x":1', '"x":100000000000000000000'),
    "value-of-5000-digits": ('"x":1', f'"x":{"1" * 5_000}'),
    "metrics-a-list": ('{"x":1,"y":2}', "[]"),
    "metrics-empty": ('{"x":1,"y":2}', "{ }"),
    "metrics-null": ('{"x":1,"y":2}', "null"),
    "comma-first": ('{"x"', '{,"x"'),
    "comma-last": ('"y":2', '"y":2,'),
    "comma-missing": ('1,"y"', '1 "y"'),
    "colon-missing": ('"y":', '"y" '),
    "row-comma-last": ('"more":3', '"more":3,'),
    "row-null": (GOOD, "null"),
    "row-a-list": (GOOD, "[]"),
    "row-none": (GOOD, " "),
    "more-float": ('"more":3', '"more":-1.5e+3'),
    "more-minus": ('"more":3', '"more":-'),
    "more-point": ('"more":3', '"more":1.'),
    "more-exponent": ('"more":3', '"more":1e'),
    "more-exponent-d": ('"more":3', '"more":1d5'),
    "more-exponent-with-a-star": ('"more":3', '"more":1e*5'),
    "more-zeros": ('"more":3', '"more":00'),
    "more-plus": ('"more":3', '"more":+1'),
    "more-nan": ('"more":3', '"more":NaN'),
    "more-infinity": ('"more":3', '"more":-Infinity'),
    "more-tru": ('"more":3', '"more":tru'),
    "more-lone-surrogate": ('"more":3', '"more":"\\ud800"'),
    "more-name-lone-surrogate": ('"more"', '"\\udc00"'),
    "more-escape": ('"more":3', '"more":"\\x"'),
    "more-half-an-escape": ('"more":3', '"more":"\\u12g4"'),
    "more-control": ('"more":3', '"more":"\n"'),
    "more-delete": ('"more":3', '"more":"\x7f"'),
    "more-open": ('"more":3', '"more":[1'),
    "more-closed-wrongly": ('"more":3', '"more":[{"a":1]}'),
    "more-comma": ('"more":3', '"more":[1,]'),
    "more-comma-alone": ('"more":3', '"more":[,]'),
    "more-member": ('"more":3', '"more":{"a"}'),
    "more-member-comma": ('"more":3', '"more":{"a":1,}'),
    "more-space": ('"more":3', '"more" : [ { "a" : [ ] , "b" : { } } , "" ] '),
    "more-deepest": ('"more":3', '"more":' + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2)),
    "more-too-deep": ('"more":3', '"more":' + '[{"a":' * 31 + "[1]" + "}]" * 31),
    "name-lone-surrogate": ('"y"', '"\\ud800"'),
    "name-pair": ('"y"', '"\\ud83d\\ude00"'),
    "name-pair-reversed": ('"y"', '"\\ude00\\ud83d"'),
    "name-escapes": ('"y"', '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20ac"'),
    "name-nul": ('"y"', '"\\u0000"'),
    "name-empty": ('"y"', '""'),
    "name-unquoted": ('"y"', "y"),
    "name-long": ('"y"', '"' + "n" * 3_000 + '"'),
    "space-no-break": ("{", "\u00a0{"),
    "space-form-feed": ("{", "\f{"),
    "bom": ("{", "\ufeff{"),
}
"""What of a good row is replaced by what."""

BYTES: dict[str, bytes] = {
    "cut": b"\xc3",
    "continued": b"\x80",
    "overlong": b"\xc0\x80",
    "overlong-of-three": b"\xe0\x80\xaf",
    "overlong-of-four": b"\xf0\x80\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond": b"\xf4\x90\x80\x80",
    "ff": b"\xff",
    "two": b"\xc2\x80",
    "before-surrogates": b"\xed\x9f\xbf",
    "three": b"\xef\xbf\xbf",
    "last": b"\xf4\x8f\xbf\xbf",
    "three-of-four": b"\xf0\x9f\x98",
}


def among(odd: bytes) -> list[bytes]:
    """Blobs with an odd row first, last, in the middle, alone, and behind rows that are nearly the same."""
    good = GOOD.encode()
    return [
        b"[" + b",".join(rows) + b"]\n"
        for rows in ([odd], [good, odd], [odd, good], [good, odd, good], [good, odd, odd, good, good])
    ]


@pytest.mark.parametrize("name", ODD)
def test_odd_rows(name: str) -> None:
    """Both decoders read an odd row alike, or refuse it in the same words, wherever it stands."""
    old, new = ODD[name]
    assert old in GOOD
    odd = GOOD.replace(old, new, 1).encode()
    for order in permutations(among(odd), 2):
        assert disagreements(order, rule=2) == []
    assert decoded_differently(among(odd)) == []


@pytest.mark.parametrize("place", ['"y"', '"more"', '"more":3'])
@pytest.mark.parametrize("name", BYTES)
def test_odd_utf8(name: str, place: str) -> None:
    """In names and values, known and unknown."""
    old = place.encode()
    new = old.replace(b"3", b'"a?"') if place.endswith("3") else old.replace(b'"', b'"?', 1)
    odd = GOOD.encode().replace(old, new.replace(b"?", BYTES[name]))
    assert decoded_differently(among(odd)) == []
    assert disagreements(among(odd), rule=1) == []


def test_a_blob_cut_anywhere() -> None:
    """No byte beyond the end of a blob is part of it, whatever follows it in memory."""
    for spell in (SAME["go"], SAME["jsonb"], SAME["unknown-members"], OTHER["escaped-name"], OTHER["alternating"]):
        blob = spell(ROWS[:3]).encode()
        cuts = [blob[:end] for end in range(len(blob))]
        data = np.frombuffer(b"".join(blob[end:] + blob[:end] for end in range(len(blob))), dtype=np.uint8)
        edges = [edge for end in range(len(blob)) for edge in ((end + 1) * len(blob) - end, (end + 1) * len(blob))]
        batch, refused = decode_buffer(data, np.array([0, *edges]))
        for end, cut in enumerate(cuts):
            [wanted] = reduce_json([cut], None, errors="return")
            found = refused.get(2 * end + 1)
            assert (
                str(found) == str(wanted) if isinstance(wanted, DecodeError) else batch[2 * end + 1] == StatSeries.from_json(cut)
            )


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24, 247, 248, 249, 1_000, 5_000])
def test_any_number_of_rows(n: int) -> None:
    """Room grows with what was read in it."""
    rng = np.random.default_rng(n)
    cells = {name: rng.integers(0, 10 ** (1 + 3 * j), n).tolist() for j, name in enumerate("abcd")}
    full = StatSeries(np.arange(n), cells)
    late = StatSeries(np.arange(n), {**cells, "late": [None] * (n - 1) + [1], "odd": [i if i % 2 else None for i in range(n)]})
    short_first = StatSeries(np.arange(n), {name: [None, *values[1:]] for name, values in cells.items()})
    for series in (full, late, short_first):
        assert StatSeries.from_json(series.to_json(digits=9)) == series
        assert StatSeries.from_json(json.dumps(json.loads(series.to_json(digits=9)), indent=1)) == series


def test_more_forms_of_rows_than_are_kept() -> None:
    """Rows that part in a hundred ways, and more steps than the tree may have."""
    rows = [
        {"timestamp": row["timestamp"], f"u{i}": i, "metrics": {f"m{i % 90}": i, f"n{i % 7}": 1}} for i, row in enumerate(ROWS)
    ]
    wide = [{**ROWS[i % 5 + i // 5], "metrics": {f"{i % 5}-{j}": i for j in range(600)}} for i in range(30)]
    blobs = [compact(part).encode() for part in (rows, wide, rows, rows[::-1][::-1])]
    assert decoded_differently(blobs) == []
    assert disagreements(blobs, rule=9) == []


def test_more_names_than_are_remembered() -> None:
    """Blobs with names of their own each, until the scanner forgets, and the first again."""
    blobs = [compact([{**ROWS[0], "metrics": {f"{i}/{j}": j for j in range(9_000)}}]).encode() for i in range(9)]
    blobs += [SAME["go"](ROWS[:5]).encode(), blobs[0]]
    assert disagreements(blobs, rule=0) == []
    assert [series.names for series in map(StatSeries.from_json, blobs)][9] == FULL.names
    assert StatSeries.from_json(blobs[-1]).names == StatSeries.from_json(blobs[0]).names


def test_names_of_their_own_after_others_were_forgotten() -> None:
    """The scanner numbers names anew, and what was planned for the old ones must not be done to the new ones."""
    many = compact([{**ROWS[0], "metrics": {f"n{j}": j for j in range(66_000)}}]).encode()
    series = [StatSeries([0, SECOND], {name: [1, 3]}) for name in "abc"]
    blobs = [blob for one in series for blob in (many, one.to_json())]
    assert reduce_json(blobs, 1, threads=1)[1::2] == [decimate(one, 1).to_json() for one in series]


@pytest.mark.parametrize("k", [255, 256, 257, 300])
def test_hundreds_of_metrics(k: int) -> None:
    """No number of metrics is special."""
    series = StatSeries([0, SECOND, 2 * SECOND], {f"m{j}": [j, j * 2**40, 2**64 - 1 - j] for j in range(k)})
    assert StatSeries.from_json(series.to_json()) == series
    assert reduce_json([series.to_json()], 1) == [decimate(series, 1).to_json()]


def test_the_limit_of_cells() -> None:
    """A small text may have 2**24 cells, and not one metric more."""
    n = 4_096
    assert n * n == MAX_CELLS
    rows = [f'{{"timestamp":"1970-01-01T00:00:00Z","metrics":{{"m{i}":1}}}}' for i in range(n)]
    series = StatSeries.from_json("[" + ",".join(rows) + "]")
    assert series.values.shape == (n, n)
    assert int(series.values.sum()) == n
    rows[0] = rows[0].replace('"m0":1', '"m0":1,"more":1')
    with pytest.raises(DecodeError, match=f"at most {MAX_CELLS} cells") as caught:
        StatSeries.from_json("[" + ",".join(rows) + "]")
    assert caught.value.path == "$[4095].metrics.m4095"


def test_a_text_of_values_has_no_limit_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cells for each value are allowed, however many they are."""
    monkeypatch.setattr(callstats._json, "MAX_CELLS", 64)
    rows = [{"timestamp": "1970-01-01T00:00:00Z", "metrics": {f"m{j}": 1 for j in range(10)}} for _ in range(10)]
    assert StatSeries.from_json(rows).values.shape == (10, 10)
    sparse = [{**row, "metrics": {f"m{i}": 1}} for i, row in enumerate(rows)]
    with pytest.raises(DecodeError, match="at most 64 cells"):
        StatSeries.from_json(sparse)
