"""What the command and the library say to somebody who is new to them: refusals name the way out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import callstats
from callstats import ImageError, Recorder, Rule, SeriesError, StatBatch, StatSeries, connect, decimate, record
from callstats.cli.app import cli
from callstats.cli.format import FewRejects
from callstats.cli.reduce import result_lines
from callstats.db import ReduceResult, Reject
from callstats.errors import shorten_repr
from callstats.stats import CallData, summarize_calls
from callstats.stats.format import summary_texts
from support.database import ask, blob, made

pytestmark = pytest.mark.usefixtures("backend")


def run(*args: object) -> Result:
    """What a command prints and how it ends."""
    return CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [str(arg) for arg in args], prog_name="callstats")


def test_wrong_use_of_docker_stores_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra and a wrong image are told before the call has a row; so it is in Python."""
    db = tmp_path / "calls.db"
    with connect(db) as calls:
        calls.create()
        with pytest.raises(ImageError):
            record(["true"], driver="docker", image="a@b@c", into=calls)
        monkeypatch.setitem(sys.modules, "docker", None)
        result = run("record", "--db", db, "--driver", "docker", "--image", "alpine", "--", "true")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert 'needs docker: install callstats with the extra "docker"' in result.stderr
        with pytest.raises(ImportError, match="needs docker"):
            record(["true"], driver="docker", image="alpine", into=calls)
        assert calls.list() == []


# --- reduce ---------------------------------------------------------------------------------------------------------------------


def test_a_column_without_a_histogram(tmp_path: Path) -> None:
    """Plain text is not told to be a histogram that is short enough; a table that has one is not doubted."""
    db = made(tmp_path / "calls.db", [(str(i), "keep me") for i in range(100)])
    lines = run("reduce", db, "--max-samples", 10).stdout.splitlines()
    assert lines[0] == f"table calls in {db}, 100 rows: 0 changed, 0 unchanged, 0 rejected, 100 short enough already"
    assert lines[1] == "no row has a histogram with samples: is --column right?"
    ask(db, "UPDATE calls SET stats = ? WHERE id = '50'", blob(2))
    assert "is --column right?" not in run("reduce", db, "--max-samples", 10).stdout
    with connect(made(tmp_path / "none.db", [("a", None)])) as calls:
        assert not calls.reduce(10).has_histograms
        assert calls.reduce(10, where="id = 'b'").has_histograms, "no row is in scope"


def test_the_file_keeps_its_size(tmp_path: Path) -> None:
    """After bytes were saved in an SQLite file, a line says what frees them; a dry run frees none."""
    db = made(tmp_path / "calls.db", [("a", blob(100))])
    note = "\nthe database file keeps its size until a VACUUM\n"
    assert note not in run("reduce", db, "--max-samples", 10, "--dry-run").stdout
    assert note in run("reduce", db, "--max-samples", 10).stdout
    assert note not in run("reduce", db, "--max-samples", 10).stdout


def test_equal_rejections_are_grouped(tmp_path: Path) -> None:
    """Ten rows of a reason and twenty reasons are shown, and how many more there are; a file and a log in JSON have all."""
    db = made(tmp_path / "calls.db", [(f"{i:03}", blob(100)) for i in range(100)])
    result = run("reduce", db, "--max-bytes", 10, "--rejects", tmp_path / "rejects.jsonl")
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines)) == (1, 11)
    assert lines[9].startswith("rejected '009': ")
    assert lines[10] == lines[9].replace("'009':", "90 more rows too:") + "; --rejects FILE has all"
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 100
    log = run("reduce", db, "--max-bytes", 10, "--log-json").stderr
    assert sum(json.loads(line)["event"] == "reject" for line in log.splitlines()) == 100
    ask(
        db,
        """UPDATE calls SET stats = '[{"timestamp":"2026-11-20T10:00:00Z","metrics":{"x' || id || '":"no"}}]' WHERE id < '030'""",
    )
    lines = run("reduce", db, "--max-samples", 10, "--verify").stderr.splitlines()
    assert lines[19].startswith("rejected '019': $[0].metrics.x019: ")
    assert lines[20:] == ["rejected 10 more rows with further reasons; --rejects FILE has all"]


