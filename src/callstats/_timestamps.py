"""Convert RFC 3339 times to and from nanoseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np

from callstats._types import FIRST_TIME, I64_MAX, Times
from callstats.errors import ArgumentError, SeriesError, shorten_repr

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-]\d\d:(\d\d)))", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCALES = ((10**9, 10**11), (10**6, 10**14), (10**3, 10**17), (1, 2**63))
"""Nanoseconds per unit, and the limit of numbers in that unit: 10**11 s is in the year 5138, 10**11 ms in 1973."""


def parse_time(text: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch; digits beyond the ninth are cut."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise SeriesError(f"expected an RFC 3339 time, got {shorten_repr(text)}")
    day, clock, fraction, offset, offset_minute = match.groups()
    at = _from_iso(f"{day}T{clock}{offset or '+00:00'}")
    if at is None or clock >= "24" or (offset and offset_minute > "59"):  # which some versions of Python take
        raise SeriesError(f"expected a time that exists, got {shorten_repr(text)}")
    ns = since_epoch(at) + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    if not FIRST_TIME <= ns <= I64_MAX:
        first, last = (format_time(limit, digits=3) for limit in (FIRST_TIME, I64_MAX))
        raise SeriesError(f"expected a time from {first} to {last}, got {shorten_repr(text)}")
    return ns


def parse_date_or_time(text: str) -> int:
    """Return an RFC 3339 time, or the midnight (UTC) that a date begins with, as nanoseconds since the epoch."""
    try:
        return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except SeriesError:
        forms = "2026-10-26, 2026-10-26T12:00:00Z or 2026-10-26T14:00:00+02:00"
        raise ArgumentError("time", f"a date or an RFC 3339 time, such as {forms}", text) from None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def since_epoch(time: datetime) -> int:
    """Return nanoseconds since the epoch. pandas' times have them beside the microseconds."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000 + getattr(time, "nanosecond", 0)


def format_times(times: Times, digits: int = 3) -> list[str]:
    """Return RFC 3339 text in UTC, floored to `digits` (3 or 9) digits of a second."""
    divisor, unit = (10**6, "ms") if digits == 3 else (1, "ns")
    return [text + "Z" for text in np.datetime_as_string((times // divisor).view(f"M8[{unit}]")).tolist()]


def stored_time_ns(value: object) -> int | None:
    """Return a time as a database stores it in nanoseconds since the epoch, to the microsecond; None if it is no time.

    Text is ISO 8601. A time without an offset is UTC. A number is in seconds, milliseconds, microseconds or nanoseconds.
    """
    if isinstance(value, str):
        value = _from_iso(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        ns = since_epoch(value if value.tzinfo else value.replace(tzinfo=UTC))
        return ns if FIRST_TIME <= ns <= I64_MAX else None
    if isinstance(value, (int, float)) and 0 < value < 2**63:
        scale = next(scale for scale, limit in _SCALES if value < limit)
        return ns if (ns := int(value * scale)) <= I64_MAX else None
    return None


def format_time(ns: int, *, digits: int = 6, zone: str = "Z") -> str:
    """Return a time as text in UTC, floored to `digits` digits of a second."""
    at = _EPOCH + timedelta(microseconds=ns // 1000)
    fraction = f"{at.microsecond:06}"[:digits]
    return f"{at.year:04}-{at:%m-%dT%H:%M:%S}.{fraction}{zone}"
