"""The SQL functions: statistics of one stored blob."""

from __future__ import annotations

from callstats._columns import Columns
from callstats.errors import CallstatsError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries
from callstats.stats import Summary, summarize


def count(stats: object) -> int:
    """Return the number of rows."""
    return len(StatSeries.from_json(stats))


def peak(stats: object, metric: str) -> int | None:
    """Return the max of a metric, with peaks in place of values where rows have them."""
    found = _summary(stats, metric)
    return None if found is None else found.max


def mean(stats: object, metric: str) -> float | None:
    """Return the mean of a metric, weighted by counts."""
    found = _summary(stats, metric)
    return None if found is None else found.mean


def growth(stats: object, metric: str) -> float | None:
    """Return the slope of a metric, in units per second."""
    found = _summary(stats, metric)
    return None if found is None else found.growth


def fault(stats: object) -> str | None:
    """Return the error of a malformed blob, None for a valid one."""
    try:
        StatSeries.from_json(stats)
    except CallstatsError as error:
        return str(error)
    return None


def is_valid(stats: object) -> bool:
    """Return whether a blob is valid."""
    return fault(stats) is None


def _summary(stats: object, metric: str) -> Summary | None:
    names, times, values, present, counts = StatSeries.from_json(stats)._columns
    kept = [index for index, name in enumerate(names) if name == metric or (parse_peak_name(name) or ("",))[0] == metric]
    mask = None if present is None else present[kept]
    columns = Columns(tuple(names[index] for index in kept), times, values[kept], mask, counts)
    return summarize(StatSeries._of(columns)).get(metric)
