"""Who is of a tree of processes: real ones, of which the test knows when they come and go."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers.process import procfs, tree
from callstats.drivers.process.procfs import read_process
from callstats.drivers.process.tree import MARK, Family, Tree, send, subreaper
from callstats.errors import ArgumentError
from support.programs import started, wait_until

pytestmark = pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")

ORPHAN = "setsid sh -c 'echo $$; exec sleep 600' & read -r line; exit 3"
"""A command with a child that tells its number once it is in a session of its own."""


@contextmanager
def program(script: str, mark: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in a group of its own."""
    env = {**os.environ, MARK: mark}
    pipe = subprocess.PIPE
    with started(["sh", "-c", script], env=env, stdin=pipe, stdout=pipe, process_group=0) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def told(process: subprocess.Popen[bytes]) -> int:
    """Return the number that a program tells."""
    assert process.stdout is not None
    return int(process.stdout.readline())


def say(process: subprocess.Popen[bytes]) -> None:
    """Let a program continue that waits for a line."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def wait_gone(pid: int) -> None:
    """Wait until a process has exited, whoever reaps it."""
    wait_until(lambda: (process := read_process(pid)) is None or process.zombie)


def wait_zombie(pid: int) -> None:
    """Wait for the end of a child, and don't reap it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


# --- a process that runs already ----------------------------------------------------------------------------------------------


def test_a_family_begins_with_a_running_process() -> None:
    """Neither with one that is gone, nor with one that has exited and waits for its parent."""
    with pytest.raises(ArgumentError, match=r"^pid must be the number of a running process, got 4194305$"):
        Family(2**22 + 1)
    with program("exit 0") as process:
        wait_zombie(process.pid)
        with pytest.raises(ArgumentError, match=r"^pid must be the number of a running process"):
            Family(process.pid)


def test_a_family_outlives_its_first_process() -> None:
    """It runs while any of its processes does; those that were seen stay, whoever their parent is now."""
    with program(ORPHAN) as process:
        child = told(process)
        family = Family(process.pid)
        assert {each.pid for each in family.members()} == {process.pid, child}
        assert family.is_running()
        say(process)
        wait_zombie(process.pid)
        assert family.is_running()
        assert process.wait() == 3
        assert family.is_running() and [each.pid for each in family.members()] == [child]
        os.kill(child, signal.SIGKILL)
        wait_gone(child)
        assert not family.is_running()


def test_the_number_of_the_first_process_is_given_again() -> None:
    """Another process that has it by then is a stranger."""
    with program("read -r line") as process:
        family = Family(process.pid)
        assert family.is_running()
        family._first = family._first._replace(started=family._first.started - 1)
        family._seen = {process.pid: family._first.started}
        assert not family.is_running() and family.members() == []


# --- a command ----------------------------------------------------------------------------------------------------------------


def test_a_kill_reaches_every_process() -> None:
    """One in a session of its own too, and strangers live. Others than the root are reaped by `end`, the root by its caller."""
    with program("read -r line", "another") as stranger:
        made = Tree("mark")
        with program(ORPHAN, "mark") as process:
            child = told(process)
            made.set_root(process.pid, 0)
            assert {each.pid for each in made.members()} == {process.pid, child} and not made.only_root
            made.end()
            wait_gone(child)
            wait_zombie(process.pid)
            assert [each.pid for each in made.members() if not each.zombie] == []
            assert made.reap_root() == -signal.SIGKILL
            assert made.reap_root() is None
            process.returncode = 0
        assert stranger.poll() is None


def test_a_process_whose_parent_has_exited() -> None:
    """Once seen it stays of the tree, whoever its parent is now: one that is above this process, where orphans go there."""
    made = Tree("mark")
    with program(ORPHAN, "mark") as process:
        child = told(process)
        made.set_root(process.pid, 0)
        assert {each.pid for each in made.members()} == {process.pid, child}
        say(process)
        wait_zombie(process.pid)
        found = read_process(child)
        assert found is not None and found.parent not in (process.pid, os.getpid())
        assert child in {each.pid for each in made.members()}
        assert made.reap_root() == 3
        process.returncode = 3
        assert {each.pid for each in made.members()} == {child}
        made.kill()
        wait_gone(child)


def test_a_signal_goes_to_the_group_of_the_command() -> None:
    """To no process outside it, and to nobody once the root was reaped."""
    made = Tree("mark")
    with program("trap 'exit 5' TERM; " + ORPHAN, "mark") as process:
        child = told(process)
        made.set_root(process.pid, 0)
        made.send_signal(signal.SIGTERM)
        wait_zombie(process.pid)
        found = read_process(child)
        assert found is not None and not found.zombie
        os.kill(child, signal.SIGKILL)
        assert made.reap_root() == 5
        made.send_signal(signal.SIGTERM)
        made.kill()
        process.returncode = 5


