"""``callstats compare``: whether calls have changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from callstats._json import json_text
from callstats._units import duration_text, memory_text, percent_text, plural, printable, size_text
from callstats.cli.errors import ExitCode, Failure, catch_ctrl_c, exit_code
from callstats.cli.format import NOT_EXACT, FewRejects, calls_hint, caveat_lines, name_text, stopped_lines, text_table, wrap_lines
from callstats.cli.options import (
    PAST,
    TAG,
    column_options,
    database,
    detail_options,
    examples,
    is_surely_database,
    require_time_column,
    since_option,
    validate_no_file,
    where_option,
)
from callstats.db import TableComparison, connect
from callstats.db.engine import shown_url
from callstats.errors import shorten_repr
from callstats.stats import Difference
from callstats.stats.compare import MIN_COMPARED

_NUMBERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "duration_ns": ("duration", lambda ns: duration_text(round(ns))),
    "memory": ("peak memory", lambda size: memory_text(round(size))),
    "cpu": ("CPU", lambda percent: f"{percent:.1f} %"),
    "failures": ("failures", percent_text),
}
"""The title of each number, and its text."""

_TREND = 8
"""More calls than this for one independent call are a sign of a trend or a step, which more calls don't cure."""

_CHANGE, _INTERVAL = "B - A", "interval of B - A"


@click.command(
    "compare",
    epilog=examples(
        "callstats compare calls.db resize resize-v2",
        "callstats compare calls.db resize --at 2026-11-20",
        "callstats compare --tag version=1 --tag version=2",
    ),
)
@click.argument("arguments", nargs=-1, metavar="[DB] [A] [B]")
@click.option("--at", type=PAST, metavar="TIME", help="Compare calls of A before this time with those since then.")
@click.option(
    "--tag", "tags", multiple=True, type=TAG, metavar="NAME=VALUE", help="Compare calls by tags instead of names; given twice."
)
@since_option
@where_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@detail_options
@column_options
def compare_command(
    arguments: tuple[str, ...],
    at: int | None,
    tags: tuple[tuple[str, str], ...],
    since: int | None,
    where: str | None,
    as_json: bool,
    **columns: Any,
) -> ExitCode:
    """Tell whether the calls of two names differ.

    Duration, peak memory, CPU and failures are compared. Nothing is changed in the database. Medians are compared by the
    percentile bootstrap (Wilcox 2006), shares of failures by Newcombe's interval. Of comparisons without any difference, at
    most 5 % find one, by Holm's correction over the four.

    "No difference seen" does not mean that there is none: the interval says how large it may be.
    """
    require_time_column(columns["time_column"], at=at, since=since)
    url, sides = _sides(arguments, at, tags)
    if columns["group_column"] is None and not tags:
        raise click.UsageError("A must be given with a --by column; without one, compare by --tag")
    with catch_ctrl_c() as caught, FewRejects() as few, connect(url, **columns) as table:
        found = table.compare(*sides, at=at, since=since, where=where, stop=caught.is_set, on_reject=few.add)
    if not (found.stopped or found.rejected or all(found.group_calls)):
        name = found.names[found.group_calls.index(0)]
        both = f" besides {plural(found.in_both, 'call')} with both tags" if found.in_both else ""
        raise Failure(f"there are no calls of {name_text(name)} to compare{both}: {calls_hint(shown_url(url), tags=tags)}")
    click.echo(json_text(asdict(found), indent=2) if as_json else comparison_text(found))
    return exit_code(found)


def _sides(arguments: tuple[str, ...], at: int | None, tags: tuple[tuple[str, str], ...]) -> tuple[str, list[Any]]:
    """Return the database, and one or two names or tags."""
    wanted = 1 if at is not None else 2
    names = list(arguments)
    url = database(names.pop(0) if names and (tags or len(names) > wanted or is_surely_database(names[0])) else None)
    if tags:
        if names or len(tags) != wanted or len({*tags}) != wanted:
            times = "twice with two values" if at is None else "once beside --at"
            raise click.UsageError(f"--tag must be NAME=VALUE, {times} and without A and B")
        return url, [dict([tag]) for tag in tags]
    if names and len(names) == len(arguments):  # no database was given
        validate_no_file(names[0])
    if len(names) != wanted:
        raise click.UsageError("the arguments must be [DB] A B, or [DB] A with --at")
    if len({*names}) != wanted:
        raise click.UsageError(f"B must be another name than A, got {shorten_repr(names[0])}")
    return url, names


