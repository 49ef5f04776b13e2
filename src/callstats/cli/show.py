"""``callstats show``."""

from __future__ import annotations

import sys

import click

from callstats.cli.chart import fits, memory_lines
from callstats.cli.options import column_options, examples
from callstats.store import list_calls, read_series


@click.command("show", epilog=examples("callstats show calls.db", "callstats show calls.db 01M83YEN8Q00000000000001VP"))
@click.argument("url", envvar="CALLSTATS_URL", default="calls.db")
@click.argument("call", required=False)
@column_options
def show_command(url: str, call: str | None, table: str, key: str, column: str) -> None:
    """Show one call's memory as a chart: means solid, peaks light. By default that of the call with the greatest key."""
    where = {"table": table, "key": key, "column": column}
    if call is None:
        last = list_calls(url, limit=1, **where)
        if not last:
            raise click.UsageError(f"table {table!r} has no calls")
        found = last[0].key
    else:
        found = call
    click.echo("\n".join(memory_lines(str(found), read_series(url, found, **where), fits(sys.stdout.encoding))))
