"""A long run of mutants through both readers: ``make fuzz``.

Prints how many blobs agreed, and of the first that did not both results; exits with 1 then.
"""

from __future__ import annotations

import argparse
import sys
from itertools import count
from time import monotonic
from typing import Any

import callstats
from support.blobs import seeds
from support.mutants import mutants
from support.routes import disagreements

RULES: list[dict[str, Any]] = [
    {"rule": 240},
    {"rule": 2, "how": {"mem_usage": ("mean", "max")}},
    {"rule": 3, "how": ("mean", "min", "max", "first", "last"), "missing": "zero"},
    {"rule": 5, "how": "sum", "counts": False, "sort": True},
    {"rule": None, "max_bytes": 400},
]


def main() -> int:
    """Fuzz until so many mutants have been seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    start, said, seen = monotonic(), monotonic(), 0
    blobs = seeds()
    for turn in count():
        if seen >= wanted.mutants:
            break
        made = list(mutants(blobs, wanted.seed * 1_000_003 + turn, min(2_000, wanted.mutants - seen)))
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


if __name__ == "__main__":
    sys.exit(main())
