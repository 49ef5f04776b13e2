"""The example's database: made anew, if it is one's own to make."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import click

from callstats.db import connect
from callstats.db.engine import parse_url, shown_url

_MARK = 0x63616C6C
"""SQLite's application id of a database that holds the example."""


_PARTS = ("-journal", "-wal", "-shm", "")
"""What SQLite's files of one database end in, the database itself last: while it is there, the others are known as its own."""


def make_example(url: str) -> int:
    """Make the database with its calls, and tell how many there are."""
    from callstats.demo import demo_calls

    db = _file_of(url)
    _start_anew(db)
    with connect(db) as calls:
        calls.create()
        return calls.add(demo_calls())


def _file_of(url: str) -> Path:
    """The file that a path or a URL of SQLite's names; that of a link is what it points at."""
    parsed = parse_url(url)
    path = parsed.database or ":memory:"
    if parsed.get_backend_name() != "sqlite" or parsed.query or ":memory:" in path:
        raise click.UsageError(f"the example goes into a file of SQLite's, got {shown_url(url)!r}")
    try:
        return Path(path).resolve()
    except RuntimeError:  # before Python 3.13
        raise click.UsageError(f"{path!r} is a link that leads to itself: name another file") from None


def _start_anew(db: Path) -> None:
    """Make an empty database with the example's mark; it may replace only one that has it."""
    if os.path.lexists(db) and not db.is_file():
        raise click.UsageError(f"{str(db)!r} is no file, so it stays: name another one")
    if db.exists() and db.stat().st_size:
        try:
            with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as there:
                mark = there.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.Error:
            mark = None
        if mark != _MARK:
            raise click.UsageError(f"{str(db)!r} does not hold the example, so it stays: name another file")
    else:
        for part in _PARTS[:-1]:
            if os.path.lexists(f"{db}{part}"):
                raise click.UsageError(f"{db.name + part!r} is there without the example, so it stays: name another file")
    try:
        for part in _PARTS:
            Path(f"{db}{part}").unlink(missing_ok=True)
        with closing(sqlite3.connect(db)) as new:
            new.execute(f"PRAGMA application_id = {_MARK}")
    except (OSError, sqlite3.Error) as error:
        raise click.UsageError(f"can't make {str(db)!r}: {error}") from None
