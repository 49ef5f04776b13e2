"""`callstats record` and `callstats list`: a command's own input, output and exit code, and a stored call."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psutil
import pytest

from callstats import StatSeries
from support.database import ask, connect, made
from support.engine import IMAGE, Engine
from support.forked import COMMAND, callstats
from support.programs import PATIENCE, gone, marked, started
from support.signals import ENDING


def record(db: Path, *args: str, given: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """The command, to its end."""
    command = [callstats(), "record", "--db", db, *args]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=120, env={**os.environ, **env})


def shell(db: Path, script: str, *options: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """A script, sampled every 20 ms."""
    return record(db, "--interval", "20ms", *options, "--", "sh", "-c", script, **more)


def last(db: Path, *columns: str) -> tuple[Any, ...]:
    """Columns of the latest call."""
    return ask(db, f"SELECT {', '.join(columns)} FROM calls ORDER BY id DESC LIMIT 1")[0]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database that isn't there yet."""
    return tmp_path / "calls.db"


def test_what_a_command_left_running(db: Path, tmp_path: Path) -> None:
    """It is ended, and a line says so; there is no such line where all had ended, or the timeout ended them."""
    told = "callstats: ended {} that the command left running"
    mark = uuid4().hex
    late = tmp_path / "late"
    result = shell(db, f"setsid sh -c 'sleep 600; touch {late}; : {mark}' & sleep 0.2; exit 3")
    assert (result.returncode, result.stderr.decode().splitlines()[1:]) == (3, [told.format("2 processes")])
    assert gone(mark) and not late.exists()
    assert shell(db, "exec setsid sleep 600 & sleep 0.2").stderr.decode().splitlines()[1:] == [told.format("1 process")]
    for script, *options in (("sleep 0.1 & wait",), ("sleep 600 & wait", "--timeout", "300ms"), ("sleep 600 & kill $!; wait",)):
        assert b"left running" not in shell(db, script, *options).stderr
    assert len(shell(db, "sleep 600 & sleep 0.1", "--json").stderr.decode().splitlines()) == 1


# --- exit codes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "status"),
    [
        (["--", "true"], 0, "success"),
        (["--", "sh", "-c", "exit 7"], 7, "error"),
        (["--", "no-such-command"], 127, "error"),
        (["--", "/etc"], 126, "error"),
        (["--", "sh", "-c", "kill -TERM $$"], 143, "error"),
        (["--", "sh", "-c", "kill -KILL $$"], 137, "killed"),
        (["--timeout", "200ms", "--", "sleep", "60"], 124, "timeout"),
        (
            ["--memory", "32m", "--", sys.executable, "-c", "x = bytearray(200 * 2**20)\nimport time; time.sleep(60)"],
            137,
            "killed",
        ),
        (["echo", "--db", "x"], 0, "success"),
    ],
)
def test_exit_codes(db: Path, args: list[str], code: int, status: str) -> None:
    """It ends as the command does, or says why it could not; the call is stored either way."""
    done = record(db, *args)
    assert done.returncode == code, done.stderr
    assert last(db, "status", "app_id", "error is null") == (status, "record", code == 0)
    assert done.stderr.startswith(b"callstats: ") and done.stderr.count(b"\n") == 1
    assert last(db, "id")[0].encode() in done.stderr


@pytest.mark.parametrize("number", ENDING)
def test_signals(db: Path, number: signal.Signals) -> None:
    """A signal ends the command and its tree first; the call is stored as cancelled, and the code is 128 + n."""
    mark = uuid4().hex
    script = f"(sleep 99; : {mark}) & (setsid sh -c 'sleep 99; : {mark}' &) ; sleep 99; : {mark}"
    with started([COMMAND, "record", "--db", db, "--", "sh", "-c", script], stderr=subprocess.PIPE) as program:
        deadline = monotonic() + PATIENCE
        while len(marked(mark)) < 4 and monotonic() < deadline:  # callstats' own is one
            sleep(0.02)
        program.send_signal(number)
        _, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, b"Traceback" in err) == (128 + number, False)
    assert gone(mark) and last(db, "status") == ("cancelled",)


