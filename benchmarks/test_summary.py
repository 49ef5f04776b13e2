"""How fast questions are answered: of one series, of a batch, and of stored calls; over both backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callstats import StatBatch, StatSeries, summarize
from callstats.stats.calls import CallScalars
from inputs import series, stored_call

Benchmark = Callable[..., Any]

SIZES = {"240x9": 240, "3600x9": 3_600}

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("n", SIZES.values(), ids=SIZES)
def test_summarize(benchmark: Benchmark, n: int) -> None:
    """One series by summarize."""
    whole = series(n)
    found = benchmark(summarize, whole)
    assert found["mem_usage"].max == whole["mem_usage"].max()


def test_summarize_batch(benchmark: Benchmark) -> None:
    """200 series of 240 rows in one go."""
    members = [series(240, seed=i) for i in range(200)]
    batch = StatBatch(members)
    found = benchmark(summarize, batch)
    assert found[7] == summarize(members[7])


def test_stored_calls(benchmark: Benchmark) -> None:
    """20 stored calls of 240 rows taken in."""
    blobs = [stored_call(240, seed=i) for i in range(20)]

    def take() -> CallScalars:
        scalars = CallScalars()
        for blob in blobs:
            scalars.add(blob, "success", None, None)
        return scalars

    found = benchmark(take).summary()
    assert found.memory.max == max(int(StatSeries.from_json(blob)["mem_usage"].max()) for blob in blobs)


def test_decode_alone(benchmark: Benchmark) -> None:
    """The same calls decoded and nothing else."""
    blobs = [stored_call(240, seed=i) for i in range(20)]
    found = benchmark(lambda: [StatSeries.from_json(blob) for blob in blobs])
    assert [len(one) for one in found] == [240] * 20
