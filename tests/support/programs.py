"""Commands for drivers to run, and what is left of them."""

from __future__ import annotations

import sys
from time import monotonic, sleep

import psutil

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
"""Python that keeps a core busy."""


def burn(seconds: float) -> str:
    """A shell's word that keeps a core busy for so long."""
    return f"{sys.executable} -S -c '{BURN.format(seconds=seconds)}'"


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have a word in their command."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(mark: str, seconds: float = 10) -> bool:
    """Whether they have all ended, or do within this time."""
    deadline = monotonic() + seconds
    while marked(mark):
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True
