"""What the meter makes of a tree of processes: a scripted one, so that each figure is known."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from callstats.drivers.process import meter as meters
from callstats.drivers.process.meter import Meter
from callstats.drivers.process.procfs import MemoryStatus, Process
from callstats.drivers.process.tree import Used

MIB = 2**20


class Tree:
    """A tree as a test says it is: by number, each process's facts; and a clock that only the test moves."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.share_seconds = 0.0
        self.readings = 0
        self.processes: dict[int, Process] = {}
        self.statuses: dict[int, MemoryStatus] = {}
        self.disks: dict[int, tuple[float, float]] = {}
        self.shares: dict[int, int | None] = {}
        self.reaped = Used()
        self.peak = 0
        self.only_root, self.peak_is_inherited = True, False
        self.group: Any = None

    def put(
        self,
        pid: int,
        memory: int,
        *,
        peak: int = 0,
        parent: int = 0,
        cpu: tuple[float, float] = (0, 0),
        disk: tuple[float, float] = (0, 0),
        quick: int | None = None,
        started: float = 1,
        ignores: bool = False,
    ) -> None:
        """Say what a process is now. The kernel's quick number for its memory may be another one."""
        rss = memory if quick is None else quick
        self.processes[pid] = Process(pid, parent, 0, 0, started, False, *cpu, 0, rss)
        self.statuses[pid] = MemoryStatus(memory, max(memory, peak), ignores)
        self.disks[pid] = disk

    def end(self, pid: int, *, zombie: bool = False) -> None:
        """End a process; a zombie is still there."""
        del self.statuses[pid]
        process = self.processes.pop(pid)
        if zombie:
            self.processes[pid] = process._replace(zombie=True)

    def members(self) -> list[Process]:
        return list(self.processes.values())

    def share(self, pid: int) -> int | None:
        self.readings += 1
        return self.shares[pid]


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Return a tree without processes, which the meter reads in place of /proc."""
    made = Tree()

    def thread_time() -> float:
        made.share_seconds += 1
        return made.share_seconds

    monkeypatch.setattr(meters, "monotonic", lambda: made.clock)
    monkeypatch.setattr(meters, "thread_time", thread_time)
    monkeypatch.setattr(meters, "read_status", made.statuses.get)
    monkeypatch.setattr(meters, "read_disk", lambda pid: made.disks[pid])
    monkeypatch.setattr(meters, "read_share", made.share)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    return made


def metered(tree: Tree, limit: int = 0, *, relative: bool = False) -> Meter:
    return Meter(tree, limit, relative=relative)  # type: ignore[arg-type]


def test_samples_of_one_process(tree: Tree) -> None:
    """Shares of a core since the last sample, totals since the start, and each peak once, when it is new."""
    meter = metered(tree, 64 * MIB)
    tree.put(1, 10 * MIB, peak=12 * MIB, cpu=(1, 0.5), disk=(100, 200))
    tree.clock += 2
    common = {"mem_limit": 64 * MIB, "disk_read": 100, "disk_write": 200}
    busy = {"cpu_total": 75, "cpu_user": 50, "cpu_kernel": 25, "cpu_time@last": 15 * 10**8}
    assert meter.sample() == {**busy, "mem_usage": 10 * MIB, "mem_usage@max": 12 * MIB, **common}
    tree.put(1, 11 * MIB, peak=12 * MIB, cpu=(1.5, 0.5), disk=(100, 200))
    tree.clock += 1
    busy = {"cpu_total": 50, "cpu_user": 50, "cpu_kernel": 0, "cpu_time@last": 2 * 10**9}
    assert meter.sample() == {**busy, "mem_usage": 11 * MIB, **common}
    tree.end(1, zombie=True)
    tree.disks[1] = 0, 0
    assert meter.sample() == {}
    tree.reaped, tree.peak = Used(1.75, 0.5, 300, 400), 20 * MIB
    ended = {"cpu_time@last": 225 * 10**7, "mem_limit": 64 * MIB, "disk_read": 300, "disk_write": 400}
    ended |= {"mem_usage@max": 20 * MIB, "mem_peak@last": 20 * MIB}
    assert meter.closing(tree.clock + 0.5) == {"cpu_total": 50, "cpu_user": 50, "cpu_kernel": 0, **ended}
    assert meter.closing(tree.clock + 0.25) == ended, "60 % of the 1.25 s since the sample before is no peak"


def test_what_was_spent_before_the_command(tree: Tree) -> None:
    """The shell that becomes the command has used the processor for a moment, which would be much of a short call."""
    meter = Meter(tree, spent=0.25)  # type: ignore[arg-type]
    tree.put(1, MIB, cpu=(0, 0.125))
    tree.clock += 1
    assert meter.sample()["cpu_time@last"] == 0
    tree.end(1)
    tree.reaped = Used(0.375, 0.125)
    tree.clock += 1
    ended = {"cpu_total": 25, "cpu_user": 18, "cpu_kernel": 6, "cpu_time@last": 25 * 10**7}
    assert ended.items() <= meter.closing(tree.clock).items()


def test_a_burst_at_the_end(tree: Tree) -> None:
    """The peak of the samples is never below the call's mean, however short the time after the last one."""
    for tail in (0.01, 0.3, 0.5, 0.99):
        tree.clock, tree.reaped = 0, Used()
        meter = metered(tree)
        tree.put(1, MIB)
        tree.clock += 1
        meter.sample()
        tree.end(1)
        tree.clock += tail
        tree.reaped = Used(tail, 0)
        found = {name: share for name, share in meter.closing(tree.clock).items() if name.startswith("cpu_total")}
        since_the_start = int(100 * tail / (1 + tail))
        assert found == ({"cpu_total": 100} if tail >= 0.5 else {"cpu_total@max": since_the_start} if since_the_start else {})


