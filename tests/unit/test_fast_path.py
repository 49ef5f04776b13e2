"""The fast path of the compiled backend decodes a blob in any spelling, whatever function it is given to."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from sqlite3 import connect
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import callstats._json
import callstats.batch
import callstats.kernels
import callstats.reduce
from callstats import DecodeError, Rule, StatBatch, StatSeries, decimate, reduce_json
from callstats.adapters import arrow, sqlite
from callstats.batch import decode_buffer
from callstats.cli.app import cli
from callstats.kernels.json_reduce_py import UNREAD
from callstats.reduce import _layout_for, reduce_buffer
from callstats.stats.call import _kernel_layout
from callstats.stats.calls import CallData, CallScalars, summarize_calls
from support.database import cells, made
from support.parity import TWINS
from support.routes import fallback_decoder
from support.spellings import OTHER, SAME
from support.tables import reduce_table, summarize_table
from support.zoo import EPOCH, SECOND

pytestmark = [
    pytest.mark.usefixtures("backend"),
    pytest.mark.parametrize("backend", [name for name in TWINS if name != "python"], indirect=True),
]

FN = ("cpu_kernel", "cpu_total", "cpu_user", "disk_read", "disk_write", "mem_limit", "mem_usage", "net_rx", "net_tx")


def series(n: int, *, start: int = EPOCH) -> StatSeries:
    """Fn's nine metrics, a row a second, with values of 1 to 20 digits."""
    metrics = {name: [(2**64 - 1) // 10 ** ((7 * i + j) % 20) for i in range(n)] for j, name in enumerate(FN)}
    return StatSeries([start + i * SECOND for i in range(n)], metrics)


def with_holes(n: int) -> StatSeries:
    """Metrics that come, go, and are in no row together; rows without any."""
    times = [EPOCH + i * SECOND for i in range(n)]
    late = [i if i > n // 2 else None for i in range(n)]
    odd = [i if i % 2 else None for i in range(n)]
    rare = [7 if i % 16 == 3 else None for i in range(n)]
    return StatSeries(times, {"late": late, "odd": odd, "rare": rare})


def two_rows(first: str, second: str) -> bytes:
    """A blob with these times."""
    text = f'[{{"timestamp":"{first}","metrics":{{"x":1}}}},{{"timestamp":"{second}","metrics":{{"x":4}}}}]'
    return text.encode()


GO: dict[str, bytes] = {
    "no-row": b"",
    "1-row": series(1).to_json(),
    "2-rows": series(2).to_json(),
    "240-rows": series(240).to_json(),
    "300-rows": series(300).to_json(),
    "rows-without-metrics": StatSeries([0, SECOND, 2 * SECOND], {}).to_json(),
    "holes": with_holes(240).to_json(),
    "holes-and-1-row": with_holes(8)[3:4].to_json(),
    "200-metrics": StatSeries([0, SECOND], {f"m{i:03}": [i, 2**64 - 1 - i] for i in range(200)}).to_json(),
    "counts": decimate(series(300), 200).to_json(),
    "counts-and-holes": decimate(with_holes(300), 60).to_json(),
    "peaks": decimate(series(300), 60, how=("mean", "max", "min", "first", "last")).to_json(),
    "peaks-without-counts": decimate(series(300), 60, how=("mean", "max")).to_json(counts=False),
    "9-digits": StatSeries([EPOCH + i * 123_456_789 for i in range(30)], {"x": range(30)}).to_json(digits=9),
    "no-newline": series(240).to_json().rstrip(b"\n"),
    "whole-seconds": two_rows("2017-11-27T14:52:53Z", "2017-11-27T14:52:54Z"),
    "an-offset": two_rows("2017-11-27T08:52:53.5-06:00", "2017-11-27T20:22:54.5+05:30"),
    "before-1970": series(20, start=-(10**18)).to_json(),
    "the-first-and-the-last-year": StatSeries([-9_214_560_000 * SECOND, 9_214_646_399 * SECOND], {"x": [1, 2]}).to_json(),
    "equal-times": StatSeries([EPOCH] * 50, {"x": range(50)}).to_json(),
    "odd-names": StatSeries(
        [0, 1], {name: [1, 2] for name in ("", " ", "*", "x@max", "x@min@max", "a.b/c:d,{}[]'", "~", "\x7f")}
    ).to_json(),
}
"""Blobs of the form in which Go's encoder and `to_json` write them."""

ROWS = json.loads(series(12).to_json()) + json.loads(StatSeries([EPOCH + 20 * SECOND], {"x": [7]}).to_json())
BLOBS = GO | {name: spell(ROWS).encode() for name, spell in (SAME | OTHER).items()}
BLOBS["300-metrics"] = StatSeries([0, SECOND], {f"m{i:03}": [i, 2**64 - 1 - i] for i in range(300)}).to_json()
BLOBS["2000-metrics"] = json.dumps(json.loads(StatSeries([0, 1], {f"m{i}": [i, i] for i in range(2_000)}).to_json())).encode()
BLOBS["sparse"] = StatSeries(
    [i * SECOND for i in range(300)], {f"m{j}": [None] * j + [1] * (300 - j) for j in range(300)}
).to_json()
BLOBS["null"] = b" null "
BLOBS["no-rows"] = b"[ ]"
BLOBS["deep"] = b'[{"more":' + b"[" * 62 + b"]" * 62 + b',"timestamp":"2017-11-27T14:52:53Z"}]'
BLOBS["escapes"] = (
    rb'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"a\u0000b":1},'
    rb'"more":[true,false,null,"\\ \/ \b\f\n\r\t\" \u0000 \ud83d\ude00 \u00e9"]}]'
)
"""And in any other spelling."""

TWICE = b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":0,"x":1}}]'
"""Good, but left to the fallback decoder: the last of two members counts."""

RULES: dict[str, dict[str, Any]] = {
    "240-rows": {"rule": 240},
    "60-rows": {"rule": 60},
    "1-row": {"rule": 1},
    "no-row": {"rule": 0},
    "no-limit": {"rule": None},
    "peaks": {"rule": 7, "how": {"mem_usage": ("mean", "max"), "*": "last"}, "missing": "zero"},
    "budget-that-all-meet": {"rule": 240, "max_bytes": 10**7},
    "budget": {"rule": 240, "max_bytes": 30_000},
    "budget-without-limit": {"rule": None, "max_bytes": 40_000},
    "without-counts": {"rule": 60, "counts": False},
    "budget-without-counts": {"rule": 240, "max_bytes": 30_000, "counts": False},
}

blobs_by_name = pytest.mark.parametrize("name", BLOBS)
by_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


class SlowError(Exception):
    """The fallback decoder was asked."""


PARSED = callstats._json.parsed


def slow(*_: object, **__: object) -> NoReturn:
    """Stand in for the fallback decoder."""
    raise SlowError


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no door reach the fallback decoder: the parser of JSON, and what the doors call of texts that the kernels leave."""
    monkeypatch.setattr(callstats._json, "parsed", slow)
    monkeypatch.setattr(callstats.reduce, "_reduce_blob", slow)


def buffer(blobs: list[bytes]) -> tuple[Any, Any]:
    """One buffer and its offsets."""
    offsets = np.cumsum([0, *map(len, blobs)], dtype=np.int64)
    return np.frombuffer(b"".join(blobs), dtype=np.uint8), offsets


def wanted(rule: dict[str, Any]) -> list[bytes]:
    """What each blob becomes by the fallback decoder."""
    with fallback_decoder():
        return reduce_json(BLOBS.values(), **rule)


# --- the kernels' own word ---------------------------------------------------------------------------------------------------


@blobs_by_name
def test_kernels_take_any_spelling(name: str) -> None:
    """No kernel leaves a good blob, alone or after one that it does leave."""
    blob, kernels = BLOBS[name], callstats.kernels.active
    assert kernels.decode_blob(blob) is not None
    assert kernels.blob_totals(blob, _kernel_layout) is not None
    for blobs in ([blob], [TWICE, blob, b"no", blob, b""]):
        taken = [other not in (TWICE, b"no") for other in blobs]
        *_, decoded = kernels.decode_packed(*buffer(blobs))
        assert decoded.astype(bool).tolist() == taken
        for rule in (Rule(240), Rule(1), Rule(0), Rule(None, max_bytes=10**7)):
            given = (-1 if rule.max_samples is None else rule.max_samples, -1 if rule.max_bytes is None else rule.max_bytes)
            if rule.max_samples is None:
                given = (2**63 - 1, given[1])
            *_, status = kernels.reduce_packed(*buffer(blobs), *given, False, True, _layout_for(rule))
            assert [left != UNREAD for left in status.tolist()] == taken
            results, _ = kernels.reduce_blobs(blobs, *given, False, True, _layout_for(rule))
            assert [result is not None for result in results] == taken


@blobs_by_name
@pytest.mark.parametrize("before", GO)
def test_no_blob_makes_the_next_one_slow(before: str, name: str) -> None:
    """The room that the scanner keeps from one blob, long or wide, is no reason to leave the next one."""
    blobs, kernels = [GO[before], BLOBS[name], GO[before]], callstats.kernels.active
    *_, decoded = kernels.decode_packed(*buffer(blobs))
    assert decoded.tolist() == [1, 1, 1]
    *_, status = kernels.reduce_packed(*buffer(blobs), 1, -1, False, True, _layout_for(Rule(1)))
    assert UNREAD not in status.tolist()


# --- the doors ---------------------------------------------------------------------------------------------------------------


@by_rule
def test_reduce_json(rule: dict[str, Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Text to text, with or without a budget and counts, alone or together, by one thread or two."""
    want = wanted(rule)
    request.getfixturevalue("only_fast")
    assert [reduce_json([blob], **rule)[0] for blob in BLOBS.values()] == want
    assert reduce_json(BLOBS.values(), **rule, sort=True, threads=2) == want
    assert reduce_json([blob.decode() for blob in BLOBS.values()], **rule) == want


@by_rule
def test_reduce_arrow(rule: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """A buffer to a buffer, and Arrow's arrays of text and bytes."""
    want = wanted(rule)
    request.getfixturevalue("only_fast")
    counts = rule.get("counts", True)
    fields = {("max_samples" if name == "rule" else name): value for name, value in rule.items() if name != "counts"}
    pieces, ends, refused = reduce_buffer(*buffer(list(BLOBS.values())), Rule(**fields), counts=counts)
    text = b"".join(bytes(piece) for piece in pieces)
    assert not refused
    assert [text[begin:end] for begin, end in pairwise(ends.tolist())] == want
    for kind in (pa.binary(), pa.large_string()):
        array = pa.array([None, *BLOBS.values()], pa.binary()).cast(kind)
        reduced = arrow.reduce(array, **rule).cast(pa.binary()).to_pylist()
        assert reduced == [None, *want]


@pytest.mark.usefixtures("only_fast")
def test_reading() -> None:
    """One series, a batch, a buffer, and an Arrow array."""
    blobs = list(BLOBS.values())
    one_by_one = [StatSeries.from_json(blob) for blob in blobs]
    assert list(StatBatch.from_json(blobs)) == one_by_one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callstats._json, "parsed", slow)
        batch, refused = decode_buffer(*buffer(blobs))
        assert not refused
        assert list(batch) == one_by_one
        assert list(arrow.read_stored(pa.array(blobs, pa.binary()))) == one_by_one
    with fallback_decoder(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(callstats._json, "parsed", PARSED)
        assert [StatSeries.from_json(blob) for blob in blobs] == one_by_one
    for name, read in list(zip(BLOBS, one_by_one, strict=True))[: len(GO)]:
        digits = 9 if name == "9-digits" else 3
        again = read.to_json(digits=digits, counts=name != "peaks-without-counts")
        assert again == GO[name] or name in ("no-newline", "whole-seconds", "an-offset")


def test_summaries_of_text(request: pytest.FixtureRequest) -> None:
    """Calls as they are stored are summarized without their columns, as those that were read are."""
    calls = [(CallData(StatSeries.from_json(blob), "success", i, None), blob) for i, blob in enumerate(BLOBS.values())]
    want = summarize_calls([call for call, _ in calls], risk=0.5)
    request.getfixturevalue("only_fast")
    scalars = CallScalars()
    for call, blob in calls:
        scalars.add(blob, call.status, call.time_ns, call.duration_ns)
    assert scalars.summary(risk=0.5) == want


@pytest.mark.usefixtures("only_fast")
def test_tables_and_files(tmp_path: Path) -> None:
    """A job over a table, its summary, a job over JSON lines, and SQLite's functions."""
    blobs = [blob.decode() for blob in GO.values() if blob]
    path = made(tmp_path / "calls.db", [(f"{i:03}", blob) for i, blob in enumerate(blobs)])
    summary = summarize_table(path)
    assert (summary.calls, summary.rejected) == (len(blobs), 0)
    report = reduce_table(path, 1)
    assert (report.rows, report.rejected) == (len(blobs), 0)
    assert report.changed == sum(blob.count('"timestamp"') > 1 for blob in blobs)
    assert all(cell is not None and cell.count(b'"timestamp"') == 1 for _, _, cell in cells(path))
    lines = "".join(blob.rstrip("\n") + "\n" for blob in blobs)
    result = CliRunner().invoke(cli, ["reduce", "-", "--max-samples", "1", "--how", "*=mean"], input=lines)
    assert (result.exit_code, result.exception) == (0, None)
    assert result.stdout.splitlines() == [blob.decode().rstrip("\n") for blob in reduce_json(blobs, 1)]
    connection = connect(":memory:")
    sqlite.register(connection)
    for blob in blobs:
        (one, count) = connection.execute("SELECT stats_decimate(?, 1), stats_count(?)", [blob, blob]).fetchone()
        assert one == reduce_json([blob], 1)[0].decode()
        assert count == blob.count('"timestamp"')
    connection.close()


# --- the trap itself ---------------------------------------------------------------------------------------------------------

DOORS: dict[str, Callable[[bytes], object]] = {
    "reduce_json": lambda blob: reduce_json([blob], 1),
    "reduce_buffer": lambda blob: reduce_buffer(*buffer([blob]), Rule(1)),
    "arrow.reduce": lambda blob: arrow.reduce(pa.array([blob], pa.binary()), 1),
    "StatSeries.from_json": StatSeries.from_json,
    "StatBatch.from_json": lambda blob: StatBatch.from_json([blob]),
    "decode_buffer": lambda blob: decode_buffer(*buffer([blob])),
    "add": lambda blob: CallScalars().add(blob, None, None, None),
}


@pytest.mark.usefixtures("only_fast")
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_other_forms_are_noticed(door: Callable[[bytes], object]) -> None:
    """A blob of another form, or a bad one, reaches the fallback decoder by each door, so these tests would see one that did."""
    for blob in (TWICE, b"no"):
        with pytest.raises(SlowError):
            door(blob)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_other_forms_are_read(door: Callable[[bytes], object]) -> None:
    """By the fallback decoder each door takes a good blob of another form."""
    door(TWICE)
    with pytest.raises(DecodeError):
        StatSeries.from_json(b"no")
