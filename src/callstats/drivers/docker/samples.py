"""Samples: those of the engine's stats stream, and a closing one at the container's end. Needs the Docker SDK."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from callstats._types import I64_MAX
from callstats.drivers.docker.stats import cpu_time, pick_stats

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

_COUNTED = ("cpu_time@last", "disk_read", "disk_write")
_GAUGES = ("mem_usage", "mem_working", "mem_limit")
_PEAK = "mem_usage@max"


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
            self._pass_on(max(ended_at, self._time), metrics)
        finally:
            self._lock.release()

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
