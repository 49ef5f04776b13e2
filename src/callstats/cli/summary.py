"""``callstats summary``: lines, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from callstats._json import json_text
from callstats._types import FN_COUNTERS
from callstats._units import plural, size_text
from callstats.cli.errors import ExitCode, catch_ctrl_c, exit_code
from callstats.cli.format import name_text, print_reject, stopped_lines
from callstats.cli.options import choice_options, column_options, database_argument, detail_options, examples
from callstats.db import TableSummary, connect
from callstats.stats import CallsGroup, CallsSummary, summarize_calls
from callstats.stats.format import PERCENTILES, summary_texts


@click.command(
    "summary",
    epilog=examples(
        "callstats summary calls.db",
        "callstats summary calls.db --since 7d --rightsize 0.1% --step 64m",
        "callstats summary calls.db --by app_id --csv > apps.csv",
        "callstats summary runs.db --table runs --by job --status-column state --time-column began",
    ),
)
@database_argument
@choice_options(risk=None)
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, a line for each name.")
@detail_options
@column_options
def summary_command(url: str, form: str | None, **asked: Any) -> ExitCode:
    """Summarize what calls needed, by name: time, memory, CPU, network and disk.

    Nothing is changed. Of the columns with a default, the table may lack some. A call's memory is mem_working where it was
    recorded, else mem_usage, which includes the page cache; the output says which. ~ marks values that reductions have changed.

    --rightsize has a confidence of 95 %, by the one-sided bound of Clopper and Pearson. A killed call exceeds every size below
    twice its limit.
    """
    summary = summarize_database(url, **asked)
    if form == "json":
        click.echo(summary_json(summary))
    elif form == "csv":
        click.echo(summary_csv(summary))
    else:
        click.echo("\n".join(summary_lines(summary)))
    return exit_code(summary)


def summarize_database(
    url: str, *, since: int | None, where: str | None, risk: float | None, step: int, top: int = 0, **columns: Any
) -> TableSummary:
    """Summarize a table until Ctrl-C, and print its rejects to standard error."""
    if since is not None and columns["time_column"] is None:
        raise click.UsageError("--since must be given with a --time-column")
    with catch_ctrl_c() as caught, connect(url, **columns) as table:
        return table.summarize(
            since=since, where=where, risk=risk, step=step, top=top, stop=caught.is_set, on_reject=print_reject
        )


def summary_lines(summary: TableSummary) -> list[str]:
    """Return a block of lines for each name."""
    lines = [line for group in summary.groups for line in _group_lines(summary.by, group)]
    if any(group.summary.approximate for group in summary.groups):
        lines += ["~ is not exact: reductions have changed it, or a duration comes from the times of samples", ""]
    groups = f" in {plural(len(summary.groups), 'group')}" if summary.by else ""
    read = f"{size_text(summary.bytes_read)} in {summary.seconds:.1f} s, {summary.backend} backend"
    lines.append(f"{plural(summary.calls, 'call')}{groups}, {summary.rejected:,} rejected; {read}")
    if summary.untimed:
        lines.append(f"left out, since their time can't be read: {plural(summary.untimed, 'call')}")
    if summary.unfinished:
        lines.append(f"left out, since they have not ended: {plural(summary.unfinished, 'call')}")
    return lines + stopped_lines(summary, "the numbers are of the calls read so far")


def _group_lines(by: str | None, group: CallsGroup) -> Iterator[str]:
    summary = group.summary
    ends = f"{plural(summary.errors, 'error')}, {summary.killed:,} killed, {summary.unsampled:,} not sampled"
    yield f"{name_text(group.name) if by else 'all'}: {plural(summary.calls, 'call')}, {ends}"
    for title, text in summary_texts(summary):
        yield f"  {title:<11}{text}"
    yield ""


def summary_json(summary: TableSummary) -> str:
    """Return the summary as JSON in ASCII."""
    groups: list[dict[str, Any]] = []
    for group in summary.groups:
        extra = {"unlimited": group.summary.is_unlimited, "approximate": sorted(group.summary.approximate)}
        groups.append({"name": group.name, **asdict(group.summary), **extra})
    names = ("calls", "rejected", "untimed", "unfinished", "bytes_read", "seconds", "backend", "stopped")
    rest = {name: getattr(summary, name) for name in names}
    rejects = [reject._asdict() for reject in summary.rejects]
    return json_text({"by": summary.by, "groups": groups, **rest, "rejects": rejects}, indent=2)


def summary_csv(summary: TableSummary) -> str:
    """Return a line for each name; an empty field means no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_flat("", summarize_calls([]))), lineterminator="\n")
    writer.writeheader()
    for group in summary.groups:
        name = name_text(group.name)
        formula = name.startswith(("=", "+", "-", "@", "\t", "\r"))  # which a spreadsheet would run
        writer.writerow(_flat(f"'{name}" if formula else name, group.summary))
    return text.getvalue().rstrip("\n")


def _flat(name: str, summary: CallsSummary) -> dict[str, object]:
    sized, near, trend = summary.rightsize, summary.near, summary.trend
    spreads = {title: getattr(summary, title) for title in ("duration_ns", "memory", "growth", "cpu", "cpu_peak")}
    return {
        "name": name,
        **{title: getattr(summary, title) for title in ("calls", "errors", "killed", "unsampled")},
        **{f"{title}_{part}": getattr(spread, part) for title, spread in spreads.items() for part in PERCENTILES},
        **{title: getattr(summary, title) for title in ("page_cache", "limit", "headroom", "cpu_mean")},
        "unlimited": int(summary.is_unlimited),
        **{f"near_{part}": getattr(near, part) for part in ("k", "n", "p", "low", "high")},
        **{title: summary.increases[title] if summary.increase[title].n else None for title in FN_COUNTERS},
        "growing": None if trend is None or trend.growing is None else int(trend.growing),
        **{f"trend_{part}": getattr(trend, part, None) for part in ("p", "slope")},
        **{f"rightsize_{part}": getattr(sized, part, None) for part in ("size", "over", "bound", "saved", "reason")},
        "approximate": " ".join(sorted(summary.approximate)),
    }
