"""The fast path and the fallback decoder give the same result for every blob."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import callstats.kernels
from callstats import CallstatsError, Rule, StatSeries, decimate, reduce_json
from callstats.reduce import _layout_for, _spans, reduce_buffer
from support import parity
from support.backends import compiled
from support.blobs import grammar, seeds
from support.mutants import mutants
from support.routes import decoded_differently, disagreements
from support.vectors import load

RULES: list[dict[str, Any]] = [
    {"rule": 240},
    {"rule": 2, "how": {"mem_usage": ("mean", "max")}},
    {"rule": 3, "how": ("mean", "min", "max", "first", "last"), "missing": "zero"},
    {"rule": 1, "how": "sum", "counts": False},
    {"rule": 0},
    {"rule": None, "max_bytes": 150},
]

backends = pytest.mark.usefixtures("backend")


@compiled
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_vectors_by_both_ways(rule: dict[str, Any]) -> None:
    """Every blob of the vectors and of the seeds gives the same by both ways."""
    blobs = [row["blob"].encode() for row in load("wire")] + seeds()
    assert disagreements(blobs, **rule) == []
    assert decoded_differently(blobs) == []


@compiled
def test_every_character_by_both_ways() -> None:
    """The first two bytes of each character, at the bounds of the second, with good and bad ones behind them."""
    seconds = (0x00, 0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    tails = (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x7f\x80", b"\x80\xc0", b"\xc0\x80")
    texts = [bytes((lead, second)) + tail for lead in range(0x80, 0x100) for second in seconds for tail in tails]
    for form in (
        b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x%b":1}}]',
        b'[{"timestamp":"2017-11-27T14:52:53Z","y":"%b"}]',
    ):
        blobs = [form % text for text in texts]
        assert disagreements(blobs, rule=1) == []
        assert decoded_differently(blobs) == []


@compiled
@pytest.mark.parametrize("escaped", [False, True])
def test_no_good_character_is_left_to_the_fallback_decoder(escaped: bool) -> None:
    """All of Unicode in one name, as it is and as escapes, and in an unknown member."""
    name = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    text = json.dumps([{"timestamp": "2017-11-27T14:52:53Z", "metrics": {name: 1}, "y": name}], ensure_ascii=escaped)
    blob = (text.replace("/", r"\/") if escaped else text).encode()
    (found,), times, values, present, counts = callstats.kernels.active.decode_blob(blob)
    assert found.decode() == name
    assert (times.tolist(), values.tolist(), present, counts) == ([1_511_794_373 * 10**9], [[1]], None, None)


@compiled
@pytest.mark.parametrize("names", [1, 300, 3_000])
def test_no_width_is_left_to_the_fallback_decoder(names: int) -> None:
    """The scanner makes room for the rows of a wide text too."""
    series = StatSeries([0, 1, 2], {f"m{i:04}": [i, 2**64 - 1 - i, 0] for i in range(names)})
    found, _, values, *_ = callstats.kernels.active.decode_blob(series.to_json(digits=9))
    assert (tuple(name.decode() for name in found), values.tolist()) == (series.names, series.values.tolist())


def names_of_one_hash(n: int) -> list[str]:
    """Names of two words: the second one makes up for what the first one did to the hash of `_json_names.pxd`."""

    def hashed(word: bytes) -> int:
        mixed = (0x9E3779B97F4A7C15 ^ 16 ^ int.from_bytes(word, "little")) * 0xFF51AFD7ED558CCD % 2**64
        return mixed ^ mixed >> 32

    wanted = hashed(b"00000000") ^ int.from_bytes(b"OOOOOOOO", "little")
    words = (b"%08d" % i for i in itertools.count())
    pairs = ((word, (wanted ^ hashed(word)).to_bytes(8, "little")) for word in words)
    return list(itertools.islice(((word + other).decode() for word, other in pairs if other.isalnum()), n))


@compiled
@pytest.mark.parametrize("n", [2, 20, 65])
def test_names_of_one_hash(n: int) -> None:
    """They are told apart; those that take more than 64 probes are left to the fallback decoder."""
    names = names_of_one_hash(n)
    blob = json.dumps([{"timestamp": "2017-11-27T14:52:53Z", "metrics": {name: i for i, name in enumerate(names)}}]).encode()
    assert (callstats.kernels.active.decode_blob(blob) is None) is (n > 64)
    assert [StatSeries.from_json(blob)[name].tolist() for name in names] == [[i] for i in range(n)]


@compiled
@pytest.mark.parametrize("before", [64, 65])
def test_names_of_one_hash_slow_no_other_blob(before: int) -> None:
    """Not even one with a name of their hash, which is read as fast as if they had not been."""
    *names, other = names_of_one_hash(before + 1)
    hostile, good = (
        json.dumps([{"timestamp": "2017-11-27T14:52:53Z", "metrics": dict.fromkeys(metrics, 7)}]).encode()
        for metrics in (names, ["mem_usage", other])
    )
    kernels = callstats.kernels.active
    kernels.decode_blob(hostile)
    for blobs in ([good], [hostile, good, hostile, good]):
        *_, decoded = kernels.decode_blobs(blobs)
        assert decoded.tolist() == [blob is good or before == 64 for blob in blobs]
        results, _ = kernels.reduce_blobs(blobs, 1, -1, False, True, _layout_for(Rule(1)))
        assert [result is not None for result in results] == decoded.tolist()


@compiled
@pytest.mark.parametrize("year", [1678, 1970, 2000, 2261])
def test_no_year_is_left_to_the_fallback_decoder(year: int) -> None:
    """From the first full year to the last one, at both ends."""
    for time in (f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59Z"):
        _, times, *_ = callstats.kernels.active.decode_blob(f'[{{"timestamp":"{time}"}}]'.encode())
        assert times.tolist() == [int(datetime.fromisoformat(time).timestamp()) * 10**9]


@compiled
@pytest.mark.parametrize("value", ["true", "false", "null", '""', "0", "-1.5e+3", "7E-2", "[]", "{}", '[false,{"a":null}]'])
def test_no_unknown_value_is_left_to_the_fallback_decoder(value: str) -> None:
    """Last in its row, and before another member."""
    for row in (f'"timestamp":"2017-11-27T14:52:53Z","y":{value}', f'"y":{value} ,"timestamp":"2017-11-27T14:52:53Z"'):
        names, times, *_ = callstats.kernels.active.decode_blob(f"[{{{row}}}]".encode())
        assert (names, times.tolist()) == ((), [1_511_794_373 * 10**9])


@backends
@pytest.mark.parametrize("first", [b"1970-01-", bytes(8)])
@pytest.mark.parametrize("second", [b"01T00:00", bytes(8)])
def test_a_first_minute_of_no_characters(first: bytes, second: bytes) -> None:
    """The minute that the scanner holds before it has read one is compared with both halves of the first row's time."""
    for blob in seeds()[:3]:  # which leave a minute of their own behind
        reduce_json([blob], 1)
    text = b'[{"timestamp":"' + first + second + b':07.000Z","metrics":{"x":1}}]'
    if first + second == b"1970-01-01T00:00":
        assert StatSeries.from_json(text).timestamps.tolist() == [7 * 10**9]
    else:
        with pytest.raises(CallstatsError):
            StatSeries.from_json(text)
        assert isinstance(reduce_json([text], 1, errors="return")[0], CallstatsError)


