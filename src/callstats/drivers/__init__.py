"""Run calls and sample them. Heavy packages are imported where they are used."""

from __future__ import annotations

from callstats.drivers._watch import watch
from callstats.drivers.base import Config, ContainerTask, Cookie, Driver, RunResult, Status, Task, TaskError, WaitResult
from callstats.drivers.cgroup import CgroupSampler
from callstats.drivers.docker import DockerDriver
from callstats.drivers.docker.stats import FN_METRICS, pick_stats
from callstats.drivers.process import ProcessDriver
from callstats.errors import DriverError

__all__ = [
    "FN_METRICS",
    "CgroupSampler",
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
