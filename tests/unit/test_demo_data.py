"""The demo's data: a captured stream, and calls made up from a seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from callstats._timestamps import parse_time
from callstats.demo import demo_calls, docker_frames
from callstats.drivers import pick_stats
from callstats.series import StatSeries
from callstats.stats import CallData, summarize_calls
from callstats.stats.format import finding_text

# In one worker: the calls are made and read once.
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.xdist_group("demo")]

SECOND = 10**9
KEYS = ["id", "app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "stats", "error"]
CPU = {"cpu_total", "cpu_user", "cpu_kernel"}
GAUGES = CPU | {"mem_usage", "mem_limit"}
COUNTERS = {"net_rx", "net_tx", "disk_read", "disk_write"}

Call = dict[str, Any]
Read = list[tuple[Call, StatSeries]]
made: dict[str, Read] = {}


@pytest.fixture
def read(backend: str) -> Read:
    """All calls, each with its histogram read; made once by each backend, since they are many."""
    if backend not in made:
        made[backend] = [(call, StatSeries.from_db(call["stats"])) for call in demo_calls()]
    return made[backend]


@pytest.fixture
def calls(read: Read) -> list[Call]:
    """All calls."""
    return [call for call, _ in read]


@pytest.fixture
def sampled(read: Read) -> Read:
    """The made-up calls that have samples."""
    return [(call, series) for call, series in read[1:] if len(series)]


def lasted(call: Call) -> int:
    """How long a call ran, in ns."""
    return parse_time(call["completed_at"]) - parse_time(call["started_at"])


def peak(stat: Any) -> int:
    """The most memory that a row knows of."""
    return int(stat.metrics.get("mem_usage@max", stat.metrics["mem_usage"]))


def test_the_capture_is_shipped() -> None:
    """The 45 frames come with the package, anew at each call."""
    frames = list(docker_frames())
    assert len(frames) == 45
    assert all(isinstance(frame["read"], str) for frame in frames)
    frames[0].clear()
    assert next(docker_frames())["read"] == "2026-11-25T00:49:06.099834609Z"


def test_every_call_is_a_row(calls: list[Call]) -> None:
    """There are 2,001 calls, each with the same nine keys, and text in all but `error`."""
    assert len(calls) == 2_001
    for call in calls:
        assert list(call) == KEYS
        assert all(type(call[key]) is str for key in KEYS[:-1])
        assert call["error"] is None or type(call["error"]) is str


def test_ids_are_unique_and_sort_by_time(calls: list[Call]) -> None:
    """Ids are 26 characters long, no two alike, in the order in which the calls were created."""
    assert len({call["id"] for call in calls}) == len(calls)
    assert {len(call["id"]) for call in calls} == {26}
    assert sorted(calls, key=lambda call: call["id"]) == sorted(calls, key=lambda call: call["created_at"])


def test_the_first_call_is_the_captured_one(calls: list[Call]) -> None:
    """It has the 45 frames' own times and metrics, to the millisecond, and cpu in all rows but the first."""
    first = calls[0]
    assert (first["fn_id"], first["status"], first["error"]) == ("captured", "success", None)
    series = StatSeries.from_db(first["stats"])
    assert set(series.names) == GAUGES | COUNTERS | {"mem_working", "mem_usage@max"}
    frames = list(docker_frames())
    stats = [stat for stat in map(pick_stats, frames, [None, *frames]) if stat is not None]
    assert [stat.metrics for stat in series] == [stat.metrics for stat in stats]
    assert [stat.timestamp for stat in series] == [stat.timestamp // 10**6 * 10**6 for stat in stats]
    assert not CPU & set(series[0].metrics)
    assert all(set(stat.metrics) > CPU for stat in series[1:])


def test_the_same_calls_each_time(calls: list[Call]) -> None:
    """The seed alone decides: a second run gives the same calls, and so do all backends."""
    assert list(islice(demo_calls(), 60)) == calls[:60]
    assert all([call for call, _ in others] == calls for others in made.values())


def test_the_same_calls_in_another_process(calls: list[Call]) -> None:
    """Nothing hangs on the process, such as its hash seed or its time zone."""
    code = "import itertools, json, callstats.demo as d; print(json.dumps([*itertools.islice(d.demo_calls(), 60)]))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == calls[:60]


def test_times_are_in_order(read: Read) -> None:
    """A call is created, then starts, then ends, and is sampled only in between."""
    for call, series in read:
        created, started, completed = (parse_time(call[key]) for key in ("created_at", "started_at", "completed_at"))
        assert created <= started < completed
        assert all(started <= time <= completed for time in series.timestamps.tolist())


def test_statuses(calls: list[Call]) -> None:
    """Most calls succeed, some fail in each of three ways, and those that fail say why."""
    counted = Counter(call["status"] for call in calls)
    assert set(counted) == {"success", "error", "timeout", "killed"}
    assert counted["success"] > 1_700
    assert all(count >= 10 for count in counted.values())
    assert all((call["error"] is None) == (call["status"] == "success") for call in calls)
    for call in calls:
        if call["status"] == "timeout":
            assert call["error"] == f"timed out after {lasted(call) // SECOND} s"
            assert lasted(call) % SECOND == 0


def test_several_functions_of_several_apps(calls: list[Call]) -> None:
    """Seven made-up functions of four apps, each called a good many times."""
    counted = Counter((call["app_id"], call["fn_id"]) for call in calls[1:])
    assert len(counted) == len({fn for _, fn in counted}) == 7
    assert len({app for app, _ in counted}) == 4
    assert min(counted.values()) > 200


def test_lengths(read: Read) -> None:
    """They last from under a second, with one sample or none, to over an hour, with 240 rows at most."""
    rows = Counter(len(series) for _, series in read)
    assert max(rows) == 240
    assert rows[240] > 300
    assert rows[1] > 50
    assert sum(rows[n] for n in range(2, 240)) > 800
    short = [(call["stats"], len(series)) for call, series in read if lasted(call) < SECOND]
    assert len(short) > 100
    assert {n for _, n in short} == {0, 1}
    assert all((stats == "") == (n == 0) for stats, n in short)
    long = [series for call, series in read if lasted(call) > 3_600 * SECOND]
    assert len(long) > 20
    assert max(int(series.counts.sum()) for series in long) > 3_600
    assert all(lasted(call) <= 7_200 * SECOND for call, _ in read)


def test_every_histogram_is_in_the_stored_form(read: Read) -> None:
    """Reading one and writing it again gives the same text."""
    for call, series in read:
        assert series.to_db() == call["stats"]


def test_metrics(sampled: Read) -> None:
    """Fn's nine metrics, and the peaks of memory and CPU where rows were reduced; the first sample has no cpu."""
    for _, series in sampled:
        reduced = bool((series.counts > 1).any())
        nine = (GAUGES | COUNTERS) - (CPU if len(series) == 1 else set())
        assert set(series.names) == nine | ({"mem_usage@max", "cpu_total@max"} if reduced else set())
        if not reduced:
            assert not CPU & set(series[0].metrics)
        assert all(set(stat.metrics) > CPU for stat in series[1:])


def test_stories(read: Read) -> None:
    """Each function has its story: a leak, a warm-up, too little and too much memory."""
    by_name: dict[str, list[CallData]] = {}
    for call, series in read:
        by_name.setdefault(call["fn_id"], []).append(
            CallData(series, call["status"], parse_time(call["created_at"]), lasted(call))
        )
    assert {name: finding_text(summarize_calls(calls, risk=0.05)) for name, calls in by_name.items()} == {
        "captured": "too few calls",
        "checkout": "memory grows",
        "embed": "warms up",
        "invoice-pdf": "too much memory",
        "nightly-export": "too much memory",
        "reindex": "too little memory",
        "thumbnail": "too little memory",
        "transcode": "too much memory",
    }


def test_shapes(sampled: Read) -> None:
    """Memory stays within a constant limit of whole pages, counters only rise, and cpu is the sum of its parts."""
    for _, series in sampled:
        (limit,) = set(series["mem_limit"].tolist())
        assert limit % 4_096 == 0
        stats = list(series)
        for stat in stats:
            assert 0 < stat.metrics["mem_usage"] <= peak(stat) <= limit
        for name in COUNTERS:
            values = series[name].tolist()
            assert values == sorted(values)
        for stat in stats[1:]:
            assert 0 <= stat.metrics["cpu_total"] - stat.metrics["cpu_user"] - stat.metrics["cpu_kernel"] <= 1


def test_one_function_leaks_and_the_killed_ran_out(sampled: Read) -> None:
    """The leaking function's long calls only grow; a killed call ends at its limit, and hardly another does."""
    leaking = [series for call, series in sampled if call["fn_id"] == "reindex" and int(series.counts.sum()) > 1_000]
    assert len(leaking) > 50
    assert all(series[-1].metrics["mem_usage"] > 1.5 * series[0].metrics["mem_usage"] for series in leaking)
    killed = [series for call, series in sampled if call["status"] == "killed"]
    assert len(killed) > 20
    assert all(peak(series[-1]) == series[-1].metrics["mem_limit"] for series in killed)
