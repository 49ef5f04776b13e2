"""``callstats list``. A module named `list` would hide the builtin from its package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from callstats._json import json_text
from callstats.cli.errors import ExitCode, print_rejected
from callstats.cli.format import call_fields, call_row, csv_text, name_text, peak_memory_text, text_table, time_text
from callstats.cli.options import POSITIVE, column_options, database_argument, default_option, detail_options, examples
from callstats.db import Call, connect
from callstats.stats.format import usage_text

_HEADINGS = ("call", "name", "status", "exit", "started", "duration", "samples", "peak memory", "CPU")
_NAME_WIDTH = 32
"""Characters of a name that the table shows."""


@click.command(
    "list",
    epilog=examples(
        "callstats list calls.db",
        "callstats list calls.db --limit 100 --json",
        "callstats list calls.db --limit 1000 --csv > calls.csv",
    ),
)
@database_argument
@default_option("--limit", type=POSITIVE, default=20, metavar="N", help="Show at most N calls.")
@click.option("--json", "form", flag_value="json", help="Print a JSON object for each call, one a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, a line for each call.")
@detail_options
@column_options
def list_command(url: str, limit: int, form: str | None, **columns: Any) -> ExitCode:
    """List the latest calls.

    These are the calls with the greatest keys, so keys should sort by time. Times are in UTC. ~ marks values that reductions
    have changed. The memory of several processes or of a container is sampled, with the upper bound where one is known.
    """
    with connect(url, **columns) as table:
        calls = table.list(limit)
    if form == "json":
        for call in calls:
            click.echo(json_text(call_fields(call)))
    elif form == "csv":
        rows = [call_row(call) for call in calls]
        click.echo(csv_text([list(call_row(Call(key=""))), *(list(row.values()) for row in rows)]))
    else:
        click.echo("\n".join(_table_lines(calls)))
    return print_rejected(calls)


def _table_lines(calls: Sequence[Call]) -> list[str]:
    """Return a table of calls, without the columns that are empty for all of them."""
    rows = [_HEADINGS, *map(_call_cells, calls)]
    kept = [index for index, column in enumerate(zip(*rows, strict=True)) if any(column[1:]) or not calls]
    right = sum(index < _HEADINGS.index("duration") for index in kept)
    return text_table([[row[index] for index in kept] for row in rows], right=right)


def _call_cells(call: Call) -> tuple[str, ...]:
    values = (call.key, call.name, call.status, call.exit_code)
    key, name, *rest = ("" if value is None else name_text(value) for value in values)
    if len(name) > _NAME_WIDTH:
        name = f"{name[: _NAME_WIDTH - 1]}\u2026"
    started = (time_text(call.started_at) or "").removesuffix(" UTC").partition(".")[0]
    if call.series is None:
        return (key, name, *rest, started, "", "?", "", "")
    usage = call.usage
    duration = usage_text(usage, "duration_ns") if usage.rows or "duration_ns" in usage.exact else ""
    numbers = duration, usage_text(usage, "samples"), peak_memory_text(usage), usage_text(usage, "cpu_mean")
    return (key, name, *rest, started, *numbers)
