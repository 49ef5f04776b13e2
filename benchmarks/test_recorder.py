"""What a sample costs while a call runs, next to keeping a copy of it in a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callstats import Recorder, StatSeries, decimate
from inputs import FN_METRICS, SECOND_NS, START_NS, series

Benchmark = Callable[..., Any]
Sample = tuple[int, dict[str, int]]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """4,000 samples of nine metrics, as a driver hands them over."""
    return [(stat.timestamp, stat.metrics) for stat in series(4_000)]


def record(samples: list[Sample], capacity: int) -> Recorder:
    """Hand all samples to a recorder."""
    recorder = Recorder(capacity=capacity)
    for timestamp, metrics in samples:
        recorder.write_stat(timestamp, metrics)
    return recorder


def keep(samples: list[Sample]) -> list[Sample]:
    """The peer: append a (time, dict copy) tuple to a list."""
    kept: list[Sample] = []
    for timestamp, metrics in samples:
        kept.append((timestamp, dict(metrics)))
    return kept


@pytest.mark.parametrize("capacity", [4_096, 256])
@pytest.mark.usefixtures("backend")
def test_record(benchmark: Benchmark, samples: list[Sample], capacity: int) -> None:
    """4,000 samples into a recorder whose rows never merge, and into one whose rows do."""
    result = benchmark(record, samples, capacity).end()
    assert int(result.counts.sum()) == len(samples)
    if capacity > len(samples):
        assert result == decimate(StatSeries.from_samples(samples), 240)


def test_keep(benchmark: Benchmark, samples: list[Sample]) -> None:
    """4,000 samples by the peer."""
    assert benchmark(keep, samples) == samples


@pytest.mark.usefixtures("backend")
def test_end(benchmark: Benchmark) -> None:
    """The end of a long recording: 4,096 full rows of nine metrics to 240."""
    metrics = dict.fromkeys(FN_METRICS, 2**40)

    def recorded() -> tuple[tuple[Recorder], dict[str, Any]]:
        recorder = Recorder()
        for i in range(2 * 4_096):
            recorder.write_stat(START_NS + i * SECOND_NS, metrics)
        return (recorder,), {}

    result = benchmark.pedantic(Recorder.end, setup=recorded, rounds=5)
    assert len(result) <= 240
    assert (result.values == 2**40).all()