def test_a_call_without_a_sample(tree: Tree) -> None:
    """Its closing sample has all: the share of a core over its whole time, and its peak, an early look's as well."""
    meter = metered(tree)
    tree.put(1, 6 * MIB, peak=30 * MIB, disk=(nan, nan))
    meter.look()
    tree.clock += 2
    tree.reaped, tree.peak = Used(0.5, 0.25, nan, nan), 20 * MIB
    usage = {"cpu_total": 37, "cpu_user": 25, "cpu_kernel": 12, "cpu_time@last": 75 * 10**7}
    assert meter.closing(tree.clock) == {**usage, "mem_usage": 30 * MIB, "mem_peak@last": 30 * MIB}
    tree.peak_is_inherited = True
    assert "mem_peak@last" not in meter.closing(tree.clock)


def test_a_process_that_exits(tree: Tree) -> None:
    """It has no memory left though it still runs: none is measured, and that of the others alone counts."""
    meter = metered(tree)
    tree.put(1, 10 * MIB, peak=12 * MIB, cpu=(1, 0))
    tree.put(2, 5 * MIB, parent=1)
    del tree.statuses[2]
    assert meter.sample()["mem_usage"] == 10 * MIB
    tree.put(1, 10 * MIB, cpu=(1.5, 0))
    del tree.statuses[1]
    tree.clock += 1
    busy = {"cpu_total": 50, "cpu_user": 50, "cpu_kernel": 0, "cpu_time@last": 15 * 10**8}
    assert meter.sample() == {**busy, "disk_read": 0, "disk_write": 0}
    tree.peak = 12 * MIB
    assert "mem_usage" not in meter.closing(tree.clock) and "mem_usage@max" not in meter.closing(tree.clock)


def test_only_a_sample_without_memory(tree: Tree) -> None:
    """The closing one tells the peak as its memory then, an early look's as well."""
    meter = metered(tree)
    tree.put(1, 6 * MIB, peak=30 * MIB)
    meter.look()
    del tree.statuses[1]
    assert not meter.sample().keys() & {"mem_usage", "mem_usage@max"}
    tree.peak = 20 * MIB
    found = meter.closing(tree.clock)
    assert found["mem_usage"] == 30 * MIB and "mem_usage@max" not in found


def test_processes_that_ran_before(tree: Tree) -> None:
    """What they used before doesn't count, and a peak only once it has risen; a new process's counts at once."""
    tree.put(1, 10 * MIB, peak=50 * MIB, cpu=(5, 5), disk=(1000, 1000))
    meter = metered(tree, relative=True)
    tree.clock += 1
    tree.put(1, 11 * MIB, peak=50 * MIB, cpu=(5.5, 5.25), disk=(1000, 1500))
    usage = {"cpu_total": 75, "cpu_user": 50, "cpu_kernel": 25, "cpu_time@last": 75 * 10**7}
    assert meter.sample() == {**usage, "mem_usage": 11 * MIB, "disk_read": 0, "disk_write": 500}
    tree.put(1, 11 * MIB, peak=51 * MIB)
    assert meter.sample()["mem_usage@max"] == 51 * MIB
    tree.put(1, 11 * MIB, peak=52 * MIB, started=2)
    assert meter.sample()["mem_usage@max"] == 52 * MIB


