"""What schedulers need: rejects that are known, a log in JSON, and pauses that spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import callstats.db.jobs.worker
from callstats import CallstatsError
from callstats.cli.app import cli
from support.database import blob
from support.databases import Database
from support.tables import reduce_table

BAD = "[" + blob(12)
WORSE = "[[" + blob(12)


def run(*args: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli, list(map(str, args)), prog_name="callstats")


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rejects_that_are_known(database: Database, tmp_path: Path) -> None:
    """They do not make a run fail as long as their text is the same, and each night's file is the next one's."""
    database.make([("a", BAD), ("b", BAD), ("c", blob(12)), ("d", blob(12))])
    command = ["reduce", database.url, "--max-samples", 10]
    first = run(*command, "--rejects", tmp_path / "1")
    assert (first.exit_code, [row["key"] for row in lines(tmp_path / "1")]) == (1, ["a", "b"])
    second = run(*command, "--known", tmp_path / "1", "--rejects", tmp_path / "2")
    assert (second.exit_code, "rejected 'a'" in second.stderr) == (0, False)
    assert "rejected before, as the file of known rows says: 2 rows" in second.stdout
    assert (tmp_path / "2").read_text() == (tmp_path / "1").read_text()
    database.ask("UPDATE calls SET stats = ? WHERE id = 'b'", WORSE)
    database.ask("UPDATE calls SET stats = ? WHERE id = 'c'", BAD)
    third = run(*command, "--known", tmp_path / "2", "--rejects", tmp_path / "3", "--json")
    told = json.loads(third.stdout)
    assert (third.exit_code, told["rejected"], told["known"], told["rows"]) == (1, 2, 1, 4)
    assert {reject["key"] for reject in told["rejects"]} == {"b", "c"}
    assert [row["key"] for row in lines(tmp_path / "3")] == ["a", "b", "c"]
    assert run(*command, "--known", tmp_path / "3").exit_code == 0


def test_known_times_and_keys(tmp_path: Path) -> None:
    """Of any type; a time that can't be read is known by its text."""
    database = Database("sqlite", str(tmp_path / "calls.db"))
    database.ask("CREATE TABLE calls (id PRIMARY KEY, stats TEXT, created_at)")
    keys: list[Any] = [1, -(2**63), 0.5, "1", b"\xff", "m\udcfe".encode("utf-8", "surrogateescape")]
    database.add([(key, blob(12), "soon") for key in keys], columns="id, stats, created_at")
    command = ["reduce", database.url, "--tier", "7d=10"]
    assert run(*command, "--rejects", tmp_path / "1").exit_code == 1
    assert run(*command, "--known", tmp_path / "1").exit_code == 0
    database.ask("UPDATE calls SET created_at = 'never' WHERE id = 1")
    result = run(*command, "--known", tmp_path / "1")
    assert (result.exit_code, result.stderr.count("rejected 1: created_at: expected an RFC 3339 time")) == (1, 1)


def test_rows_without_a_key_are_never_known(tmp_path: Path) -> None:
    """There is nothing to know them by."""
    database = Database("sqlite", str(tmp_path / "calls.db"))
    database.ask("CREATE TABLE calls (id TEXT UNIQUE, stats TEXT)")
    database.add([(None, blob(12))])
    command = ["reduce", database.url, "--max-samples", 10]
    assert run(*command, "--rejects", tmp_path / "1").exit_code == 1
    assert run(*command, "--known", tmp_path / "1").exit_code == 1


def test_a_file_of_known_rows_that_is_none(tmp_path: Path) -> None:
    """Wrong use, before anything is changed; one that is missing is told, since without rejects there is no file."""
    database = Database("sqlite", str(tmp_path / "calls.db"))
    database.make([("a", blob(12))])
    (tmp_path / "known").write_text('{"key": "a", "reason": "x"}\n{"key": "a"}\n')
    result = run("reduce", database.url, "--max-samples", 10, "--known", tmp_path / "known")
    assert result.exit_code == 2
    assert "--known must be a file of rejected rows, got" in result.stderr
    assert "line 2: $: expected an object with key and reason" in result.stderr
    assert database.cells() == {"a": blob(12)}
    with pytest.raises(CallstatsError, match=r"^known must be a file that can be read, got .*: No such file"):
        reduce_table(database.url, 10, known=tmp_path / "none")
    result = run("reduce", database.url, "--max-samples", 10, "--known", tmp_path / "none")
    assert (result.exit_code, "no row is known: there is no file" in result.stderr) == (0, True)


