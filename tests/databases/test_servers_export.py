"""A table of each database as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from callstats import CallstatsError, StatBatch, StatSeries
from callstats.adapters import parquet
from callstats.cli.app import cli
from support.database import blob
from support.databases import Database
from support.tables import export_table

MORE = {
    "sqlite": ", came TEXT, raw BLOB, number INTEGER",
    "postgres": ", came TIMESTAMPTZ, raw BYTEA, number BIGINT",
    "mysql": ", came DATETIME(6), raw BLOB, number BIGINT",
}
CAME = {
    "sqlite": "2026-11-25T01:02:03.5Z",
    "postgres": "2026-11-25T01:02:03.500000+00:00",
    "mysql": "2026-11-25T01:02:03.500000",
}
CELLS = {"a": blob(30), "b": None, "c": blob(3)}


@pytest.fixture
def calls(database: Database) -> Database:
    """Three calls, with columns of several types."""
    came = CAME[database.kind].replace("T", " ") if database.kind == "mysql" else CAME[database.kind]
    rows = [("a", "success", CELLS["a"], came, b"\0\xff", 2**62), ("b", None, None, None, None, None)]
    database.make(
        [*rows, ("c", "\u00e9", CELLS["c"], came, b"", -1)],
        more=MORE[database.kind],
        columns="id, status, stats, came, raw, number",
    )
    if database.kind == "postgres":
        database.ask("ALTER DATABASE " + database.name + " SET timezone = 'UTC'")
    return database


OTHERS = ["status", "came", "raw", "number"]


def test_stored_text_and_other_columns(calls: Database, tmp_path: Path) -> None:
    """The text as it is, beside it the columns asked for as text, in the order in which they were asked for."""
    path = tmp_path / "calls.parquet"
    args = ["export", calls.url, str(path), *(part for name in OTHERS for part in ("--with", name))]
    done = CliRunner().invoke(cli, args)
    assert (done.exit_code, done.stderr) == (0, "")
    table = pq.read_table(path)
    assert table.column_names == ["id", *OTHERS, "stats"]
    came = CAME[calls.kind]
    assert table.to_pydict() == {
        "id": ["a", "b", "c"],
        "status": ["success", None, "\u00e9"],
        "came": [came, None, came],
        "raw": ["00ff", None, ""],
        "number": [str(2**62), None, "-1"],
        "stats": list(CELLS.values()),
    }
    assert {table.schema.field(name).type for name in OTHERS} == {pa.string()}


def test_long_form_and_other_columns(calls: Database, tmp_path: Path) -> None:
    """Each value's row has the columns of its call, one without samples too; the series come back."""
    path = tmp_path / "calls.parquet"
    assert export_table(calls.url, path, long=True, others=["status"]).written == 3
    table = pq.read_table(path)
    assert table.column_names == ["call", "row", "timestamp", "metric", "value", "count", "status"]
    told = {*zip(table["call"].to_pylist(), table["status"].to_pylist(), strict=True)}
    assert told == {("a", "success"), ("b", None), ("c", "\u00e9")}
    keys, batch = parquet.read(path)
    assert keys.to_pylist() == ["a", "b", "c"]
    assert batch == StatBatch(StatSeries.from_db(cell) for cell in CELLS.values())


def test_without_other_columns(calls: Database, tmp_path: Path) -> None:
    """As ever."""
    export_table(calls.url, tmp_path / "calls.parquet")
    assert pq.read_table(tmp_path / "calls.parquet").to_pydict() == {"id": ["a", "b", "c"], "stats": list(CELLS.values())}


@pytest.mark.parametrize(
    ("others", "long", "message"),
    [
        (["color"], False, "others must be a column of table 'calls', got 'color': it has 'id', "),
        (["status", "status"], False, "got 'status': the file has a column of that name"),
        (["stats"], False, "got 'stats': the file has a column of that name"),
        (["count"], True, "got 'count': the file has a column of that name"),
    ],
)
def test_columns_that_can_t_be_written(calls: Database, tmp_path: Path, others: list[str], long: bool, message: str) -> None:
    """They are wrong use, and leave no file."""
    with pytest.raises(CallstatsError, match=message):
        export_table(calls.url, tmp_path / "calls.parquet", others=others, long=long)
    assert [path for path in tmp_path.iterdir() if "parquet" in path.name] == []
