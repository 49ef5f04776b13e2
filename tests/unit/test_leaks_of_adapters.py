"""Adapters give back what they take, of Python's memory, of Arrow's and of the process."""

from __future__ import annotations

import gc
import mmap
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from callstats import CallstatsError, StatBatch, StatSeries
from callstats.adapters import arrow, pandas, parquet, polars
from callstats.adapters import duckdb as duckdb_adapter
from callstats.adapters import sqlite as sqlite_adapter
from callstats.adapters.sqlalchemy import StatsType
from support.leaks import grown, objects, resident

SERIES = StatSeries([i * 10**9 for i in range(12)], {"cpu": [*range(11), None], "mem_usage": range(12)}, counts=[2] * 12)
BATCH = StatBatch([SERIES] * 3)
TEXT = SERIES.to_db()
ONE = StatSeries([0, 10**9], {"cpu": [1, 3]}).to_db()
BROKEN = TEXT[:-2] + "x" + TEXT[-2:]

STORED = pa.array([TEXT, None, TEXT.replace(",", " , "), ""])
SHORT = pa.array([ONE, None, ""])
WITH_BROKEN = pa.array([TEXT, BROKEN, None])
TABLE, LISTS, LONG = arrow.write(SERIES), arrow.write_lists(BATCH), arrow.write_long(BATCH)
FRAME, POLARS = SERIES.to_pandas(), polars.write(SERIES)
HALVES = pa.table({"timestamp": [0, 1], "x": [0.5, 1.0]})
COLUMN = StatsType()

WORK: dict[str, tuple[int, Callable[[], Any]]] = {
    "arrow.reduce": (10_000, lambda: arrow.reduce(SHORT, 1)),
    "arrow.reduce, the general reader too": (1_000, lambda: arrow.reduce(STORED, 3)),
    "arrow.reduce, all as they are": (2_000, lambda: arrow.reduce(STORED, 99)),
    "arrow.reduce, null for those": (2_000, lambda: arrow.reduce(WITH_BROKEN, 3, errors="null")),
    "arrow.reduce, refused": (2_000, lambda: arrow.reduce(WITH_BROKEN, 3)),
    "arrow.read_stored": (2_000, lambda: arrow.read_stored(STORED)),
    "arrow.read_stored, refused": (2_000, lambda: arrow.read_stored(WITH_BROKEN)),
    "arrow.read": (2_000, lambda: arrow.read(TABLE)),
    "arrow.read, refused": (2_000, lambda: arrow.read(HALVES)),
    "arrow.write": (3_000, lambda: arrow.write(SERIES)),
    "arrow.read_lists": (500, lambda: arrow.read_lists(LISTS)),
    "arrow.write_lists": (2_000, lambda: arrow.write_lists(BATCH)),
    "arrow.read_long": (300, lambda: arrow.read_long(LONG)),
    "arrow.write_long": (500, lambda: arrow.write_long(BATCH)),
    "pandas.read": (500, lambda: pandas.read(FRAME)),
    "to_pandas": (300, SERIES.to_pandas),
    "polars.read": (500, lambda: polars.read(POLARS)),
    "polars.write": (1_000, lambda: polars.write(SERIES)),
    "sqlalchemy": (10_000, lambda: COLUMN.process_result_value(COLUMN.process_bind_param(SERIES, None), None)),
}

MEASURES: dict[Callable[[], int], float] = {objects: 0.5, pa.total_allocated_bytes: 1}
if sys.platform.startswith("linux") and "LD_PRELOAD" not in os.environ:  # a sanitizer keeps what is freed
    MEASURES[resident] = 200


@pytest.mark.parametrize("name", WORK)
def test_adapters(name: str) -> None:
    """Again and again: neither an object in each call, nor a buffer."""
    times, work = WORK[name]
    if name.endswith("refused"):
        with pytest.raises(CallstatsError):
            work()
    assert grown(work, times, MEASURES) == {}


@pytest.fixture
def sqlite() -> Iterator[sqlite3.Connection]:
    """With the functions, and room for what they give."""
    connection = sqlite3.connect(":memory:")
    sqlite_adapter.register(connection)
    yield connection
    connection.close()


