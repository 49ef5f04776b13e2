"""Keys and times of new calls."""

from __future__ import annotations

import secrets

import numpy as np

from callstats._timestamps import format_times

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def call_id(created_ms: int, low: int | None = None) -> str:
    """26 characters in the manner of Fn's, which sort by time: 48 bits of it, then 80 others (None: random ones)."""
    value = created_ms << 80 | (secrets.randbits(80) if low is None else low)
    return "".join(_BASE32[value >> shift & 31] for shift in range(125, -1, -5))


def time_text(ns: int) -> str:
    """A time as tables of Fn's hold it: RFC 3339 in UTC, to the millisecond."""
    return format_times(np.array([ns], dtype=np.int64))[0]
