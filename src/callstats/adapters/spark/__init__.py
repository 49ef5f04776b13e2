"""Stored blobs in Spark, reduced and summarized by the executors over Arrow, without a Python object for each row.

It needs PySpark 4 and Java 17 or newer. The Python of the executors needs callstats with the extra ``spark`` too. A worker has
``spark.sql.execution.arrow.maxRecordsPerBatch`` rows in memory: set it to 500 or so where blobs are long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from callstats._extras import needs

with needs("adapters.spark", "spark"):
    import pyarrow as pa
    from pyspark.sql import DataFrame
    from pyspark.sql import functions as F  # noqa: N812 - the usual name
    from pyspark.sql.types import BinaryType, StringType, StructField, StructType

from callstats._types import FN_COUNTERS, Block
from callstats.adapters._frames import column_index
from callstats.adapters.arrow import reduce
from callstats.adapters.arrow._text import read_array, reasons_of
from callstats.errors import ArgumentError, suggest_keywords
from callstats.kernels.totals_py import INCREASE, MAX, MIN, SUM, WEIGHT
from callstats.rule import How, Missing, Rule, make_rule
from callstats.stats.batch import totals_of

_PARTIAL = (
    "metric string, samples long, min decimal(20,0), max decimal(20,0), sum decimal(38,0), increase decimal(38,0), reason string"
)
"""The columns of a worker's rows: one for each blob, with null or a reason, and one for each of its metrics."""

_TAKEN = ("metric", "calls", "samples", "min", "max", "mean", "sum", "increase", "rejected", "reason")
"""The columns of the result and of the workers' rows."""


@suggest_keywords
def reduce_stats(
    df: DataFrame,
    rule: Rule | int | None = 240,
    *,
    column: str = "stats",
    rejected: str = "stats_rejected",
    how: How | Mapping[str, How] | None = None,
    missing: Missing | None = None,
    max_bytes: int | None = None,
    counts: bool = True,
    sort: bool = False,
) -> DataFrame:
    """Reduce the stored blobs of a column, as `callstats.reduce_json` does.

    Parameters
    ----------
    column : str
        The column with the blobs, text or binary.
    rejected : str
        The column for the reasons. It replaces a column of `df` with that name.
    rule, how, missing, max_bytes, counts, sort
        As for `reduce_json`.

    Returns
    -------
    DataFrame
        It has the columns of `df`, with the blobs reduced, and a column of text. A rejected blob stays unchanged, and that
        column has the reason; it is null for all others. Null stays null.
    """
    checked = make_rule(rule, how, missing, max_bytes)
    _validate_text_column(df, column)
    if rejected == column:
        raise ArgumentError("rejected", "another column than that of the blobs", rejected)
    kept = df.drop(rejected)
    schema = StructType([*kept.schema.fields, StructField(rejected, StringType())])
    work = partial(_reduce_batches, rule=checked, column=column, rejected=rejected, counts=counts, sort=sort)
    return kept.mapInArrow(work, schema)


def _validate_text_column(df: DataFrame, column: str) -> None:
    kind = df.schema[column_index(column, df.columns, "frame")].dataType
    if not isinstance(kind, (StringType, BinaryType)):
        raise ArgumentError("column", "text or binary", kind.simpleString())