def test_reasons_with_values_of_their_own_are_one(tmp_path: Path) -> None:
    """Sizes, places, times and quoted text make no reason of their own; what all of the rows share is told."""
    db = made(tmp_path / "calls.db", [(f"{i:03}", blob(100, metric="m" * (i % 50 + 1))) for i in range(200)])
    lines = run("reduce", db, "--max-bytes", 10, "--dry-run").stderr.splitlines()
    assert len(lines) == 11
    assert re.fullmatch("rejected '000': --max-bytes must be at least the size of one row, \\d+ bytes, got 10", lines[0])
    reason = "--max-bytes must be at least the size of one row, \N{HORIZONTAL ELLIPSIS} bytes, got \N{HORIZONTAL ELLIPSIS}"
    assert lines[10] == f"rejected 190 more rows too: {reason}; --rejects FILE has all"

    def told(*reasons: str) -> list[str]:
        said: list[str] = []
        with FewRejects(said.append) as few:
            for index, reason in enumerate(reasons):
                few.add(Reject(index, reason))
        return said[10:]

    etc = "\N{HORIZONTAL ELLIPSIS}"
    cut = shorten_repr("a" * 100)
    for first, others, shown in (
        ("$[3].metrics.x1: got -5", "$[17].metrics.x1: got 1e+30", f"$[{etc}].metrics.x1: got {etc}"),
        ("can't read 'it\\'s'", "can't read \"it's\"", f"can't read {etc}"),
        (f"name: got {cut}", "name: got b'\\x00'", f"name: got {etc}"),
        ("got 2026-11-20T10:00:00Z: no", "got 10,000: no", f"got {etc}: no"),
    ):
        assert told(*[first] * 11, others) == [f"rejected 2 more rows too: {shown}"]
        assert told(*[first] * 12) == [f"rejected 2 more rows too: {first}"]
    assert told(*["$.a1: no"] * 10, "$.a2: no") == ["rejected 10: $.a2: no"], "names are no numbers"


