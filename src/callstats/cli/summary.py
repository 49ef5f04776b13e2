"""``callstats summary``."""

from __future__ import annotations

import re
import time
from fractions import Fraction
from typing import Any

import click

from callstats._timestamps import stored_time_ns
from callstats.cli.answers import answer_csv, answer_json, answer_lines
from callstats.cli.exits import ExitCode, ctrl_c_stops
from callstats.cli.lines import reject_line
from callstats.cli.options import FN_COLUMNS, column_options, connect_to, examples

_AGES = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_MEMORY = re.compile(r"([0-9]{1,12})(?:([kmgt]?)(?:i?b)?)", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def memory_size(value: str) -> int:
    """Bytes of memory, as limits are written: 64m, 64MiB and 67108864 are one."""
    found = _MEMORY.fullmatch(value.strip())
    size = 0 if found is None else int(found[1]) * 1024 ** _POWERS[found[2].lower()]
    if not 1 <= size < 2**63:
        raise click.BadParameter(f"expected a size of memory such as 64m or 1g, got {value!r}")
    return size


def risk_part(value: str) -> float:
    """A share, as 0.1% or 0.001."""
    text, percent = (value.strip()[:-1], 100) if value.strip().endswith("%") else (value.strip(), 1)
    try:
        risk = float(Fraction(text) / percent)
    except (ValueError, ZeroDivisionError, OverflowError):
        risk = 0.0
    if not 1e-9 <= risk < 1:
        raise click.BadParameter(f"expected a share above 0 and below 100 %, such as 0.1% or 0.001, got {value!r}")
    return risk


def since_time(value: str) -> int:
    """A time, as an age such as 7d, or as a date or time."""
    found = _AGE.fullmatch(value.strip())
    if found is not None:
        return time.time_ns() - int(found[1]) * _AGES[found[2]] * 10**9
    moment = stored_time_ns(value.strip())
    if moment is None:
        raise click.BadParameter(f"expected an age such as 7d or 12h, or a time such as 2026-10-26T12:00:00Z, got {value!r}")
    return moment


@click.command(
    "summary",
    epilog=examples(
        "callstats summary calls.db",
        "callstats summary calls.db --since 7d --rightsize 0.1% --step 64m",
        "callstats summary calls.db --by app_id --csv > apps.csv",
        "callstats summary runs.db --table runs --by job --status-column state --time-column began",
    ),
)
@click.argument("url", required=False, envvar="CALLSTATS_URL")
@click.option(
    "--by",
    "--group-column",
    default=FN_COLUMNS["by"],
    show_default=True,
    metavar="COLUMN",
    help="The column to group by; '' for all calls as one group.",
)
@click.option("--since", type=since_time, metavar="AGE", help="Only calls that came since: an age such as 7d, or a time.")
@click.option(
    "--rightsize",
    "risk",
    type=risk_part,
    metavar="RISK",
    help="Tell the least memory size at which at most this share of calls, such as 0.1%, would have gone over.",
)
@click.option("--step", type=memory_size, default="64m", show_default=True, metavar="SIZE", help="Sizes are multiples of this.")
@click.option("--where", metavar="SQL", help="Only rows that meet this condition, in the database's own SQL.")
@click.option("--json", "form", flag_value="json", help="Print all figures as JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print a line of CSV for each group.")
@click.option("--status-column", default=FN_COLUMNS["status_column"], show_default=True, help="How a call ended.")
@click.option("--time-column", default=FN_COLUMNS["time_column"], show_default=True, help="When a call came.")
@click.option("--start-column", default=FN_COLUMNS["start_column"], show_default=True, help="When a call began to run.")
@click.option("--end-column", default=FN_COLUMNS["end_column"], show_default=True, help="When a call was over.")
@column_options
def summary_command(url: str | None, form: str | None, **asked: Any) -> None:
    """Tell what calls needed: time, memory, processor, network and disk, by function.

    Nothing is changed. Of the columns with a default, those that the table lacks are done without. A call's memory is that of
    mem_working where it was recorded, else mem_usage, which takes in the page cache; the output says which. Figures marked ~ come
    from reduced rows that no longer hold what an exact figure needs.

    --rightsize is sure to 95 %, by the one-sided bound of Clopper and Pearson. A killed call is over at every size below twice
    its limit.
    """
    if url is None:
        raise click.UsageError("which database? Give its URL, or set CALLSTATS_URL")
    asked.update({name: asked[name] or None for name in FN_COLUMNS})
    with ctrl_c_stops() as stop:
        table = connect_to(url, asked)
        summary = table.summarize(**asked, stop=stop, on_reject=lambda reject: click.echo(reject_line(reject), err=True))
    if form == "json":
        click.echo(answer_json(summary))
    elif form == "csv":
        click.echo(answer_csv(summary))
    else:
        click.echo("\n".join(answer_lines(summary)))
    ctx = click.get_current_context()
    if summary.stopped is not None:
        ctx.exit(ExitCode.STOPPED)
    ctx.exit(ExitCode.REFUSED if summary.rejected else ExitCode.DONE)
