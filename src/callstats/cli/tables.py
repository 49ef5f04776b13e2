"""``callstats init`` and ``callstats import``."""

from __future__ import annotations

import click

from callstats._units import printable
from callstats.cli.example import make_example
from callstats.cli.exits import ExitCode, ctrl_c_stops
from callstats.cli.lines import import_lines, unknown_lines
from callstats.cli.options import column_options, examples, with_default_url
from callstats.db import connect
from callstats.db.engine import shown_url

_DONE = {
    "created": "created table {table} in {url}",
    "added": "added column {column} to table {table} in {url}",
    "nothing": "nothing to do: table {table} in {url} has its column {column}",
}


@click.command(
    "init",
    epilog=examples("callstats init calls.db", "callstats init calls.db --table runs --column histogram"),
)
@click.argument("url", envvar="CALLSTATS_URL")
@column_options
@click.option("--example", is_flag=True, help="Make an SQLite file with 2,001 calls to try things on; nothing else is touched.")
def init_command(url: str, table: str, key: str, column: str, example: bool) -> None:
    """Make a table of calls, or add the column to one that is there.

    The table has the columns of Fn's: id, app_id, fn_id, status, created_at, started_at, completed_at, stats and error.

    Of the example's calls one is a real container's, as a Docker engine reported it; the others are made up, and last from a
    tenth of a second to two hours. A file that holds the example already is replaced; any other one is left alone.
    """
    if example:
        if (table, key, column) != ("calls", "id", "stats"):
            raise click.UsageError("the example has the table and the columns of Fn's")
        click.echo(printable(f"{make_example(url):,} calls are in {shown_url(url)}"))
        return
    done = connect(url, table=table, key=key, column=column).create()
    click.echo(printable(_DONE[done].format(table=table, column=column, url=shown_url(url))))


@click.command("import", epilog=examples("callstats import calls.db old.jsonl"))
@click.argument("url_and_file", nargs=-1, required=True, metavar="[URL] FILE")
@column_options
@click.pass_context
def import_command(ctx: click.Context, url_and_file: tuple[str, ...], table: str, key: str, column: str) -> None:
    """Put the histograms that `reduce --save` kept back into their rows, to the byte.

    A row gets its saved histogram whatever it holds by now. Saved rows that are no longer in the table are named.
    """
    url, file = with_default_url(url_and_file)
    with ctrl_c_stops() as stop:
        report = connect(url, table=table, key=key, column=column).restore(file, stop=stop)
    for line in unknown_lines(report):
        click.echo(line, err=True)
    click.echo("\n".join(import_lines(report)))
    if report.stopped is not None:
        ctx.exit(ExitCode.STOPPED)
    ctx.exit(ExitCode.REFUSED if report.unknown or report.rejected else ExitCode.DONE)
