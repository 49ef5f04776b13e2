"""Stored histograms in Spark: reduced and summarized by the executors, over Arrow, with no Python object for any row.

It needs PySpark 4 and Java 17 or newer: ``pip install "callstats[spark]"``, also where the executors' Python runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from callstats._types import FN_COUNTERS, Block
from callstats.adapters._optional import needs
from callstats.errors import CallstatsError
from callstats.rule import Rule, make_rule

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame


def reduce_stats(
    df: DataFrame,
    rule: Rule | int | None = 240,
    *,
    column: str = "stats",
    refused: str = "stats_refused",
    counts: bool = True,
    sort: bool = False,
    **fields: Any,
) -> DataFrame:
    """Reduce the stored histograms of a column, as `callstats.reduce_json` does.

    Parameters
    ----------
    df : DataFrame
    rule : Rule or int
        How to reduce; a number is the rule's `max_samples`.
    column : str
        The column with the histograms, text or binary.
    refused : str
        The column for reasons; one that `df` has under that name is replaced.
    counts, sort, **fields
        As for `reduce_json`.

    Returns
    -------
    DataFrame
        As `df`, with the histograms reduced and one more column of text. A histogram that is refused stays as it was, and the
        reason stands beside it; for all others that is null. Null stays null.

    Raises
    ------
    CallstatsError
        When there is no such column, or it holds neither text nor binary.
    ImportError
        When PySpark or pyarrow is missing.

    Notes
    -----
    A map over partitions: nothing is shuffled, and as many cores work as there are partitions. A worker holds a batch of
    ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows (by default 10,000) at a time: with histograms of 50 kB that is half a
    gigabyte, so set it to 500 or so where they are long.
    """
    with needs("adapters.spark.reduce_stats", "pyspark", "spark"):
        from pyspark.sql.types import StringType, StructField, StructType
    with needs("adapters.spark.reduce_stats", "pyarrow", "spark"):
        import pyarrow as pa  # noqa: F401 - only whether it is there
    checked = make_rule(rule, **fields)
    _text_column(df, column)
    if refused == column:
        raise CallstatsError(f"refused must name another column than the histograms', got {refused!r}")
    kept = df.drop(refused)
    schema = StructType([*kept.schema.fields, StructField(refused, StringType())])
    work = partial(_reduced, rule=checked, column=column, refused=refused, counts=counts, sort=sort)
    return kept.mapInArrow(work, schema)


def _text_column(df: DataFrame, column: str) -> None:
    """Refuse a column that isn't there, or that no histograms can be in."""
    from pyspark.sql.types import BinaryType, StringType

    if column not in df.columns:
        raise CallstatsError(f"expected a column {column!r}: the frame has {', '.join(map(repr, df.columns)) or 'none'}")
    kind = df.schema[column].dataType
    if not isinstance(kind, (StringType, BinaryType)):
        raise CallstatsError(f"expected text or binary in column {column!r}, got {kind.simpleString()}")


def _reduced(
    batches: Iterator[pa.RecordBatch], *, rule: Rule, column: str, refused: str, counts: bool, sort: bool
) -> Iterator[pa.RecordBatch]:
    """What a worker does."""
    from callstats.adapters.arrow import reduce_checked

    for batch in batches:
        place = batch.schema.get_field_index(column)
        result, reasons = reduce_checked(batch.column(place), rule, counts=counts, sort=sort)
        yield batch.set_column(place, batch.schema.field(place), result).append_column(refused, reasons)


_PARTIAL = "metric string, samples long, least decimal(20,0), most decimal(20,0), total decimal(38,0), risen decimal(38,0)"
"""What a worker tells of each metric of a histogram; of the histogram itself and its refusal, with neither."""


