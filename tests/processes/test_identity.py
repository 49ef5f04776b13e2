"""Whose process is whose: all that is the task's ends with it, and nothing else is killed, reaped or counted."""

from __future__ import annotations

import io
import os
import pwd
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psutil
import pytest

from callstats.drivers import DriverError, ProcessDriver, RunResult, Status, Task
from callstats.drivers.process import tree
from callstats.drivers.process.procfs import Process, read_process
from support.programs import PATIENCE, burn, gone, marked, started
from support.recorded import run, shell

MIB = 2**20


@contextmanager
def bystander(**env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that lives as long as the block, in a session of its own, and with more variables."""
    with started(["sleep", "600"], env={**os.environ, **env}, start_new_session=True) as process:
        yield process
        assert process.poll() is None, "the bystander has ended"
        process.kill()


@pytest.mark.parametrize("name", ["a", "", "sleep", "tests"])
@pytest.mark.parametrize("ending", ["exit 0", "sleep 60"])
def test_a_bystander_whose_environment_holds_the_id(name: str, ending: str) -> None:
    """A task is known by a private mark, so an id that others have as a word or a part of one means nothing."""
    with bystander(NOTE=f"this is {name}", CALLSTATS_TASK=name or "a:b", A=name):
        task = Task(id=name, command=["sh", "-c", ending], timeout=0.4)
        with ProcessDriver(0.05).prepare(task) as cookie:
            assert cookie.run().wait().status in (Status.SUCCESS, Status.TIMEOUT)


HOST = """
import sys, time
from callstats.drivers import ProcessDriver, Task
cookie = ProcessDriver(0.05).prepare(Task(id=sys.argv[1], command=["sh", "-c", sys.argv[2]]))
run = cookie.run()
print("runs", flush=True)
{then}
"""


@pytest.mark.parametrize("name", ["a", ""])
def test_the_recorder_is_killed(name: str) -> None:
    """Only the task ends with a recorder that is killed."""
    mark = uuid4().hex
    script = f"(setsid sleep 600 {mark} &) ; (sleep 600; : {mark}) & sleep 600; : {mark}"
    with bystander(NOTE=f"{name} CALLSTATS_TASK={name}", CALLSTATS_TASK=name or "x"):
        command = [sys.executable, "-c", HOST.format(then="run.wait()"), name, script]
        with started(command, stdout=subprocess.PIPE) as host:
            assert host.stdout is not None and host.stdout.readline() == b"runs\n"
            sleep(0.3)
            host.kill()
            host.wait()
        assert gone(mark)


def test_two_tasks_with_one_id() -> None:
    """Each has its own exit code, and the end of one leaves the other as it is."""
    results: dict[int, RunResult] = {}

    def work(code: int) -> None:
        task = Task(id="twin", command=["sh", "-c", f"(sleep 60 &); sleep 0.{code}; exit {code}"])
        with ProcessDriver(0.05).prepare(task) as cookie:
            results[code] = cookie.run().wait()

    threads = [threading.Thread(target=work, args=(code,)) for code in (5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[code].error and results[code].error.exit_code for code in (5, 8)] == [5, 8]


FORKS = """
import os, sys, time
from callstats.drivers import DriverError, ProcessDriver, Task
with ProcessDriver(0.05).prepare(Task(command=["sh", "-c", "sleep 1; exit 7"])) as cookie:
    run = cookie.run()
    child = os.fork()
    if child == 0:
        try:
            run.wait()
        except DriverError as error:
            print(error, flush=True)
        {end}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    print(run.wait(), flush=True)
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)", "cookie.close(); sys.exit(3)"])
def test_the_host_forks(end: str) -> None:
    """A fork of the host that exits, however it does, leaves its parent's task as it is. It can't wait for it."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS.format(end=end)], capture_output=True, text=True, check=False, timeout=3 * PATIENCE
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "wait() must be called in the process that ran the cookie, got a fork of it"
    assert "exit code 7" in lines[1] and len(lines) == 2, done.stderr


def test_the_host_is_killed_while_a_fork_of_it_lives() -> None:
    """The task ends with the host, though a fork has the host's pipes."""
    mark = uuid4().hex
    then = "import os, signal\nif os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\ntime.sleep(0.3)\nos.kill(os.getpid(), 9)"
    command = [sys.executable, "-c", HOST.format(then=then), "x", f"sleep 600; : {mark}"]
    with started(command, stdout=subprocess.DEVNULL, start_new_session=True) as host:
        host.wait(PATIENCE)
        try:
            deadline = monotonic() + 10
            while any("sleep" in process.name() or process.name() == "sh" for process in marked(mark)) and monotonic() < deadline:
                sleep(0.05)
            assert not [process for process in marked(mark) if process.name() in ("sh", "sleep")]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "loss",
    [
        "import os\nwhile os.waitpid(-1, 0)[0] != run._command.pid: pass",
        "import os\nos.waitpid(run._command.pid, 0)",
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    ],
    ids=["waitpid of any", "waitpid of it", "SIGCHLD ignored"],
)
def test_a_lost_exit_code(loss: str) -> None:
    """Another part of the program that waits for the command takes its exit code: an error, and never a success."""
    then = f"""
from callstats.drivers import DriverError
{loss}
try:
    run.wait()
except DriverError as error:
    print(error)
"""
    command = [sys.executable, "-c", HOST.format(then=then), "x", "sleep 0.3; exit 0"]
    for _ in range(20):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * PATIENCE)
        if "ChildProcessError" not in done.stderr:  # else the driver was faster, and nothing is lost
            break
    assert "the exit code of the command is lost" in done.stdout, done.stderr


