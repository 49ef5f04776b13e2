"""Find, measure and kill the processes of one command, also those that have left their parents. Needs psutil."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import NamedTuple

import psutil

MARK = "CALLSTATS_TASK"
"""The environment variable that names the tasks of a process, whoever its parent is."""

_BLOCK = 512
"""Bytes in the kernel's unit of a process's disk traffic."""


class Usage(NamedTuple):
    """Resources used since the beginning (seconds, bytes), and memory in use. Unknown values are None."""

    user: float = 0
    kernel: float = 0
    rss: int = 0
    disk_read: int | None = 0
    disk_write: int | None = 0
    living: int = 0
    """Number of processes that have not exited."""

    @classmethod
    def of(cls, process: psutil.Process) -> Usage:
        """Measure one process, with the children that it has waited for."""
        with process.oneshot():
            times = process.cpu_times()
            zombie = process.status() == psutil.STATUS_ZOMBIE
            rss = 0 if zombie else process.memory_info().rss
        read: int | None
        write: int | None
        try:
            disk = process.io_counters()
            read, write = disk.read_bytes, disk.write_bytes
        except psutil.NoSuchProcess:
            raise
        except (psutil.Error, AttributeError, NotImplementedError, OSError):  # another user's, or the system doesn't count
            read = write = None
        user, kernel = times.user + getattr(times, "children_user", 0), times.system + getattr(times, "children_system", 0)
        return cls(user, kernel, rss, read, write, 0 if zombie else 1)

    def plus(self, other: Usage) -> Usage:
        """Return the sum. With an unknown value it is unknown."""
        return Usage(*(None if a is None or b is None else a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]

    def metrics(self, before: Usage, seconds: float, memory: int) -> dict[str, int]:
        """Return a sample: the use since `before`, `seconds` ago. `memory` is the limit, or 0."""
        user, kernel = max(self.user - before.user, 0), max(self.kernel - before.kernel, 0)
        metrics = {"mem_usage": self.rss}
        if seconds > 0:
            metrics |= {
                "cpu_total": int(100 * (user + kernel) / seconds),
                "cpu_user": int(100 * user / seconds),
                "cpu_kernel": int(100 * kernel / seconds),
            }
        if memory:
            metrics["mem_limit"] = memory
        if self.disk_read is not None and self.disk_write is not None:
            metrics |= {
                "disk_read": max(self.disk_read, before.disk_read or 0),
                "disk_write": max(self.disk_write, before.disk_write or 0),
            }
        return metrics

    def max_with(self, before: Usage) -> Usage:
        """Never let totals decrease: a zombie's usage reappears only when it is reaped."""
        return self._replace(
            user=max(self.user, before.user),
            kernel=max(self.kernel, before.kernel),
            disk_read=max(self.disk_read or 0, before.disk_read or 0),
            disk_write=max(self.disk_write or 0, before.disk_write or 0),
        )


class Tree:
    """The command with process number `root`, and all processes that came from it."""

    def __init__(self, root: int, mark: str) -> None:
        self._root = root
        self._root_gone = False
        self._mark = mark
        self._seen: dict[int, float] = {}  # process number -> start time, since numbers are used again
        self._groups = {root}  # of processes and of sessions, without callstats' own
        self._exited = Usage()
        self._lock = threading.Lock()

    def usage(self) -> Usage:
        """Measure the whole tree, with its exited processes."""
        with self._lock:
            members = self._members()  # adds to the usage of exited processes
            total = self._exited
            for process in members:
                with suppress(psutil.Error):  # it is gone
                    total = total.plus(Usage.of(process))
            return total

    def kill(self) -> None:
        """Kill every process in the tree once. Call again to catch new forks."""
        with self._lock:
            if self._root_gone:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._root, signal.SIGKILL)
            for process in self._members():
                with suppress(psutil.Error):
                    process.kill()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process group of the command."""
        with self._lock, suppress(ProcessLookupError, PermissionError):
            if not self._root_gone:
                os.killpg(self._root, number)

    def end(self, seconds: float = 5.0) -> None:
        """Kill and reap all processes but the root, which the caller must not have reaped."""
        deadline = monotonic() + seconds
        while True:
            self.kill()
            with self._lock:
                if all(process.pid == self._root for process in self._members()) or monotonic() > deadline:
                    return
            sleep(0.001)

    def reap_root(self) -> int | None:
        """Reap the root. Return its exit code, minus the signal that ended it, or None if it was reaped elsewhere."""
        with self._lock:
            self._root_gone = True  # from now on its number may belong to another process
            try:
                return self._reap(self._root, 0)
            except ChildProcessError:
                return None

    def _members(self) -> list[psutil.Process]:
        """Return all processes of the tree, once exited ones that callstats has inherited are reaped."""
        children: dict[int, list[int]] = defaultdict(list)
        entries: dict[int, _Entry] = {}
        todo = [self._root]
        for entry in _table():
            if self._is_orphan(entry):
                try:
                    if self._reap(entry.pid, os.WNOHANG) is not None:
                        continue
                except ChildProcessError:  # it was reaped elsewhere
                    continue
                todo.append(entry.pid)
            children[entry.parent].append(entry.pid)
            entries[entry.pid] = entry
        found: list[psutil.Process] = []
        while todo:
            pid = todo.pop()
            if pid in entries:
                todo += children[pid]
                self._seen[pid] = entries[pid].started
                self._groups |= {entries[pid].group, entries[pid].session} - {os.getpgrp(), os.getsid(0), 0}
                with suppress(psutil.Error):
                    found.append(psutil.Process(pid))
        return found

    def _is_orphan(self, entry: _Entry) -> bool:
        """Return whether a process of this tree has lost its parent, and so became a child of callstats."""
        if entry.parent != os.getpid() or entry.pid == self._root:
            return False
        if self._seen.get(entry.pid) == entry.started:
            return True
        if entry.zombie:  # it has lost its environment
            return entry.group in self._groups or entry.session in self._groups
        try:
            return self._mark in psutil.Process(entry.pid).environ().get(MARK, "").split(":")
        except (psutil.Error, OSError):
            return False

    def _reap(self, pid: int, options: int) -> int | None:
        """Reap a child, and add its usage to the totals. Return None if it still runs."""
        reaped, status, used = os.wait4(pid, options)
        if not reaped:
            return None
        self._seen.pop(pid, None)
        self._exited = self._exited.plus(
            Usage(used.ru_utime, used.ru_stime, 0, used.ru_inblock * _BLOCK, used.ru_oublock * _BLOCK, 0)
        )
        return os.waitstatus_to_exitcode(status)


class _Entry(NamedTuple):
    pid: int
    parent: int
    started: float
    group: int
    session: int
    zombie: bool


def _table() -> Iterator[_Entry]:
    if sys.platform != "linux":
        for process in psutil.process_iter(["ppid", "create_time"]):
            yield _Entry(process.pid, process.info["ppid"] or 0, process.info["create_time"] or 0, 0, 0, False)
        return
    # psutil reads much more of each process, which is slow at a hundred samples a second.
    for name in os.listdir("/proc"):  # noqa: PTH208 - path objects would double the time
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            state, parent, group, session = fields[:4]
            yield _Entry(int(name), int(parent), float(fields[19]), int(group), int(session), state == b"Z")


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
