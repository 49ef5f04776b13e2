"""How fast stored text is reduced and read where users have it: Arrow, DuckDB, SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from callstats import StatBatch, reduce_json
from callstats.adapters import arrow
from callstats.adapters import duckdb as duckdb_adapter
from callstats.adapters import sqlite as sqlite_adapter
from inputs import stored_call

Benchmark = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture(scope="module", params=[("240-rows", 240, 20), ("5-rows", 5, 200)], ids=lambda shape: shape[0])
def blobs(request: pytest.FixtureRequest) -> list[bytes]:
    """Stored calls."""
    _, n, calls = request.param
    return [stored_call(n, seed=i) for i in range(calls)]


def test_arrow_reduce(benchmark: Benchmark, blobs: list[bytes]) -> None:
    """Arrow in, Arrow out."""
    result = benchmark(arrow.reduce, pa.array(blobs), 4)
    assert result.to_pylist() == reduce_json(blobs, 4)


def test_arrow_read(benchmark: Benchmark, blobs: list[bytes]) -> None:
    """Arrow in, one batch of series out."""
    result = benchmark(arrow.read_stored, pa.array(blobs))
    assert result == StatBatch.from_json(blobs)


def test_duckdb_decimate(benchmark: Benchmark, blobs: list[bytes]) -> None:
    """DuckDB's function over a table of its own."""
    connection = duckdb.connect()
    duckdb_adapter.register(connection)
    connection.register("stored", pa.table({"stats": [blob.decode() for blob in blobs]}))
    connection.execute("CREATE TABLE calls AS SELECT * FROM stored")
    rows = benchmark(lambda: connection.execute("SELECT stats_decimate(stats, 4) FROM calls").fetchall())
    assert [row[0].encode() for row in rows] == reduce_json(blobs, 4)
    connection.close()


def test_sqlite_decimate(benchmark: Benchmark, blobs: list[bytes]) -> None:
    """SQLite's function over a table in memory."""
    connection = sqlite3.connect(":memory:")
    sqlite_adapter.register(connection)
    connection.execute("CREATE TABLE calls (stats TEXT)")
    connection.executemany("INSERT INTO calls VALUES (?)", [(blob.decode(),) for blob in blobs])
    rows = benchmark(lambda: connection.execute("SELECT stats_decimate(stats, 4) FROM calls").fetchall())
    assert [row[0].encode() for row in rows] == reduce_json(blobs, 4)
    connection.close()