def summarize_stats(
    df: DataFrame,
    *,
    by: str | Sequence[str] = (),
    column: str = "stats",
    counters: Iterable[str] = FN_COUNTERS,
) -> DataFrame:
    """What the stored histograms of a column say, group by group and metric by metric.

    Parameters
    ----------
    df : DataFrame
    by : str or sequence of str
        The columns to group by; none for one group of all.
    column : str
        The column with the histograms, text or binary.
    counters : iterable of str
        The metrics that only rise; by default those of Fn's nine.

    Returns
    -------
    DataFrame
        The columns of `by`, then

        - ``metric``: a row of each group has NULL here and tells of its calls: ``calls``, all of them but the refused, and
          ``refused``;
        - ``calls``: how many have the metric, and ``samples``: how many samples they stand for;
        - ``min``, ``max`` (decimal(20,0)): by kept peaks where there are some, as `summarize` has them;
        - ``mean`` (double): over all samples of all calls, weighed by counts;
        - ``peak_p50``, ``peak_p95``, ``peak_p99`` (double): percentiles of the calls' largest values, element ``ceil(p * n)``;
        - ``increase`` (decimal(38,0)): by how much a counter rose in all calls; NULL for other metrics.

    Raises
    ------
    CallstatsError
        When there is no such column, or it holds neither text nor binary.
    ImportError
        When PySpark or pyarrow is missing.

    Notes
    -----
    Workers read and sum up histograms, a few numbers of each are shuffled, and Spark's own aggregates do the rest.
    """
    with needs("adapters.spark.summarize_stats", "pyspark", "spark"):
        from pyspark.sql import functions as F  # noqa: N812 - its own name
        from pyspark.sql.types import StringType, StructField, StructType
    with needs("adapters.spark.summarize_stats", "pyarrow", "spark"):
        import pyarrow as pa  # noqa: F401 - only whether it is there
    _text_column(df, column)
    groups = [by] if isinstance(by, str) else list(by)
    for name in groups:
        if name not in df.columns or name in (column, *_TAKEN):
            raise CallstatsError(f"by must name columns other than {column!r} and those of the result, got {name!r}")
    if isinstance(counters, str):
        raise CallstatsError(f"counters must be the names of metrics, got the text {counters!r}")
    kept = df.select(*groups, column)
    schema = StructType([kept.schema[name] for name in groups])
    for part in _PARTIAL.split(", "):
        name, kind = part.split()
        schema = schema.add(name, kind)
    schema = schema.add(StructField("reason", StringType()))
    found = kept.mapInArrow(partial(_summed, groups=groups, column=column, schema=_PARTIAL), schema)
    counter = F.col("metric").isin(*sorted(counters))
    peaks = {place: f"percentile_disc({place / 100}) WITHIN GROUP (ORDER BY CAST(most AS DOUBLE))" for place in (50, 95, 99)}
    return found.groupBy(*groups, "metric").agg(
        F.expr("count_if(reason IS NULL)").alias("calls"),
        F.sum("samples").alias("samples"),
        F.min("least").alias("min"),
        F.max("most").alias("max"),
        (F.try_sum("total").cast("double") / F.sum("samples")).alias("mean"),
        *(F.expr(peak).alias(f"peak_p{place}") for place, peak in peaks.items()),
        F.when(counter, F.try_sum("risen")).alias("increase"),
        F.when(F.col("metric").isNull(), F.count("reason")).alias("refused"),
    )


_TAKEN = ("metric", "calls", "samples", "min", "max", "mean", "increase", "refused", "least", "most", "total", "risen", "reason")
"""The names of the result and on the way to it."""


def _summed(batches: Iterator[pa.RecordBatch], *, groups: list[str], column: str, schema: str) -> Iterator[pa.RecordBatch]:
    """What a worker does: a row for each histogram, and one for each of its metrics."""
    import numpy as np
    import pyarrow as pa

    from callstats.adapters.arrow._text import read_array
    from callstats.stats.batch import totals_of

    for batch in batches:
        series, refused = read_array(batch.column(batch.schema.get_field_index(column)), sort=False)
        totals = totals_of(series)
        n, m = len(batch), len(totals.series)
        row = pa.array(np.concatenate([np.arange(n), totals.series]))
        reasons = pa.array([str(refused[i]) if i in refused else None for i in range(n)] if refused else [None] * n, pa.string())
        metrics = pa.array(totals.metrics, pa.string()).take(pa.array(totals.metric))
        of_metrics = [
            metrics,
            pa.array(totals.samples),
            pa.array(totals.mins).cast(pa.decimal128(20, 0)),
            pa.array(totals.maxes).cast(pa.decimal128(20, 0)),
            _decimals(totals.sums),
            _decimals(totals.increases),
        ]
        columns = [batch.column(batch.schema.get_field_index(name)).take(row) for name in groups]
        columns += [pa.concat_arrays([pa.nulls(n, cells.type), cells]) for cells in of_metrics]
        columns.append(pa.concat_arrays([reasons, pa.nulls(m, pa.string())]))
        names = [*groups, *(part.split()[0] for part in schema.split(", ")), "reason"]
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _decimals(words: Block) -> pa.Array:
    """Sums of a high and a low word as decimals; null where one has more than 38 digits."""
    import numpy as np
    import pyarrow as pa

    fits = words[:, 0] < 10**38 >> 64
    cells = np.ascontiguousarray(np.where(fits[:, np.newaxis], words, 0)[:, ::-1])  # the low word first
    valid = None if fits.all() else pa.array(fits).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(38, 0), len(words), [valid, pa.py_buffer(cells)])
