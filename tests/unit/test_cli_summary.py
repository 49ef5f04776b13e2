"""``callstats summary`` in this process: its options, its output in three forms, its exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import StatSeries, decimate
from callstats.cli.app import cli
from callstats.cli.summary import summary_csv, summary_json, summary_lines
from callstats.db import connect as connect_table
from support.database import Value, blob, connect, made
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")

MIB = 2**20
UNLIMITED = 9223372036854771712
FN = "CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id, status, created_at, started_at, completed_at, stats)"


def run(*args: object, **env: str | None) -> Result:
    """What a command prints and how it ends."""
    arguments = ["summary", *(str(arg) for arg in args)]
    return CliRunner(env={"CALLSTATS_URL": None, **env}).invoke(cli, arguments, prog_name="callstats")


def histogram(peak: int, limit: int = 256 * MIB, metric: str = "mem_usage") -> str:
    """A minute with a peak."""
    metrics = {
        metric: [MIB] * 59 + [peak],
        "mem_limit": [limit] * 60,
        "cpu_total": [50] * 60,
        "net_rx": [1000 * i for i in range(60)],
        "net_tx": [0] * 60,
    }
    return StatSeries([i * SECOND for i in range(60)], metrics).to_db()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A function of 100 calls, one of them killed; another of one call; one that was never sampled."""
    rows: list[tuple[Value, ...]] = []
    for i in range(100):
        killed = i == 50
        at = f"2026-10-26T12:{i // 60:02}:{i % 60:02}.000Z"
        rows.append((f"{i:03}", "resize", "killed" if killed else "success", at, at, at[:-5] + ".500Z", histogram((i + 1) * MIB)))
    rows.append(("x1", "big", "error", "2026-11-26T00:00:00Z", None, None, histogram(2**33, UNLIMITED, "mem_working")))
    rows.append(("x2", "short", "success", "2026-11-26T00:00:00Z", None, None, ""))
    path = tmp_path / "calls.db"
    with closing(connect(path)) as there:
        there.execute(FN)
        there.execute("BEGIN")
        there.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        there.execute("COMMIT")
    return path


def test_for_people(db: Path) -> None:
    """Each name has a line, the heaviest waste first; what is unknown is a dash."""
    result = run(db, "--rightsize", "5%", "--step", "16m")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" | ".join(re.split("  +", line)) for line in result.stdout.splitlines()]
    assert lines[:-1] == [
        " | sampled | time | memory | right | CPU | waste",
        "name | / calls | errors | p95 | max | limit | size | cores | growing | GiB h",
        "resize | 100/100 | 1 | 0.5 s | 100 MiB | 256 MiB | 112 MiB | 0.5 | no | <0.01",
        "big | 1/1 | 1 | ~59 s | 8 GiB | unlimited | - | - | - | -",
        "short | 0/1 | 0 | - | - | - | - | - | - | -",
        "",
        "right size: at most 5 % of calls exceed it, CPU cores: at most 5 %; both with 95 % confidence",
        "- as right size: needs 59 calls with known memory; missing: big 58, short 59",
        "- as CPU cores: needs 59 calls with known CPU; missing: big 58, short 59",
        "- as growing: needs 40 calls with known min memory; missing: big 39, short 40",
        "~ is not exact: reductions have changed it, or it is known from samples only",
        "a right size covers calls whose memory is known: --long has the details",
        "peaks of memory were sampled in 101 calls, and may have been higher",
        "",
    ]
    assert lines[-1].startswith("102 calls in 3 names, 0 rejected; ")


def test_calls_without_a_status(tmp_path: Path) -> None:
    """It is not known which failed: no form tells that none did, nor that traffic which nothing counted was 0."""
    path = made(tmp_path / "calls.db", [("1", histogram(MIB)), ("2", histogram(MIB))])
    lines = run(path).stdout.splitlines()
    assert lines[2].split()[:3] == ["all", "2/2", "-"]
    assert "calls without a status may have failed or been killed: killed ones count by their peaks" in lines
    assert run(path, "--long").stdout.startswith("all: 2 calls, 2 sampled; how they ended is not known\n")
    [group] = json.loads(run(path, "--json").stdout)["groups"]
    assert (group["errors"], group["killed"], group["increases"]["disk_read"]) == (None, None, None)
    assert group["increases"]["net_rx"] == 2 * 59_000
    heading, values = (line.split(",") for line in run(path, "--csv").stdout.splitlines())
    row = dict(zip(heading, values, strict=True))
    assert (row["errors"], row["killed"], row["disk_read"], row["net_tx"]) == ("", "", "", "0")


