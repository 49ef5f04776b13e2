"""ProcessDriver: the whole tree of a command, measured, limited, and ended whatever happens."""

from __future__ import annotations

import ctypes
import io
import os
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
from callstats.drivers.process.tree import Tree
from support.programs import PATIENCE, burn, gone, marked, started
from support.signals import ignored

MIB = 2**20
SECOND = 10**9


def run(command: list[str], interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """Run a command from end to end."""
    recorder = Recorder(None)
    with ProcessDriver(interval).prepare(Task(command=command, write_stat=recorder.write_stat, **fields)) as cookie:
        result = cookie.run().wait()
    return result, recorder.end()


def shell(script: str, interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """Run a script from end to end."""
    return run(["sh", "-c", script], interval, **fields)


def shown(script: str, interval: float, enough: Callable[[list[tuple[int, dict[str, int]]]], bool]) -> list[Any]:
    """Return the samples of a script that runs until they show enough, also on a busy machine."""
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
    """Return seconds of a core by the samples of a command that started at this time."""
    shown = series[:-1]  # what the closing sample tells may be of the interval before, too
    edges = [began, *shown.timestamps.tolist()]
    seconds = [(b - a) / SECOND for a, b in pairwise(edges)]
    return sum(percent * time for percent, time in zip(shown["cpu_total"].tolist(), seconds, strict=True)) / 100


# --- what is measured ---------------------------------------------------------------------------------------------------------


def test_300_megabytes_for_three_seconds() -> None:
    """The samples show 300 MB that a command holds for three seconds, within 5 %."""
    program = "x = bytearray(300_000_000)\nimport time; time.sleep(3)"
    _, series = run(["env", "-u", "LD_PRELOAD", sys.executable, "-S", "-c", program], 0.1)  # a sanitizer needs memory too
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
    """The samples have the processor use of exited processes, whichever process reaped them."""
    program = burn(0.5)
    began = time_ns()
    _, series = shell(script.format(burn=program, burn2=program.replace("'", '"')), work_dir=str(tmp_path))
    assert 0.4 <= busy(series, began) <= 1.2


def test_memory_of_the_whole_tree() -> None:
    """Memory is that of all processes, also of those that left the group and their parents."""
    hold = f'{sys.executable} -S -c "x = bytearray(60_000_000)\nimport time; time.sleep(99)"'
    assert shown(f"{hold} & (setsid {hold} &); wait", 0.05, lambda samples: samples[-1][1].get("mem_usage", 0) > 120_000_000)


def test_a_sample_every_ten_milliseconds() -> None:
    """The interval may be as short as 10 ms."""

    def close_together(samples: list[tuple[int, dict[str, int]]]) -> bool:
        gaps = sorted(later - time for (time, _), (later, _) in pairwise(samples))
        return len(gaps) >= 25 and gaps[2] < 20_000_000 and gaps[24] < 100_000_000  # a busy machine takes longer now and then

    samples = shown("sleep 99", 0.01, close_together)
    names = {"cpu_kernel", "cpu_time@last", "cpu_total", "cpu_user", "disk_read", "disk_write", "mem_usage"}
    assert {*samples[0][1]} - {"mem_usage@max"} == names


def test_two_at_once() -> None:
    """Tasks that run at the same time have their own samples, also of their orphans."""
    sizes = {40_000_000, 160_000_000}
    seen: dict[int, list[Any]] = {}
    reached: set[int] = set()

    def sample(size: int) -> None:
        def enough(samples: list[tuple[int, dict[str, int]]]) -> bool:
            if samples[-1][1].get("mem_usage", 0) > size:
                reached.add(size)
            return reached == sizes

        program = f"{sys.executable} -S -c 'x = bytearray({size}); import time; time.sleep(99)'"
        seen[size] = shown(f"({program} &); sleep 99", 0.05, enough)

    threads = [threading.Thread(target=sample, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.keys() == sizes
    for size, samples in seen.items():
        assert size < max(metrics.get("mem_usage", 0) for _, metrics in samples) < size + 40_000_000


def test_watch() -> None:
    """`watch` samples the running process, once more at the block's end."""
    with watch(0.05) as recorder:
        data = bytearray(50 * MIB)
        sleep(0.3)
    series = recorder.end()
    assert len(series) >= 2 and int(series["mem_usage"].max()) > len(data)
    with watch(100) as recorder:
        pass
    assert len(recorder.end()) == 1


# --- limits -------------------------------------------------------------------------------------------------------------------


def test_the_memory_limit_is_checked_every_50_ms() -> None:
    """A tree that exceeds its memory is killed at once, whatever the interval. The sample that shows it is kept."""
    started = monotonic()
    result, series = shell(
        f"{sys.executable} -S -c 'x = bytearray(200 * 2**20); import time; time.sleep(60)'", 30, memory=64 * MIB
    )
    assert result.status is Status.KILLED and "of memory, more than its limit of 64 MiB" in str(result.error)
    assert monotonic() - started < 20  # long before the first sample was due
    assert series["mem_limit"].tolist() == [64 * MIB] * 2 and int(series["mem_usage"][0]) > 64 * MIB  # and the closing sample


def test_killed_by_somebody_else() -> None:
    """A command that SIGKILL ended has status killed: the kernel sends it when memory runs out."""
    result, _ = shell("kill -KILL $$")
    assert result.status is Status.KILLED
    assert result.error is not None and result.error.exit_code == 137


# --- what is rejected ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0.009, 0, -1, float("nan"), float("inf"), True, "1"])
def test_a_rejected_interval(interval: Any) -> None:
    """An interval is 10 ms or more."""
    with pytest.raises(CallstatsError, match=r"interval must be 0\.01 seconds or more, got "):
        ProcessDriver(interval)


@pytest.mark.parametrize("fields", [{}, {"command": ["true"], "volumes": [("/tmp", "/data")]}])
def test_a_rejected_task(fields: Any) -> None:
    """A task that no process can run is rejected before anything runs."""
    with pytest.raises(DriverError, match=r"^(command|volumes) must "):
        ProcessDriver().prepare(Task(**fields))


def test_commands_that_can_not_run() -> None:
    """A missing work dir, and a NUL in an argument, are errors of the task and not of the driver."""
    for fields, why in (
        ({"command": ["true"], "work_dir": "/no/such"}, "'true': No such file or directory: '/no/such'"),
        ({"command": ["echo", "a\0b"]}, "'echo': embedded null byte"),
    ):
        result, _ = run(**fields)
        assert result.status is Status.ERROR and result.error is not None and result.error.exit_code == 126
        assert str(result.error) == f"can't run {why}"


def test_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux need psutil. The error names the package and its extra, in one line."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert run(["true"])[0].status is Status.SUCCESS
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(
        ImportError, match=r'^callstats\.drivers\.ProcessDriver needs psutil: install callstats with the extra "process"$'
    ):
        ProcessDriver().prepare(Task(command=["true"]))
    with pytest.raises(ImportError, match=r"callstats\.drivers\.watch needs psutil"), watch():
        pass


def test_a_writer_that_raises() -> None:
    """An error of the task's own writer comes out of wait(), and ends the command."""

    def fail(_time: int, _metrics: dict[str, int]) -> None:
        raise RuntimeError("no more room")

    mark = uuid4().hex
    task = Task(command=["sh", "-c", f"sleep 60; : {mark}"], write_stat=fail)
    with ProcessDriver(0.05).prepare(task) as cookie, pytest.raises(RuntimeError, match="no more room"):
        cookie.run().wait()
    assert gone(mark)


# --- streams ------------------------------------------------------------------------------------------------------------------


def test_files_are_handed_over(tmp_path: Path) -> None:
    """The command gets a real file itself, after earlier writes to it."""
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


def test_an_output_that_can_not_be_written() -> None:
    """An error of the task's own output stream comes out of wait(), and ends the command."""

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise RuntimeError("no more room")

    mark = uuid4().hex
    task = Task(command=["sh", "-c", f"echo out; sleep 60; : {mark}"], stdout=Full())
    with ProcessDriver().prepare(task) as cookie, pytest.raises(RuntimeError, match="no more room"):
        cookie.run().wait()
    assert gone(mark)


# --- nothing is left ----------------------------------------------------------------------------------------------------------


def test_the_caller_s_own_children_stay() -> None:
    """A child that callstats did not start is neither killed nor reaped. The subreaper is restored."""
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
    """The whole tree ends with the program that runs it, however that ends: the group, and processes that left it."""
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
    """A tree that continues to fork while it is killed ends too."""
    mark = uuid4().hex
    result, _ = shell(f"f() {{ sleep 0.01; : {mark}; (f &) }}; (f &); (f &); sleep 0.3; exit 0")
    assert result.status is Status.SUCCESS and gone(mark)


def test_no_zombies_of_a_command_that_leaves_many(tmp_path: Path) -> None:
    """Processes that callstats inherits are reaped while the command runs, each by the next sample."""
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


def test_exit_codes_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores SIGCHLD, or waits for any child, loses the exit code: an error, and not a success."""
    with ignored(signal.SIGCHLD), pytest.raises(DriverError, match=r"^SIGCHLD must not be ignored, "):
        ProcessDriver().prepare(Task(command=["true"]))
    reap = Tree.reap_root

    def reap_what_is_gone(tree: Tree) -> int | None:
        os.waitpid(tree._root, 0)  # by another part of this program, which was faster
        return reap(tree)

    monkeypatch.setattr(Tree, "reap_root", reap_what_is_gone)
    with pytest.raises(DriverError, match=r"^the exit code of the command is lost: another part of this program waited for the"):
        ProcessDriver(0.05).prepare(Task(command=["sh", "-c", "exit 3"])).run().wait()
