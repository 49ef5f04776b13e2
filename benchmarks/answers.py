"""``python benchmarks/answers.py``: a summary of 100,000 stored calls of 240 rows, next to decoding them alone, and its memory.

``--calls 1000`` for fewer, ``--db FILE`` to keep the database for the next run (5 GB). Ends with 1 if the summary takes more than
1.5 times as long as decoding, or its memory grows by more than 200 bytes for each call after the first 20,000.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from callstats import StatSeries, backend, connect
from inputs import stored_call

DISTINCT = 200
MOST_RATIO = 1.5
MOST_BYTES = 200  # 13 scalars of 8 bytes, and room to grow
TABLE = (
    "CREATE TABLE calls (id INTEGER PRIMARY KEY, fn_id TEXT, status TEXT, created_at TEXT, started_at TEXT, completed_at TEXT, "
    "stats TEXT)"
)


def fill(path: Path, calls: int) -> None:
    """Make the table, of 20 functions' calls."""
    blobs = [stored_call(240, seed=seed).decode() for seed in range(DISTINCT)]

    def rows() -> Iterator[tuple[int, str, str, str, str, str, str]]:
        for i in range(calls):
            day = f"2026-{1 + i % 12:02}-{1 + i % 28:02}T"
            times = (f"{day}10:00:00.000Z", f"{day}10:00:00.250Z", f"{day}10:04:00.500Z")
            yield i, f"fn-{i % 20:02}", "success", *times, blobs[i % DISTINCT]

    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(TABLE)
        db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)", rows())
        db.commit()


def decode(path: Path) -> float:
    """Seconds of processor time to read and decode every call, with nothing between the driver and `from_json`."""
    began = time.process_time()
    with closing(sqlite3.connect(path)) as db:
        for (cell,) in db.execute("SELECT CAST(stats AS BLOB) FROM calls ORDER BY id"):
            StatSeries.from_json(cell)
    return time.process_time() - began


def peak_bytes() -> int:
    """The most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--db", type=Path)
    parser.add_argument("--repeat", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.db or Path(folder) / "calls.db"
        if not path.exists():
            fill(path, asked.calls)
        calls = connect(path)
        found = calls.summarize(where="id < 20000", risk=0.01)
        few, calls_before = peak_bytes(), found.calls
        alone, whole = [], []
        for _ in range(asked.repeat):
            alone.append(decode(path))
            began = time.process_time()
            found = calls.summarize(risk=0.01)
            whole.append(time.process_time() - began)
    ratio, grown = min(whole) / min(alone), (peak_bytes() - few) / max(found.calls - calls_before, 1)
    print(f"{found.calls:,} calls, {found.bytes_read / 1e9:.2f} GB, {backend} backend")
    print(f"read and decoded: {min(alone):.2f} s; summary: {min(whole):.2f} s: {ratio:.2f} times as long (processor time)")
    print(f"peak memory: {few / 1e6:.0f} MB after 20,000 calls, {peak_bytes() / 1e6:.0f} MB after all: {grown:.0f} bytes a call")
    return int(ratio > MOST_RATIO or (found.calls > 20_000 and grown > MOST_BYTES))


if __name__ == "__main__":
    sys.exit(main())
