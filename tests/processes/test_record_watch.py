"""`callstats record --pid` and `--cgroup`: what runs already is watched, and continues."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from support.database import ask
from support.forked import COMMAND, callstats
from support.programs import PATIENCE, started

CONTROLLERS = Path("/sys/fs/cgroup")


@contextmanager
def watched(db: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    """Record what the options name, until the row is there."""
    command = [COMMAND, "record", "--db", str(db), "--interval", "20ms", *map(str, options)]
    with started(command, stderr=subprocess.PIPE, text=True) as program:
        deadline = monotonic() + PATIENCE
        while not db.exists() or not ask(db, "SELECT 1 FROM sqlite_master") or not ask(db, "SELECT 1 FROM calls"):
            assert monotonic() < deadline
            sleep(0.02)
        sleep(0.3)
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_continues(tmp_path: Path, number: int) -> None:
    """A signal ends the watch, with 0; the process lives, and neither its status nor its exit code is stored."""
    db = tmp_path / "calls.db"
    with started(["sleep", "99"]) as other:
        with watched(db, "--pid", other.pid, "--name", "nap", "--tag", "a=b") as program:
            program.send_signal(number)
            _, err = program.communicate(timeout=PATIENCE)
        assert (program.returncode, other.poll()) == (0, None) and "; call " in err
        other.kill()
    [(name, status, code, command, tags, stats)] = ask(db, "SELECT fn_id, status, exit_code, command, tags, stats FROM calls")
    assert (name, status, code, command, tags) == ("nap", None, None, "sleep 99", '{"a": "b"}') and "mem_usage" in stats


@pytest.mark.parametrize("interval", ["20ms", "999s"])
def test_a_process_that_ends(tmp_path: Path, interval: str) -> None:
    """Its end is the end of the watch, however rarely it is sampled."""
    db = tmp_path / "calls.db"
    with started(["sleep", "99"]) as other, watched(db, "--pid", other.pid, "--interval", interval) as program:
        other.kill()
        other.wait()
        assert program.wait(PATIENCE) == 0
    assert ask(db, "SELECT fn_id, status, completed_at > started_at FROM calls") == [("sleep", None, 1)]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of our own."""
    parent = CONTROLLERS if (CONTROLLERS / "cgroup.controllers").exists() else CONTROLLERS / "memory"
    folder = parent / f"callstats-test-{psutil.Process().pid}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"needs a control group of its own: {error}")
    try:
        yield folder
    finally:
        deadline = monotonic() + PATIENCE
        while folder.exists() and monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:  # a process that has just ended
                sleep(0.05)


def test_a_control_group(tmp_path: Path, group: Path) -> None:
    """All that runs in it, until the last one ends; the peak is the kernel's."""
    db = tmp_path / "calls.db"
    fill = "x = bytearray(50 * 2**20)\ninput()"
    with started(
        [sys.executable, "-S", "-c", f"import sys; sys.stdin.readline()\n{fill}"], stdin=subprocess.PIPE, text=True
    ) as one:
        assert one.stdin is not None
        (group / "cgroup.procs").write_text(str(one.pid))
        with watched(db, "--cgroup", group) as program:
            one.stdin.write("\n")
            one.stdin.flush()
            sleep(0.5)
            one.kill()
            one.wait()
            assert program.wait(PATIENCE) == 0
            assert program.stderr is not None
            err = program.stderr.read()
    [(name, status, stats)] = ask(db, "SELECT fn_id, status, stats FROM calls")
    assert (name, status) == (group.name, None) and "mem_usage@max" in stats and "at most" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pid", "4194304999"], "--pid must be the number of a running process, got 4194304999"),
        (["--cgroup", "/no/such/group"], "got '/no/such/group'"),
        (["--pid", "1", "--cgroup", "/x"], "--pid must be given without --cgroup: it watches what runs already"),
        (["--pid", "1", "--", "true"], "--pid must be given without a command: it watches what runs already"),
        (["--cgroup", "/x", "--timeout", "5s"], "--cgroup must be given without --timeout: it watches what runs already"),
    ],
)
def test_wrong_use(options: list[str], message: str, tmp_path: Path) -> None:
    """Nothing is stored."""
    db = tmp_path / "calls.db"
    done = subprocess.run([callstats(), "record", "--db", db, *options], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and message in done.stderr and not db.exists()
