"""The command in this process: options, output and exit codes."""

from __future__ import annotations

import csv
import json
import re
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import callstats
from callstats import KEEP_PEAKS, Rule, reduce_json
from callstats.cli.app import cli
from callstats.cli.options import HOW, merge_how
from support.database import ask, blob, cell, cells, connect, made

pytestmark = pytest.mark.usefixtures("backend")

KEPT: Any = KEEP_PEAKS


def run(*args: object, stdin: bytes | None = None, **env: str | None) -> Result:
    """What a command prints and how it ends."""
    return CliRunner(env={"CALLSTATS_URL": None, **env}).invoke(
        cli, [str(arg) for arg in args], input=stdin, prog_name="callstats"
    )


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Two long histograms, one short, none refused."""
    return made(tmp_path / "calls.db", [("a", blob(100)), ("b", blob(100).encode()), ("c", blob(2))])


# --- reduce -----------------------------------------------------------------------------------------------------------


MAX_SAMPLES = "--max-samples must be a whole number, 1 or more (with a file, 0 too)"
NO_FILE = "the database must be no file of histograms"


def test_version_names_the_backend() -> None:
    """The version, and which kernels run."""
    assert run("--version").output == f"callstats {callstats.__version__} ({callstats.backend} backend)\n"


def test_reduce_keeps_peaks_and_counts(db: Path, backend: str) -> None:
    """By default mem_usage@max and counts are kept; the summary says what was done and by which backend."""
    result = run("reduce", db, "--max-samples", 10)
    want = reduce_json([blob(100)], 10, how=KEPT)[0]
    assert [row[1:] for row in cells(db)] == [("text", want), ("blob", want), ("text", blob(2).encode())]
    assert result.exit_code == 0
    assert result.stderr == ""
    first, second, third, fourth = result.stdout.splitlines()[:4]
    assert first == f"table calls in {db}, 3 rows: 2 changed, 0 unchanged, 0 rejected, 1 short enough already"
    assert re.fullmatch(r"[\d.]+ kB before, [\d.]+ kB after in the rows changed: [\d.]+ % less", second)
    assert third == "the database file keeps its size until a VACUUM"
    assert re.fullmatch(rf"[\d.]+ s(, [\d.]+ [kM]?B/s)?, {backend} backend", fourth)
    again = run("reduce", db, "--max-samples", 10)
    assert again.stdout.startswith(f"table calls in {db}, 3 rows: 0 changed, ")


@pytest.mark.parametrize(
    ("options", "rule", "counts"),
    [
        (["--plain"], Rule(10), False),
        (["--plain", "--missing", "zero"], Rule(10, missing="zero"), False),
        (["--missing", "zero"], Rule(10, how=KEPT, missing="zero"), True),
        (["--how", "max"], Rule(10, how="max"), True),
        (["--how", "mean,max"], Rule(10, how=("mean", "max")), True),
        (["--how", "cpu_total=min, max"], Rule(10, how={**KEPT, "cpu_total": ("min", "max")}), True),
        (["--how", "mem_usage=last"], Rule(10, how={**KEPT, "mem_usage": "last"}), True),
        (["--how", "sum", "--how", "cpu_total=first"], Rule(10, how={"*": "sum", "cpu_total": "first"}), True),
        (["--max-bytes", "900"], Rule(10, how=KEPT, max_bytes=900), True),
        (["--max-bytes", "1kB"], Rule(10, how=KEPT, max_bytes=1024), True),
        (["--threads", "3", "--batch-size", "1", "--batch-bytes", "1KiB", "--verify"], Rule(10, how=KEPT), True),
    ],
)
def test_options_make_the_rule(db: Path, options: list[str], rule: Rule, counts: bool) -> None:
    """Each option reaches the rule, or the way that rows are written."""
    assert run("reduce", db, "--max-samples", 10, *options).exit_code == 0
    assert cell(db, "a").encode() == reduce_json([blob(100)], rule, counts=counts)[0]


def test_max_bytes_alone_sets_no_limit_on_rows(db: Path) -> None:
    """One of --max-samples and --max-bytes is enough."""
    assert run("reduce", db, "--max-bytes", 5000).exit_code == 0
    assert cell(db, "a").encode() == reduce_json([blob(100)], None, how=KEPT, max_bytes=5000)[0]


def test_dry_run_and_where(db: Path) -> None:
    """--dry-run says what would be done; --where narrows it."""
    before = cells(db)
    result = run("reduce", db, "--max-samples", 10, "--dry-run", "--where", "id <> 'b'")
    assert result.stdout.startswith(
        f"table calls in {db}, 2 rows: 1 to change, 0 unchanged, 0 rejected, 1 short enough already\n"
    )
    assert result.stdout.endswith("dry run: nothing was written\n")
    assert cells(db) == before


def test_json_report(db: Path, backend: str) -> None:
    """--json prints the report, rejects and all, as one JSON object in ASCII."""
    ask(db, "INSERT INTO calls (id, stats) VALUES (x'00FF', ?)", "[\u00e9" * 500)
    result = run("reduce", db, "--max-samples", 10, "--json")
    assert result.exit_code == 1
    assert result.stdout.isascii()
    report = json.loads(result.stdout)
    assert report["backend"] == backend
    assert (report["rows"], report["changed"], report["rejected"], report["stopped"]) == (4, 2, 1, None)
    assert (report["table"], report["database"]) == ("calls", str(db))
    assert report["rejects"][0]["key"] == {"hex": "00ff"}


def test_save_and_import(db: Path, tmp_path: Path) -> None:
    """--save keeps the old cells, and import puts them back."""
    before, saved = cells(db), tmp_path / "old.jsonl"
    assert run("reduce", db, "--max-samples", 10, "--save", saved).exit_code == 0
    assert cells(db) != before
    result = run("import", db, saved)
    assert result.exit_code == 0
    assert re.fullmatch(r"table calls in \S+: 2 rows put back, 0 not in the table, [\d.]+ s\n", result.stdout)
    assert cells(db) == before
    assert run("reduce", db, "--max-samples", 10, "--save", saved).exit_code == 2


def test_import_names_what_it_can_not_place(db: Path, tmp_path: Path) -> None:
    """Unknown keys on standard error, and exit code 1; half a last line is spoken of."""
    saved = tmp_path / "old.jsonl"
    saved.write_bytes(b'{"key":"a","stats":"x"}\n{"key":"g\\u001b[1mone","stats":"y"}\n{"key":"b","st')
    result = run("import", saved, CALLSTATS_URL=str(db))
    assert result.exit_code == 1
    assert result.stderr == "not in the table: 'g\\x1b[1mone'\n"
    assert "1 row put back, 1 not in the table" in result.stdout
    assert "half a line" in result.stdout
    assert cell(db, "a") == "x"
    saved.write_bytes(b"".join(b'{"key":%d,"stats":""}\n' % i for i in range(150)))
    hint = "name the table that they were saved from by --table, --key and --column"
    assert run("import", db, saved).stderr.splitlines()[10:] == [
        "not in the table: 140 more rows",
        f"none of the saved rows is in table calls in {db}: {hint}",
    ]


def test_rejected_rows_are_named(db: Path) -> None:
    """Each on standard error by key and reason, escaped; exit code 1; the others are done."""
    ask(db, "INSERT INTO calls (id, stats) VALUES (?, ?)", "evil\x1b]0;\x07\n\u202e", '[{"\x1b[2J' + "x" * 999)
    result = run("reduce", db, "--max-samples", 10)
    assert result.exit_code == 1
    assert result.stderr.startswith("rejected 'evil\\x1b]0;\\x07\\n\\u202e': byte ")
    assert result.stderr.count("\n") == 1
    assert ", 4 rows: 2 changed, 0 unchanged, 1 rejected, " in result.stdout
    assert all(c.isprintable() or c == "\n" for c in result.output)


def test_the_environment_names_the_database(db: Path) -> None:
    """CALLSTATS_URL is the default."""
    assert run("reduce", "--max-samples", 10, CALLSTATS_URL=f"sqlite:///{db}").exit_code == 0
    assert cell(db, "a") != blob(100)
    assert run("init", CALLSTATS_URL=f"sqlite:///{db}").exit_code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["reduce", "{db}"], "one of --max-samples, --max-bytes and --tier is needed"),
        (["reduce", "calls", "--max-samples", "10"], "the database must be a URL, a path with a /, a name that ends in .db or"),
        (["init", "calls"], "or an SQLite file, got 'calls'"),
        (["list", "-"], "or an SQLite file, got '-'"),
        (["summary", "user:secret@host"], "or an SQLite file\n"),
        (["report", "calls"], "the database must be a URL"),
        (["show", "calls", "1"], "the database must be a URL"),
        (["export", "calls", "x.parquet"], "the database must be a URL"),
        (["report", "{db}", "-o", "{db}"], "--output must be a file that is no database, got"),
        (["show", "{db}", "a", "--png", "{db}"], "--png must be a file that is no database, got"),
        (["export", "{db}", "{db}"], "FILE must be a file that is no database, got"),
        (["record", "--no-such", "--db", "{db}", "true"], "--no-such"),
        (["summary", "{db}", "--since", "7"], "--since must be a date or an RFC 3339 time, such as 2026-10-26,"),
        (["list", "{db}", "--limit", "ten"], "--limit must be a whole number, 1 or more, got 'ten'"),
        (["report", "{db}", "--top", "20000"], "--top must be a whole number from 0 to 10000, got '20000'"),
        (
            ["reduce", "{db}", "--tier", "7=60"],
            "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7=60'",
        ),
        (
            ["reduce", "{db}", "--tier", "7d"],
            "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7d'",
        ),
        (
            ["reduce", "{db}", "--tier", "7y=60"],
            "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7y=60'",
        ),
        (["reduce", "{db}", "--max-samples", "10", "--plain", "--how", "max"], "--plain must be given without --how"),
        (["reduce", "{db}", "--max-samples", "ten"], f"{MAX_SAMPLES}, got 'ten'"),
        (
            ["reduce", "{db}", "--max-samples", "10", "--how", "median"],
            "--how must be a reducer: one of mean, min, max, first, last, sum, got 'median'",
        ),
        (
            ["reduce", "{db}", "--max-samples", "10", "--how", "x=max,mean"],
            "--how must be after the first reducer one of min, max, first, last, got 'mean'",
        ),
        (["reduce", "{db}", "--max-samples", "10", "--how", "x=max,max"], "--how must have each reducer once, got 'max' again"),
        (
            ["reduce", "{db}", "--max-samples", "10", "--how", "x=max", "--how", "x=min"],
            "--how must name 'x' once",
        ),
        (
            ["reduce", "{db}", "--max-samples", "10", "--how", "max", "--how", "*=min"],
            "--how must name all metrics once",
        ),
        (
            ["reduce", "{db}", "--max-samples", "0"],
            f"{MAX_SAMPLES}, got 0, which",
        ),
        (["reduce", "{db}", "--max-samples", "-1"], f"{MAX_SAMPLES}, got '-1'"),
        (["record", "--db", "{db}", "--max-samples", "0", "true"], "--max-samples must be a whole number, 1 or more, got '0'"),
        (["reduce", "{db}", "--max-bytes", "0"], "--max-bytes must be 1 byte or more, got '0'"),
        (["reduce", "{db}", "--max-samples", "10", "--batch-bytes", "0kB"], "--batch-bytes must be 1 byte or more, got '0kB'"),
        (
            ["reduce", "{db}", "--max-samples", "10", "--key", "stats"],
            "--column must be another column than the key, got 'stats'",
        ),
        (["summary", "{db}", "--time-column", "", "--since", "1d"], "--since must be given with a --time-column"),
        (
            ["reduce", "sqlite:///{db}?foo=1", "--max-samples", "9"],
            "the database must be a SQLite URL with options that its driver knows, got foo",
        ),
        (
            ["reduce", "{db}", "--max-bytes", "3 pounds"],
            "--max-bytes must be a size such as 65535, 64k (or 64kB, 64KiB: all 1024 bytes a k), 32m or 1.5g, got '3 pounds'",
        ),
        (
            ["reduce", "{db}", "--max-samples", "10", "--batch-size", "0"],
            "--batch-size must be a whole number, 1 or more, got '0'",
        ),
        (
            ["reduce", "{db}", "--max-samples", "10", "--table", "cals"],
            "--table must be a table of the database, got 'cals'",
        ),
        (["reduce", "{db}", "--max-samples", "10", "--column", "x"], "--column must be a column of table 'calls', got 'x'"),
        (
            ["reduce", "{db}", "--max-samples", "10", "--where", "x = 1"],
            "--where must be a condition in the SQL of SQLite, got 'x = 1': no such column: x",
        ),
        (
            ["reduce", "{db}", "--max-samples", "10", "--dry-run", "--save", "x"],
            "--save must be given without --dry-run",
        ),
        (["reduce", "none.db", "--max-samples", "10"], "there is no SQLite database 'none.db'"),
        (
            ["reduce", "db2://u:secret@h/db", "--max-samples", "10"],
            "the database must be for SQLite, PostgreSQL or MySQL, got",
        ),
        (["reduce", "-", "--max-samples", "10", "--where", "1"], "--where must be given with a database"),
        (["reduce", "x.parquet", "--max-samples", "10"], "--output is needed with a file"),
        (["reduce", "{db}", "--max-samples", "10", "-o", "x"], "--output must be given with a file: a table"),
        (["reduce", "-", "--max-samples", "10", "-o", "{db}"], "--output must be a file that is no database"),
        (["reduce", "-", "--max-samples", "10", "--table", "calls"], "--table must be given with a database"),
        (["summary", "x.jsonl", "--where", "1"], "--where must be given with a database"),
        (
            ["reduce", "none.jsonl", "-o", "x.jsonl", "--max-samples", "10"],
            "FILE must be a file that can be read, got 'none.jsonl': No such file or directory",
        ),
        (["import", "{db}"], "the arguments must be [DB] FILE: FILE is missing"),
        (["export", "{db}"], "the arguments must be [DB|FILE] FILE: FILE is missing"),
        (["export", "{db}", "calls.csv"], "FILE must be a file of JSON lines (.jsonl) or Parquet (.parquet), got 'calls.csv'"),
        (["export", "{db}", "o.txt"], "FILE must be a file of JSON lines (.jsonl) or Parquet (.parquet), got 'o.txt'"),
        (["export", "{db}", "o"], "FILE must be a file of JSON lines (.jsonl) or Parquet (.parquet), got 'o'"),
        (["reduce", "x.jsonl", "-o", "o.txt", "--max-samples", "10"], "FILE must be a file that can be read, got 'x.jsonl'"),
        (["export", "{db}", "-", "--long"], "--long is for Parquet only: FILE must end in .parquet, got '-'"),
        (
            ["reduce", "{db}", "--max-samples", "abc"],
            f"{MAX_SAMPLES}, got 'abc'",
        ),
        (
            ["show", "blobs.jsonl"],
            f"{NO_FILE}, got 'blobs.jsonl': summary, report, reduce and export take one, and import what reduce",
        ),
        (["show", "./blobs.parquet", "x"], f"{NO_FILE}, got './blobs.parquet'"),
        (["list", "blobs.jsonl.gz"], f"{NO_FILE}, got 'blobs.jsonl.gz'"),
        (["compare", "a.jsonl", "b.jsonl"], f"{NO_FILE}, got 'a.jsonl'"),
        (["compare", "a.jsonl", "a", "b"], f"{NO_FILE}, got 'a.jsonl'"),
        (["import", "a.jsonl", "b.jsonl"], f"{NO_FILE}, got 'a.jsonl'"),
        (["compare"], "the arguments must be [DB] A B"),
        (["list", "{db}", "leak"], "the arguments must be [DB], got 'leak' too: --name chooses calls"),
        (["init", "no/such/my.db"], "there is no folder 'no/such' for the database 'no/such/my.db'"),
        (["record", "--db", "no/such/my.db", "true"], "there is no folder 'no/such' for the database 'no/such/my.db'"),
        (["import", "{db}", "none.jsonl"], "FILE must be a file that can be read, got 'none.jsonl': No such file"),
        (["import", "a", "b", "c"], "the arguments must be [DB] FILE"),
        (["init", "{db}", "--key", "x"], "--key must be a column of table 'calls', got 'x'"),
        (["recall"], "No such command 'recall'"),
        (["compare", "{db}", "x", "x"], "B must be another name than A, got 'x'"),
        (["compare", "{db}", "x", "--at", "2026-11-10", "--time-column", ""], "--at must be given with a --time-column"),
        (["compare", "{db}", "x", "y", "--since", "7d", "--time-column", ""], "--since must be given with a --time-column"),
        (["compare", "{db}", "x", "y", "--by", ""], "A must be given with a --by column; without one, compare by --tag"),
        (["compare", "{db}", "--tag", "a=1", "--tag", "a=1"], "--tag must be NAME=VALUE, twice with two values and without A"),
        (["record", "--interval", "1ms", "true"], "--interval must be 10ms or more, got '1ms'"),
        (["record", "--timeout", "0s", "true"], "--timeout must be more than 0, got 0: leave it out for no limit"),
        (["record", "--memory", "0", "--pid", "1"], "--memory must be more than 0, got 0: leave it out for no limit"),
        (["record", "--memory", "10", "true"], "--memory must be 1m or more, got 10 bytes: give its unit, as in 512m"),
        (["list", "--json", "--csv"], "--csv must be given without --json"),
        (["show", "--csv", "--json"], "--json must be given without --csv"),
        (["show", "--json", "--png", "call.png"], "--png must be given without --json"),
        (["summary", "--json", "--long"], "--long must be given without --json"),
        (["record", "--cgroup", "/no/group"], "--cgroup must be the folder of a control group, got '/no/group'"),
        (["record", "--pid", "99999999"], "--pid must be the number of a running process, got 99999999"),
        (
            ["record", "--driver", "docker", "--image", "UP", "true"],
            "--image 'UP': expected a repository in lower case, got 'UP'",
        ),
        (["show", "{db}", "--metric", "gone"], "--metric must be among those of the series, got 'gone'"),
        (["list", "{db}", "--key", "status"], "callstats: --key must be a unique column of table 'calls', got 'status'"),
    ],
)
def test_wrong_use(db: Path, args: list[str], message: str) -> None:
    """Exit code 2, the reason on standard error, nothing on standard output, nothing changed."""
    before = cells(db)
    result = run(*[arg.format(db=db) for arg in args])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "secret" not in result.output
    assert result.stdout == ""
    assert cells(db) == before
    subjects = re.findall(r"^(?:callstats|Error): (.*?) must be ", result.stderr, re.MULTILINE)
    assert all(re.fullmatch(r"--[a-z-]+|[A-Z]+|the (database|arguments)", one) for one in subjects), "as people type it"


def test_a_locked_database_is_exit_code_3(db: Path) -> None:
    """In a report, or where there is none."""
    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = run("reduce", f"sqlite:///{db}?timeout=0.05", "--max-samples", 10)
        assert result.exit_code == 3
        assert "stopped early: database is locked: another program kept its lock for too long" in result.stdout
        result = run("init", f"sqlite:///{db}?timeout=0.05")
    assert result.exit_code == 3
    assert result.stderr == "callstats: database is locked: another program kept its lock for too long\n"


def test_init(tmp_path: Path) -> None:
    """Says what it did."""
    db = tmp_path / "new.db"
    assert run("init", db).stdout == f"created table calls in {db}\n"
    assert run("init", db, "--column", "more").stdout == f"added to table calls in {db}: more\n"
    assert run("init", db).stdout == f"nothing to do: table calls in {db} has its columns\n"


@pytest.mark.parametrize("command", [[], *([name] for name in cli.commands)], ids=" ".join)
def test_help_has_examples(command: list[str]) -> None:
    """Every help text ends in examples, a line each, cuts no sentence, and fits 80 columns and 100."""
    for width in (80, 100, 200):
        result = run(*command, "--help", COLUMNS=str(width))
        assert result.exit_code == 0
        assert "...\n" not in result.output.split("\n", 1)[1]
        text, examples = result.output.split("Examples:\n")
        assert max(map(len, text.splitlines())) <= min(width, 100)
        assert examples and max(map(len, examples.splitlines())) <= 100
        assert all(line.startswith("    callstats ") for line in examples.splitlines())


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_lines(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off a terminal a line now and then, on standard error."""
    monkeypatch.setattr("callstats.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    result = run("reduce", db, "--max-samples", 10, "--batch-size", 2)
    first, second = result.stderr.splitlines()
    assert re.fullmatch(r"2 of 3 rows, [\d.]+ [kM]?B/s, [\d.]+ kB saved", first)
    assert second.startswith("3 of 3 rows, ")


def test_progress_bar(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar, with refused rows printed above it, their markup shown as it is."""
    ask(db, "INSERT INTO calls (id, stats) VALUES ('[bold]d', ?)", "x" * 999)
    terminal = SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("callstats.cli.progress.sys", terminal)
    result = run("reduce", db, "--max-samples", 10, "--batch-size", 1, COLUMNS="200")
    assert result.exit_code == 1
    assert "rejected '[bold]d': byte 0: " in result.stderr
    assert ", 4 rows: 2 changed, " in result.stdout


# --- small parts ------------------------------------------------------------------------------------------------------


def test_how_parts() -> None:
    """A metric's name may have an equals sign; what is kept by default gives way to what is asked for."""
    assert HOW.convert("a=b=max", None, None) == ("a=b", "max")
    assert HOW.convert("=max", None, None) == ("", "max")
    assert merge_how([]) == KEPT
    assert merge_how([("x", "max")]) == {**KEPT, "x": "max"}
    assert merge_how([("mem_usage", "last")]) == {**KEPT, "mem_usage": "last"}
    assert merge_how([("*", "max")]) == {"*": "max"}


def strict(text: str) -> Any:
    """JSON as any other program reads it."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_json_is_json_whatever_the_database_holds(tmp_path: Path) -> None:
    """Infinite and binary keys and groups, bytes and infinity in columns: no word that only Python reads."""
    db = tmp_path / "calls.db"
    table = "CREATE TABLE calls (id PRIMARY KEY, fn_id, status, started_at, stats)"
    made(db, [(float("inf"), "x" * 999), (float("-inf"), blob(30)), (b"\xff", "y" * 999)], table=table)
    ask(db, "UPDATE calls SET fn_id = 9e999, status = x'00ff', started_at = -9e999")
    infinite, binary = {"real": "inf"}, {"hex": "ff"}
    file = tmp_path / "rejects.jsonl"
    report = strict(run("reduce", db, "--max-samples", 10, "--json", "--dry-run", "--how", "mean").stdout)
    assert report["peak_change"]["key"] == {"real": "-inf"}
    report = strict(run("reduce", db, "--max-samples", 10, "--json", "--rejects", file).stdout)
    assert [reject["key"] for reject in report["rejects"]] == [infinite, binary]
    assert [strict(line)["key"] for line in file.read_text().splitlines()] == [infinite, binary]
    listed = [strict(line) for line in run("list", db, "--json").stdout.splitlines()]
    assert [call["key"] for call in listed] == [binary, infinite, {"real": "-inf"}]
    shown = ("name", "status", "started_at")
    assert [listed[0][name] for name in shown] == [infinite, {"hex": "00ff"}, {"real": "-inf"}]
    summary = strict(run("summary", db, "--json").stdout)
    assert [group["name"] for group in summary["groups"]] == [infinite]
    assert [reject["key"] for reject in summary["rejects"]] == [infinite, binary]


def test_rejects_without_a_row(tmp_path: Path, db: Path) -> None:
    """A run that refuses nothing leaves no file that the next one would find taken."""
    for samples in (30, 10):
        assert run("reduce", db, "--max-samples", samples, "--rejects", tmp_path / "rejects.jsonl").exit_code == 0
    assert not (tmp_path / "rejects.jsonl").exists()


# --- databases and outputs --------------------------------------------------------------------------------------------


def test_which_database(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CALLSTATS_URL, else calls.db; an SQLite file of any name, a name with a known ending, a path with a /."""
    monkeypatch.chdir(tmp_path)
    want = run("list", db).stdout
    (tmp_path / "copy").write_bytes(db.read_bytes())
    for args, env in (([], None), ([], str(db)), ([], ""), (["calls.db"], None), (["copy"], None), (["./copy"], None)):
        assert run("list", *args, CALLSTATS_URL=env).stdout == want
    for command in ("summary", "show", "report", "reduce --max-samples 10 --dry-run"):
        assert run(*command.split()).exit_code == 0
    assert run("init", "./other").stdout == "created table calls in ./other\n"
    assert run("show", "b").stdout == run("show", db, "b").stdout
    assert run("export", "calls.parquet").exit_code == 0


def test_an_output_is_whole_or_absent(db: Path, tmp_path: Path) -> None:
    """A page is written beside its name and renamed: a link stays a link, and no other file is left."""
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    assert run("report", db, "-o", tmp_path / "link.html").exit_code == 0
    assert (tmp_path / "link.html").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"calls.db", "link.html", "page.html"}
    assert run("report", db, "-o", tmp_path / "no" / "page.html").exit_code == 2


def test_how_names_a_metric_that_no_call_has(db: Path) -> None:
    """A misspelt metric is reported, on a run that changes rows."""
    result = run("reduce", db, "--max-samples", 10, "--how", "mem_usgae=max", "--how", "cpu_total=min")
    assert "--how names metrics that no call has: 'mem_usgae'\n" in result.stdout


def test_json_of_a_call(db: Path) -> None:
    """List and show give the same fields: the call's own, and its usage with the names of exact values as a list."""
    [first] = [json.loads(line) for line in run("list", db, "-n", 1, "--json").stdout.splitlines()]
    assert json.loads(run("show", db, "--json").stdout) == first
    assert (first["key"], first["name"], first["rejected"]) == ("c", None, None)
    assert first["usage"]["samples"] == 2
    assert {"peak_memory", "samples", "cpu_mean", "cpu_peak"} <= set(first["usage"]["exact"])


def test_reduced_values_are_marked(db: Path) -> None:
    """The peak stays exact after a default reduction, the mean of the CPU does not."""
    before = [line.split() for line in run("list", db).stdout.splitlines()]
    assert run("reduce", db, "--max-samples", 10).exit_code == 0
    after = [line.split() for line in run("list", db).stdout.splitlines()]
    assert after[0] == before[0]
    assert before[:2] == [["peak", "mean"], ["call", "duration", "memory", "CPU"]]
    assert [row[-4:-2] for row in after[2:]] == [row[-4:-2] for row in before[2:]]
    assert [row[-2].startswith("~") for row in after[2:]] == [False, True, True]


def test_calls_as_csv(db: Path) -> None:
    """A line for each call, with all that JSON has, by names; the table leaves out columns that are empty for all calls."""
    lines = [json.loads(line) for line in run("list", db, "--json").stdout.splitlines()]
    rows = list(csv.DictReader(run("list", db, "--csv").stdout.splitlines()))
    assert [row["key"] for row in rows] == [str(line["key"]) for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert set(row) == (set(line) | set(line["usage"])) - {"usage"}
        assert row["peak_memory"] == str(line["usage"]["peak_memory"] or "")
        assert row["exact"].split() == line["usage"]["exact"]
    assert run("list", db, "--limit", 1).stdout.split("\n")[1].split() == ["call", "duration", "memory", "CPU"]
