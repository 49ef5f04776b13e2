"""``callstats show``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from callstats._units import duration_text, plural, printable
from callstats.cli.exits import ExitCode
from callstats.cli.lines import key_text
from callstats.cli.options import FN_COLUMNS, column_options, connect_to, detail_options, examples, write_file
from callstats.db import Call
from callstats.plot import terminal as text
from callstats.plot.panels import span_ns, tracks
from callstats.series import StatSeries

STYLES: dict[text.Ink, str] = {
    "title": "bold",
    "text": "",
    "axis": "dim",
    "value": "cyan",
    "band": "cyan",
    "limit": "red",
}
_MARGIN = 10


@click.command(
    "show",
    epilog=examples(
        "callstats show calls.db",
        "callstats show calls.db 01M83YEN8Q00000000000001VP --metric mem_usage",
        "callstats show calls.db 01M83YEN8Q00000000000001VP --png call.png",
    ),
)
@click.argument("url_and_id", nargs=-1, metavar="[URL] [ID]")
@click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Only this metric. Can be repeated.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw into this file instead.")
@detail_options
@column_options
@click.pass_context
def show_command(
    ctx: click.Context, /, url_and_id: tuple[str, ...], metrics: tuple[str, ...], png: Path | None, **asked: Any
) -> None:
    """Show one call: how it ended, when, and a chart of each metric.

    A chart is solid up to the mean of each row, and light from its least to its greatest value where those are kept. Rows that
    are missing stay blank, and the memory limit is a dashed line unless it is far above. ~ marks what reduced rows no longer
    hold exactly.

    Without ID it is the call with the greatest key. A single argument is the ID when CALLSTATS_URL is set.
    """
    url, key = _url_and_key(url_and_id)
    asked.update({name: asked[name] or None for name in FN_COLUMNS})
    call = connect_to(url, asked).get(key)
    if call.series is None:
        click.echo("\n".join(head_lines(call)))
        click.echo(printable(f"refused {key_text(call.key)}: {call.rejected}"), err=True)
        ctx.exit(ExitCode.REFUSED)
    if png is not None:
        from callstats.plot import png as draw

        write_file(png, draw(call.series, metrics or None, title=printable(f"call {_name(call)}")))
        click.echo(printable(f"drew {png}"))
        return
    _print(call, call.series, metrics)


def _url_and_key(given: tuple[str, ...]) -> tuple[str, str | None]:
    """A URL and a key from up to two arguments."""
    default = os.environ.get("CALLSTATS_URL")
    if len(given) > 2:
        raise click.UsageError("expected URL ID, or ID alone with CALLSTATS_URL set")
    if len(given) == 2:
        return given[0], given[1]
    if default is not None:
        return default, given[0] if given else None
    if not given:
        raise click.UsageError("which database? Give its URL, or set CALLSTATS_URL")
    return given[0], None


def head_lines(call: Call) -> list[str]:
    """What is known of a call besides its metrics."""
    return [f"{title:<{_MARGIN}}{printable(str(value))}" for title, value in _head(call) if value is not None and value != ""]


def _head(call: Call) -> Iterator[tuple[str, object]]:
    yield "call", _name(call)
    yield "group", call.name
    yield "status", call.status
    yield "created", call.created_at
    yield "started", call.started_at
    yield "completed", call.completed_at
    yield "error", call.error
    if call.series is not None:
        yield "samples", samples_text(call.series)


def samples_text(series: StatSeries) -> str:
    """How many samples there are, and how long they go on."""
    if not len(series):
        return "none"
    samples = int(series.counts.sum())
    rows = "" if samples == len(series) else f" in {plural(len(series), 'row')}"
    return f"{samples:,}{rows}, {duration_text(span_ns(series))}"


def _name(call: Call) -> str:
    return call.key if isinstance(call.key, str) else key_text(call.key)


def _print(call: Call, series: StatSeries, metrics: tuple[str, ...]) -> None:
    """Head and charts, as wide as the terminal, in colour where it has any and NO_COLOR isn't set."""
    from rich.console import Console
    from rich.text import Text

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """The command ends as it does elsewhere, and not as Rich would end it."""
            raise BrokenPipeError

    console = Screen(file=sys.stdout, highlight=False)
    blocks = _fits(sys.stdout.encoding)
    for line in head_lines(call):
        console.print(Text(line), soft_wrap=True)
    for chart in text.charts(tracks(series, metrics or None), width=console.width, blocks=blocks):
        console.print()
        for pieces in chart:
            inked = Text.assemble(*((piece.text, STYLES[piece.ink]) for piece in pieces))
            inked.rstrip()
            console.print(inked, soft_wrap=True)


def _fits(encoding: str | None) -> bool:
    """Whether an output of this encoding can show blocks."""
    try:
        text.GLYPHS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
