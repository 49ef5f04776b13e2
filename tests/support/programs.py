"""Commands for drivers to run, and the processes that they leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from support.signals import ignored

PATIENCE = float(os.environ.get("CALLSTATS_TEST_PATIENCE", "30"))
"""Max seconds for an event that should happen at once, on a busy machine."""

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
"""Python that keeps a core busy."""


def wait_until(true: Callable[[], object]) -> None:
    """Wait for what another thread or process does."""
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end, "it has not come in time"
        sleep(0.005)


def burn(seconds: float) -> str:
    """Return a shell command that keeps a core busy for these seconds."""
    return f"{sys.executable} -S -c '{BURN.format(seconds=seconds)}'"


TELLING = """
import signal, sys, time
import callstats.db.jobs.worker as job
asked, batches = [], []
real_signal = signal.signal
def telling(number, handler):
    def handle(*args):
        handler(*args)
        asked.append(number)
        print("asked", file=sys.stderr, flush=True)
    return real_signal(number, handle)
signal.signal = telling
real = job.reduce_json
def slowly(*args, **options):
    batches.append(args)
    sys.stderr.write("batch\\n")
    {then}
    return real(*args, **options)
job.reduce_json = slowly
"""
"""Python that makes a job report on standard error each batch that it begins and each signal that it has handled.

Signals that come before the job handles the first of them count as one: wait between two of them.
"""

IN_THE_THIRD = TELLING.format(then="while len(batches) > 2 and not asked: time.sleep(0.01)")
"""The third batch lasts until a signal comes."""

FOR_EVER = TELLING.format(then="while True: time.sleep(1)")
"""Each batch lasts until it is interrupted."""


@contextmanager
def started(command: Sequence[str | Path], *, ignores: Iterable[int] = (), **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program that ignores these signals and no other.

    A test that fails while the program runs kills it, so that later tests find nothing of it.
    """
    with ignored(*ignores):
        program = subprocess.Popen(command, **options)
    with program:
        try:
            yield program
        except BaseException:
            program.kill()
            raise


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have a word in their command."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(mark: str, seconds: float = PATIENCE) -> bool:
    """Return whether they have all ended, or do within this time."""
    deadline = monotonic() + seconds
    while marked(mark):
        if monotonic() > deadline:
            return False
        sleep(0.02)
    return True
