"""Run and sample a command of this machine with its whole tree of processes, or the running process itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, time_ns

from callstats._extras import needs
from callstats.drivers._run import next_due, validate_interval
from callstats.drivers.base import ContainerTask, Cookie, Driver
from callstats.errors import DriverError
from callstats.recorder import Recorder
from callstats.rule import Rule


class ProcessDriver(Driver):
    """Run a task as a process group of this machine, and sample all processes that come from it.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more.

    Notes
    -----
    Processor use includes exited children. In ``mem_usage``, the resident memory, pages of two processes count twice. When the
    command exits, the driver kills the rest of its tree. It needs the extra ``callstats[process]``.

    Examples
    --------
    >>> from callstats.drivers import Task
    >>> with ProcessDriver(interval=0.05).prepare(Task(command=["true"])) as cookie:
    ...     cookie.run().wait().status.value
    'success'
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = validate_interval(interval)

    def prepare(self, task: ContainerTask) -> Cookie:
        """Validate the task, which has a command and no volumes. Nothing runs yet.

        Raises
        ------
        DriverError
            For another task, on a system without process groups, and when this process ignores SIGCHLD.
        """
        with needs("drivers.ProcessDriver", "process"):
            import psutil  # noqa: F401 - `run` imports it
        if os.name != "posix":
            raise DriverError(f"the system must have process groups, got {os.name}")
        if not task.command:
            raise DriverError("command must not be empty: a process has no image with a command")
        if task.volumes:
            raise DriverError(f"volumes must be empty for a process, got {len(task.volumes)}")
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            raise DriverError("SIGCHLD must not be ignored, or exit codes are lost: signal.signal(SIGCHLD, SIG_DFL) undoes that")
        from callstats.drivers.process.run import ProcessRun

        return ProcessRun(task, self._interval)


@contextmanager
def watch(interval: float = 1, rule: Rule | int | None = 240) -> Iterator[Recorder]:
    """Sample the running process itself.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more. The block's end adds a last sample.
    rule : Rule or int
        How the recorder reduces.

    Yields
    ------
    Recorder
        Its ``end()`` gives the series once the block is over.

    Notes
    -----
    It needs the extra ``callstats[process]``. Processor use is that of all threads, with the sampling one, and of child processes
    once they were waited for.

    Examples
    --------
    >>> with watch(interval=0.05) as recorder:
    ...     total = sum(range(10**6))
    >>> recorder.end().names
    ('cpu_kernel', 'cpu_total', 'cpu_user', 'disk_read', 'disk_write', 'mem_usage')
    """
    seconds = validate_interval(interval)
    with needs("drivers.watch", "process"):
        import psutil

        from callstats.drivers.process.tree import Usage
    recorder, process, over = Recorder(rule), psutil.Process(), threading.Event()

    def sample() -> None:
        before, before_at = Usage.of(process), monotonic()
        due = before_at + seconds
        while True:
            last = over.wait(max(due - monotonic(), 0))
            used, now = Usage.of(process), monotonic()
            recorder.write_stat(time_ns(), used.metrics(before, now - before_at, 0))
            if last:
                return
            before, before_at = used, now
            due = next_due(due, seconds, now)

    thread = threading.Thread(target=sample, name="callstats-watch", daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        over.set()
        thread.join()
