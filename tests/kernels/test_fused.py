"""Rows of one shape are read by `_fused.h`, in each of its forms as the scanner reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

import pytest
from kernels.test_backend import run

import callstats.kernels
from callstats import StatBatch, StatSeries, decimate, reduce_json
from support.parity import TWINS
from support.routes import decoded_differently
from support.spellings import SAME, compact

if "cython" not in TWINS:
    pytest.skip("the compiled kernels were left out", allow_module_level=True)

from callstats.kernels import json_cy
from support.fused import FORMS, agree, agreeing_mutants, series, without_limit

SECOND = 10**9


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each form that this processor has, and the scanner alone."""
    json_cy.choose_form(request.param)
    yield request.param
    json_cy.choose_form("auto")


def fused_by(work: Callable[[], object]) -> int:
    """How many rows were read by their shape meanwhile."""
    before = json_cy.fused_rows()
    work()
    return json_cy.fused_rows() - before


# --- that it is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 240, 3_600])
def test_all_rows_are_read_by_their_shape(form: str, n: int) -> None:
    """But for the first one of a long text, before which nothing can be read. A short one is copied, with room around it."""
    full = series(n)
    blob = full.to_json()
    reduce_json([blob] * (1 + 500 // n), 3)  # until the shape is tried, however often it was of no use before
    for door in (
        lambda: reduce_json([blob], 3),
        lambda: reduce_json([blob], None),
        lambda: StatBatch.from_json([blob]),
        lambda: StatSeries.from_json(blob),
    ):
        read = fused_by(door)
        assert read == (0 if form == "off" else n - (len(blob) > 2_048))
    assert reduce_json([blob], 3) == [decimate(full, 3).to_json()]
    assert StatSeries.from_json(blob) == full


@pytest.mark.parametrize("name", ["jsonb", "dumps", "comma-space", "colon-space", "sort_keys", "reversed", "lines-comma-last"])
def test_other_spellings_with_a_mark_behind_each_number(form: str, name: str) -> None:
    """A shape is any text that is the same in all rows."""
    blob = SAME[name](json.loads(series(240).to_json())).encode()
    for _ in range(2):
        assert StatSeries.from_json(blob) == series(240)
    assert (fused_by(lambda: StatSeries.from_json(blob)) > 230) is (form != "off")


def test_counts_are_read_too(form: str) -> None:
    """A text that was reduced has one in each row."""
    reduced = decimate(series(2_400), 240)
    blob = reduced.to_json()
    assert blob.count(b'"count"') == 240
    assert StatSeries.from_json(blob) == StatSeries.from_json(json.dumps(json.loads(blob), indent=1))
    assert (fused_by(lambda: StatSeries.from_json(blob)) > 230) is (form != "off")


def test_wide_numbers_are_read_too(form: str) -> None:
    """A limit that is no limit has 19 digits in each row. Once a metric had such a number, it may have others."""
    blobs = [without_limit(240).to_json(), series(240, digits=20).to_json()]
    for blob in blobs:
        for _ in range(2):
            assert reduce_json([blob], 3) == [decimate(StatSeries.from_json(json.dumps(json.loads(blob), indent=1)), 3).to_json()]
    for blob in [*blobs, series(240).to_json()]:
        read = fused_by(lambda blob=blob: StatSeries.from_json(blob))  # type: ignore[misc]
        assert read == 0 if form == "off" else read > 230


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("n" * 5, "o" * 11), ("n" * 10, "o" * 12, "p" * 50)])
@pytest.mark.parametrize(
    "n", [1, 9, 10**15, 10**16 - 1, 10**16, 10**17, 10**19 - 1, 10**19, 1844 * 10**16, 2**64 - 10**16, 2**64 - 1]
)
def test_wide_numbers_of_any_size(names: tuple[str, ...], n: int) -> None:
    """In a slot that is known to have wide numbers, wherever it is in the row; and those that are refused."""
    for name in names:
        blob = series(40, names=names, **{name: [2**64 - 1] * 20 + [n] * 20}).to_json()
        assert agree([blob, blob]) > 60
        assert StatSeries.from_json(blob)[name].tolist()[20:] == [n] * 20
        good = f'"{name}":{n}'.encode()
        for bad in (f"0{n}", f"{n + 2**64}", f"{n}0000", f"{n}"[:-1] + "x", f"-{n}", "", f"{2**64}", f"{10**20}", f"{n:021}"):
            other = blob[::-1].replace(good[::-1], f'"{name}":{bad}'.encode()[::-1], 1)[::-1]
            assert other != blob
            agree([blob, other, blob])
            assert decoded_differently([other]) == []


def test_shapes_that_are_of_no_use_are_left_alone() -> None:
    """Rows of two shapes in turn, and times of another form, are tried ever less often."""
    rows = json.loads(series(5_000).to_json())
    for i in range(0, len(rows), 2):
        del rows[i]["metrics"]["net_rx"]
    blob = compact(rows).encode()
    assert fused_by(lambda: StatSeries.from_json(blob)) < 300


