"""Decode the frames of Docker's stats stream, one JSON object a second, into Fn's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from callstats._timestamps import parse_time
from callstats._types import U64_MAX
from callstats.errors import CallstatsError
from callstats.series import Stat

_CPU = {"cpu_total": "total_usage", "cpu_user": "usage_in_usermode", "cpu_kernel": "usage_in_kernelmode"}
_MEMORY = ("mem_usage", "mem_limit")
_NET = {"net_rx": "rx_bytes", "net_tx": "tx_bytes"}
_DISK = {"disk_read": "read", "disk_write": "write"}

FN_METRICS = (*_CPU, *_MEMORY, *_NET, *_DISK)
"""The metrics that Fn stores."""

_MAX_PERCENT = 110
"""Of one core: a tenth more than a core can do."""

_WINDOWS_TICK_NS = 100


def pick_stats(frame: Mapping[str, object], previous: Mapping[str, object] | None = None) -> Stat | None:
    """Decode one frame of Docker's stats stream.

    Parameters
    ----------
    frame : mapping
        The parsed JSON object, of a Linux engine with cgroup v1 or v2, or of a Windows engine. It is left unchanged.
    previous : mapping, optional
        The frame before it in the stream.

    Returns
    -------
    Stat or None
        The frame's own time, and its values of Fn's nine metrics and of ``mem_working``. The kernel's peak of the memory is
        ``mem_usage@max``, where it exceeds that of the previous frame. None for a frame without a time or without any value, such
        as the last one of a stopped container.

    Notes
    -----
    A value that the frame lacks is absent, never 0, such as the processor use of a stream's first frame. Values other than whole
    numbers from 0 to 2**64 - 1 count as missing, and so do larger results and a memory usage or limit of 0. A processor use that
    exceeds all processors by more than a tenth is absent too: a frame of a few milliseconds can't measure it.

    Examples
    --------
    >>> pick_stats({"read": "2017-11-27T14:52:53Z", "memory_stats": {"usage": 4096, "limit": 134217728}, "networks": {}})
    Stat(timestamp=1511794373000000000, metrics={'mem_usage': 4096, 'mem_limit': 134217728, 'net_rx': 0, 'net_tx': 0})
    """
    timestamp = _read_time(frame, "read")
    if timestamp is None:
        return None
    found = {**_cpu(frame, timestamp), **_memory(_object(frame, "memory_stats")), **_net(frame), **_disk(frame)}
    peak = peak_usage(frame)
    if peak > (0 if previous is None else peak_usage(previous)):
        found["mem_usage@max"] = peak
    metrics = {name: value for name, value in found.items() if value is not None and value <= U64_MAX}
    return Stat(timestamp, metrics) if metrics else None


def peak_usage(frame: Mapping[str, object]) -> int:
    """Return the kernel's peak of the memory, or 0 where the engine does not report it, such as most with cgroup v2."""
    return _uint(_object(frame, "memory_stats"), "max_usage") or 0


def cpu_readings(frame: Mapping[str, object]) -> list[tuple[int, int]]:
    """Return when the processor time was read, for the frame before this one and for this one, and what `cpu_time` was."""
    found = [(_read_time(frame, at), cpu_time(frame, of)) for at, of in (("preread", "precpu_stats"), ("read", "cpu_stats"))]
    return [(time, used) for time, used in found if time is not None and used is not None]


def cpu_time(frame: Mapping[str, object], of: str = "cpu_stats") -> int | None:
    """Return the processor time since the container's start, in nanoseconds."""
    total = _uint(_object(_object(frame, of), "cpu_usage"), _CPU["cpu_total"])
    return total if total is None or not _of_windows(frame) else total * _WINDOWS_TICK_NS


def _read_time(frame: Mapping[str, object], field: str) -> int | None:
    read = frame.get(field)
    if not isinstance(read, str):
        return None
    try:
        return parse_time(read)
    except CallstatsError:  # Go's zero time is in year 1, before the range of a series
        return None


def _cpu(frame: Mapping[str, object], timestamp: int) -> dict[str, int | None]:
    """Return percents of one core, by what all cores could have done since the reading before."""
    now, before = _object(frame, "cpu_stats"), _object(frame, "precpu_stats")
    now_usage, before_usage = _object(now, "cpu_usage"), _object(before, "cpu_usage")
    if _of_windows(frame):
        cores, before_at = _uint(frame, "num_procs") or 0, _read_time(frame, "preread")
        available = 0 if before_at is None else cores * (timestamp - before_at)
        tick = _WINDOWS_TICK_NS
    else:
        per_core = now_usage.get("percpu_usage")
        cores = _uint(now, "online_cpus") or (len(per_core) if isinstance(per_core, list) else 0)
        system_now, system_before = _uint(now, "system_cpu_usage"), _uint(before, "system_cpu_usage")
        available = system_now - system_before if system_now and system_before else 0
        tick = 1
    if not cores or available <= 0:
        return {}
    metrics: dict[str, int | None] = {}
    for name, field in _CPU.items():
        used_now, used_before = _uint(now_usage, field), _uint(before_usage, field)
        if used_now is not None and used_before is not None and used_now >= used_before:
            percent = 100 * cores * (used_now - used_before) * tick // available
            metrics[name] = percent if percent <= _MAX_PERCENT * cores else None
    return metrics


def _of_windows(frame: Mapping[str, object]) -> bool:
    """Return whether a Windows engine sent the frame. Others send a ``num_procs`` of 0, and the system's processor time."""
    return bool(_uint(frame, "num_procs")) and "system_cpu_usage" not in _object(frame, "cpu_stats")


def _memory(memory: Mapping[str, object]) -> dict[str, int | None]:
    usage, detail = _uint(memory, "usage") or None, _object(memory, "stats")
    inactive = _uint(detail, "total_inactive_file")
    if inactive is None:
        inactive = _uint(detail, "inactive_file")
    working = _uint(memory, "privateworkingset") or None
    if usage is not None and inactive is not None:
        working = usage - inactive if inactive < usage else usage
    return {"mem_usage": usage, "mem_limit": _uint(memory, "limit") or None, "mem_working": working}


def _net(frame: Mapping[str, object]) -> dict[str, int | None]:
    """Return bytes over all interfaces; 0 without any."""
    networks = frame.get("networks")
    if networks == []:
        networks = {}
    if not isinstance(networks, Mapping):
        return {}
    return {name: _sum(networks.values(), field) for name, field in _NET.items()}


def _disk(frame: Mapping[str, object]) -> dict[str, int | None]:
    """Return bytes over all devices; 0 without such operations. Engines differ in the case of an operation's name."""
    listed = _object(frame, "blkio_stats").get("io_service_bytes_recursive")
    if listed == {}:
        listed = []
    if not isinstance(listed, list):
        storage = _object(frame, "storage_stats")
        return {name: _uint(storage, f"{op}_size_bytes") for name, op in _DISK.items()}
    entries = [(str(each.get("op")).lower(), each) for each in listed if isinstance(each, Mapping)]
    return {name: _sum((each for its_op, each in entries if its_op == op), "value") for name, op in _DISK.items()}


def _sum(parents: Iterable[object], field: str) -> int:
    return sum(_uint(each, field) or 0 for each in parents if isinstance(each, Mapping))


def _object(parent: Mapping[str, object], field: str) -> Mapping[str, object]:
    value = parent.get(field)
    return value if isinstance(value, Mapping) else {}


def _uint(parent: Mapping[str, object], field: str) -> int | None:
    value = parent.get(field)
    return value if type(value) is int and 0 <= value <= U64_MAX else None  # a bool is an int too