def test_the_order(db: Path) -> None:
    """Names come in any column's order, the unknown last; in every form."""
    for key, names in (
        ("waste", ["resize", "big", "short"]),
        ("name", ["big", "resize", "short"]),
        ("memory", ["big", "resize", "short"]),
        ("calls", ["resize", "big", "short"]),
        ("errors", ["big", "resize", "short"]),
        ("duration", ["big", "resize", "short"]),
        ("cpu", ["big", "resize", "short"]),
    ):
        found = run(db, "--sort", key).stdout.splitlines()
        assert [line.split()[0] for line in found[2:5]] == names
        assert [group["name"] for group in json.loads(run(db, "--sort", key, "--json").stdout)["groups"]] == names
        assert [line.split(",")[0] for line in run(db, "--sort", key, "--csv").stdout.splitlines()[1:]] == names


def test_a_block_for_each(db: Path) -> None:
    """With --long each name has its block, with only the lines that it has something for."""
    result = run(db, "--rightsize", "5%", "--step", "16m", "--long")
    assert (result.exit_code, result.stderr) == (0, "")
    seen = "peaks sampled each second; a shorter peak would not be seen"
    over = "1 of 100 calls would have exceeded it, at most 4.66 % with 95 % confidence"
    saved = "saves 56 % of limits of 256 MiB on average"
    left_out = "0 of 1 call sampled, 1 without known memory left out, 0 killed"
    needs = "of the 59 that a risk of 5 % needs"
    near = "with a known limit came within 10 % of it"
    assert result.stdout.splitlines()[:-4] == [
        "resize: 100 calls, 100 sampled, 1 error, 1 killed",
        "  duration    p50 0.5 s, p95 0.5 s, p99 0.5 s, max 0.5 s",
        "  memory      p50 50.5 MiB, p95 95 MiB, p99 99 MiB, max 100 MiB",
        "              page cache included",
        "  limit       256 MiB of the latest call; a call reached its limit",
        "  waste       <0.01 GiB h reserved and not needed",
        f"  near limit  1 of 100 calls {near}: 1 % (95 %: 0.177 % to 5.45 %), as far as samples tell",
        "  CPU         mean 50.0 %, p95 50.0 % of one core",
        "  network     5.9 MB received, 0 B sent",
        "  growing     no",
        f"  right size  112 MiB: {over}; {saved}",
        f"  covers      100 of 100 calls sampled, 1 killed; {seen}",
        "  CPU request 0.5 cores: 0 of 100 calls would have exceeded it, at most 4.66 % with 95 % confidence",
        "",
        "big: 1 call, 1 sampled, 1 error, 0 killed",
        "  duration    p50 ~59 s, p95 ~59 s, p99 ~59 s, max ~59 s",
        "  memory      p50 8 GiB, p95 8 GiB, p99 8 GiB, max 8 GiB",
        "  limit       unlimited of the latest call",
        "  near limit  0 of 1 call with a known limit came within 10 % of it: 0 % (95 %: 0 % to 79.3 %), as far as samples tell",
        "  CPU         mean 50.0 %, p95 50.0 % of one core",
        "  network     59.0 kB received, 0 B sent",
        "  growing     can't tell from 1 call: needs 40",
        f"  right size  not enough calls whose memory is known: 1 {needs}",
        f"  covers      1 of 1 call sampled, 0 killed; {seen}",
        f"  CPU request not enough calls whose CPU is known: 1 {needs}",
        "",
        "short: 1 call, 0 sampled, 0 errors, 0 killed",
        f"  right size  not enough calls whose memory is known: 0 {needs}",
        f"  covers      {left_out}",
        "",
    ]
    assert result.stdout.splitlines()[-1].startswith("102 calls in 3 names, 0 rejected; ")


def test_marks(tmp_path: Path) -> None:
    """What reduced rows no longer hold is marked, and what they still do is not."""
    whole = StatSeries([i * SECOND for i in range(60)], {"mem_usage": range(60), "net_rx": range(60), "cpu_total": range(60)})
    path = made(tmp_path / "calls.db", [("a", decimate(whole, 6, how={"mem_usage": ("mean", "max")}).to_db())])
    with connect_table(path) as table:
        lines = summary_lines(table.summarize())
    for line in ("memory      p50 59 B,", "network     ~50 B received", "CPU         mean ~", "duration    p50 ~"):
        assert any(line in other for other in lines), lines