@compiled
@given(blob=grammar(), rule=st.sampled_from(RULES))
def test_grammar_by_both_ways(blob: bytes, rule: dict[str, Any]) -> None:
    """Whatever the grammar of the stored form makes gives the same by both ways."""
    assert disagreements([blob], **rule) == []
    assert decoded_differently([blob]) == []


@compiled
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_mutants_by_both_ways(rule: dict[str, Any]) -> None:
    """Mutants of real blobs give the same by both ways."""
    assert disagreements(mutants(seeds(), seed=len(str(rule)), n=600), **rule) == []


@compiled
@pytest.mark.parametrize("rule", [{"rule": 2}, {"rule": None, "max_bytes": 300}, {"rule": -1}], ids=str)
def test_every_cut(rule: dict[str, Any]) -> None:
    """A blob cut short at any byte, and one whose buffer ends where it ends, give the same by both ways."""
    for blob in seeds()[:7]:
        assert disagreements([blob[:end] for end in range(len(blob))], **rule) == []


def packed(blobs: list[bytes]) -> tuple[Any, Any]:
    """One buffer and offsets."""
    return np.frombuffer(b"".join(blobs), dtype=np.uint8), np.cumsum([0, *map(len, blobs)], dtype=np.int64)


def raw(blobs: list[bytes], rule: Rule, counts: bool = True) -> Any:
    """One buffer and offsets through the kernel."""
    budget = -1 if rule.max_bytes is None else rule.max_bytes
    return callstats.kernels.active.reduce_packed(
        *packed(blobs), rule.max_samples, budget, rule.missing == "zero", counts, _layout_for(rule)
    )


