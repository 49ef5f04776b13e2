"""The columns of a series, as tables and frames of any library have them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from callstats._types import AnyArray, Present
from callstats.errors import ArgumentError, SeriesError
from callstats.series import StatSeries


def columns_of(series: StatSeries, **options: str | None) -> Iterator[tuple[str, AnyArray, Present | None]]:
    """Yield the name, values and presence mask of each metric, and of the counts where a row stands for several samples.

    `options` are the names of the other columns, by the parameter that sets each; no metric may have one of these names.
    """
    for option, name in options.items():
        if name in series.names:
            raise SeriesError(f"{option} must be a name that no metric has, got {name!r}")
    for index, name in enumerate(series.names):
        yield name, series.values[index], None if series.present is None else series.present[index]
    counts = options["counts"]
    if counts is not None and len(series) and series.counts.max() > 1:
        yield counts, series.counts, None


def series_of(columns: dict[str, Any], timestamp: str, counts: str | None, what: str) -> StatSeries:
    """Make a series of arrays by name: times, counts if they are present, and metrics."""
    require_columns([timestamp], columns, what)
    times = columns.pop(timestamp)
    weights = None if counts is None else columns.pop(counts, None)
    return StatSeries(times, columns, counts=weights)


def column_index(column: str, names: list[str], what: str) -> int:
    """Return the index of the one column with a name, which a caller gave as the argument `column`."""
    if names.count(column) != 1:
        raise ArgumentError("column", "the name of one column", column, hint=f"the {what} has {_quoted(names)}")
    return names.index(column)


def require_columns(required: Iterable[str], names: Collection[str], what: str) -> None:
    """Raise if a required column is missing."""
    for name in required:
        if name not in names:
            raise SeriesError(f"expected a column {name!r}: the {what} has {_quoted(names)}")


def _quoted(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
