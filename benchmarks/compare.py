"""Whether head is slower than base: ``python benchmarks/compare.py --base b1.json b2.json --head h1.json h2.json``.

Each file is what ``pytest --benchmark-json`` wrote; the two sides run in turn, so that a noisy machine troubles both.
The smallest of a side's medians counts. What got slower than `--most` times is named, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """One benchmark on both sides, in seconds."""

    name: str
    base: float
    head: float

    @property
    def ratio(self) -> float:
        """How many times base's time head takes."""
        return self.head / self.base


def medians(files: Iterable[Path]) -> dict[str, float]:
    """The smallest median of each benchmark over some runs."""
    best: dict[str, float] = {}
    for file in files:
        for benchmark in json.loads(file.read_text())["benchmarks"]:
            name, median = benchmark["fullname"], benchmark["stats"]["median"]
            best[name] = min(best.get(name, median), median)
    return best


def changes(base: dict[str, float], head: dict[str, float]) -> list[Change]:
    """The benchmarks that both sides have, the most slowed down first."""
    both = [Change(name, base[name], head[name]) for name in base.keys() & head.keys()]
    return sorted(both, key=lambda change: (-change.ratio, change.name))


def table(found: Sequence[Change], most: float) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| benchmark | base | head | head / base |", "|--|--:|--:|--:|"]
    for change in found:
        mark = " **slower**" if change.ratio > most else ""
        lines.append(f"| {change.name} | {_time(change.base)} | {_time(change.head)} | {change.ratio:.2f}{mark} |")
    return lines


def _time(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and say what got slower: 1 then, 2 when there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", type=Path, required=True, metavar="JSON")
    parser.add_argument("--head", nargs="+", type=Path, required=True, metavar="JSON")
    parser.add_argument("--most", type=float, default=1.3, metavar="RATIO", help="how many times base's time is still fine")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the table to a file too")
    wanted = parser.parse_args(arguments)
    found = changes(medians(wanted.base), medians(wanted.head))
    if not found:
        print("nothing to compare: base and head have no benchmark in common", file=sys.stderr)
        return 2
    lines = table(found, wanted.most)
    print("\n".join(lines))
    if wanted.summary is not None:
        with wanted.summary.open("a") as summary:
            summary.write("\n".join(lines) + "\n")
    slower = [change for change in found if change.ratio > wanted.most]
    for change in slower:
        print(f"{change.name} got slower: {change.ratio:.2f} times, and {wanted.most} is the most", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
