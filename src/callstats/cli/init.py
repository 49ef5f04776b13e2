"""``callstats init``, with the database of the example."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import click

from callstats._units import printable
from callstats.cli.format import table_text
from callstats.cli.options import column_options, database_argument, examples
from callstats.db import connect
from callstats.db.engine import parse_url, shown_url

_DONE = {"created": "created {}", "added": "added the missing columns to {}", "nothing": "nothing to do: {} has its columns"}

_EXAMPLE_ID = 0x63616C6C
"""SQLite's application id of a database that holds the example."""

_FILE_ENDINGS = ("-journal", "-wal", "-shm", "")
"""The endings of one database's files; the database itself comes last, since it shows that the others are its own."""


@click.command("init", epilog=examples("callstats init calls.db", "callstats init calls.db --table runs --column histogram"))
@database_argument
@column_options
@click.option("--example", is_flag=True, help="Make an SQLite file with 2,001 calls to try callstats on.")
def init_command(url: str, table: str, key: str, column: str, example: bool) -> None:
    """Make a table of calls, or add the missing columns to an existing table.

    A new table has Fn's columns: id, app_id, fn_id (a call's name), status, created_at, started_at, completed_at, stats and
    error. It also has command, host, pid, exit_code and tags (a JSON object).

    One call of the example is a real container's, as a Docker engine reported it. The others are made up, and last from a tenth
    of a second to two hours. A file that holds the example is replaced; any other file stays unchanged.
    """
    if example:
        if (table, key, column) != ("calls", "id", "stats"):
            raise click.UsageError("--example must be given without --table, --key and --column: it has Fn's table")
        from callstats.demo import demo_calls

        file = _file_of(url)
        _start_anew(file)
        with connect(file) as calls:
            calls.create()
            number = calls.add(demo_calls())
        click.echo(printable(f"{number:,} calls are in {table_text(table, shown_url(url))}"))
        return
    with connect(url, table=table, key=key, column=column) as calls:
        done = calls.create()
    click.echo(printable(_DONE[done].format(table_text(table, shown_url(url)))))


def _file_of(url: str) -> Path:
    """Return the file that a path or a URL of SQLite names; for a link, its target."""
    parsed = parse_url(url)
    path = parsed.database or ":memory:"
    if parsed.get_backend_name() != "sqlite" or parsed.query or ":memory:" in path:
        raise click.UsageError(f"the example must be in an SQLite file, got {shown_url(url)!r}")
    try:
        return Path(path).resolve()
    except RuntimeError:  # before Python 3.13
        raise click.UsageError(f"the example must be in an SQLite file, got a link to itself: {path!r}") from None


def _start_anew(file: Path) -> None:
    """Make an empty database with the example's id. It may replace only a database with this id."""
    if os.path.lexists(file) and not file.is_file():
        raise click.UsageError(f"{str(file)!r} is no file, so it stays: name another one")
    if file.exists() and file.stat().st_size:
        application_id = None
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as old:
            application_id = old.execute("PRAGMA application_id").fetchone()[0]
        if application_id != _EXAMPLE_ID:
            raise click.UsageError(f"{str(file)!r} does not hold the example, so it stays: name another file")
    else:
        for ending in _FILE_ENDINGS[:-1]:
            if os.path.lexists(f"{file}{ending}"):
                raise click.UsageError(f"{file.name + ending!r} is there without the example, so it stays: name another file")
    try:
        for ending in _FILE_ENDINGS:
            Path(f"{file}{ending}").unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as new:
            new.execute(f"PRAGMA application_id = {_EXAMPLE_ID}")
    except (OSError, sqlite3.Error) as error:
        raise click.UsageError(f"can't make {str(file)!r}: {error}") from None
