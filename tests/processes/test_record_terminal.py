"""`callstats record` at a terminal, under a shell with job control: Ctrl-Z and fg, Ctrl-C, and a command that reads."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import psutil
import pytest

from support.database import ask
from support.forked import COMMAND
from support.programs import PATIENCE, marked, started

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, screen: int) -> None:
        self.screen = screen
        self.seen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.screen, text.encode())

    def expect(self, pattern: str) -> str:
        """Wait until the screen shows this, after what was waited for before, and return it."""
        deadline = monotonic() + PATIENCE
        while (found := re.search(pattern, self.seen)) is None:
            assert select.select([self.screen], [], [], max(deadline - monotonic(), 0))[0], self.seen
            self.seen += os.read(self.screen, 4096).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found[0]


@contextmanager
def shell() -> Iterator[Shell]:
    """Bash with job control."""
    screen, end = pty.openpty()
    env = {**os.environ, "PS1": "ready> ", "TERM": "dumb", "HISTFILE": ""}
    process = psutil.Popen(["setsid", "--ctty", "bash", "--norc", "-i"], stdin=end, stdout=end, stderr=end, env=env)
    os.close(end)
    one = Shell(screen)
    try:
        one.expect("ready> ")
        one.type("bind 'set enable-bracketed-paste off'\n")
        one.expect("ready> ")
        yield one
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def states(mark: str) -> set[str]:
    """The states of the processes with this mark."""
    found = set()
    for process in marked(mark):
        with suppress(psutil.NoSuchProcess):  # a fork of the script, for a moment
            found.add(process.status())
    return found


def wait_for(mark: str, state: set[str]) -> None:
    """Wait until all processes with the mark are in one of these states."""
    deadline = monotonic() + PATIENCE
    while not (found := states(mark)) or not found <= state:
        assert monotonic() < deadline, found
        sleep(0.02)


def waiting(folder: Path) -> Path:
    """A pipe that a shell waits for without a child: between fork and exec, a signal may be lost to a shell and its child."""
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


RUNS = {psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING}
STOPPED = {psutil.STATUS_STOPPED}


@pytest.mark.parametrize("redirection", ["", "</dev/null", "| cat"])
def test_ctrl_z_and_fg(tmp_path: Path, redirection: str) -> None:
    """Both stop, and both go on; the exit code is the command's."""
    mark, db = uuid4().hex, tmp_path / "calls.db"
    script = f"echo up; read line <{waiting(tmp_path)}; exit 7; : {mark}"
    with shell() as screen:
        screen.type(f"set -o pipefail; {COMMAND} record --db {db} --interval 20ms -- sh -c '{script}' {redirection}\n")
        screen.expect("\nup\r")
        for _ in range(2):
            screen.type("\x1a")
            screen.expect("Stopped")
            wait_for(mark, STOPPED)
            screen.type("fg\n")
            wait_for(mark, RUNS)
        (tmp_path / "pipe").write_text("end\n")
        screen.expect("callstats: ")
        screen.type("echo code $?\n")
        screen.expect("code 7\r")
    assert ask(db, "SELECT status, exit_code FROM calls") == [("error", 7)]


@pytest.mark.parametrize("redirection", ["", "</dev/null", "| cat"])
def test_ctrl_c(tmp_path: Path, redirection: str) -> None:
    """It ends the command, whoever has the terminal, and the call is stored."""
    mark, db = uuid4().hex, tmp_path / "calls.db"
    script = f"echo up; read line <{waiting(tmp_path)}; : {mark}"
    with shell() as screen:
        screen.type(f"set -o pipefail; {COMMAND} record --db {db} -- sh -c '{script}' {redirection}\n")
        screen.expect("\nup\r")
        screen.type("\x03")
        screen.expect("callstats: ")
        screen.type("echo code $?\n")
        screen.expect("code 130\r")
    assert not marked(mark) and ask(db, "SELECT status, exit_code FROM calls") == [("cancelled", 130)]


@pytest.mark.parametrize("redirection", ["", "| cat", "&"])
def test_a_command_that_reads_from_the_terminal(tmp_path: Path, redirection: str) -> None:
    """It gets the terminal: at the start, when it asks for it in a pipeline, or with fg; then the shell has it again."""
    db = tmp_path / "calls.db"
    with shell() as screen:
        screen.type(f"{COMMAND} record --db {db} -- sh -c 'read line; echo got $line' {redirection}\n")
        if redirection == "&":
            screen.expect("ready> ")
            screen.type("jobs\n")
            while "Running" in screen.expect(r"\[1\]\+\s+(Stopped|Running)"):
                sleep(0.1)
                screen.type("jobs\n")
            screen.type("fg\n")
        screen.type("one\n")
        screen.expect("got one\r")
        screen.expect("callstats: ")
        screen.type("echo again\n")
        screen.expect("\nagain\r")
    assert ask(db, "SELECT status FROM calls") == [("success",)]


def test_a_terminal_without_job_control(tmp_path: Path) -> None:
    """Where nobody could continue the recording, Ctrl-Z stops nothing."""
    db = tmp_path / "calls.db"
    screen, other = pty.openpty()
    script = f"echo up; read line <{waiting(tmp_path)}"
    with started(
        ["setsid", "--ctty", COMMAND, "record", "--db", db, "--", "sh", "-c", script], stdin=other, stdout=other, stderr=other
    ) as program:
        os.close(other)
        one = Shell(screen)
        one.expect("up\r")
        one.type("\x1a")
        sleep(0.3)
        (tmp_path / "pipe").write_text("end\n")
        one.expect("callstats: ")
        assert program.wait(PATIENCE) == 0
    os.close(screen)
