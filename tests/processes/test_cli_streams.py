"""The command where its streams are closed or full: one line, the right code, never a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.database import ask, blob, cells, made
from support.forked import callstats

COMMANDS = (
    "--version",
    "--help",
    "reduce --help",
    "init other.db",
    "list calls.db",
    "list calls.db --json",
    "show calls.db a",
    "summary calls.db",
    "summary calls.db --csv",
    "report calls.db -o page.html",
    "reduce calls.db --max-samples 10",
    "reduce calls.db --max-samples 10 --json --dry-run",
    "reduce --max-samples 10 blobs.jsonl -o -",
    "export calls.db calls.parquet",
    "import calls.db old.jsonl",
    "demo",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where each of the commands has something to do."""
    made(tmp_path / "calls.db", [("a", blob(30)), ("b", blob(3))])
    (tmp_path / "blobs.jsonl").write_text(blob(30) * 3)
    (tmp_path / "old.jsonl").write_bytes(b"")
    return tmp_path


def run(folder: Path, command: str, streams: str = "") -> subprocess.CompletedProcess[str]:
    """What a shell sees of the command under these redirections."""
    line = f"{callstats()} {command} {streams}"
    return subprocess.run(["sh", "-c", line], cwd=folder, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_full(folder: Path, command: str) -> None:
    """The last line says so, and the code is that of an early end."""
    done = run(folder, command, ">/dev/full")
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (3, ["callstats: can't write the output: No space left on device"])
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["--version", "init other.db", "show calls.db a", "reduce --max-samples 10 blobs.jsonl -o -"])
def test_an_output_that_is_closed(folder: Path, command: str) -> None:
    """Likewise."""
    done = run(folder, command, ">&-")
    assert (done.returncode, done.stderr) == (3, "callstats: can't write the output: Bad file descriptor\n")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("reduce calls.db --max-samples 10", 0),
        ("reduce calls.db --max-samples 10 --how no", 2),
        ("no-such", 2),
        ("list no.db", 2),
    ],
)
def test_messages_that_nobody_can_see(folder: Path, command: str, code: int, streams: str) -> None:
    """The work is done, and the code is what it would have been."""
    done = run(folder, command, streams)
    assert (done.returncode, done.stderr) == (code, "")
    assert ("1 changed" in done.stdout) == (code == 0)


def test_an_input_that_is_closed(folder: Path) -> None:
    """It can't be read, which is not the same as empty."""
    done = run(folder, "reduce - --max-samples 10", "<&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "got '-': it is closed" in done.stderr


def test_no_database_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    """With all three closed the table is reduced as ever, and stays whole."""
    assert run(folder, "reduce calls.db --max-samples 10", "<&- >&- 2>&-").returncode == 3
    assert len(cells(folder / "calls.db")[0][2] or b"") < len(blob(30))
    assert ask(folder / "calls.db", "PRAGMA integrity_check") == [("ok",)]


def test_a_recorded_command_has_the_streams_as_they_are(folder: Path) -> None:
    """Closed is closed for it too."""
    done = run(folder, "record --db runs.db -- echo hello", ">&-")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert run(folder, "record --db runs.db -- true", "<&- >&- 2>&-").returncode == 0
    assert ask(folder / "runs.db", "SELECT status FROM calls ORDER BY id") == [("error",), ("success",)]


def test_a_name_that_the_output_has_no_letters_for(tmp_path: Path) -> None:
    """What the encoding lacks is escaped."""
    made(tmp_path / "calls.db", [("\u00e9\u6f22", blob(3))])
    done = run(tmp_path, "list calls.db", "| cat")
    assert "\u00e9\u6f22" in done.stdout
    for command in ("list calls.db", "show calls.db"):
        line = f"PYTHONIOENCODING=latin-1 {shlex.quote(sys.executable)} -m callstats {command}"
        shown = subprocess.run(["sh", "-c", line], cwd=tmp_path, check=False, capture_output=True, timeout=120)
        assert (shown.returncode, b"\xe9\\u6f22" in shown.stdout) == (0, True)


# --- numbers and names past what a database takes ---


@pytest.mark.parametrize(
    "command",
    [
        "reduce calls.db --max-bytes 999999999999999999GiB",
        "reduce calls.db --tier 999999999d=10 --time-column status",
        "reduce calls.db --tier 1d=999999999999999999 --time-column status",
        "summary calls.db --since 999999999w --by '' --time-column status",
        "record --db runs.db --interval 999999999d --timeout 999999999d --memory 999999999999999999GiB -- true",
        "record --db runs.db --interval 30d -- sleep 0.1",
    ],
)
def test_numbers_as_large_as_they_come(folder: Path, command: str) -> None:
    """They mean no limit to speak of."""
    done = run(folder, command)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--key id --column id", "--column must be another column than the key, got 'id'"),
        ("--key id --column ID", "--column must be another column than the key, got 'ID'"),
        ("--table sqlite_x", "--table must be a name that SQLite does not reserve, got 'sqlite_x'"),
        ("--table ''", "--table must be a name that encodes to UTF-8, got ''"),
        ("--table $(printf '\\377')", "--table must be a name that encodes to UTF-8, got '\\udcff'"),
        ("--key $(printf '\\377')", "--key must be a name that encodes to UTF-8, got '\\udcff'"),
        ("--column $(printf '\\377')", "--column must be a name that encodes to UTF-8, got '\\udcff'"),
    ],
)
def test_init_leaves_no_file_behind(tmp_path: Path, args: str, message: str) -> None:
    """What can't be made is told in one line before there is a file."""
    done = run(tmp_path, f"init new.db {args}")
    assert (done.returncode, done.stderr) == (2, f"callstats: {message}\n")
    assert not (tmp_path / "new.db").exists()


def test_what_the_database_has_no_use_for_is_wrong_use(tmp_path: Path) -> None:
    """A view can have no column added."""
    made(tmp_path / "calls.db", [], before=["CREATE VIEW seen AS SELECT 1 AS id"])
    done = run(tmp_path, "init calls.db --table seen")
    assert (done.returncode, done.stderr) == (2, "callstats: Cannot add a column to a view\n")


def test_a_command_whose_name_is_no_text(tmp_path: Path) -> None:
    """Its call is stored all the same."""
    done = run(tmp_path, "record --db runs.db -- \"$(printf './\\377')\"")
    assert done.returncode == 127
    assert ask(tmp_path / "runs.db", "SELECT fn_id FROM calls") == [("\\udcff",)]


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlcipher", "nosuch"])
def test_other_drivers_of_sqlite(folder: Path, driver: str) -> None:
    """Installed or not, the job knows one."""
    done = run(folder, f"list sqlite+{driver}:///calls.db")
    assert done.returncode == 2
    assert done.stderr == f"callstats: the database must be for SQLite's driver pysqlite, got a URL for {driver!r}\n"
    assert run(folder, "list sqlite+pysqlite:///calls.db").returncode == 0


def test_a_reader_that_goes(folder: Path) -> None:
    """It ends what is drawn by Rich like all else."""
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m callstats show calls.db a | true; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