def test_json(db: Path) -> None:
    """All figures, as strict JSON in ASCII without NaN; no value is null."""
    result = run(db, "--json", "--rightsize", "0.05")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(result.stdout, parse_constant=refuse)
    assert result.stdout.isascii()
    assert (found["by"], found["calls"], found["rejected"], found["stopped"]) == ("fn_id", 102, 0, None)
    resize, big, short = found["groups"]
    assert (big["unlimited"], big["headroom"], big["limit"], big["page_cache"]) == (True, None, UNLIMITED, 0)
    assert resize["memory"] == {"n": 100, "p50": 52953088, "p95": 95 * MIB, "p99": 99 * MIB, "max": 100 * MIB}
    assert resize["rightsize"]["size"] == 128 * MIB
    assert (resize["calls"], resize["sampled"], short["sampled"], big["approximate"]) == (100, 100, 0, ["duration_ns"])
    waste = sum(256 - peak for peak in range(1, 101) if peak != 51) * MIB // 2
    assert (resize["waste"], big["waste"], resize["cpu_request"]["size"]) == (waste, None, 500)
    assert (short["memory"]["max"], short["cpu_mean"], short["trend"]["growing"]) == (None, None, None)


def test_csv(db: Path) -> None:
    """A line a group, the same fields in each; an empty one is no value."""
    result = run(db, "--csv", "--rightsize", "5%")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    assert list(rows) == ["resize", "big", "short"]
    assert rows["resize"]["memory_p99"] == str(99 * MIB)
    assert rows["resize"]["near_k"] == "1"
    assert rows["short"]["memory_p99"] == rows["short"]["limit"] == rows["big"]["headroom"] == ""
    assert rows["big"]["rightsize_reason"].startswith("not enough calls")
    assert "nan" not in result.stdout.lower()


def test_no_calls(tmp_path: Path) -> None:
    """An empty table has no groups in any form, and no warning."""
    path = made(tmp_path / "calls.db", [])
    assert run(path, "--rightsize", "1%").stdout.startswith("0 calls, 0 rejected; 0 B in ")
    assert json.loads(run(path, "--json").stdout)["groups"] == []
    assert run(path, "--csv").stdout.count("\n") == 1


def test_no_calls_meet_a_choice(db: Path, tmp_path: Path) -> None:
    """Standard error says which option left none, beside any form and of a report; not where calls are left out for a reason."""
    result = run(db, "--since", "2200-01-01", "--json")
    assert (result.exit_code, json.loads(result.stdout)["calls"]) == (0, 0)
    assert result.stderr == f"no calls meet --since: callstats summary {db} tells what calls there are\n"
    none = [db, "--where", "1 = 0", "--since", "7d"]
    assert run(*none).stderr == f"no calls meet --since and --where: callstats summary {db} tells what calls there are\n"
    page = CliRunner().invoke(cli, ["report", *map(str, none), "-o", str(tmp_path / "page.html")])
    assert page.stderr == f"no calls meet --since and --where: callstats summary {db} tells what calls there are\n"
    assert run(db, "--since", "2001-01-01").stderr == ""
    tagged = tmp_path / "tags.jsonl"
    tagged.write_text('{"stats":[],"tags":{"a":"b"}}\n')
    assert run(tagged, "--tag", "a=c").stderr == "no calls meet --tag\n", "list takes no file"
    assert run(tagged, "--tag", "a=b").stderr == ""


def test_text_of_the_database_is_made_harmless(tmp_path: Path) -> None:
    """Control characters and broken text in groups come out as escapes, in every form; so they do in refusals."""
    path = tmp_path / "calls.db"
    with closing(connect(path)) as there:
        there.execute(FN)
        rows: list[tuple[Value, ...]] = [("a", "\x1b[31mred\n"), ("b", b"\x1b"), ("c", None), ("\x1b]0;", "f")]
        for key, group in rows:
            there.execute("INSERT INTO calls VALUES (?, ?, '', '', '', '', ?)", (key, group, "[" if group == "f" else blob(1)))
        there.execute("INSERT INTO calls VALUES ('d', CAST(x'ff' AS TEXT), '', '', '', '', '')")
    for form in ((), ("--json",), ("--csv",)):
        result = run(path, *form)
        assert result.exit_code == 1
        assert "\x1b" not in result.output
        assert "rejected '\\x1b]0;': byte 1: " in result.stderr
    result = run(path, "--long")
    for name in ("\\x1b[31mred\\n: ", "x'1b': ", "NULL: ", "\\udcff: "):
        assert name in result.stdout


def test_since_and_by(db: Path) -> None:
    """Older calls are left out, groups are by any column, and '' makes one group."""
    assert run(db, "--since", "2026-11-01").stdout.splitlines()[-1].startswith("2 calls in 2 names")
    assert run(db, "--since", "2026-10-26T12:01:30Z", "--by", "").stdout.splitlines()[-1].startswith("12 calls, ")
    assert "killed: 1 call, 1 sampled, 1 error, 1 killed" in run(db, "--group-column", "status", "--long").stdout
    assert run(db, "--by", "", "--where", "fn_id = 'big'", "--long").stdout.startswith("all: 1 call, ")


