"""How fast series are reduced: over both backends, and next to the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from callstats import StatBatch, StatSeries, decimate
from inputs import series
from peers import reduceat, sums

SHAPES = {
    "10Mx1-to-240": (10_000_000, 1, 240),
    "3600x9-to-240": (3_600, 9, 240),
    "240x9-to-60": (240, 9, 60),
}

Benchmark = Callable[..., Any]


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> tuple[StatSeries, int]:
    """A series and the rows to reduce it to."""
    n, metrics, max_samples = SHAPES[request.param]
    return series(n, metrics, step_ns=10**6), max_samples


@pytest.fixture(scope="module")
def calls() -> list[StatSeries]:
    """500 calls of an hour."""
    return [series(3_600, seed=i) for i in range(500)]


@pytest.mark.usefixtures("backend")
def test_decimate(benchmark: Benchmark, shape: tuple[StatSeries, int]) -> None:
    """A series by decimate."""
    whole, max_samples = shape
    reduced = benchmark(decimate, whole, max_samples)
    assert_same(reduced, reduceat(whole.timestamps, whole.values, max_samples))


def test_reduceat(benchmark: Benchmark, shape: tuple[StatSeries, int]) -> None:
    """A series by the peer in numpy."""
    whole, max_samples = shape
    result = benchmark(reduceat, whole.timestamps, whole.values, max_samples)
    assert_same(decimate(whole, max_samples), result)


def test_sums(benchmark: Benchmark) -> None:
    """The plain sums of a long series."""
    whole = series(*SHAPES["10Mx1-to-240"][:2], step_ns=10**6)
    total = benchmark(sums, whole.timestamps, whole.values[0])
    assert total == (whole.timestamps.sum(), whole.values.sum())


@pytest.mark.usefixtures("backend")
def test_decimate_batch(benchmark: Benchmark, calls: list[StatSeries]) -> None:
    """500 calls of an hour as one batch."""
    reduced = benchmark(decimate, StatBatch(calls), 240)
    assert_same(reduced[499], reduceat(calls[499].timestamps, calls[499].values, 240))


def test_reduceat_batch(benchmark: Benchmark, calls: list[StatSeries]) -> None:
    """The same calls by the peer, one by one."""
    results = benchmark(lambda: [reduceat(call.timestamps, call.values, 240) for call in calls])
    assert_same(decimate(calls[499], 240), results[499])


def assert_same(reduced: StatSeries, peer: tuple[Any, Any]) -> None:
    """The work that was timed is the work that was meant."""
    times, values = peer
    assert np.array_equal(reduced.timestamps, times)
    assert np.array_equal(reduced.values, values)
