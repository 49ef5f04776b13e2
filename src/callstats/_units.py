"""Durations, sizes and shares: one parser for each, and one way to print each."""

from __future__ import annotations

import re
from fractions import Fraction

from callstats._types import I64_MAX
from callstats.errors import ArgumentError

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ms|min|[smhdw])\s*)+", re.ASCII | re.IGNORECASE)
_DURATION_PART = re.compile(rf"({_NUMBER})\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZE = re.compile(r"([0-9]{1,18})(?:b|(\.[0-9]{1,18})?\s*([kmgtp])(?:i?b)?)?", re.ASCII | re.IGNORECASE)
_SHARE = re.compile(
    r"([0-9]{0,18}\.?[0-9]{1,18}(?:e-?[0-9]{1,2})?|[0-9]{1,18}/0{0,17}[1-9][0-9]{0,17})\s*(%?)", re.ASCII | re.IGNORECASE
)
_MEMORY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds, at most 2**63 - 1 of them (292 years). A number without a unit is in seconds."""
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped, re.ASCII):
        stripped += "s"
    if not _DURATION.fullmatch(stripped):
        raise ArgumentError("duration", "a duration such as 250ms, 90s, 30min, 1.5h, 1h30m, 7d or 4w", text)
    ms = sum(Fraction(number) * _UNIT_MS[unit.lower()] for number, unit in _DURATION_PART.findall(stripped))
    return min(int(ms * 10**6), I64_MAX)


def parse_size(text: str) -> int:
    """Return a size in bytes, at most 2**63 - 1 of them. 64k, 64kB and 64KiB are all 65,536 bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ArgumentError("size", "a size such as 65535, 64k (or 64kB, 64KiB: all 1024 bytes a k), 32m or 1.5g", text)
    whole, fraction, unit = found.groups()
    power = "kmgtp".index(unit.lower()) + 1 if unit else 0
    return min(int(Fraction(whole + (fraction or "")) * 1024**power), I64_MAX)


def parse_share(text: str) -> float:
    """Return a share above 0 and below 1, given as 0.1%, 0.001 or 1/1000."""
    found = _SHARE.fullmatch(text.strip())
    share = 0.0 if found is None else float(Fraction(found[1]) / (100 if found[2] else 1))
    if not 1e-9 <= share < 1:
        raise ArgumentError("share", "above 0 and below 100 %, such as 0.1% or 0.001", text)
    return share


def printable(text: str) -> str:
    """Return the text on one line, with each character that could move a cursor or change a colour as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size_text(size: float) -> str:
    """Return the size of stored text, of a file or of traffic, in units of 1000."""
    unit, divisor = size_unit(size)
    return f"{size:.0f} B" if unit == "B" else f"{size / divisor:.1f} {unit}"


def memory_text(size: int) -> str:
    """Return a size of memory, in units of 1024, to a tenth of a MiB or a hundredth of a GiB, as limits differ by that much."""
    unit, divisor = memory_unit(size)
    text = f"{size / divisor:.{2 if divisor >= 2**30 else 1}f}"
    return f"{size} B" if unit == "B" else f"{text.rstrip('0').rstrip('.')} {unit}"


def memory_unit(size: float) -> tuple[str, float]:
    """Return the unit of 1024 that suits a size of memory, and its bytes."""
    return _unit(size, _MEMORY_UNITS, 1024)


def size_unit(size: float) -> tuple[str, float]:
    """Return the unit of 1000 that suits a size of text or traffic, and its bytes."""
    return _unit(size, _SIZE_UNITS, 1000)


def _unit(size: float, units: tuple[str, ...], base: int) -> tuple[str, float]:
    power = sum(abs(size) >= base**power for power in range(1, len(units)))
    return units[power], float(base**power)


def limit_text(size: int) -> str:
    """Return a size of memory to the byte, in the largest unit of 1024 that holds it exactly."""
    power = max(power for power in range(len(_MEMORY_UNITS)) if size % 1024**power == 0) if size else 0
    return f"{size // 1024**power:,} {_MEMORY_UNITS[power]}"


def duration_text(ns: int) -> str:
    """Return a duration in seconds, from a minute on in minutes and seconds, from an hour on in hours and minutes."""
    shown = f"{ns / 10**9:.3g}"
    if float(shown) < 60:
        return f"{shown} s"
    minutes, seconds = divmod(round(ns / 10**9), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(round(ns / 10**9 / 60), 60)
    return f"{hours} h {minutes:02} min"


def percent_text(share: float, digits: str = ".3g") -> str:
    """Return a share as a percentage, with the digits of a format such as ``.1f``."""
    return f"{100 * share:{digits}} %"


def plural(n: int, what: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
