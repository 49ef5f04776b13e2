"""A month of nights: new calls come in, old ones move to coarser tiers: ``python benchmarks/nights.py [CALLS] [NIGHTS]``.

What a night reads has to stay level while the table grows: only rows that reach a tier that night are sent. The server still
counts the rows of all long histograms, and its time is told.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from db import Table, stored_call, tables

from callstats import connect

TIERS = [(timedelta(days=7), 60), (timedelta(days=30), 12)]
START = datetime(2026, 10, 1, 2, tzinfo=UTC)
FULL = 31
"""The first night in which calls reach both tiers."""
LEVEL = 1.01
"""How much more than its first full night the last one may read."""


def night(table: Table, number: int, calls: int) -> tuple[int, int, float, float]:
    """Add a day's calls and run the job. Return the table's rows, bytes read, and seconds by the clock and of the processor."""
    day = START + timedelta(days=number)
    rows = (
        {
            "id": f"{number:03}-{i:05}",
            "created_at": day - timedelta(seconds=i + 1),
            "stats": stored_call(240, seed=i % 20).decode(),
        }
        for i in range(calls)
    )
    with connect(table.url, table="nights") as opened:
        opened.add(rows)
        cost, result = table.measure(lambda: opened.reduce(None, tiers=TIERS, as_of=day), refill=False)
    assert (result.rejected, result.stopped) == (0, None)
    return result.rows, result.bytes_read, cost.clock, cost.cpu


def main() -> int:
    """Print a line for every fifth night; 1 if a later night reads more than the first full one."""
    calls, nights = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 1000), (2, 45)))
    missed = 0
    with tempfile.TemporaryDirectory() as name, tables(Path(name), 1) as every:
        for table in every:
            connect(table.url, table="nights").create()
            read_by = []
            for number in range(nights):
                rows, read, clock, cpu = night(table, number, calls)
                read_by.append(read)
                if number % 5 == 4:
                    seconds = f"{clock:.2f} s, {cpu:.2f} s of processor time"
                    print(f"{table.name}, night {number + 1}: {rows:,} rows, {read:,} bytes read, {seconds}", flush=True)
            missed += read_by[-1] > LEVEL * read_by[min(FULL, nights - 1)]
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