# --- orphans ------------------------------------------------------------------------------------------------------------------

HOLDER = 'sh -c "dd if=/dev/zero bs=90M 2>/dev/null | sleep 600; : {mark}"'


@pytest.mark.parametrize("by", ["", "su nobody -s /bin/sh -c "], ids=["own", "su"])
def test_an_orphan_with_a_cleared_environment_and_a_session_of_its_own(by: str) -> None:
    """In the command every new child is the task's: it ends with the call, and its memory counts."""
    if by and (os.getuid() != 0 or "nobody" not in {user.pw_name for user in pwd.getpwall()}):
        pytest.skip("needs root, to become another user")
    mark = uuid4().hex
    orphan = f"env -i setsid {HOLDER.format(mark=mark)} >/dev/null 2>&1 &"
    script = f"{by}{_quoted(orphan)}; sleep 600" if by else f"{orphan} sleep 600"
    command = [sys.executable, "-c", ADOPTING, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, check=True)
    assert done.stdout == "cancelled\n", done.stderr  # once it was seen
    assert gone(mark, 5)


ADOPTING = """
import sys, threading
from callstats.drivers import ProcessDriver, Task
over = threading.Event()
def look(_time, metrics):
    if metrics.get("mem_usage", 0) > 90 * 2**20:
        over.set()
task = Task(command=["sh", "-c", sys.argv[1]], write_stat=look, timeout=60)
with ProcessDriver(0.1, adopts=True).prepare(task) as cookie:
    print(cookie.run().wait(cancel=over).status)
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_children_from_before_the_task_are_not_adopted() -> None:
    """A child that the recorder had before, as from a shell that became it, lives on. So does its recording's helper."""
    mark = uuid4().hex
    command = [
        "sh",
        "-c",
        f"sh -c 'sleep 600; : {mark}' >/dev/null 2>&1 & exec \"$@\"",
        "x",
        sys.executable,
        "-c",
        ADOPTING,
        "exit 0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, check=True)
    assert done.stdout.startswith("success") and len(marked(mark)) == 1
    for process in marked(mark):
        for each in [process, *process.children()]:  # the shell ends with its child
            each.kill()


def test_an_orphan_that_was_seen_in_a_library() -> None:
    """In a library host a child that the tree was seen to have is the task's, with whatever environment."""
    mark = uuid4().hex
    script = f"(env -i setsid sh -c 'sleep 600; : {mark}' & sleep 0.5); sleep 0.3"
    shell(script, 0.05)
    assert gone(mark, 5)


def test_a_zombie_s_cpu_counts(tmp_path: Path) -> None:
    """An orphan that exits is reaped at once, and its CPU counts."""
    _, series = shell(f"(({burn(0.4)}; : > done) &); until [ -e done ]; do sleep 0.05; done", 0.05, work_dir=str(tmp_path))
    assert 0.4e9 <= series["cpu_time@last"].max() < 0.8e9
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def test_a_number_that_is_used_again() -> None:
    """A signal goes to the process with this number and this start time, and to no later one with its number."""
    with bystander() as other:
        process = read_process(other.pid)
        assert process is not None
        tree.send(process._replace(started=process.started - 1), signal.SIGKILL)
        sleep(0.1)
        assert other.poll() is None
    family = tree.Tree("no mark")
    family._seen = {other.pid: 1.0}  # by an earlier process
    assert not any(each.pid == other.pid for each in family.members())


def test_strangers_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the tree reads its own processes, and of all others the list alone."""
    reads: list[int] = []

    def read(pid: int) -> Process | None:
        reads.append(pid)
        return read_process(pid)

    with started(["sh", "-c", "sleep 600 & sleep 600"]) as other:
        family = tree.Family(other.pid)
        deadline = monotonic() + PATIENCE
        while len(family.members()) < 3 and monotonic() < deadline:
            sleep(0.01)
        monkeypatch.setattr("callstats.drivers.process.procfs.read_process", read)
        members = family.members()
        assert len(members) == 3 and {each.pid for each in members} <= set(reads)
        assert len(reads) < len(psutil.pids()) / 2
        for each in members:
            os.kill(each.pid, signal.SIGKILL)


def test_stopped_and_continued() -> None:
    """A task that is stopped for a while goes on, and its duration includes the pause."""
    out = io.BytesIO()
    result, series = run(["sh", "-c", "(sleep 0.4; kill -CONT $$) & kill -STOP $$; echo on; exit 4"], stdout=out)
    assert result.error is not None and result.error.exit_code == 4 and out.getvalue() == b"on\n"
    assert len(series) > 2


def test_no_descriptor_of_the_recorder_reaches_the_command(tmp_path: Path) -> None:
    """The command inherits its three streams, and no pipe of the recorder."""
    with (tmp_path / "open").open("wb"):
        out = io.BytesIO()
        shell("ls /proc/$$/fd", stdout=out)
    assert out.getvalue().split() == [b"0", b"1", b"2"]


def test_the_driver_rejects_what_it_can_not_wait_for() -> None:
    """A host that ignores SIGCHLD from the start is rejected before anything runs."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(DriverError, match="SIGCHLD must not be ignored"):
            ProcessDriver().prepare(Task(command=["true"]))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_fork_of_the_host_that_lives() -> None:
    """It holds none of its parent's pipes: the command's input ends, and so does the wait for its output."""
    program = """
import io, os, signal, threading
from callstats.drivers import ProcessDriver, Task
class Late(io.BytesIO):
    def read(self, size=-1):
        forked.wait()
        return super().read(size)
forked, out = threading.Event(), io.BytesIO()
with ProcessDriver(0.05).prepare(Task(command=["cat"], stdin=Late(b"all"), stdout=out, timeout=20)) as cookie:
    run = cookie.run()
    child = os.fork()
    if child == 0:
        signal.pause()
    forked.set()
    print(run.wait().status.value, out.getvalue().decode())
    os.kill(child, signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "success all\n"


def test_no_thread_for_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread can't start, `run` raises, the command ends, and no pipe is left open."""
    before, begin = psutil.Process().num_fds(), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == failing:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for failing in ("callstats-output", "callstats-input", "callstats-exit", "callstats-process"):
        mark = uuid4().hex
        task = Task(command=["sh", "-c", f"cat; : {mark}"], stdin=io.BytesIO(b"x"), stdout=io.BytesIO(), stderr=io.BytesIO())
        with ProcessDriver(0.05).prepare(task) as cookie, pytest.raises(RuntimeError, match="new thread"):
            cookie.run()
        assert not marked(mark) and psutil.Process().num_fds() <= before, failing


def test_a_fork_while_streams_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host has closed by then, a fork does not close again."""
    closed: list[int] = []
    close = os.close

    def closing(number: int) -> None:
        close(number)
        if any("_close_stop" in frame.name for frame in traceback.extract_stack()):
            closed.append(number)
            cookie._streams.disown()  # as in a fork

    cookie: Any = ProcessDriver(0.05).prepare(Task(command=["true"], stdout=io.BytesIO()))
    monkeypatch.setattr(os, "close", closing)
    with cookie:
        assert cookie.run().wait().status is Status.SUCCESS
    assert len(closed) == 2
