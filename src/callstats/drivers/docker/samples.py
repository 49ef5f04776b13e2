"""Samples of a container: by the engine's stats stream, and by its control group where that is on this machine."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from callstats._types import I64_MAX
from callstats.drivers._run import cpu_metrics, is_too_short
from callstats.drivers.cgroup import CgroupSampler
from callstats.drivers.docker.stats import cpu_readings, cpu_time, pick_stats
from callstats.errors import CallstatsError

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

    from callstats.drivers._run import TaskRun

_CONNECT_SECONDS = 5.0
_FRAME_SECONDS = 10.0
"""Max time between two frames. An engine sends one a second; after this long the stream is requested anew."""

_RETRY_SECONDS = 1.0
_WRITER_SECONDS = 5.0
"""Max wait for the task's own writer of samples."""

_LOOK_MS = 250
"""How often the control group is read, in case that it is gone before its last reading. The kernel keeps totals and peaks."""

_EARLY_SECONDS = 0.005
"""How often it is read until the engine has answered which process it is. A short command has ended by then."""

_GROUPS = ("docker/{}", "system.slice/docker-{}.scope")
"""Where engines put a container, by their two ways to manage groups."""

_COUNTED = ("cpu_time@last", "disk_read", "disk_write")
_GAUGES = ("mem_usage", "mem_working", "mem_limit")
_PEAK = "mem_usage@max"

_UNTIL_THE_END = (*_COUNTED, _PEAK)
"""The metrics that a group still counts at the end. Others are those of a running process."""


class Samples:
    """The samples of one container, passed on in order of time."""

    def __init__(self, run: TaskRun, api: APIClient, container: str) -> None:
        self.dropped = 0
        self._run = run
        self._thread: threading.Thread | None = None
        self._url = f"{api.base_url}/v{api.api_version}/containers/{container}/stats"
        self._api = api
        self._response: Response | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._frame: Mapping[str, object] = {}
        self._time = -I64_MAX
        self._max: dict[str, int] = {}
        """The max of each metric so far."""

    def start(self) -> None:
        self._thread = self._run.start_thread("callstats-docker-stats", self.read)

    def read(self) -> None:
        """Pass samples on until the container's end. Some engines do not end the stream then, so `end` does."""
        while not self._over.is_set():
            for frame in self._frames():
                sample = pick_stats(frame, self._frame)
                with self._lock:
                    if self._over.is_set():
                        return
                    if sample is None:  # the engine sends such a frame once the container has ended
                        self.dropped += 1
                    else:
                        self._frame = frame
                        self._pass_on(*sample)
            self._over.wait(_RETRY_SECONDS)  # the stream broke or stalled, or the container has ended

    def end(self) -> None:
        """End the stream, and wait for its reader. No sample is passed on after this, except the closing one."""
        self._over.set()
        if self._response is not None:
            with suppress(Exception):
                self._response.raw.shutdown()
        if self._thread is not None:
            self._thread.join(_CONNECT_SECONDS + _FRAME_SECONDS)  # it may wait for an answer that does not come

    def close(self, ended_at: int, reading: Mapping[str, int]) -> None:
        """Pass on a closing sample: what the container has used in all.

        `reading` has the metrics that the kernel reported at the end, if anybody asked it. The last frame has the others.
        """
        if not self._lock.acquire(timeout=_WRITER_SECONDS):
            return  # the writer is still busy with an earlier sample
        try:
            known = dict(self._max)
            if (used := cpu_time(self._frame)) is not None:
                known["cpu_time@last"] = used
            totals = [name for name in _COUNTED if name in known or name in reading]
            metrics = {name: max(known.get(name, 0), reading.get(name, 0)) for name in totals}
            metrics |= {name: reading[name] for name in _GAUGES if name in reading and name not in known}
            peak = max(known.get(_PEAK, 0), reading.get(_PEAK, 0))
            if peak > max(known.get(_PEAK, 0), known.get("mem_usage", 0)):
                metrics[_PEAK] = peak
            if peak:
                metrics["mem_peak@last"] = peak
            if "cpu_time@last" in reading:
                metrics |= self._last_cpu(ended_at, metrics["cpu_time@last"])
            self._pass_on(max(ended_at, self._time), metrics)
        finally:
            self._lock.release()

    def _last_cpu(self, ended_at: int, used: int) -> dict[str, int]:
        """Return the use of the processor since the last frame. Where that is too short, a peak alone, since the one before."""
        readings = cpu_readings(self._frame)
        if self._run.began_at is not None:
            readings.insert(0, (self._run.began_at, 0))
        if not readings:
            return {}
        before, last = readings[-2:] if len(readings) > 1 else (readings[0], readings[0])
        too_short = is_too_short(ended_at - last[0], last[0] - before[0])
        since, earlier = before if too_short else last
        busy = cpu_metrics(max(used - earlier, 0) / 1e9, 0, 0, (ended_at - since) / 1e9).get("cpu_total")
        known = self._max.get("cpu_total")
        if busy is None or (too_short and known is not None and busy <= known):
            return {}
        return {"cpu_total" if known is None or not too_short else "cpu_total@max": busy}

    def _pass_on(self, timestamp: int, metrics: dict[str, int]) -> None:
        self._time = timestamp
        for name, value in metrics.items():
            self._max[name] = max(value, self._max.get(name, 0))
        self._run.write_stat(timestamp, metrics)

    def _frames(self) -> Iterator[Mapping[str, object]]:
        # A stream that another thread ends breaks in any of these ways.
        with (
            suppress(HTTPError, OSError, AttributeError, ValueError),
            self._api.get(self._url, params={"stream": 1}, stream=True, timeout=(_CONNECT_SECONDS, _FRAME_SECONDS)) as response,
        ):
            self._response = response
            if self._over.is_set():
                return
            response.raise_for_status()
            for line in response.iter_lines(chunk_size=None):
                frame = json.loads(line) if line else None
                if isinstance(frame, Mapping):
                    yield frame


class FirstProcess:
    """A container's first process, which all others end with. Without one on this machine, every method does nothing.

    A descriptor stands for the process, as its number may come to mean another one. It also reports the end some milliseconds
    before the engine removes the control group.
    """

    def __init__(self) -> None:
        self.ended_at: int | None = None
        """The time of the end, in nanoseconds."""
        self.oom_kills = 0
        """Number of processes that the kernel killed for want of memory."""
        self._descriptor: int | None = None
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
            if self._descriptor is not None:
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
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        return self._reading

    def _watch(self) -> None:
        while self._descriptor is None and not self._over.wait(_EARLY_SECONDS):
            self._look()
        if self._descriptor is not None:
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
