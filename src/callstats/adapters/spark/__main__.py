"""A job for ``spark-submit``: reduce stored blobs in Parquet or JSON lines into new files, or summarize them.

OUT is a new folder with files of the form that IN has. Rejected blobs stay as they are, and their keys and the reasons are beside
them, in OUT.rejects. Exit code: 0 done, 1 some rejected, 2 wrong use, 3 stopped early.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from callstats._units import parse_size, plural
from callstats.adapters.files import has_lines
from callstats.adapters.spark import reduce_stats, summarize_stats
from callstats.adapters.spark._lines import parse_lines, reduce_lines
from callstats.errors import ArgumentError
from callstats.rule import KEEP_PEAKS, OTHERS, Rule

SETTINGS = {"spark.sql.execution.arrow.maxRecordsPerBatch": "500", "spark.sql.parquet.compression.codec": "zstd"}
"""Settings of a job, unless ``--conf`` has them. The first is the number of rows that a worker has in memory."""


def run_job(arguments: Sequence[str] | None = None) -> int:
    """Run the job, and return its exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        if asked.verb == "reduce":
            asked.rule = Rule(asked.max_samples, how=_merged(asked.how), missing=asked.missing, max_bytes=asked.max_bytes)
            if asked.max_samples is None and asked.max_bytes is None:
                parser.error("one of --max-samples and --max-bytes is needed")
        builder = SparkSession.builder.appName(f"callstats {asked.verb}").config("spark.ui.showConsoleProgress", "true")
        with builder.getOrCreate() as spark:
            for name, value in SETTINGS.items():
                if not spark.sparkContext.getConf().contains(name):
                    spark.conf.set(name, value)
            return (_reduce_frame if asked.verb == "reduce" else _summarize_frame)(spark, asked)
    except (AnalysisException, ArgumentError) as error:
        _say(f"error: {str(error).partition(chr(10))[0]}")
        return 2
    except (PySparkException, Py4JError) as error:
        _say(f"stopped early: {' '.join(str(error).split()[:60])}")
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m callstats.adapters.spark", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("reduce", "summarize"):
        one = verbs.add_parser(verb)
        one.add_argument("input", metavar="IN", help="a file, a folder or a pattern of them, at any URL that Spark takes")
        one.add_argument("output", metavar="OUT", help="a new folder")
        one.add_argument("--format", choices=["parquet", "jsonl"], help="by default jsonl if IN ends in .jsonl (or .gz, .zst)")
        one.add_argument("--column", default="stats", help="the column or field with the blobs (%(default)s)")
        if verb == "summarize":
            one.add_argument("--by", action="append", default=[], metavar="COLUMN", help="group by it; can be repeated")
            continue
        one.add_argument("--key", default="id", help="the column or field that names a rejected row (%(default)s)")
        one.add_argument("--max-samples", type=int, metavar="N")
        one.add_argument("--max-bytes", type=parse_size, metavar="SIZE")
        one.add_argument("--missing", choices=["skip", "zero"], default="skip")
        one.add_argument("--how", action="append", default=[], metavar="[METRIC=]REDUCER,...", help="by default KEEP_PEAKS")
        one.add_argument("--rejects", metavar="PATH", help="a new folder for the rejected rows (OUT.rejects)")
    return parser


def _merged(hows: Sequence[str]) -> Mapping[str, Any]:
    """Return the `how` of a rule, as the command `callstats reduce` does."""
    asked: dict[str, Any] = {}
    for text in hows:
        metric, _, reducers = text.rpartition("=")
        names = tuple(reducers.split(","))
        asked[metric or OTHERS] = names if len(names) > 1 else names[0]
    return asked if OTHERS in asked else {**KEEP_PEAKS, **asked}


def _read_frame(spark: SparkSession, asked: Any) -> tuple[DataFrame, bool]:
    """Return the rows of Parquet, or the lines as bytes, and whether they are lines."""
    if has_lines(asked.input) if asked.format is None else asked.format == "jsonl":
        return spark.read.text(asked.input).select(F.col("value").cast("binary")), True
    return spark.read.parquet(asked.input), False


def _reduce_frame(spark: SparkSession, asked: Any) -> int:
    began = monotonic()
    frame, lines = _read_frame(spark, asked)
    if lines:
        work = partial(reduce_lines, rule=asked.rule, column=asked.column, key=asked.key)
        result, reason = frame.mapInArrow(work, "value binary, key string, reason string"), "reason"
        new, keys = [F.col("value").cast("string").alias("value")], [F.col("key")]
    else:
        reason = f"{asked.column}_rejected"
        result = reduce_stats(frame, asked.rule, column=asked.column, rejected=reason)
        new = [F.col(f"`{name}`") for name in frame.columns]
        keys = [F.col(f"`{asked.key}`").alias("key")] if asked.key in frame.columns else []
    seen = Observation()
    watched = result.observe(seen, F.count(F.lit(1)).alias("rows"), F.count(f"`{reason}`").alias("rejected"))
    watched.select(*new).write.format("text" if lines else "parquet").save(asked.output)
    rejected = seen.get["rejected"]
    if rejected:  # only then a second pass, over what the first one read
        beside = asked.rejects or f"{asked.output.rstrip('/')}.rejects"
        rows = result.where(F.col(f"`{reason}`").isNotNull()).select(*keys, F.col(f"`{reason}`").alias("reason"))
        rows.write.json(beside)
        _say(f"the rejected rows are in {beside}")
    _say(f"{plural(seen.get['rows'], 'row')}: {rejected:,} rejected; {monotonic() - began:.1f} s; wrote {asked.output}")
    return 1 if rejected else 0


def _summarize_frame(spark: SparkSession, asked: Any) -> int:
    frame, lines = _read_frame(spark, asked)
    if lines:
        schema = ", ".join([*(f"`{name}` string" for name in asked.by), f"`{asked.column}` binary"])
        frame = frame.mapInArrow(partial(parse_lines, column=asked.column, fields=asked.by), schema)
    result = summarize_stats(frame, by=asked.by, column=asked.column)
    seen = Observation()
    watched = result.observe(seen, F.sum("rejected").alias("rejected"), F.count_if(F.col("metric").isNull()).alias("groups"))
    watched.write.format("json" if lines else "parquet").save(asked.output)
    rejected = seen.get["rejected"] or 0
    _say(f"{plural(seen.get['groups'], 'group')}: {plural(rejected, 'call')} rejected; wrote {asked.output}")
    return 1 if rejected else 0


def _say(line: str) -> None:
    sys.stderr.write(f"callstats: {line}\n")


if __name__ == "__main__":
    sys.exit(run_job())
