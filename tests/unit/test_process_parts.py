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
