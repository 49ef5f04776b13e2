"""The command over databases: tiers, manners, rejects, exit codes, and no password anywhere."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import KEEP_PEAKS, reduce_json
from callstats.cli.app import cli
from support.database import blob
from support.databases import Database
from support.forked import callstats
from support.programs import IN_THE_THIRD, PATIENCE, started

KEPT = KEEP_PEAKS


def run(*args: object) -> Result:
    """What a command prints and how it ends."""
    return CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [str(arg) for arg in args], prog_name="callstats")


@pytest.fixture
def calls(database: Database) -> Database:
    """Rows of three ages, one of which is no histogram."""
    ages = {"new": "2026-11-24T00:00:00Z", "week": "2026-11-15T00:00:00Z", "old": "2026-01-01T00:00:00Z"}
    rows = [(key, blob(30), time) for key, time in ages.items()] + [("bad", "x" * 999, ages["old"])]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")
    return database


TIERS = ("--tier", "7d=12", "--tier", "30d=4", "--as-of", "2026-11-25T00:00:00Z")


def test_tiers_and_rejects(calls: Database, tmp_path: Path) -> None:
    """The time that ages are measured from is printed, refused rows go to a file, and the code says that there are some."""
    file = tmp_path / "rejects.jsonl"
    result = run("reduce", calls.url, *TIERS, "--rejects", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "ages are as of 2026-11-25T00:00:00.000000Z"
    want = ", 4 rows: 2 changed, 0 unchanged, 1 rejected, 1 short or young enough already"
    assert want in result.stdout.splitlines()[0]
    assert calls.cells() == {
        "new": blob(30),
        "week": reduce_json([blob(30)], 12, how=KEPT)[0].decode(),
        "old": reduce_json([blob(30)], 4, how=KEPT)[0].decode(),
        "bad": "x" * 999,
    }
    [line] = file.read_text().splitlines()
    assert json.loads(line)["key"] == "bad"
    assert "expected" in json.loads(line)["reason"]
    again = run("reduce", calls.url, *TIERS, "--rejects", file)
    assert again.exit_code == 2
    assert again.stderr.startswith("callstats: --rejects must be a new file, got ")
    now = run("reduce", calls.url, *TIERS[:4])
    assert re.match(r"ages are as of 20\d\d-\d\d-\d\dT[\d:.]+Z\n", now.stderr)


def test_a_dry_run_tells_the_largest_changes(calls: Database) -> None:
    """In lines, and in JSON by name."""
    before = calls.cells()
    result = run("reduce", calls.url, *TIERS, "--dry-run", "--how", "mean")
    assert re.search(r"\nlargest change of a peak that is not kept: cpu_total, [^\n]+ %, in call '\w+'\n", result.stdout)
    assert "\nmeans: unchanged, up to rounding\n" in result.stdout
    assert result.stdout.endswith("dry run: nothing was written\n")
    report = json.loads(run("reduce", calls.url, *TIERS, "--dry-run", "--json", "--how", "mean").stdout)
    assert report["peak_change"].keys() == {"key", "metric", "before", "after"}
    assert report["as_of"] == "2026-11-25T00:00:00.000000Z"
    assert calls.cells() == before


def test_a_planned_end_is_no_failure(calls: Database) -> None:
    """A limit, or a run time: the result says that more is left, also as JSON."""
    result = run(
        "reduce", calls.url, "--where", "id <> 'bad'", "--max-samples", 10, "--limit", 2, "--sleep", "0.01", "--batch-size", 1
    )
    assert result.exit_code == 0
    assert "ended as planned: the limit of 2 changed rows is reached; more rows are left for another run\n" in result.stdout
    result = run("reduce", calls.url, "--where", "id <> 'bad'", "--max-samples", 10, "--run-time", "0s")
    assert (result.exit_code, "ended as planned: the run time of 0 s is over" in result.stdout) == (0, True)
    result = run("reduce", calls.url, "--where", "id <> 'bad'", "--max-samples", 10, "--limit", 1, "--json")
    told = json.loads(result.stdout)
    assert (told["more"], told["stopped"], told["changed"]) == ("the limit of 1 changed rows is reached", None, 1)
    result = run("reduce", calls.url, "--where", "id <> 'bad'", "--max-samples", 10, "--json")
    assert (result.exit_code, json.loads(result.stdout)["more"]) == (0, None)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tier", "7d"], "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7d'"),
        (["--tier", "7y=60"], "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7y=60'"),
        (["--tier", "7d=many"], "--tier must be an age with its unit and a number of samples, such as 7d=60, got '7d=many'"),
        (["--tier", "7d=1", "--tier", "168h=2"], "--tier must be of different ages, got '7 days twice'"),
        (["--tier", "7d=1", "--max-samples", "2"], "--max-samples must be given without --tier"),
        (["--max-samples", "2", "--as-of", "2026-01-01T00:00:00Z"], "--as-of must be given with --tier"),
        (["--tier", "7d=1", "--as-of", "yesterday"], "--as-of must be a date or an RFC 3339 time, such as 2026-10-26, "),
        (["--max-samples", "2", "--run-time", "soon"], "--run-time must be a duration such as"),
        (["--max-samples", "2", "--sleep", "-1"], "--sleep must be a duration such as"),
        (["--max-samples", "2", "--limit", "0"], "--limit must be a whole number, 1 or more, got '0'"),
        (["--max-samples", "2", "--rejects", "no/such/file"], "--rejects must be in a folder that exists, got 'no/such/file'"),
        (["-o", "x.jsonl", "--max-samples", "2"], "--output must be given with a file: a table is reduced in place"),
    ],
)
def test_wrong_use(tmp_path: Path, args: list[str], message: str) -> None:
    """Exit code 2, the reason on standard error, nothing changed."""
    database = Database("sqlite", str(tmp_path / "calls.db"))
    database.make([("a", blob(30))], more=", created_at VARCHAR(99)")
    result = run("reduce", database.url, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert database.cells() == {"a": blob(30)}


def test_passwords_are_never_shown(on_server: Database) -> None:
    """A wrong password, no such database, nobody there: one line each, and the code for what it is."""
    assert on_server.server is not None
    port, password = on_server.server.address["port"], on_server.server.address["password"]
    for url, code in [
        (on_server.url.replace(password, "wr0ng-w0rd"), 2),
        (on_server.url.replace(on_server.name, "no_such"), 2),
        (on_server.url.replace(f":{port}/", ":1/"), 3),
        (on_server.url + "?no_such_option=1", 2),
    ]:
        for command in (["reduce", url, "--max-samples", "10"], ["init", url]):
            done = subprocess.run([callstats(), *command], check=False, capture_output=True, text=True, timeout=60)
            told = done.stdout + done.stderr
            assert done.returncode == code, told
            assert "Traceback" not in told
            assert password not in told
            assert "wr0ng-w0rd" not in told


def test_init_shows_no_password(on_server: Database) -> None:
    """The database's name, and stars."""
    result = run("init", on_server.url)
    assert result.exit_code == 0
    assert ":***@" in result.stdout
    assert on_server.server is not None
    assert on_server.server.address["password"] not in result.stdout


