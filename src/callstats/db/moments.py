"""Ages, and times as databases take them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from callstats._timestamps import parse_time
from callstats._types import FIRST_TIME, I64_MAX
from callstats.errors import CallstatsError, shorten_repr

TEXT_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})?$"
"""An RFC 3339 time, as a regular expression for servers; without an offset it is UTC."""

TEXT_OFFSET = "[+-][0-9]{2}:[0-9]{2}$"

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN = re.compile(r"\s*([0-9]{1,9})\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_span(text: str) -> timedelta:
    """A length of time such as ``90s``, ``30min``, ``2h``, ``7d`` or ``4w``."""
    found = _SPAN.fullmatch(text)
    if found is None or found[2].lower() not in _SECONDS:
        raise CallstatsError(f"expected a length of time such as 90s, 30min, 2h, 7d or 4w, got {text!r}")
    try:
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2].lower()])
    except OverflowError:
        raise CallstatsError(f"expected a length of time below a billion days, got {text!r}") from None


def nanoseconds(time: str | int | datetime) -> int:
    """A time as nanoseconds since the epoch."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise CallstatsError(f"as_of must have a time zone, got {time!r}")
        return (time - _EPOCH) // timedelta(microseconds=1) * 1000
    if isinstance(time, int):
        if not FIRST_TIME <= time <= I64_MAX:
            raise CallstatsError(f"as_of must be nanoseconds from {FIRST_TIME} to {I64_MAX}, got {shorten_repr(time)}")
        return time
    return parse_time(time)


def utc_text(ns: int, *, digits: int = 6, zone: str = "Z") -> str:
    """A time as text, floored to so many digits of a second."""
    at = _EPOCH + timedelta(microseconds=ns // 1000)
    fraction = f"{at.microsecond:06}"[:digits]
    return f"{at.year:04}-{at:%m-%dT%H:%M:%S}.{fraction}{zone}"
