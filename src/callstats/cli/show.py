"""``callstats show``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from callstats._files import replace_file
from callstats._json import json_text
from callstats._timestamps import format_times
from callstats._units import printable
from callstats.cli.errors import ExitCode, Failure, print_rejected
from callstats.cli.format import call_fields, csv_text, detail_texts, name_text, peak_source_text
from callstats.cli.options import check_output, column_options, detail_options, examples, form_option, split_key
from callstats.db import Call, connect
from callstats.db.engine import WrongUseError
from callstats.errors import ArgumentError, shorten_repr
from callstats.plot import terminal
from callstats.plot.panels import tracks
from callstats.series import StatSeries
from callstats.stats.format import peak_memory_text, samples_text, usage_text

STYLES: dict[terminal.Ink, str] = {"title": "bold", "text": "", "axis": "dim", "value": "cyan", "band": "cyan", "limit": "red"}


@click.command(
    "show",
    epilog=examples(
        "callstats show calls.db",
        "callstats show calls.db nightly",
        "callstats show calls.db 01M83YEN8Q00000000000001VP --metric mem_usage",
        "callstats show calls.db 01M83YEN8Q00000000000001VP --png call.png",
        "callstats show calls.db 01M83YEN8Q00000000000001VP --csv > samples.csv",
    ),
)
@click.argument("arguments", nargs=-1, metavar="[DB] [ID|NAME]")
@click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Only this metric. Can be repeated.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw into this file instead.")
@form_option("--json", help="Print the call as JSON, without its samples.")
@form_option("--csv", help="Print its samples as CSV, a line for each row.")
@detail_options
@column_options
def show_command(
    arguments: tuple[str, ...], metrics: tuple[str, ...], png: Path | None, form: str | None, **columns: Any
) -> ExitCode:
    """Show one call: its end, what it used, and a chart of each metric.

    A chart is solid up to the mean of the rows in each column, and light from there to their max. It lasts from the start of
    the call to its end, or where these are unknown or contradict the samples, from the first sample to the last. Lines are
    straight from row to row. Gaps, rows without the metric, and the time before the first sample and after the last stay
    blank. The memory limit is a dashed line unless it is far above. ~ marks values that are not exact: reductions have changed
    them, or they are known from samples only. Memory is "at least" so much where it was sampled: a peak between two samples is
    not seen.

    With NAME, it is the latest call of that name, by its key. Without, it is the latest of all. A single argument
    is a database if it is a URL, has a /, ends in .db or .sqlite, or is an SQLite file; else it is the ID or the name.
    """
    if form and png is not None:
        raise click.UsageError(f"--png must be given without --{form}")
    url, key = split_key(arguments)
    check_output(png, "--png", url)
    taken = (
        f"; {shorten_repr(key)} is taken for a call, as a database ends in .db or has a /" if len(arguments) == 1 and key else ""
    )
    with connect(url, **columns) as table:
        try:
            call = table.get(key)
        except WrongUseError as error:  # no database, say
            raise Failure(f"{error}{taken}") from None
        except ArgumentError as error:
            if error.parameter != "key":
                raise
            table.list(1)  # fails if --key is wrong; else the ID is, or it is a name
            named = []
            with suppress(ArgumentError):  # a table without names
                named = table.list(1, name=key)
            if not named:
                what = f"the whole key or the name of a call in table {columns['table']!r}"
                raise Failure(str(ArgumentError("ID or NAME", what, key, hint=f"list shows the latest{taken}"))) from None
            call = named[0]
    if form == "json":
        click.echo(json_text(call_fields(call), indent=2))
    elif form == "csv":
        click.echo(csv_text(_sample_rows(call.series or StatSeries([], {}), metrics)))
    elif call.series is None:
        click.echo("\n".join(head_lines(call)))
    elif png is not None:
        from callstats.plot import png as draw

        replace_file(png, "png", draw(call.series, metrics or None, title=f"call {name_text(call.key)}", span=call.span))
        click.echo(printable(f"drew {png}"))
    else:
        _print(call, call.series, metrics)
    return print_rejected([call])


def head_lines(call: Call) -> list[str]:
    """Return a call's details and what it used."""
    head = {"call": name_text(call.key), "name": "" if call.name is None else name_text(call.name), **detail_texts(call)}
    if call.series is not None:
        usage = call.usage
        head |= {
            "duration": usage_text(usage, "duration_ns"),
            "samples": samples_text(usage) if usage.rows else "none",
            "memory": f"{memory} ({peak_source_text(usage)})" if (memory := peak_memory_text(usage)) else "",
            "CPU": usage_text(usage, "cpu_mean")
            + " (processor time over duration)" * (usage.duration_ns != 0 and {"cpu_time_ns", "duration_ns"} <= usage.exact),
        }
    return [f"{title:<10}{text}" for title, text in head.items() if text]


def _sample_rows(series: StatSeries, metrics: tuple[str, ...]) -> Iterator[list[object]]:
    """Yield the names of the columns, then the rows of a series; None is an absent metric."""
    if metrics:
        tracks(series, metrics)  # fails if the series lacks one
    names = metrics or series.names
    yield ["timestamp", "count", *map(name_text, names)]
    columns = (format_times(series.timestamps), series.counts.tolist(), *(series[name].tolist() for name in names))
    yield from map(list, zip(*columns, strict=True))


def _print(call: Call, series: StatSeries, metrics: tuple[str, ...]) -> None:
    """Print head and charts as wide as the terminal, in colour unless NO_COLOR is set."""
    from rich.console import Console
    from rich.text import Text

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """End as other commands do, and not as Rich would."""
            raise BrokenPipeError

    panels = tracks(series, metrics or None, span=call.span)  # fails before anything is printed if the series lacks a metric
    console = Screen(file=sys.stdout, highlight=False)
    click.echo("\n".join(head_lines(call)))
    for chart in terminal.charts(panels, width=console.width, blocks=_fits(sys.stdout.encoding)):
        console.print()
        for pieces in chart:
            inked = Text.assemble(*((piece.text, STYLES[piece.ink]) for piece in pieces))
            inked.rstrip()
            console.print(inked, soft_wrap=True)


def _fits(encoding: str | None) -> bool:
    """Return whether an output of this encoding can show blocks."""
    with suppress(UnicodeEncodeError, LookupError):
        return bool(terminal.GLYPHS.encode(encoding or "ascii"))
    return False