@pytest.mark.parametrize("command", ["summary", "export", "list", "compare", "report"])
def test_every_command_groups_them(command: str, tmp_path: Path) -> None:
    """Whatever reads a table names ten rows of a reason; its counts and JSON have all of them."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id TEXT DEFAULT 'x', stats)"
    db = made(tmp_path / "calls.db", [("ok", blob(3)), *((f"{i:03}", "keep me") for i in range(1000))], table=table)
    options = {
        "export": [tmp_path / "calls.parquet", "--long"],
        "list": ["--limit", 2000, "--json"],
        "compare": ["x", "y"],
        "report": ["-o", tmp_path / "report.html"],
    }
    result = run(command, db, *options.get(command, []))
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines)) == (1, 11), lines[-1]
    assert lines[10] == "rejected 990 more rows too: byte 0: expected value, got 'k'"
    if command != "list":
        assert "1,000 rejected" in result.stdout


def test_import_groups_them(tmp_path: Path) -> None:
    """So do saved rows that the table no longer has."""
    db, old = made(tmp_path / "calls.db", [(f"{i:03}", blob(30)) for i in range(120)]), tmp_path / "old.jsonl"
    assert run("reduce", db, "--max-samples", 5, "--save", old).exit_code == 0
    ask(db, "DELETE FROM calls WHERE id > '004'")
    result = run("import", db, old)
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines), lines[10]) == (1, 11, "not in the table: 105 more rows")
    assert lines[0] == "not in the table: '005'"
    with connect(db) as calls:
        seen: list[object] = []
        (tmp_path / "spool.jsonl").write_text('{"callstats":"call","v":1,"call":{}}\n')
        assert calls.restore(tmp_path / "spool.jsonl", on_reject=seen.append).rejected == len(seen) == 1


def test_a_change_names_its_call_last(tmp_path: Path) -> None:
    """The largest change in a dry run: metric, values and share first, so that a key is not read as a value."""
    some = [None] * 3 + [1000] + [None] * 12 + [900] * 4  # the first one weighs as four in the mean of a reduced row
    db = made(tmp_path / "calls.db", [("0", StatSeries([i * 10**9 for i in range(20)], {"cpu_user": some}).to_db())])
    out = run("reduce", db, "--max-samples", 5, "--dry-run").stdout
    assert "\nlargest change of a mean: cpu_user, 920 to 950, 3.26 %, in call '0'\n" in out


def test_a_reduction_without_counts_says_what_is_lost(tmp_path: Path) -> None:
    """From then on nothing can be marked as inexact; a run that looks for no peaks does not tell that there are none."""
    told = "--plain leaves out counts: samples are not known, and nothing is marked as inexact, from then on"
    series = StatSeries(range(8), {"mem_usage": range(8)})
    for number, (options, says) in enumerate(((["--plain"], True), (["--plain", "--dry-run"], True), ([], False))):
        db = made(tmp_path / f"{number}.db", [("a", series.to_db())])
        assert (told in run("reduce", db, "--max-samples", 2, *options).stdout.splitlines()) == says
        assert told not in run("reduce", db, "--max-samples", 2, "--plain", "--where", "id = 'b'").stdout
    db = made(tmp_path / "json.db", [("a", series.to_db())])
    assert json.loads(run("reduce", db, "--max-samples", 2, "--json").stdout)["kept_peaks"] is None


def test_a_dry_run_tells_of_kept_peaks_first(tmp_path: Path) -> None:
    """Whether one of them changes, then the largest change of another; a run tells which it kept, by its rule."""
    metrics = {"mem_usage": [1, 9, 5, 5], "cpu_user": [0, 3, 0, 0]}
    db = made(tmp_path / "calls.db", [("a", StatSeries([0, 1, 2, 3], metrics).to_db())])

    def peaks(*options: object) -> list[str]:
        lines = run("reduce", db, "--max-samples", 1, *options).stdout.splitlines()
        return [line for line in lines if line.startswith(("peaks ", "largest ", "means: "))]

    assert peaks("--dry-run") == [
        "peaks of mem_usage: unchanged",
        "largest change of a peak that is not kept: cpu_user, 3 to 0, 100 %, in call 'a'",
        "means: unchanged, up to rounding",
    ]
    kept = peaks("--dry-run", "--how", "mean,max")
    assert kept[0] == "peaks of cpu_user, mem_usage: unchanged" and "not kept" not in kept[1]
    report = json.loads(run("reduce", db, "--max-samples", 1, "--dry-run", "--json").stdout)
    assert (report["kept_peaks"], report["kept_peak_change"]) == (["mem_usage"], None)
    assert report["peak_change"] == {"key": "a", "metric": "cpu_user", "before": 3, "after": 0}
    for how, text in {
        "mean": "",
        "mean,max": "the rule keeps peaks of every metric",
        "cpu_user=max": "the rule keeps peaks of cpu_total, cpu_user, mem_limit, mem_usage, mem_working, where calls have them",
    }.items():
        copy = made(tmp_path / f"{how}.db", [("a", StatSeries([0, 1], {"cpu_user": [1, 3]}).to_db())])
        out = run("reduce", copy, "--max-samples", 1, "--how", how).stdout.splitlines()
        assert [line for line in out if line.startswith("the rule")] == [text] * bool(text)
    both = ("--how", "mean,max", "--how", "cpu_user=mean")
    copy = made(tmp_path / "both.db", [("a", StatSeries([0, 1], {"cpu_user": [1, 3]}).to_db())])
    assert "\nthe rule keeps peaks of every metric but cpu_user\n" in run("reduce", copy, "--max-samples", 1, *both).stdout


@pytest.mark.parametrize(
    ("how", "of_means"),
    [
        ("mem_usage=mean,max", []),
        ("cpu_user=mean", []),
        ("cpu_user=mean,max", ["cpu_user"]),
        ("cpu_user=mean,min", ["cpu_user"]),
        ("net_rx=mean,last", []),
        ("net_rx=mean,first,last", ["net_rx"]),
        ("*=mean,max", ["cpu_user", "net_rx"]),
    ],
)
def test_a_reduction_tells_of_peaks_that_are_of_means(how: str, of_means: list[str], tmp_path: Path) -> None:
    """Where an earlier reduction kept no peaks, those that this one adds are of means, and nothing tells so later."""
    raw = StatSeries(range(8), {"cpu_user": [0, 9] * 4, "mem_usage": [0, 9] * 4, "net_rx": range(8)})
    means = decimate(raw, 4, how={"mem_usage": ("mean", "max")}).to_db()
    for number, (text, names) in enumerate(
        [(raw.to_db(), []), (means, of_means), (means.replace("count", r"c\u006funt"), of_means)]
    ):
        db = made(tmp_path / f"{number}.db", [("a", text)])
        found = json.loads(run("reduce", db, "--max-samples", 2, "--dry-run", "--json", "--how", how).stdout)
        assert found["peaks_of_means"] == names
        out = run("reduce", db, "--max-samples", 2, "--dry-run", "--how", how).stdout.splitlines()
        told = f"only means were left of {', '.join(names)}: what reads as exact, such as a peak, is that of means"
        assert [line for line in out if "were left" in line] == [told] * bool(names)
        [kept] = [line for line in out if line.startswith("peaks of ")]
        assert not {*names} & {*kept.removeprefix("peaks of ").partition(":")[0].split(", ")}
        out = run("reduce", db, "--max-samples", 2, "--how", how).stdout.splitlines()
        assert [line for line in out if "were left" in line] == [told] * bool(names)


@pytest.mark.parametrize(
    ("phases", "dry_run", "told"),
    [
        ({"read": 1.0}, False, "the rows counted here are written"),
        ({"read": 1.0}, True, "the rows counted here were looked at"),
        ({}, False, "there is no new file"),
    ],
)
def test_what_a_job_that_stops_early_has_done(phases: dict[str, float], dry_run: bool, told: str) -> None:
    """It has written rows of a table, but none in a dry run; a file is new as a whole or not at all."""
    lines = result_lines(ReduceResult(phases=phases, dry_run=dry_run, stopped="asked to stop"), "calls", Rule())
    assert lines[-1] == f"stopped early: asked to stop; {told}"


def test_an_emptied_histogram_loses_its_kept_peak(tmp_path: Path) -> None:
    """The line of kept peaks says so."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, created_at TEXT DEFAULT '2026-01-01', stats)"
    db = made(tmp_path / "calls.db", [("a", blob(3))], table=table)
    out = run("reduce", db, "--tier", "7d=0", "--dry-run").stdout
    assert re.search(r"\npeaks of [\w, ]+: the largest change is of \w+, [\d,]+ to nothing, 100 %, in call 'a'\n", out), out


