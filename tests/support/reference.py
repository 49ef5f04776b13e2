"""The reduction and the written form once more, slowly: Python integers, dicts and lists, nothing of numpy's or of the package's.

A series is a list of rows here, and a row is ``(timestamp, metrics, count)``. The rules are cited by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

Row = tuple[int, dict[str, int], int]
How = str | tuple[str, ...] | Mapping[str, "str | tuple[str, ...]"]

TIME_MIN = -9_223_372_036_854_000_000
TIME_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
PEAKS = ("min", "max", "first", "last")


class SumTooLargeError(Exception):
    """A sum past 2**64 - 1."""


class NothingFitsError(Exception):
    """No reduction fits the bytes."""


def bins(times: list[int], max_samples: int) -> list[list[int]]:
    """The positions that each row of the result stands for."""
    first = times[0]
    window = max((times[-1] - first) // max_samples, 1)
    members: dict[int, list[int]] = {}
    for position, time in enumerate(times):
        number = -((first - time) // window) - 1  # the ceiling, less one: a bin's right end is its own
        members.setdefault(max(number, 0), []).append(position)
    rows = list(members.values())
    alone, rest = rows[: max_samples - 1], rows[max_samples - 1 :]
    return alone + ([[position for row in rest for position in row]] if rest else [])


def reduced(rows: Iterable[Row], max_samples: int | None = 240, how: How = "mean", missing: str = "skip") -> list[Row]:
    """The rows that a rule without a budget leaves."""
    rows = list(rows)
    if max_samples is None or len(rows) <= max_samples:
        return rows
    if max_samples <= 0:
        return []
    plan = _plan({name for _, metrics, _ in rows for name in metrics}, how)
    return [_row([rows[position] for position in bin_], plan, missing) for bin_ in bins([row[0] for row in rows], max_samples)]


def fitted(
    rows: Iterable[Row],
    max_samples: int | None = 240,
    how: How = "mean",
    missing: str = "skip",
    max_bytes: int | None = None,
    *,
    counts: bool = True,
) -> list[Row]:
    """The rows that a rule with a budget leaves, every k tried from above."""
    rows = list(rows)
    if max_bytes is None or (max_samples is not None and max_samples <= 0):
        return reduced(rows, max_samples, how, missing)
    most = len(rows) if max_samples is None else max_samples
    if len(rows) <= most and len(text(rows, counts=counts)) <= max_bytes:
        return rows
    for k in range(min(len(rows), most), 0, -1):
        out = reduced(rows, k, how, missing)
        if len(text(out, counts=counts)) <= max_bytes:
            return out
    raise NothingFitsError


def text(rows: Iterable[Row], *, counts: bool = True, digits: int = 3) -> bytes:
    """The stored text."""
    written = ",".join(_written(row, counts, digits) for row in rows)
    return f"[{written}]\n".encode() if written else b""


def instant(time: int, digits: int = 3) -> str:
    """RFC 3339 text of a time, floored to so many digits."""
    seconds, ns = divmod(time, 10**9)
    day = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return f"{day:%Y-%m-%dT%H:%M:%S}.{ns // 10 ** (9 - digits):0{digits}}Z"


def _plan(names: set[str], how: How) -> dict[str, tuple[tuple[str, ...], str]]:
    """What each metric of the result is made of: the names that a sample is asked for, in turn, and the reducer."""
    plan: dict[str, tuple[tuple[str, ...], str]] = {}
    for name in names:
        base, mark, reducer = name.rpartition("@")
        if mark and reducer in PEAKS:
            plan[name] = ((name, base), reducer)
            continue
        wanted = how.get(name, how.get("*", "mean")) if isinstance(how, Mapping) else how
        own, *peaks = (wanted,) if isinstance(wanted, str) else wanted
        plan[name] = ((name,), own)
        for peak in peaks:
            plan[f"{name}@{peak}"] = ((f"{name}@{peak}", name), peak)
    return plan


def _row(samples: list[Row], plan: dict[str, tuple[tuple[str, ...], str]], missing: str) -> Row:
    if len(samples) == 1:
        return samples[0]  # untouched
    count = sum(samples_count for _, _, samples_count in samples)
    metrics = {}
    for name, (sources, reducer) in plan.items():
        found = [(next((metrics_[s] for s in sources if s in metrics_), None), weight) for _, metrics_, weight in samples]
        if all(value is None for value, _ in found):
            continue
        if missing == "zero":
            metrics[name] = _value(reducer, [(value or 0, weight) for value, weight in found])
        else:
            metrics[name] = _value(reducer, [(value, weight) for value, weight in found if value is not None])
    return sum(time * weight for time, _, weight in samples) // count, metrics, count


def _value(reducer: str, found: list[tuple[int, int]]) -> int:
    values = [value for value, _ in found]
    match reducer:
        case "mean":
            return sum(value * weight for value, weight in found) // sum(weight for _, weight in found)
        case "sum":
            if sum(values) > UINT64_MAX:
                raise SumTooLargeError
            return sum(values)
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "first":
            return values[0]
        case "last":
            return values[-1]
    raise AssertionError(reducer)


_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in range(32)},
    **{char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"},
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def _written(row: Row, counts: bool, digits: int) -> str:
    time, metrics, count = row
    names = sorted(metrics, key=str.encode)
    pairs = ['"' + "".join(_ESCAPES.get(char, char) for char in name) + f'":{metrics[name]}' for name in names]
    end = f',"count":{count}' if counts and count > 1 else ""
    return f'{{"timestamp":"{instant(time, digits)}","metrics":{{{",".join(pairs)}}}{end}}}'