# --- that it gives the same ---------------------------------------------------------------------------------------------

ROW = '{"timestamp":"2017-11-27T14:52:5%d.002Z","metrics":{"a":11,"bc":345,"d,}e":6},"count":7}'
ODD = {
    "16-digits": ("345", "9" * 16),
    "17-digits": ("345", "9" * 17),
    "20-digits": ("345", str(2**64 - 1)),
    "21-digits": ("345", str(10**20)),
    "too-large": ("345", str(2**64)),
    "zero": ("345", "0"),
    "two-zeros": ("345", "00"),
    "leading-zero": ("345", "0345"),
    "none": ("345", ""),
    "minus": ("345", "-345"),
    "point": ("345", "3.5"),
    "letter": ("345", "3a5"),
    "colon": ("345", "3:5"),
    "slash": ("345", "3/5"),
    "upper-half": ("345", "3\u00e95"),
    "space": ("345", "345 "),
    "space-before": ("345", " 345"),
    "null": ("345", "null"),
    "count-0": (":7}", ":0}"),
    "count-1": (":7}", ":1}"),
    "count-16": (":7}", ":" + "9" * 16 + "}"),
    "count-19": (":7}", f":{2**63 - 1}}}"),
    "count-too-large": (":7}", f":{2**63}}}"),
    "no-count": (',"count":7', ""),
    "name": ('"bc"', '"bd"'),
    "name-shorter": ('"bc"', '"b"'),
    "name-with-marks": ("d,}e", "d},e"),
    "second-60": (":52:5%d", ":52:60"),
    "minute-60": (":52:5%d", ":60:00"),
    "another-minute": ("14:52:5%d", "15:00:00"),
    "earlier": ("14:52:5%d", "14:51:59"),
    "no-fraction": (".002Z", "Z"),
    "nine-digits": (".002Z", ".002000001Z"),
    "small-z": ("Z", "z"),
    "offset": ("Z", "+01:00"),
    "fraction-of-letters": (".002", ".0a2"),
    "comma-mark": (".002", ",002"),
    "marks-in-time": ("14:52:5%d.002Z", "},},},},},},}"),
    "row-closed-twice": ("7}", "7}}"),
    "another-member": (":7}", ':7,"x":1}'),
    "nul": ("345", "3\x005"),
}


