"""``callstats report``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from callstats._units import plural, printable, size_text
from callstats.call import Value
from callstats.cli.answers import group_text
from callstats.cli.exits import ExitCode, ctrl_c_stops
from callstats.cli.lines import key_text, reject_line
from callstats.cli.options import FN_COLUMNS, column_options, connect_to, detail_options, examples, write_file
from callstats.cli.summary import memory_size, risk_part, since_time
from callstats.db import Call, TableSummary
from callstats.db.engine import shown_url
from callstats.plot import ReportCall, ReportGroup, render

RISK = "1%"


@click.command(
    "report",
    epilog=examples(
        "callstats report calls.db",
        "callstats report calls.db -o week.html --since 7d --rightsize 0.1%",
        "callstats report calls.db --by app_id --top 200",
    ),
)
@click.argument("url", required=False, envvar="CALLSTATS_URL")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The file to write; one that is there is replaced.",
)
@click.option(
    "--top", type=click.IntRange(0, 10_000), default=50, show_default=True, metavar="N", help="How many calls get charts."
)
@click.option("--since", type=since_time, metavar="AGE", help="Only calls that came since: an age such as 7d, or a time.")
@click.option(
    "--rightsize",
    "risk",
    type=risk_part,
    default=RISK,
    show_default=True,
    metavar="RISK",
    help="Advise the least memory size at which at most this share of calls would have gone over.",
)
@click.option("--step", type=memory_size, default="64m", show_default=True, metavar="SIZE", help="Sizes are multiples of this.")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in the database's own SQL.")
@detail_options
@column_options
def report_command(url: str | None, output: Path, **asked: Any) -> None:
    """Write a page of what calls needed, to be opened in a browser: one file that needs no network.

    It has a table of all functions, which can be sorted and searched; the size of memory that suits each; how the peaks and
    durations of its calls are distributed; and charts of the heaviest calls, by turns of each function. Nothing is changed in
    the database.
    """
    if url is None:
        raise click.UsageError("which database? Give its URL, or set CALLSTATS_URL")
    asked.update({name: asked[name] or None for name in FN_COLUMNS})
    with ctrl_c_stops() as stop:
        table = connect_to(url, asked)
        survey = table.summarize(**asked, stop=stop, on_reject=lambda reject: click.echo(reject_line(reject), err=True))
    page = report_page(survey, shown_url(url), datetime.now(UTC))
    write_file(output, page.encode("utf-8", "replace"))
    summary = survey
    counted = f"{plural(summary.calls, 'call')} in {plural(len(survey.groups), 'group')}, {summary.rejected:,} refused"
    click.echo(printable(f"{counted}; wrote {output}, {size_text(output.stat().st_size)}: open it in a browser"))
    ctx = click.get_current_context()
    if summary.stopped is not None:
        click.echo(printable(f"stopped early: {summary.stopped}; the report is of the calls read so far"), err=True)
        ctx.exit(ExitCode.STOPPED)
    ctx.exit(ExitCode.REFUSED if summary.rejected else ExitCode.DONE)


def report_page(survey: TableSummary, source: str, made: datetime) -> str:
    """The page of a survey."""
    by = survey.by
    names = _names(survey)
    groups = [
        ReportGroup(name=names[group.name], summary=group.summary, peaks=group.peaks, durations=group.durations)
        for group in survey.groups
    ]
    calls = [
        ReportCall(name=_call_name(call), series=call.series, group=names.get(call.name if by else None, ""), facts=_facts(call))
        for call in survey.heaviest
        if call.series is not None
    ]
    return render(groups, calls, title=f"Calls in {source}", by=by or "group", notes=notes(survey, made))


def notes(survey: TableSummary, made: datetime) -> Iterator[str]:
    """What the page is of."""
    summary = survey
    groups = f" in {plural(len(survey.groups), 'group')}" if summary.by else ""
    yield f"{plural(summary.calls, 'call')}{groups}, as of {made:%Y-%m-%d %H:%M} UTC"
    if summary.rejected:
        yield f"left out, since they hold no histogram that can be read: {plural(summary.rejected, 'row')}"
    if summary.untimed:
        yield f"left out, since their time can't be read: {plural(summary.untimed, 'call')}"
    if summary.stopped is not None:
        yield f"stopped early: {summary.stopped}"


def _names(survey: TableSummary) -> dict[Value, str]:
    """The names of the groups; of keys that read alike, such as 1 and '1', the later ones are numbered."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    for group in survey.groups:
        name = plain = group_text(group.name) if survey.by else "all calls"
        number = 1
        while name in taken:
            number += 1
            name = f"{plain} ({number})"
        taken.add(name)
        names[group.name] = name
    return names


def _call_name(call: Call) -> str:
    return call.key if isinstance(call.key, str) else key_text(call.key)


def _facts(call: Call) -> dict[str, str]:
    found = {
        "status": call.status,
        "created": call.created_at,
        "started": call.started_at,
        "completed": call.completed_at,
        "error": call.error,
    }
    return {title: printable(str(value)) for title, value in found.items() if value is not None}
