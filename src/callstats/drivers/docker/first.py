"""FirstProcess: the first process of a container and its control group, where the engine runs it on this machine."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path
from time import time_ns

from callstats.drivers.cgroup import CgroupSampler
from callstats.errors import CallstatsError

_LOOK_MS = 250
"""How often the control group is read, in case that it is gone before its last reading. The kernel keeps totals and peaks."""

_EARLY_SECONDS = 0.005
"""How often it is read until the engine has answered which process it is. A short command has ended by then."""

_GROUPS = ("docker/{}", "system.slice/docker-{}.scope")
"""Where engines put a container, by their two ways to manage groups."""

_UNTIL_THE_END = ("cpu_time@last", "disk_read", "disk_write", "mem_usage@max")
"""The metrics that a group still counts at the end. Others are those of a running process."""


class FirstProcess:
    """A container's first process, which all others end with. Without one on this machine, every method does nothing.

    A descriptor stands for the process, as its number may come to mean another one. It also reports the end some milliseconds
    before the engine removes the control group.

    Attributes
    ----------
    ended_at : int or None
        The time of the end, in nanoseconds.
    oom_kills : int
        Number of processes that the kernel killed for want of memory.
    """

    def __init__(self) -> None:
        self.ended_at: int | None = None
        self.oom_kills = 0
        self._descriptor = -1
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._group: CgroupSampler | None = None
        self._reading: dict[str, int] = {}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, container: str) -> None:
        """Read the control group from its first moment. Call this before the container's start, and `find` after it."""
        self._container = container
        self._names = [name.format(container) for name in _GROUPS]
        self._thread = threading.Thread(target=self._watch, name="callstats-docker-first", daemon=True)
        self._thread.start()

    def find(self, process: int) -> None:
        """Find the process by the number that the engine gives, which may be on another machine."""
        try:
            descriptor = os.pidfd_open(process)
        except (AttributeError, OSError):  # it has ended, or the system or its kernel has no such descriptors
            self._over.set()
            return
        with suppress(OSError):
            lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
            names = [path.lstrip("/") for line in lines if self._container in (path := line.split(":", 2)[2])]
            if names:
                self._names, self._descriptor = names[:1], descriptor
                return
        os.close(descriptor)
        self._over.set()

    def kill(self) -> None:
        with self._lock, suppress(OSError):  # it has ended, or this user must not
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> dict[str, int]:
        """Return the metrics of the control group at the end, as far as they are known."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._group is not None:
            self._group.close()
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        return self._reading

    def _watch(self) -> None:
        while self._descriptor < 0 and not self._over.wait(_EARLY_SECONDS):
            self._look()
        if self._descriptor >= 0:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            while not self._over.is_set():
                if ended.poll(_LOOK_MS):
                    self._look(_UNTIL_THE_END)
                    self.ended_at = time_ns()
                    return
                self._look()

    def _look(self, names: tuple[str, ...] = ()) -> None:
        """Read the group: all of its metrics, or the named ones and those that are not known yet."""
        if self._group is None:
            for name in self._names:
                with suppress(CallstatsError):  # there is no such group, or not yet
                    self._group = CgroupSampler(name)
                    break
            else:
                return
        sample = self._group.sample()
        if sample is not None:
            known = self._reading if names else {}
            self._reading |= {name: value for name, value in sample.metrics.items() if name in names or name not in known}
            self.oom_kills = max(self.oom_kills, self._group.oom_kills())
