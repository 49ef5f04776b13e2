"""Lines, tables and JSON that several commands print."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import click

from callstats._json import json_text
from callstats._timestamps import format_time, stored_time_ns
from callstats._units import percent_text, plural, printable, size_text
from callstats.stats.call import WORKING, CallUsage
from callstats.stats.calls import ERRORS
from callstats.stats.format import usage_text

if TYPE_CHECKING:
    from callstats.call import Call, Key
    from callstats.db import JobResult, Reject, TableComparison, TableSummary


_SHOWN_STATUSES = 5
MOST_ALIKE = 10
"""How many rows with the same fault are named."""
_MOST_REASONS = 20
"""How many reasons of rejected rows are counted apart."""
_VALUE = re.compile(r"""(?<!\w)(?:b?'(?:[^'\\]|\\.)*(?:'|\.{3})|b?"(?:[^"\\]|\\.)*(?:"|\.{3})|-?\d(?:[\w,.:+-]*\w)?)""")
"""A quoted text, which may be cut, a number or a time: what differs between reasons of one kind."""
NOT_EXACT = "~ is not exact: reductions have changed it, or it is known from samples only"

_OPTIONS = {
    "fn_id": "--by",
    "status": "--status-column",
    "created_at": "--time-column",
    "started_at": "--start-column",
    "completed_at": "--end-column",
}
"""The options for columns that a table may lack, by the default names."""


def key_text(key: Key | None) -> str:
    """Return a key as SQL writes it."""
    if key is None:
        return "NULL"
    return f"x'{key.hex()}'" if isinstance(key, bytes) else repr(key)


def name_text(name: object) -> str:
    """Return a call's name, or its key, as people read it: text without quotes."""
    if isinstance(name, bytes):
        return key_text(name)
    return "NULL" if name is None else printable(str(name))


def calls_hint(shown: str, *, tags: object) -> str:
    """Return which command tells what calls there are, for who has asked for others: only one shows tags."""
    command = f"list {shlex.quote(shown)} --json" if tags else f"summary {shlex.quote(shown)}"
    return printable(f"callstats {command} tells what calls there are")


def choice_text(*, name: str | None = None, since: int | None, tags: Mapping[str, str], where: str | None) -> str:
    """Return the options that chose calls; no text where none did."""
    given = {"--name": name, "--since": since, "--tag": tags or None, "--where": where}
    return " and ".join(option for option, value in given.items() if value is not None)


class FewRejects:
    """Tell the first rejected rows of each reason, and at the end of a ``with`` block how many more there were.

    Reasons that differ only in numbers and quoted texts are one. Lines go to `say`, by default to standard error.
    `rest` tells where all of them are.
    """

    def __init__(self, say: Callable[[str], object] | None = None, rest: str = "") -> None:
        self._say, self._rest = say or partial(click.echo, err=True), rest
        self._counts: Counter[str | None] = Counter()
        """Rejected rows by kind of reason; None is every kind after the first 20."""
        self._reasons: dict[str, str] = {}
        """The reason of a kind as all of its rows have it, or without its values."""

    def __enter__(self) -> Self:
        return self

    def add(self, reject: Reject) -> None:
        """Tell a rejected row, or count it."""
        kind = _VALUE.sub("\N{HORIZONTAL ELLIPSIS}", reject.reason)
        if kind not in self._counts and len(self._counts) >= _MOST_REASONS:
            self._counts[None] += 1
            return
        self._counts[kind] += 1
        if self._reasons.setdefault(kind, reject.reason) != reject.reason:
            self._reasons[kind] = kind
        if self._counts[kind] <= MOST_ALIKE:
            self._say(printable(f"rejected {key_text(reject.key)}: {reject.reason}"))

    def __exit__(self, *_: object) -> None:
        for kind, count in self._counts.items():
            if (more := count - (0 if kind is None else MOST_ALIKE)) > 0:
                why = "with further reasons" if kind is None else f"too: {self._reasons[kind]}"
                self._say(printable(f"rejected {plural(more, 'more row')} {why}{self._rest}"))


def table_text(table: str, url: str) -> str:
    """Return which table a command works on."""
    return f"table {table} in {url}"


def stopped_lines(result: JobResult, rest: str) -> list[str]:
    """Return why a job stopped early, and what holds for the rest."""
    return [] if result.stopped is None else [printable(f"stopped early: {result.stopped}; {rest}")]


def caveat_lines(result: TableSummary | TableComparison) -> list[str]:
    """Return how many calls are left out and why, how many have a status of unknown meaning, and which columns there are not."""
    lines = []
    if unknown := result.unknown_statuses:
        words = [name_text(word) for word in [*unknown][:_SHOWN_STATUSES]] + ["and others"] * (len(unknown) > _SHOWN_STATUSES)
        counted = f"{plural(sum(unknown.values()), 'call')} ({', '.join(words)})"
        known = f"callstats knows success, {', '.join(sorted(ERRORS))}"
        lines = [f"counted as successes, since their status is unknown: {counted}; {known}"]
    left_out = {
        "they have both tags": getattr(result, "in_both", 0),
        "their time can't be read": result.untimed,
        "they have not ended": result.unfinished - result.lost,
        "they are lost and will never end": result.lost,
    }
    lines += [f"left out, since {why}: {plural(n, 'call')}" for why, n in left_out.items() if n]
    if result.missing_columns:
        lacking = ", ".join(f"{name} ({_OPTIONS[name]})" for name in result.missing_columns)
        source = "file" if getattr(result, "is_file", False) else "table"
        lines.append(f"the {source} has no {lacking}: name its own column by the option in brackets")
    return lines


def less_text(before: int, after: int, what: str) -> str:
    """Return how much smaller a reduction made the text."""
    less = percent_text((before - after) / max(before, 1), ".1f")
    return f"{size_text(before)} before, {size_text(after)} after in the {what}: {less} less"


def peak_source_text(usage: CallUsage) -> str:
    """Return how a call's peak memory is known, and its metric where it isn't ``mem_usage``; no text where it is unknown."""
    sources = {"kernel": "the kernel's count", "sampled": "sampled", None: ""}
    metric = f"{usage.memory_metric}, " if usage.memory_metric == WORKING else ""
    return metric + sources[usage.peak_source]


def memory_range_text(usage: CallUsage) -> str:
    """Return `peak_memory_text` for a column: ">=34.6 MiB", or "8.6-44 MiB" for a peak and its upper bound."""
    low, high = usage_text(usage, "peak_memory"), usage_text(usage, "peak_ceiling")
    bound = ">=" if usage.peak_source == "sampled" else ""
    return f"{low.removesuffix(high[high.rfind(' ') :])}-{high}" if high else f"{bound}{low}"


def short_number(value: float) -> str:
    """Return a number: its whole part from 1,000 on, else four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def time_text(value: object) -> str | None:
    """Return a stored time in UTC, to the millisecond; a value that is no time as it is."""
    ns = stored_time_ns(value)
    if ns is None:
        return None if value is None else name_text(value)
    return format_time(ns, digits=3, zone=" UTC").replace("T", " ", 1)


def detail_texts(call: Call) -> dict[str, str]:
    """Return how a call ended and when, by the titles that people know."""
    values = {
        "command": call.command,
        "host": call.host,
        "tags": " ".join(f"{name}={value}" for name, value in call.tags.items()) or None,
        "status": call.status,
        "exit": call.exit_code,
        "created": time_text(call.created_at),
        "started": time_text(call.started_at),
        "completed": time_text(call.completed_at),
        "error": call.error,
    }
    return {title: name_text(value) for title, value in values.items() if value is not None}


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV without the last line break. Text that a spreadsheet would run as a formula gets a quote before it."""
    text = io.StringIO()
    for row in rows:
        csv.writer(text, lineterminator="\n").writerow(
            f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in row
        )
    return text.getvalue().rstrip("\n")


def call_fields(call: Call) -> dict[str, object]:
    """Return a call as JSON shows it."""
    usage = None if call.series is None else {**dataclasses.asdict(call.usage), "exact": sorted(call.usage.exact)}
    fields = {each.name: getattr(call, each.name) for each in dataclasses.fields(call) if each.name != "series"}
    return {**fields, "tags": dict(call.tags), "usage": usage}


def call_row(call: Call) -> dict[str, object]:
    """Return a call as a row of CSV: `call_fields` without nesting. An empty cell is an unknown value."""
    fields = call_fields(call)
    unknown = dict.fromkeys((field.name for field in dataclasses.fields(CallUsage)), None)
    used: dict[str, Any] = cast("dict[str, Any] | None", fields.pop("usage")) or unknown
    row = {
        **fields,
        **used,
        "tags": json_text(fields["tags"]) if fields["tags"] else None,
        "exact": " ".join(used["exact"] or ()),
    }
    return {name: value if value is None or isinstance(value, (int, float)) else name_text(value) for name, value in row.items()}


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None where the output is none, which gets whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrap_lines(lines: Iterable[str], indent: int) -> Iterator[str]:
    """Yield lines that fit the terminal: the rest of a longer one follows, indented."""
    width = terminal_width()
    for line in lines:
        fits = width is None or len(line) <= width or width <= 2 * indent
        yield from [line] if fits or width is None else textwrap.wrap(line, width, subsequent_indent=" " * indent)


def text_table(rows: Sequence[Sequence[str]], right: int, optional: Sequence[str] = (), cut: str | None = None) -> list[str]:
    """Return rows as lines, the headings first, with the columns from the index `right` on aligned to the right.

    A line break in a heading makes two lines of it. Where the terminal is too narrow, the cells of the column `cut` are cut to
    16 characters. Then the columns `optional` are left out, the first of them first, and a line says so.
    """
    columns = {heading: [row[index] for row in rows[1:]] for index, heading in enumerate(rows[0])}
    rights, room, left_out = set(rows[0][right:]), terminal_width(), []

    def excess() -> int:
        return 0 if room is None else sum(_width(*column) + 2 for column in columns.items()) - 2 - room

    def cut_to(width: int) -> None:
        if cut is not None and excess() > 0:
            most = max(_width(cut, columns[cut]) - excess(), width)
            columns[cut] = [_shorten(cell, most) for cell in columns[cut]]

    cut_to(16)
    for heading in optional:
        if heading in columns and excess() > 0:
            del columns[heading]
            left_out.append(heading.replace("\n", " "))
    cut_to(8)
    tall = any("\n" in heading for heading in columns)
    blocks = []
    for heading, cells in columns.items():
        above, _, below = heading.rpartition("\n")
        pad = str.rjust if heading in rights else str.ljust
        blocks.append([pad(cell, _width(heading, cells)) for cell in [*[above] * tall, below, *cells]])
    lines = ["  ".join(cells).rstrip() for cells in zip(*blocks, strict=True)]
    note = [f"(a wider terminal shows {', '.join(left_out)} too)"] * bool(left_out)
    return [*lines, *wrap_lines(note, indent=2)]


def _width(heading: str, cells: Iterable[str]) -> int:
    return max(map(len, (*heading.split("\n"), *cells)))


def _shorten(text: str, width: int) -> str:
    """Return the text with its middle left out where it is longer."""
    return text if len(text) <= width else f"{text[: width // 2]}\u2026{text[width // 2 + 1 - width :]}"
