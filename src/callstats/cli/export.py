"""``callstats export``."""

from __future__ import annotations

from typing import Any

import click

from callstats._units import plural, printable, size_text
from callstats.adapters.files import STANDARD, has_lines
from callstats.cli.errors import ExitCode, catch_ctrl_c, exit_code
from callstats.cli.format import FewRejects
from callstats.cli.options import check_output, column_options, examples, open_calls, source, split_file, where_option


@click.command(
    "export",
    epilog=examples(
        "callstats export calls.db calls.parquet",
        "callstats export calls.db calls.parquet --with fn_id --with status --with created_at",
        "callstats export calls.db calls.jsonl.gz --where \"created_at > '2026-11-01'\"",
        "callstats export calls.db values.parquet --long --where \"status = 'success'\"",
        "callstats export --openmetrics calls.db calls.om",
    ),
)
@click.argument("arguments", nargs=-1, metavar="[DB|FILE] FILE")
@click.option("--long", is_flag=True, help="Write a row for each value of each sample, instead of a row for each call.")
@click.option("--openmetrics", is_flag=True, help="Write OpenMetrics text, from which promtool makes blocks for Prometheus.")
@click.option("--with", "others", multiple=True, metavar="COLUMN", help="Write this column too, as text. Can be repeated.")
@where_option
@column_options
def export_command(
    arguments: tuple[str, ...], long: bool, openmetrics: bool, others: tuple[str, ...], where: str | None, **columns: str
) -> ExitCode:
    """Write the histograms of a table or a file to a new file.

    JSON lines are in a file whose name ends in .jsonl, .jsonl.gz or .jsonl.zst, or in -, the standard output. Parquet ends in
    .parquet or .pq.

    By default the file has each call's key and its stored text, unchanged. With --long it has the columns call, row, timestamp,
    metric, value and count, and a row for each value; a call without samples has one row without them. Columns that --with names
    follow, times in ISO 8601 and bytes in hex. Parquet is compressed with zstd. The file appears when it is complete.

    With --openmetrics each call has a series for each metric, in base units and labelled by call and name.
    """
    if openmetrics and (long or others):
        raise click.UsageError("--openmetrics must be given without --long and --with, which are for other files")
    url, file = split_file(arguments, source)
    if long and has_lines(file):
        raise click.UsageError(f"--long is for Parquet only: FILE must end in .parquet, got {file!r}")
    check_output(file, "FILE", url)
    with catch_ctrl_c() as caught, FewRejects() as few, open_calls(url, **columns) as calls:
        select: dict[str, Any] = {"where": where, "stop": caught.is_set, "on_reject": few.add}
        result = calls.export(file, long=long, openmetrics=openmetrics, others=others, **select)
    line = f"{plural(result.rows, 'row')}: {result.written:,} written, {result.rejected:,} rejected"
    in_file = "" if file == STANDARD else f", {size_text(result.bytes_written)} in the file"
    sizes = f"{size_text(result.bytes_read)} of text{in_file}; {result.seconds:.1f} s"
    rest = sizes if result.stopped is None else f"stopped early: {result.stopped}; no file was written"
    click.echo(printable(f"{line}; {rest}"), err=file == STANDARD)
    return exit_code(result)
