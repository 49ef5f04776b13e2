"""``callstats report``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import click

from callstats._files import replace_file
from callstats._units import plural, printable, size_text
from callstats.cli.errors import ExitCode, exit_code
from callstats.cli.format import caveat_lines, detail_texts, name_text
from callstats.cli.options import (
    WholeNumber,
    check_output,
    choice_options,
    column_options,
    default_option,
    detail_options,
    examples,
    shown_source,
    source_argument,
)
from callstats.cli.summary import summarize_database
from callstats.db import TableSummary
from callstats.plot import ReportCall, render


@click.command(
    "report",
    epilog=examples(
        "callstats report calls.db",
        "callstats report calls.db -o week.html --since 7d --rightsize 0.1%",
        "callstats report calls.db --by app_id --top 200",
    ),
)
@source_argument
@default_option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    metavar="FILE",
    help="The file to write. An existing file is replaced, unless it is a database.",
)
@default_option("--top", type=WholeNumber(0, 10_000), default=50, metavar="N", help="Draw charts of N calls.")
@choice_options
@detail_options
@column_options
def report_command(url: str, output: Path, **asked: Any) -> ExitCode:
    """Write a page about what calls needed.

    The page is one HTML file to open in a browser, without a network. It has a table of all names, with a finding and the right
    memory size of each. For a name it shows calls, peak memory and duration over time, their distributions, and charts of its
    heaviest calls. Nothing is changed in the database.
    """
    check_output(output, "--output", url)
    summary = summarize_database(url, **asked)
    replace_file(output, "output", report_page(summary, shown_source(url), datetime.now(UTC)).encode("utf-8", "replace"))
    counted = f"{plural(summary.calls, 'call')} in {plural(len(summary.groups), 'name')}, {summary.rejected:,} rejected"
    click.echo(printable(f"{counted}; wrote {output}, {size_text(output.stat().st_size)}: open it in a browser"))
    if summary.stopped is not None:
        click.echo(printable(f"stopped early: {summary.stopped}; the report is of the calls read so far"), err=True)
    return exit_code(summary)


def report_page(summary: TableSummary, source: str, now: datetime) -> str:
    """Return the page of a summary."""
    names = _names(summary)
    groups = [replace(group, name=names[group.name]) for group in summary.groups]
    calls = [
        ReportCall(
            name=name_text(call.key),
            series=call.series,
            group=names.get(call.name if summary.by else None, ""),
            facts=detail_texts(call),
            outcome=call.status if isinstance(call.status, str) else None,
            usage=call.usage,
            span=call.span,
        )
        for call in summary.heaviest
        if call.series is not None
    ]
    return render(groups, calls, title=f"Calls in {source}", by="name", notes=notes(summary, now))


def notes(summary: TableSummary, now: datetime) -> Iterator[str]:
    """Yield lines about which calls the page shows."""
    groups = f" in {plural(len(summary.groups), 'name')}" if summary.by else ""
    yield f"{plural(summary.calls, 'call')}{groups}, as of {now:%Y-%m-%d %H:%M} UTC"
    if summary.rejected:
        yield f"left out, since their histogram can't be read: {plural(summary.rejected, 'row')}"
    yield from caveat_lines(summary)
    if summary.stopped is not None:
        yield f"stopped early: {summary.stopped}"


def _names(summary: TableSummary) -> dict[object, str]:
    """Return the names as text. Where names such as 1 and '1' give the same text, the later ones get a number."""
    names: dict[object, str] = {}
    taken: set[str] = set()
    for group in summary.groups:
        plain = name_text(group.name) if summary.by else "all calls"
        texts = chain([plain], (f"{plain} ({number})" for number in count(2)))
        names[group.name] = next(text for text in texts if text not in taken)
        taken.add(names[group.name])
    return names
