"""``callstats import``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from callstats._units import printable
from callstats.cli.errors import ExitCode, ctrl_c_stops, exit_code
from callstats.cli.format import key_text, reject_line, stopped_lines, table_text
from callstats.cli.options import column_options, examples, split_file
from callstats.db import connect
from callstats.db.engine import shown_url

if TYPE_CHECKING:
    from callstats.db import RestoreResult


@click.command("import", epilog=examples("callstats import calls.db old.jsonl"))
@click.argument("arguments", nargs=-1, metavar="[DB] FILE")
@column_options
def import_command(arguments: tuple[str, ...], table: str, **columns: str) -> ExitCode:
    """Put the histograms that `reduce --save` kept back into their rows, byte for byte.

    A row gets its saved histogram whatever it holds now. Saved rows that the table no longer has are reported.
    """
    url, file = split_file(arguments)
    with ctrl_c_stops() as stop, connect(url, table=table, **columns) as calls:
        result = calls.restore(file, stop=stop)
    for line in missing_lines(result):
        click.echo(line, err=True)
    click.echo("\n".join(import_lines(result, table_text(table, shown_url(url)))))
    return ExitCode.REJECTED if result.unknown and result.stopped is None else exit_code(result)


def import_lines(result: RestoreResult, table: str) -> list[str]:
    """Return what the import did."""
    rejected = f"{result.rejected:,} rejected, " if result.rejected else ""
    lines = [f"{table}: {result.restored:,} rows put back, {result.unknown:,} not in the table, {rejected}{result.seconds:.1f} s"]
    if result.torn:
        lines.append("the file ends in half a line, as after a kill: that row had not been changed")
    return [printable(line) for line in lines] + stopped_lines(result, "the rows counted here are written")


def missing_lines(result: RestoreResult) -> list[str]:
    """Return the saved rows that the table lacks or rejects."""
    lines = [printable(f"not in the table: {key_text(key)}") for key in result.unknown_keys]
    more = result.unknown - len(result.unknown_keys)
    lines += [f"and {more:,} more"] if more else []
    lines += map(reject_line, result.rejects)
    more = result.rejected - len(result.rejects)
    return [*lines, f"and {more:,} more rejected"] if more else lines
