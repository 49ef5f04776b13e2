"""Seeded input for the benchmarks, made outside whatever is timed."""

from __future__ import annotations

import numpy as np

from callstats import StatSeries

FN_METRICS = (
    "cpu_kernel",
    "cpu_total",
    "cpu_user",
    "disk_read",
    "disk_write",
    "mem_limit",
    "mem_usage",
    "net_rx",
    "net_tx",
)

SECOND_NS = 10**9
START_NS = 1_511_794_373 * SECOND_NS


def series(n: int, metrics: int = 9, *, seed: int = 1, step_ns: int = SECOND_NS) -> StatSeries:
    """One call of n samples, one every step_ns."""
    rng = np.random.default_rng(seed)
    times = START_NS + step_ns * np.arange(n, dtype=np.int64)
    return StatSeries(times, {name: rng.integers(0, 2**33, n, dtype=np.uint64) for name in FN_METRICS[:metrics]})
