"""`callstats record --driver docker`: signals for the container, and an engine that dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from support.database import ask
from support.engine import IMAGE, Engine
from support.forked import COMMAND
from support.programs import PATIENCE, started


@contextmanager
def recorded(engine: Engine, db: Path, script: str) -> Iterator[subprocess.Popen[str]]:
    """Record a container until its script says that it is up."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [
        COMMAND,
        "record",
        "--db",
        db,
        "--driver",
        "docker",
        "--image",
        IMAGE,
        "--network",
        "none",
        "--",
        "sh",
        "-c",
        script,
    ]
    with started(command, text=True, env={**os.environ, "DOCKER_HOST": engine.url}, process_group=0, **pipes) as program:
        assert program.stdout is not None and program.stdout.readline() == "up\n"
        yield program


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        ('trap "exit 9" TERM; echo up; while :; do sleep 0.1; done', 9, "error"),
        ('trap "exit 143" TERM; echo up; while :; do sleep 0.1; done', 143, "cancelled"),
        ("echo up; while :; do sleep 0.1; done", 143, "cancelled"),
    ],
)
def test_signals(engine: Engine, tmp_path: Path, script: str, code: int, status: str) -> None:
    """A container that does not heed the signal is killed after ten seconds; nothing is left of either."""
    db = tmp_path / "calls.db"
    with recorded(engine, db, script) as program:
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=2 * PATIENCE)
    assert (program.returncode, err.count("\n")) == (code, 1), err
    assert ask(db, "SELECT status, exit_code FROM calls") == [(status, code)]
    assert engine.containers() == []


def test_ctrl_z_and_fg(engine: Engine, tmp_path: Path) -> None:
    """The container is paused while the recording is stopped, and both go on."""
    db = tmp_path / "calls.db"
    with recorded(engine, db, "echo up; read line; exit 7") as program:
        [name] = engine.containers()
        for _ in range(2):
            program.send_signal(signal.SIGTSTP)
            assert os.WIFSTOPPED(os.waitpid(program.pid, os.WUNTRACED)[1])
            assert engine.docker("inspect", "--format", "{{.State.Paused}}", name) == "true\n"
            program.send_signal(signal.SIGCONT)
            deadline = monotonic() + PATIENCE
            while engine.docker("inspect", "--format", "{{.State.Paused}}", name) == "true\n":
                assert monotonic() < deadline
                sleep(0.1)
        _, err = program.communicate("end\n", timeout=PATIENCE)
    assert program.returncode == 7, err
    assert ask(db, "SELECT status, exit_code FROM calls") == [("error", 7)]


def test_an_input_that_stays_open(engine: Engine, tmp_path: Path) -> None:
    """The exit code is the command's, though somebody may still write to its input."""
    with recorded(engine, tmp_path / "calls.db", "echo up; exit 7") as program:
        assert program.wait(2 * PATIENCE) == 7


def test_an_engine_that_dies(private_engine: Engine, tmp_path: Path) -> None:
    """125, and the samples so far are stored."""
    db = tmp_path / "calls.db"
    with recorded(private_engine, db, "echo up; exec sleep 61.5") as program:
        sleep(3)
        began = monotonic()
        private_engine.signal(signal.SIGKILL)
        _, err = program.communicate(timeout=4 * PATIENCE)
    assert program.returncode == 125 and "can't wait for the container" in err and "Traceback" not in err
    assert monotonic() - began < 2 * PATIENCE
    [(status, code, error, stats)] = ask(db, "SELECT status, exit_code, error, stats FROM calls")
    assert (status, code) == ("error", None) and "can't wait" in error and "mem_usage" in stats
