"""Values as people read them: text on one line, sizes and times in the unit that suits them."""

from __future__ import annotations

_MEMORY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")
_NS_PER_SECOND = 10**9


def printable(text: str) -> str:
    """Text on one line, with whatever could move a cursor or change a colour as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size_text(size: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in _SIZE_UNITS:
        if abs(size) < 1000 or unit == _SIZE_UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def memory_text(size: int) -> str:
    """Bytes of memory, in the units in which limits are set."""
    unit, divisor = memory_unit(size)
    return f"{size} B" if unit == "B" else f"{size / divisor:.1f} {unit}".replace(".0 ", " ")


def memory_unit(size: float) -> tuple[str, float]:
    """Return the unit of 1024 that suits a size of memory, and its bytes."""
    power = 0
    while power + 1 < len(_MEMORY_UNITS) and abs(size) >= 1024 ** (power + 1):
        power += 1
    return _MEMORY_UNITS[power], 1024.0**power


def limit_text(size: int) -> str:
    """A size of memory, to the byte."""
    power = 0
    while power + 1 < len(_MEMORY_UNITS) and size and size % 1024 == 0:
        size, power = size // 1024, power + 1
    return f"{size:,} {_MEMORY_UNITS[power]}"


def duration_text(ns: int) -> str:
    """A length of time in seconds; hours and minutes of a long one."""
    seconds = ns / _NS_PER_SECOND
    if seconds < 600:
        return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def plural(n: int, what: str) -> str:
    """So many of something."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
