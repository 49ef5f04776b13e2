"""Sample what runs already: this process, another one, or a control group."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns

from callstats._extras import needs
from callstats.drivers._run import next_due, validate_interval
from callstats.drivers.cgroup import CgroupSampler
from callstats.errors import ArgumentError
from callstats.recorder import Recorder
from callstats.rule import Rule

Sampler = Callable[[], "tuple[int, dict[str, int]] | None"]
"""It returns a sample, or None once there is nothing left to sample."""


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
    sampler = make_sampler(pid, cgroup)
    recorder, over = Recorder(rule), threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            follow(sampler, seconds, recorder.write_stat, over)
        except BaseException as fault:  # noqa: BLE001 - it is raised again at the end
            faults.append(fault)

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
    """Pass on samples until the sampler has no more, or until one more sample after the event."""
    due = monotonic() + interval
    while True:
        last = over.wait(max(due - monotonic(), 0))
        sample = sampler()
        if sample is not None:
            write_stat(*sample)
        if last or sample is None:
            return
        due = next_due(due, interval, monotonic())


def make_sampler(pid: int | None = None, cgroup: str | Path | None = None) -> Sampler:
    """Return a sampler of a process, by default this one, or of a control group. Its first sample begins now."""
    if cgroup is not None:
        if pid is not None:
            raise ArgumentError("cgroup", "None beside a pid", cgroup)
        return _sample_group(CgroupSampler(cgroup))
    if sys.platform != "linux":
        with needs("drivers.watch", "process"):
            import psutil  # noqa: F401 - `procfs` imports it
    from callstats.drivers.process.meter import Meter
    from callstats.drivers.process.tree import Family

    number = os.getpid() if pid is None else pid
    if isinstance(number, bool) or not isinstance(number, int):
        raise ArgumentError("pid", "the number of a running process", pid)
    meter = Meter(Family(number).members, relative=True)

    def sample() -> tuple[int, dict[str, int]] | None:
        metrics = meter.sample()
        return (time_ns(), metrics) if metrics else None

    return sample


def _sample_group(group: CgroupSampler) -> Sampler:
    first = group.sample()
    base = {} if first is None else first.metrics

    def sample() -> tuple[int, dict[str, int]] | None:
        stat = group.sample() if group.is_running() else None
        if stat is None:
            group.close()
            return None
        since = {name: max(stat.metrics[name] - base.get(name, 0), 0) for name in _TOTALS & stat.metrics.keys()}
        return stat.timestamp, {**stat.metrics, **since}

    return sample


_TOTALS = {"cpu_time@last", "disk_read", "disk_write"}
