"""The program that stands for the command in other tests does what the command does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from callstats.cli.app import cli
from support.database import ask, blob, made
from support.forked import COMMAND, callstats
from support.programs import PATIENCE, gone, started

LINES = {
    "compare": "$callstats compare calls.db calls.db",
    "demo": "$callstats demo --db .",
    "export": "$callstats export calls.db x.jsonl",
    "import": "$callstats import calls.db x.jsonl",
    "init": "$callstats init other.db",
    "list": "$callstats list calls.db --json",
    "record": "$callstats record --db x.db --no-such",
    "reduce": "$callstats reduce calls.db --max-samples 10",
    "report": "$callstats report calls.db -o page.html",
    "schema": "$callstats schema",
    "show": "$callstats show calls.db a",
    "summary": "$callstats summary calls.db",
}
"""A line for each command, whose output tells nothing of the time."""

ODD = {
    "nothing": "$callstats",
    "version": "$callstats --version",
    "no such command": "$callstats frob",
    "a database that is not there": "$callstats list no.db",
    "a full disk": "$callstats list calls.db >/dev/full",
    "a closed output": "$callstats list calls.db >&-",
    "a closed input": "$callstats reduce - --max-samples 3 <&-",
    "closed messages": "$callstats list no.db 2>&-",
    "a pipe": "$callstats reduce - --max-samples 3 -o - <blobs.jsonl",
    "a byte that is no text": "$callstats list no.db$(printf '\\377')",
    "another backend": "$callstats --version",
    "another encoding": "$callstats show calls.db a",
    "another URL": "$callstats list",
    "a mask": "umask 077; $callstats init private.db",
    "an ignored signal": "trap '' USR1; $callstats record --db x.db -- grep SigIgn /proc/self/status 2>/dev/null",
}
"""What a copy takes over, and what only the command itself can do."""

SET = {
    "another backend": {"CALLSTATS_BACKEND": "python"},
    "another encoding": {"PYTHONIOENCODING": "ascii"},
    "another URL": {"CALLSTATS_URL": "calls.db"},
}


def seen(program: Path, folder: Path, line: str, **env: str) -> tuple[Any, ...]:
    """What a shell sees of a program, and which files it leaves."""
    made(folder / "calls.db", [("a", blob(30)), ("b", blob(3))])
    (folder / "blobs.jsonl").write_text(blob(30) * 3)
    (folder / "x.jsonl").write_bytes(b"")
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ | env,
    )
    files = {path.name: path.stat().st_mode for path in folder.iterdir()}
    return done.returncode, done.stdout, re.sub(rb"[\d.]+ (s|MB/s)\b", rb"# \1", done.stderr), files


def test_each_command_is_there() -> None:
    """So that none is left out below."""
    assert set(LINES) == set(cli.commands)


@pytest.mark.parametrize("line", [*LINES, *ODD])
def test_it_is_the_command(line: str, tmp_path: Path) -> None:
    """The code, both streams, and the files with their permissions."""
    told = []
    for program in (COMMAND, callstats()):
        folder = tmp_path / "here"
        folder.mkdir()
        told.append(seen(program, folder, (LINES | ODD)[line], **SET.get(line, {})))
        shutil.rmtree(folder)
    assert told[0] == told[1]


def test_the_end_of_who_stands_for_it(tmp_path: Path) -> None:
    """The copy is killed with it: its task ends too, for the copy's death is told to it."""
    command = [callstats(), "record", "--db", tmp_path / "x.db", "--", "sh", "-c", f"echo up; sleep 600; : {tmp_path}"]
    with started(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        assert ask(tmp_path / "x.db", "SELECT pid FROM calls") != [(program.pid,)]  # it is a copy
        program.send_signal(signal.SIGKILL)
        assert program.wait(PATIENCE) == -signal.SIGKILL
    assert gone(str(tmp_path))