@pytest.mark.parametrize("where", ["first", "second", "middle", "last"])
@pytest.mark.parametrize("name", ODD)
def test_odd_rows(name: str, where: str) -> None:
    """One odd row among good ones is read, or not, as the scanner does it; also by what the kernels leave to the decoder."""
    old, new = ODD[name]
    assert old in ROW
    for n in (6, 60):
        rows = [ROW % (i * 9 // n) for i in range(n)]
        at = {"first": 0, "second": 1, "middle": n // 2, "last": n - 1}[where]
        odd = ROW.replace(old, new)
        rows[at] = odd % (at * 9 // n) if "%" in odd else odd
        good = "[" + ",".join(ROW % (i * 9 // n) for i in range(n)) + "]"
        blobs = [good.encode(), ("[" + ",".join(rows) + "]").encode(), good.encode()]
        agree(blobs)
        assert decoded_differently(blobs[1:2]) == []


@pytest.mark.parametrize("names", [("a",), ("n" * 12, "o" * 13), ("n" * 28, "o" * 29, "p" * 60), ("q" * 140, "r"), ("s" * 200,)])
def test_names_of_any_length(names: tuple[str, ...]) -> None:
    """Texts between numbers are compared in part with the number behind them, and in pieces."""
    blob = series(40, names=names).to_json()
    agree([blob, blob])
    for name in names:
        for at in range(len(name)):
            other = blob.replace(f'"{name}"'.encode(), f'"{name[:at]}X{name[at + 1 :]}"'.encode())
            mixed = blob[: blob.index(b"},{", 900)] + other[blob.index(b"},{", 900) :]
            agree([blob, mixed])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 20, 37, 38, 39, 75, 247, 248, 249, 500, 1_000])
@pytest.mark.parametrize("names", [1, 2, 9, 60, 300])
def test_any_number_of_rows_and_metrics(n: int, names: int) -> None:
    """Blocks of marks, room and the copy of the last rows end anywhere in a text."""
    if n * names > 20_000:
        n = 20_000 // names
    step = random.Random(n).choice((SECOND, 7 * SECOND, 61 * SECOND, 5 * 10**6))
    full = series(n, names=tuple(f"m{j:03}" for j in range(names)), step=step)
    blob = full.to_json()
    agree([blob, blob, full[: n // 2].to_json(), blob])
    assert StatSeries.from_json(blob) == StatSeries.from_json(json.loads(blob))


@pytest.mark.parametrize("size", [156, 157, 200, 220])
def test_a_text_beyond_reach_is_left_to_the_scanner(form: str, size: int) -> None:
    """A shape looks 192 bytes behind a mark, and compares 32 at once: for a name, with its comma, quotes and colon, 160."""
    full = series(40, names=("a", "b" * size))
    reduce_json([full.to_json()] * 20, 3)  # until the shape is tried
    assert fused_by(lambda: StatSeries.from_json(full.to_json())) == (39 if form != "off" and size <= 156 else 0)
    assert StatSeries.from_json(full.to_json()) == full


def test_a_text_cut_or_followed_anywhere() -> None:
    """What lies behind a text in memory is no part of it."""
    blob = series(30).to_json()
    blobs = [blob[:end] for end in range(len(blob) - 700, len(blob) + 1)]
    agree([part for cut in blobs for part in (cut, blob[len(cut) :] + blob)])
    short = series(4, names=("a", "b")).to_json()
    agree([short, *(short[:end] for end in range(len(short)))])


def test_mutants() -> None:
    """A little of what `make fuzz` does for longer."""
    assert agreeing_mutants(6_000, 5) > 60_000


@pytest.mark.parametrize("order", [lambda row: row, lambda row: dict(reversed(row.items()))])
@pytest.mark.parametrize("extra", ["7", "0", ",", "}", '"'])
def test_a_byte_too_many_anywhere(order: Callable[[dict[str, object]], dict[str, object]], extra: str) -> None:
    """In a row amid others, at each of its bytes: between a text and its mark too, where no number's digits are missed."""
    rows = [
        json.dumps(order(row), separators=(",", ":"))
        for row in json.loads(series(20, digits=9, names=("cpu", "disk", "mem", "rx", "tx")).to_json())
    ]
    blobs = [
        ("[" + ",".join([*rows[:12], rows[12][:at] + extra + rows[12][at:], *rows[13:]]) + "]").encode()
        for at in range(len(rows[12]) + 1)
    ]
    assert agree(blobs) > 0


@pytest.mark.parametrize("names", [("p50", "p99", "x"), ("a", "b", "7"), ("a",), ("a", "b", "c", "d"), ("a", "b", "c", "d", "e")])
def test_names_with_digits_and_any_number_of_metrics(names: tuple[str, ...]) -> None:
    """Digits may be in texts as well, and numbers come in fours."""
    assert agree([series(40, names=names).to_json(), decimate(series(400, names=names), 40).to_json()]) > 60


@pytest.mark.parametrize("n", [3, 4, 5, 60])
def test_numbers_of_any_size_are_written(n: int) -> None:
    """Their digits are found for four rows at once, in two halves."""
    edges = [0, 9, 10, 10**4 - 1, 10**4, 10**8 - 1, 10**8, 10**8 + 1, 2**31, 2**32 - 1, 2**40 - 1, 2**40, 2**63, 2**64 - 1]
    values = [edge for power in range(20) for edge in (10**power - 1, 10**power)] + edges
    rng = random.Random(n)
    columns = {f"m{j}": [rng.choice(values) for _ in range(n)] for j in range(70)}
    for names in (list(columns), list(columns)[:64], list(columns)[:9]):
        written = StatSeries(list(range(n)), {name: columns[name] for name in names})
        rows = json.loads(written.to_json())
        assert [row["metrics"] for row in rows] == [{name: columns[name][i] for name in sorted(names)} for i in range(n)]


# --- the switch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", FORMS)
def test_the_switch(word: str) -> None:
    """Each form can be asked for when the package is imported."""
    blob = series(240).to_json().decode()
    code = f"import callstats; callstats.reduce_json([{blob!r}], 60); print(callstats.kernels.active.fused_rows())"
    done = run(code, "-I", CALLSTATS_FUSED=word)
    assert (int(done.stdout) > 200) is (word != "off"), done.stderr


@pytest.mark.parametrize("word", ["AVX2", "on", "", "1", "avx1024"])
def test_any_other_word_is_an_error(word: str) -> None:
    """With either backend."""
    for backend in ("auto", "python"):
        done = run("import callstats", "-I", CALLSTATS_FUSED=word, CALLSTATS_BACKEND=backend)
        assert done.stderr.strip().splitlines()[-1] == (
            f"ImportError: CALLSTATS_FUSED must be one of auto, off, portable, avx2, avx512, got {word!r}"
        )


def test_a_form_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and not replaced by another one."""
    monkeypatch.setattr(callstats.kernels, "active", type("None", (), {"BACKEND": "cython", "choose_form": lambda word: False}))
    with pytest.raises(ImportError, match="CALLSTATS_FUSED=avx2, but this processor or build has no such form"):
        callstats.kernels._choose_form("avx2")
