"""What may happen to a recorded process: for each fault the exit code, what is stored, and that nothing is left running."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest

from callstats import CallstatsError, connect
from callstats.drivers import ProcessDriver, Status, Task
from support.forked import callstats
from support.programs import PATIENCE, gone
from support.signals import ignored

# The command leaves a process behind, and ends with exit code 7 or as said.
SCRIPT = "(sleep 600; : {mark}) & {then}"


def stored(path: Path) -> list[tuple[str, int | None, int]]:
    """Return the status, the exit code and the number of samples of each call in a table."""
    with connect(str(path)) as table:
        calls = [table.get(call.key) for call in table.list(limit=10)]
    return [(call.status, call.exit_code, int(call.series.counts.sum())) for call in calls]


def record(path: Path, script: str, *options: str, ignores: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [callstats(), "record", "--db", str(path), "--interval", "50ms", *options]
    environment = {**os.environ, "XDG_STATE_HOME": str(path.parent.parent / "state")}
    with ignored(*ignores):
        return subprocess.Popen(
            [*command, "--", "sh", "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def finish(program: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit code and the errors."""
    with program:
        try:
            _, errors = program.communicate(timeout=4 * PATIENCE)
        except BaseException:
            program.kill()
            raise
    return program.returncode, errors.decode()


# --- the command --------------------------------------------------------------------------------------------------------------

ENDS = {
    "sigchld ignored": ("sleep 0.2; exit 7", ("error", 7)),
    "environment cleared": ("env -i setsid sh -c 'sleep 600; : {mark}' & sleep 0.2; exit 7", ("error", 7)),
    "stopped and continued": ("(sleep 0.3; kill -CONT $$) & kill -STOP $$; exit 7", ("error", 7)),
    "killed": ("sleep 0.2; kill -KILL $$", ("killed", 137)),
    "its parent ignores it": ("trap '' CHLD; sleep 0.2; exit 7", ("error", 7)),
    "success": ("sleep 0.2", ("success", 0)),
}


@pytest.mark.parametrize("fault", ENDS)
def test_the_command(fault: str, tmp_path: Path) -> None:
    """The exit code is the command's own, it is stored with samples, and all that it left ends."""
    mark = uuid4().hex
    then, end = ENDS[fault]
    ignores = (signal.SIGCHLD,) if fault == "sigchld ignored" else ()
    program = record(tmp_path / "x.db", SCRIPT.format(mark=mark, then=then.format(mark=mark)), ignores=ignores)
    code, errors = finish(program)
    assert code == end[1], errors
    ((*found, samples),) = stored(tmp_path / "x.db")
    assert (*found,) == end and samples >= 2
    assert gone(mark, 5)


def _is_in(path: Path) -> bool:
    with suppress(CallstatsError):  # the table is not made yet
        return bool(stored(path))
    return False


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this test needs to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("fault", ["disk full", "database locked", "database gone", "read-only"])
def test_the_database_at_the_end(fault: str, tmp_path: Path) -> None:
    """A call whose end can't be stored is in the spool, beside the database or elsewhere, or on standard error."""
    mark = uuid4().hex
    with ExitStack() as after:
        disk = after.enter_context(small_disk(tmp_path / "disk") if fault == "disk full" else nullcontext(tmp_path / "disk"))
        disk.mkdir(exist_ok=True)
        path, go = disk / "x.db", tmp_path / "go"
        program = record(path, SCRIPT.format(mark=mark, then=f"until [ -e {go} ]; do sleep 0.05; done; exit 7"))
        after.callback(program.kill)  # a test that fails leaves nothing behind
        deadline = monotonic() + 2 * PATIENCE
        while not (path.exists() and _is_in(path)) and monotonic() < deadline:
            sleep(0.1)
        with closing(sqlite3.connect(path)) as other:
            if fault == "disk full":
                with suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
                    while True:
                        rest.write(bytes(4096))
            elif fault == "database locked":
                other.execute("BEGIN EXCLUSIVE")
            elif fault == "database gone":
                path.unlink()
                path.mkdir()
            elif subprocess.run(["chattr", "+i", str(disk)], capture_output=True, check=False).returncode:
                program.kill()
                pytest.skip("this test needs a folder that nobody can write to")
            go.touch()
            try:
                code, errors = finish(program)
            finally:
                subprocess.run(["chattr", "-i", str(disk)], capture_output=True, check=False)
        assert code == 7, errors
        spools = [path.with_name("x.db.spool.jsonl"), tmp_path / "state" / "callstats" / "spool.jsonl"]
        lines = "".join([errors, *(spool.read_text() for spool in spools if spool.exists())])
        (call,) = [json.loads(line) for line in lines.splitlines() if line.startswith('{"callstats":"call"')]
        assert (call["call"]["status"], call["call"]["exit_code"]) == ("error", 7)
        taken = tmp_path / "taken.jsonl"
        taken.write_text(json.dumps(call, separators=(",", ":")) + "\n")
    again = tmp_path / "again.db"
    with connect(str(again)) as table:
        table.create()
    subprocess.run([callstats(), "import", str(again), str(taken)], capture_output=True, check=True)
    ((*found, samples),) = stored(again)
    assert found == ["error", 7] and samples >= 1
    assert gone(mark, 5)