def test_untimed_calls_are_told_of(tmp_path: Path) -> None:
    """Calls whose time can't be read are left out of --since, and the output says so."""
    path = tmp_path / "calls.db"
    with closing(connect(path)) as there:
        there.execute(FN)
        there.execute("INSERT INTO calls VALUES ('a', 'f', '', 'some day', '', '', '')")
    assert run(path, "--since", "1d").stdout.splitlines()[-1] == "left out, since their time can't be read: 1 call"


def test_unknown_statuses_are_told_of(tmp_path: Path) -> None:
    """A status of unknown meaning counts as a success, and the output says so; a cancelled call is an error."""
    path = tmp_path / "calls.db"
    words: list[Value] = ["failed", "FAILURE", "failed", "cancelled", "success", "", None, 0, "a", "b", "c"]
    with closing(connect(path)) as there:
        there.execute(FN)
        for key, status in enumerate(words):
            there.execute("INSERT INTO calls VALUES (?, 'f', ?, '', '', '', '')", (f"{key:02}", status))
    said = "counted as successes, since their status is unknown: 7 calls (failed, FAILURE, 0, a, b, and others); "
    said += "callstats knows success, cancelled, error, killed, timeout"
    assert said in run(path).stdout.splitlines()
    found = json.loads(run(path, "--json").stdout)
    assert found["unknown_statuses"] == {"failed": 2, "FAILURE": 1, "0": 1, "a": 1, "b": 1, "c": 1}
    assert found["groups"][0]["errors"] == 1
    assert "since their status is unknown" not in run(path, "--where", "status = 'success'").stdout
    with closing(connect(path)) as there:
        there.execute("BEGIN")
        there.executemany("INSERT INTO calls VALUES (?, 'g', ?, '', '', '', '')", [(f"x{word}", word) for word in range(200)])
        there.execute("COMMIT")
    counted = json.loads(run(path, "--json").stdout)["unknown_statuses"]
    assert (len(counted), counted["0"], counted["others"]) == (101, 2, 105)
    compared = CliRunner().invoke(cli, ["compare", str(path), "f", "g"], prog_name="callstats").stdout
    assert "counted as successes, since their status is unknown: 207 calls (others, failed, 0, " in compared


def test_wrong_use(db: Path) -> None:
    """Options that mean nothing are refused in one line, by code 2."""
    for args, said in (
        ((db, "--by", "gone"), "--by must be a column of table 'calls', got 'gone': it has 'id', 'fn_id'"),
        ((db, "--rightsize", "0"), "--rightsize must be above 0 and below 100 %"),
        ((db, "--rightsize", "100%"), "--rightsize must be above 0 and below 100 %"),
        ((db, "--step", "0"), "--step must be 1 byte or more, got '0'"),
        (
            (db, "--since", "soon"),
            "--since must be a date or an RFC 3339 time, such as 2026-10-26, 2026-10-26T12:00:00Z, or 7d ",
        ),
        ((db, "--patch", "nomad"), "'nomad' is not 'kubernetes'"),
        ((db, "--patch", "kubernetes", "--csv"), "--patch must be given without --csv"),
        ((db, "--where", "nonsense ("), "--where must be a condition in the SQL of SQLite, got 'nonsense ('"),
        ((db.with_name("no.db"),), "there is no SQLite database"),
    ):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
    assert run(CALLSTATS_URL=str(db)).exit_code == 0


def test_forms_take_any_summary(db: Path) -> None:
    """Lines, JSON and CSV are built apart from printing."""
    with connect_table(db) as table:
        found = table.summarize()
    assert summary_lines(found)
    assert json.loads(summary_json(found))["calls"] == 102
    assert summary_csv(found).count("\n") == 3


def test_csv_has_no_formulas(tmp_path: Path) -> None:
    """A name that a spreadsheet would run has an apostrophe before it; numbers stay numbers."""
    path = tmp_path / "calls.db"
    names = ["=1+1", "+1", "-1", "@x", "plain", "a=b"]
    with closing(connect(path)) as there:
        there.execute(FN)
        for name in names:
            there.execute("INSERT INTO calls VALUES (?, ?, '', '', '', '', ?)", (name, name, blob(3)))
    found = {row["name"]: row for row in csv.DictReader(io.StringIO(run(path, "--csv").stdout))}
    assert sorted(found) == sorted(["'=1+1", "'+1", "'-1", "'@x", "plain", "a=b"])
