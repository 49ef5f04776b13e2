"""What a fuzzer calls, with whatever bytes it likes: each holds the package to what must be true of any input.

A file in ``corpus/NAME`` is one input of the target NAME. Every test run goes through them all, so what a fuzzer has found once
stays found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callstats import BudgetError, ImageError, Rule, SeriesError, StatSeries, decimate, parse_image
from support import reference
from support.parity import same
from support.reference import TIME_MAX, TIME_MIN, UINT64_MAX, Row
from support.routes import decoded_differently, disagreements
from support.zoo import rows_of, series_of

RULES: list[dict[str, Any]] = [
    {"rule": 240},
    {"rule": 2, "how": {"mem_usage": ("mean", "max")}},
    {"rule": 3, "how": ("mean", "min", "max", "first", "last"), "missing": "zero"},
    {"rule": 5, "how": "sum", "counts": False, "sort": True},
    {"rule": None, "max_bytes": 400},
]


def reader(data: bytes) -> None:
    """Decode a blob: the fast path and the fallback decoder agree on it."""
    assert decoded_differently([data]) == []
    assert disagreements([data], **RULES[len(data) % len(RULES)]) == []


def reduction(data: bytes) -> None:
    """A series and a rule: both twins and plain Python reduce alike, and each sample is in one row."""
    rows, rule = drawn(data)
    series = series_of(rows)
    reduced = same(lambda: decimate(series, Rule(**rule)))
    try:
        wanted = reference.reduced(rows, **rule)
    except reference.SumTooLargeError:
        assert isinstance(reduced, SeriesError)
    else:
        assert rows_of(reduced) == wanted
    most = rule["max_samples"]
    kept = rows_of(decimate(series, most, how=("mean", "min", "max"), missing=rule["missing"]))
    if most <= 0 or len(rows) <= most:
        assert kept == (rows if len(rows) <= most else [])
        return
    assert len(kept) <= most
    assert sum(count for _, _, count in kept) == sum(count for _, _, count in rows)
    times = [time for time, _, _ in kept]
    assert times == sorted(times)
    assert rows[0][0] <= times[0]
    assert times[-1] <= rows[-1][0]
    for _, metrics, count in kept:
        if count > 1 and "y@min" in metrics:  # of x a peak may be given, which need not be one
            assert metrics["y@min"] <= metrics["y"] <= metrics["y@max"]


def budget(data: bytes) -> None:
    """A series, a rule and so many bytes: the text fits, and is what trying every number of rows downward gives."""
    rows, rule = drawn(data[1:])
    most = 20 * data[0] if data else 0
    series = series_of(rows)
    reduced = same(lambda: decimate(series, Rule(**rule, max_bytes=most + 1)))
    try:
        wanted = reference.fitted(rows, **rule, max_bytes=most + 1)
    except reference.NothingFitsError:
        assert isinstance(reduced, BudgetError)
    except reference.SumTooLargeError:
        assert isinstance(reduced, SeriesError)
    else:
        assert rows_of(reduced) == wanted
        assert rule["max_samples"] <= 0 or len(reduced.to_json()) <= most + 1
        assert StatSeries.from_json(reduced.to_json(digits=9)) == reduced


def image(data: bytes) -> None:
    """An image's name: refused as such, or taken apart, and what was taken apart is a name of the same."""
    try:
        found = parse_image(data.decode("utf-8", "surrogateescape"))
    except ImageError:
        return
    registry = f"{found.registry}/" if found.registry else ""
    tag = f":{found.tag}" if found.tag else ""
    digest = f"@{found.digest}" if found.digest else ""
    assert parse_image(f"{registry}{found.repository}{tag}{digest}") == found


TARGETS: dict[str, Callable[[bytes], None]] = {target.__name__: target for target in (reader, reduction, budget, image)}

NAMES = ("x", "y", "x@max")
HOWS = ("mean", "min", "max", "first", "last", "sum", ("mean", "max"), ("last", "min", "first"), {"x": "sum", "*": "max"})
MOST_ROWS = 24


def drawn(data: bytes) -> tuple[list[Row], dict[str, Any]]:
    """A series and the fields of a rule from any bytes: four for the rule, and then some for each row."""
    head = data[:4].ljust(4, b"\0")
    rule = {
        "max_samples": head[0] % (MOST_ROWS + 4) - 2,
        "how": HOWS[head[1] % len(HOWS)],
        "missing": ("skip", "zero")[head[2] & 1],
    }
    time = (0, TIME_MIN, TIME_MAX - 2**40, 1_511_794_373 * 10**9)[head[3] & 3]
    rows: list[Row] = []
    at = 4
    while at < len(data) and len(rows) < MOST_ROWS:
        # A byte says which metrics there are, and whether the row stands for several; one, how long each number is.
        marks, sizes = data[at], data[at + 1 : at + 2] or b"\0"
        step, count, value = sizes[0] & 7, 1 + (sizes[0] >> 3 & 3), 1 + (sizes[0] >> 5)
        at += 2
        time = min(time + int.from_bytes(data[at : at + step], "little"), TIME_MAX)
        at += step
        weight = 1
        if marks & 8:
            weight = max(1, int.from_bytes(data[at : at + count], "little"))
            at += count
        metrics = {}
        for bit, name in enumerate(NAMES):
            if marks >> bit & 1:
                metrics[name] = UINT64_MAX if marks & 16 else int.from_bytes(data[at : at + value], "little")
                at += value
        rows.append((time, metrics, weight))
    return rows, rule
