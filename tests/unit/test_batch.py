"""Many series at once: text to a batch and back, its statistics, and its limit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import callstats._columns
import callstats._json
import callstats.kernels
from callstats import CallstatsError, DecodeError, SeriesError, StatBatch, StatSeries, bernoulli, reduce_json, summarize
from callstats.adapters import arrow
from support import parity
from support.blobs import seeds
from support.zoo import EPOCH, SECOND, zoo

backends = pytest.mark.usefixtures("backend")

ROW = '{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}'


def random_batch(seed: int) -> StatBatch:
    """Series of many lengths: random, sorted or equal values, with holes, counts and peaks."""
    rng = np.random.default_rng(seed)
    members = []
    for i in range(30):
        n = int(rng.integers(0, 300))
        values = [
            rng.integers(0, 2**64, n, dtype=np.uint64),
            np.sort(rng.integers(0, 2**33, n, dtype=np.uint64)),
            np.full(n, 2**64 - 1, dtype=np.uint64),
            np.repeat(np.arange(n // 2 + 1, dtype=np.uint64), 2)[:n],
        ]
        metrics: dict[str, Any] = {f"m{j}": values[(i + j) % 4] for j in range(int(rng.integers(0, 5)))}
        if i % 3 == 0:
            metrics = {name: np.ma.MaskedArray(cells, mask=rng.random(n) < 0.3) for name, cells in metrics.items()}
        if "m1" in metrics and i % 2:
            metrics["m1@max"] = values[0]
        members.append(StatSeries(EPOCH + SECOND * np.arange(n), metrics, counts=rng.integers(1, 9, n) if i % 4 == 1 else None))
    return StatBatch(members)


@backends
def test_from_json_takes_all_that_one_series_takes() -> None:
    """Bytes, text, None, parsed lists and other spellings in one call give what each gives alone."""
    blobs = [f"[{ROW}]", None, b"", json.loads(f"[{ROW}]"), bytearray(f"[ {ROW} ]".encode()), "null", memoryview(b"[]")]
    assert list(StatBatch.from_json(blobs)) == [StatSeries.from_json(blob) for blob in blobs]
    assert list(StatBatch.from_json(iter(seeds()[:5]))) == [StatSeries.from_json(blob) for blob in seeds()[:5]]
    for bad in (b"no", "[1]", [1], "\ud800", 7, b"\xff"):
        with pytest.raises(DecodeError) as alone:
            StatSeries.from_json(bad)
        with pytest.raises(DecodeError) as found:
            StatBatch.from_json([f"[{ROW}]", bad, b"no"])
        assert str(found.value) == f"blobs[1]: {alone.value}"
        assert (found.value.offset, found.value.path) == (alone.value.offset, alone.value.path)


@backends
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("digits", [3, 9])
def test_to_json_is_that_of_each(counts: bool, digits: int) -> None:
    """The text of each series of a batch is its own."""
    for batch in (StatBatch([item.series() for item in zoo()]), random_batch(1), StatBatch([]), StatBatch([StatSeries([], {})])):
        want = [series.to_json(counts=counts, digits=digits) for series in batch]
        assert batch.to_json(counts=counts, digits=digits) == want
    with pytest.raises(CallstatsError, match="digits must be 3 or 9, got 4"):
        StatBatch([]).to_json(digits=4)


def test_both_backends_write_and_summarize_alike() -> None:
    """Text, ranks and shares are the same to the byte."""
    for seed in range(3):
        batch = random_batch(seed)
        parity.same(batch.to_json)
        parity.same(lambda batch=batch: [repr(found) for found in summarize(batch)])
        parity.same(lambda batch=batch: [repr(found) for found in bernoulli(batch, "m1", at_least=2**40)])


@backends
def test_statistics_are_those_of_each() -> None:
    """`summarize` and `bernoulli` of a batch give a list, with what each series gives."""
    batch = random_batch(5)
    assert summarize(batch) == [summarize(series) for series in batch]
    for limits in ({"at_least": 2**32}, {"at_most": 5}, {"at_least": (0.5, "m2")}, {"at_most": (0.5, "m2")}, {"at_least": -1}):
        assert bernoulli(batch, "m1", **limits) == [bernoulli(series, "m1", **limits) for series in batch]
    assert bernoulli(StatBatch([]), "x", at_least=1) == summarize(StatBatch([])) == []


@backends
def test_ranks_are_those_of_sorted_values() -> None:
    """Median, p95 and p99 for each number of rows."""
    rng = np.random.default_rng(1)
    for n in [*range(1, 40), 200, 1_000]:
        values = rng.integers(0, 2 ** int(rng.integers(1, 64)), n, dtype=np.uint64)
        found = summarize(StatSeries(np.arange(n), {"x": values}))["x"]
        ordered = sorted(values.tolist())
        assert found.median == (ordered[(n - 1) // 2] + ordered[n // 2]) // 2
        assert (found.p95, found.p99) == (ordered[-(-95 * n // 100) - 1], ordered[-(-99 * n // 100) - 1])


@backends
def test_a_rejected_blob_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel has left to the fallback decoder is not given to a kernel again, and is parsed once."""
    parsed = []

    def counted(value: object) -> object:
        parsed.append(value)
        return original(value)

    def again(*_: object) -> None:
        raise AssertionError("the kernel has seen this blob")

    original = callstats._json.parsed
    monkeypatch.setattr(callstats._json, "parsed", counted)
    monkeypatch.setattr(callstats.kernels.active, "decode_blob", again)
    reduce_json([b"no", b"[1]"], 1, errors="return")
    assert parsed == [b"no", b"[1]"]
    with pytest.raises(DecodeError):
        StatBatch.from_json([b"no"])
    arrow.read_stored(arrow.pa.array(["no"]), errors="null")
    arrow.reduce(arrow.pa.array(["no"]), 1, errors="null")
    assert parsed == [b"no", b"[1]", b"no", b"no", b"no"]