@pytest.mark.parametrize("number", ENDING)
def test_ignored_signals(db: Path, number: signal.Signals) -> None:
    """A signal that callstats was started to ignore, as by nohup, ends neither it nor its command. Other signals still do."""
    other = next(one for one in ENDING if one != number)
    command = [COMMAND, "record", "--db", db, "--", "sh", "-c", f"echo runs; read line; kill -{int(number)} $$; exit 7"]
    for sent, code, status in ((number, 7, "error"), (other, 128 + other, "cancelled")):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with started(command, ignores=[number], **pipes) as program:
            assert program.stdin is not None and program.stdout is not None
            assert program.stdout.readline() == b"runs\n"
            program.send_signal(sent)
            if sent == number:
                program.stdin.write(b"go on\n")
                program.stdin.flush()
            program.wait(PATIENCE)
        assert (program.returncode, last(db, "status")) == (code, (status,))


def test_children_that_are_waited_for(db: Path) -> None:
    """The code of the command is known where SIGCHLD was ignored, which makes the system throw codes away."""
    with started([COMMAND, "record", "--db", db, "--", "sh", "-c", "exit 7"], ignores=[signal.SIGCHLD]) as program:
        assert program.wait(PATIENCE) == 7
    assert last(db, "status") == ("error",)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "Missing argument 'COMMAND...': give the command to run, such as -- make test\n"),
        (["--interval", "1ms", "--", "true"], "--interval must be 10ms or more, got '1ms'"),
        (
            ["--interval", "soon", "--", "true"],
            "--interval must be a duration such as 250ms, 90s, 30min, 1.5h, 1h30m, 7d or 4w, got 'soon'",
        ),
        (["--memory", "lots", "--", "true"], "--memory must be a size such as 65535, 64k"),
        (["--driver", "docker", "--", "true"], "--driver docker must be given with an --image, such as --image alpine:3.20\n"),
        (["--image", "a", "--", "true"], "--image must be given with --driver docker: add that, or leave --image out\n"),
        (["--network", "none", "--", "true"], "--network must be given with --driver docker: add that, or leave --network out\n"),
        (["--driver", "docker", "--image", "a@b@c", "--", "true"], "a@b@c"),
        (["runs.db", "--", "true"], "COMMAND must be a program, got 'runs.db': a database is --db runs.db"),
        (["pg://u:secret@h", "true"], "COMMAND must be a program, got 'pg://u:***@h': a database is --db pg://u:***@h"),
    ],
)
def test_wrong_use(db: Path, args: list[str], reason: str) -> None:
    """What can't be done is refused before anything runs or is stored."""
    done = record(db, *args)
    assert done.returncode == 2 and reason in done.stderr.decode()
    assert not db.exists()


def test_a_program_that_is_named_as_a_database(db: Path) -> None:
    """It runs; only a name that can't run is taken for a database that stands in the wrong place."""
    program = db.with_name("sweep.db")
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    assert (record(db, str(program)).returncode, last(db, "exit_code")) == (7, (7,))


def test_a_driver_s_fault(db: Path) -> None:
    """No engine is the driver's fault: 125; the line says so, and which call says it too. --json prints the call."""
    options = ["--driver", "docker", "--image", "a"]
    done = record(db, *options, "--", "true", DOCKER_HOST="unix:///no/such/socket")
    status, error, code, key = last(db, "status", "error", "exit_code", "id")
    assert (done.returncode, status, code) == (125, "error", None)
    assert error.startswith("can't reach the engine at unix:///no/such/socket: ")
    assert done.stderr.decode() == f"callstats: no sample, error: {error}; call {key} in table calls in {db}\n"
    done = record(db, *options, "--json", "--", "true", DOCKER_HOST="unix:///no/such/socket")
    call = json.loads(done.stderr)
    assert (done.returncode, call["key"], call["error"]) == (125, *last(db, "id", "error"))


