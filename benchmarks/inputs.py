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


def stored_call(n: int, *, seed: int = 1) -> bytes:
    """The stored text of one call of n samples, of Fn's nine metrics: 51 kB for 240 rows."""
    rng = np.random.default_rng(seed)
    times = START_NS + SECOND_NS * np.arange(n, dtype=np.int64) + rng.integers(0, 5 * 10**6, n)
    gauges = {"cpu_kernel": 50, "cpu_total": 200, "cpu_user": 150}
    metrics = {name: rng.integers(0, most, n) for name, most in gauges.items()}
    for name, step in {"disk_read": 10**5, "disk_write": 10**5, "net_rx": 10**6, "net_tx": 10**5}.items():
        metrics[name] = np.cumsum(rng.integers(0, step, n))
    metrics["mem_limit"] = np.full(n, 2**28)
    metrics["mem_usage"] = rng.integers(10**7, 2**28, n)
    return StatSeries(times, metrics).to_json()