def test_children_that_nobody_waits_for(tree: Tree) -> None:
    """Of a parent that ignores their end, children count on as last seen; another parent's come with its own numbers."""
    meter = metered(tree)
    tree.put(1, MIB, ignores=True)
    tree.put(2, MIB, parent=1, cpu=(3, 1), disk=(10, 20))
    tree.put(3, MIB, parent=1, cpu=(1, 0), disk=(1, 2))
    tree.put(4, MIB, parent=9, cpu=(8, 8), disk=(70, 70))
    tree.put(9, MIB)
    meter.sample()
    tree.end(2)
    tree.end(4)
    tree.put(3, MIB, parent=1, started=2)  # its number was given again
    tree.put(9, MIB, cpu=(8, 8.5), disk=(70, 70))
    tree.clock += 1
    meter.sample()
    sample = meter.sample()
    assert (sample["cpu_time@last"], sample["disk_read"], sample["disk_write"]) == (21.5e9, 81, 92)
    tree.peak = 2 * MIB
    assert "mem_peak@last" not in meter.closing(tree.clock)  # such a child may have had a larger one
    tree.end(1)
    meter.sample()
    tree.put(1, MIB, started=5)  # another process, which waits for its children
    tree.put(2, MIB, parent=1, cpu=(4, 0))
    meter.sample()
    tree.end(2)
    tree.put(1, MIB, started=5, cpu=(4, 0))
    assert meter.sample()["cpu_time@last"] == 25.5e9
    assert meter.closing(tree.clock)["cpu_time@last"] == 25.5e9


def test_a_child_between_two_samples(tree: Tree) -> None:
    """A look at the memory has seen it, so it counts; what it read and wrote is not known, and then neither is the sum."""
    meter = metered(tree, 64 * MIB)
    tree.put(1, MIB, ignores=True)
    assert meter.sample()["disk_read"] == 0
    tree.put(2, MIB, parent=1, cpu=(3, 0))
    assert meter.exceeded() is None
    tree.end(2)
    sample = meter.sample()
    assert sample["cpu_time@last"] == 3e9 and "disk_read" not in sample


def test_shared_memory_counts_once(tree: Tree) -> None:
    """The kernel's shares are read while that costs little; until the next time a fork shares all with its parent."""
    meter = metered(tree)
    tree.put(1, 50 * MIB)
    tree.put(2, 40 * MIB, parent=1)
    tree.put(3, 20 * MIB, parent=1)
    tree.shares = {1: 30 * MIB, 2: 25 * MIB, 3: None}  # the last is another user's
    assert meter.sample()["mem_usage"] == 75 * MIB
    assert tree.readings == 3
    tree.put(4, 45 * MIB, parent=1)
    tree.put(5, 45 * MIB, parent=7)  # that one's parent is not of the tree
    tree.clock += 40
    assert (meter.sample()["mem_usage"], tree.readings) == (120 * MIB, 3)
    tree.clock += 10  # now 1 s of 50 s is the fiftieth part
    tree.shares = {1: 20 * MIB, 2: 0, 3: 20 * MIB, 4: 60 * MIB, 5: 10 * MIB}  # 2 ends meanwhile
    assert (meter.sample()["mem_usage"], tree.readings) == ((20 + 20 + 45 + 10) * MIB, 3 + 5 + 4)
    tree.shares = dict.fromkeys(tree.shares, 0)
    tree.clock += 1000
    assert "mem_usage" not in meter.sample()  # all of them end meanwhile


def test_shares_are_forgotten(tree: Tree) -> None:
    """Once nothing is left to share with, a process has all its memory by itself, beside new ones too."""
    meter = metered(tree)
    tree.put(1, 100 * MIB)
    tree.put(2, 80 * MIB, parent=1)
    tree.shares = {1: 60 * MIB, 2: 40 * MIB}
    assert meter.sample()["mem_usage"] == 100 * MIB
    tree.end(2)
    assert meter.sample()["mem_usage"] == 100 * MIB
    tree.put(3, 80 * MIB, parent=7)
    assert meter.sample()["mem_usage"] == 180 * MIB


