"""Small SQLite databases of calls, made and read with the standard library alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from callstats import StatSeries
from support.zoo import SECOND

Value = int | float | str | bytes | None

TABLE = "CREATE TABLE calls (id TEXT PRIMARY KEY, status TEXT, stats TEXT)"


def blob(rows: int, *, seed: int = 0, metric: str = "mem_usage") -> str:
    """Stored text of so many rows, a second apart."""
    values = [(seed * 7919 + i * i * 31) % 1_000_003 for i in range(rows)]
    times = [(1_511_794_373 + seed + i) * SECOND for i in range(rows)]
    return StatSeries(times, {"cpu_total": values[::-1], metric: values}).to_db()


def made(path: Path, cells: Iterable[tuple[Value, Value]], *, table: str = TABLE, before: Iterable[str] = ()) -> Path:
    """A database whose table `calls` has these keys and cells."""
    with closing(connect(path)) as db:
        for statement in before:
            db.execute(statement)
        db.execute(table)
        db.execute("BEGIN")
        db.executemany("INSERT INTO calls (id, stats) VALUES (?, ?)", cells)
        db.execute("COMMIT")
    return path


def connect(path: Path, **options: Any) -> sqlite3.Connection:
    """A connection without transactions of the driver's own."""
    return sqlite3.connect(path, isolation_level=None, **options)


def ask(path: Path, query: str, *values: Value) -> list[tuple[Any, ...]]:
    """Run one statement."""
    with closing(connect(path)) as db:
        return db.execute(query, values).fetchall()


def cells(path: Path) -> list[tuple[Value, str, bytes | None]]:
    """Key, type and bytes of every cell, in the order of the keys."""
    return ask(path, "SELECT id, typeof(stats), CAST(stats AS BLOB) FROM calls ORDER BY id")


def cell(path: Path, key: Value) -> Any:
    """One cell as it is."""
    [(value,)] = ask(path, "SELECT stats FROM calls WHERE id COLLATE BINARY = ?", key)
    return value
