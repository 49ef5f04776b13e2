"""Parts of the process driver by themselves: what the kernel's texts mean, and what is known of processes that are gone."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers import Status
from callstats.drivers._run import TaskRun, next_due
from callstats.drivers.process import launch, procfs
from callstats.drivers.process.tree import Tree, Used
from support.programs import started

linux = pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")


@linux
def test_a_line_of_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of a process is its own; its times have those of the children that it has waited for."""
    fields = ["S", *map(str, range(1001, 1051))]
    for at, number in ((11, 1), (12, 20), (13, 300), (14, 4000)):  # user, kernel, and the same of children
        fields[at] = str(number * procfs._TICKS)
    text = f"7 (a) (b c) ) {' '.join(fields)}\n".encode()
    monkeypatch.setattr(procfs, "_read", lambda pid, name: text if (pid, name) == (7, "stat") else None)
    assert procfs.read_process(7) == procfs.Process(
        pid=7,
        parent=1001,
        group=1002,
        session=1003,
        started=1019,
        zombie=False,
        user=301,
        kernel=4020,
        child_faults=1008,
        rss=1021 * procfs._PAGE_BYTES,
    )
    for letter, zombie in (("Z", True), ("X", True), ("R", False)):
        text = text.replace(b") " + text[text.rindex(b")") + 2 :][:1], f") {letter}".encode())
        found = procfs.read_process(7)
        assert found is not None
        assert found.zombie is zombie


def said(monkeypatch: pytest.MonkeyPatch, name: str, text: bytes | None) -> None:
    """Let the kernel say this of process 7."""
    monkeypatch.setattr(procfs, "_read", lambda pid, file: text if (pid, file) == (7, name) else b"wrong file")


@linux
def test_what_proc_tells_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size and its peak, which may be the older number of both; a zombie has none."""
    text = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    {} kB\nVmRSS:\t    {} kB\nThreads:\t1\nSigBlk:\t{}\nSigIgn:\t{}\nSigCgt:\t{}\n"
    signals = 16 * "f", "0000000000010000", 16 * "f"
    said(monkeypatch, "status", text.format(12, 10, *signals).encode())
    assert procfs.read_status(7) == (10 * 1024, 12 * 1024, True)
    said(monkeypatch, "status", text.format(12, 13, signals[0], "fffffffffffeffff", signals[2]).encode())
    assert procfs.read_status(7) == (13 * 1024, 13 * 1024, False)
    for nothing in (b"", None, b"Name:\tx\nState:\tZ (zombie)\nSigIgn:\t0000000000010000\n"):
        said(monkeypatch, "status", nothing)
        assert procfs.read_status(7) is None


@linux
def test_what_proc_tells_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that went to and from it; nothing once the process is gone, and unknown where that may not be read."""
    said(monkeypatch, "io", b"rchar: 1\nwchar: 2\nread_bytes: 345\nwrite_bytes: 6789\ncancelled_write_bytes: 5\n")
    assert procfs.read_disk(7) == (345, 6789)
    said(monkeypatch, "io", b"")
    assert procfs.read_disk(7) == (0, 0)
    said(monkeypatch, "io", None)
    assert all(value != value for value in procfs.read_disk(7))


@linux
def test_what_proc_tells_of_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proportional share alone; 0 once the process is gone, unknown where that may not be read or the kernel is old."""
    monkeypatch.setattr(procfs, "_HAS_SHARES", True)
    said(monkeypatch, "smaps_rollup", b"5-7 ---p 00 [rollup]\nRss:   9 kB\nPss:    345 kB\nPss_Dirty:   7 kB\nSwapPss:  8 kB\n")
    assert procfs.read_share(7) == 345 * 1024
    said(monkeypatch, "smaps_rollup", b"")
    assert procfs.read_share(7) == 0
    said(monkeypatch, "smaps_rollup", None)
    assert procfs.read_share(7) is None
    said(monkeypatch, "smaps_rollup", b"Pss: 1 kB\n")
    monkeypatch.setattr(procfs, "_HAS_SHARES", False)
    assert procfs.read_share(7) is None


@linux
def test_what_proc_tells_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole name counts. No environment at all is none yet, and one that may not be read has no such variable."""
    said(monkeypatch, "environ", b"XA=1\0AB=2\0A=x=\xff y\0A=3\0")
    assert (procfs.read_environ(7, "A"), procfs.read_environ(7, "B")) == ("x=\ufffd y", "")
    said(monkeypatch, "environ", b"")
    assert procfs.read_environ(7, "A") is None
    said(monkeypatch, "environ", None)
    assert procfs.read_environ(7, "A") == ""


