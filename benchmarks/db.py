"""The job over SQLite, against a bare loop that reads each cell and writes a reduced one: ``python benchmarks/db.py``.

Both have the same rows in fresh files and take turns. The memory of a process is that of 6,000 rows and of ten times as many,
with rows of 3,600 points among them.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter

from callstats import Rule, connect, reduce_json
from inputs import stored_call

RULE = Rule(60, how={"mem_usage": ("mean", "max")})
ROWS = 6_000
AT_LEAST = 0.6
MOST_GROWTH = 1.1
_BATCH = 600


def fill(path: Path, rows: int, *, long_ones: bool = False) -> None:
    """A table of so many calls of 240 rows, one in 500 of 3,600 rows if asked for."""
    path.unlink(missing_ok=True)
    some = [stored_call(240, seed=i) for i in range(20)]
    long = stored_call(3_600)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT)")
        cells = (long if long_ones and i % 500 == 0 else some[i % 20] for i in range(rows))
        db.executemany("INSERT INTO calls VALUES (?, CAST(? AS TEXT))", ((f"{i:08}", cell) for i, cell in enumerate(cells)))


def bare_loop(path: Path) -> float:
    """Seconds to read each cell and write one of the reduced size, in transactions of 600 rows."""
    new = reduce_json([stored_call(240)], RULE)[0].decode()
    start = perf_counter()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        after = ""
        while True:
            db.execute("BEGIN IMMEDIATE")
            read = "SELECT id, CAST(stats AS BLOB) FROM calls WHERE id > ? ORDER BY id LIMIT ?"
            rows = db.execute(read, (after, _BATCH)).fetchall()
            db.executemany("UPDATE calls SET stats = ? WHERE id = ?", [(new, key) for key, _ in rows])
            db.execute("COMMIT")
            if not rows:
                return perf_counter() - start
            after = rows[-1][0]


def the_job(path: Path) -> float:
    """Seconds that the job takes, its start-up apart."""
    report = connect(path).reduce(RULE)
    assert (report.changed, report.stopped) == (report.rows, None)
    return report.seconds


def speed(folder: Path, rows: int = ROWS, rounds: int = 3) -> float:
    """The job's speed as a share of the bare loop's."""
    path = folder / "calls.db"
    times: dict[str, list[float]] = {"bare": [], "job": []}
    fill(path, 10)
    the_job(path)  # imports what it needs
    for _ in range(rounds):
        for name, work in (("bare", bare_loop), ("job", the_job)):
            fill(path, rows)
            times[name].append(work(path))
    size = len(stored_call(240))
    bare, job = min(times["bare"]), min(times["job"])
    print(f"{rows:,} rows of {size:,} bytes: bare loop {bare:.2f} s, job {job:.2f} s, {bare / job:.2f} of its speed")
    return bare / job


def memory(folder: Path, rows: int) -> float:
    """The most memory in MB that a process has which reduces so many rows."""
    path = folder / "calls.db"
    fill(path, rows, long_ones=True)
    done = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True, text=True)
    used = float(done.stdout)
    print(f"{rows:,} rows, with rows of 3,600 points: {used:.0f} MB at most")
    return used


def main() -> int:
    """Print the figures; 1 when one misses its target."""
    if len(sys.argv) > 1:
        the_job(Path(sys.argv[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        share = speed(folder)
        growth = memory(folder, 10 * ROWS) / memory(folder, ROWS)
    missed = share < AT_LEAST or growth > MOST_GROWTH
    print(f"{'MISSED ' if missed else ''}targets: {AT_LEAST} of the speed, {MOST_GROWTH} of the memory (is {growth:.2f})")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
