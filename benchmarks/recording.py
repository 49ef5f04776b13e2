"""What a sample of a recording costs, in processor time: ``python benchmarks/recording.py``.

One process, a tree of 150 and a control group, each against its peer in the same run. Ratios are what counts: a control group
against plain reads of three of its files (at most 3), and a look at a tree against reading the `stat` of every process of this
machine (at most 0.5), as a look took that knew no strangers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import process_time, sleep

from callstats.drivers import CgroupSampler
from callstats.drivers.process.meter import Meter
from callstats.drivers.process.tree import Family

FILES = {"memory.current", "memory.stat", "memory.peak", "memory.usage_in_bytes", "memory.max_usage_in_bytes"}
STRANGERS = 150
TREE = f"for i in $(seq {STRANGERS - 1}); do sleep 600 & done; wait"


def best(work: Callable[[], object], loops: int, rounds: int = 7) -> float:
    """Return milliseconds of processor time of one call, of the best round."""
    times = []
    for _ in range(rounds):
        start = process_time()
        for _ in range(loops):
            work()
        times.append((process_time() - start) / loops * 1000)
    return min(times)


def read_all() -> list[list[bytes]]:
    """The peer of a look at a tree: read the `stat` of every process."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - as fast as can be
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    found.append(file.read().rpartition(b")")[2].split())
            except OSError:
                continue
    return found


def read_by_hand(files: list[Path]) -> list[bytes]:
    """The peer of a control group's sample: open, read and close three files."""
    texts = []
    for path in files:
        with open(path, "rb") as file:  # noqa: PTH123 - as fast as can be
            texts.append(file.read())
    return texts


@contextmanager
def tree(command: list[str], size: int) -> Iterator[Family]:
    """Start a tree of processes."""
    with subprocess.Popen(command, start_new_session=True) as root:
        family = Family(root.pid)
        while len(family.members()) < size:
            sleep(0.05)
        yield family
        os.killpg(root.pid, 9)


def groups() -> list[str]:
    """Return the folders of this machine's control groups that have memory."""
    for pattern in ("memory/*/memory.usage_in_bytes", "*/memory.current", "*/*/memory.current"):
        found = sorted(Path("/sys/fs/cgroup").glob(pattern))
        if found:
            return [str(path.parent) for path in found]
    return []


def main() -> int:
    """Print a line for each pair. Return 1 if one misses its target."""
    missed = False

    def show(name: str, ours: float, peer: str, theirs: float, most: float | None) -> None:
        nonlocal missed
        ratio = ours / theirs
        missed |= most is not None and ratio > most
        print(f"{name:28} {ours:7.3f} ms   {peer:32} {theirs:7.3f} ms   {ratio:5.2f}" + (f"  (at most {most})" if most else ""))

    with ExitStack() as stack:
        many = stack.enter_context(tree(["sh", "-c", TREE], STRANGERS))
        one = stack.enter_context(tree(["sleep", "600"], 1))
        all_stats = best(read_all, 20)
        show("a look at one process", best(one.members, 100), "the stat of all processes", all_stats, 0.5)
        show("a sample of one process", best(Meter(one).sample, 100), "the stat of all processes", all_stats, None)
        show(
            f"a sample of a tree of {STRANGERS}",
            best(Meter(many).sample, 10),
            "the stat of all processes",
            all_stats,
            None,
        )
    folders = groups()
    if folders:
        with CgroupSampler(folders[0]) as sampler:
            files = sorted(path for path in Path(folders[0]).glob("memory.*") if path.name in FILES)
            show(
                "a sample of a control group",
                best(sampler.sample, 500),
                "three of its files by hand",
                best(lambda: read_by_hand(files), 500),
                3,
            )
    else:
        print("no control group with memory on this machine")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
