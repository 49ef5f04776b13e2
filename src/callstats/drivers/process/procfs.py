"""Processes as the kernel shows them: from /proc on Linux, else by psutil."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from math import nan
from typing import NamedTuple

_LINUX = sys.platform == "linux"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_HAS_SHARES = os.path.exists("/proc/self/smaps_rollup")  # noqa: PTH110 - it is no file of ours
_SIGCHLD = 1 << 16
"""The bit of SIGCHLD in a mask of signals."""


class Process(NamedTuple):
    """One process. Processor times are seconds, with those of the children that it has waited for."""

    pid: int
    parent: int
    group: int
    session: int
    started: float
    """The start time, in the system's own unit. Numbers are used again, and so only both together identify a process."""
    zombie: bool
    user: float
    kernel: float
    child_faults: int
    """Page faults of the children that it has waited for: 0 says that it waited for none."""
    rss: int


class MemoryStatus(NamedTuple):
    rss: int
    peak: int
    """The kernel's peak of rss, 0 where it keeps none. A fork begins with the rss of its parent."""
    ignores_children: bool
    """It ignores SIGCHLD, and so the kernel forgets what its children used."""


def read_process(pid: int) -> Process | None:
    """Return a process, or None once it is gone."""
    if not _LINUX:
        return next((process for process in _ask_psutil() if process.pid == pid), None)
    text = _read(pid, "stat")
    if not text:
        return None
    fields = text.rpartition(b")")[2].split()
    user, kernel = int(fields[11]) + int(fields[13]), int(fields[12]) + int(fields[14])
    return Process(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        fields[0] in (b"Z", b"X"),
        user / _TICKS,
        kernel / _TICKS,
        int(fields[8]),
        int(fields[21]) * _PAGE_BYTES,
    )


def read_status(pid: int) -> MemoryStatus | None:
    """Return the memory of a process, or None where that can't be measured: it has none once the process exits."""
    if not _LINUX:
        import psutil

        with suppress(psutil.Error):
            return MemoryStatus(psutil.Process(pid).memory_info().rss, 0, False)
        return None
    text = _read(pid, "status")
    if not text or (at := text.find(b"\nVmHWM:")) < 0:
        return None
    # Positions are faster than lines, and this is read for each process of each sample.
    peak = int(text[at + 7 : text.index(b"kB", at)]) * 1024
    at = text.index(b"\nVmRSS:", at)
    rss = int(text[at + 7 : text.index(b"kB", at)]) * 1024
    at = text.index(b"\nSigIgn:", at)
    return MemoryStatus(rss, max(rss, peak), bool(int(text[at + 8 : text.index(b"\n", at + 1)], 16) & _SIGCHLD))


UNKNOWN_DISK = nan, nan


def read_disk(pid: int) -> tuple[float, float]:
    """Return bytes read and written, those of waited children included: zeros once it is gone."""
    text = _read(pid, "io")
    if not text:
        return UNKNOWN_DISK if text is None else (0, 0)
    read, write = text.index(b"\nread_bytes:"), text.index(b"\nwrite_bytes:")
    return int(text[read + 12 : write]), int(text[write + 13 : text.index(b"\n", write + 1)])


def read_cpu(pid: int) -> float:
    """Return the processor time of a process in seconds, to the nanosecond; 0 where the kernel doesn't keep it."""
    text = _read(pid, "schedstat")
    return int(text.split()[0]) / 1e9 if text else 0.0


def read_share(pid: int) -> int | None:
    """Return the proportional share of memory (PSS), which costs 16 ms a GiB: 0 once the process is gone, None if unknown."""
    text = _read(pid, "smaps_rollup") if _HAS_SHARES else None
    if text is None:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.split(b"\n") if line.startswith(b"Pss:")), 0)


def read_environ(pid: int, name: str) -> str | None:
    """Return a variable of the environment that a process began with, or None while it shows none, as amid an exec."""
    text, start = _read(pid, "environ"), f"{name}=".encode()
    for entry in (text or b"").split(b"\0"):
        if entry.startswith(start):
            return entry[len(start) :].decode(errors="replace")
    return None if text == b"" else ""


def _read(pid: int, name: str) -> bytes | None:
    """Return the text of a file of a process: empty once that is gone, None where it may not be read."""
    try:
        file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return None
    except OSError:
        return b"" if _LINUX else None
    try:
        text = os.read(file, 65_536)
        while len(text) % 4096 == 0 and (more := os.read(file, 65_536)):  # an environment may be large
            text += more
        return text
    except PermissionError:
        return None
    except OSError:
        return b""
    finally:
        os.close(file)


class Table:
    """All processes of this machine, except those that are known as strangers."""

    def __init__(self) -> None:
        self._inodes: dict[int, int] = {}
        self._strangers: dict[int, int] = {}

    def read(self) -> dict[int, Process]:
        """Return the processes by number.

        A stranger is skipped by the inode of its folder, which the list of folders tells. Reading all files takes ten times as
        long.
        """
        if not _LINUX:
            return {process.pid: process for process in _ask_psutil()}
        inodes: dict[int, int] = {}
        strangers: dict[int, int] = {}
        found: dict[int, Process] = {}
        with os.scandir("/proc") as folders:
            for folder in folders:
                if folder.name.isdecimal():
                    pid, inode = int(folder.name), folder.inode()
                    if self._strangers.get(pid) == inode:
                        strangers[pid] = inode
                    elif process := read_process(pid):
                        inodes[pid] = inode
                        found[pid] = process
        self._inodes, self._strangers = inodes, strangers
        return found

    def forget(self, pids: Iterable[int]) -> None:
        """Skip these processes, which the last `read` found, as strangers."""
        self._strangers |= {pid: self._inodes[pid] for pid in pids if pid in self._inodes}

    def skips(self, pid: int) -> bool:
        """Return whether a process was skipped as a stranger by the last `read`."""
        return pid in self._strangers


def _ask_psutil() -> Iterable[Process]:
    import psutil

    for process in psutil.process_iter(["ppid", "create_time", "status", "cpu_times", "memory_info"]):
        facts = process.info
        times, memory = facts["cpu_times"], facts["memory_info"]
        user = kernel = 0.0
        if times is not None:
            user = times.user + getattr(times, "children_user", 0)
            kernel = times.system + getattr(times, "children_system", 0)
        zombie = facts["status"] == psutil.STATUS_ZOMBIE
        rss = 0 if memory is None or zombie else memory.rss
        yield Process(process.pid, facts["ppid"] or 0, 0, 0, facts["create_time"] or 0.0, zombie, user, kernel, 1, rss)
