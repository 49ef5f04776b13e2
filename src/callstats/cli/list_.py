"""``callstats list``. A module named `list` would hide the builtin from its package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from callstats._json import json_text
from callstats._timestamps import stored_time_ns
from callstats.cli.errors import ExitCode, print_rejected, say
from callstats.cli.format import (
    call_fields,
    call_row,
    calls_hint,
    choice_text,
    csv_text,
    memory_range_text,
    name_text,
    text_table,
    time_text,
)
from callstats.cli.options import (
    POSITIVE,
    column_options,
    database,
    default_option,
    detail_options,
    examples,
    filter_options,
    form_option,
    require_time_column,
)
from callstats.db import Call, connect
from callstats.db.engine import shown_url
from callstats.errors import shorten_repr
from callstats.stats.format import usage_text

_HEADINGS = ("call", "name", "status", "started UTC", "duration", "peak\nmemory", "mean\nCPU")
_STARTED = _HEADINGS.index("started UTC")


@click.command(
    "list",
    epilog=examples(
        "callstats list calls.db",
        "callstats list calls.db --name nightly --where \"status = 'error'\"",
        "callstats list calls.db --since 1d --tag branch=main --limit 100 --json",
        "callstats list calls.db --limit 1000 --csv > calls.csv",
    ),
)
@click.argument("url", nargs=-1, metavar="[DB]", callback=lambda _context, _parameter, values: _database(*values))
@default_option("--limit", "-n", type=POSITIVE, default=20, metavar="N", help="Show at most N calls.")
@filter_options
@form_option("--json", help="Print a JSON object for each call, one a line.")
@form_option("--csv", help="Print CSV, a line for each call.")
@detail_options
@column_options
def list_command(
    url: str,
    limit: int,
    name: str | None,
    since: int | None,
    tags: dict[str, str],
    where: str | None,
    form: str | None,
    **columns: Any,
) -> ExitCode:
    """List the latest calls.

    These are the calls with the greatest keys, so keys should sort by time. Times are in UTC. An exit code other than 0 follows
    the status. ~ marks values that are not exact, since reductions have changed them or they are known from samples only, - what
    isn't known, and ? a histogram that can't be read. >= marks a peak that was sampled, as of several processes, so that a
    higher one may have been missed; 8.6-44 MiB is a sampled peak and its upper bound. --json and --csv have all numbers, and
    tell how the peak is known as peak_source.
    """
    require_time_column(columns["time_column"], since=since)
    with connect(url, **columns) as table:
        calls = table.list(limit, name=name, where=where, since=since, tags=tags)
    if form == "json":
        for call in calls:
            click.echo(json_text(call_fields(call)))
    elif form == "csv":
        rows = [call_row(call) for call in calls]
        click.echo(csv_text([list(call_row(Call(key=""))), *(list(row.values()) for row in rows)]))
    if form is None and calls:
        click.echo("\n".join(_table_lines(calls)))
        options = {"name": columns["group_column"] and "--by", "status": columns["status_column"] and "--status-column"}
        for field, option in options.items():
            if option and all(getattr(call, field) is None for call in calls):
                say(f"none of these calls has a {field}: {option} COLUMN names the column that has it")
    elif not calls:
        asked = choice_text(name=name, since=since, tags=tags, where=where)
        why = f"no calls meet {asked}: {calls_hint(shown_url(url), tags=tags)}" if asked else "the table has no calls"
        click.echo(why, err=form is not None)
    return print_rejected(calls)


def _database(text: str | None = None, *others: str) -> str:
    """Return the database of the arguments, which is all that they may be."""
    if others:
        raise click.UsageError(f"the arguments must be [DB], got {shorten_repr(others[0])} too: --name chooses calls")
    return database(text)


def _table_lines(calls: Sequence[Call]) -> list[str]:
    """Return a table of calls, without the columns that are empty for all of them."""
    rows = [list(_call_cells(call)) for call in calls]
    headings = list(_HEADINGS)
    years = {row[_STARTED][:5] for row in rows} - {""}
    if len(years) == 1:  # which then stands above the column
        headings[_STARTED] += f"\nin {years.pop()[:4]}"
        rows = [[*row[:_STARTED], row[_STARTED][5:], *row[_STARTED + 1 :]] for row in rows]
    kept = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    table = [[row[index] or "-" for index in kept] for row in (headings, *rows)]
    right = sum(index <= _STARTED for index in kept)
    optional = ("mean\nCPU", headings[_STARTED], "status")
    return text_table(table, right, optional, cut="name" if "name" in table[0] else None)


def _call_cells(call: Call) -> tuple[str, ...]:
    key, name, status = ("" if value is None else name_text(value) for value in (call.key, call.name, call.status))
    ended = f"{status} {call.exit_code}".lstrip() if call.exit_code else status
    started = (time_text(call.started_at) or "").removesuffix(" UTC")
    if stored_time_ns(call.started_at) is not None:
        started = started[: -len(":07.000")]
    if call.series is None:
        return (key, name, ended, started, "", "?", "")
    usage = call.usage
    duration = usage_text(usage, "duration_ns") if usage.rows or "duration_ns" in usage.exact else ""
    return (key, name, ended, started, duration, memory_range_text(usage), usage_text(usage, "cpu_mean"))
