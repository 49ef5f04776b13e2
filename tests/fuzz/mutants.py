"""A long run of mutants through both readers.

Prints how many blobs agreed, and of the first that did not both results.
"""

from __future__ import annotations

import sys
from itertools import count
from time import monotonic

import callstats
from fuzz.targets import RULES
from support.blobs import seeds
from support.mutants import mutants
from support.routes import disagreements


def run(wanted: int, seed: int) -> int:
    """Fuzz until so many mutants have been seen: 1 when of some the two tell different things."""
    start, said, seen = monotonic(), monotonic(), 0
    blobs = seeds()
    for turn in count():
        if seen >= wanted:
            break
        made = list(mutants(blobs, seed * 1_000_003 + turn, min(2_000, wanted - seen)))
        rule = RULES[turn % len(RULES)]
        for blob, ours, theirs in disagreements(made, **rule):
            print(f"{rule}\n{blob!r}\nscanned: {ours}\ngeneral: {theirs}")
            return 1
        seen += len(made)
        if monotonic() - said > 10:
            said = monotonic()
            print(f"{seen:,} mutants agree", file=sys.stderr)
    print(f"{seen:,} mutants of {len(blobs)} blobs agree ({callstats.backend} backend, {monotonic() - start:.0f} s)")
    return 0