def test_a_log_in_json(database: Database) -> None:
    """One line for each batch and each reject, each of them JSON, on standard error; the result stays on standard output."""
    database.make([(f"{i}", BAD if i == 3 else blob(12), "2020-01-01") for i in range(8)], more=", created_at VARCHAR(99)",
                  columns="id, stats, created_at")  # fmt: skip
    result = run("reduce", database.url, "--tier", "7d=10", "--batch-size", 2, "--log-json")
    log = [json.loads(line) for line in result.stderr.splitlines()]
    assert all(line["time"].endswith("Z") for line in log)
    batches = [line for line in log if line["event"] == "batch"]
    assert [line["changed"] for line in batches if line["rows"]][:4] == [2, 3, 5, 7]
    assert batches[-1]["rejected"] == 1
    assert [line["key"] for line in log if line["event"] == "reject"] == ["3"]
    assert [line["text"][:10] for line in log if line["event"] == "note"] == ["ages are a"]
    assert "7 changed" in result.stdout


def test_pauses_spread() -> None:
    """Jobs that failed at one moment do not come back at one moment."""
    pauses = {callstats.db.jobs.worker.backoff(3) for _ in range(100)}
    assert len(pauses) > 50
    assert 0.4 <= min(pauses) < max(pauses) <= 0.8


def test_saved_histograms_are_for_their_owner_alone(database: Database, tmp_path: Path) -> None:
    """As a database of mode 0600 is."""
    database.make([("a", blob(12))])
    assert run("reduce", database.url, "--max-samples", 10, "--save", tmp_path / "old.jsonl").exit_code == 0
    assert (tmp_path / "old.jsonl").stat().st_mode & 0o777 == 0o600


OUTPUTS = [
    ["report", "{db}", "-o"],
    ["show", "{db}", "a", "--png"],
    ["export", "{db}"],
    ["reduce", "{db}", "--max-samples", "10", "--save"],
    ["reduce", "{db}", "--max-samples", "10", "--rejects"],
]


@pytest.mark.parametrize("command", OUTPUTS, ids=lambda command: command[0] + command[-1])
@pytest.mark.parametrize("output", ["{db}", "{db}-wal", "{db}-journal", "{db}-shm", "link", "other.db", "sub/../{db}"])
def test_no_output_is_an_input_or_a_database(
    command: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one of the files that SQLite keeps beside it, which need not exist."""
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite", "calls.db")
    database.make([("a", blob(12))])
    Database("sqlite", "other.db").make([])
    Path("link").symlink_to("calls.db")
    Path("sub").mkdir()
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir() if path.is_file())
    result = run(*(part.format(db="calls.db") for part in [*command, output]))
    assert (result.exit_code, "Error: " in result.stderr) == (2, True), result.output
    assert "must be a file that is no database" in result.stderr
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir() if path.is_file()) == before


def test_a_dash_is_no_file_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved is checked whole before it is put back, and a stream can be read once."""
    monkeypatch.chdir(tmp_path)
    Database("sqlite", "calls.db").make([("a", blob(12))])
    result = run("import", "calls.db", "-")
    assert (result.exit_code, "FILE must be the path of a file, got '-'" in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.db"]


def test_an_output_may_not_be_a_database_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file has no header, but is a database."""
    monkeypatch.chdir(tmp_path)
    Path("calls.db").touch()
    result = run("report", "calls.db", "-o", "./calls.db")
    assert (result.exit_code, "--output must be another file than the input" in result.stderr) == (2, True)
