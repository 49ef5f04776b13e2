"""CgroupSampler: samples of a control group, by plain reads of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import Self

from callstats._types import U64_MAX
from callstats.drivers._run import cpu_metrics
from callstats.errors import ArgumentError, DriverError
from callstats.series import Stat

_READ = 65_536

_Times = tuple[int, int, int]
"""Processor time in nanoseconds: total, user and kernel."""


class CgroupSampler:
    """Samples a control group of Linux, version 1 or 2, whoever started its processes.

    Parameters
    ----------
    path : str or Path
        The group's folder, such as ``/sys/fs/cgroup/system.slice/cron.service``. Of version 1 any controller's folder, such as
        ``/sys/fs/cgroup/memory/docker/4f1a``; or the path below, such as ``docker/4f1a``. The folders of other controllers are
        found beside it.

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
        folders = _folders(Path(path))
        if not folders:
            raise ArgumentError("path", "the folder of a control group", str(path))
        self._folders = folders
        self._unified = "" in folders
        self._before: tuple[float, _Times] | None = None
        self._peak = 0
        self._ticks = os.sysconf("SC_CLK_TCK")
        try:
            for name in _FILES_2 if self._unified else _FILES_1:
                folder = folders.get("" if self._unified else name.partition(".")[0])
                if folder is not None:
                    with suppress(FileNotFoundError):  # the controller is off, or the kernel is older
                        self._files[name] = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise DriverError(f"can't read control group {str(path)!r}: {error}") from error

    def sample(self) -> Stat | None:
        """Return the present use, or None once the group is gone.

        CPU is that since the last sample, and absent in the first one. A metric is absent where its controller is off.
        """
        now = monotonic()
        try:
            metrics, times = self._read_2() if self._unified else self._read_1()
        except OSError:  # ENODEV: it was removed
            return None
        peak = metrics.pop("mem_usage@max", 0)
        if peak > self._peak:
            metrics["mem_usage@max"] = self._peak = peak
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
                events = _numbers((folder / "cgroup.events").read_bytes()) if (folder / "cgroup.events").exists() else {}
                return bool(events.get(b"populated", folder.is_dir()))
            return any((Path(each) / "cgroup.procs").read_bytes() for each, _, _ in os.walk(folder))
        except OSError:
            return False

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel has killed for want of memory."""
        try:
            if self._unified:
                return _numbers(self._text("memory.events") or b"").get(b"oom_kill", 0)
            return _numbers(self._text("memory.oom_control") or b"").get(b"oom_kill", 0)
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

    def _text(self, name: str) -> bytes | None:
        """Return the text of a file, or None where there is no such file."""
        number = self._files.get(name)
        return None if number is None else os.pread(number, _READ, 0)

    def _number(self, name: str) -> int | None:
        text = self._text(name)
        if text is None:
            return None
        return U64_MAX if text.startswith(b"max") else int(text)

    def _read_2(self) -> tuple[dict[str, int], _Times | None]:
        metrics = _known(
            mem_usage=self._number("memory.current"),
            mem_limit=self._number("memory.max"),
        )
        peak = self._number("memory.peak")
        if peak:
            metrics["mem_usage@max"] = peak
        self._add_working(metrics, self._text("memory.stat"), b"inactive_file")
        disk = self._text("io.stat")
        if disk is not None:
            metrics |= {"disk_read": 0, "disk_write": 0}
            for word in disk.split():
                name, _, value = word.partition(b"=")
                if name == b"rbytes":
                    metrics["disk_read"] += int(value)
                elif name == b"wbytes":
                    metrics["disk_write"] += int(value)
        cpu = self._text("cpu.stat")
        if cpu is None:
            return metrics, None
        numbers = _numbers(cpu)
        total, user, kernel = (1000 * numbers.get(name, 0) for name in (b"usage_usec", b"user_usec", b"system_usec"))
        return metrics, (total, user, kernel)

    def _read_1(self) -> tuple[dict[str, int], _Times | None]:
        metrics = _known(
            mem_usage=self._number("memory.usage_in_bytes"),
            mem_limit=self._number("memory.limit_in_bytes"),
        )
        peak = self._number("memory.max_usage_in_bytes")
        if peak:
            metrics["mem_usage@max"] = peak
        self._add_working(metrics, self._text("memory.stat"), b"total_inactive_file")
        disk = self._text("blkio.throttle.io_service_bytes_recursive")
        if disk is not None:
            metrics |= {"disk_read": 0, "disk_write": 0}
            for line in disk.split(b"\n"):
                words = line.split()
                if len(words) == 3 and words[1] in (b"Read", b"Write"):
                    metrics["disk_read" if words[1] == b"Read" else "disk_write"] += int(words[2])
        total = self._number("cpuacct.usage")
        if total is None:
            return metrics, None
        user, kernel = self._number("cpuacct.usage_user"), self._number("cpuacct.usage_sys")
        if user is None or kernel is None:  # an older kernel
            numbers = _numbers(self._text("cpuacct.stat") or b"")
            user, kernel = (numbers.get(name, 0) * 10**9 // self._ticks for name in (b"user", b"system"))
        return metrics, (total, user, kernel)

    def _add_working(self, metrics: dict[str, int], stat: bytes | None, inactive: bytes) -> None:
        usage = metrics.get("mem_usage")
        if not usage:
            metrics.pop("mem_usage", None)  # a use of 0 is no measurement
        elif stat is not None and (cache := _number_of(stat, inactive)) is not None:
            metrics["mem_working"] = usage - cache if cache < usage else usage


_FILES_2 = (
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.stat",
    "memory.events",
    "cpu.stat",
    "io.stat",
)
_FILES_1 = (
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.stat",
    "memory.oom_control",
    "cpuacct.usage",
    "cpuacct.usage_user",
    "cpuacct.usage_sys",
    "cpuacct.stat",
    "blkio.throttle.io_service_bytes_recursive",
)


def _known(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def _numbers(text: bytes) -> dict[bytes, int]:
    """Return a flat keyed file: a name and a number a line."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=False))


