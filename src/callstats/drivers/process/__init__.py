"""Run and sample a command of this machine with its whole tree of processes."""

from __future__ import annotations

import os
import signal
import sys

from callstats._extras import needs
from callstats.drivers._run import validate_interval
from callstats.drivers.base import ContainerTask, Cookie, Driver
from callstats.errors import DriverError


class ProcessDriver(Driver):
    """Run a task as a process group of this machine, and sample all processes that come from it.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more.
    adopts : bool
        Whether every child that this process gets while the task runs is the task's, such as an orphan in a session and with an
        environment of its own. Set it in a program that starts nothing else.

    Notes
    -----
    Processor use includes exited children. ``mem_usage`` is the resident memory; pages that several processes share count once
    where they matter. The last sample, at the exit, has the kernel's own numbers of processor time, disk traffic and peak memory.
    When the command exits, the driver kills the rest of its tree. Except on Linux, it needs the extra
    ``callstats[process]``.

    Examples
    --------
    >>> from callstats.drivers import Task
    >>> with ProcessDriver(interval=0.05).prepare(Task(command=["true"])) as cookie:
    ...     cookie.run().wait().status.value
    'success'
    """

    def __init__(self, interval: float = 1.0, *, adopts: bool = False) -> None:
        self._interval = validate_interval(interval)
        self._adopts = adopts

    def prepare(self, task: ContainerTask) -> Cookie:
        """Validate the task, which has a command and no volumes. Nothing runs yet.

        Raises
        ------
        DriverError
            For another task, on a system without process groups, and when this process ignores SIGCHLD.
        """
        if sys.platform != "linux":
            with needs("drivers.ProcessDriver", "process"):
                import psutil  # noqa: F401 - `procfs` imports it
        if os.name != "posix":
            raise DriverError(f"the system must have process groups, got {os.name}")
        if not task.command:
            raise DriverError("command must not be empty: a process has no image with a command")
        if task.volumes:
            raise DriverError(f"volumes must be empty for a process, got {len(task.volumes)}")
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            raise DriverError("SIGCHLD must not be ignored, or exit codes are lost: signal.signal(SIGCHLD, SIG_DFL) undoes that")
        from callstats.drivers.process.run import ProcessRun

        return ProcessRun(task, self._interval, adopts=self._adopts)
