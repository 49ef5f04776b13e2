"""``callstats list``. A module named `list` would hide the builtin from its package."""

from __future__ import annotations

from typing import Any

import click

from callstats._json import json_text
from callstats.cli.errors import ExitCode, print_rejected
from callstats.cli.format import call_fields, name_text, peak_memory_text, text_table
from callstats.cli.options import POSITIVE, column_options, database_argument, default_option, detail_options, examples
from callstats.db import Call, connect
from callstats.stats.format import usage_text

_HEADINGS = ("call", "name", "status", "exit", "started", "duration", "samples", "peak memory", "CPU")


@click.command("list", epilog=examples("callstats list calls.db", "callstats list calls.db --limit 100 --json"))
@database_argument
@detail_options
@column_options
@default_option("--limit", type=POSITIVE, default=20, metavar="N", help="Show at most N calls.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each call, one a line.")
def list_command(url: str, limit: int, as_json: bool, **columns: Any) -> ExitCode:
    """List the calls with the greatest keys, which are the latest where keys sort by time.

    ~ marks values that reductions have changed.
    """
    with connect(url, **columns) as table:
        calls = table.list(limit)
    if as_json:
        for call in calls:
            click.echo(json_text(call_fields(call)))
    else:
        click.echo("\n".join(text_table([_HEADINGS, *map(_call_cells, calls)], right=_HEADINGS.index("duration"))))
    return print_rejected(calls)


def _call_cells(call: Call) -> tuple[str, ...]:
    values = (call.key, call.name, call.status, call.exit_code, call.started_at)
    details = ("" if value is None else name_text(value) for value in values)
    if call.series is None:
        return (*details, "", "?", "", "")
    usage = call.usage
    duration = usage_text(usage, "duration_ns") if usage.rows or "duration_ns" in usage.exact else ""
    return (*details, duration, usage_text(usage, "samples"), peak_memory_text(usage), usage_text(usage, "cpu_mean"))
