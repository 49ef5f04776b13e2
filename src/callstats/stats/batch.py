"""Statistics of many series at once, as arrays."""

from __future__ import annotations

import numpy as np

from callstats import kernels
from callstats._json import as_bytes
from callstats._types import AnyArray, Block, Counts, Present
from callstats.batch import StatBatch
from callstats.kernels.totals_py import MAX, ROWS, SUM, TOTALS, WEIGHT
from callstats.stats.series import slope_of, totals_plan


def totals_of(batch: StatBatch) -> tuple[tuple[str, ...], Counts, Counts, Block]:
    """Return the metrics, and the words of `kernels.totals` for each metric of each series that has it.

    These are (n, TOTALS) words. Before them come the indexes of their series, and of their metrics, (n,) each.
    """
    metrics, plan = totals_plan(batch.names)
    found = _totals(batch, plan)
    metric, series = np.nonzero(found[:, :, ROWS])
    return metrics, series, metric, found[metric, series]


def peaks(batch: StatBatch, metric: str) -> tuple[Block, Present]:
    """Return the max of a metric in each series, and a mask of the series that have the metric."""
    found = _metric_totals(batch, metric)
    return found[:, MAX], found[:, ROWS] > 0


def means(batch: StatBatch, metric: str) -> tuple[AnyArray, Present]:
    """Return the mean of a metric in each series, weighted by counts, and the same mask."""
    found = _metric_totals(batch, metric)
    rows = found[:, [SUM, SUM + 1, WEIGHT]].tolist()
    return np.array([(high << 64 | low) / (weight or 1) for high, low, weight in rows], dtype=np.float64), found[:, ROWS] > 0


def growths(batch: StatBatch, metric: str) -> tuple[AnyArray, Present]:
    """Return the slope of a metric in each series, in units per second, and a mask of the series that have one."""
    metrics, plan = totals_plan(batch.names)
    if metric not in metrics:
        return np.zeros(len(batch)), np.zeros(len(batch), dtype=np.bool_)
    index = plan[0, [metrics.index(metric)]]
    found = kernels.active.moments(batch.timestamps, batch.values, as_bytes(batch.present), batch.offsets, index)[0]
    slopes = [slope_of(moment) for moment in found.tolist()]
    return np.array([slope or 0.0 for slope in slopes]), np.array([slope is not None for slope in slopes], dtype=np.bool_)


def _metric_totals(batch: StatBatch, metric: str) -> Block:
    """Return the totals of one metric: (m, TOTALS) words, all 0 for a series without it."""
    metrics, plan = totals_plan(batch.names)
    if metric not in metrics:
        return np.zeros((len(batch), TOTALS), dtype=np.uint64)
    found: Block = _totals(batch, np.ascontiguousarray(plan[:, [metrics.index(metric)]]))[0]
    return found


def _totals(batch: StatBatch, plan: Counts) -> Block:
    found: Block = kernels.active.totals(batch.values, as_bytes(batch.present), batch._columns.counts, batch.offsets, plan)
    return found
