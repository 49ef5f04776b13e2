"""Sample what runs already: this process, another one, or a control group."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, time_ns
from typing import Protocol

from callstats._extras import needs
from callstats.drivers._run import next_due, validate_interval
from callstats.drivers.cgroup import CgroupSampler
from callstats.errors import ArgumentError
from callstats.recorder import Recorder
from callstats.rule import Rule
from callstats.series import Stat

_RUNNING_SECONDS = 1.0
"""Max time between two looks whether anything runs, however long the interval."""


class Sampler(Protocol):
    """A sampler of something that runs already."""

    def sample(self) -> tuple[int, dict[str, int]] | None: ...
    def is_running(self) -> bool: ...
    def close(self) -> None: ...


@contextmanager
def watch(
    interval: float = 1, rule: Rule | int | None = 240, *, pid: int | None = None, cgroup: str | Path | None = None
) -> Iterator[Recorder]:
    """Sample the running process and its children, or what else runs already.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more. The block's end adds a last sample.
    rule : Rule or int
        How the recorder reduces.
    pid : int, optional
        Sample this process and its children instead.
    cgroup : str or Path, optional
        Sample this control group instead, as `CgroupSampler` finds it.

    Yields
    ------
    Recorder
        Its ``end()`` gives the series once the block is over.

    Raises
    ------
    ArgumentError
        When there is no such process or group.

    Notes
    -----
    Only use after the start counts: ``cpu_time@last`` and disk traffic begin at 0, and a peak of the kernel's counts once it has
    risen. Processor use includes the sampling thread. Except on Linux, it needs the extra ``callstats[process]``.

    Examples
    --------
    >>> with watch(interval=0.05) as recorder:
    ...     total = sum(range(10**6))
    >>> "mem_usage" in recorder.end().names
    True
    """
    seconds = validate_interval(interval)
    recorder, over = Recorder(rule), threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            follow(sampler, seconds, recorder.write_stat, over)
        except BaseException as fault:  # noqa: BLE001 - it is raised again at the end
            faults.append(fault)

    with closing(make_sampler(pid, cgroup)) as sampler:
        thread = threading.Thread(target=work, name="callstats-watch", daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            over.set()
            thread.join()
    if faults:
        raise faults[0]


def follow(sampler: Sampler, interval: float, write_stat: Callable[[int, dict[str, int]], object], over: threading.Event) -> None:
    """Pass on samples until nothing runs, or until one more sample after the event; and close the sampler."""
    with closing(sampler):
        due = monotonic() + interval
        while True:
            last = over.wait(min(max(due - monotonic(), 0), _RUNNING_SECONDS))
            if not last and monotonic() < due and sampler.is_running():
                continue
            sample = sampler.sample()
            if sample is not None:
                write_stat(*sample)
            if last or not sampler.is_running():  # it is asked after the sample, which has what was used to the end
                return
            due = next_due(due, interval, monotonic())


def make_sampler(pid: int | None = None, cgroup: str | Path | None = None) -> Sampler:
    """Return a sampler of a process, by default this one, or of a control group. Its first sample begins now."""
    if cgroup is None:
        return _Processes(pid)
    if pid is not None:
        raise ArgumentError("cgroup", "None beside a pid", cgroup)
    return _Group(cgroup)


class _Processes:
    def __init__(self, pid: int | None) -> None:
        if sys.platform != "linux":
            with needs("drivers.watch", "process"):
                import psutil  # noqa: F401 - `procfs` imports it
        from callstats.drivers.process.meter import Meter
        from callstats.drivers.process.tree import Family

        number = os.getpid() if pid is None else pid
        if isinstance(number, bool) or not isinstance(number, int):
            raise ArgumentError("pid", "the number of a running process", pid)
        self._family = Family(number)
        self._meter = Meter(self._family, relative=True)

    def sample(self) -> tuple[int, dict[str, int]] | None:
        metrics = self._meter.sample()
        return (time_ns(), metrics) if metrics else None

    def is_running(self) -> bool:
        return self._family.is_running()

    def close(self) -> None:
        pass


class _Group(CgroupSampler):
    """A control group, whose totals count from now on."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._base: dict[str, int] = {}
        first = super().sample()
        if first is not None:
            self._base = first.metrics

    def sample(self) -> Stat | None:
        stat = super().sample()
        if stat is None:
            return None
        since = {name: max(stat.metrics[name] - self._base.get(name, 0), 0) for name in _TOTALS & stat.metrics.keys()}
        return Stat(stat.timestamp, {**stat.metrics, **since})


_TOTALS = {"cpu_time@last", "disk_read", "disk_write"}
