"""``python benchmarks/spark.py``: what one core does in Spark, reading Parquet, reducing or summing up, and writing Parquet.

``--calls 4000`` of 240 rows and nine metrics each, 51 kB. It needs Java 17.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from callstats import backend
from callstats.adapters.spark import reduce_stats, summarize_stats
from inputs import stored_call

DISTINCT = 200
PARTS = 8


def main() -> None:
    """Print seconds and megabytes a second, the best of three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000)
    calls = parser.parse_args().calls
    os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        blobs = [stored_call(240, seed=seed).decode() for seed in range(DISTINCT)]
        size = 0
        Path(folder, "calls").mkdir()
        for part in range(PARTS):
            cells = [blobs[i % DISTINCT] for i in range(part, calls, PARTS)]
            size += sum(map(len, cells))
            table = pa.table({"fn_id": [f"fn {i % 20}" for i in range(len(cells))], "stats": cells})
            pq.write_table(table, Path(folder, "calls", f"{part}.parquet"), compression="zstd")
        spark = (
            SparkSession.builder.master("local[1]")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", str(PARTS))
            .config("spark.local.dir", folder)
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "500")
            .getOrCreate()
        )
        frame = spark.read.parquet(f"{folder}/calls")
        print(f"{calls:,} calls, {size / 1e6:,.0f} MB of text, one core, {backend} backend")
        jobs: dict[str, Callable[[DataFrame], DataFrame]] = {
            "read and write": lambda frame: frame,
            "reduce to 60 rows": lambda frame: reduce_stats(frame, 60),
            "summarize by fn_id": lambda frame: summarize_stats(frame, by="fn_id"),
        }
        for name, job in jobs.items():
            seconds = min(timed(job(frame), f"{folder}/out") for _ in range(3))
            print(f"{name:<20} {seconds:6.2f} s {size / 1e6 / seconds:8,.0f} MB/s {calls / seconds:8,.0f} calls/s")
        spark.stop()


def timed(frame: DataFrame, path: str) -> float:
    """How long it takes to write a frame."""
    start = time.perf_counter()
    frame.write.mode("overwrite").parquet(path)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
