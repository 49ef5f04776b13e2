"""Spark for real: two cores of this machine, thousands of stored histograms, bad ones among them."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from callstats import CallstatsError, Rule, StatSeries, reduce_json
from callstats.adapters.spark import reduce_stats, summarize_stats
from callstats.stats import summarize
from support.stored import stored
from support.zoo import SECOND

# PySpark looks at pandas wherever it uses Arrow; no frame of pandas is made here.
# Before 4.2 it leaves sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

ROWS, PARTITIONS = 24_000, 8


@cache
def cells() -> list[str | None]:
    """The vectors and real histograms, thousands of plain ones, nulls, empties and bad ones: in no order, but always the same."""
    rng = random.Random(8)
    known = [text for blob in stored() if (text := as_text(blob)) is not None or blob is None]
    made = [series(rng, i).to_db() for i in range(ROWS - 20 * len(known))]
    rows = known * 20 + made
    rng.shuffle(rows)
    return rows


def series(rng: random.Random, i: int) -> StatSeries:
    """A call of up to 30 samples."""
    n = rng.randrange(1, 30)
    return StatSeries(
        [(1_511_794_373 + i + row) * SECOND for row in range(n)],
        {"mem_usage": [rng.randrange(2**40) for _ in range(n)], "net_rx": [1000 * row for row in range(n)]},
    )


def as_text(blob: bytes | None) -> str | None:
    """A blob as text, if it is some."""
    try:
        return None if blob is None else blob.decode()
    except UnicodeDecodeError:
        return None


RULE = Rule(4, how={"mem_usage": ("mean", "max")})


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """All of them in partitions, with keys and functions."""
    rows = [(i, f"fn {i % 5}", cell) for i, cell in enumerate(cells())]
    made = spark.createDataFrame(rows, "id long, fn_id string, stats string").repartition(PARTITIONS)
    assert made.rdd.getNumPartitions() == PARTITIONS
    return made.cache()


def test_what_spark_makes_is_what_is_made_here(frame: Any) -> None:
    """Each row is as `reduce_json` makes it; a rejected one is as it was, with its reason beside it, and the job ends well."""
    assert len(cells()) >= 20_000
    local = reduce_json(cells(), RULE, errors="return")
    want = {}
    for i, (cell, result) in enumerate(zip(cells(), local, strict=True)):
        bad = isinstance(result, CallstatsError)
        want[i] = (f"fn {i % 5}", None if cell is None else cell if bad else result.decode(), str(result) if bad else None)
    reduced = reduce_stats(frame, RULE)
    assert reduced.columns == ["id", "fn_id", "stats", "stats_rejected"]
    assert reduced.rdd.getNumPartitions() == PARTITIONS
    got = {row.id: (row.fn_id, row.stats, row.stats_rejected) for row in reduced.collect()}
    assert got == want
    assert sum(reason is not None for _, _, reason in want.values()) > 500


def test_binary_and_other_names(spark: Any) -> None:
    """Binary stays binary, whichever column it is; an earlier column of reasons is replaced."""
    blobs = [blob for blob in stored() if blob is not None]
    made = spark.createDataFrame(
        [(bytearray(blob), "old", i) for i, blob in enumerate(blobs)], "blob binary, why string, id long"
    )
    rows = reduce_stats(made, 2, column="blob", rejected="why", how="max", counts=False).orderBy("id").collect()
    local = reduce_json(blobs, 2, how="max", counts=False, errors="return")
    for row, blob, result in zip(rows, blobs, local, strict=True):
        bad = isinstance(result, CallstatsError)
        assert bytes(row.blob) == (blob if bad else result)
        assert row.why == (str(result) if bad else None)


def test_through_parquet(frame: Any, tmp_path: Any) -> None:
    """What is reduced and written back is read again, and a second run changes nothing."""
    path = str(tmp_path / "reduced")
    reduce_stats(frame, RULE).write.parquet(path)
    again = reduce_stats(frame.sparkSession.read.parquet(path), RULE)
    differing = again.join(frame.sparkSession.read.parquet(path).withColumnRenamed("stats", "before"), "id").where(
        "NOT (stats <=> before)"
    )
    assert differing.count() == 0
    assert again.count() == ROWS


def test_figures_are_those_made_here(frame: Any) -> None:
    """Each group's figures are what `summarize` gives of its calls, put together; rejected ones are counted, and no more."""
    groups: dict[str, list[dict[str, Any]]] = {}
    rejected: dict[str, int] = {}
    for i, cell in enumerate(cells()):
        try:
            groups.setdefault(f"fn {i % 5}", []).append(summarize(StatSeries.from_db(cell)))
        except CallstatsError:
            rejected[f"fn {i % 5}"] = rejected.get(f"fn {i % 5}", 0) + 1
    want = {}
    for group, calls in groups.items():
        want[group, None] = (len(calls), None, None, None, None, None, None, rejected[group])
        for name in {name for call in calls for name in call}:
            every = [call[name] for call in calls if name in call]
            tops = sorted(float(call.max) for call in every)
            rising = [call.increase for call in every if call.increase is not None]
            want[group, name] = (
                len(every),
                min(call.min for call in every),
                max(call.max for call in every),
                *(tops[-(-place * len(tops) // 100) - 1] for place in (50, 95, 99)),
                sum(rising) if rising else None,
                None,
            )
    got = {}
    for row in summarize_stats(frame, by="fn_id").collect():
        least, most, risen = [None if cell is None else int(cell) for cell in (row.min, row.max, row.increase)]
        figures = (row.calls, least, most, row.peak_p50, row.peak_p95, row.peak_p99, risen, row.rejected)
        got[row.fn_id, row.metric] = figures
    assert got == want


def test_means_are_of_all_samples(spark: Any) -> None:
    """The mean is weighed by counts; sums past 2**64 are exact; columns of several groups, and none, work."""
    calls = [
        ("a", 1, StatSeries([0, 1], {"x": [2**64 - 1, 2**64 - 1]}, counts=[7, 1])),
        ("a", 1, StatSeries([0], {"x": [1], "y@max": [3]})),
        ("b", 1, StatSeries([0], {"x": [5], "x@max": [9]}, counts=[2])),
        ("b", 2, StatSeries([], {})),
    ]
    frame = spark.createDataFrame([(a, b, series.to_db()) for a, b, series in calls], "a string, b int, stats string")
    rows = {(row.a, row.b, row.metric): row for row in summarize_stats(frame, by=["a", "b"]).collect()}
    assert rows["a", 1, "x"].mean == ((2**64 - 1) * 8 + 1) / 9
    assert (rows["a", 1, "x"].samples, rows["a", 1, "x"].calls) == (9, 2)
    assert (rows["b", 1, "x"].max, rows["b", 1, "x"].mean) == (9, 5.0)
    assert [key for key in rows if key[0] == "b"] == [key for key in rows if key[0] == "b" and key[2] in (None, "x")]
    assert (rows["b", 2, None].calls, rows["b", 2, None].rejected) == (1, 0)
    everything = {row.metric: row for row in summarize_stats(frame).collect()}
    assert everything[None].calls == 4
    assert everything["x"].samples == 11
    for by in ("stats", "nothing", "metric"):
        with pytest.raises(CallstatsError, match="by must be columns other than 'stats' and those of the result"):
            summarize_stats(frame, by=by)


def test_wrong_use(spark: Any) -> None:
    """A column that isn't there or holds something else is rejected before anything runs, and so is a bad rule."""
    frame = spark.range(3)
    with pytest.raises(CallstatsError, match="column must be the name of one column, got 'stats': the frame has 'id'"):
        reduce_stats(frame)
    with pytest.raises(CallstatsError, match="column must be text or binary, got 'bigint'"):
        reduce_stats(frame, column="id")
    with pytest.raises(CallstatsError, match="rejected must be another column"):
        reduce_stats(frame.selectExpr("'' AS stats"), rejected="stats")
    with pytest.raises(CallstatsError, match="missing must be"):
        reduce_stats(frame.selectExpr("'' AS stats"), missing="none")
