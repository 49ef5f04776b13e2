"""Decode many mutants by the fast path and by the fallback decoder.

Print how many results agreed, and both results of the first that did not.
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
    """Compare so many mutants. Return 1 as soon as the two results differ."""
    start, said, seen = monotonic(), monotonic(), 0
    blobs = seeds()
    for turn in count():
        if seen >= wanted:
            break
        made = list(mutants(blobs, seed * 1_000_003 + turn, min(2_000, wanted - seen)))
        rule = RULES[turn % len(RULES)]
        for blob, ours, theirs in disagreements(made, **rule):
            print(f"{rule}\n{blob!r}\nfast path: {ours}\nfallback decoder: {theirs}")
            return 1
        seen += len(made)
        if monotonic() - said > 10:
            said = monotonic()
            print(f"{seen:,} mutants agree", file=sys.stderr)
    print(f"{seen:,} mutants of {len(blobs)} blobs agree ({callstats.backend} backend, {monotonic() - start:.0f} s)")
    return 0
