"""How fast stored text is reduced: over both backends, and next to the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from callstats import reduce_json
from inputs import stored_call
from peers import decode_alone, pipeline

SHAPES = {
    "240-rows-to-60": (240, 60, 20),
    "5-rows-unchanged": (5, 60, 200),
    "3600-rows-to-240": (3_600, 240, 2),
}

Benchmark = Callable[..., Any]


@pytest.fixture(scope="module", params=SHAPES)
def stored(request: pytest.FixtureRequest) -> tuple[list[bytes], int]:
    """Blobs and the rows to reduce them to."""
    n, max_samples, blobs = SHAPES[request.param]
    return [stored_call(n, seed=i) for i in range(blobs)], max_samples


@pytest.mark.usefixtures("backend")
def test_reduce_json(benchmark: Benchmark, stored: tuple[list[bytes], int]) -> None:
    """Blob to blob."""
    blobs, max_samples = stored
    assert_same(benchmark(reduce_json, blobs, max_samples, counts=False), blobs, max_samples)


def test_pipeline(benchmark: Benchmark, stored: tuple[list[bytes], int]) -> None:
    """The same by libraries."""
    blobs, max_samples = stored
    results = benchmark(lambda: [pipeline(blob, max_samples) for blob in blobs])
    assert_same(results, blobs, max_samples)


def test_decode_alone(benchmark: Benchmark, stored: tuple[list[bytes], int]) -> None:
    """Decoding and nothing else."""
    blobs, _ = stored
    benchmark(decode_alone, blobs)
    assert len(orjson.loads(blobs[0])) in {n for n, _, _ in SHAPES.values()}


def assert_same(results: list[Any], blobs: list[bytes], max_samples: int) -> None:
    """The work that was timed is the work that was meant."""
    assert [orjson.loads(result) for result in results] == [orjson.loads(pipeline(blob, max_samples)) for blob in blobs]