def _number_of(text: bytes, name: bytes) -> int | None:
    """Return one number of a flat keyed file, which may be long."""
    start = 0 if text.startswith(name + b" ") else text.find(b"\n" + name + b" ") + 1
    if not start and not text.startswith(name + b" "):
        return None
    begin = start + len(name) + 1
    return int(text[begin : text.index(b"\n", begin)])


def _folders(path: Path) -> dict[str, Path]:
    """Return the folders of a group by controller; under "" is that of version 2."""
    if (path / "cgroup.controllers").exists():
        return {"": path}
    if path.is_absolute() and not (path / "cgroup.procs").exists():
        return {}
    roots = dict(_roots())
    below = path
    if path.is_absolute():
        root = next((each for each in roots.values() if path.is_relative_to(each)), None)
        if root is None:  # no mount: a copy of the files, controller by controller
            controller = next((name for name in ("memory", "cpuacct", "blkio") if name in path.parts), None)
            if controller is None:
                return {}
            at = path.parts.index(controller)
            root = Path(*path.parts[: at + 1])
            roots = {name: root.parent / name for name in ("memory", "cpuacct", "blkio")}
        below = path.relative_to(root)
    found = {name: root / below for name, root in roots.items() if name and (root / below / "cgroup.procs").exists()}
    if not path.is_absolute() and "" in roots and (roots[""] / below / "cgroup.controllers").exists() and "memory" not in found:
        return {"": roots[""] / below}
    return found


def _roots() -> Iterator[tuple[str, Path]]:
    """Yield the folders where the controllers are mounted, and that of version 2 as ""."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return
    for line in mounts:
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield "", Path(where)
        elif kind == "cgroup":
            for name in {"memory", "cpuacct", "blkio"} & set(options.split(",")):
                yield name, Path(where)