@pytest.mark.parametrize(
    ("n", "rows", "more", "times"), [(1, "1 row", "1 more row", "1 time"), (2, "2 rows", "2 more rows", "2 times")]
)
def test_counts_agree(n: int, rows: str, more: str, times: str, tmp_path: Path) -> None:
    """A line of one row speaks of one."""
    lines = result_lines(ReduceResult(rows=n, known=n, untimed=n, locked=n, retries=n), "calls", Rule())
    assert lines[0].startswith(f"calls, {rows}: ")
    assert {
        f"rejected before, as the file of known rows says: {rows}",
        f"without a time, and so unchanged: {rows}",
        f"locked by other programs, and so unchanged: {more}",
        f"a batch was tried again, since a lock or the connection failed: {times}",
    } <= {*lines}
    file = tmp_path / "calls.jsonl"
    file.write_bytes(blob(3).encode() * n)
    assert run("export", file, tmp_path / "calls.parquet", "--long").stdout.startswith(f"{rows}: {n} written, ")
    near = [CallData(StatSeries([0], {"mem_usage": [99], "mem_limit": [100]}))] * n
    text = dict(summary_texts(summarize_calls(near)))["near limit"]
    calls = {1: "1 of 1 call", 2: "2 of 2 calls"}[n]
    assert text.startswith(f"{calls} with a known limit came within 10 % of it: ")


