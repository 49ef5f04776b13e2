"""One call for one verb of a table, as most tests need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from callstats import Rule, StatSeries
from callstats.db import Call, ExportResult, ReduceResult, RestoreResult, TableSummary, connect

COLUMNS = ("table", "key", "column", "time_column", "start_column", "end_column", "group_column", "status_column")


def _apart(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names of columns, and the other options."""
    names = {name: options.pop(name) for name in COLUMNS if name in options}
    return names, options


def reduce_table(source: Any, rule: Rule | int, **options: Any) -> ReduceResult:
    """`CallTable.reduce`; a number is a rule of means, to be told from the default, which keeps peaks."""
    names, options = _apart(options)
    how = {"how": "mean"} if isinstance(rule, int) else {}
    if isinstance(rule, Rule) and rule.how is None:
        rule = rule.with_default("mean")
    with connect(source, **names) as calls:
        return calls.reduce(rule, **how, **options)


def summarize_table(source: Any, **options: Any) -> TableSummary:
    """`CallTable.summarize`."""
    names, options = _apart(options)
    with connect(source, **names) as calls:
        return calls.summarize(**options)


def export_table(source: Any, path: Any, **options: Any) -> ExportResult:
    """`CallTable.export`."""
    names, options = _apart(options)
    with connect(source, **names) as calls:
        return calls.export(path, **options)


def restore_table(source: Any, path: Any, **options: Any) -> RestoreResult:
    """`CallTable.restore`."""
    names, options = _apart(options)
    with connect(source, **names) as calls:
        return calls.restore(path, **options)


def create_table(source: Any, **names: Any) -> str:
    """`CallTable.create`."""
    with connect(source, **names) as calls:
        return calls.create()


def add_calls(source: Any, calls: Iterable[Call | Mapping[str, object]], **names: Any) -> int:
    """`CallTable.add`."""
    with connect(source, **names) as table:
        return table.add(calls)


def list_calls(source: Any, limit: int | None = 20, **options: Any) -> list[Call]:
    """`CallTable.list`."""
    names, options = _apart(options)
    with connect(source, **names) as calls:
        return calls.list(limit, **options)


def get_call(source: Any, key: Any = None, **names: Any) -> Call:
    """`CallTable.get`."""
    with connect(source, **names) as calls:
        return calls.get(key)


def get_series(source: Any, key: Any = None, **names: Any) -> StatSeries:
    """The series of a call that has one."""
    series = get_call(source, key, **names).series
    assert series is not None
    return series
