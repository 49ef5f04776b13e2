"""The example database in this process: what `init --example` and `demo` make, and what they leave alone."""

from __future__ import annotations

import shlex
import subprocess
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

import callstats.demo
from callstats.cli.app import cli
from callstats.cli.demo import LINES
from support.database import ask, cell, connect, made
from support.forked import callstats as program

FEW = 40
"""The calls of the example here, of its two thousand."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = callstats.demo.demo_calls
    monkeypatch.setattr(callstats.demo, "demo_calls", lambda: islice(calls(), FEW))


def run(*args: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    done = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="callstats")
    return done.exit_code, done.stdout, done.stderr


def record(*args: object) -> None:
    """Record a call in a process of its own."""
    subprocess.run([program(), "record", *map(str, args)], check=True, capture_output=True)


def test_a_demo_that_fails_stops(tmp_path: Path) -> None:
    """A line that fails ends the demo with its code."""
    path = tmp_path / "text.db"
    path.write_text("not mine" * 999)
    code, out, err = run("demo", "--db", path)
    assert (code, out) == (2, f"$ callstats init {path} --example\n")
    assert "does not hold the example" in err


def test_the_example_leaves_other_files_alone(tmp_path: Path) -> None:
    """A database or a file that it didn't make stays, to the byte; an empty file is taken."""
    calls = made(tmp_path / "calls.db", [("a", "x")])
    text = tmp_path / "text.db"
    text.write_text("not mine" * 999)
    for path in (calls, text):
        before = path.read_bytes()
        code, out, err = run("init", path, "--example")
        assert (code, out) == (2, "")
        assert f"{str(path)!r} does not hold the example, so it stays: name another file" in err
        assert path.read_bytes() == before
    (tmp_path / "empty.db").touch()
    assert run("init", tmp_path / "empty.db", "--example")[0] == 0
    code, _, err = run("init", tmp_path / "no" / "such.db", "--example")
    assert code == 2
    assert "can't make" in err


def test_the_example_with_added_calls_stays(tmp_path: Path) -> None:
    """Calls that were recorded or added are not deleted with it: that is refused, with the way out. The demo's own goes."""
    db = tmp_path / "demo.db"
    assert run("init", db, "--example")[0] == 0
    demo = LINES[1].partition(" -- ")[2]
    record("--db", db, "--", *shlex.split(demo))
    assert run("init", db, "--example")[0] == 0
    assert ask(db, "SELECT count(*) FROM calls") == [(40,)]
    record("--db", db, "--name", "mine", "--", "true")
    refused = f"Error: {str(db)!r} has 1 call that was added to the example, so it stays: "
    for command in (["init", db, "--example"], ["demo", "--db", db]):
        code, _, err = run(*command)
        assert code == 2
        assert err.endswith(refused + "name another file, or delete this one first\n")
    assert ask(db, "SELECT count(*) FROM calls WHERE fn_id = 'mine'") == [(1,)]
    ask(db, "INSERT INTO calls (id, fn_id) VALUES ('x', 'other')")
    assert "has 2 calls that were added to the example, so it stays" in run("init", db, "--example")[2]


def test_the_example_over_a_locked_database(tmp_path: Path) -> None:
    """An example that another program has open is replaced, and that program keeps the old one."""
    db = tmp_path / "demo.db"
    assert run("init", db, "--example")[0] == 0
    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert run("init", db, "--example")[0] == 0
    key = ask(db, "SELECT min(id) FROM calls")[0][0]
    assert cell(db, key)


@pytest.mark.parametrize("part", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("empty", [False, True])
def test_the_example_leaves_what_belongs_to_another_database(tmp_path: Path, part: str, empty: bool) -> None:
    """A log beside no database, or beside an empty one, may be all that is left of it."""
    db, log = tmp_path / "demo.db", tmp_path / f"demo.db{part}"
    log.write_text("mine")
    if empty:
        db.touch()
    code, _, err = run("init", db, "--example")
    assert (code, log.read_text(), db.exists()) == (2, "mine", empty)
    assert f"'demo.db{part}' is there without the example, so it stays: name another file" in err


def test_the_example_behind_a_link(tmp_path: Path) -> None:
    """The link stays, and what it points at is made or made anew."""
    link, db = tmp_path / "link.db", tmp_path / "real.db"
    link.symlink_to(db)
    for _ in range(2):
        assert run("init", link, "--example")[:2] == (0, f"40 calls are in table calls in {link}\n")
        assert link.is_symlink()
        assert ask(db, "SELECT count(*) FROM calls") == [(40,)]


@pytest.mark.parametrize(
    "url", [":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x.db?uri=true", "postgresql://u:s3cret@h/d"]
)
def test_the_example_needs_a_file(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of the demo opens it anew."""
    monkeypatch.chdir(tmp_path)
    for command in (["init", url, "--example"], ["demo", "--db", url]):
        code, _, err = run(*command)
        assert (code, list(tmp_path.iterdir())) == (2, [])
        assert "the example must be in an SQLite file, got " in err or "the database must be a URL, " in err
        assert "s3cret" not in err


def test_the_example_by_a_url(tmp_path: Path) -> None:
    """A URL of SQLite's names a file as well as its path does."""
    db = tmp_path / "demo.db"
    assert run("init", f"sqlite:///{db}", "--example")[:2] == (0, f"40 calls are in table calls in {db}\n")
    assert ask(db, "SELECT count(*) FROM calls") == [(40,)]