def test_nothing_to_save(tmp_path: Path) -> None:
    """A run that changes nothing makes no file, and says so; with --json too."""
    db, old = made(tmp_path / "calls.db", [("a", blob(20))]), tmp_path / "old.jsonl"
    for form in [], ["--json"]:
        result = run("reduce", db, "--max-samples", 60, "--save", old, *form)
        assert (result.exit_code, result.stderr) == (0, f"nothing was saved: there is no file {str(old)!r}\n")
    assert run("import", db, old).stderr.endswith(": No such file or directory\n")
    assert run("reduce", db, "--max-samples", 5, "--save", old).stderr == ""


@pytest.mark.parametrize("command", ["list", "compare", "summary", "import"])
def test_the_database_is_an_argument(command: str, tmp_path: Path) -> None:
    """Whoever gives it as record does is told so; another wrong option gets the usual advice."""
    result = run(command, "--db", tmp_path / "calls.db")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        "Error: --db: give the database as an argument, without --db",
    )
    assert "No such option '--tabel'." in run(command, "--tabel").stderr


# --- the library ----------------------------------------------------------------------------------------------------------------


def test_a_batch_is_of_series() -> None:
    """A metric's name as an index, and one series in place of several: both say what to write."""
    series = StatSeries([0], {"mem_usage": [1]})
    with pytest.raises(TypeError, match=r"^a batch has series, and they have metrics: batch\[0\]\['mem_usage'\]$"):
        StatBatch([series])["mem_usage"]  # type: ignore[call-overload]
    with pytest.raises(SeriesError, match=r"an iterable of StatSeries, got a single one: put it in a list$"):
        StatBatch(series)  # type: ignore[arg-type]


def test_a_datetime_without_a_zone() -> None:
    """It could be of any zone, so the error says to give it one, wherever it came in."""
    at, advice = datetime(2026, 1, 1), "got datetime.datetime(2026, 1, 1, 0, 0): give it a time zone, such as timezone.utc"
    for work in (
        lambda: StatSeries([at], {"x": [1]}),
        lambda: StatSeries.from_samples([(at, {"x": 1})]),
        lambda: Recorder().write_stat(at, {"x": 1}),
    ):
        with pytest.raises(SeriesError, match=re.escape(advice) + "$"):
            work()
    assert len(StatSeries([at.replace(tzinfo=UTC)], {"x": [1]})) == 1


# --- columns --------------------------------------------------------------------------------------------------------------------


