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


def pick_stats(frame: Mapping[str, object]) -> Stat | None:
    """Decode one frame of Docker's stats stream.

    Parameters
    ----------
    frame : mapping
        The parsed JSON object, of cgroup v1 or v2. It is left unchanged.

    Returns
    -------
    Stat or None
        The frame's own time, and its values of Fn's nine metrics and of ``mem_working``. None for a frame without a time, such
        as the last one of a stopped container.

    Notes
    -----
    A value that the frame lacks is absent, never 0, such as the processor use of a stream's first frame. Values other than whole
    numbers from 0 to 2**64 - 1 count as missing, and so do larger results.

    Examples
    --------
    >>> pick_stats({"read": "2017-11-27T14:52:53Z", "memory_stats": {"usage": 4096, "limit": 134217728}, "networks": {}})
    Stat(timestamp=1511794373000000000, metrics={'mem_usage': 4096, 'mem_limit': 134217728, 'net_rx': 0, 'net_tx': 0})
    """
    timestamp = _read_time(frame)
    if timestamp is None:
        return None
    metrics = _cpu(frame) | _memory(_object(frame, "memory_stats")) | _net(frame) | _disk(_object(frame, "blkio_stats"))
    return Stat(timestamp, {name: value for name, value in metrics.items() if value is not None and value <= U64_MAX})


def _read_time(frame: Mapping[str, object]) -> int | None:
    read = frame.get("read")
    if not isinstance(read, str):
        return None
    try:
        return parse_time(read)
    except CallstatsError:  # Go's zero time is in year 1, before the range of a series
        return None


def _cpu(frame: Mapping[str, object]) -> dict[str, int | None]:
    now, before = _object(frame, "cpu_stats"), _object(frame, "precpu_stats")
    now_usage, before_usage = _object(now, "cpu_usage"), _object(before, "cpu_usage")
    per_core = now_usage.get("percpu_usage")
    cores = _uint(now, "online_cpus") or (len(per_core) if isinstance(per_core, list) else 0)
    system_now, system_before = _uint(now, "system_cpu_usage"), _uint(before, "system_cpu_usage")
    if not (cores and system_now and system_before and system_now > system_before):
        return {}
    metrics: dict[str, int | None] = {}
    for name, field in _CPU.items():
        used_now, used_before = _uint(now_usage, field), _uint(before_usage, field)
        if used_now is not None and used_before is not None and used_now >= used_before:
            metrics[name] = 100 * cores * (used_now - used_before) // (system_now - system_before)
    return metrics


def _memory(memory: Mapping[str, object]) -> dict[str, int | None]:
    usage, detail = _uint(memory, "usage"), _object(memory, "stats")
    inactive = _uint(detail, "total_inactive_file")
    if inactive is None:
        inactive = _uint(detail, "inactive_file")
    working = None
    if usage is not None and inactive is not None:
        working = usage - inactive if inactive < usage else usage
    return {"mem_usage": usage, "mem_limit": _uint(memory, "limit"), "mem_working": working}


def _net(frame: Mapping[str, object]) -> dict[str, int | None]:
    """Return bytes over all interfaces; 0 without any."""
    networks = frame.get("networks")
    if networks == []:
        networks = {}
    if not isinstance(networks, Mapping):
        return {}
    return {name: _sum(networks.values(), field) for name, field in _NET.items()}


def _disk(blkio: Mapping[str, object]) -> dict[str, int | None]:
    """Return bytes over all devices; 0 without such operations. Engines differ in the case of an operation's name."""
    listed = blkio.get("io_service_bytes_recursive")
    if listed == {}:
        listed = []
    if not isinstance(listed, list):
        return {}
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