# --- a library host -----------------------------------------------------------------------------------------------------------

MEANWHILE = """
signal.signal(signal.SIGALRM, lambda *_: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
def on_stat(*_):
    os.kill(os.getpid(), signal.SIGALRM)  # the main thread handles it
"""
HOST = """
import os, signal, sys, threading, time
from callstats import connect
from callstats.drivers import DriverError
from callstats.drivers._record import record
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.01)
def on_stat(*_):
    pass
def fork():
    time.sleep(0.3)
    if os.fork() == 0:
        sys.exit(5)
{before}
with connect(sys.argv[1]) as table:
    table.create()
    try:
        call = record(["sh", "-c", sys.argv[2]], interval=0.05, on_stat=on_stat, into=table)
        print(call.status, call.exit_code)
    except DriverError as error:
        print("DriverError", error.call.exit_code)
"""
FAULTS = {
    "sigchld ignored before": ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "DriverError None", ("error", None)),
    "sigchld ignored meanwhile": (MEANWHILE, "DriverError None", ("error", None)),
    "foreign reaper": ("threading.Thread(target=reap, daemon=True).start()", "DriverError None", ("error", None)),
    "host forks and exits": ("threading.Thread(target=fork).start()", "success 0", ("success", 0)),
    "no fault": ("", "success 0", ("success", 0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_library_host(fault: str, tmp_path: Path) -> None:
    """A lost exit code is an error of the driver, and never success. The samples are stored all the same."""
    mark = uuid4().hex
    before, printed, end = FAULTS[fault]
    script = SCRIPT.format(mark=mark, then="sleep 0.6")
    command = [sys.executable, "-c", HOST.format(before=before), str(tmp_path / "x.db"), script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=4 * PATIENCE)
    assert done.stdout.strip() == printed, done.stderr
    ((*found, samples),) = stored(tmp_path / "x.db")
    assert (*found,) == end
    assert samples >= 2 or fault == "sigchld ignored before"  # nothing ran then
    assert gone(mark, 5)


def test_twins_with_one_id() -> None:
    """Each of two tasks with one id has its own end, and what it left ends with it."""
    marks = {code: uuid4().hex for code in (5, 6)}
    codes: dict[int, int | None] = {}

    def work(code: int) -> None:
        script = SCRIPT.format(mark=marks[code], then=f"sleep 0.{code}; exit {code}")
        with ProcessDriver(0.05).prepare(Task(id="twin", command=["sh", "-c", script])) as cookie:
            error = cookie.run().wait().error
            codes[code] = None if error is None else error.exit_code

    threads = [threading.Thread(target=work, args=(code,)) for code in marks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {5: 5, 6: 6} and all(gone(mark, 5) for mark in marks.values())


def test_a_number_that_is_used_again(tmp_path: Path) -> None:
    """A process that has the number of one that the task had, and that has exited, lives on."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not os.access(last, os.W_OK):
        pytest.skip("this process may not choose the number of the next one")
    out, over = io.BytesIO(), threading.Event()
    task = Task(command=["sh", "-c", "sleep 0.3 & echo $!; wait; sleep 600"], stdout=out)
    with ProcessDriver(0.05).prepare(task) as cookie:
        run = cookie.run()
        deadline = monotonic() + PATIENCE
        while not out.getvalue() and monotonic() < deadline:
            sleep(0.02)
        number = int(out.getvalue())
        while Path(f"/proc/{number}").exists() and monotonic() < deadline:
            sleep(0.02)
        for _ in range(200):
            last.write_text(str(number - 1))
            other = subprocess.Popen(["sleep", "600"], start_new_session=True)
            if other.pid == number:
                break
            other.kill()
            other.wait()
        else:
            pytest.skip("other processes took the number each time")
        over.set()
        assert run.wait(cancel=over).status is Status.CANCELLED
    assert other.poll() is None
    other.kill()
    other.wait()