CALLS = ("stats_decimate({}, 1)", "stats_count({})", "stats_max({}, 'cpu')", "stats_mean({}, 'cpu')", "stats_growth({}, 'cpu')")


def query(stats: str, outer: str = "") -> str:
    """All functions of some stored text."""
    return ", ".join(f"{outer}({call.format(stats)})" for call in CALLS)


def test_functions_of_sqlite(sqlite: sqlite3.Connection) -> None:
    """Five of them two thousand times, and as often refused."""
    assert grown(lambda: sqlite.execute(f"SELECT {query('?1')}", [TEXT]).fetchall(), 2_000, MEASURES) == {}

    def refused() -> None:
        with pytest.raises(sqlite3.OperationalError):
            sqlite.execute("SELECT stats_max(?, 'cpu')", [BROKEN])

    assert grown(refused, 2_000, MEASURES) == {}


def test_functions_of_duckdb() -> None:
    """Ten calls of each in a query, so that what DuckDB keeps of each query is little beside."""
    connection = duckdb.connect(config={"threads": 1})
    duckdb_adapter.register(connection)
    connection.register("stored", pa.table({"stats": [ONE] * (10 * 2048)}))
    select = f"SELECT {query('stats', 'max')} FROM stored"
    assert grown(lambda: connection.execute(select).fetchall(), 5, {objects: 10, pa.total_allocated_bytes: 1}) == {}

    def refused() -> None:
        with pytest.raises(duckdb.Error):
            connection.execute("SELECT stats_max(?, 'cpu')", [BROKEN])

    assert grown(refused, 100, MEASURES) == {}
    connection.close()


def test_parquet(tmp_path: Path) -> None:
    """To a file and back."""

    def both() -> None:
        parquet.write(BATCH, tmp_path / "long.parquet")
        parquet.read(tmp_path / "long.parquet")

    assert grown(both, 100, MEASURES) == {}


KEPT: list[object] = []

LEAKS: dict[str, tuple[Callable[[], object], str]] = {
    "an object": (lambda: KEPT.append([]), "objects"),
    "a buffer of Arrow's": (lambda: KEPT.append(arrow.reduce(STORED, 99).cast(pa.large_string())), "total_allocated_bytes"),
    "memory": (lambda: KEPT.append(mapped()), "resident"),
}


def mapped() -> mmap.mmap:
    """Memory of the system's own, as the heap may have freed some that it gives again."""
    memory = mmap.mmap(-1, 2**16)
    memory.write(bytes(2**16))
    return memory


@pytest.mark.parametrize("name", LEAKS)
def test_leaks_are_seen(name: str) -> None:
    """So that the tests above can fail."""
    work, measure = LEAKS[name]
    if measure == "resident" and resident not in MEASURES:
        pytest.skip("only Linux tells what is in memory, and a sanitizer keeps what is freed")
    try:
        assert measure in grown(work, 300, MEASURES)
    finally:
        KEPT.clear()


@pytest.mark.parametrize(
    "x", [STORED, WITH_BROKEN, TABLE, LISTS, LONG, FRAME, POLARS, SERIES, BATCH], ids=lambda x: type(x).__name__
)
def test_references_to_inputs(x: Any) -> None:
    """Nothing that was handed in is held on to, where it is refused neither."""
    gc.collect()
    before = sys.getrefcount(x)
    for _ in range(3):
        for work in (
            lambda: arrow.reduce(x, 3, errors="null"),
            lambda: arrow.reduce(x, 3),
            lambda: arrow.read_stored(x),
            lambda: arrow.read(x),
            lambda: arrow.read_lists(x),
            lambda: arrow.read_long(x),
            lambda: arrow.write(x),
            lambda: arrow.write_long(x),
            lambda: pandas.read(x),
            lambda: StatSeries.to_pandas(x),
            lambda: polars.read(x),
            lambda: polars.write(x),
        ):
            with suppress(CallstatsError, ValueError, TypeError, AttributeError):
                work()
    del work
    gc.collect()
    assert sys.getrefcount(x) == before
