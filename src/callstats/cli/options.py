"""The options and kinds of value that commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from callstats._types import I64_MAX
from callstats.db import CallTable, connect
from callstats.errors import CallstatsError
from callstats.rule import OTHERS, PEAK_REDUCERS, REDUCERS, How

Command = TypeVar("Command", bound=Callable[..., Any])

KEPT: Mapping[str, How] = {"mem_usage": ("mean", "max")}
"""What is kept unless told otherwise: without the peaks of a first reduction no later one has them."""

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,  # as Docker reads them
}
COUNT = click.IntRange(1, I64_MAX)
"""A number of things, as databases count."""

_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_SIZE = re.compile(r"\s*([0-9]{1,18})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)


def size(value: str) -> int:
    """A number of bytes, with or without a unit."""
    found = _SIZE.fullmatch(value)
    if found is None or found[2].lower() not in _UNITS:
        raise click.BadParameter(f"expected bytes such as 65535, 64kB or 32MiB, got {value!r}")
    return int(found[1]) * _UNITS[found[2].lower()]


def room(value: str) -> int:
    """A number of bytes for something to fit in."""
    if not (found := size(value)):
        raise click.BadParameter(f"expected 1 byte or more, got {value!r}")
    return found


_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", re.ASCII)


def duration(value: str) -> float:
    """A length of time in seconds, with or without a unit."""
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"expected a length of time such as 500ms, 60s or 2h, got {value!r}")
    return float(found[1]) * _SECONDS[found[2]]


_SPAN_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"\s*([0-9]{1,9})\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)


def parse_span(text: str) -> timedelta:
    """Return a length of time such as ``90s``, ``30min``, ``2h``, ``7d`` or ``4w``."""
    found = _SPAN.fullmatch(text)
    if found is None or found[2].lower() not in _SPAN_SECONDS:
        raise CallstatsError(f"expected a length of time such as 90s, 30min, 2h, 7d or 4w, got {text!r}")
    try:
        return timedelta(seconds=int(found[1]) * _SPAN_SECONDS[found[2].lower()])
    except OverflowError:
        raise CallstatsError(f"expected a length of time below a billion days, got {text!r}") from None


FN_COLUMNS = {
    "by": "fn_id",
    "status_column": "status",
    "time_column": "created_at",
    "start_column": "started_at",
    "end_column": "completed_at",
}


def connect_to(url: str, asked: dict[str, Any]) -> CallTable:
    """Connect to the table of the options, and take them out."""
    names = ("table", "key", "column", "status_column", "time_column", "start_column", "end_column")
    columns = {name: asked.pop(name) for name in names if name in asked}
    if "by" in asked:
        columns["group_column"] = asked.pop("by")
    return connect(url, **columns)


def span(value: str) -> timedelta:
    """A length of time."""
    try:
        return parse_span(value)
    except CallstatsError as error:
        raise click.BadParameter(str(error)) from None


def tier(value: str) -> tuple[timedelta, int]:
    """``AGE=SAMPLES``."""
    age, mark, rows = value.partition("=")
    if not mark or not _WHOLE.fullmatch(rows):
        raise click.BadParameter(f"expected an age and a number of samples, such as 7d=60, got {value!r}")
    return span(age), int(rows)


def how_part(value: str) -> tuple[str, How]:
    """``METRIC=REDUCER,...``, or the reducers alone for all metrics."""
    metric, mark, reducers = value.rpartition("=")  # a metric's name may have an equals sign
    parts = tuple(part.strip() for part in reducers.split(","))
    for place, part in enumerate(parts):
        allowed = PEAK_REDUCERS if place else REDUCERS
        if part not in allowed:
            what = "a further reducer to be" if place else "a reducer to be"
            raise click.BadParameter(f"expected {what} one of {', '.join(allowed)}, got {part!r}")
        if part in parts[:place]:
            raise click.BadParameter(f"expected each reducer once, got {part!r} again")
    return metric if mark else OTHERS, cast(How, parts if len(parts) > 1 else parts[0])


def how_of(parts: Iterable[tuple[str, How]]) -> Mapping[str, How]:
    """The `how` of a rule: what was asked for, and peaks of memory unless their metric, or all, were spoken of."""
    asked: dict[str, How] = {}
    for metric, how in parts:
        if metric in asked:
            what = "all metrics" if metric == OTHERS else repr(metric)
            raise click.UsageError(f"--how is given twice for {what}: name its reducers together, as in mem_usage=mean,max")
        asked[metric] = how
    return asked if OTHERS in asked else {**KEPT, **asked}


def with_default_url(url_and_file: Sequence[str]) -> tuple[str, str]:
    """A URL and a file from one or two arguments: of one, the URL is the environment's."""
    given = (
        [os.environ["CALLSTATS_URL"], *url_and_file] if "CALLSTATS_URL" in os.environ and len(url_and_file) == 1 else url_and_file
    )
    if len(given) != 2:
        raise click.UsageError("expected URL FILE, or FILE alone with CALLSTATS_URL set")
    return given[0], given[1]


def write_file(path: Path, data: bytes) -> None:
    """Write a file, or say in one line why it can't be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise click.UsageError(f"can't write {str(path)!r}: {error.strerror}") from None


def examples(*commands: str) -> str:
    """The end of a help text; the backspace keeps click from joining the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def detail_options(command: Command) -> Command:
    """The columns that tell of a call besides its histogram."""
    for option in (
        click.option("--end-column", default=FN_COLUMNS["end_column"], show_default=True, help="When a call was over."),
        click.option("--start-column", default=FN_COLUMNS["start_column"], show_default=True, help="When a call began to run."),
        click.option("--time-column", default=FN_COLUMNS["time_column"], show_default=True, help="When a call came."),
        click.option("--status-column", default=FN_COLUMNS["status_column"], show_default=True, help="How a call ended."),
        click.option(
            "--by",
            "--group-column",
            default=FN_COLUMNS["by"],
            show_default=True,
            metavar="COLUMN",
            help="The column that calls are grouped by; '' for all as one group.",
        ),
    ):
        command = option(command)
    return command


def column_options(command: Command) -> Command:
    """--table, --key and --column."""
    for option in (
        click.option("--column", default="stats", show_default=True, help="The column with the histograms."),
        click.option("--key", default="id", show_default=True, help="The column with the table's unique key."),
        click.option("--table", default="calls", show_default=True, help="The table."),
    ):
        command = option(command)
    return command
