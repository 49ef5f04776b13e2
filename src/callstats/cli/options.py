"""The arguments and options that commands share."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from callstats._json import is_text
from callstats._timestamps import parse_date_or_time
from callstats._types import I64_MAX
from callstats._units import parse_duration, parse_share, parse_size, printable
from callstats.adapters.files import STANDARD, has_blob_name, is_blob_file
from callstats.cli.errors import option_message
from callstats.db import CallTable, connect, open_file
from callstats.db.engine import hide_passwords, parse_url, shown_url
from callstats.errors import ArgumentError, shorten_repr
from callstats.rule import KEEP_PEAKS, OTHERS, PEAK_REDUCERS, REDUCERS, How

if TYPE_CHECKING:
    from callstats.db.jobs.files import CallFile

Command = TypeVar("Command", bound=Callable[..., Any])

default_option = partial(click.option, show_default=True)
"""An option whose help shows its default."""


def _take_form(context: click.Context, parameter: click.Parameter, chosen: bool) -> None:
    form = context.params.setdefault("form", None)
    if chosen and form is not None:
        raise click.UsageError(f"--{parameter.name} must be given without --{form}", context)
    context.params["form"] = parameter.name if chosen else form


form_option = partial(click.option, is_flag=True, expose_value=False, callback=_take_form)
"""An option for the `form` of the output, of which a command takes one."""


def examples(*commands: str) -> str:
    """Return the end of a help text; the backspace keeps click from joining the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


class Parsed(click.ParamType):  # type: ignore[type-arg]
    """The type of an option whose value a parser reads."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Parse the value; an error names the option."""
        try:
            return self._parse(value)
        except ArgumentError as error:
            raise click.UsageError(option_message(error, param.opts[0] if param else self.name), ctx) from None


def _parse_positive_size(text: str) -> int:
    size = parse_size(text)
    if not size:
        raise ArgumentError("size", "1 byte or more", text)
    return size


def _parse_timedelta(text: str) -> timedelta:
    return timedelta(microseconds=parse_duration(text) // 1000)


def _parse_past(text: str) -> int:
    """Return a time as nanoseconds since the epoch; a duration such as 7d means so long ago."""
    if not text.strip()[-1:].isdigit():  # a number alone would be in seconds, where people mean a year
        with suppress(ArgumentError):
            return time.time_ns() - parse_duration(text)
    try:
        return parse_date_or_time(text.strip())
    except ArgumentError:
        forms, hint = "2026-10-26, 2026-10-26T12:00:00Z, or 7d for so long ago", None
        with suppress(ArgumentError):
            parse_date_or_time(f"{text.strip()}Z")
            hint = f"its zone is missing: {text.strip()}Z is in UTC"
        raise ArgumentError("time", f"a date or an RFC 3339 time, such as {forms}", text, hint=hint) from None


def _parse_tier(text: str) -> tuple[timedelta, int]:
    age, mark, rows = text.partition("=")
    wrong = f"--tier must be an age with its unit and a number of samples, such as 7d=60, got {shorten_repr(text)}"
    if age.strip()[-1:].isdigit() or not mark or not rows.isascii() or not rows.isdigit() or len(rows) > 18:
        raise click.UsageError(wrong)
    with suppress(ArgumentError):
        return _parse_timedelta(age), int(rows)
    raise click.UsageError(wrong)


def _parse_address(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})", text.strip(), re.ASCII)
    if found is None or int(found[3]) > 65535:
        raise ArgumentError("address", "HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464", text)
    return found[1] or found[2], int(found[3])


