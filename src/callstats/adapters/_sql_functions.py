"""What the SQL functions answer, of one stored histogram."""

from __future__ import annotations

from callstats._columns import Columns
from callstats.errors import CallstatsError
from callstats.rule import parse_peak_name
from callstats.series import StatSeries
from callstats.stats import Summary, summarize


def count(stats: object) -> int:
    """How many rows there are."""
    return len(StatSeries.from_json(stats))


def peak(stats: object, metric: str) -> int | None:
    """The largest value of a metric, by its kept peaks where there are some."""
    found = _summary(stats, metric)
    return None if found is None else found.max


def mean(stats: object, metric: str) -> float | None:
    """The mean of a metric, weighed by counts."""
    found = _summary(stats, metric)
    return None if found is None else found.mean


def growth(stats: object, metric: str) -> float | None:
    """By how much a metric grows, in units per second."""
    found = _summary(stats, metric)
    return None if found is None else found.growth


def fault(stats: object) -> str | None:
    """Why a histogram is refused, if it is."""
    try:
        StatSeries.from_json(stats)
    except CallstatsError as error:
        return str(error)
    return None


def is_valid(stats: object) -> bool:
    """Whether nothing refuses a histogram."""
    return fault(stats) is None


def _summary(stats: object, metric: str) -> Summary | None:
    names, times, values, present, counts = StatSeries.from_json(stats)._columns
    kept = [place for place, name in enumerate(names) if name == metric or (parse_peak_name(name) or ("",))[0] == metric]
    some = Columns(tuple(names[place] for place in kept), times, values[kept], None if present is None else present[kept], counts)
    return summarize(StatSeries._of(some)).get(metric)
