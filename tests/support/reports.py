"""Databases for reports: a small platform, and one whose every text tries to be more than text."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from callstats import StatSeries, decimate
from support.database import connect
from support.zoo import SECOND

MIB = 2**20
FN = "CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id, status, created_at, started_at, completed_at, stats, error)"
BEGAN = 1_792_972_800

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\"'><b onmouseover=alert(1)>&amp;&lt;",
    "\u2028\u2029\x1b[31m\r\n\x00\u202e",
    '<a href="javascript:alert(1)">x</a>%{y}${1}\\u003cb>',
    "*/ <!--data--> /*script*/",
)
"""Names that a careless page would run, break at, or hide."""


def series(seconds: int, peak: int, *, limit: int = 256 * MIB, metric: str = "queue") -> StatSeries:
    """A call's samples: memory up to a peak in its middle, a processor, traffic, and a metric of its own."""
    n = range(seconds)
    return StatSeries(
        [(BEGAN + i) * SECOND for i in n],
        {
            "mem_usage": [peak * min(i + 1, seconds - i) * 2 // (seconds + 1) for i in n],
            "mem_limit": [limit] * seconds,
            "cpu_total": [40 + i * 7 % 50 for i in n],
            "net_rx": [i * i * 1000 for i in n],
            "disk_write": [i * 50_000 for i in n],
            metric: [i % 9 for i in n],
        },
    )


def stored(path: Path, rows: Iterable[tuple[Any, ...]]) -> Path:
    """A database of these calls, in Fn's shape."""
    with closing(connect(path)) as db:
        db.execute(FN)
        db.execute("BEGIN")
        db.executemany("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    return path


def call(
    key: str, group: object, histogram: str | None, *, status: str = "success", error: str | None = None, minute: int = 0
) -> tuple[Any, ...]:
    """A call's row."""
    begun, ended = (f"2026-10-26T00:{at:02}:00Z" for at in (minute, minute + 1))
    return key, group, status, begun, begun, ended, histogram, error


def platform(path: Path) -> Path:
    """Three functions of 80, 2 and 1 calls, some reduced with their peaks, and one call that was never sampled."""
    return stored(path, platform_rows())


@cache
def platform_rows() -> list[tuple[Any, ...]]:
    """Make the rows once: their text is the same whichever backend runs."""
    reduced = decimate(series(900, 150 * MIB), 60, how={"mem_usage": ("mean", "min", "max")}).to_db()
    rows = [call(f"resize-{i:02}", "resize", series(30, (40 + i) * MIB).to_db(), minute=i % 50) for i in range(78)]
    rows += [call(f"resize-{i}", "resize", reduced) for i in (78, 79)]
    export = series(7200, 200 * MIB).to_db()
    rows += [call(f"export-{i}", "export", export, status="killed", error="out of memory", minute=i) for i in (1, 2)]
    return [*rows, call("short-1", "short", "")]


def hostile(path: Path) -> Path:
    """A function, a call, a metric, a status and an error for each of the hostile names."""
    rows = []
    for place, name in enumerate(HOSTILE):
        histogram = series(60, 100 * MIB, metric=name).to_db()
        rows.append(call(f"{place}{name}", name, histogram, status=name, error=name))
    return stored(path, rows)
