"""ProcessDriver: run a command of this machine, with its whole tree of processes."""

from __future__ import annotations

import os
import signal

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
