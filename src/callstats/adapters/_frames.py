"""The columns of a series, as tables and frames of any library have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from callstats._types import AnyArray, Present
from callstats.errors import SeriesError
from callstats.series import StatSeries


def columns_of(series: StatSeries, **options: str | None) -> Iterator[tuple[str, AnyArray, Present | None]]:
    """Yield the name, values and presence mask of each metric, and of the counts where a row stands for several samples.

    `options` are the names of the other columns, by the parameter that sets each; no metric may have one of these names.
    """
    for option, name in options.items():
        if name in series.names:
            raise SeriesError(f"metric {name!r} clashes with the column of that name: choose another with {option}=")
    for index, name in enumerate(series.names):
        yield name, series.values[index], None if series.present is None else series.present[index]
    counts = options["counts"]
    if counts is not None and len(series) and series.counts.max() > 1:
        yield counts, series.counts, None


def series_of(columns: Mapping[str, Any], timestamp: str, counts: str | None) -> StatSeries:
    """Make a series of arrays by name: times, counts if they are present, and metrics."""
    metrics = dict(columns)
    times = metrics.pop(timestamp)
    weights = None if counts is None else metrics.pop(counts, None)
    return StatSeries(times, metrics, counts=weights)


def validate_column(name: str, columns: list[str], what: str = "the table") -> int:
    """Return the index of a column, or raise an error that names the columns."""
    if name not in columns:
        raise SeriesError(f"expected a column {name!r}: {what} has {', '.join(map(repr, columns)) or 'none'}")
    return columns.index(name)
