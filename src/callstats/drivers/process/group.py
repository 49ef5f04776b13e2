"""TaskGroup: a control group of version 2 of a task's own, where this process may make one below its own group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from callstats.drivers.cgroup import read_numbers

_REMOVE_SECONDS = 2.0

_LEAF = "callstats-recorder"
"""The group below a delegated one that its processes are moved to, as a group that divides memory may have none."""


class TaskGroup:
    """A control group. Whatever a task starts is in it, and the kernel counts and kills it as a whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = f"/{name}".encode()

    @classmethod
    def make(cls, mark: str) -> Self | None:
        """Make a group, or return None where that can't be done."""
        own = _own_folder()
        if own is None:
            return None
        if own.name == _LEAF:
            own = own.parent
        folder = own / f"callstats-{mark}"
        try:
            folder.mkdir()
        except OSError:
            return None
        _count_memory(own)
        return cls(folder, folder.name)

    def add(self, pid: int) -> bool:
        """Move a process into it, with the threads that it has."""
        try:
            (self.folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def pids(self) -> Iterator[int]:
        """Yield its processes that have not exited, with those of groups below."""
        for folder, _, _ in os.walk(self.folder):
            with suppress(OSError):
                yield from map(int, (Path(folder) / "cgroup.procs").read_bytes().split())

    def has(self, pid: int) -> bool:
        """Return whether a process is or was in it. A process that has exited stays in its group until it is reaped."""
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_bytes().splitlines():
                if line.startswith(b"0::"):
                    return self._name in line
        return False

    def kill(self) -> None:
        """Kill all of it at once."""
        with suppress(OSError):  # a kernel before 5.14; each process is killed by its number too
            (self.folder / "cgroup.kill").write_text("1")

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of processor time that all processes have used: by themselves, and in the kernel."""
        with suppress(OSError):
            numbers = read_numbers((self.folder / "cpu.stat").read_bytes())
            return numbers[b"user_usec"] / 1e6, numbers[b"system_usec"] / 1e6
        return 0.0, 0.0

    def remove(self) -> None:
        """Remove it with the groups below, once its processes are reaped. A second call does nothing."""
        deadline = monotonic() + _REMOVE_SECONDS
        while True:
            for folder, _, _ in os.walk(self.folder, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)  # noqa: PTH106 - its files are the kernel's
            if not self.folder.exists() or monotonic() > deadline:
                return
            sleep(0.005)

    def peak(self) -> tuple[int, int]:
        """Return the kernel's peak of the group's memory, less its own part, and the size of the page cache now.

        Both are in bytes, and 0 where the kernel does not count the memory.
        """
        with suppress(OSError, KeyError):
            now = read_numbers((self.folder / "memory.stat").read_bytes())
            own = now.get(b"kernel", now[b"slab"])  # since Linux 5.18
            return int((self.folder / "memory.peak").read_bytes()) - own, now[b"file"] - now[b"shmem"]
        return 0, 0


def _own_folder() -> Path | None:
    """Return the folder of this process's group."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                root, where = before.split()[3:5]
                return Path(where) / Path(own).relative_to(root)
    return None


def _count_memory(folder: Path) -> None:
    """Have the kernel count the memory of each group below this one, where a service manager has left that to this process."""
    control = folder / "cgroup.subtree_control"
    with suppress(OSError):
        if b"memory" in control.read_bytes().split() or os.getxattr(folder, "user.delegate") != b"1":
            return
        leaf = folder / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has just exited
                (leaf / "cgroup.procs").write_text(pid)
        control.write_text("+memory")