@linux
def test_large_files_of_proc() -> None:
    """An environment longer than a page, and than what one read takes, is read to its end."""
    for size in (4096, 65_536, 120_000):
        value = "x" * size
        with started(["sh", "-c", "echo; read -r x"], env={"A": value, "B": "end"}, stdin=-1, stdout=-1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert (procfs.read_environ(process.pid, "A"), procfs.read_environ(process.pid, "B")) == (value, "end")
            process.kill()
    assert procfs._read(2**22 + 1, "stat") == b"" and procfs.read_process(2**22 + 1) is None


@linux
def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another user's, at once or only when it is read; no descriptor of it stays open."""
    real, opened = os.open, list[int]()

    def open_noted(*arguments: Any) -> int:
        opened.append(real(*arguments))
        return opened[-1]

    def deny(*_: object) -> Any:
        raise PermissionError

    def gone(*_: object) -> Any:
        raise ProcessLookupError

    monkeypatch.setattr(os, "open", open_noted)
    for read, found in ((deny, None), (gone, b"")):
        monkeypatch.setattr(os, "read", read)
        assert procfs._read(os.getpid(), "stat") == found
    for number in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)
    assert len(opened) == 2
    monkeypatch.setattr(os, "open", deny)
    assert procfs._read(os.getpid(), "stat") is None
    monkeypatch.setattr(os, "open", real)
    monkeypatch.setattr(procfs, "_LINUX", False)
    assert procfs._read(2**22 + 1, "stat") is None  # a system without such files


@linux
def test_strangers_are_skipped() -> None:
    """Those that the last look has found, for as long as their numbers are theirs."""
    table, own, parent = procfs.Table(), os.getpid(), os.getppid()
    assert {own, parent} <= table.read().keys()
    table.forget([own, 2**22 + 1])
    assert own not in table.read() and table.skips(own)
    assert parent in table.read() and not table.skips(parent) and not table.skips(2**22 + 1)
    table._strangers[own] += 1  # the folder of an earlier process with this number
    assert own in table.read() and not table.skips(own)


def test_processes_as_psutil_tells_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc: with the times of children where the system tells, and without what it hides."""
    psutil = pytest.importorskip("psutil")
    times = SimpleNamespace(user=1.0, system=2.0)
    facts = {"ppid": 4, "create_time": 9.5, "status": "running", "cpu_times": times, "memory_info": SimpleNamespace(rss=77)}
    with_children = SimpleNamespace(user=1.0, system=2.0, children_user=10.0, children_system=20.0)
    infos = {
        5: facts,
        6: {**facts, "cpu_times": with_children},
        7: {**facts, "status": psutil.STATUS_ZOMBIE},
        8: dict.fromkeys(facts),
    }
    listed = [SimpleNamespace(pid=pid, info=info) for pid, info in infos.items()]
    monkeypatch.setattr(psutil, "process_iter", lambda _names: listed)
    monkeypatch.setattr(procfs, "_LINUX", False)
    assert procfs.Table().read() == {
        5: (5, 4, 0, 0, 9.5, False, 1.0, 2.0, 1, 77),
        6: (6, 4, 0, 0, 9.5, False, 11.0, 22.0, 1, 77),
        7: (7, 4, 0, 0, 9.5, True, 1.0, 2.0, 1, 0),
        8: (8, 0, 0, 0, 0.0, False, 0.0, 0.0, 1, 0),
    }
    assert procfs.read_process(6) == (6, 4, 0, 0, 9.5, False, 11.0, 22.0, 1, 77) and procfs.read_process(9) is None


def test_memory_as_psutil_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc: without a peak, and none of a process that is gone or that this user may not see."""
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(procfs, "_LINUX", False)

    def process(pid: int) -> SimpleNamespace:
        if pid != 7:
            raise psutil.NoSuchProcess(pid) if pid == 8 else psutil.AccessDenied(pid)
        return SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=77))

    monkeypatch.setattr(psutil, "Process", process)
    assert procfs.read_status(7) == (77, 0, False)
    assert procfs.read_status(8) is procfs.read_status(9) is None


