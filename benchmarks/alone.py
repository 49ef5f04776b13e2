"""Time one reader of stored text in a process of its own: ``python benchmarks/alone.py READER MAX_SAMPLES FILE``.

READER is callstats (the version of this Python), simdjson or orjson. FILE has a blob a line. Print the best time in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter


def reader(name: str, max_samples: int) -> Callable[[list[bytes]], object]:
    """Return what reads a list of blobs."""
    if name == "callstats":
        from callstats import reduce_json

        return lambda blobs: reduce_json(blobs, max_samples)
    if name == "simdjson":
        from simdjson import Parser

        parser = Parser()

        def parse(blobs: list[bytes]) -> None:
            for blob in blobs:
                parser.parse(blob)  # what it returns would have to go before the next one

        return parse
    from orjson import loads

    return lambda blobs: [loads(blob) for blob in blobs]


def main() -> None:
    """Print the best of several runs."""
    name, max_samples, path = sys.argv[1:]
    blobs = Path(path).read_bytes().splitlines(keepends=True)
    read = reader(name, int(max_samples))
    times = []
    for _ in range(25):
        start = perf_counter()
        read(blobs)
        times.append(perf_counter() - start)
    print(min(times))


if __name__ == "__main__":
    main()
