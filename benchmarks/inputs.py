"""Seeded input for the benchmarks, made outside whatever is timed."""

from __future__ import annotations

import json
from typing import Any

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


def with_holes(n: int, *, seed: int = 1) -> bytes:
    """The stored text of one call, of whose values every fifth is absent."""
    full, rng = StatSeries.from_json(stored_call(n, seed=seed)), np.random.default_rng(seed)
    masked = {name: np.ma.MaskedArray(full[name], mask=rng.random(n) < 0.2) for name in full.names}
    return StatSeries(full.timestamps, masked).to_json()


def spellings(blob: bytes) -> dict[str, bytes]:
    """The same rows as databases and JSON libraries write them."""
    rows = json.loads(blob)
    text = blob.decode()
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    nulls = [
        _with_metrics(row, {name: _value_or_none(i + j, value) for j, (name, value) in enumerate(_metrics(row))})
        for i, row in enumerate(rows)
    ]
    unknown = [
        {"host": "worker-17", "seq": 7_919 * i, **row, "labels": {"zone": "b", "spot": i % 3 > 0}} for i, row in enumerate(rows)
    ]
    return {
        "jsonb::text": json.dumps([_as_jsonb(row) for row in rows]).encode(),
        "json.dumps": json.dumps(rows).encode(),
        "indented": json.dumps(rows, indent=2).encode(),
        "sorted keys": json.dumps(rows, sort_keys=True).encode(),
        "nulls": json.dumps(nulls, **compact).encode(),
        "escapes": text.replace('"net_rx"', '"net\\u0026rx"').encode(),
        "names beyond ASCII": text.replace('"net_rx"', '"réseau_rx"').encode(),
        "unknown members": json.dumps(unknown, **compact).encode(),
        "newlines between rows": text.replace("},{", "},\n{").encode(),
        "offsets": text.replace('Z"', '+01:00"').encode(),
    }


def alternating(blob: bytes) -> bytes:
    """The same rows, every second one without the network's and the disk's metrics."""
    rows = json.loads(blob)
    few = [
        _with_metrics(row, {name: value for name, value in _metrics(row) if i % 2 or name[:4] not in ("net_", "disk")})
        for i, row in enumerate(rows)
    ]
    return json.dumps(few, separators=(",", ":")).encode()


def wide_call(n: int, metrics: int, *, seed: int = 1) -> bytes:
    """The stored text of many metrics, of 1 to 13 digits."""
    rng = np.random.default_rng(seed)
    times = START_NS + SECOND_NS * np.arange(n, dtype=np.int64)
    return StatSeries(times, {f"metric_{j:04}": rng.integers(0, 2 ** (4 + j % 40), n) for j in range(metrics)}).to_json()


def _metrics(row: dict[str, Any]) -> Any:
    return row["metrics"].items()


def _with_metrics(row: dict[str, Any], metrics: dict[str, int | None]) -> dict[str, Any]:
    return {**row, "metrics": metrics}


def _value_or_none(number: int, value: int) -> int | None:
    return None if number % 7 == 0 else value


def _as_jsonb(value: Any) -> Any:
    """Members in PostgreSQL's order."""
    if not isinstance(value, dict):
        return value
    return {name: _as_jsonb(value[name]) for name in sorted(value, key=lambda name: (len(name), name))}
