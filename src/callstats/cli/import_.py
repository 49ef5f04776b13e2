"""``callstats import``."""

from __future__ import annotations

import click

from callstats._units import plural, printable
from callstats.cli.errors import ExitCode, catch_ctrl_c, exit_code
from callstats.cli.format import MOST_ALIKE, FewRejects, key_text, stopped_lines, table_text
from callstats.cli.options import column_options, examples, split_file
from callstats.db import connect
from callstats.db.engine import shown_url


@click.command("import", epilog=examples("callstats import calls.db old.jsonl", "callstats import calls.db calls.db.spool.jsonl"))
@click.argument("arguments", nargs=-1, metavar="[DB] FILE")
@column_options
def import_command(arguments: tuple[str, ...], table: str, **columns: str) -> ExitCode:
    """Put saved histograms back into their rows.

    These are the histograms that `reduce --save` kept. They come back byte for byte.

    A row gets its saved histogram whatever it holds now. Saved rows that the table no longer has are reported.

    FILE may also hold calls that `record` could not store (.spool.jsonl). Each is stored once, however often it is imported. A
    file of `export` is neither: summary, report and reduce read it as it is.
    """
    url, file = split_file(arguments)
    with catch_ctrl_c() as caught, FewRejects() as few, connect(url, table=table, **columns) as calls:
        result = calls.restore(file, stop=caught.is_set, on_reject=few.add)
    for key in result.unknown_keys[:MOST_ALIKE]:
        click.echo(printable(f"not in the table: {key_text(key)}"), err=True)
    if result.unknown > MOST_ALIKE:
        click.echo(f"not in the table: {plural(result.unknown - MOST_ALIKE, 'more row')}", err=True)
    if 0 < result.unknown == result.rows and result.stopped is None:
        shown = table_text(table, shown_url(url))
        hint = "name the table that they were saved from by --table, --key and --column"
        click.echo(printable(f"none of the saved rows is in {shown}: {hint}"), err=True)
    rejected = f"{result.rejected:,} rejected, " if result.rejected else ""
    done = f"{plural(result.restored, 'row')} put back, {result.unknown:,} not in the table"
    if result.stored or result.known:
        done = f"{plural(result.stored, 'call')} stored, {result.known:,} in the table before"
    done = f"{done}, {rejected}{result.seconds:.1f} s"
    click.echo(printable(f"{table_text(table, shown_url(url))}: {done}"))
    if result.torn:
        click.echo("the file ends in half a line, as after a kill: that row had not been changed")
    for line in stopped_lines(result, "the rows counted here are written"):
        click.echo(line)
    return ExitCode.REJECTED if result.unknown and result.stopped is None else exit_code(result)
