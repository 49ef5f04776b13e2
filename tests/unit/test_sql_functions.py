"""SQL functions in SQLite and DuckDB, and the SQLAlchemy type."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from callstats import CallstatsError, DecodeError, StatSeries, decimate, reduce_json
from callstats.adapters import duckdb as duckdb_adapter
from callstats.adapters import sqlite as sqlite_adapter
from callstats.stats import summarize
from support.stored import good, stored
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")

BAD = '[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":-1}}]'
SERIES = StatSeries(
    [0, SECOND, 2 * SECOND, 9 * SECOND],
    {"mem_usage": [5, 9, None, 4], "mem_usage@max": [70, None, None, 4], "x": [2**64 - 1, 0, 0, 1]},
    counts=[7, 1, 1, 1],
)


class Database:
    """One of the two, asked the same way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Callable[[], Exception | None] = lambda: None
        self.connection: Any
        if name == "sqlite":
            self.connection = sqlite3.connect(":memory:")
            self.last = sqlite_adapter.register(self.connection)
        else:
            self.connection = duckdb.connect()
            duckdb_adapter.register(self.connection)

    def ask(self, query: str, *values: Any) -> tuple[Any, ...]:
        """The only row of an answer."""
        [row] = self.connection.execute(f"SELECT {query}", values).fetchall()
        return row

    def fill(self, cells: list[Any], kind: str = "TEXT") -> None:
        """A table `calls` of these cells."""
        self.connection.execute(f"CREATE TABLE calls (id INTEGER, stats {kind})")
        self.connection.executemany("INSERT INTO calls VALUES (?, ?)", list(enumerate(cells)))

    def column(self, expression: str, where: str = "TRUE") -> list[Any]:
        """An expression over the table, in order."""
        return [row[0] for row in self.connection.execute(f"SELECT {expression} FROM calls WHERE {where} ORDER BY id").fetchall()]


@pytest.fixture(params=["sqlite", "duckdb"])
def database(request: pytest.FixtureRequest) -> Any:
    made = Database(request.param)
    yield made
    made.connection.close()


def texts(blobs: list[bytes | None]) -> list[str | None]:
    """Blobs as text; those that are none are left out."""
    return [None if blob is None else blob.decode() for blob in blobs if blob is None or decodes(blob)]


def decodes(blob: bytes) -> bool:
    try:
        blob.decode()
    except UnicodeDecodeError:
        return False
    return "\0" not in blob.decode()


def test_decimate(database: Database) -> None:
    """`stats_decimate` gives the bytes of `reduce_json`; NULL in, NULL out."""
    cells = texts(good())
    database.fill(cells)
    for n in (3, 1, 0, 1000):
        want = [None if cell is None else reduce_json([cell], n)[0].decode() for cell in cells]
        assert database.column(f"stats_decimate(stats, {n})") == want
    assert set(database.column("stats_decimate(stats, NULL)")) == {None}


def test_decimate_by_a_column(database: Database) -> None:
    """The number of samples may differ from row to row."""
    cells = texts(good())
    database.fill(cells)
    numbers = [None if i % 5 == 4 else i % 5 for i in range(len(cells))]
    want = [
        None if cell is None or n is None else reduce_json([cell], n)[0].decode() for cell, n in zip(cells, numbers, strict=True)
    ]
    assert database.column("stats_decimate(stats, NULLIF(id % 5, 4))") == want


def test_figures(database: Database) -> None:
    """Each figure is that of `summarize`; peaks are the kept ones."""
    blob = SERIES.to_db()
    want = summarize(SERIES)["mem_usage"]
    figures = database.ask(
        "stats_count(?), stats_max(?, 'mem_usage'), stats_mean(?, 'mem_usage'), stats_growth(?, 'mem_usage')", *[blob] * 4
    )
    assert figures == (4, 70, want.mean, want.growth)
    assert want.max == 70
    assert database.ask("stats_max(?, 'mem_usage@max')", blob) in [(None,), (70,)]


