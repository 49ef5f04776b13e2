"""Find, kill and reap the processes of one command, also those that have left their parents."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import NamedTuple

from callstats.drivers._run import cpu_metrics
from callstats.drivers.process.group import TaskGroup
from callstats.drivers.process.procfs import Process, Table, read_environ, read_process
from callstats.errors import ArgumentError

MARK = "CALLSTATS_TASK"
"""The environment variable with the private marks of the tasks of a process, whoever its parent is."""

_BLOCK = 512
"""Bytes in the kernel's unit of a process's disk traffic."""

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024

_SMALL = 2 * 2**20
"""A peak this small that a shell leaves to the command that it becomes counts, as one that was sampled."""


class Used(NamedTuple):
    """Resources used since the start: seconds, and bytes of disk traffic, which are NaN where unknown.

    A sum with NaN is NaN, and so is its `max` with what stands after it.
    """

    user: float = 0
    kernel: float = 0
    disk_read: float = 0
    disk_write: float = 0

    @property
    def cpu(self) -> float:
        return self.user + self.kernel

    def cpu_metrics(self, seconds: float) -> dict[str, int]:
        return cpu_metrics(self.cpu, self.user, self.kernel, seconds)

    def plus(self, user: float, kernel: float, disk: tuple[float, float]) -> Used:
        return Used(self.user + user, self.kernel + kernel, self.disk_read + disk[0], self.disk_write + disk[1])

    def minus(self, other: Used) -> Used:
        return Used(*(max(ours - theirs, 0) for ours, theirs in zip(self, other, strict=True)))

    def at_least(self, other: Used) -> Used:
        """Return the larger of both: totals never decrease, though a process that has exited may hide its own."""
        cpu = max(self, other, key=lambda totals: totals.cpu)  # not part by part: the kernel's split of it varies
        return Used(cpu.user, cpu.kernel, max(self.disk_read, other.disk_read), max(self.disk_write, other.disk_write))


class Family:
    """A process that runs already, and all processes that come from it."""

    reaped = Used()
    """The use of exited processes, from the kernel's answer to `wait4`."""
    peak = 0
    """The peak of the largest one, in bytes."""
    peak_is_inherited = False
    """The peak may be that of the shell which launched the command."""
    only_root = False
    """No other process of the tree has been seen."""
    group: TaskGroup | None = None
    """The control group that has all of the tree."""

    def __init__(self, pid: int) -> None:
        process = read_process(pid)
        if process is None or process.zombie:
            raise ArgumentError("pid", "the number of a running process", pid)
        self._table = Table()
        self._first = process
        self._seen = {pid: process.started}

    def is_running(self) -> bool:
        """Return whether any of its processes runs, by one quick look while the first one does."""
        first = read_process(self._first.pid)
        if first is not None and first.started == self._first.started and not first.zombie:
            return True
        return any(not process.zombie for process in self.members())

    def members(self) -> list[Process]:
        """Return all its processes. Those seen before stay, whoever their parent is now."""
        processes = self._table.read()
        return self._descend(processes, [pid for pid, each in processes.items() if self._seen.get(pid) == each.started])

    def _descend(
        self, processes: dict[int, Process], roots: list[int], undecided: AbstractSet[int] = frozenset()
    ) -> list[Process]:
        """Return these processes with all that come from them. Others are strangers, unless they are undecided."""
        children: dict[int, list[int]] = defaultdict(list)
        for pid, process in processes.items():
            children[process.parent].append(pid)
        found: dict[int, Process] = {}
        while roots:
            pid = roots.pop()
            if pid in processes and pid not in found:
                found[pid] = processes[pid]
                roots += children[pid]
        self._seen = {pid: process.started for pid, process in found.items()}
        self._table.forget(
            pid
            for pid in processes.keys() - found.keys() - undecided
            if processes[pid].parent in processes or processes[pid].parent == 0 or self._table.skips(processes[pid].parent)
        )
        return list(found.values())


