"""The figures of many series at once, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from callstats import kernels
from callstats._json import as_bytes
from callstats._types import AnyArray, Block, Counts, Present
from callstats.batch import StatBatch
from callstats.kernels.totals_py import INCREASE, MAX, MIN, ROWS, SUM, TOTALS, WEIGHT
from callstats.stats.series import growth_of, plan_of


class Totals(NamedTuple):
    """Of each series and metric that it has: their numbers, then the figures."""

    metrics: tuple[str, ...]
    """What the numbers in `metric` stand for."""
    series: Counts
    metric: Counts
    samples: Counts
    least: Block
    most: Block
    sums: Block
    """(n, 2): the high and the low word of the sum, weighed by counts."""
    increases: Block
    """(n, 2): the same of the increase, which means something for counters."""


def totals_of(batch: StatBatch) -> Totals:
    """The exact sums and extremes of all metrics, by their kept peaks where there are some."""
    metrics, plan = plan_of(batch.names)
    found = _totals(batch, plan)
    metric, series = np.nonzero(found[:, :, ROWS])
    rows = found[metric, series]
    return Totals(
        metrics,
        series,
        metric,
        rows[:, WEIGHT].astype(np.int64),
        rows[:, MIN],
        rows[:, MAX],
        rows[:, SUM : SUM + 2],
        rows[:, INCREASE : INCREASE + 2],
    )


def peaks(batch: StatBatch, metric: str) -> tuple[Block, Present]:
    """The largest value of a metric in each series, and which series have it."""
    found = _one(batch, metric)
    return found[:, MAX], found[:, ROWS] > 0


def means(batch: StatBatch, metric: str) -> tuple[AnyArray, Present]:
    """The mean of a metric in each series, weighed by counts, and which series have it."""
    found = _one(batch, metric)
    rows = found[:, [SUM, SUM + 1, WEIGHT]].tolist()
    return np.array([(high << 64 | low) / (weight or 1) for high, low, weight in rows], dtype=np.float64), found[:, ROWS] > 0


def growths(batch: StatBatch, metric: str) -> tuple[AnyArray, Present]:
    """By how much a metric grows in each series, in units per second, and which series tell."""
    metrics, plan = plan_of(batch.names)
    if metric not in metrics:
        return np.zeros(len(batch)), np.zeros(len(batch), dtype=np.bool_)
    place = plan[0, [metrics.index(metric)]]
    found = kernels.active.moments(batch.timestamps, batch.values, as_bytes(batch.present), batch.offsets, place)[0]
    slopes = [growth_of(moment) for moment in found.tolist()]
    return np.array([slope or 0.0 for slope in slopes]), np.array([slope is not None for slope in slopes], dtype=np.bool_)


def _one(batch: StatBatch, metric: str) -> Block:
    """The totals of one metric: (m, TOTALS) words, all 0 where a series lacks it."""
    metrics, plan = plan_of(batch.names)
    if metric not in metrics:
        return np.zeros((len(batch), TOTALS), dtype=np.uint64)
    one: Block = _totals(batch, np.ascontiguousarray(plan[:, [metrics.index(metric)]]))[0]
    return one


def _totals(batch: StatBatch, plan: Counts) -> Block:
    found: Block = kernels.active.totals(batch.values, as_bytes(batch.present), batch._columns.counts, batch.offsets, plan)
    return found
