"""callstats.record(): a command's call, in a program of one's own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from callstats import Call, CallTable, DatabaseError, DriverError, Rule, connect, record
from callstats.drivers import Cookie, Driver, RunResult, Status
from callstats.errors import ArgumentError, CallstatsError
from support.programs import PATIENCE, started


def test_a_call() -> None:
    """Who ran, how it ended, and what it used."""
    call = record(["sh", "-c", "sleep 0.3; exit 3"], tags={"branch": "main"}, interval=0.02, env={"A": "b"}, memory=2**30)
    assert (call.name, call.status, call.exit_code, call.tags) == ("sh", "error", 3, {"branch": "main"})
    assert (call.command, call.host, call.pid) == ("sh -c 'sleep 0.3; exit 3'", os.uname().nodename, os.getpid())
    assert call.usage.samples > 1 and call.usage.peak_memory and call.usage.memory_limit == 2**30
    assert call.usage.cpu_time_ns is not None and "duration_ns" in call.usage.exact


@pytest.mark.parametrize(
    ("script", "more", "status", "code"),
    [
        ("true", {}, "success", 0),
        ("kill -9 $$", {}, "killed", 137),
        ("kill -15 $$", {}, "error", 143),
        ("kill -2 $$", {}, "cancelled", 130),
        ("sleep 60", {"timeout": 0.1}, "timeout", 124),
    ],
)
def test_ends(script: str, more: dict[str, Any], status: str, code: int) -> None:
    """The exit code is that of the command line."""
    call = record(["sh", "-c", script], **more)
    assert (call.status, call.exit_code) == (status, code)
    missing = record(["no-such-program"])
    assert (missing.exit_code, missing.error) == (127, "can't run 'no-such-program': No such file or directory")


def test_its_output_is_the_program_s(capfd: pytest.CaptureFixture[str]) -> None:
    """In the order of what was written before; its input is empty."""
    sys.stdout.write("first\n")
    assert record(["sh", "-c", "cat; echo second; echo third >&2"]).status == "success"
    assert capfd.readouterr() == ("first\nsecond\n", "third\n")


def test_into_a_table(tmp_path: Path) -> None:
    """It is there as running from the start, and as it is returned at the end; the rule and `on_stat` apply."""
    seen: list[tuple[int, dict[str, int]]] = []
    running: list[Call] = []
    with connect(tmp_path / "calls.db") as table:

        def look(timestamp: int, metrics: dict[str, int]) -> None:
            seen.append((timestamp, metrics))
            if not running:
                running.extend(table.list())

        call = record(["sleep", "1"], name="nap", interval=0.02, rule=Rule(2, how="max"), on_stat=look, into=table)
        stored = table.get()
    assert [(one.status, one.name, one.pid) for one in running] == [("running", "nap", os.getpid())]
    assert (stored.key, stored.series, stored.usage, stored.status) == (call.key, call.series, call.usage, "success")
    assert call.usage.samples == len(seen) > 1 and call.usage.rows <= 2


def test_an_error_of_on_stat_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""

    def fail(_timestamp: int, metrics: dict[str, int]) -> None:
        metrics.clear()
        raise RuntimeError("no")

    with caplog.at_level(logging.WARNING):
        call = record(["sleep", "0.3"], interval=0.02, on_stat=fail)
    assert call.status == "success" and call.usage.peak_memory and "on_stat" in caplog.text


@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        ("sleep 1", {}, "command must be a list of one word or more, got 'sleep 1': shlex.split makes one of it"),
        ([], {}, "command must be a list of one word or more, got []"),
        (["true"], {"image": "alpine"}, "image must be left out without the driver docker, got 'alpine'"),
        (["true"], {"driver": "docker"}, "image must be given with the driver docker, got None"),
        (["true"], {"driver": "qemu"}, "driver must be process, docker or a Driver, got 'qemu'"),
        (["true"], {"interval": 0.001}, "interval must be 0.01 seconds or more, got 0.001"),
        (["true"], {"name": ""}, "name must be text of 1 to 256 characters, got ''"),
        (["true"], {"timeout": -1}, "timeout must be 0 or more seconds, or None, got -1"),
        (["true"], {"into": "x.db"}, "into must be a CallTable, such as connect('x.db'), got 'x.db'"),
    ],
)
def test_bad_arguments(command: Any, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Nothing runs, and no row is there."""
    with connect(tmp_path / "calls.db") as table, pytest.raises(ArgumentError) as raised:
        record(command, **{"into": table, **more})
    assert str(raised.value) == message and not (tmp_path / "calls.db").exists()
    with pytest.raises(TypeError, match=r"did you mean 'interval'\?"):
        record(["true"], intervall=1)  # type: ignore[call-arg]