def _reduce_batches(
    batches: Iterator[pa.RecordBatch], *, rule: Rule, column: str, rejected: str, counts: bool, sort: bool
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        result, reasons = reduce(batch, rule, column=column, counts=counts, sort=sort, errors="return")
        yield result.append_column(rejected, reasons)


def summarize_stats(
    df: DataFrame,
    *,
    by: str | Sequence[str] = (),
    column: str = "stats",
    counters: Iterable[str] = FN_COUNTERS,
) -> DataFrame:
    """Summarize the stored blobs of a column, group by group and metric by metric.

    Parameters
    ----------
    by : str or sequence of str
        The columns to group by; none for one group of all.
    column : str
        The column with the blobs, text or binary.
    counters : iterable of str
        The metrics that only rise; those of Fn's nine by default.

    Returns
    -------
    DataFrame
        The columns of `by`, then

        - ``metric``: NULL in one row of each group, which counts its calls: ``calls`` without the rejected, and ``rejected``;
        - ``calls``: the number of calls that have the metric, and ``samples``: the number of their samples;
        - ``min``, ``max`` (decimal(20,0)): by kept peaks where a call has some, as in `summarize`;
        - ``mean`` (double): over all samples of all calls, weighted by counts;
        - ``peak_p50``, ``peak_p95``, ``peak_p99`` (double): percentiles of the calls' max values, element ``ceil(p * n)``;
        - ``increase`` (decimal(38,0)): the sum of the increases of a counter; NULL for other metrics.
    """
    _validate_text_column(df, column)
    groups = [by] if isinstance(by, str) else list(by)
    for name in groups:
        if name not in df.columns or name in (column, *_TAKEN):
            raise ArgumentError("by", f"columns other than {column!r} and those of the result", name)
    if isinstance(counters, str):
        raise ArgumentError("counters", "an iterable of names", counters)
    kept = df.select(*groups, column)
    schema = StructType([*(kept.schema[name] for name in groups), *StructType.fromDDL(_PARTIAL)])
    rows = kept.mapInArrow(partial(_total_rows, groups=groups, column=column, names=schema.names), schema)
    counter = F.col("metric").isin(*sorted(counters))
    peaks = {p: f"percentile_disc({p / 100}) WITHIN GROUP (ORDER BY CAST(max AS DOUBLE))" for p in (50, 95, 99)}
    return rows.groupBy(*groups, "metric").agg(
        F.expr("count_if(reason IS NULL)").alias("calls"),
        F.sum("samples").alias("samples"),
        F.min("min").alias("min"),
        F.max("max").alias("max"),
        (F.try_sum("sum").cast("double") / F.sum("samples")).alias("mean"),
        *(F.expr(peak).alias(f"peak_p{p}") for p, peak in peaks.items()),
        F.when(counter, F.try_sum("increase")).alias("increase"),
        F.when(F.col("metric").isNull(), F.count("reason")).alias("rejected"),
    )


def _total_rows(
    batches: Iterator[pa.RecordBatch], *, groups: list[str], column: str, names: list[str]
) -> Iterator[pa.RecordBatch]:
    """Yield a row for each blob, then a row for each of its metrics."""
    for batch in batches:
        series, rejected = read_array(batch.column(column))
        metrics, index, metric, words = totals_of(series)
        n, m = len(batch), len(index)
        row = pa.array(np.concatenate([np.arange(n), index]))
        of_metrics = [
            pa.array(metrics, pa.string()).take(pa.array(metric)),
            pa.array(words[:, WEIGHT].astype(np.int64)),
            pa.array(words[:, MIN]).cast(pa.decimal128(20, 0)),
            pa.array(words[:, MAX]).cast(pa.decimal128(20, 0)),
            _decimals(words[:, SUM : SUM + 2]),
            _decimals(words[:, INCREASE : INCREASE + 2]),
        ]
        columns = [batch.column(name).take(row) for name in groups]
        columns += [pa.concat_arrays([pa.nulls(n, cells.type), cells]) for cells in of_metrics]
        columns.append(pa.concat_arrays([reasons_of(rejected, n), pa.nulls(m, pa.string())]))
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _decimals(words: Block) -> pa.Array:
    """Make decimals of sums of a high and a low word, null where a sum has more than 38 digits."""
    fits = words[:, 0] < 10**38 >> 64
    cells = np.ascontiguousarray(np.where(fits[:, np.newaxis], words, 0)[:, ::-1])  # the low word first
    valid = None if fits.all() else pa.array(fits).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(38, 0), len(words), [valid, pa.py_buffer(cells)])
