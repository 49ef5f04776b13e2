"""What goes wrong around the command: streams, disks, arguments and databases that play tricks. One line, and the right code."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from callstats import CallstatsError, StatSeries
from callstats.db import connect
from support.databases import Database
from support.forked import callstats
from support.tables import create_table, reduce_table, restore_table

MINUTE = StatSeries([second * 10**9 for second in range(60)], {"x": range(60)}).to_db()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A line of a POSIX shell, in which ``$callstats`` is the command."""
    environment = os.environ | {"callstats": str(callstats())}
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, env=environment, timeout=120, check=False)


def database(path: Path, *statements: str) -> Path:
    """A database of two calls, and what else is done to it."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT)")
        connection.executemany("INSERT INTO calls VALUES (?, ?)", [("a", MINUTE), ("b", MINUTE)])
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize(
    "line",
    ["--version", "--help", "list calls.db", "reduce calls.db --max-samples 70", "reduce x.jsonl -o - --max-samples 7"],
)
def test_a_full_disk(line: str, tmp_path: Path) -> None:
    """What can't be printed is told of, and there is no traceback."""
    database(tmp_path / "calls.db")
    (tmp_path / "x.jsonl").write_text(MINUTE)
    done = shell(f'"$callstats" {line} >/dev/full', tmp_path)
    assert done.stderr.splitlines()[-1] == b"callstats: can't write the output: No space left on device"
    assert done.returncode == 3


def test_closed_streams(tmp_path: Path) -> None:
    """Where one is closed, no file that is opened takes its number, and what needs it says so."""
    database(tmp_path / "calls.db")
    before = (tmp_path / "calls.db").read_bytes()
    done = shell('"$callstats" reduce - --max-samples 3 <&-', tmp_path)
    assert (done.returncode, b"got '-': it is closed" in done.stderr) == (2, True)
    done = shell('"$callstats" list calls.db >&- <&-', tmp_path)
    assert (done.returncode, done.stderr) == (3, b"callstats: can't write the output: Bad file descriptor\n")
    (tmp_path / "x.jsonl").write_text(MINUTE)
    assert shell('"$callstats" reduce x.jsonl -o - --max-samples 3 >&-', tmp_path).returncode == 3
    assert shell('"$callstats" list calls.db 2>&-', tmp_path).returncode == 0
    assert shell('"$callstats" list calls.db >&- 2>&- <&-', tmp_path).returncode == 3
    assert shell('"$callstats" list nothing.db >&- 2>&-', tmp_path).returncode == 2
    assert (tmp_path / "calls.db").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("reduce calls.db --max-samples 7 --batch-size 99999999999999999999", b"--batch-size must be a whole number"),
        (
            "reduce calls.db --max-samples 99999999999999999999",
            b"--max-samples must be a whole number, 1 or more (with a file, 0 too), got",
        ),
        ("reduce calls.db --max-samples 0", b"would empty every histogram"),
        ("reduce calls.db --max-samples -1", b"--max-samples must be a whole number, 1 or more (with a file, 0 too), got"),
        ("list calls.db --limit 99999999999999999999", b"--limit must be a whole number"),
        ("reduce calls.db --max-samples 7 --how x=max --how x=min", b"--how must name 'x' once"),
        ("reduce calls.db --max-samples 7 --how max --how min", b"--how must name all metrics once"),
        ("reduce calls.db --max-samples 7 --table $(printf 'x\\377')", b"must be text that encodes to UTF-8"),
        ("reduce sqlite+aiosqlite:///calls.db --max-samples 7", b"driver pysqlite, got a URL for 'aiosqlite'"),
        ("reduce 'sqlite:///calls.db?nothing=1' --max-samples 7", b"with options that its driver knows, got nothing"),
        ("init new.db --key id --column id", b"must be another column than the key, got 'id'"),
        ("init new.db --key status", b"must be a name that a new table does not use for another column, got 'status'"),
        ("init new.db --table sqlite_calls", b"reserve"),
    ],
)
def test_wrong_use(line: str, told: bytes, tmp_path: Path) -> None:
    """Said in a line, with code 2, and nothing has happened."""
    database(tmp_path / "calls.db")
    before = (tmp_path / "calls.db").read_bytes()
    done = shell(f'"$callstats" {line}', tmp_path)
    assert told in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["calls.db"]
    assert (tmp_path / "calls.db").read_bytes() == before


@pytest.mark.parametrize("command", ["init --example", "demo --db"])
def test_an_example_goes_into_a_file(command: str, tmp_path: Path) -> None:
    """A pipe, a link that leads to itself and what is no name are left as they are."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "loop", "''"):
        done = shell(f'"$callstats" {command} {name}', tmp_path)
        assert (done.returncode, b"Traceback" in done.stderr) == (2, False)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "loop").is_symlink()


def test_a_new_table_has_no_column_twice(tmp_path: Path) -> None:
    """Names of Fn's are free where the table is there."""
    database(tmp_path / "calls.db", "CREATE TABLE runs (status TEXT PRIMARY KEY)")
    with pytest.raises(
        CallstatsError, match=r"^key must be a name that a new table does not use for another column, got 'status'$"
    ):
        create_table(tmp_path / "calls.db", table="others", key="status")
    assert create_table(tmp_path / "calls.db", table="runs", key="status", column="error") == "added"


