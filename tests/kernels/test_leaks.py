"""What is called ten thousand times needs no more memory than what is called once, and inputs go back as they came."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import callstats.kernels
from callstats import (
    CallstatsError,
    DecodeError,
    Recorder,
    Rule,
    StatBatch,
    StatSeries,
    bernoulli,
    decimate,
    parse_image,
    reduce_json,
    summarize,
)
from support.leaks import grown, objects, resident

ROWS = 12
METRICS = {"cpu": [*range(ROWS - 1), None], "mem_usage": range(ROWS)}
SERIES = StatSeries([i * 10**9 for i in range(ROWS)], METRICS, counts=[2] * ROWS)
BLOB = SERIES.to_json()
SPACED = BLOB.replace(b",", b" , ")
BROKEN = BLOB[:-2] + b"x" + BLOB[-2:]
BATCH = StatBatch([SERIES] * 3)
RULE = Rule(3, how=("mean", "max"))
TIMES, VALUES = np.arange(ROWS), np.arange(ROWS, dtype=np.uint64)


def recorded(samples: int) -> StatSeries:
    """A call of so many samples, of which four rows are held."""
    recorder = Recorder(3, capacity=4)
    for i in range(samples):
        recorder.write_stat(i, {"x": i})
    return recorder.end()


WORK: dict[str, Callable[[], Any]] = {
    "make": lambda: StatSeries(TIMES, {"x": VALUES}),
    "make refused": lambda: StatSeries(TIMES, {"x": VALUES.astype(float) + 0.5}),
    "decimate": lambda: decimate(SERIES, RULE),
    "decimate batch": lambda: decimate(BATCH, RULE),
    "decimate refused": lambda: decimate(StatSeries([0, 1], {"x": [2**64 - 1] * 2}), 1, how="sum"),
    "budget": lambda: decimate(SERIES, max_bytes=400),
    "budget refused": lambda: decimate(SERIES, max_bytes=10),
    "read": lambda: StatSeries.from_json(BLOB),
    "read generally": lambda: StatSeries.from_json(SPACED),
    "read refused": lambda: StatSeries.from_json(BROKEN),
    "read batch": lambda: StatBatch.from_json([BLOB] * 3),
    "write": SERIES.to_json,
    "reduce text": lambda: reduce_json([BLOB, None, SPACED] * 4, RULE),
    "reduce text refused": lambda: reduce_json([BLOB, BROKEN], RULE, errors="return"),
    "reduce text raised": lambda: reduce_json([BLOB, BROKEN], RULE),
    "summarize": lambda: summarize(BATCH),
    "bernoulli": lambda: bernoulli(SERIES, "cpu", at_least=3),
    "record": lambda: recorded(9),
    "image": lambda: parse_image("golang:1.4.2"),
}
THREADED = {"reduce text in threads": lambda: reduce_json([BLOB, BROKEN], RULE, threads=2, errors="return")}


@pytest.mark.parametrize("name", WORK)
def test_objects(name: str, backend: str) -> None:
    """No object is left behind: one in each call would be hundreds."""
    times = 300 if backend == "python" else 1000
    assert grown(WORK[name], times, {objects: 0.1}) == {}


def test_one_object_in_each_call_would_be_seen() -> None:
    """So that the test above can fail."""
    kept: list[object] = []
    assert grown(lambda: kept.append([]), 300, {objects: 0.1})["objects"] >= 300


@pytest.mark.parametrize("name", [name for name in WORK if name.endswith(("refused", "raised"))])
def test_what_is_refused(name: str) -> None:
    """So that the tests above and below see refusals."""
    if name == "reduce text refused":
        assert [type(result) for result in WORK[name]()] == [bytes, DecodeError]
    else:
        with pytest.raises(CallstatsError):
            WORK[name]()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("name", [*WORK, *THREADED])
def test_memory_of_kernels(name: str) -> None:
    """Ten thousand times: what a kernel takes by itself, and Python's counters don't see, is given back."""
    if callstats.backend != "cython":
        pytest.skip("numpy's memory is seen by Python's counters")
    work = {**WORK, **THREADED}[name]
    # The smallest thing that a kernel allocates in every call is larger than 100 bytes.
    assert grown(work, 10_000 if name in WORK else 2_000, {resident: 40}) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer keeps what is freed")
def test_memory_of_a_scanner_that_is_not_kept() -> None:
    """With room for rows of so many metrics it has more than is kept for the next call, so all of it is given back."""
    if callstats.backend != "cython":
        pytest.skip("numpy's memory is seen by Python's counters")
    wide = StatSeries([0], {f"m{i:05}": [i] for i in range(40_000)}).to_json()
    assert grown(lambda: callstats.kernels.active.decode_blob(wide), 20, {resident: 50_000}) == {}


TESTS = Path(__file__).parents[1]
KEEP_WIDE = """
import callstats
from support.leaks import resident

metrics = ",".join(f'"m{i:05}":{i}' for i in range(24_000))
wide = f'[{{"timestamp":"1970-01-01T00:00:00Z","metrics":{{{metrics},"none":null}}}}]'.encode()
before = resident()
assert callstats.kernels.active.decode_blob(wide) is not None
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer keeps what is freed")
def test_presence_counts_in_what_is_kept() -> None:
    """Values alone would stay below the limit of 64 MiB, and would be kept."""
    if callstats.backend != "cython":
        pytest.skip("numpy's memory is seen by Python's counters")
    # In a process of its own: the allocator of one that has done much keeps freed blocks of such sizes.
    done = subprocess.run([sys.executable, "-c", KEEP_WIDE], cwd=TESTS, stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < 2**24  # the values would be 45 MiB


@pytest.mark.parametrize("twice", [1, 2])
def test_references_to_inputs(twice: int, backend: str) -> None:
    """Nothing that was handed in is held on to, where it is refused neither."""
    name, blob, broken = "a metric's name" * twice, bytes(bytearray(BLOB)), bytes(bytearray(BROKEN))
    times, values, metrics = np.arange(4), np.arange(4, dtype=np.uint64), {}
    inputs = [name, blob, broken, times, values, metrics]
    metrics[name] = values

    def use() -> None:
        decimate(StatSeries(times, metrics), 2, how=("mean", "max"))
        with suppress(CallstatsError):
            StatSeries(times[::-1], metrics)
        StatSeries.from_json(blob)
        with suppress(CallstatsError):
            StatSeries.from_json(broken)
        reduce_json([blob, broken], 2, errors="return")
        reduce_json([blob, broken], 50, errors="return", threads=2)
        recorder = Recorder(2, capacity=4)
        for i in range(9):
            recorder.write_stat(i, {name: 2**40 + i})
        with suppress(CallstatsError):
            recorder.write_stat(10, {name: -1})
        recorder.end()

    use()  # what is made of a name is kept for the next series that has it
    gc.collect()
    before = [sys.getrefcount(value) for value in inputs]
    for _ in range(20):
        use()
    gc.collect()
    assert [sys.getrefcount(value) for value in inputs] == before
