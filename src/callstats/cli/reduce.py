"""``callstats reduce``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import IO, Any

import click
from click.core import ParameterSource

from callstats._json import json_text
from callstats._timestamps import format_time
from callstats._types import I64_MAX
from callstats._units import printable
from callstats.cli.exits import ExitCode, Stopped, ctrl_c_stops
from callstats.cli.jsonl import reduce_lines
from callstats.cli.lines import largest_changes, line_summary, refused_line, reject_line, summary_lines
from callstats.cli.options import COUNT, column_options, connect_to, duration, examples, how_of, how_part, room, span, tier
from callstats.cli.progress import progress
from callstats.cli.rejects import RejectsFile
from callstats.db import ReduceResult, Reject
from callstats.rule import Missing, Rule

_TABLE_ONLY = (
    *("table", "key", "column", "where", "verify", "dry_run", "save", "as_json", "tiers", "time_column", "as_of"),
    *("rejects", "sleep", "run_time", "limit", "retries"),
)
"""Options that mean nothing without a database."""


@click.command(
    "reduce",
    epilog=examples(
        "callstats reduce calls.db --max-samples 60 --dry-run",
        "callstats reduce calls.db --max-samples 60 --save old.jsonl",
        "callstats reduce calls.db --max-bytes 65535 --where \"status = 'success'\"",
        "callstats reduce calls.db --max-samples 12 --how cpu_total=mean,max",
        "callstats reduce mysql://fn@db/funcs --tier 7d=60 --tier 30d=12 --sleep 0.1 --run-time 2h",
        "callstats reduce --jsonl --max-samples 60 < blobs.jsonl > reduced.jsonl",
    ),
)
@click.argument("url", required=False, envvar="CALLSTATS_URL")
@click.option("--max-samples", type=click.IntRange(0, I64_MAX), metavar="N", help="The most rows that a histogram may have.")
@click.option(
    "--max-bytes",
    type=room,
    metavar="SIZE",
    help="The most bytes that a stored histogram may have. Where the column holds less (MySQL's TEXT: 65,535), that counts.",
)
@click.option(
    "--tier",
    "tiers",
    type=tier,
    multiple=True,
    metavar="AGE=N",
    help="The most rows that a histogram of that age (such as 90s, 30min, 12h, 7d, 4w) or older may have. Can be repeated; the "
    "oldest that fits holds, and what is younger than all of them is left alone. With 0 rows nothing is left of it.",
)
@click.option(
    "--time-column", default="created_at", show_default=True, help="The column with a call's time: a timestamp, or RFC 3339 text."
)
@click.option("--as-of", metavar="TIME", help="The time that ages are measured from, in RFC 3339.  [default: now]")
@click.option(
    "--how",
    "hows",
    type=how_part,
    multiple=True,
    metavar="[METRIC=]REDUCER,...",
    help="mean, min, max, first, last or sum, for one metric or for all; further ones are kept beside it, as METRIC@max and "
    "so on. Can be repeated.  [default: mean, and mem_usage=mean,max]",
)
@click.option(
    "--missing",
    type=click.Choice(["skip", "zero"]),
    default="skip",
    show_default=True,
    help="What a sample counts that lacks a metric: nothing, or 0 as in Fn.",
)
@click.option("--plain", is_flag=True, help="Write Fn's exact shape: means, and no counts. Peaks that are there already stay.")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in the database's own SQL.")
@click.option("--verify", is_flag=True, help="Read and check every row, not only those long enough to be reduced.")
@click.option("--dry-run", is_flag=True, help="Report what would be done, and write nothing.")
@click.option("--save", type=click.Path(), metavar="FILE", help="Keep the old histograms in a new file, for `callstats import`.")
@click.option("--rejects", type=click.Path(), metavar="FILE", help="Write refused keys and reasons, if any, to a new JSONL file.")
@click.option("--batch-size", type=COUNT, default=1000, show_default=True, metavar="N", help="Rows per transaction.")
@click.option("--batch-bytes", type=room, default="32MiB", show_default=True, metavar="SIZE", help="Bytes per transaction.")
@click.option("--sleep", type=duration, default="0", metavar="SECONDS", help="Wait between batches.")
@click.option("--run-time", type=span, metavar="SPAN", help="Begin no batch after that time, such as 2h; another run goes on.")
@click.option("--limit", type=COUNT, metavar="N", help="Change at most so many rows; another run goes on.")
@click.option(
    "--retries",
    type=click.IntRange(0, I64_MAX),
    default=10,
    show_default=True,
    metavar="N",
    help="How often in a row a batch is tried again when a lock or the connection fails.",
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Threads that reduce.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--jsonl", is_flag=True, help="No database: read one histogram a line from a file or standard input, write as many."
)
@column_options
def reduce_command(
    url: str | None,
    max_samples: int | None,
    max_bytes: int | None,
    hows: tuple[Any, ...],
    missing: Missing,
    plain: bool,
    tiers: tuple[tuple[timedelta, int], ...],
    as_of: str | None,
    rejects: str | None,
    dry_run: bool,
    batch_size: int,
    batch_bytes: int,
    threads: int,
    as_json: bool,
    jsonl: bool,
    **table: Any,
) -> None:
    """Reduce the stored histograms of a table in place.

    URL is a SQLAlchemy URL or the path of an SQLite file. Batch after batch is read, reduced, locked, written and committed, so
    other programs can go on writing: none of their changes is overwritten, and a kill at any moment loses nothing. A second run
    changes nothing. One of --max-samples, --max-bytes and --tier is needed.
    """
    ctx = click.get_current_context()
    if max_samples is None and max_bytes is None and not tiers:
        raise click.UsageError("one of --max-samples, --max-bytes and --tier is needed")
    if max_samples is not None and tiers:
        raise click.UsageError("--tier says how many rows: it does not go with --max-samples")
    if as_of is not None and not tiers:
        raise click.UsageError("--as-of is what the ages of --tier are measured from: it does not go without")
    if plain and hows:
        raise click.UsageError("--plain means the mean of every metric: it does not go with --how")
    rule = Rule(max_samples, how="mean" if plain else how_of(hows), missing=missing, max_bytes=max_bytes)
    if dry_run and table["save"] is not None:
        raise click.UsageError("--dry-run changes nothing that could be kept: it does not go with --save")
    if jsonl:
        for name in _TABLE_ONLY:
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = name.removeprefix("as_").replace("_", "-")
                raise click.UsageError(f"--jsonl works without a database: it does not go with --{option}")
        file = None if ctx.get_parameter_source("url") is ParameterSource.ENVIRONMENT else url
        ctx.exit(_reduce_lines(file, rule, not plain, threads, batch_size, batch_bytes))
    if max_samples == 0:
        raise click.UsageError("--max-samples 0 would empty every histogram: to keep as little as can be, say --max-samples 1")
    if url is None:
        raise click.UsageError("which database? Give its URL, or set CALLSTATS_URL")
    if tiers and as_of is None:
        as_of = format_time(time.time_ns())
    with ctrl_c_stops() as stop, progress() as shown, RejectsFile(rejects) as file_of_rejects:
        if tiers:
            shown.say(printable(f"ages are as of {as_of}"))

        def refused(reject: Reject) -> None:
            shown.say(reject_line(reject))
            file_of_rejects.write(reject)

        report = connect_to(url, table).reduce(
            rule,
            counts=not plain,
            tiers=tiers or None,
            as_of=as_of,
            batch_size=batch_size,
            batch_bytes=batch_bytes,
            threads=threads,
            dry_run=dry_run,
            progress=shown.update,
            on_reject=refused,
            stop=stop,
            **table,
        )
    click.echo(report_json(report) if as_json else "\n".join(summary_lines(report)))
    ctx.exit(exit_code(report))


def report_json(report: ReduceResult) -> str:
    """A report as JSON, all in ASCII."""
    rejects = [reject._asdict() for reject in report.rejects]
    changes = {name: change and change._asdict() for name, change in largest_changes(report).items()}
    return json_text(asdict(report) | changes | {"rejects": rejects}, indent=2)


def exit_code(report: ReduceResult) -> ExitCode:
    """How a command ends whose job ended so."""
    if report.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.REFUSED if report.rejected else ExitCode.DONE


def _reduce_lines(file: str | None, rule: Rule, counts: bool, threads: int, batch_size: int, batch_bytes: int) -> ExitCode:
    if file in (None, "-") and sys.stdin is None:
        raise click.UsageError("--jsonl reads a file or standard input, and that is closed")
    try:
        source = click.open_file(file or "-", "rb")
    except OSError as error:
        raise click.UsageError(f"can't read {file!r}: {error.strerror}") from None
    with source:
        counted = reduce_lines(
            _lines(source, "standard input" if file in (None, "-") else repr(file)),
            sys.stdout.buffer,
            rule,
            counts=counts,
            threads=threads,
            batch_size=batch_size,
            batch_bytes=batch_bytes,
            on_refused=lambda number, error: click.echo(refused_line(number, error), err=True),
        )
    click.echo(line_summary(counted), err=True)
    return ExitCode.REFUSED if counted.refused else ExitCode.DONE


def _lines(source: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from source
    except OSError as error:
        raise Stopped(f"can't read {name}: {error.strerror or error}") from None