def test_a_generated_column(tmp_path: Path) -> None:
    """It can be read, and not reduced."""
    path = database(tmp_path / "calls.db", "ALTER TABLE calls ADD COLUMN made TEXT GENERATED ALWAYS AS (stats)")
    with pytest.raises(CallstatsError, match=r"^column must be writable, got 'made': the database generates it$"):
        reduce_table(path, 7, column="made")


def test_a_trigger_that_keeps_a_row_as_it_was(tmp_path: Path) -> None:
    """The row is refused by its key, each time, and the others are reduced."""
    path = database(
        tmp_path / "calls.db",
        "CREATE TRIGGER keeper BEFORE UPDATE ON calls WHEN OLD.id = 'a' BEGIN SELECT RAISE(IGNORE); END",
    )
    first, second = reduce_table(path, 7), reduce_table(path, 7)
    assert (first.changed, first.rejected, second.changed, second.rejected) == (1, 1, 0, 1)
    assert second.rejects[0] == (
        "a",
        "the database keeps the old text: something, such as a trigger or a rule, undoes the change",
    )


def test_keys_that_json_has_not(tmp_path: Path) -> None:
    """An infinite key is valid JSON in reports, rejects and saved lines, and finds its row again."""
    with sqlite3.connect(tmp_path / "calls.db") as connection:
        connection.execute("CREATE TABLE calls (id REAL PRIMARY KEY, stats TEXT)")
        connection.executemany("INSERT INTO calls VALUES (?, ?)", [(float("-inf"), MINUTE), (float("inf"), "bad"), (1.5, MINUTE)])
    connection.close()
    line = '"$callstats" reduce calls.db --max-samples 7 --verify --json --save old.jsonl --rejects refused.jsonl'
    done = shell(line, tmp_path)
    assert done.returncode == 1

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    report = json.loads(done.stdout, parse_constant=refuse)
    assert report["rejects"][0]["key"] == {"real": "inf"}
    assert json.loads((tmp_path / "refused.jsonl").read_text(), parse_constant=refuse)["key"] == {"real": "inf"}
    saved = [json.loads(row, parse_constant=refuse) for row in (tmp_path / "old.jsonl").read_text().splitlines()]
    assert [row["key"] for row in saved] == [{"real": "-inf"}, 1.5]
    assert restore_table(tmp_path / "calls.db", tmp_path / "old.jsonl").restored == 2
    shown = shell('"$callstats" list calls.db --json', tmp_path)
    assert {"real": "inf"} in [json.loads(row, parse_constant=refuse)["key"] for row in shown.stdout.splitlines()]


def test_a_run_that_changes_nothing_saves_nothing(tmp_path: Path) -> None:
    """So that the next one may have the file's name."""
    path = database(tmp_path / "calls.db")
    for _ in range(2):
        assert reduce_table(path, 70, save=tmp_path / "old.jsonl").changed == 0
    assert not (tmp_path / "old.jsonl").exists()
    assert reduce_table(path, 7, save=tmp_path / "old.jsonl").changed == 2
    assert len((tmp_path / "old.jsonl").read_bytes().splitlines()) == 2


SAVED = "; reduce --save and record write such files, in lines of JSON; summary, report and reduce read those of export"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"garbage", f"line 1: byte 0: expected value, got 'g'{SAVED}"),
        (b"\xff\xfe{\x00", f"line 1: byte 0: expected UTF-8, got the byte 0xff{SAVED}"),
        (
            b'{"key":' + b"9" * 5000 + b',"stats":0}\n',
            "line 1: $.stats: expected text, and blob true or false",
        ),
        (
            b'{"key":1,"stats":"\\ud800"}\n',
            "line 1: $.stats: expected text that encodes to UTF-8, got a lone surrogate",
        ),
    ],
)
def test_files_that_hold_no_saved_rows(content: bytes, told: str, tmp_path: Path) -> None:
    """In words of ours; garbage is no half of a line."""
    (tmp_path / "old.jsonl").write_bytes(content)
    with pytest.raises(CallstatsError) as raised:
        restore_table(database(tmp_path / "calls.db"), tmp_path / "old.jsonl")
    assert str(raised.value).endswith(told)


def test_the_room_of_a_column(mysql: Database) -> None:
    """A recorded call is made to fit MySQL's TEXT, where `init` did not make the column."""
    columns = ", ".join(f"{name} TEXT" for name in ("app_id", "fn_id", "status", "stats", "error"))
    times = ", ".join(f"{name}_at TEXT" for name in ("created", "started", "completed"))
    mysql.ask(f"CREATE TABLE calls (id VARCHAR(64) PRIMARY KEY, {columns}, {times})")
    assert connect(mysql.url).max_blob_bytes() == 65_535
    command = [callstats(), "record", "--db", mysql.url, "--interval", "10ms", "--max-samples", "5000", "--", "sleep", "4"]
    assert subprocess.run(command, timeout=120, check=False).returncode == 0
    [(stored,)] = mysql.ask("SELECT stats FROM calls")
    assert len(stored) <= 65_535
    series = StatSeries.from_json(stored)
    assert len(stored) > 30_000 or series.counts.sum() < 300  # a busy machine takes fewer samples in four seconds