@pytest.mark.parametrize("module", ["psycopg", "pymysql"])
def test_a_missing_driver_is_one_line(module: str) -> None:
    """It names the package and the extra, and ends with 2."""
    url, extra = {"psycopg": ("postgres://u:p@h/d", "postgres"), "pymysql": ("mysql://u:p@h/d", "mysql")}[module]
    program = f"import sys; sys.modules[{module!r}] = None\nfrom callstats.cli import main\nmain(['init', {url!r}])"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert f'install callstats with the extra "{extra}"\n' in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_batch(on_server: Database, number: int, jobs: int) -> None:
    """The batch at hand of each worker is committed, one summary printed, and a second run does the rest."""
    on_server.make([(f"{i:03}", blob(30)) for i in range(100)])
    program = f"{IN_THE_THIRD}\nfrom callstats.cli import main\nmain()"
    command = [sys.executable, "-c", program, "reduce", on_server.url, "--max-samples", "10", "--batch-size", "4"]
    command += ["--jobs", str(jobs)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for _ in range(3):
            assert running.stderr.readline() == "batch\n"
        running.send_signal(number)
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, "Traceback" in err) == (3, False)
    changed = sum(cell != blob(30) for cell in on_server.cells().values())
    assert changed == 12 if jobs == 1 else 0 < changed <= 6 * 4
    assert f", {changed} rows: {changed} changed, " in out
    assert "stopped early: asked to stop; the rows counted here are written\n" in out
    assert f", 100 rows: {100 - changed} changed" in run("reduce", on_server.url, "--max-samples", 10).stdout


def test_record_fits_what_the_column_holds(mysql: Database) -> None:
    """A long call goes into a small column with fewer rows."""
    columns = "app_id, fn_id, created_at, started_at, completed_at, error".replace(",", " TEXT,") + " TEXT"
    mysql.make([], stats="VARCHAR(2000)", more=f", {columns}")
    assert run("init", mysql.url).exit_code == 0
    result = run("record", "--db", mysql.url, "--interval", "10ms", "--", "sleep", "2")
    assert result.exit_code == 0, result.stderr
    [cell] = mysql.cells().values()
    rows = json.loads(cell)
    assert 1000 < len(cell.encode()) <= 2000
    assert sum(row.get("count", 1) for row in rows) > len(rows) > 1


def test_names_and_columns_of_a_table(database: Database) -> None:
    """Every database tells of a column without a histogram, lists the calls of a name, and shows its latest."""
    rows = [("a", "keep me", "resize"), ("b", "keep me", "nightly"), ("c", None, "resize")]
    database.make(rows, more=", fn_id VARCHAR(99)", columns="id, stats, fn_id")
    doubt = "\nno row has a histogram with samples: is --column right?\n"
    assert doubt in run("reduce", database.url, "--max-samples", 10).stdout
    for key in "abc":
        database.ask("UPDATE calls SET stats = ? WHERE id = ?", blob(3), key)
    assert doubt not in run("reduce", database.url, "--max-samples", 10).stdout
    listed = run("list", database.url, "--name", "resize", "--json").stdout.splitlines()
    assert [json.loads(line)["key"] for line in listed] == ["c", "a"]
    assert json.loads(run("show", database.url, "resize", "--json").stdout)["key"] == "c"
    assert "the table has no created_at (--time-column), started_at (--start-column), " in run("summary", database.url).stdout