def test_a_database_that_can_not_be(tmp_path: Path) -> None:
    """A database that can't be made is told before the command runs."""
    done = record(tmp_path / "no" / "such.db", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 2 and not (tmp_path / "ran").exists()


# --- streams ------------------------------------------------------------------------------------------------------------------


def test_its_own_input_and_output(db: Path) -> None:
    """Input, output and errors are the command's own, to the byte, and larger than any pipe."""
    data = os.urandom(500_000)
    done = shell(db, "cat; echo told >&2", given=data)
    assert done.stdout == data and done.stderr.startswith(b"told\n")


def test_a_terminal(db: Path) -> None:
    """A command may read from the terminal that callstats was started in, which is callstats' again afterwards."""
    script = f"{COMMAND} record --db {db} -- sh -c 'read x; echo got $x'; read y; echo then $y"
    terminal, end = pty.openpty()
    with (
        os.fdopen(terminal, "r+b", buffering=0) as screen,
        started(["setsid", "--ctty", "sh", "-c", script], stdin=end, stdout=end, stderr=end) as program,
    ):
        os.close(end)
        seen = b""
        for given, answer in ((b"one\n", b"got one"), (b"two\n", b"then two")):
            screen.write(given)
            while answer not in seen:
                assert select.select([screen], [], [], PATIENCE)[0], seen
                seen += screen.read(1024)
        assert program.wait(PATIENCE) == 0


# --- what is stored -----------------------------------------------------------------------------------------------------------


def test_the_call(db: Path) -> None:
    """Times in order, the program's name, and a histogram that keeps peaks and counts once it is reduced."""
    shell(db, "sleep 1", "--max-samples", "5")
    fn, created, started, completed, stats = last(db, "fn_id", "created_at", "started_at", "completed_at", "stats")
    assert fn == "sh" and created <= started < completed and len(created) == len("2017-11-27T14:52:53.000000Z")
    series = StatSeries.from_json(stats)
    assert 1 < len(series) <= 5 and "mem_usage@max" in series.names and series.counts.max() > 1


def test_plain(db: Path) -> None:
    """--plain stores Fn's exact shape: some of its nine metrics, no peaks, no counts."""
    shell(db, "sleep 0.5", "--max-samples", "5", "--plain")
    rows = json.loads(last(db, "stats")[0])
    assert rows and all(set(row) == {"timestamp", "metrics"} for row in rows)
    assert {name for row in rows for name in row["metrics"]} <= {
        "cpu_total",
        "cpu_user",
        "cpu_kernel",
        "mem_usage",
        "mem_limit",
        "net_rx",
        "net_tx",
        "disk_read",
        "disk_write",
    }


def test_a_short_command(db: Path) -> None:
    """A command shorter than the interval has the row of its end, and one that can't be run has none."""
    assert b"peak memory" in record(db, "--", "true").stderr
    assert len(StatSeries.from_json(last(db, "stats")[0])) == 1
    assert b"no sample" in record(db, "--", "no-such-command").stderr
    assert last(db, "stats") == ("",)


def test_the_line(db: Path) -> None:
    """One line tells peak memory, processor use, time and the call."""
    program = "x = bytearray(100_000_000)\nimport time; time.sleep(1)"
    bare = ["env", "-u", "LD_PRELOAD", sys.executable, "-S", "-c"]  # a sanitizer takes memory too
    done = record(db, "--interval", "50ms", "--", *bare, program)
    line = done.stderr.decode()
    peak = float(re.findall(r"peak memory .*?([\d.]+) MiB", line)[0])
    assert (
        95 < peak < 110
        and re.search(r" %, \d\.\d+ s; ", line)
        and line.endswith(f"call {last(db, 'id')[0]} in table calls in {db}\n")
    )


def test_the_samples_of_the_line(db: Path) -> None:
    """A call shorter than the interval has one, a longer one many, also where one row stands for them all."""
    options = ("--plain", "--max-samples", "1")  # without the kernel's peak
    lines = [record(db, *options, "--", "true").stderr, shell(db, "sleep 0.2", *options).stderr]
    assert [re.findall(rb"\((.*)\)", line) for line in lines] == [[b"one sample"], [b"samples every 0.02 s"]]


def test_docker(db: Path, engine: Engine) -> None:
    """The same in a container, with its own input and output, and the image as the function's name."""
    options = ["--driver", "docker", "--image", IMAGE, "--network", "none", "--memory", "64m"]
    done = record(db, *options, "--", "sh", "-c", "cat; sleep 2.5; exit 5", given=b"in\n", DOCKER_HOST=engine.url)
    assert (done.returncode, done.stdout) == (5, b"in\n")
    fn, stats = last(db, "fn_id", "stats")
    series = StatSeries.from_json(stats)
    assert fn == IMAGE and len(series) >= 1 and set(series["mem_limit"].tolist()) - {None} == {64 * 2**20}
    assert record(db, *options, "--", "no-such", DOCKER_HOST=engine.url).returncode == 127
    assert engine.containers() == []


# --- list ---------------------------------------------------------------------------------------------------------------------


def listed(*args: Any) -> subprocess.CompletedProcess[str]:
    """`callstats list` in a process of its own."""
    return subprocess.run([callstats(), "list", *map(str, args)], capture_output=True, text=True, check=False, timeout=60)


def test_list(db: Path) -> None:
    """The latest calls first, with what they used; as JSON lines too."""
    record(db, "--", "true")
    shell(db, "sleep 0.3; exit 3")
    lines = listed(db).stdout.splitlines()
    year = str(datetime.now(UTC).year)
    assert [line.split() for line in lines[:2]] == [
        ["started", "UTC", "peak", "mean"],
        ["call", "name", "status", "in", year, "duration", "memory", "CPU"],
    ]
    assert [re.split("  +", line)[1:3] for line in lines[2:]] == [["sh", "error 3"], ["true", "success"]]
    assert listed(db, "--limit", 1).stdout.splitlines()[2].split() == lines[2].split()
    rows = [json.loads(line) for line in listed(db, "--json").stdout.splitlines()]
    assert [(row["exit_code"], row["command"]) for row in rows] == [(3, "sh -c 'sleep 0.3; exit 3'"), (0, "true")]
    assert all(row["usage"]["samples"] > 0 and row["usage"]["peak_memory"] for row in rows)


def test_json_of_a_recording(db: Path) -> None:
    """--json prints the call to standard error, with the values of its usage that list and show print later."""
    done = shell(db, "sleep 0.3; echo out", "--json")
    call = json.loads(done.stderr)
    assert done.stdout == b"out\n" and call["usage"]["samples"] >= 1 and "peak_memory" in call["usage"]["exact"]
    assert call == json.loads(listed(db, "--json").stdout)


def test_an_unknown_option_is_wrong_use(db: Path) -> None:
    """Before the command; after it, options are the command's own."""
    done = record(db, "--intervall", "1s", "true")
    assert done.returncode == 2 and b"--intervall" in done.stderr and not db.exists()
    assert record(db, "sh", "-c", "exit 3").returncode == 3


def test_list_of_any_table(tmp_path: Path) -> None:
    """A table without Fn's columns is listed too; an unreadable histogram is named, and the code is 1; odd text is harmless."""
    db = made(
        tmp_path / "calls.db", [("good", '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"mem_usage":5000}}]'), ("bad", "[")]
    )
    with closing(connect(db)) as connection:
        connection.execute("UPDATE calls SET status = 'a\x1b[31mb' WHERE id = 'good'")
    done = listed(db)
    assert done.returncode == 1 and "rejected 'bad': " in done.stderr
    assert "\x1b" not in done.stdout and "4.9 KiB" in done.stdout
    assert listed(tmp_path / "none.db").returncode == 2


def test_a_command_that_another_program_stops(db: Path) -> None:
    """The recording waits until it is continued, and does not stop itself."""
    command = [COMMAND, "record", "--db", db, "--", "sh", "-c", "echo $$; read line; exit 7"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None and program.stdin is not None
        child = psutil.Process(int(program.stdout.readline()))
        child.suspend()
        sleep(0.5)
        assert child.status() == psutil.STATUS_STOPPED
        assert psutil.Process(program.pid).status() != psutil.STATUS_STOPPED
        child.resume()
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.wait(PATIENCE) == 7
    assert last(db, "status", "exit_code") == ("error", 7)


@pytest.mark.parametrize("options", ["--tag a --", "--tag =b --", "--tag a=1 --tag a=2 --", "--name '' --"])
def test_names_and_tags(db: Path, options: str) -> None:
    """Labels are NAME=VALUE, each once; they are stored with the command line, the host and the exit code."""
    wrong = record(db, *shlex.split(options), "true")
    assert wrong.returncode == 2 and wrong.stderr.count(b"\n") <= 4 and not db.exists()
    done = record(db, "--name", "nightly", "--tag", "a=1=2", "--tag", "b=", "--", "sh", "-c", "exit 3")
    assert done.returncode == 3
    name, tags, command, host, code = last(db, "fn_id", "tags", "command", "host", "exit_code")
    assert (name, json.loads(tags), command) == ("nightly", {"a": "1=2", "b": ""}, "sh -c 'exit 3'")
    assert (host, code) == (os.uname().nodename, 3)
    shown = subprocess.run([callstats(), "show", db], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "exit      3\n" in shown and "tags      a=1=2 b=\n" in shown and "command   sh -c 'exit 3'\n" in shown


def test_how_the_peak_is_known(db: Path) -> None:
    """The kernel's count of a single process, or samples, which may have missed more."""
    assert b"(the kernel's count)" in record(db, "--", "sleep", "0.1").stderr
    assert b"peak memory at least " in shell(db, "sleep 0.3; sleep 0.3").stderr
