"""Whether work that is done again and again needs more and more memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from callstats import CallstatsError

MOST_ROUNDS = 6


def objects() -> int:
    """The interpreter's blocks of memory and its objects."""
    return sys.getallocatedblocks() + len(gc.get_objects())


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - read in a loop
        return int(statm.read().split()[1]) * 4096


def grown(work: Callable[[], Any], times: int, measures: dict[Callable[[], int], float]) -> dict[str, int]:
    """Which measures grow by more than so much for each of so many calls, and by how much in all.

    A leak grows in every round, caches and pools in the first ones: what stays below its limit once is none.
    """
    left = dict(measures)
    gc.collect()
    gc.freeze()  # what is there need not be gone through again and again, in later tests neither
    for _ in range(MOST_ROUNDS):
        gc.collect()
        before = {measure: measure() for measure in left}
        for _ in range(times):
            with suppress(CallstatsError):
                work()
        gc.collect()
        growth = {measure: measure() - before[measure] for measure in left}
        left = {measure: most for measure, most in left.items() if growth[measure] > most * times}
        if not left:
            break
    return {measure.__name__: growth[measure] for measure in left}