def _parse_tag(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not name or not mark or not is_text(text):
        raise click.UsageError(f"--tag must be NAME=VALUE, got {printable(text)!r}")
    return name, value


def _parse_how(text: str) -> tuple[str, How]:
    metric, mark, reducers = text.rpartition("=")  # a metric's name may have an equals sign
    parts = tuple(part.strip() for part in reducers.split(","))
    for index, part in enumerate(parts):
        allowed = PEAK_REDUCERS if index else REDUCERS
        if part not in allowed:
            which = "after the first reducer" if index else "a reducer:"
            raise click.UsageError(f"--how must be {which} one of {', '.join(allowed)}, got {shorten_repr(part)}")
        if part in parts[:index]:
            raise click.UsageError(f"--how must have each reducer once, got {shorten_repr(part)} again")
    return metric if mark else OTHERS, cast(How, parts if len(parts) > 1 else parts[0])


class WholeNumber(click.IntRange):
    """A whole number from a min on, and up to a max where there is one."""

    def __init__(self, min: int, max: int | None = None, *, what: str | None = None) -> None:  # noqa: A002 - click's names
        super().__init__(min, I64_MAX if max is None else max)
        self._what = what or (f"a whole number, {min} or more" if max is None else f"a whole number from {min} to {max}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the value; an error names the option."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            option = param.opts[0] if param else self.name
            raise click.UsageError(f"{option} must be {self._what}, got {shorten_repr(value)}", ctx) from None

    def _describe_range(self) -> str:
        """Leave the range out of the help, which says what the number is for."""
        return ""


POSITIVE = WholeNumber(1)
SIZE = Parsed("size", parse_size)
POSITIVE_SIZE = Parsed("size", _parse_positive_size)
SECONDS = Parsed("duration", lambda text: _parse_timedelta(text).total_seconds())
DURATION = Parsed("duration", _parse_timedelta)
SHARE = Parsed("share", parse_share)
PAST = Parsed("time", _parse_past)
TIER = Parsed("tier", _parse_tier)
ADDRESS = Parsed("address", _parse_address)
TAG = Parsed("tag", _parse_tag)
HOW = Parsed("how", _parse_how)


def merge_how(parts: Iterable[tuple[str, How]]) -> Mapping[str, How]:
    """Return the `how` of a rule: the options' own, over KEEP_PEAKS unless they name all metrics."""
    asked: dict[str, How] = {}
    for metric, how in parts:
        if metric in asked:
            what = "all metrics" if metric == OTHERS else repr(metric)
            raise click.UsageError(f"--how must name {what} once: put its reducers together, as in mem_usage=mean,max")
        asked[metric] = how
    return asked if OTHERS in asked else {**KEEP_PEAKS, **asked}


_DATABASE_SUFFIXES = (".db", ".db3", ".sqlite", ".sqlite3")


def default_database() -> str:
    return os.environ.get("CALLSTATS_URL") or "calls.db"


def database(text: str | None = None) -> str:
    """Return an argument that stands for a database, or the default; anything else is wrong use."""
    if text is None:
        return default_database()
    validate_no_file(text)
    if not is_database(text):
        shown = "" if "@" in text or ":" in text else f", got {shorten_repr(text)}"  # a misspelt URL may hold a password
        forms = "a URL, a path with a /, a name that ends in .db or .sqlite, or an SQLite file"
        raise click.UsageError(f"the database must be {forms}{shown}")
    return text


def validate_no_file(text: str) -> None:
    """Raise if an argument names a file of blobs where only a database can stand."""
    if text != STANDARD and has_blob_name(text) and not is_surely_database(text):
        takers = "summary, report, reduce and export take one, and import what reduce --save or record wrote"
        raise click.UsageError(f"the database must be no file of histograms, got {text!r}: {takers}")


def source(text: str | None = None) -> str:
    """Return an argument that stands for a database or a file of blobs, or the default database."""
    return text if text is not None and is_blob_file(text) else database(text)


def shown_source(text: str) -> str:
    """Return a database or a file for display, without passwords."""
    if text == STANDARD:
        return "standard input"
    return hide_passwords(text, text) if is_blob_file(text) else shown_url(text)


def open_calls(text: str, **names: str | None) -> AbstractContextManager[CallTable | CallFile]:
    """Open a database or a file of blobs."""
    if not is_blob_file(text):
        return connect(text, **names)  # type: ignore[arg-type]  # the columns that must be there have defaults
    validate_options({"table", "where"}, "with a database: a file has no tables and no SQL")
    return nullcontext(open_file(text, **names))


def validate_options(names: Container[str], why: str) -> None:
    """Raise if the command line has one of these options."""
    context = click.get_current_context()
    for param in context.command.params:
        name = param.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} must be given {why}")


def is_database(text: str) -> bool:
    """Return whether a first argument stands for a database."""
    return "/" in text or is_surely_database(text)


def is_surely_database(text: str) -> bool:
    """Return whether a text can't stand for a call or another file."""
    return "://" in text or text.lower().endswith(_DATABASE_SUFFIXES) or _has_sqlite_header(text)


def _has_sqlite_header(path: str) -> bool:
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: a link to itself, before Python 3.13
        if Path(path).is_file():  # to open a pipe would wait for its other end
            with Path(path).open("rb") as file:
                return file.read(16) == b"SQLite format 3\0"
    return False


database_argument = click.argument(
    "url", required=False, metavar="[DB]", callback=lambda _context, _parameter, value: database(value)
)
source_argument = click.argument(
    "url", required=False, metavar="[DB|FILE]", callback=lambda _context, _parameter, value: source(value)
)


def split_file(arguments: tuple[str, ...], first: Callable[..., str] = database) -> tuple[str, str]:
    """Return the database and the file of [DB] FILE. The first one may also be a file if `first` is `source`."""
    if len(arguments) not in (1, 2) or (len(arguments) == 1 and is_surely_database(arguments[0])):
        form = "[DB] FILE" if first is database else "[DB|FILE] FILE"
        raise click.UsageError(f"the arguments must be {form}{': FILE is missing' if len(arguments) < 2 else ''}")
    if arguments[-1] == STANDARD and first is database:
        raise click.UsageError("FILE must be the path of a file, got '-'; a file of that name is ./-")
    return first(*arguments[:-1]), arguments[-1]


def require_time_column(time_column: str | None, **given: int | None) -> None:
    """Reject options that choose calls by their time where no column has it."""
    for name, value in given.items():
        if value is not None and time_column is None:
            raise click.UsageError(f"--{name} must be given with a --time-column")


def split_key(arguments: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the database and the call of [DB] [ID|NAME]."""
    if len(arguments) > 2:
        raise click.UsageError("the arguments must be [DB] [ID|NAME]")
    if len(arguments) == 1:
        validate_no_file(arguments[0])
    if len(arguments) == 2 or (arguments and not is_database(arguments[0])):
        return database(*arguments[:-1]), arguments[-1]
    return database(*arguments), None


def check_output(path: str | Path | None, option: str, *inputs: str) -> None:
    """Reject an output that is a database, a file beside one that SQLite keeps, or one of the inputs (files or databases)."""
    if path in (None, STANDARD):
        return
    text = os.fspath(path)
    beside = [text.removesuffix(suffix) for suffix in ("-journal", "-wal", "-shm") if text.endswith(suffix)]
    if any(map(_has_sqlite_header, (text, *beside))):
        raise click.UsageError(f"{option} must be a file that is no database, got {text!r}")
    if any(_is_same_file(text, one) for one in inputs):
        raise click.UsageError(f"{option} must be another file than the input, got {text!r}")


def _is_same_file(path: str, source: str) -> bool:
    """Return whether a path leads to a file that may be given as a URL, or into a folder."""
    with suppress(OSError, ValueError, RuntimeError):
        url = parse_url(source)
        other = url.database if url.get_backend_name() == "sqlite" else None
        real = Path(os.path.realpath(path))
        return other is not None and Path(os.path.realpath(other)) in (real, *real.parents)
    return False


def _all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator for several options, which the help shows in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_column_option = partial(default_option, metavar="COLUMN", callback=lambda _context, _parameter, value: value or None)
"""An option for a column; an empty name is none."""

where_option = click.option("--where", metavar="SQL", help="Only rows that meet this condition, in the database's own SQL.")

column_options = _all_of(
    default_option("--table", default="calls", help="The table."),
    default_option("--key", default="id", help="The column with the table's unique key."),
    default_option("--column", default="stats", help="The column with the histograms."),
)

detail_options = _all_of(
    _column_option(
        "--by",
        "--group-column",
        "group_column",
        default="fn_id",
        help="The column with a call's name, by which calls are grouped; '' for one group.",
    ),
    _column_option("--status-column", default="status", help="How a call ended: success, error, timeout, killed, cancelled."),
    _column_option("--time-column", default="created_at", help="When a call came in."),
    _column_option("--start-column", default="started_at", help="When a call started to run."),
    _column_option("--end-column", default="completed_at", help="When a call ended."),
)
"""The columns that describe a call besides its histogram."""


since_option = click.option(
    "--since", type=PAST, metavar="TIME", help="Only calls since then: RFC 3339, a date, or 7d for so long ago."
)


def _merge_tags(_context: click.Context, _parameter: click.Parameter, tags: Sequence[tuple[str, str]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for name, value in tags:
        if name in merged:
            raise click.UsageError(f"--tag must have each name once, got {shorten_repr(name)} again")
        merged[name] = value
    return merged


tag_option = partial(click.option, "--tag", "tags", multiple=True, type=TAG, callback=_merge_tags, metavar="NAME=VALUE")
"""An option for tags, each with a value."""

filter_options = _all_of(
    click.option("--name", metavar="NAME", help="Only calls of this name."),
    since_option,
    tag_option(help="Only calls with this tag. Can be repeated."),
    where_option,
)
"""The options that choose calls."""

choice_options = _all_of(
    filter_options,
    default_option(
        "--rightsize",
        "risk",
        type=SHARE,
        default="1%",
        metavar="RISK",
        help="Find the min memory size that at most this share of calls, such as 0.1%, would have exceeded.",
    ),
    default_option("--step", type=POSITIVE_SIZE, default="64m", metavar="SIZE", help="Sizes are multiples of this."),
)
"""The options that choose calls, and the risk for which right sizes are computed."""
