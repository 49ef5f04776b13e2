"""What runs calls and samples them. Heavy parts are loaded where they are used."""

from __future__ import annotations

from callstats.drivers.contract import (
    Config,
    ContainerTask,
    Cookie,
    Driver,
    DriverError,
    RunResult,
    Status,
    Task,
    TaskError,
    WaitResult,
)
from callstats.drivers.docker import DockerDriver
from callstats.drivers.frames import FN_METRICS, pick_stats
from callstats.drivers.process import ProcessDriver
from callstats.drivers.watching import watch

__all__ = [
    "FN_METRICS",
    "Config",
    "ContainerTask",
    "Cookie",
    "DockerDriver",
    "Driver",
    "DriverError",
    "ProcessDriver",
    "RunResult",
    "Status",
    "Task",
    "TaskError",
    "WaitResult",
    "pick_stats",
    "watch",
]
