"""``callstats list``."""

from __future__ import annotations

from dataclasses import asdict

import click

from callstats._json import json_text
from callstats.cli.exits import ExitCode
from callstats.cli.lines import listed_call, listed_fault, listed_lines
from callstats.cli.options import COUNT, column_options, examples
from callstats.db import connect


@click.command("list", epilog=examples("callstats list calls.db", "callstats list calls.db --limit 100 --json"))
@click.argument("url", envvar="CALLSTATS_URL", default="calls.db")
@column_options
@click.option("--limit", type=COUNT, default=20, show_default=True, help="The most calls to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def list_command(ctx: click.Context, url: str, table: str, key: str, column: str, limit: int, as_json: bool) -> None:
    """Show the calls of a table, those with the greatest keys first."""
    calls = [listed_call(call) for call in connect(url, table=table, key=key, column=column).list(limit)]
    if as_json:
        for call in calls:
            click.echo(json_text(asdict(call)))
    else:
        click.echo("\n".join(listed_lines(calls)))
    for call in calls:
        if call.fault is not None:
            click.echo(listed_fault(call), err=True)
    ctx.exit(ExitCode.REFUSED if any(call.fault is not None for call in calls) else ExitCode.DONE)
