"""Threads that work at once, on inputs that they share, get what one thread gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callstats import Recorder, Rule, StatBatch, StatSeries, decimate, reduce_json, summarize
from callstats.adapters import arrow
from callstats.reduce import reduce_buffer
from support.blobs import seeds
from support.parity import exact
from support.stored import good

AT_ONCE = 8
ROUNDS = {"cython": 4, "python": 2}
"""How often, by the backend: the kernels of numpy take ten times as long, and share no more."""

RULE = Rule(3, how={"mem_usage": ("mean", "max"), "*": ("last", "min")})
BLOBS = [*good(), *seeds(), b"no histogram", None]
SERIES = [StatSeries(np.arange(n) * 10**9, {"x": np.arange(n), "y": np.arange(n) % 7}) for n in (1, 9, 500)]
BATCH = StatBatch(SERIES * 4)
TEXT = [blob or b"" for blob in BLOBS]
DATA = np.frombuffer(b"".join(TEXT), np.uint8)
OFFSETS = np.cumsum([0, *map(len, TEXT)])
ARRAY = pa.array(BLOBS, pa.binary())


def recorded() -> StatSeries:
    """A call recorded by this thread, and ended by another."""
    recorder = Recorder(RULE, capacity=16)
    for i in range(200):
        recorder.write_stat(i * 10**9, {"x": i, "mem_usage": 2**40 - i})
    ended: list[StatSeries] = []
    ending = threading.Thread(target=lambda: ended.append(recorder.end()))
    ending.start()
    ending.join()
    return ended[0]


def by_buffer(threads: int) -> object:
    """What `reduce_buffer` gives, its pieces joined."""
    pieces, offsets, refused = reduce_buffer(DATA, OFFSETS, RULE, threads=threads)
    return b"".join(map(bytes, pieces)), offsets, sorted((i, str(error)) for i, error in refused.items())


WORK: dict[str, Callable[[], Any]] = {
    "decimate": lambda: [decimate(series, RULE) for series in SERIES],
    "decimate a batch": lambda: decimate(BATCH, RULE),
    "reduce_json": lambda: reduce_json(BLOBS, RULE, errors="return"),
    "reduce_json by threads of its own": lambda: reduce_json(BLOBS, RULE, threads=3, errors="return"),
    "a budget": lambda: reduce_json(BLOBS, replace(RULE, max_bytes=900), errors="return"),
    "reduce_buffer": lambda: by_buffer(1),
    "reduce_buffer by threads of its own": lambda: by_buffer(3),
    "arrow": lambda: arrow.reduce(ARRAY, RULE, errors="null", threads=2).to_pylist(),
    "from_json": lambda: StatBatch.from_json([blob for blob in BLOBS[:9] if blob]),
    "summarize": lambda: [vars(found) if hasattr(found, "__dict__") else found for found in map(str, summarize(BATCH))],
    "record": recorded,
}


def results_of(works: list[Callable[[], Any]], rounds: int) -> list[list[object]]:
    """What each work gives in each round, all of them begun at once by threads of their own."""
    together = threading.Barrier(len(works), timeout=60)
    results: list[list[object]] = [[] for _ in works]

    def run(number: int) -> None:
        for _ in range(rounds):
            together.wait()
            results[number].append(exact(works[number]()))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("name", WORK)
def test_eight_at_the_same_work(name: str, backend: str) -> None:
    """Eight threads, the same input."""
    wanted, rounds = exact(WORK[name]()), ROUNDS[backend]
    assert results_of([WORK[name]] * AT_ONCE, rounds) == [[wanted] * rounds] * AT_ONCE


def test_all_works_at_once(backend: str) -> None:
    """Whatever else goes on beside it."""
    works, rounds = list(WORK.values()), ROUNDS[backend]
    assert results_of(works, rounds) == [[exact(work())] * rounds for work in works]
