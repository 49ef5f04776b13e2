"""The example's database: made anew, if it is one's own to make."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import click

from callstats.store import add_calls, init_table

_MARK = 0x63616C6C
"""SQLite's application id of a database that holds the example."""


def make_example(db: Path) -> int:
    """Make the database with its calls, and tell how many there are."""
    from callstats.demo import demo_calls

    _start_anew(db)
    init_table(db)
    return add_calls(db, demo_calls())


def _start_anew(db: Path) -> None:
    """Make an empty database with the example's mark; it may replace only one that has it."""
    if db.exists() and db.stat().st_size:
        try:
            with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as there:
                mark = there.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.Error:
            mark = None
        if mark != _MARK:
            raise click.UsageError(f"{str(db)!r} does not hold the example, so it stays: name another file")
    try:
        for part in ("", "-journal", "-wal", "-shm"):
            db.with_name(db.name + part).unlink(missing_ok=True)
        with closing(sqlite3.connect(db)) as new:
            new.execute(f"PRAGMA application_id = {_MARK}")
    except (OSError, sqlite3.Error) as error:
        raise click.UsageError(f"can't make {str(db)!r}: {error}") from None
