"""Recordings of commands of this machine."""

from __future__ import annotations

import sys
from typing import Any

from callstats import Recorder, StatSeries
from callstats.drivers import ProcessDriver, RunResult, Task
from callstats.stats.call import usage_of

PYTHON = ["env", "-u", "LD_PRELOAD", sys.executable, "-S", "-c"]
"""Small: a sanitizer needs memory too."""


def run(command: list[str], interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """Run a command from end to end."""
    adopts = fields.pop("adopts", False)
    recorder = Recorder(None)
    task = Task(command=command, write_stat=recorder.write_stat, **fields)
    with ProcessDriver(interval, adopts=adopts).prepare(task) as cookie:
        result = cookie.run().wait()
    return result, recorder.end()


def shell(script: str, interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """Run a script from end to end."""
    return run(["sh", "-c", script], interval, **fields)


def python(program: str, interval: float = 0.05, **fields: Any) -> tuple[RunResult, StatSeries]:
    """Run a Python program from end to end."""
    return run([*PYTHON, program], interval, **fields)


def peak(series: StatSeries) -> int:
    """Return the peak memory of a recording."""
    return usage_of(series).peak_memory or 0