@backends
def test_a_batch_of_series_that_share_no_metric() -> None:
    """400 blobs with 200 metrics of their own are an error, from text and from series, before they fill the memory."""
    series = [StatSeries(EPOCH + np.arange(12), {f"s{i}m{j}": np.arange(12) for j in range(200)}) for i in range(400)]
    message = "series must have at most 16777216 cells in one batch, rows times metrics, got [0-9]+: put series with the same"
    with pytest.raises(SeriesError, match=message):
        StatBatch(series)
    with pytest.raises(SeriesError, match=message):
        StatBatch.from_json([one.to_json() for one in series])


@backends
def test_a_batch_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many cells as the limit are a batch, and so is any number of cells of which every fourth has a value."""
    monkeypatch.setattr(callstats._columns, "MAX_CELLS", 160)
    apart = [StatSeries([0, 1], {f"m{i}": [1, 2]}) for i in range(9)]  # 9 metrics, 18 rows
    fourth = [StatSeries([0] * 10, {"x": range(10)}), *(StatSeries([0] * 10, {f"m{i}": range(10)}) for i in range(3))]
    for members in (apart[:8], fourth):
        assert list(StatBatch(members)) == members
        assert list(StatBatch.from_json([one.to_json() for one in members])) == [
            StatSeries.from_json(one.to_json()) for one in members
        ]
    for work in (lambda: StatBatch(apart), lambda: StatBatch.from_json([one.to_json() for one in apart])):
        with pytest.raises(SeriesError, match="at most 160 cells in one batch, rows times metrics, got 162"):
            work()


@backends
def test_the_limit_does_not_depend_on_who_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts the values that are there, whether or not the fallback decoder takes one of the blobs."""
    monkeypatch.setattr(callstats._columns, "MAX_CELLS", 10)
    blobs = [ROW.replace('"x"', f'"x{i}"') for i in range(4)]
    assert len(StatBatch.from_json([f"[{blob}]" for blob in blobs])) == 4
    twice = ROW.replace('"x":7', '"y":7,"y":8')
    with pytest.raises(SeriesError, match="at most 20 cells in one batch, rows times metrics, got 25"):
        StatBatch.from_json([f"[{blob}]" for blob in (*blobs, twice)])
