"""FirstProcess: the first process of a container, where the engine runs it on this machine."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path
from time import time_ns

_LOOK_MS = 250


class FirstProcess:
    """A container's first process, which all others end with. Without one on this machine, every method does nothing.

    A descriptor stands for the process, as its number may come to mean another one.
    """

    def __init__(self) -> None:
        self.ended_at: int | None = None
        """The time of its end, in nanoseconds."""
        self._descriptor = -1
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def find(self, container: str, process: int) -> None:
        """Find the process by the number that the engine gives, which may be on another machine."""
        if not process:
            return
        with suppress(AttributeError, OSError):  # other systems and old kernels have no such descriptors
            self._descriptor = os.pidfd_open(process)
            if container in Path(f"/proc/{process}/cgroup").read_text():
                self._thread = threading.Thread(target=self._watch, name="callstats-docker-first", daemon=True)
                self._thread.start()

    def kill(self) -> None:
        if self._thread is not None:
            with suppress(OSError):  # it has ended, or this user must not
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> dict[str, int]:
        """Return the metrics of the container's control group at the end, as far as they are known."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        return {}

    def _watch(self) -> None:
        ended = select.poll()
        ended.register(self._descriptor, select.POLLIN)
        while not self._over.is_set():
            if ended.poll(_LOOK_MS):
                self.ended_at = time_ns()
                return
