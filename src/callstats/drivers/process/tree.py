"""The processes of one command: found, measured and killed, those that have left their parents too."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil

MARK = "CALLSTATS_TASK"
"""The environment variable by which a task's processes are known, whoever their parent is."""

_BLOCK = 512
"""The kernel counts a process's disk traffic in these."""


class Usage(NamedTuple):
    """What a tree has used since its beginning (seconds, bytes), and the memory that it holds; None where that can't be told."""

    user: float
    kernel: float
    rss: int
    disk_read: int | None
    disk_write: int | None
    living: int


class Tree:
    """The command with process number `root` and all that came from it."""

    def __init__(self, root: int, mark: str) -> None:
        self._root = root
        self._root_gone = False
        self._mark = mark
        self._seen: dict[int, float] = {}  # process number -> when it began, since numbers are used again
        self._groups = {root}  # of processes and of sessions, callstats' own apart
        self._gone_user = self._gone_kernel = 0.0
        self._gone_read = self._gone_write = 0
        self._lock = threading.Lock()

    def usage(self) -> Usage:
        """Measure the tree now."""
        import psutil

        with self._lock:
            user, kernel = self._gone_user, self._gone_kernel
            read: int | None = self._gone_read
            write: int | None = self._gone_write
            rss = living = 0
            for process in self._members():
                try:
                    one = _measured(process)
                except psutil.Error:  # it is gone
                    continue
                user, kernel, rss, living = user + one.user, kernel + one.kernel, rss + one.rss, living + one.living
                read = None if read is None or one.disk_read is None else read + one.disk_read
                write = None if write is None or one.disk_write is None else write + one.disk_write
            return Usage(user, kernel, rss, read, write, living)

    def kill(self) -> None:
        """Kill every process but none twice; what forks meanwhile is found the next time round."""
        import psutil

        with self._lock:
            if self._root_gone:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._root, signal.SIGKILL)
            for process in self._members():
                with suppress(psutil.Error):
                    process.kill()

    def end(self, seconds: float = 5.0) -> None:
        """Kill and reap all but the root, whose exit the caller has seen but not reaped."""
        deadline = monotonic() + seconds
        while True:
            self.kill()
            with self._lock:
                if all(process.pid == self._root for process in self._members()) or monotonic() > deadline:
                    return
            sleep(0.001)

    def reap_root(self) -> int | None:
        """Reap the root; return its exit code, or minus the signal that ended it; None where somebody else has reaped it."""
        with self._lock:
            self._root_gone = True  # from now on its number may be another's
            try:
                return self._reap(self._root, 0)
            except ChildProcessError:
                return None

    def _members(self) -> list[psutil.Process]:
        """Every process of the tree, after reaping those of it that callstats has inherited and that have exited."""
        import psutil

        children: dict[int, list[int]] = defaultdict(list)
        entries: dict[int, _Entry] = {}
        todo = [self._root]
        for entry in _table():
            if self._is_orphan(entry):
                try:
                    if self._reap(entry.pid, os.WNOHANG) is not None:
                        continue
                except ChildProcessError:  # somebody else has reaped it
                    continue
                todo.append(entry.pid)
            children[entry.parent].append(entry.pid)
            entries[entry.pid] = entry
        found: list[psutil.Process] = []
        while todo:
            pid = todo.pop()
            if pid in entries:
                todo += children[pid]
                self._seen[pid] = entries[pid].began
                self._groups |= {entries[pid].group, entries[pid].session} - {os.getpgrp(), os.getsid(0), 0}
                with suppress(psutil.Error):
                    found.append(psutil.Process(pid))
        return found

    def _is_orphan(self, entry: _Entry) -> bool:
        """Whether callstats is a process's parent only since its own one has exited, and it is of this tree."""
        import psutil

        if entry.parent != os.getpid() or entry.pid == self._root:
            return False
        if self._seen.get(entry.pid) == entry.began:
            return True
        if entry.zombie:  # it has no environment any more
            return entry.group in self._groups or entry.session in self._groups
        try:
            return self._mark in psutil.Process(entry.pid).environ().get(MARK, "").split(":")
        except (psutil.Error, OSError):
            return False

    def _reap(self, pid: int, options: int) -> int | None:
        """Reap a child, and keep what it and its children have used; None when it still runs."""
        reaped, status, used = os.wait4(pid, options)
        if not reaped:
            return None
        self._seen.pop(pid, None)
        self._gone_user += used.ru_utime
        self._gone_kernel += used.ru_stime
        self._gone_read += used.ru_inblock * _BLOCK
        self._gone_write += used.ru_oublock * _BLOCK
        return os.waitstatus_to_exitcode(status)


def own_usage() -> Usage:
    """What this process has used."""
    import psutil

    return _measured(psutil.Process())


def _measured(process: psutil.Process) -> Usage:
    """One process, and its children as far as it has waited for them."""
    import psutil

    with process.oneshot():
        times = process.cpu_times()
        zombie = process.status() == psutil.STATUS_ZOMBIE
        rss = 0 if zombie else process.memory_info().rss
    read: int | None
    write: int | None
    try:
        counted = process.io_counters()
        read, write = counted.read_bytes, counted.write_bytes
    except psutil.NoSuchProcess:
        raise
    except (psutil.Error, AttributeError, NotImplementedError, OSError):  # it is another user's, or the system doesn't count
        read = write = None
    user, kernel = times.user + getattr(times, "children_user", 0), times.system + getattr(times, "children_system", 0)
    return Usage(user, kernel, rss, read, write, 0 if zombie else 1)


class _Entry(NamedTuple):
    pid: int
    parent: int
    began: float
    group: int
    session: int
    zombie: bool


def _table() -> Iterator[_Entry]:
    """Every process of the system."""
    if sys.platform != "linux":
        import psutil

        for process in psutil.process_iter(["ppid", "create_time"]):
            yield _Entry(process.pid, process.info["ppid"] or 0, process.info["create_time"] or 0, 0, 0, False)
        return
    # psutil would read a good deal more, a hundred times a second where it is asked to.
    for name in os.listdir("/proc"):  # noqa: PTH208 - a path object for each would cost as much as the rest
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            state, parent, group, session = fields[:4]
            yield _Entry(int(name), int(parent), float(fields[19]), int(group), int(session), state == b"Z")


# --- subreaper ----------------------------------------------------------------------------------------------------------------

_SET_SUBREAPER, _GET_SUBREAPER = 36, 37
_users = 0
_was = 0
_users_lock = threading.Lock()


@contextmanager
def subreaper() -> Iterator[None]:
    """While any task runs, processes whose parents exit become children of callstats, where the system can do that."""
    global _users, _was  # noqa: PLW0603 - a setting of the whole process, and how many hold it
    with _users_lock:
        if _users == 0:
            _was = _get_subreaper()
            _set_subreaper(1)
        _users += 1
    try:
        yield
    finally:
        with _users_lock:
            _users -= 1
            if _users == 0:
                _set_subreaper(_was)


def _set_subreaper(on: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_SET_SUBREAPER, ctypes.c_ulong(on), *[ctypes.c_ulong(0)] * 3)


def _get_subreaper() -> int:
    if sys.platform != "linux":
        return 0
    import ctypes

    on = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(_GET_SUBREAPER, ctypes.byref(on), *[ctypes.c_ulong(0)] * 3)
    return on.value
