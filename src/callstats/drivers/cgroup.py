"""CgroupSampler: samples of a control group, by plain reads of its files."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import Self

from callstats._types import U64_MAX
from callstats.drivers._run import cpu_metrics
from callstats.errors import ArgumentError, DriverError
from callstats.series import Stat

_READ = 65_536
_MOUNTED = Path("/sys/fs/cgroup")
_CONTROLLERS = ("memory", "cpuacct", "blkio")

_FILES_2 = {
    "usage": "memory.current",
    "peak": "memory.peak",
    "limit": "memory.max",
    "memory": "memory.stat",
    "events": "memory.events",
    "cpu": "cpu.stat",
    "disk": "io.stat",
}
_FILES_1 = {
    "usage": "memory.usage_in_bytes",
    "peak": "memory.max_usage_in_bytes",
    "limit": "memory.limit_in_bytes",
    "memory": "memory.stat",
    "events": "memory.oom_control",
    "total": "cpuacct.usage",
    "user": "cpuacct.usage_user",
    "kernel": "cpuacct.usage_sys",
    "cpu": "cpuacct.stat",
    "disk": "blkio.throttle.io_service_bytes_recursive",
}
_DISK_2 = {"disk_read": re.compile(rb" rbytes=(\d+)"), "disk_write": re.compile(rb" wbytes=(\d+)")}
_DISK_1 = {"disk_read": re.compile(rb" Read (\d+)"), "disk_write": re.compile(rb" Write (\d+)")}


class CgroupSampler:
    """Samples a control group of Linux, version 1 or 2, whoever started its processes.

    Parameters
    ----------
    path : str or Path
        The group's folder, such as ``/sys/fs/cgroup/system.slice/cron.service``. Of version 1 any controller's folder, such as
        ``/sys/fs/cgroup/memory/docker/4f1a``, as the others are found beside it. A relative path, such as ``docker/4f1a``, is
        looked for below ``/sys/fs/cgroup``.

    Raises
    ------
    ArgumentError
        When there is no such group.

    Notes
    -----
    ``mem_usage`` is what the group is charged with, the page cache included, and ``mem_working`` is without the cache that could
    be given up. ``mem_usage@max`` is the kernel's own peak, in a sample after it has risen.

    Examples
    --------
    >>> sampler = CgroupSampler("/sys/fs/cgroup/system.slice/cron.service")  # doctest: +SKIP
    >>> sampler.sample().metrics["mem_usage"]  # doctest: +SKIP
    1302528
    """

    def __init__(self, path: str | Path) -> None:
        self._files: dict[str, int] = {}
        self._folders = _folders(Path(path))
        if not self._folders:
            raise ArgumentError("path", "the folder of a control group", str(path))
        self._unified = "" in self._folders
        self._before: tuple[float, tuple[int, ...]] | None = None
        self._peak = 0
        try:
            for use, name in (_FILES_2 if self._unified else _FILES_1).items():
                folder = self._folders.get("" if self._unified else name.partition(".")[0])
                if folder is not None:
                    with suppress(FileNotFoundError):  # the controller is off, or the kernel is older
                        self._files[use] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise DriverError(f"can't read control group {str(path)!r}: {error}") from error

    def sample(self) -> Stat | None:
        """Return the present use, or None once the group is gone.

        CPU is that since the last sample, and absent in the first one. A metric is absent where its controller is off.
        """
        now = monotonic()
        try:
            metrics, times = self._memory() | self._disk(), self._times()
        except OSError:  # ENODEV: it was removed
            return None
        if times is not None:
            metrics["cpu_time@last"] = times[0]
            if self._before is not None:
                before, earlier = self._before
                total, user, kernel = (max(new - old, 0) / 1e9 for new, old in zip(times, earlier, strict=True))
                metrics |= cpu_metrics(total, user, kernel, now - before)
            self._before = now, times
        return Stat(time_ns(), metrics)

    def is_running(self) -> bool:
        """Return whether any process is in the group or below it."""
        folder = next(iter(self._folders.values()))
        try:
            if self._unified:
                events = read_numbers((folder / "cgroup.events").read_bytes()) if (folder / "cgroup.events").exists() else {}
                return bool(events.get(b"populated", folder.is_dir()))
            return any((Path(each) / "cgroup.procs").read_bytes() for each, _, _ in os.walk(folder))
        except OSError:
            return False

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel has killed for want of memory."""
        try:
            return read_numbers(self._text("events") or b"").get(b"oom_kill", 0)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        for number in self._files.values():
            os.close(number)
        self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _text(self, use: str) -> bytes | None:
        """Return the text of a file, or None where there is no such file."""
        number = self._files.get(use)
        return None if number is None else os.pread(number, _READ, 0)

    def _number(self, use: str) -> int | None:
        text = self._text(use)
        if text is None:
            return None
        return U64_MAX if text.startswith(b"max") else int(text)

    def _memory(self) -> dict[str, int]:
        metrics = {}
        if usage := self._number("usage"):  # a use of 0 is no measurement
            metrics["mem_usage"] = usage
            cache = _number_of(self._text("memory") or b"", b"inactive_file" if self._unified else b"total_inactive_file")
            if cache is not None:
                metrics["mem_working"] = usage - cache if cache < usage else usage
        if (limit := self._number("limit")) is not None:
            metrics["mem_limit"] = limit
        peak = self._number("peak") or 0
        if peak > self._peak:
            metrics["mem_usage@max"] = self._peak = peak
        return metrics

    def _disk(self) -> dict[str, int]:
        text = self._text("disk")
        patterns = _DISK_2 if self._unified else _DISK_1
        return {} if text is None else {name: sum(map(int, each.findall(text))) for name, each in patterns.items()}

    def _times(self) -> tuple[int, ...] | None:
        """Return the processor time in nanoseconds: total, user and kernel."""
        if self._unified:
            text = self._text("cpu")
            numbers = read_numbers(text or b"")
            return (
                None
                if text is None
                else tuple(1000 * numbers.get(name, 0) for name in (b"usage_usec", b"user_usec", b"system_usec"))
            )
        total, user, kernel = self._number("total"), self._number("user"), self._number("kernel")
        if total is not None and (user is None or kernel is None):  # an older kernel
            numbers = read_numbers(self._text("cpu") or b"")
            user, kernel = (numbers.get(name, 0) * 10**9 // os.sysconf("SC_CLK_TCK") for name in (b"user", b"system"))
        return None if total is None or user is None or kernel is None else (total, user, kernel)


def read_numbers(text: bytes) -> dict[bytes, int]:
    """Return a flat keyed file: a name and a number a line."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=False))


def _number_of(text: bytes, name: bytes) -> int | None:
    """Return one number of a flat keyed file, which may be long."""
    at = (b"\n" + text).find(b"\n%s " % name)
    return None if at < 0 else int(text[at + len(name) + 1 : text.index(b"\n", at)])


def _folders(path: Path) -> dict[str, Path]:
    """Return the folders of a group by controller; under "" is that of version 2."""
    root, below = _MOUNTED, path
    if (_MOUNTED / path / "cgroup.controllers").exists():
        return {"": _MOUNTED / path}
    if path.is_absolute():
        at = next((at for at, part in enumerate(path.parts) if not set(_CONTROLLERS).isdisjoint(part.split(","))), None)
        if at is None or not (path / "cgroup.procs").exists():
            return {}
        root, below = Path(*path.parts[:at]), Path(*path.parts[at + 1 :])
    folders = {name: root / name / below for name in _CONTROLLERS}
    return {name: folder for name, folder in folders.items() if (folder / "cgroup.procs").exists()}
