"""ProcessDriver: the whole tree of a command, measured, limited, and ended whatever happens (DESIGN 6.2)."""

from __future__ import annotations

import ctypes
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Any
from uuid import uuid4

import psutil
import pytest

from callstats import CallstatsError, Recorder, StatSeries
from callstats.drivers import DriverError, ProcessDriver, RunResult, Status, Task, watch
from support.programs import PATIENCE, burn, gone, marked, started
from support.signals import ignored

MIB = 2**20
SECOND = 10**9


def run(command: list[str], interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """A command from end to end."""
    recorder = Recorder(None)
    with ProcessDriver(interval).prepare(Task(command=command, write_stat=recorder.write_stat, **fields)) as cookie:
        result = cookie.run().wait()
    return result, recorder.end()


def shell(script: str, interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """A script from end to end."""
    return run(["sh", "-c", script], interval, **fields)


def shown(script: str, interval: float, enough: Callable[[list[tuple[int, dict[str, int]]]], bool]) -> list[Any]:
    """The samples of a script that runs until they show enough, however long that takes on a busy machine."""
    samples: list[tuple[int, dict[str, int]]] = []
    over = threading.Event()

    def look(time: int, metrics: dict[str, int]) -> None:
        samples.append((time, metrics))
        if enough(samples):
            over.set()

    task = Task(command=["sh", "-c", script], write_stat=look, timeout=PATIENCE)
    with ProcessDriver(interval).prepare(task) as cookie:
        assert cookie.run().wait(cancel=over).status is Status.CANCELLED, samples
    return samples


def busy(series: StatSeries, began: int) -> float:
    """Seconds of a core that the samples tell of, for a command that began at this time."""
    edges = [began, *series.timestamps.tolist()]
    seconds = [(b - a) / SECOND for a, b in pairwise(edges)]
    return sum(percent * time for percent, time in zip(series["cpu_total"].tolist(), seconds, strict=True)) / 100


# --- what is measured ---------------------------------------------------------------------------------------------------------


def test_300_megabytes_for_three_seconds() -> None:
    """A command that allocates 300 MB for three seconds is shown to, within 5 %."""
    hold = "x = bytearray(300_000_000)\nimport time; time.sleep(3)"
    _, series = run(["env", "-u", "LD_PRELOAD", sys.executable, "-S", "-c", hold], 0.1)  # a sanitizer takes memory too
    assert abs(int(series["mem_usage"].max()) - 300_000_000) < 15_000_000
    assert (series["mem_usage"] > 285_000_000).sum() >= 15


@pytest.mark.parametrize(
    "script",
    [
        "{burn}; sleep 0.3",  # a child that was waited for
        "(({burn}; : > done) &); until [ -e done ]; do sleep 0.05; done; sleep 0.3",  # one whose parent has exited
        "setsid sh -c '(({burn2}; : > done) &)'; until [ -e done ]; do sleep 0.05; done; sleep 0.3",  # one in a session
    ],
    ids=["child", "orphan", "session"],
)
def test_children_that_have_exited_still_count(script: str, tmp_path: Path) -> None:
    """Processor use of processes that have exited is in the samples, whoever waited for them."""
    program = burn(0.5)
    began = time_ns()
    _, series = shell(script.format(burn=program, burn2=program.replace("'", '"')), work_dir=str(tmp_path))
    assert 0.4 <= busy(series, began) <= 1.2


def test_memory_of_the_whole_tree() -> None:
    """Memory is that of all processes, those that left the group and their parents too."""
    hold = f'{sys.executable} -S -c "x = bytearray(60_000_000)\nimport time; time.sleep(99)"'
    assert shown(f"{hold} & (setsid {hold} &); wait", 0.05, lambda samples: samples[-1][1]["mem_usage"] > 120_000_000)


def test_a_sample_every_ten_milliseconds() -> None:
    """The interval may be as short as 10 ms."""

    def close_together(samples: list[tuple[int, dict[str, int]]]) -> bool:
        return sum(later - time < 20_000_000 for (time, _), (later, _) in pairwise(samples)) >= 25

    samples = shown("sleep 99", 0.01, close_together)
    assert {*samples[0][1]} == {"cpu_kernel", "cpu_total", "cpu_user", "disk_read", "disk_write", "mem_usage"}


def test_a_short_call() -> None:
    """A call shorter than the interval has no sample, and is stored as "" (case 11)."""
    result, series = shell("true", 1)
    assert (result.status, series.to_json()) == (Status.SUCCESS, b"")


def test_two_at_once() -> None:
    """Tasks that run at the same time are told apart, in their orphans too."""
    seen: dict[int, StatSeries] = {}

    def one(size: int) -> None:
        seen[size] = shell(f"({sys.executable} -S -c 'x = bytearray({size}); import time; time.sleep(1)' &); sleep 1")[1]

    threads = [threading.Thread(target=one, args=(size * 10**6,)) for size in (40, 160)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for size, series in seen.items():
        assert size < int(series["mem_usage"].max()) < size + 40_000_000


def test_watch() -> None:
    """watch() samples the running process itself, once more at the block's end."""
    with watch(0.05) as recorder:
        held = bytearray(50 * MIB)
        sleep(0.3)
    series = recorder.end()
    assert len(series) >= 2 and int(series["mem_usage"].max()) > len(held)
    with watch(100) as recorder:
        pass
    assert len(recorder.end()) == 1


# --- limits -------------------------------------------------------------------------------------------------------------------


def test_the_memory_limit_is_looked_at_every_50_ms() -> None:
    """Above its memory the tree is killed at once, however long the interval; the sample that shows it is kept."""
    started = monotonic()
    result, series = shell(
        f"{sys.executable} -S -c 'x = bytearray(200 * 2**20); import time; time.sleep(60)'", 30, memory=64 * MIB
    )
    assert result.status is Status.KILLED and "of memory, of 67108864 allowed" in str(result.error)
    assert monotonic() - started < 20  # long before the first sample was due
    assert series["mem_limit"].tolist() == [64 * MIB] and int(series["mem_usage"][0]) > 64 * MIB


def test_killed_by_somebody_else() -> None:
    """A command that SIGKILL ended, as the kernel does when memory runs out, was killed."""
    result, _ = shell("kill -KILL $$")
    assert result.status is Status.KILLED
    assert result.error is not None and result.error.exit_code == 137


# --- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0.009, 0, -1, float("nan"), float("inf"), True, "1"])
def test_a_refused_interval(interval: Any) -> None:
    """An interval is 10 ms or more."""
    with pytest.raises(CallstatsError, match=r"interval must be 0\.01 seconds or more, got "):
        ProcessDriver(interval)


@pytest.mark.parametrize("fields", [{}, {"command": ["true"], "volumes": [("/tmp", "/data")]}])
def test_a_refused_task(fields: Any) -> None:
    """What no process can have is refused before anything runs."""
    with pytest.raises(DriverError, match="expected "):
        ProcessDriver().prepare(Task(**fields))


def test_commands_that_can_not_run() -> None:
    """A missing work dir, and a NUL in an argument, are the task's faults and no driver's."""
    for fields in ({"command": ["true"], "work_dir": "/no/such"}, {"command": ["echo", "a\0b"]}):
        result, _ = run(**fields)
        assert result.status is Status.ERROR and result.error is not None and result.error.exit_code == 126


def test_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing package is named in one line, with the extra that brings it."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        ImportError, match=r'^callstats\.drivers\.ProcessDriver needs psutil: pip install "callstats\[process\]"$'
    ):
        ProcessDriver().prepare(Task(command=["true"]))
    with pytest.raises(ImportError, match=r"callstats\.drivers\.watch needs psutil"), watch():
        pass


def test_a_writer_that_raises() -> None:
    """What the task's own writer raises comes out of wait(), and the command is ended."""

    def refuse(_time: int, _metrics: dict[str, int]) -> None:
        raise RuntimeError("no more room")

    mark = uuid4().hex
    task = Task(command=["sh", "-c", f"sleep 60; : {mark}"], write_stat=refuse)
    with ProcessDriver(0.05).prepare(task) as cookie, pytest.raises(RuntimeError, match="no more room"):
        cookie.run().wait()
    assert gone(mark)


# --- streams ------------------------------------------------------------------------------------------------------------------


def test_files_are_handed_over(tmp_path: Path) -> None:
    """A stream that is a file of the system is the command's own, and what was written to it before comes first."""
    (tmp_path / "in").write_bytes(b"given\n")
    with (tmp_path / "in").open("rb") as given, (tmp_path / "out").open("wb") as out:
        out.write(b"before\n")
        run(["sh", "-c", "cat; readlink /proc/self/fd/1"], stdin=given, stdout=out)
    assert (tmp_path / "out").read_bytes() == f"before\ngiven\n{tmp_path / 'out'}\n".encode()


def test_both_streams_into_one() -> None:
    """Both outputs may go to one writer."""
    both = io.BytesIO()
    shell("echo a; echo b >&2", stdout=both, stderr=both)
    assert sorted(both.getvalue().split()) == [b"a", b"b"]


# --- nothing is left ----------------------------------------------------------------------------------------------------------


def test_the_caller_s_own_children_are_left_alone() -> None:
    """A child that callstats did not start is neither killed nor reaped, and the subreaper is as it was."""
    with started(["sh", "-c", "read line; exit 5"], stdin=subprocess.PIPE) as own:
        shell("(sleep 60 &); sleep 0.1")
        assert own.poll() is None
        own.communicate(b"end\n", timeout=PATIENCE)
        assert own.returncode == 5
    on = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(37, ctypes.byref(on), 0, 0, 0)
    assert on.value == 0


PROGRAM = """
import sys, threading, time
from callstats.drivers import ProcessDriver, Task
task = Task(command=["sh", "-c", sys.argv[1]])
cookie = ProcessDriver().prepare(task)
run = cookie.run()
print("runs", flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["sys.exit(3)", "raise SystemError", "import os; os._exit(0)", "run.wait()"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_program(then: str, number: signal.Signals) -> None:
    """However a program that runs a task ends, by SIGKILL too, the whole tree ends with it: the group, and who has left it."""
    mark = uuid4().hex
    script = f"(sleep 60; : {mark}) & (setsid sh -c 'sleep 60; : {mark}' &) ; sleep 60; : {mark}"
    command = [sys.executable, "-c", PROGRAM.format(then=then), script]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"runs\n"
        program.stdout.close()
        if "wait" in then:
            deadline = monotonic() + PATIENCE
            while len(marked(mark)) < 4 and monotonic() < deadline:  # the program's own is one
                sleep(0.02)
            program.send_signal(number)
        program.wait(PATIENCE)
    assert gone(mark)


def test_a_fork_of_a_fork_of_a_fork() -> None:
    """A tree that goes on forking while it is killed is killed all the same."""
    mark = uuid4().hex
    result, _ = shell(f"f() {{ sleep 0.01; : {mark}; (f &) }}; (f &); (f &); sleep 0.3; exit 0")
    assert result.status is Status.SUCCESS and gone(mark)


def test_no_zombies_of_a_command_that_leaves_many(tmp_path: Path) -> None:
    """Processes that callstats inherits are reaped while the command runs, each at the latest by the sample after its end."""
    mine = {child.pid for child in psutil.Process().children()}
    seen: list[set[tuple[int, float]]] = []

    def look(_time: int, _metrics: dict[str, int]) -> None:
        left = set()
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.pid not in mine and child.status() == psutil.STATUS_ZOMBIE:
                    left.add((child.pid, child.create_time()))
        seen.append(left)
        if not left and (tmp_path / "all").exists():
            (tmp_path / "enough").touch()

    script = """
        i=0; while [ $i -lt 100 ]; do (true &); i=$((i + 1)); done
        : > all; until [ -e enough ]; do sleep 0.05; done
    """
    task = Task(command=["sh", "-c", script], write_stat=look, work_dir=str(tmp_path), timeout=PATIENCE)
    with ProcessDriver(0.05).prepare(task) as cookie:
        assert cookie.run().wait().status is Status.SUCCESS, seen
    assert not any(before & after for before, after in pairwise(seen))


def test_exit_codes_are_not_lost() -> None:
    """A program that ignores SIGCHLD, or waits for any child, takes the command's exit code: an error, and not a success."""
    with ignored(signal.SIGCHLD), pytest.raises(DriverError, match=r"^SIGCHLD must not be ignored, "):
        ProcessDriver().prepare(Task(command=["true"]))
    program = """
import os
from callstats.drivers import DriverError, ProcessDriver, Task
run = ProcessDriver(0.05).prepare(Task(command=["sh", "-c", "sleep 0.2; exit 3"])).run()
os.waitpid(run._process.pid, 0)
try:
    run.wait()
except DriverError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == "the exit code of the command is lost: another part of this program waited for the process\n"