def test_the_root_is_waited_for() -> None:
    """Its exit code comes once it exits, however long that takes; a lost one is None."""
    made = Tree("mark")
    with program("read -r line; exit 7", "mark") as process:
        made.set_root(process.pid, 0)
        timer = threading.Timer(0.2, say, (process,))
        timer.start()
        assert made.reap_root() == 7
        timer.join()
        process.returncode = 7
    with program("exit 7", "mark") as process:
        made = Tree("mark")
        made.set_root(process.pid, 0)
        process.wait()
        assert made.reap_root() is None


@pytest.mark.parametrize(("script", "alone"), [("exit 0", True), ("true | true; (true)", False)])
def test_a_command_that_has_waited_for_children(script: str, alone: bool) -> None:
    """What no look has seen is known of at the end: it was not the only process of its tree."""
    made = Tree("mark")
    with program(script, "mark") as process:
        made.set_root(process.pid, 0)
        wait_zombie(process.pid)
        made.reap_root()
        assert made.only_root is alone
        process.returncode = 0


@contextmanager
def child() -> Iterator[int]:
    """Fork a child that waits to be killed, and reap it."""
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        yield pid
    finally:
        with suppress(ChildProcessError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def members(made: Tree) -> set[int]:
    return {process.pid for process in made.members()}


def test_a_child_amid_an_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it shows no environment it is neither of the tree nor a stranger; then its mark decides, for good."""
    marks: list[str | None] = [None, "other:mark:third", ""]
    monkeypatch.setattr(tree, "read_environ", lambda _pid, _name: marks[0])
    made, second = Tree("mark"), Tree("mark")
    with child() as pid:
        assert pid not in members(made)
        marks.pop(0)
        assert pid in members(made)
        marks.pop(0)
        assert pid in members(made)  # it was seen
        assert pid not in members(second)
        marks[0] = "mark"
        assert pid not in members(second)  # a stranger stays one


def test_a_tree_that_adopts() -> None:
    """Every new child of this process is its, but for helpers; one from before is not."""
    with child() as before:
        made = Tree("mark", adopts=True)
        with child() as helper, child() as new:
            made.helpers.add(helper)
            assert members(made) == {new}
            assert before not in members(made)


@pytest.mark.parametrize(("groups", "is_ours"), [("group", True), ("none", False)])
def test_an_orphan_that_has_exited(groups: str, is_ours: bool) -> None:
    """It has lost its environment: its group tells, by an earlier look. It is reaped then, and no other child is."""
    made = Tree("mark")
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os._exit(4)
    wait_zombie(pid)
    if groups == "group":
        made._groups = {pid}
    assert pid not in members(made)
    assert made.only_root is not is_ours
    if is_ours:
        assert read_process(pid) is None
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4


def test_a_group_tells_who_is_of_the_tree() -> None:
    """The kernel's control group: whatever is in it is the tree's, a child of this process or not."""
    group: Any = SimpleNamespace(pids=lambda: iter([]), has=lambda pid: pid == one, kill=lambda: killed.append(None))
    killed: list[None] = []
    with program("read -r line") as stranger:
        made = Tree("mark")
        with child() as one, child() as other:
            made.group = group
            assert members(made) == {one}
            made._seen, made._table = {}, procfs.Table()
            group.pids = lambda: iter([stranger.pid])
            assert members(made) == {one, stranger.pid}
            assert not made.only_root
            group.pids = lambda: iter([])
            made._seen = {}
            made.kill()
            assert killed == [None]
            wait_gone(one)
            found = read_process(other)
            assert found is not None and not found.zombie


def test_an_orphan_that_others_have_reaped() -> None:
    """It is gone; one that still runs is not."""
    made = Tree("mark")
    with child() as pid:
        assert not made._reap_orphan(pid)
    assert made._reap_orphan(pid) and not made.only_root


def usage(peak: int = 0, **more: float) -> Any:
    names = ("ru_utime", "ru_stime", "ru_inblock", "ru_oublock")
    return SimpleNamespace(ru_maxrss=peak // tree._RSS_UNIT, **{name: more.get(name, 0) for name in names})


def test_what_the_kernel_tells_of_an_exited_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its use is added up, and the largest peak counts; the root's own only where it is none of the process that forked it."""
    answers = [
        (5, 3 << 8, usage(20 * 2**20, ru_utime=1, ru_stime=2, ru_inblock=3, ru_oublock=4)),
        (6, 9, usage(10 * 2**20, ru_utime=10, ru_stime=20, ru_inblock=30, ru_oublock=40)),
        (0, 0, usage()),
    ]
    monkeypatch.setattr(os, "wait4", lambda _pid, _options: answers.pop(0))
    made = Tree("mark")
    assert (made._reap(5, 0), made._reap(6, 0), made._reap(7, 0)) == (3, -9, None)
    assert made.reaped == (11, 22, 33 * 512, 44 * 512)
    assert (made.peak, made.peak_is_inherited) == (20 * 2**20, False)


@pytest.mark.parametrize(
    ("floor", "peak", "counts", "inherited"),
    [(50, 51, True, False), (50, 50, False, False), (2, 2, True, True), (2, 1, True, True), (3, 3, False, False)],
)
def test_the_peak_of_the_root(monkeypatch: pytest.MonkeyPatch, floor: int, peak: int, counts: bool, inherited: bool) -> None:
    """One no larger than the floor is that of the process that forked it; a floor of 2 MiB or less may count."""
    monkeypatch.setattr(os, "wait4", lambda pid, _options: (pid, 0, usage(peak * 2**20)))
    made = Tree("mark")
    made.set_root(5, floor * 2**20)
    made._reap(5, 0)
    assert (made.peak, made.peak_is_inherited) == (peak * 2**20 if counts else 0, inherited)
    made._reap(6, 0)  # a child of it
    assert made.peak == peak * 2**20


# --- signals ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handles", [True, False])
def test_a_signal_goes_to_one_process(monkeypatch: pytest.MonkeyPatch, handles: bool) -> None:
    """To the one that was seen, with handles of processes or without; with them never to a later one that has its number."""
    opened: list[int] = []

    def pidfd_open(pid: int) -> int:
        if not handles:
            raise AttributeError
        opened.append(real(pid))
        return opened[-1]

    real = os.pidfd_open
    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with program("read -r line") as process:
        found = read_process(process.pid)
        assert found is not None
        if handles:
            send(found._replace(started=found.started - 1), signal.SIGTERM)
            now = read_process(process.pid)
            assert now is not None and not now.zombie
        send(found, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        send(found, signal.SIGKILL)  # it is gone
    for number in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


@pytest.mark.parametrize(("seen", "left"), [([0], 0), ([2, 1, 0], 0), ([2, 2, 1], 1), ([1] * 9, 1)])
def test_what_ends_right_after_the_root(seen: list[int], left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that watches for the command's end is not left running: a tenth of a second is enough for it."""
    clock = iter([0.0, 0.05, 0.09, 0.11])
    made: Any = SimpleNamespace(_root=1)
    helpers = iter(seen)
    made.members = lambda: [SimpleNamespace(pid=pid, zombie=pid > 5) for pid in (1, 9, *range(2, 2 + next(helpers)))]
    monkeypatch.setattr(tree, "monotonic", lambda: next(clock))
    monkeypatch.setattr(tree, "sleep", lambda _seconds: None)
    assert Tree.left_running(made) == left


# --- orphans become children --------------------------------------------------------------------------------------------------


def flag() -> int:
    """Return whether orphans below this process become its children."""
    found = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(tree._GET_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return found.value


@pytest.mark.parametrize("before", [0, 1])
def test_while_any_task_runs(before: int) -> None:
    """The flag is on from the first task's start to the last one's end, an error included, and then as it was before."""
    found = tree._set_subreaper(before)
    try:
        assert flag() == before
        with suppress(KeyError), subreaper():
            with subreaper():
                assert flag() == 1
            assert (flag(), tree._users) == (1, 1)
            raise KeyError
        assert (flag(), tree._users) == (before, 0)
    finally:
        tree._set_subreaper(found)


def test_a_fork_has_no_task() -> None:
    """Though another thread held the lock at that moment; the kernel has cleared the flag, so the fork's own task sets it."""
    with subreaper(), tree._users_lock:
        pid = os.fork()
        if not pid:
            good = tree._users == 0 and not tree._users_lock.locked() and flag() == 0
            with subreaper():
                good = good and flag() == 1
            os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_a_fork_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of tasks, and a lock that nobody will release."""
    monkeypatch.setattr(tree, "_users", 3)
    monkeypatch.setattr(tree, "_users_lock", threading.Lock())
    tree._users_lock.acquire()
    tree._reset_users()
    assert tree._users == 0 and not tree._users_lock.locked()
