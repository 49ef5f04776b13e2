"""Data to try callstats on: the stats stream of a real container, and 2,000 made-up calls of a small function platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import numpy as np

from callstats._timestamps import format_time
from callstats._types import Counts
from callstats.call import new_call_id
from callstats.drivers.docker.stats import pick_stats
from callstats.reduce import decimate
from callstats.rule import KEEP_PEAKS, Rule
from callstats.series import StatSeries

_CALLS = 2_000
_SEED = 20_171_127
_RULE = Rule(240, how=KEEP_PEAKS)  # as `record` stores a call
_NS_PER_MS = 1_000_000
_PERIOD_NS = 1_003_500_000  # a container engine's second, as measured in the capture
_JITTER_NS = 3_000_000
_PAGE = 4_096
_MIB_PAGES = 256
_FIRST_MS = 1_792_972_800_000  # 2026-10-26T00:00:00Z, a month before the capture
_STEP_MS = 2_592_000  # the most time between two calls, so that 2,000 fill a month


def docker_frames() -> Iterator[dict[str, object]]:
    """Yield the 45 frames that a Docker engine sent about one container, one a second."""
    with files(__name__).joinpath("docker-20.10-cgroup1.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def demo_calls() -> Iterator[dict[str, object]]:
    """Yield 2,001 calls as rows for a table in the shape of Fn's, the same ones each time.

    Yields
    ------
    dict
        ``id`` (text that sorts by time), ``app_id``, ``fn_id``, ``status``, ``created_at``, ``started_at``, ``completed_at`` (RFC
        3339, to the millisecond), ``stats`` (a stored histogram of at most 240 rows; ``""`` for a call too short to be sampled)
        and ``error`` (text, or None after a success). The first call is the captured container's. The others are made up, have
        the shapes of real functions, and last from a tenth of a second to two hours.
    """
    frames = list(docker_frames())
    stats = [stat for stat in map(pick_stats, frames, [None, *frames]) if stat is not None]
    first_ms, last_ms = (stats[index].timestamp // _NS_PER_MS for index in (0, -1))
    names = {"app_id": "demo", "fn_id": "captured", "status": "success"}
    yield _entry(0, (first_ms, first_ms, last_ms + 1), StatSeries.from_samples(stats), None, **names)
    rng = np.random.default_rng(_SEED)
    created_ms = _FIRST_MS
    for number in range(1, _CALLS + 1):
        created_ms += _draw(rng, 1, _STEP_MS)
        yield _made_up_call(rng, created_ms, number)


def _made_up_call(rng: np.random.Generator, created_ms: int, number: int) -> dict[str, object]:
    fn = _FUNCTIONS[_draw(rng, 0, len(_FUNCTIONS))]
    status = fn.statuses[_draw(rng, 0, len(fn.statuses))]
    shortest_ms = 100 << _draw(rng, *fn.octaves)  # every doubling of length is as likely as the next
    lasted_ms = 1_000 * fn.timeout if status == "timeout" else _draw(rng, shortest_ms, 2 * shortest_ms)
    waited_ms = _draw(rng, 2, 40) if _draw(rng, 0, 20) else _draw(rng, 300, 4_000)  # one in 20 is a cold start
    started_ms = created_ms + waited_ms
    series = _sampled(rng, fn, number, status == "killed", started_ms * _NS_PER_MS, lasted_ms * _NS_PER_MS)
    error = _ERRORS[status].format(timeout=fn.timeout) if status in _ERRORS else None
    times_ms = created_ms, started_ms, started_ms + lasted_ms
    return _entry(number, times_ms, series, error, app_id=fn.app_id, fn_id=fn.fn_id, status=status)


def _entry(number: int, times_ms: tuple[int, int, int], series: StatSeries, error: str | None, **names: str) -> dict[str, object]:
    times = (format_time(ms * _NS_PER_MS, digits=3) for ms in times_ms)
    return {
        "id": new_call_id(times_ms[0], number),
        **names,
        **dict(zip(("created_at", "started_at", "completed_at"), times, strict=True)),
        "stats": decimate(series, _RULE).to_db(),
        "error": error,
    }


def _sampled(rng: np.random.Generator, fn: _Function, number: int, killed: bool, started_ns: int, lasted_ns: int) -> StatSeries:
    """Return the samples of such a call, one a second."""
    phase_ns = _draw(rng, 200_000_000, 1_000_000_000)
    n = max((lasted_ns - phase_ns - _JITTER_NS) // _PERIOD_NS + 1, 0)
    if not n:
        return StatSeries([], {})
    seconds = np.arange(n, dtype=np.int64)
    times = started_ns + phase_ns + seconds * _PERIOD_NS + _draws(rng, 0, _JITTER_NS, n)
    limit = fn.memory_mib * _MIB_PAGES
    used = limit * fn.used // 100
    memory = np.minimum(_shape(rng, fn.shape, seconds, used) + _drift(fn, number, used), limit)
    if killed:  # it ran into its limit
        memory += (limit - memory) * (seconds + 1) // n
    user, kernel = _draws(rng, fn.percent // 3, fn.percent, n), _draws(rng, 0, 3 + fn.percent // 8, n)
    cpu = {"cpu_total": user + kernel, "cpu_user": user, "cpu_kernel": kernel}
    metrics = {
        # processor use is measured against the sample before
        **{name: np.ma.MaskedArray(values, mask=seconds == 0) for name, values in cpu.items()},
        "mem_usage": memory * _PAGE,
        "mem_limit": np.full(n, limit * _PAGE, dtype=np.int64),
        "net_rx": _counter(rng, n, fn.traffic, 2),
        "net_tx": _counter(rng, n, fn.traffic // 3, 2),
        "disk_read": _counter(rng, n, fn.traffic // 2, 8) // _PAGE * _PAGE,
        "disk_write": _counter(rng, n, fn.traffic // 4, 5) // _PAGE * _PAGE,
    }
    if n > 300 and not _draw(rng, 0, 25):  # a stream that broke off for a while
        lost = _draw(rng, 1, n // 2)
        kept = np.r_[0:lost, lost + _draw(rng, 30, n // 2) : n]
        return StatSeries(times[kept], {name: values[kept] for name, values in metrics.items()})
    return StatSeries(times, metrics)


def _draw(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high))


def _draws(rng: np.random.Generator, low: int, high: int, n: int) -> Counts:
    """Draw integers. There are no floats here and below, since their last bits could differ between machines."""
    return rng.integers(low, high, n, dtype=np.int64)


def _counter(rng: np.random.Generator, n: int, limit: int, odds: int) -> Counts:
    """Return a total that rises in one second out of `odds`, by less than `limit`."""
    total: Counts = np.cumsum(_draws(rng, 0, limit, n) * (_draws(rng, 0, odds, n) == 0))
    return total


def _drift(fn: _Function, number: int, limit: int) -> int:
    """Return by how much memory has grown since the first call."""
    if fn.drift == "leak":
        return limit * 2 * number // (5 * _CALLS)
    return limit * min(4 * number, _CALLS) // (6 * _CALLS) if fn.drift == "warm-up" else 0


def _shape(rng: np.random.Generator, name: str, seconds: Counts, limit: int) -> Counts:
    """Return memory over the seconds of a call."""
    n = seconds.size
    if name == "ramp":  # fills up and then stays
        top, rise = limit * _draw(rng, 40, 75) // 100, max(n * _draw(rng, 10, 60) // 100, 1)
        return limit // 8 + (top - limit // 8) * np.minimum(seconds, rise) // rise + _draws(rng, 0, limit // 100, n)
    if name == "spikes":  # steady, with short peaks close to the limit
        peaks: Counts = limit * _draws(rng, 30, 70, n) // 100 * (_draws(rng, 0, 40, n) == 0)
        return limit // 4 + peaks + _draws(rng, 0, limit // 50, n)
    if name == "leak":  # grows until the end
        return limit // 10 + seconds * (limit * _draw(rng, 5, 13)) // 100_000 + _draws(rng, 0, limit // 200, n)
    if name == "waves":  # a garbage collector frees it from time to time
        period = _draw(rng, 12, 90)
        return limit // 5 + seconds % period * (limit // 2) // period + _draws(rng, 0, limit // 100, n)
    stages = _draw(rng, 3, 8)  # grows with each stage of a job
    grown: Counts = limit * 3 // 5 * (seconds * stages // n) // stages
    return limit // 6 + grown + _draws(rng, 0, limit // 60, n)


@dataclass(frozen=True)
class _Function:
    app_id: str
    fn_id: str
    shape: Literal["ramp", "spikes", "leak", "waves", "stages"]
    memory_mib: int
    percent: int  # its max CPU, of one core.
    traffic: int  # its max network traffic, in received bytes a second.
    octaves: tuple[int, int]  # a call lasts 0.1 s * 2**k or more, with k from the first number to below the second.
    timeout: int  # in seconds.
    statuses: tuple[str, ...] = ("success",) * 94 + ("error",) * 4 + ("timeout",) + ("killed",)
    used: int = 100  # the share of its memory that it can use, in percent.
    drift: Literal["leak", "warm-up"] | None = None  # of memory from call to call.


_TOO_SMALL = ("success",) * 90 + ("error",) * 3 + ("killed",) * 7
_ROOMY = ("success",) * 94 + ("error",) * 4 + ("timeout", "error")
_FUNCTIONS = (
    _Function("shop", "checkout", "waves", 128, 60, 200_000, (0, 6), 10, drift="leak"),
    _Function("shop", "thumbnail", "spikes", 256, 100, 3_000_000, (0, 9), 60),
    _Function("reports", "invoice-pdf", "ramp", 2_048, 120, 500_000, (3, 11), 300, _ROOMY, used=20),
    _Function("reports", "nightly-export", "stages", 2_048, 90, 20_000_000, (8, 16), 7_200),
    _Function("media", "transcode", "waves", 1_024, 400, 8_000_000, (6, 15), 3_600),
    _Function("search", "embed", "ramp", 4_096, 200, 1_000_000, (1, 12), 600, drift="warm-up"),
    _Function("search", "reindex", "leak", 1_024, 150, 4_000_000, (9, 16), 7_200, _TOO_SMALL),
)

_ERRORS = {"error": "exit status 1", "timeout": "timed out after {timeout} s", "killed": "out of memory"}
