"""Every command and the library report the same numbers of a call, before and after reductions."""

from __future__ import annotations

import json
import random
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats import CallUsage, StatSeries, connect
from callstats.adapters import parquet
from callstats.cli.app import cli
from callstats.demo import demo_calls
from callstats.stats import usage_of
from callstats.stats.format import usage_text
from support.zoo import SECOND

MIB = 2**20
START = 1_700_000_000 * SECOND
KEPT = ("peak_memory", "memory_metric", "memory_limit", "cpu_peak", "cpu_time_ns", "duration_ns", "samples")
"""What the default reductions don't change."""


def output(*args: object) -> str:
    """What a command prints."""
    result = CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [str(arg) for arg in args])
    assert (result.exit_code, result.stderr) == (0, ""), (args, result.output)
    return result.stdout


def plain(usage: CallUsage) -> dict[str, Any]:
    """A usage as JSON has it."""
    return {**asdict(usage), "exact": sorted(usage.exact)}


def reported(db: Path, page: Path) -> dict[str, dict[str, Any]]:
    """The usage of each call, after a check that every command reports the same."""
    listed = {call["key"]: call["usage"] for call in map(json.loads, output("list", db, "--json", "--limit", 1000).splitlines())}
    with connect(str(db)) as calls:
        assert {call.key: plain(call.usage) for call in calls.list(None)} == listed
        durations = {call.key: call.usage.duration_ns for call in calls.list(None)}
    for key in random.Random(1).sample(sorted(listed), min(len(listed), 10)):
        assert json.loads(output("show", db, key, "--json"))["usage"] == listed[key]
    for group in json.loads(output("summary", db, "--json"))["groups"]:
        usage = listed[group["name"]]
        assert group["memory"]["max"] == usage["peak_memory"]
        assert group["cpu_peak"]["max"] == usage["cpu_peak"]
        assert group["duration_ns"]["max"] == usage["duration_ns"]
        assert ("memory" in group["approximate"]) is (usage["peak_memory"] is not None and "peak_memory" not in usage["exact"])
    output("report", db, "-o", page, "--top", 1000)
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    drawn = {call["name"]: call["peak"] for call in json.loads(found[1])["calls"]}
    assert drawn == {key: usage_text(CallUsage(**usage), "peak_memory") for key, usage in listed.items() if usage["rows"]}
    exported = page.with_suffix(".parquet")
    exported.unlink(missing_ok=True)
    output("export", db, "--long", exported)
    names, batch = parquet.read(exported)
    for name, series in zip(names.to_pylist(), batch, strict=True):
        of_rows = plain(usage_of(series, durations[name]))
        exact = listed[name]["exact"]
        assert {field: of_rows[field] for field in exact} == {field: listed[name][field] for field in exact}
    return listed


def random_call(dice: random.Random) -> StatSeries:
    """A recorded call: with and without mem_working, the kernel's peaks, limits and holes."""
    rows = dice.choice((0, 1, 2, 30, 61, 240, 300))
    metrics: dict[str, list[int | None]] = {}
    if dice.random() < 0.9:
        metrics["mem_usage"] = [dice.randrange(1, 2**30) if dice.random() < 0.9 else None for _ in range(rows)]
    if dice.random() < 0.5:
        metrics["mem_working"] = [dice.randrange(0, 2**29) for _ in range(rows)]
    if dice.random() < 0.3:
        metrics["mem_usage@max"] = [dice.randrange(2**30, 2**31) if dice.random() < 0.1 else None for _ in range(rows)]
    if dice.random() < 0.7:
        metrics["mem_limit"] = [dice.choice((0, 256 * MIB, 2**63 - 4096))] * rows
    if dice.random() < 0.8:
        metrics["cpu_total"] = [None, *(dice.randrange(400) for _ in range(rows - 1))][:rows]
    if dice.random() < 0.5 and rows:
        metrics["cpu_time@last"] = [None] * (rows - 1) + [dice.randrange(10**12)]
    return StatSeries([START + i * SECOND for i in range(rows)], metrics)


def same_after_reductions(db: Path, page: Path) -> None:
    """Reduce by the defaults three times: what is kept is kept, and as exact."""
    before = reported(db, page)
    for samples in (60, 12, 1):
        output("reduce", db, "--max-samples", samples)
        after = reported(db, page)
        for key, usage in before.items():
            kept = [name for name in KEPT if name != "duration_ns" or name in usage["exact"]]  # without columns it is a span
            assert {name: after[key][name] for name in kept} == {name: usage[name] for name in kept}, key
            assert set(usage["exact"]) & set(KEPT) <= set(after[key]["exact"]), key


def test_random_calls(tmp_path: Path) -> None:
    """Three hundred calls, each a group of its own."""
    dice, db = random.Random(15), tmp_path / "calls.db"
    with connect(str(db)) as calls:
        calls.create()
        rows = []
        for i in range(300):
            row: dict[str, Any] = {"id": f"{i:03}", "fn_id": f"{i:03}", "status": "success", "stats": random_call(dice)}
            if i % 2:
                row |= {"started_at": "2023-11-14T22:13:20Z", "completed_at": f"2023-11-14T22:{20 + i % 9}:00Z"}
            rows.append(row)
        assert calls.add(rows) == 300
    same_after_reductions(db, tmp_path / "page.html")


def test_the_captured_call(tmp_path: Path) -> None:
    """The call that a Docker engine's stream was captured of: 8.6 MiB, exact throughout."""
    captured, db = next(iter(demo_calls())), tmp_path / "calls.db"
    with connect(str(db)) as calls:
        calls.create()
        calls.add([{**captured, "fn_id": captured["id"]}])
        usage = calls.list()[0].usage
    assert (usage.peak_memory, usage.memory_metric, usage_text(usage, "peak_memory")) == (8_990_720, "mem_working", "8.6 MiB")
    assert "peak_memory" in usage.exact
    same_after_reductions(db, tmp_path / "page.html")
    assert "8.6 MiB" in output("show", db)
    assert "  >=8.6 MiB" in output("list", db)
    assert "~8.6" not in output("list", db) + output("show", db) + output("summary", db)


@pytest.mark.parametrize("samples", [None, 60, 12, 1])
def test_the_right_size_is_of_the_working_set(samples: int | None, tmp_path: Path) -> None:
    """A hundred calls whose working set peaks at 100 MiB, and their page cache at 400, need 128 MiB at every reduction."""
    rows = [90 * MIB] * 299 + [100 * MIB]
    series = StatSeries(
        [START + i * SECOND for i in range(300)], {"mem_working": rows, "mem_usage": [value + 300 * MIB for value in rows]}
    )
    with connect(str(tmp_path / "calls.db")) as calls:
        calls.create()
        calls.add([{"id": str(i), "fn_id": "resize", "stats": series} for i in range(100)])
        if samples is not None:
            assert calls.reduce(samples).changed == 100
        [group] = calls.summarize(risk=0.05).groups
    assert group.summary.rightsize is not None
    assert (group.summary.rightsize.size, group.summary.memory.max) == (128 * MIB, 100 * MIB)
    assert "rightsize" not in group.summary.approximate