def test_default_columns_that_were_not_found(tmp_path: Path) -> None:
    """One line names them and their options; columns that were named away are not missed, nor those of a file."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats, created_at TEXT, job TEXT)"
    db = made(tmp_path / "calls.db", [("a", blob(5))], table=table)
    line = "the table has no {}status (--status-column), started_at (--start-column), completed_at (--end-column): "
    line += "name its own column by the option in brackets\n"
    assert line.format("fn_id (--by), ") in run("summary", db).stdout
    assert line.format("") in run("summary", db, "--by", "job").stdout
    away = ["--by", "", "--status-column", "", "--start-column", "", "--end-column", ""]
    assert "the table has no " not in run("summary", db, *away).stdout
    (tmp_path / "calls.jsonl").write_text(blob(5))
    assert "has no " not in run("summary", tmp_path / "calls.jsonl").stdout


# --- texts ----------------------------------------------------------------------------------------------------------------------


def test_a_time_without_a_zone(tmp_path: Path) -> None:
    """It says that the zone is missing, and how the time is written with one; other text is only told the forms."""
    db = made(tmp_path / "calls.db", [])
    at = "2026-11-26T09:39:30"
    error = run("compare", db, "a", "--at", at).stderr
    assert error.endswith(f"or 7d for so long ago, got '{at}': its zone is missing: {at}Z is in UTC\n")
    assert run("compare", db, "a", "--at", "soon").stderr.endswith("or 7d for so long ago, got 'soon'\n")


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    """Somebody new needs `record`, and not `init` alone."""
    error = run("summary", tmp_path / "no.db").stderr
    assert error.endswith("no.db': callstats record makes one with its first call, callstats init an empty one\n")


def test_a_command_as_one_text() -> None:
    """The library takes words; it says how to make them of a line."""
    for command, hint in (("python3 job.py 5", ": shlex.split makes one of it"), (b"true", ""), ([], "")):
        with pytest.raises(
            ValueError, match=re.escape(f"command must be a list of one word or more, got {command!r}{hint}") + "$"
        ):
            record(command)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("record", "A process is looked at 20 times a second, and may hold more until then; a container may not."),
        ("reduce", "So does the last value of a counter, which --how net_rx=mean,first,last keeps."),
        ("", "any other name needs a path, as in ./calls."),
        ("", "or as a number of seconds; sizes as 64k, 32m or 1.5g, in units of 1024; shares as 0.1% or 0.001."),
    ],
)
def test_the_help_says_so(command: str, text: str) -> None:
    """What surprised people stands in the help."""
    assert text in " ".join(run(*filter(None, [command]), "--help").stdout.split())


# --- calls of a name ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Three calls of two names, the last of which failed."""
    db = tmp_path / "calls.db"
    with connect(db) as calls:
        calls.create()
        names = {"1": ("nightly", "success"), "2": ("nightly", "error"), "3": ("resize", "success")}
        calls.add({"id": key, "fn_id": name, "status": status, "stats": blob(3)} for key, (name, status) in names.items())
    return db


def test_list_by_name_and_condition(named: Path) -> None:
    """--name and --where choose, each alone and both together; so does the library."""

    def keys(*options: str) -> list[str]:
        return [json.loads(line)["key"] for line in run("list", named, "--json", *options).stdout.splitlines()]

    assert (keys("--name", "nightly"), keys("--where", "status = 'success'")) == (["2", "1"], ["3", "1"])
    assert keys("--name", "nightly", "--where", "status = 'success'") == ["1"]
    assert keys("--name", "nobody") == []
    empty = run("list", named, "--name", "nobody", "--tag", "a=b", "--where", "1").stdout
    assert empty == f"no calls meet --name and --tag and --where: callstats list {named} --json tells what calls there are\n"
    why = f"no calls meet --name: callstats summary {named} tells what calls there are\n"
    assert run("list", named, "--name", "nobody").stdout == why
    assert (found := run("list", named, "--name", "nobody", "--json")).stdout == "" and found.stderr == why
    result = run("list", named, "--name", "nightly", "--by", "")
    assert (result.exit_code, result.stderr) == (
        2,
        "callstats: --name must be left out for a table without names, got 'nightly'\n",
    )
    with connect(named) as calls:
        assert [call.key for call in calls.list(1, name="nightly")] == ["2"]
    assert "\n2 calls in 1 name, 0 rejected" in run("summary", named, "--name", "nightly").stdout
    page = run("report", named, "--name", "resize", "-o", named.with_suffix(".html"))
    assert page.stdout.startswith("1 call in 1 name, 0 rejected; ")