def comparison_text(found: TableComparison) -> str:
    """Return a comparison as text."""
    a, b = found.names
    rows = [("", "A", "B", _CHANGE, _INTERVAL, "B is")] + [_row(one) for one in found.differences]
    head = [f"A: {a}, {plural(found.group_calls[0], 'call')}", f"B: {b}, {plural(found.group_calls[1], 'call')}", ""]
    notes = [
        *_confidence_lines(found),
        *_unknown_lines(found),
        *_memory_lines(found),
        *[NOT_EXACT] * any(not (one.exact_a and one.exact_b) for one in found.differences),
        "medians, and the share of failures; differences are of values before rounding",
        f"{found.rejected:,} rejected; {size_text(found.bytes_read)} read",
        *caveat_lines(found),
        *stopped_lines(found, "the numbers are of the calls read so far"),
    ]
    table = [*text_table(rows, right=1, optional=(_INTERVAL, _CHANGE)), ""]
    return "\n".join([*map(printable, head), *table, *wrap_lines(map(printable, notes), indent=2)])


def _memory_lines(found: TableComparison) -> list[str]:
    """Return where peaks are not of one kind, which alone makes them differ."""
    memory = next(one for one in found.differences if one.name == "memory")
    kinds = {"include the page cache": found.page_cache, "are the kernel's, the rest sampled": found.kernel_peaks}
    calls = memory.calls_a, memory.calls_b
    return [
        f"peaks of {of_a:,} of {calls[0]:,} calls of A and {of_b:,} of {calls[1]:,} of B {kind}: a difference may come from that"
        for kind, (of_a, of_b) in kinds.items()
        if (of_a, of_b) not in ((0, 0), calls)
    ]


def _confidence_lines(found: TableComparison) -> list[str]:
    """Return how sure the intervals are, by Holm's correction each in its own way."""
    texts = [f"{_NUMBERS[one.name][0]} {percent_text(one.confidence)}" for one in found.differences if one.confidence is not None]
    return [f"confidence of the intervals: {', '.join(texts)}"] * bool(texts)


def _unknown_lines(found: TableComparison) -> list[str]:
    """Return why some numbers can't be compared, and what would help."""
    lines = []
    for one in found.differences:
        if one.differs is None:
            line = f"{_NUMBERS[one.name][0]}: can't tell from {one.calls_a:,} and {plural(one.calls_b, 'call')}"
            if min(one.calls_a, one.calls_b) < MIN_COMPARED:
                lines.append(f"{line}: needs {MIN_COMPARED} of each")
                continue
            counted = [max(math.floor(effective), 1) for effective in (one.effective_a, one.effective_b)]
            lines.append(f"{line}, which count as {counted[0]} and {counted[1]}, since calls in a row are alike")
            lines += _ways_out({"A": (one.calls_a, one.effective_a), "B": (one.calls_b, one.effective_b)})
    return lines


def _ways_out(sides: dict[str, tuple[int, float]]) -> Iterator[str]:
    trending = [side for side, (calls, effective) in sides.items() if calls > _TREND * effective]
    more = [
        f"about {plural(math.ceil(MIN_COMPARED * calls / effective) - calls, 'more call')} of {side}"
        for side, (calls, effective) in sides.items()
        if effective < MIN_COMPARED and side not in trending
    ]
    yield f"  needs {MIN_COMPARED} of each{': ' * bool(more)}{' and '.join(more)}"
    if trending:
        have = f"{' and '.join(trending)} {'has' if len(trending) == 1 else 'have'} a trend or a step"
        yield f"  {have}: compare the calls after it by --since TIME; see growing in summary"


_POINTS: dict[str, Callable[[float], str]] = {
    "cpu": "{:.1f} points".format,
    "failures": lambda share: f"{100 * share:.3g} points",
}
"""Texts of the differences of percentages."""


def _row(one: Difference) -> tuple[str, ...]:
    title, text = _NUMBERS[one.name]
    marks = ["" if exact else "~" for exact in (one.exact_a, one.exact_b)]
    a, b = ("-" if value is None else mark + text(value) for mark, value in zip(marks, (one.a, one.b), strict=True))
    if one.differs is None or one.difference is None or one.low is None or one.high is None:
        return title, a, b, "", "", "can't tell"
    text = _POINTS.get(one.name) or text
    mark = max(marks)
    change, low, high = (f"{'-' if value < 0 else '+'}{text(abs(value))}" for value in (one.difference, one.low, one.high))
    verdict = "no difference seen"
    if one.differs:
        by = f"{abs(one.difference / one.a):.0%} ".replace("%", " %") if one.a and one.name != "failures" else ""
        verdict = f"{by}{'higher' if one.difference > 0 else 'lower'}"
    return title, a, b, mark + change, f"{mark}{low.removesuffix(' points')} to {mark}{high}", verdict