class Failing(Driver, Cookie):
    """A driver that fails after a sample."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    def prepare(self, task: Any) -> Cookie:
        self.task = task
        return self

    def run(self) -> Any:
        return self

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        self.task.write_stat(10**18, {"mem_usage": 4096})
        raise self.fault

    def close(self) -> None:
        pass


def test_a_driver_that_fails(tmp_path: Path) -> None:
    """Its samples are stored, and in the error."""
    with connect(tmp_path / "calls.db") as table:
        with pytest.raises(DriverError, match=r"^the engine is gone$") as raised:
            record(["true"], driver=Failing(DriverError("the engine is gone")), into=table)
        stored = table.get()
    assert raised.value.call.usage == stored.usage and stored.usage.peak_memory == 4096
    assert (stored.status, stored.error, stored.exit_code) == ("error", "the engine is gone", None)


class Clinging(Failing):
    """A driver that can't clean up after a good end."""

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        return RunResult(Status.SUCCESS)

    def __exit__(self, *_: object) -> None:
        raise self.fault


def test_a_driver_that_can_not_clean_up() -> None:
    """The end is known, and the fault is reported beside it."""
    with pytest.raises(DriverError) as raised:
        record(["true"], driver=Clinging(DriverError("the container stays")))
    call = raised.value.call
    assert (call.status, call.exit_code, call.error) == ("success", 0, "the container stays")


class Timed(Failing):
    """A driver that tells when the command itself began and ended."""

    began_at, ended_at = 10**18 + 400_999, 10**18 + 1_700_001

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        return RunResult(Status.SUCCESS)


def test_times_of_a_short_command() -> None:
    """They are whole microseconds around what the driver tells: a shorter duration would tell more CPU than there was."""
    call = record(["true"], driver=Timed(DriverError("")))
    assert (call.started_at, call.completed_at) == ("2001-09-09T01:46:40.000400Z", "2001-09-09T01:46:40.001701Z")


class Broken:
    """A table that takes the start, and not the end."""

    def begin(self, _call: Call) -> int | None:
        return None

    def finish(self, _calls: Iterable[Call]) -> int:
        raise DatabaseError("the disk is full")


def test_a_table_that_fails(tmp_path: Path) -> None:
    """At the start nothing runs; at the end the call is in the error."""
    with pytest.raises(DatabaseError, match=r"^the disk is full$") as raised:
        record(["sh", "-c", "exit 4"], into=Broken())
    assert raised.value.call.exit_code == 4
    (tmp_path / "calls.db").write_bytes(b"no database at all, but of more than sixteen bytes" * 100)
    with connect(tmp_path / "calls.db") as table, pytest.raises(CallstatsError):
        record(["touch", str(tmp_path / "ran")], into=table)
    assert not (tmp_path / "ran").exists()


def test_in_an_event_loop() -> None:
    """`asyncio.to_thread` lets other tasks run meanwhile, two recordings among them."""

    async def work() -> list[Call]:
        recordings = [asyncio.to_thread(record, ["sh", "-c", f"sleep 0.2; exit {code}"]) for code in (5, 6)]
        return list(await asyncio.gather(*recordings))

    with ThreadPoolExecutor(1) as own:  # tests of the browser leave a loop running in this thread
        assert [call.exit_code for call in own.submit(asyncio.run, work()).result()] == [5, 6]


def test_ctrl_c(tmp_path: Path) -> None:
    """The host's Ctrl-C ends the command, and the row says so."""
    program = (
        "import sys; from callstats import connect, record\n"
        "with connect(sys.argv[1]) as table: record(['sh', '-c', 'echo up; sleep 99'], into=table)"
    )
    command = [sys.executable, "-c", program, tmp_path / "calls.db"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as host:
        assert host.stdout is not None and host.stdout.readline() == "up\n"
        host.send_signal(signal.SIGINT)
        host.wait(PATIENCE)
    with connect(tmp_path / "calls.db") as table:
        assert table.get().status == Status.CANCELLED.value


def test_it_takes_a_table() -> None:
    """For type checkers too: `into` is a CallTable."""
    table: CallTable = connect("sqlite://")
    with table:
        assert record(["true"], into=table).key == table.get().key
