"""Durations, sizes and shares: what the parsers take, and how values are printed."""

from __future__ import annotations

import re

import pytest

from callstats import CallstatsError
from callstats._units import (
    duration_text,
    limit_text,
    memory_text,
    parse_duration,
    parse_share,
    parse_size,
    percent_text,
    plural,
    printable,
    size_text,
)

SECOND = 10**9
MIB = 2**20


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", SECOND // 4),
        ("90s", 90 * SECOND),
        ("30min", 1_800 * SECOND),
        ("30m", 1_800 * SECOND),
        ("1.5h", 5_400 * SECOND),
        ("1h30m", 5_400 * SECOND),
        ("1d2h", 26 * 3_600 * SECOND),
        ("24h", 86_400 * SECOND),
        ("7d", 7 * 86_400 * SECOND),
        ("4w", 28 * 86_400 * SECOND),
        (" 30 Min ", 1_800 * SECOND),
        ("60", 60 * SECOND),
        ("0.1", SECOND // 10),
        ("0", 0),
        ("0.000000001s", 1),
        ("0.0000000019s", 1),
        ("9223372036.854775807", 2**63 - 1),
        ("999999999999d", 2**63 - 1),
    ],
)
def test_durations(text: str, ns: int) -> None:
    """Each form gives exact nanoseconds; a number without a unit is in seconds."""
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", " ", "d", "-1d", "7y", "1h30", "1 2", "1e3", "1.s", ".5s", "nan", "\u0663s", "9" * 99 + "s"],
)
def test_wrong_durations(text: str) -> None:
    """The error shows the forms and the text."""
    shown = re.escape(repr(text)[:50])
    with pytest.raises(CallstatsError, match=f"^duration must be a duration such as 250ms, 90s, .*, got {shown}"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (" 65535 ", 65_535),
        ("7B", 7),
        *((text, 65_536) for text in ("64k", "64K", "64kB", "64KB", "64KiB", "64 KIB", "65536")),
        *((text, 64 * MIB) for text in ("64m", "64mb", "64MiB", "67108864")),
        ("1.5g", 3 * 2**29),
        ("1G", 2**30),
        ("1t", 2**40),
        ("0.0001k", 0),
        ("7.9999999999999999P", 2**53 - 1),
        ("999999999999999999GiB", 2**63 - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """k, kB and KiB are all 1024 bytes; a number without a unit is in bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "1.5B", "3 pounds", "1e3", "64 kk", "\u0663k", "9" * 99])
def test_wrong_sizes(text: str) -> None:
    """The error shows the forms and the text."""
    shown = re.escape(repr(text)[:50])
    with pytest.raises(CallstatsError, match=f"^size must be a size such as 65535, 64k .*, got {shown}"):
        parse_size(text)


@pytest.mark.parametrize(("text", "want"), [("0.1%", 0.001), ("0.001", 0.001), ("5 %", 0.05), ("1e-3", 0.001), ("1/20", 0.05)])
def test_shares(text: str, want: float) -> None:
    """A share with or without a percent sign."""
    assert parse_share(text) == want


@pytest.mark.parametrize("text", ["", "0", "0%", "100%", "1", "-1%", "1/0", "nan", "1e99", "1e-99", "%"])
def test_wrong_shares(text: str) -> None:
    """Neither nothing nor all is a share of some."""
    with pytest.raises(CallstatsError, match=f"^share must be above 0 and below 100 %, .*, got {re.escape(repr(text))}"):
        parse_share(text)


def test_texts() -> None:
    """Memory is in the units of limits, limits are to the byte, durations are as people say them."""
    assert [memory_text(size) for size in (0, 1023, 1536, 95 * MIB, 1073 * MIB, -MIB, 2**64)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "95 MiB",
        "1.05 GiB",
        "-1 MiB",
        "16 EiB",
    ]
    assert [limit_text(size) for size in (0, 1472 * MIB, 2**31, 1000, 2**62)] == [
        "0 B",
        "1,472 MiB",
        "2 GiB",
        "1,000 B",
        "4 EiB",
    ]
    assert [duration_text(int(s * 1e9)) for s in (0, 0.0005, 12.3456, 59.96, 326.4, 3599, 3599.7, 5220, 86_400)] == [
        "0 s",
        "0.0005 s",
        "12.3 s",
        "1 min 00 s",
        "5 min 26 s",
        "59 min 59 s",
        "1 h 00 min",
        "1 h 27 min",
        "24 h 00 min",
    ]
    shown = [0, 999, 1000, 65_535, 123_456_789, 10**16]
    assert [size_text(value) for value in shown] == ["0 B", "999 B", "1.0 kB", "65.5 kB", "123.5 MB", "10.0 PB"]
    assert [percent_text(0.12345), percent_text(0.12345, ".1f"), percent_text(1.0)] == ["12.3 %", "12.3 %", "100 %"]
    assert [plural(n, "call") for n in (0, 1, 2, 1000)] == ["0 calls", "1 call", "2 calls", "1,000 calls"]


def test_printable() -> None:
    """Nothing is left that moves a cursor, changes a colour or turns the text around."""
    assert printable("a\x1b[1m\r\n\t\x9b\u202e\udcff\u00e9\U0001f600") == "a\\x1b[1m\\r\\n\\t\\x9b\\u202e\\udcff\u00e9\U0001f600"
