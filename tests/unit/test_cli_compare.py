"""``callstats compare``: two names, a name before and after a time, and two sets of tags."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import Call, StatSeries, connect, decimate
from callstats.cli.app import cli
from callstats.cli.compare import comparison_text
from callstats.db import TableComparison
from callstats.errors import ArgumentError
from callstats.stats import Difference
from support.zoo import SECOND

MIB = 2**20


def run(*args: object, **env: str | None) -> Result:
    arguments = ["compare", *(str(arg) for arg in args)]
    return CliRunner(env={"CALLSTATS_URL": None, **env}).invoke(cli, arguments, prog_name="callstats")


def call(key: str, name: str, day: int, seconds: float, peak: int, status: str = "success", version: str = "1") -> Call:
    start = f"2026-10-{day:02}T00:00:00.000Z"
    end = f"2026-10-{day:02}T00:00:{seconds:06.3f}Z"
    series = StatSeries([0, SECOND], {"mem_usage": [peak // 2, peak], "cpu_total": [50, 50]})
    tags = {"version": version, "team": "web"}
    return Call(key=key, name=name, series=series, status=status, created_at=start, started_at=start, completed_at=end, tags=tags)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Of `resize` the calls from 16 October on take 20 % more memory and are of version 2; `RESIZE` is another name."""
    path = tmp_path / "calls.db"
    calls = []
    for i in range(40):
        new, spread = i >= 20, i * 7 % 10
        peak = (100 + spread) * MIB * (12 if new else 10) // 10
        calls.append(call(f"a{i:02}", "resize", 6 + i // 2, 1 + spread / 100, peak, version="2" if new else "1"))
        calls.append(call(f"b{i:02}", "RESIZE", 6 + i // 2, 2 + spread / 100, 90 * MIB, "error" if i % 2 else "success", "3"))
    calls.append(call("c", "few", 6, 1, MIB, version="9"))
    calls.append(call("d", "resize", 7, 9, 900 * MIB, "running"))
    with connect(path) as table:
        table.create()
        table.add(calls)
    return path


def test_two_names(db: Path) -> None:
    """Each number has its medians, its difference with an interval, and a verdict; names differ in case."""
    result = run(db, "resize", "RESIZE")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["A: resize, 40 calls", "B: RESIZE, 40 calls"]
    verdicts = {line[:12].strip(): line.rsplit("  ", 1)[1] for line in lines[4:8]}
    assert verdicts == {
        "duration": "96 % higher",
        "peak memory": "can't tell",  # since it rose half-way
        "CPU": "no difference seen",
        "failures": "higher",
    }
    assert lines[9] == "confidence of the intervals: duration 97.5 %, CPU 95 %, failures 98.3 %"
    assert lines[10:13] == [
        "peak memory: can't tell from 40 and 40 calls, which count as 4 and 40, since calls in a row are alike",
        "  needs 10 of each",
        "  A has a trend or a step: compare the calls after it by --since TIME; see growing in summary",
    ]
    assert "+50 points" in lines[7]


def test_one_name_before_and_after(db: Path) -> None:
    """The time splits the calls of one name, and a running call is left out."""
    result = run(db, "resize", "--at", "2026-10-16", "--json")
    found = json.loads(result.stdout)
    assert (found["names"], found["group_calls"], found["unfinished"]) == (
        ["resize before 2026-10-16T00:00:00.000Z", "resize from 2026-10-16T00:00:00.000Z"],
        [20, 20],
        1,
    )
    by_name = {one["name"]: one for one in found["differences"]}
    assert [name for name, one in by_name.items() if one["differs"]] == ["memory"]
    assert by_name["memory"]["low"] < by_name["memory"]["difference"] < by_name["memory"]["high"]


def test_calls_without_a_time(db: Path) -> None:
    """They are neither before nor after."""
    with connect(db) as table:
        table.add([replace(call("t", "resize", 6, 1, MIB), created_at=None)])
        found = table.compare("resize", at=1_792_108_800 * 10**9)
    assert (found.untimed, sum(found.group_calls), found.unfinished) == (1, 40, 1)


def test_two_tags(db: Path) -> None:
    """Calls are told apart by a tag; others take no part."""
    found = json.loads(run(db, "--tag", "version=1", "--tag", "version=2", "--json").stdout)
    assert (found["names"], found["group_calls"]) == (["version=1", "version=2"], [20, 20])
    with connect(db) as table:
        both = table.compare({"version": "1", "team": "web"}, {"version": "2", "team": "web"})
        assert [one.differs for one in both.differences] == [False, True, False, False]


def test_calls_with_both_tags(db: Path) -> None:
    """They belong to both groups, so they are left out and counted, however the other conditions and their end choose."""
    with connect(db) as table:
        found = table.compare({"team": "web"}, {"version": "1"}, since=1_791_331_200 * 10**9)  # 7 October
        assert (found.group_calls, found.in_both, found.unfinished, found.rows) == ((58, 0), 18, 1, 77)
        table.add([replace(call("x", "resize", 6, 1, MIB, version="1"), tags={"version": "1"})])
    line = "left out, since they have both tags: 20 calls"
    assert line in run(db, "--tag", "version=1", "--tag", "team=web").stdout.splitlines()
    assert json.loads(run(db, "--tag", "version=1", "--tag", "team=web", "--json").stdout)["in_both"] == 20
    error = run(db, "--tag", "version=9", "--tag", "team=web").stderr
    why = "there are no calls of version=9 to compare besides 1 call with both tags: callstats list"
    assert error.startswith(f"callstats: {why}")


def test_too_few(db: Path) -> None:
    """Below ten calls it can't tell."""
    lines = run(db, "few", "resize").stdout.splitlines()
    assert all(line.endswith("can't tell") for line in lines[4:8])
    few = "can't tell from 1 and 40 calls: needs 10 of each"
    assert lines[9:13] == [f"{title}: {few}" for title in ("duration", "peak memory", "CPU", "failures")]


def test_the_way_out() -> None:
    """About how many more calls would tell, of each group that has too few; differences of percentages are points."""
    one = Difference(name="memory", calls_a=14, calls_b=15, effective_a=14.0, effective_b=6.0, exact_a=True, exact_b=True)
    both = replace(one, name="duration_ns", effective_a=9.5)
    cpu = replace(one, name="cpu", a=88.0, b=87.5, difference=-0.44, low=-1.0, high=0.0, differs=False)
    lines = comparison_text(TableComparison(names=("old", "new"), differences=(one, both, cpu))).splitlines()
    assert lines[8:12] == [
        "peak memory: can't tell from 14 and 15 calls, which count as 14 and 6, since calls in a row are alike",
        "  needs 10 of each: about 10 more calls of B",
        "duration: can't tell from 14 and 15 calls, which count as 9 and 6, since calls in a row are alike",
        "  needs 10 of each: about 1 more call of A and about 10 more calls of B",
    ]
    assert "-0.4 points  -1.0 to +0.0 points" in lines[6]
    assert "differences are of values before rounding" in lines[-2]


def test_a_misspelt_name(db: Path) -> None:
    """It has no calls, and nothing is compared."""
    result = run(db, "few", "gone", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    hint = "callstats: there are no calls of {} to compare: callstats {} tells what calls there are\n"
    assert result.stderr == hint.format("gone", f"summary {db}")
    result = run(db, "--tag", "a=1", "--tag", "a=2")
    assert result.stderr == hint.format("a=1", f"list {db} --json")


def test_what_makes_peaks_differ(tmp_path: Path) -> None:
    """Peaks of another kind, and values that reductions have changed, are told as such."""
    path = tmp_path / "kinds.db"
    rows = {"fn": {"mem_usage": [400, 100]}, "new": {"mem_working": [90, 100], "mem_usage": [400, 100]}}
    rows["kernel"] = {**rows["fn"], "mem_peak@last": [400, 500]}
    with connect(path) as table:
        table.create()
        calls = [
            Call(key=f"{name}{i}", name=name, series=StatSeries([0, SECOND], metrics), status="success")
            for name, metrics in rows.items()
            for i in range(20)
        ]
        reduced = [
            Call(key=f"r{one.key}", name="reduced", series=decimate(one.series, 1), status="success") for one in calls[:20]
        ]
        table.add(calls + reduced)
    lines = run(path, "fn", "new").stdout.splitlines()
    kind = "peaks of 20 of 20 calls of A and 0 of 20 of B include the page cache: a difference may come from that"
    assert kind in lines
    assert json.loads(run(path, "fn", "new", "--json").stdout)["page_cache"] == [20, 0]
    assert "peaks of 0 of 20 calls of A and 20 of 20 of B are the kernel's, the rest sampled" in run(path, "fn", "kernel").stdout
    assert json.loads(run(path, "fn", "kernel", "--json").stdout)["kernel_peaks"] == [0, 20]
    assert "peaks of" not in run(path, "fn", "reduced").stdout
    [line] = [line for line in run(path, "fn", "reduced").stdout.splitlines() if line.startswith("peak memory")]
    assert line.split()[2:6] == ["400", "B", "~250", "B"]  # each side is marked by itself, and so is the difference
    assert "  ~-150 B" in line
    memory = json.loads(run(path, "fn", "reduced", "--json").stdout)["differences"][1]
    assert (memory["exact_a"], memory["exact_b"]) == (True, False)


def test_a_table_without_names_or_times(tmp_path: Path) -> None:
    """Calls without a name or a time can't be told apart by it, and no answer is made up."""
    path = tmp_path / "bare.db"
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT)")
    with connect(path) as table, pytest.raises(ValueError, match="a must be tags for a table without names, got 'a'"):
        table.compare("a", "b")
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("ALTER TABLE calls ADD COLUMN fn_id TEXT")
    with (
        connect(path) as table,
        pytest.raises(
            ValueError,
            match=r"^at must be left out for 'calls', which has no column 'created_at', got '1970",
        ),
    ):
        table.compare("a", at=5)


def test_wrong_use(db: Path) -> None:
    """Two groups are needed, in one of three ways."""
    for args in ((db,), (db, "a"), (db, "a", "b", "c"), (db, "resize", "resize"), (db, "a", "b", "--at", "2026-10-16"), ("a",)):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
    assert "--tag must be NAME=VALUE, twice with two values and without A and B" in run(db, "--tag", "a=1").stderr
    assert "--tag must be NAME=VALUE" in run(db, "--tag", "a", "--tag", "b=1").stderr
    assert run("resize", "RESIZE", CALLSTATS_URL=str(db)).exit_code == 0
    with connect(db) as table:
        for wrong in (lambda: table.compare("a"), lambda: table.compare("a", "b", at=1), lambda: table.compare("a", {"b": "c"})):
            with pytest.raises(ArgumentError):
                wrong()
