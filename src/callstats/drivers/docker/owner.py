"""Label containers with the process that records them, and remove the containers of recorders that were killed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

from docker.errors import DockerException

from callstats._timestamps import parse_time
from callstats.drivers.docker.engine import remove, request
from callstats.drivers.process.procfs import read_process
from callstats.errors import CallstatsError

if TYPE_CHECKING:
    from docker import APIClient

LABEL = "callstats.recorder"

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNUSED_NS = 86_400 * 10**9
"""A container that has not run for a day, and whose recorder may be on another machine, waits for nobody."""


abandoned: set[str] = set()
"""Containers that this process could not remove, because the engine did not answer."""


def recorder_label() -> str:
    """Return the value of the label: the machine's start, the namespace of process numbers, the number and its start time."""
    process = read_process(os.getpid())
    return f"{_space()} {os.getpid()} {process and process.started}"


def remove_orphans(api: APIClient) -> None:
    """Remove the containers whose recorder has ended without doing so."""
    listed = request(api, "GET", "/containers/json", all=1, filters=f'{{"label":["{LABEL}"]}}').json()
    for container in listed:
        with suppress(DockerException, OSError, ValueError):  # another recorder may remove it too; a label of another form
            if container["Id"] in abandoned or _is_orphan(api, container["Id"], container["State"], container["Labels"][LABEL]):
                remove(api, container["Id"])
                abandoned.discard(container["Id"])


def _is_orphan(api: APIClient, container: str, state: str, label: str) -> bool:
    space, *process = label.rsplit(" ", 2)
    if space == _space():
        return _has_ended(int(process[0]), process[1])
    if state not in ("created", "exited", "dead"):
        return False
    details = request(api, "GET", f"/containers/{container}/json").json()
    times = []
    for text in (details["Created"], details["State"]["FinishedAt"]):
        with suppress(CallstatsError):  # Go's zero time
            times.append(parse_time(text))
    return bool(times) and time_ns() - max(times) > _UNUSED_NS


def _space() -> str:
    """Name what process numbers are unique in; without /proc, nothing that another process would name."""
    try:
        return f"{_BOOT.read_text().strip()} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return f"- {os.getpid()}"


def _has_ended(number: int, started: str) -> bool:
    process = read_process(number)
    if process is not None:
        return process.zombie or str(process.started) != started
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False  # another user's, whose /proc is hidden