@pytest.mark.parametrize(
    ("now", "due"), [(9.5, 10.0), (10.0, 12.0), (10.1, 12.0), (11.9, 12.0), (12.0, 14.0), (17.0, 18.0)], ids=str
)
def test_next_due(now: float, due: float) -> None:
    """The first due time after now, never now itself; missed ones are skipped."""
    assert next_due(10.0, 2.0, now) == due


def test_use_never_falls_below_zero() -> None:
    """What was used since: nothing where nothing was, or where a process has taken its share with it."""
    assert Used(5, 4, 3, 2).minus(Used(5, 1, 4, 2)) == Used(0, 3, 0, 0)
    assert Used(1, 2, 3, 4).at_least(Used(2, 0, 5, 3)) == Used(1, 2, 5, 4)
    assert Used(1, 2, 3, 4).at_least(Used(2, 2, 2, 5)) == Used(2, 2, 3, 5)
    assert Used(1, 2, 3, 4).plus(10, 20, (30, 40)) == Used(11, 22, 33, 44)


@linux
def test_a_root_that_is_gone_is_not_ours() -> None:
    """Not before there is one, nor once it was reaped, though another process may have its number by then."""
    tree = Tree("mark")
    assert not tree._root_is_ours()
    tree.set_root(os.getppid(), 0)  # no child of this process
    assert not tree._root_is_ours()
    child = os.fork()
    if not child:
        os._exit(0)
    tree.set_root(child, 0)
    assert tree._root_is_ours()
    tree._root_gone = True
    assert not tree._root_is_ours()
    tree._root_gone = False
    os.waitpid(child, 0)
    assert not tree._root_is_ours()


def test_a_shell_that_is_slow_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is waited for while it runs; one that has ended, or takes too long, is an error."""
    running: Any = SimpleNamespace(poll=lambda: None)
    ended: Any = SimpleNamespace(poll=lambda: 1)
    reading, writing = os.pipe()
    try:
        timer = threading.Timer(0.1, os.write, (writing, b"123\n"))
        timer.start()
        assert launch._read_number(reading, running) == 123
        timer.join()
        with pytest.raises(OSError, match="the shell has failed"):
            launch._read_number(reading, ended)
        monkeypatch.setattr(launch, "_SECONDS", 0.05)
        with pytest.raises(OSError, match="the shell has failed"):
            launch._read_number(reading, running)
    finally:
        os.close(reading)
        os.close(writing)


def test_the_first_stop_counts() -> None:
    """Its status and its reason stay, whatever asks later; a task that has ended is not stopped at all."""
    killed: list[None] = []
    run: Any = SimpleNamespace(_lock=threading.Lock(), _done=threading.Event(), _stopped=None, kill=lambda: killed.append(None))
    TaskRun.stop(run, Status.TIMEOUT, "too long")
    TaskRun.stop(run, Status.CANCELLED, "asked to")
    assert (run._stopped, run._stop_reason, len(killed)) == (Status.TIMEOUT, "too long", 1)
    run._stopped = None
    run._done.set()
    TaskRun.stop(run, Status.CANCELLED)
    assert (run._stopped, len(killed)) == (None, 1)