def test_nothing_to_tell(database: Database) -> None:
    """NULL gives NULL; an empty histogram counts 0, and has no figures, as has one without the metric."""
    one = [f"stats_{name}(NULL)" for name in ("count", "valid", "error")]
    two = [f"stats_{name}(NULL, 'x'), stats_{name}('', 'x'), stats_{name}('[]', NULL)" for name in ("max", "mean", "growth")]
    assert set(database.ask(", ".join(one + two))) == {None}
    assert database.ask("stats_count(''), stats_count('[]'), stats_count('null'), stats_valid('')") == (0, 0, 0, 1)
    assert database.ask("stats_max(?, 'y'), stats_growth(?, 'y')", SERIES.to_db(), SERIES.to_db()) == (None, None)


def test_which_are_valid(database: Database) -> None:
    """`stats_valid` tells what `reduce_json` would refuse, and `stats_error` why, without ending the query."""
    cells = texts(stored())
    database.fill(cells)
    errors = reduce_json(cells, errors="return")
    refused = [isinstance(error, CallstatsError) for error in errors]
    assert True in refused
    want = [None if cell is None else not bad for cell, bad in zip(cells, refused, strict=True)]
    assert database.column("stats_valid(stats)") == want
    assert database.column("stats_error(stats)") == [
        str(error) if bad else None for error, bad in zip(errors, refused, strict=True)
    ]


@pytest.mark.parametrize("call", ["stats_decimate(?, 1)", "stats_count(?)", "stats_max(?, 'x')", "stats_growth(?, 'x')"])
def test_bad_ones_raise_with_their_path(database: Database, call: str) -> None:
    """A refused histogram ends the statement; DuckDB passes the path on, for SQLite `register` gives the error."""
    with pytest.raises((duckdb.Error, sqlite3.OperationalError)) as caught:
        database.ask(call, BAD)
    if database.name == "duckdb":
        assert f"DecodeError: {call.partition('(')[0]}: $[0].metrics.x: expected a whole number" in str(caught.value)
    else:
        error = database.last()
        assert isinstance(error, DecodeError)
        assert str(error).startswith("$[0].metrics.x: expected a whole number")


def test_values_past_two_to_the_63() -> None:
    """DuckDB has all values; SQLite's integers end at 2**63 - 1, and what is larger is refused rather than rounded."""
    blob = SERIES.to_db()
    large, small = Database("duckdb"), Database("sqlite")
    assert large.ask("stats_max(?, 'x')", blob) == (2**64 - 1,)
    with pytest.raises(sqlite3.OperationalError):
        small.ask("stats_max(?, 'x')", blob)
    assert (
        str(small.last())
        == f"the result of stats_max must be at most {2**63 - 1}, the largest integer of SQLite, got {2**64 - 1}"
    )
    with pytest.raises(sqlite3.OperationalError):
        small.ask("stats_decimate(?, 'two')", blob)
    assert str(small.last()) == "n must be a whole number, got 'two'"
    small.connection.close()
    large.connection.close()


def test_types_of_cells() -> None:
    """SQLite gives a blob for a blob; what is no text is refused; DuckDB takes JSON, and a BLOB decoded."""
    small, large = Database("sqlite"), Database("duckdb")
    blob = SERIES.to_json()
    [want] = reduce_json([blob], 2)
    assert small.ask("stats_decimate(?, 2), stats_decimate(?, 2)", blob, blob.decode()) == (want, want.decode())
    assert small.ask("stats_valid(5), stats_error(5)")[0] == 0
    assert large.ask("stats_decimate(?::JSON, 2), stats_decimate(decode(?), 2)", blob.decode(), blob) == (want.decode(),) * 2
    small.connection.close()
    large.connection.close()


def test_many_vectors() -> None:
    """DuckDB's vectors are of some 2,000 rows, from its own tables and from Arrow's."""
    several = [decimate(SERIES, 1 + i) for i in range(4)]
    reduced = {one.to_db(): reduce_json([one.to_db()], 1)[0].decode() for one in several}
    blobs = [several[i % 4].to_db() if i % 7 else None for i in range(9_000)]
    database = Database("duckdb")
    database.connection.register("stored", pa.table({"stats": blobs, "id": range(9_000)}))
    rows = database.connection.execute("SELECT stats_decimate(stats, 1), stats_count(stats) FROM stored ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [blob and reduced[blob] for blob in blobs]
    assert [row[1] for row in rows] == [len(several[i % 4]) if i % 7 else None for i in range(9_000)]
    database.connection.close()