def test_calls_of_a_tag_and_of_late(named: Path, tmp_path: Path) -> None:
    """--tag and --since choose for list, summary and report alike; a call needs all tags, and a time that can be read."""
    ask(
        named,
        """UPDATE calls SET tags = '{"branch":"main","try":"' || id || '"}', created_at = '2026-11-0' || id WHERE id < '3'""",
    )
    ask(named, "UPDATE calls SET tags = '[1]', created_at = 'soon' WHERE id = '3'")

    def keys(*options: str) -> list[str]:
        return [json.loads(line)["key"] for line in run("list", named, "--json", *options).stdout.splitlines()]

    main = ("--tag", "branch=main")
    assert keys(*main) == ["2", "1"]
    assert (keys(*main, "--limit", "1"), keys(*main, "--tag", "try=1"), keys("--tag", "try=4")) == (["2"], ["1"], [])
    assert (keys("--since", "2026-11-02"), keys("--since", "2026-11-01", "--limit", "1")) == (["2"], ["2"])
    assert "\n2 calls in 1 name, 0 rejected" in run("summary", named, *main).stdout
    assert "\n1 call in 1 name, 0 rejected" in run("summary", named, *main, "--since", "2026-11-02").stdout
    assert run("report", named, *main, "-o", tmp_path / "report.html").stdout.startswith("2 calls in 1 name, 0 rejected; ")
    twice = run("list", named, *main, "--tag", "branch=test")
    assert (twice.exit_code, twice.stderr.splitlines()[-1]) == (2, "Error: --tag must have each name once, got 'branch' again")
    with connect(named) as calls, connect(made(tmp_path / "plain.db", [])) as plain:
        assert [call.key for call in calls.list(tags={"branch": "main"}, since=1_793_577_600_000_000_000)] == ["2"]
        for work in (lambda: plain.list(tags={"a": "b"}), lambda: plain.summarize(tags={"a": "b"})):
            with pytest.raises(
                ValueError, match=r"^tags must be left out for 'calls', which has no column 'tags', got {'a': 'b'}$"
            ):
                work()


def test_tags_in_a_file(tmp_path: Path) -> None:
    """A file of objects may have them too."""
    file = tmp_path / "calls.jsonl"
    lines = (
        {"id": str(i), "tags": {"branch": branch}, "stats": json.loads(blob(3))} for i, branch in enumerate(("main", "test"))
    )
    file.write_text("\n".join(map(json.dumps, lines)))
    result = run("report", file, "--tag", "branch=main", "-o", tmp_path / "report.html")
    assert result.stdout.startswith("1 call in 1 name, 0 rejected; ")


def test_a_table_without_calls(named: Path) -> None:
    """A list says so, and prints no headings."""
    ask(named, "DELETE FROM calls")
    assert (run("list", named).stdout, run("list", named, "--json").stdout) == ("the table has no calls\n", "")


def test_show_the_latest_call_of_a_name(named: Path) -> None:
    """A key comes first, then a name; what is neither is told to be neither."""
    assert json.loads(run("show", named, "nightly", "--json").stdout)["key"] == "2"
    assert json.loads(run("show", named, "1", "--json").stdout)["key"] == "1"
    told = "ID or NAME must be the whole key or the name of a call in table 'calls'"
    for options in ([], ["--by", ""]):
        error = run("show", named, "nobody", *options).stderr
        assert error == f"callstats: {told}, got 'nobody': list shows the latest\n"


def test_init_names_what_it_added(tmp_path: Path) -> None:
    """An older table gets columns and an index; each is named."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats, created_at TEXT, pid INTEGER)"
    db = made(tmp_path / "calls.db", [], table=table)
    added = "command, host, exit_code, tags, an index on created_at"
    assert run("init", db).stdout == f"added to table calls in {db}: {added}\n"
    assert run("init", db).stdout == f"nothing to do: table calls in {db} has its columns\n"


def test_tab_finds_names_that_are_loaded_late() -> None:
    """A fresh interpreter lists all of them, and what it lists can be had."""
    program = "import callstats; found = dir(callstats); print(sorted({*callstats.__all__} - {*found}), found == sorted(found))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n"
    assert all(hasattr(callstats, name) for name in dir(callstats))
