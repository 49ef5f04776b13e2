"""Whether head is slower than base: ``python benchmarks/compare.py --base b1.json b2.json --head h1.json h2.json``.

Each file is what ``pytest --benchmark-json`` wrote; the two sides run in turn, so that a noisy machine troubles both. The
smallest of a side's medians counts. What got slower than `--most` times is named, and makes the exit code 1: at once, or together
with the changes that the history tells of. So is a benchmark of base that head has not, unless ``benchmarks/renamed.toml`` has a
line for it.

The history is a file of JSON lines, one a commit of main: ``{"commit": "...", "ratios": {"name": 1.02}}``. Ratios of two commits
on one machine can be multiplied; seconds of two machines can't be compared. ``--page`` prints the history as a page.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

MOST = 1.25
"""How many times the time of before is still fine: less than the 1.3 that must be found, by what a quiet machine's noise is."""

NOISE = 1.05
"""A change below this is none in the history: ten changes of noise would add up."""

LAST = 10
"""How many changes of the history are taken together, this one among them."""

NOTES = Path(__file__).with_name("renamed.toml")


@dataclass(frozen=True)
class Notes:
    """What a change says about benchmarks that are no longer there."""

    renamed: Mapping[str, str] = field(default_factory=dict)  # the old name -> the new
    removed: Mapping[str, str] = field(default_factory=dict)  # the old name -> why

    def now(self, name: str) -> str:
        """The name that a benchmark has now, however often it was renamed."""
        seen = {name}
        while (name := self.renamed.get(name, name)) not in seen:
            seen.add(name)
        return name


@dataclass(frozen=True)
class Change:
    """One benchmark on both sides, in seconds, and its ratios in the changes before, the last one last."""

    name: str
    base: float
    head: float
    before: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times base's time head takes."""
        return self.head / self.base

    @property
    def drift(self) -> float:
        """How many times slower this change and those before it made it, what may be noise left out."""
        return prod(ratio for ratio in (*self.before, self.ratio) if not 1 / NOISE < ratio < NOISE)


def medians(files: Iterable[Path]) -> dict[str, float]:
    """The smallest median of each benchmark over some runs."""
    best: dict[str, float] = {}
    for file in files:
        for benchmark in json.loads(file.read_text())["benchmarks"]:
            name, median = benchmark["fullname"], benchmark["stats"]["median"]
            best[name] = min(best.get(name, median), median)
    return best


def read_history(file: Path | None) -> list[dict[str, Any]]:
    """The lines of a history, the last commit last; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file is not None and file.exists() else []


def read_notes(file: Path = NOTES) -> Notes:
    """What this tree says about benchmarks that are no longer there."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    return Notes(found.get("renamed", {}), found.get("removed", {}))


def changes(
    base: Mapping[str, float], head: Mapping[str, float], notes: Notes = Notes(), history: Sequence[Mapping[str, Any]] = ()
) -> list[Change]:
    """The benchmarks that both sides have, by the names of head, the most slowed down first."""
    before: dict[str, list[float]] = {}
    for line in history[-(LAST - 1) :]:
        for name, ratio in line["ratios"].items():
            before.setdefault(notes.now(name), []).append(ratio)
    known = {notes.now(name): seconds for name, seconds in base.items()}
    both = [Change(name, known[name], head[name], tuple(before.get(name, ()))) for name in known.keys() & head.keys()]
    return sorted(both, key=lambda change: (-max(change.ratio, change.drift), change.name))


def gone(base: Mapping[str, float], head: Mapping[str, float], notes: Notes = Notes()) -> list[str]:
    """The benchmarks of base that head has not, and that no note speaks of."""
    return sorted(name for name in base if notes.now(name) not in head and name not in notes.removed)


def slower(found: Iterable[Change], most: float) -> list[str]:
    """What got slower, as a line each."""
    lines = []
    for change in found:
        if change.ratio > most:
            lines.append(f"{change.name} got slower: {change.ratio:.2f} times, and {most} is the most")
        elif change.drift > most:
            n = len(change.before) + 1
            lines.append(
                f"{change.name} got slower bit by bit: {change.drift:.2f} times over {n} changes, and {most} is the most"
            )
    return lines


def table(found: Sequence[Change], most: float) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| benchmark | base | head | head / base | with those before |", "|--|--:|--:|--:|--:|"]
    for change in found:
        mark = " **slower**" if max(change.ratio, change.drift) > most else ""
        times = f"{_time(change.base)} | {_time(change.head)} | {change.ratio:.2f} | {change.drift:.2f}"
        lines.append(f"| {change.name} | {times}{mark} |")
    return lines


def page(history: Sequence[Mapping[str, Any]], notes: Notes = Notes()) -> list[str]:
    """The history as a Markdown table: a row for each benchmark, a column for each of the last commits, and their product."""
    last = history[-LAST:]
    if not last:
        return ["No commit has been measured yet."]
    rows: dict[str, list[float | None]] = {}
    for i, line in enumerate(last):
        for name, ratio in line["ratios"].items():
            rows.setdefault(notes.now(name), [None] * len(last))[i] = ratio
    lines = [f"| benchmark | {' | '.join(line['commit'][:7] for line in last)} | all |", f"|--|{'--:|' * (len(last) + 1)}"]
    for name, ratios in sorted(rows.items()):
        cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        lines.append(f"| {name} | {' | '.join(cells)} | {prod(ratio for ratio in ratios if ratio is not None):.2f} |")
    return lines


def _time(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and say what got slower or is gone: 1 then, 2 when there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--head", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--most", type=float, default=MOST, metavar="RATIO", help="how many times base's time is still fine")
    parser.add_argument("--history", type=Path, metavar="JSONL", help="the changes of main before this one")
    parser.add_argument("--notes", type=Path, default=NOTES, metavar="TOML", help="benchmarks that were renamed or removed")
    parser.add_argument("--commit", default="", help="what the line of this change is called")
    parser.add_argument("--line", type=Path, metavar="FILE", help="write this change's line of the history to a file")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the table to a file too")
    parser.add_argument("--page", action="store_true", help="print the history as a page, and compare nothing")
    wanted = parser.parse_args(arguments)
    history, notes = read_history(wanted.history), read_notes(wanted.notes)
    if wanted.page:
        print("\n".join(page(history, notes)))
        return 0
    base, head = medians(wanted.base or ()), medians(wanted.head or ())
    found = changes(base, head, notes, history)
    if not found:
        print("nothing to compare: base and head have no benchmark in common", file=sys.stderr)
        return 2
    lines = table(found, wanted.most)
    print("\n".join(lines))
    if wanted.summary is not None:
        with wanted.summary.open("a") as summary:
            summary.write("\n".join(lines) + "\n")
    if wanted.line is not None:
        ratios = {change.name: round(change.ratio, 4) for change in sorted(found, key=lambda change: change.name)}
        wanted.line.write_text(json.dumps({"commit": wanted.commit, "ratios": ratios}) + "\n")
    faults = slower(found, wanted.most)
    faults += [
        f"{name} is gone: say in benchmarks/renamed.toml what it is called now, or why it was removed"
        for name in gone(base, head, notes)
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
