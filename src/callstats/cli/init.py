"""``callstats init``, with the database of the example."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import click

from callstats._units import plural, printable
from callstats.cli.demo import RECORDED
from callstats.cli.format import table_text
from callstats.cli.options import column_options, database_argument, detail_options, examples
from callstats.db import connect
from callstats.db.engine import parse_url, shown_url

_DONE = {"created": "created {}", "added": "added to {}: {}", "nothing": "nothing to do: {} has its columns"}

_EXAMPLE_ID = 0x63616C6C
"""SQLite's application id of a database that holds the example."""

_ADDED_CALLS = "SELECT count(*) FROM calls WHERE substr(id, 11, 13) IS NOT '0000000000000' AND command IS NOT ?"
"""Counts the calls that are neither the example's, whose keys have a small number after their time, nor the demo's own."""

_FILE_ENDINGS = ("-journal", "-wal", "-shm", "")
"""The endings of one database's files; the database itself comes last, since it shows that the others are its own."""


@click.command(
    "init", epilog=examples("callstats init calls.db --views", "callstats init calls.db --table runs --column histogram")
)
@database_argument
@column_options
@detail_options
@click.option("--views", is_flag=True, help="Make the views call_usage and call_samples for dashboards.")
@click.option("--example", is_flag=True, help="Make an SQLite file with 2,001 calls to try callstats on.")
def init_command(url: str, views: bool, example: bool, **columns: str) -> None:
    """Make a table of calls, or add missing columns to one.

    A new table has Fn's columns: id, app_id, fn_id (a call's name), status, created_at, started_at, completed_at, stats and
    error. It also has command, host, pid, exit_code and tags (a JSON object).

    --views makes the views call_usage, a row for each call with its peak memory, limit and CPU, and call_samples, a row for each
    value of each sample. The views of a table runs are run_usage and run_samples. Existing ones are replaced.

    One call of the example is a real container's, as a Docker engine reported it. The others are made up, and last from a tenth
    of a second to two hours. A file that holds the example is replaced. Any other file stays unchanged, and so does an example
    to which calls were added.
    """
    from callstats.db.query import Names
    from callstats.db.views import view_names

    added: list[str] = []
    if example:
        if columns != vars(Names()):
            raise click.UsageError("--example must be given without names of the table and its columns: it has Fn's")
        from callstats.demo import demo_calls

        file = _file_of(url)
        _start_anew(file)
        with connect(file) as calls:
            calls.create(views=views)
            number = calls.add(demo_calls())
        message = f"{number:,} calls are in {{}}"
    else:
        with connect(url, **columns) as calls:
            message = _DONE[calls.create(views=views, on_add=added.append)]
    click.echo(printable(message.format(table_text(columns["table"], shown_url(url)), ", ".join(added))))
    if views:
        click.echo(printable("made its views {} and {}".format(*view_names(columns["table"]))))


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
    """Make an empty database with the example's id. It may replace only a database with this id and no calls but its own."""
    if os.path.lexists(file) and not file.is_file():
        raise click.UsageError(f"{str(file)!r} is no file, so it stays: name another one")
    if file.exists() and file.stat().st_size:
        application_id, added = None, 0
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as old:
            application_id = old.execute("PRAGMA application_id").fetchone()[0]
            if old.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():  # a kill may have come before
                added = old.execute(_ADDED_CALLS, [RECORDED]).fetchone()[0]
        if application_id != _EXAMPLE_ID:
            raise click.UsageError(f"{str(file)!r} does not hold the example, so it stays: name another file")
        if added:
            calls = f"{plural(added, 'call')} that {'was' if added == 1 else 'were'} added to the example"
            raise click.UsageError(f"{str(file)!r} has {calls}, so it stays: name another file, or delete this one first")
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
