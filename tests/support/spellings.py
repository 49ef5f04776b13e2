"""The same stored histogram in the spellings that databases and JSON libraries give it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Sample = dict[str, Any]


def jsonb(rows: list[Sample]) -> str:
    """As PostgreSQL's `jsonb::text` has it: shorter names first, then bytewise, and a space after each colon and comma."""

    def ordered(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        by_size = sorted(value.items(), key=lambda member: (len(member[0].encode()), member[0].encode()))
        return {name: ordered(part) for name, part in by_size}

    return json.dumps([ordered(row) for row in rows], ensure_ascii=False)


def with_members(row: Sample, i: int) -> Sample:
    """A row with members that callstats does not know, of any JSON value, which change from row to row."""
    value = [i, -i / 8, f"job \u00e9\t{i}", None, True, [], {}, {"a": [{"b": [1e300, "]}"]}], "timestamp": i}][i % 8]
    return {"seq": i, "timestamp": row["timestamp"], "host": "a-7", "metrics": row["metrics"], "more": value, **row}


def with_metrics(row: Sample, metrics: dict[str, int | None] | None) -> Sample:
    """A row with other metrics."""
    return {**row, "metrics": metrics}


def renamed(text: str, name: str, spelled: str) -> str:
    """A text whose first metric is called so, and written so."""
    return text.replace(f'"{name}":', f'"{spelled}":')


def compact(rows: list[Sample]) -> str:
    """Without white space."""
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


SAME: dict[str, Callable[[list[Sample]], str]] = {
    "go": lambda rows: compact(rows) + "\n",
    "jsonb": jsonb,
    "dumps": json.dumps,
    "comma-space": lambda rows: json.dumps(rows, separators=(", ", ":")),
    "colon-space": lambda rows: json.dumps(rows, separators=(",", ": ")),
    "sort_keys": lambda rows: json.dumps(rows, sort_keys=True),
    "reversed": lambda rows: compact([dict(reversed(row.items())) for row in rows]),
    "indent-0": lambda rows: json.dumps(rows, indent=0),
    "indent-2": lambda rows: json.dumps(rows, indent=2),
    "indent-tab": lambda rows: json.dumps(rows, indent="\t") + " \r\n",
    "lines": lambda rows: "[" + "\n,".join(compact([row])[1:-1] for row in rows) + "]",
    "lines-comma-last": lambda rows: "[\n" + ",\n".join(compact([row])[1:-1] for row in rows) + "\n]\n",
    "unknown-members": lambda rows: compact([with_members(row, i) for i, row in enumerate(rows)]),
    "unknown-members-in-ascii": lambda rows: json.dumps([with_members(row, i) for i, row in enumerate(rows)]),
    "escaped-members": lambda rows: (
        compact(rows).replace('"metrics"', '"m\\u0065trics"').replace('"timestamp"', '"t\\u0069mestamp"')
    ),
    "one-null": lambda rows: compact([with_metrics(row, {"never": None, **row["metrics"]}) for row in rows[:1]] + rows[1:]),
    "nulls": lambda rows: compact([with_metrics(row, {**row["metrics"], f"never-{i % 3}": None}) for i, row in enumerate(rows)]),
    "offset": lambda rows: compact(rows).replace('Z"', '+00:00"'),
    "offset-behind": lambda rows: compact(rows).replace('Z"', '-00:00"'),
    "lower-case": lambda rows: compact([{**row, "timestamp": row["timestamp"].lower()} for row in rows]),
    "space": lambda rows: compact([{**row, "timestamp": row["timestamp"].replace("T", " ")} for row in rows]),
    "12-digits": lambda rows: compact([{**row, "timestamp": row["timestamp"].replace("Z", "000000999Z")} for row in rows]),
}
"""Spellings of one meaning: functions of parsed rows whose times have three digits, and end in Z."""

OTHER: dict[str, Callable[[list[Sample]], str]] = {
    "escaped-name": lambda rows: renamed(compact(rows), "x", "a\\u0026\\ud83d\\ude00\\n"),
    "name-beyond-ascii": lambda rows: renamed(compact(rows), "x", "m\u00e9moire\u2028\U0001f600"),
    "null-values": lambda rows: jsonb(
        [with_metrics(row, {**row["metrics"], "x": None} if i % 3 else row["metrics"]) for i, row in enumerate(rows)]
    ),
    "null-metrics": lambda rows: json.dumps([with_metrics(row, row["metrics"] if i % 3 else None) for i, row in enumerate(rows)]),
    "no-metrics": lambda rows: compact([row if i % 4 else {"timestamp": row["timestamp"]} for i, row in enumerate(rows)]),
    "alternating": lambda rows: jsonb(
        [with_metrics(row, {**row["metrics"], "other": i} if i % 2 else {}) for i, row in enumerate(rows)]
    ),
    "each-row-its-own": lambda rows: compact(
        [with_metrics(row, {name: i for name in "abcdefg" if i * 37 % 128 >> ord(name) % 7 & 1}) for i, row in enumerate(rows)]
    ),
    "alternating-spellings": lambda rows: (
        "[" + ",".join((json.dumps if i % 2 else compact)(row) for i, row in enumerate(rows)) + "]"
    ),
    "counts-first": lambda rows: compact([{"count": i + 1, "metrics": row["metrics"], **row} for i, row in enumerate(rows)]),
    "some-counts": lambda rows: jsonb([{**row, "count": 2} if i % 2 else row for i, row in enumerate(rows)]),
}
"""Spellings of another meaning, of rows with a metric x."""