@pytest.mark.parametrize(
    "rule", [Rule(3), Rule(2, how=("max", "first"), missing="zero"), Rule(5, max_bytes=400), Rule(0)], ids=str
)
def test_one_buffer_over_both_backends(rule: Rule) -> None:
    """The backends give the same bytes, offsets and errors for one buffer of many blobs."""
    blobs = seeds() + list(mutants(seeds(), seed=5, n=400))

    def reduce_all() -> Any:
        pieces, offsets, rejected = reduce_buffer(*packed(blobs), rule)
        return b"".join(bytes(piece) for piece in pieces), offsets, rejected

    parity.same(reduce_all)


@compiled
def test_one_buffer_gives_what_a_list_gives() -> None:
    """Buffer and offsets in, buffer and offsets out: the texts that `reduce_json` gives, and nothing for a refused one."""
    blobs = seeds()
    data, offsets, status = raw(blobs, Rule(3))
    results = reduce_json(blobs, 3, errors="return")
    for i, result in enumerate(results):
        text = data[offsets[i] : offsets[i + 1]]
        assert text == (b"" if status[i] == 2 else result)
        assert status[i] != 0 or text == blobs[i]
    assert {0, 1, 2} == set(status.tolist())


@compiled
def test_parts_of_a_buffer() -> None:
    """One call of the kernel gets so many bytes, but a blob at least."""
    assert [*_spans(np.array([0, 5, 9, 10, 30, 31, 35]), 10)] == [(0, 3), (3, 4), (4, 6)]
    assert [*_spans(np.array([7]), 10)] == []


def test_one_buffer_that_stays() -> None:
    """Where every text stays as it is nothing is copied, and the offsets are those of the texts."""
    blobs = [b"", seeds()[0], seeds()[1], b""]
    data, offsets, status = raw(blobs, Rule(100))
    assert (bytes(data), status.tolist()) == (b"", [0, 0, 0, 0])
    assert np.diff(offsets).tolist() == [len(blob) for blob in blobs]
    data, offsets, status = raw([*blobs, b"no"], Rule(100))
    assert bytes(data) == b"".join(blobs)
    assert np.diff(offsets).tolist() == [len(blob) for blob in [*blobs, b""]]


@compiled
def test_nothing_in() -> None:
    """No blobs, and blobs of no bytes, are fine."""
    data, offsets, status = raw([], Rule(3))
    assert (bytes(data), offsets.tolist(), status.tolist()) == (b"", [0], [])
    data, offsets, status = raw([b"", b""], Rule(3))
    assert (bytes(data), offsets.tolist(), status.tolist()) == (b"", [0, 0, 0], [0, 0])


@backends
def test_wide_and_long_blobs() -> None:
    """Room is made for many rows and many metrics, and kept for what comes after."""
    long = StatSeries(np.arange(5000) * 10**9, {"x": np.arange(5000)})
    wide = StatSeries([0, 10**9, 2 * 10**9], {f"m{i:03}": [i, None, 2**64 - 1 - i] for i in range(300)})
    ladder = StatSeries(np.arange(60) * 10**9, {f"m{i:02}": [1 if row == i else None for row in range(60)] for i in range(60)})
    for rule in (7, 1):
        blobs = [wide.to_json(), long.to_json(), ladder.to_json(), b"", long[:9].to_json(), wide.to_json()]
        results = reduce_json(blobs, rule)
        assert results == [decimate(StatSeries.from_json(blob), rule).to_json() for blob in blobs]
        assert disagreements(blobs, rule=rule) == []


@backends
def test_threads_share_the_work() -> None:
    """Eight callers at once, each with threads of its own, get what one gets alone."""
    blobs = seeds() * 20
    alone = parity.exact(reduce_json(blobs, 3, errors="return"))
    seen: list[object] = []
    callers = [
        threading.Thread(target=lambda: seen.append(parity.exact(reduce_json(blobs, 3, errors="return", threads=2))))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == [alone] * 8


@compiled
def test_a_layout_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in what the kernel asks for comes through, and leaves the kernel usable."""
    blob = StatSeries([0, 1, 2], {"x": [1, 2, 3]}).to_json()

    def fail(names: tuple[bytes, ...]) -> Any:
        raise RuntimeError("no layout")

    with pytest.raises(RuntimeError, match="no layout"):
        callstats.kernels.active.reduce_blobs([blob], 1, -1, False, True, fail)
    assert reduce_json([blob], 1) == [b'[{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{"x":2},"count":3}]\n']
