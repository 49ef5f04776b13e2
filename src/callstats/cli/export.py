"""``callstats export``."""

from __future__ import annotations

from typing import Any

import click

from callstats._units import printable, size_text
from callstats.cli.exits import ExitCode, ctrl_c_stops
from callstats.cli.lines import reject_line
from callstats.cli.options import column_options, connect_to, examples, with_default_url
from callstats.db import ExportResult


@click.command(
    "export",
    epilog=examples(
        "callstats export calls.db calls.parquet",
        "callstats export calls.db calls.parquet --with fn_id --with status --with created_at",
        "callstats export calls.db values.parquet --long --where \"status = 'success'\"",
    ),
)
@click.argument("url_and_file", nargs=-1, required=True, metavar="[URL] FILE")
@click.option("--long", is_flag=True, help="A row for each value of each sample, instead of one for each call with its text.")
@click.option(
    "--with", "others", multiple=True, metavar="COLUMN", help="Write this column of the table too, as text. Can be repeated."
)
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in the database's own SQL.")
@column_options
def export_command(url_and_file: tuple[str, ...], **asked: Any) -> None:
    """Write the histograms of a table to a new Parquet file.

    By default the file has each call's key and its stored text, as they are. With --long it has the columns call, row, timestamp,
    metric, value and count, and a row for each value; a call without samples has one with nothing else. Columns that --with names
    are written beside both, times in ISO 8601 and bytes in hex. Row groups are written one after another, compressed with zstd,
    and the file appears when it is whole.
    """
    url, file = with_default_url(url_and_file)
    with ctrl_c_stops() as stop:
        table = connect_to(url, asked)
        report = table.export(file, **asked, stop=stop, on_reject=lambda reject: click.echo(reject_line(reject), err=True))
    click.echo(export_line(report))
    ctx = click.get_current_context()
    if report.stopped is not None:
        ctx.exit(ExitCode.STOPPED)
    ctx.exit(ExitCode.REFUSED if report.rejected else ExitCode.DONE)


def export_line(report: ExportResult) -> str:
    """What the export did."""
    line = f"{report.rows:,} rows: {report.written:,} written, {report.rejected:,} refused"
    if report.stopped is not None:
        return printable(f"{line}; stopped early: {report.stopped}; there is no file")
    sizes = f"{size_text(report.bytes_read)} of text, {size_text(report.bytes_written)} in the file"
    return f"{line}; {sizes}; {report.seconds:.1f} s"