@pytest.mark.parametrize(("sizes", "readings"), [((34, 30), 0), ((35, 30), 2), ((500, 100), 0), ((500, 101), 2), ((), 0)])
def test_little_shared_memory_is_not_read(tree: Tree, sizes: tuple[int, ...], readings: int) -> None:
    """It matters where the sum exceeds 64 MiB and 1.2 times the largest process."""
    meter = metered(tree)
    for pid, size in enumerate(sizes, 1):
        tree.put(pid, size * MIB)
        tree.shares[pid] = size * MIB
    assert meter.sample().get("mem_usage", 0) == sum(sizes) * MIB
    assert tree.readings == readings


def test_a_look_reads_no_shares(tree: Tree) -> None:
    """Nor does it take a sum of several processes for a peak, as it may count pages twice."""
    meter = metered(tree)
    tree.put(1, 50 * MIB)
    tree.put(2, 40 * MIB)
    meter.look()
    assert tree.readings == 0
    tree.only_root = False
    assert meter.closing(tree.clock)["mem_usage"] == 50 * MIB


@pytest.mark.parametrize(("limit", "found", "readings"), [(50, None, 0), (49, None, 2), (44, 45, 2), (45, None, 2)])
def test_more_memory_than_the_limit(tree: Tree, limit: int, found: int | None, readings: int) -> None:
    """The quick numbers say when to look; the exact ones, with pages that are shared counted once, decide."""
    meter = metered(tree, limit * MIB)
    tree.put(1, 40 * MIB, quick=50 * MIB)
    tree.put(2, 30 * MIB, quick=40 * MIB, parent=1)
    tree.shares = {1: 25 * MIB, 2: 20 * MIB}
    for times in (1, 2):  # whatever the reading costs, before a task is killed
        assert meter.exceeded() == (None if found is None else found * MIB)
        assert tree.readings == times * readings


class Group:
    """A control group as the kernel tells of it."""

    def __init__(self, peak: int, cache: int, cpu: tuple[float, float]) -> None:
        self.peak, self.cpu = lambda: (peak, cache), lambda: cpu


@pytest.mark.parametrize(
    ("cache", "disk", "peak", "is_known"),
    [(4, 3, 96, True), (5, 3, 95, False), (3, 4, 96, True), (3, 5, 95, False), (50, 0, 60, False), (4, nan, 60, False)],
)
def test_the_peak_of_a_group(tree: Tree, cache: int, disk: float, peak: int, is_known: bool) -> None:
    """Less its page cache, or what went to and from the disk, it is a lower bound; close to the kernel's peak it is exact."""
    tree.group, tree.only_root, tree.peak = Group(100 * MIB, cache * MIB, (2, 1)), False, 60 * MIB
    tree.reaped = Used(1, 1.5, disk * MIB, 0)
    found = metered(tree).closing(tree.clock + 3)
    assert (found["mem_usage"], found.get("mem_peak@last")) == (peak * MIB, peak * MIB if is_known else None)
    assert (found["cpu_user"], found["cpu_kernel"], found["cpu_time@last"]) == (66, 33, 3 * 10**9)  # nobody had waited for some


def test_the_peak_of_several_processes(tree: Tree) -> None:
    """A sample of all of them is a lower bound as well, which the group's peak may confirm."""
    meter = metered(tree)
    tree.put(1, 50 * MIB)
    tree.put(2, 46 * MIB)
    tree.shares = {1: 50 * MIB, 2: 46 * MIB}
    meter.sample()
    tree.group, tree.only_root = Group(100 * MIB, 50 * MIB, (0, 0)), False
    found = meter.closing(tree.clock)
    assert found["mem_peak@last"] == 96 * MIB and "mem_usage@max" not in found


def test_a_group_that_knows_less(tree: Tree) -> None:
    """Where the kernel counts no memory for a group its peak is 0; what was waited for may be more than its time."""
    tree.group, tree.only_root, tree.peak = Group(0, 0, (1, 1)), False, 60 * MIB
    tree.reaped = Used(2, 0.5)
    found = metered(tree).closing(tree.clock + 1)
    assert "mem_peak@last" not in found
    assert (found["mem_usage"], found["cpu_time@last"]) == (60 * MIB, 25 * 10**8)
    tree.peak = 0
    assert metered(tree).closing(tree.clock).keys() == {"cpu_time@last", "disk_read", "disk_write"}