class Tree(Family):
    """A command, and all processes that came from it. Create it before the command: whatever runs then is a stranger.

    The command has the private `mark` in its environment. A tree that `adopts` takes in every new child of this process but its
    `helpers`; else the mark, an earlier look or the group must prove that it is one.
    """

    def __init__(self, mark: str, *, adopts: bool = False) -> None:
        self.only_root = True
        self.helpers: set[int] = set()
        self._mark = mark
        self._adopts = adopts
        self._root = self._root_floor = 0
        self._root_started = 0.0
        self._root_gone = True
        self._seen = {}
        self._groups: set[int] = set()  # of processes and of sessions, as last seen
        self._table = Table()
        self._table.forget(self._table.read())
        self._lock = threading.Lock()

    def set_root(self, pid: int, floor: int) -> None:
        """Begin with this child. `floor` is the peak of memory that it has from the process that forked it, in bytes."""
        process = read_process(pid)
        self._root, self._root_floor, self._root_gone = pid, floor, False
        self._root_started = 0.0 if process is None else process.started
        self._groups = {pid}

    def members(self) -> list[Process]:
        """Return all processes of the tree, once exited ones that this process has inherited are reaped."""
        with self._lock:
            return self._members()

    def kill(self) -> None:
        """Kill every process in the tree once. Call again to catch new forks."""
        with self._lock:
            if self._root_is_ours():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._root, signal.SIGKILL)
            if self.group is not None:
                self.group.kill()
            for process in self._members():
                if not process.zombie:
                    send(process, signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process group of the command."""
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if self._root_is_ours():
                os.killpg(self._root, number)

    def left_running(self, seconds: float = 0.1) -> int:
        """Return how many processes other than the root run on: those that watch for its end have so long to end themselves."""
        deadline = monotonic() + seconds
        while (
            n := sum(process.pid != self._root and not process.zombie for process in self.members())
        ) and monotonic() < deadline:
            sleep(0.005)
        return n

    def end(self, seconds: float = 5.0) -> None:
        """Kill and reap all processes but the root, which the caller must not have reaped."""
        deadline = monotonic() + seconds
        while True:
            self.kill()
            if all(process.pid == self._root for process in self.members()) or monotonic() > deadline:
                return
            sleep(0.001)

    def reap_root(self) -> int | None:
        """Reap the root. Return its exit code, minus the signal that ended it, or None if it was reaped elsewhere."""
        with self._lock:
            zombie = read_process(self._root)
            if zombie is None or zombie.child_faults:
                self.only_root = False  # it waited for children
            try:
                return self._reap(self._root, 0)
            except ChildProcessError:
                return None
            finally:
                self._root_gone = True  # from now on its number may belong to another process

    def _members(self) -> list[Process]:
        processes = self._table.read()
        roots, undecided, reaped, me = [], set(), set(), os.getpid()
        for pid, process in processes.items():
            if pid == self._root and process.started == self._root_started:
                roots.append(pid)
            elif process.parent == me:
                owns = self._owns(process)
                if owns is None:
                    undecided.add(pid)
                elif owns and process.zombie and self._reap_orphan(pid):
                    reaped.add(pid)
                elif owns:
                    roots.append(pid)
            elif self._seen.get(pid) == process.started:  # its parent has exited, and it has another one
                roots.append(pid)
        for pid in reaped:
            del processes[pid]
        if self.group is not None:
            roots += self.group.pids()
        found = self._descend(processes, roots, undecided)
        self.only_root = self.only_root and all(process.pid == self._root for process in found)
        own = {os.getpgrp(), os.getsid(0), 0}
        self._groups = {number for each in found for number in (each.group, each.session)} - own | {self._root}
        return found

    def _owns(self, process: Process) -> bool | None:
        """Return whether a child of this process is one of the tree that has lost its parent, or None while that is unknown."""
        if self._seen.get(process.pid) == process.started:
            return True
        if self._adopts:
            return process.pid not in self.helpers
        if self.group is not None and self.group.has(process.pid):
            return True
        if process.zombie:  # it has lost its environment
            return process.group in self._groups or process.session in self._groups
        marks = read_environ(process.pid, MARK)
        return None if marks is None else self._mark in marks.split(":")

    def _root_is_ours(self) -> bool:
        """Return whether the root waits to be reaped, or runs, so that nobody else can have its number."""
        if self._root_gone:
            return False
        try:
            os.waitid(os.P_PID, self._root, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _reap_orphan(self, pid: int) -> bool:
        """Return whether the exited process is gone."""
        self.only_root = False
        try:
            return self._reap(pid, os.WNOHANG) is not None
        except ChildProcessError:  # it was reaped elsewhere
            return True

    def _reap(self, pid: int, options: int) -> int | None:
        """Reap a child, and add its usage to the totals. Return None if it still runs."""
        reaped, status, used = os.wait4(pid, options)
        if not reaped:
            return None
        peak = used.ru_maxrss * _RSS_UNIT
        inherited = pid == self._root and peak <= self._root_floor
        if not inherited or self._root_floor <= _SMALL:
            self.peak = max(self.peak, peak)
            self.peak_is_inherited |= inherited
        disk = used.ru_inblock * _BLOCK, used.ru_oublock * _BLOCK
        self.reaped = self.reaped.plus(used.ru_utime, used.ru_stime, disk)
        return os.waitstatus_to_exitcode(status)


def send(process: Process, number: int) -> None:
    """Send a signal to this process, and never to a later one with its number."""
    with suppress(OSError):  # it is gone, or another user's
        try:
            handle = os.pidfd_open(process.pid)
        except AttributeError:  # not on this system
            os.kill(process.pid, number)
            return
        try:
            now = read_process(process.pid)  # the handle stays with the process that has the number now
            if now is not None and now.started == process.started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


_SET_SUBREAPER, _GET_SUBREAPER = 36, 37
_users = 0
_flag_before = 0
_users_lock = threading.Lock()


@contextmanager
def subreaper() -> Iterator[None]:
    """While any task runs, make processes whose parents exit children of callstats, on systems that can do that."""
    global _users, _flag_before  # noqa: PLW0603 - a setting of the whole process, and its number of users
    with _users_lock:
        if _users == 0:
            _flag_before = _set_subreaper(1)
        _users += 1
    try:
        yield
    finally:
        with _users_lock:
            _users -= 1
            if _users == 0:
                _set_subreaper(_flag_before)


def _set_subreaper(flag: int) -> int:
    """Set the flag, and return its earlier value."""
    before = ctypes.c_int(0)
    if sys.platform == "linux":
        prctl, zeros = ctypes.CDLL(None, use_errno=True).prctl, [ctypes.c_ulong(0)] * 3
        prctl(_GET_SUBREAPER, ctypes.byref(before), *zeros)
        prctl(_SET_SUBREAPER, ctypes.c_ulong(flag), *zeros)
    return before.value


def _reset_users() -> None:
    """In a fork, no task runs, and the kernel has cleared the flag."""
    global _users, _users_lock  # another thread may have held the lock
    _users, _users_lock = 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_users)
