"""Parquet: series in long form, and a table's histograms exported."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from callstats import CallstatsError, SeriesError, StatBatch, StatSeries
from callstats.adapters import parquet
from callstats.cli.app import cli
from support import strategies
from support.database import Value, blob, made
from support.reference import Row
from support.tables import export_table
from support.zoo import SECOND, series_of, zoo

ODD = [
    StatSeries([], {}),
    StatSeries([0, 0, 7], {"x": [2**64 - 1, None, 2**63], "y@max": [None, None, 5]}, counts=[1, 2**40, 3]),
    StatSeries([-(10**18), 5], {"": [None, 1]}),
    StatSeries([1], {}),
]


def exported(tmp_path: Path, cells: list[tuple[Value, Value]], **options: object) -> Path:
    """A file of these keys and cells, by way of a database."""
    database = made(
        tmp_path / "calls.db", cells, table=str(options.pop("table", "CREATE TABLE calls (id TEXT PRIMARY KEY, stats)"))
    )
    path = tmp_path / "out.parquet"
    report = export_table(database, path, **options)  # type: ignore[arg-type]
    assert report.stopped is None
    assert report.bytes_written == path.stat().st_size
    return path


# --- series -----------------------------------------------------------------------------------------------------------


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    """Values past 2**63, holes, counts, nanoseconds, equal times, empty series and keys come back."""
    batch = StatBatch([*ODD, *(item.series() for item in zoo())])
    keys = [f"call {i}" for i in range(len(batch))]
    parquet.write(batch, tmp_path / "x.parquet", keys)
    calls, same = parquet.read(tmp_path / "x.parquet")
    assert (calls.to_pylist(), same) == (keys, batch)
    parquet.write(ODD[1], tmp_path / "x.parquet")
    assert list(parquet.read(tmp_path / "x.parquet")[1]) == [ODD[1]]
    file = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert {file.row_group(0).column(i).compression for i in range(file.num_columns)} == {"ZSTD"}


@given(st.lists(strategies.rows(most=8), max_size=4))
def test_random_round_trips(tmp_path_factory: pytest.TempPathFactory, members: list[list[Row]]) -> None:
    """Random series come back."""
    path = tmp_path_factory.getbasetemp() / "random.parquet"
    batch = StatBatch(series_of(rows) for rows in members)
    parquet.write(batch, path)
    assert parquet.read(path)[1] == batch


def test_files_from_elsewhere(tmp_path: Path) -> None:
    """A file that is no long form is refused."""
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(SeriesError, match="expected a column 'timestamp': the table has 'x'"):
        parquet.read(tmp_path / "x.parquet")


# --- export -----------------------------------------------------------------------------------------------------------

CELLS: list[tuple[Value, Value]] = [
    ("a", blob(9)),
    ("b", None),
    ("c", ""),
    ("d", blob(300, seed=3).encode()),
    ("e", ODD[1].to_db()),
    ("f", "no"),
    ("g", 5),
    ("h", blob(1)),
]


def test_stored_text_as_it_is(tmp_path: Path) -> None:
    """The file has each key and cell; NULL stays null, and only what is no text is left out."""
    table = pq.read_table(exported(tmp_path, CELLS))
    assert table.to_pylist() == [
        {"id": key, "stats": cell.decode() if isinstance(cell, bytes) else cell} for key, cell in CELLS if cell != 5
    ]


@pytest.mark.usefixtures("backend")
def test_long_form_of_a_table(tmp_path: Path) -> None:
    """The long form holds every series of the table, in the order of the keys."""
    calls, batch = parquet.read(exported(tmp_path, CELLS, long=True))
    kept = [(key, cell) for key, cell in CELLS if cell not in ("no", 5)]
    assert calls.to_pylist() == [key for key, _ in kept]
    assert list(batch) == [StatSeries.from_db(cell) for _, cell in kept]
    report = export_table(tmp_path / "calls.db", tmp_path / "again.parquet", long=True)
    assert (report.rows, report.written, report.rejected) == (8, 6, 2)
    assert [reject.key for reject in report.rejects] == ["f", "g"]
    assert report.rejects[0].reason.startswith("byte 0: expected value")


def test_row_groups_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group is written as soon as enough was read, with however many metrics each has."""
    monkeypatch.setattr("callstats.db.query.PAGE_ROWS", 128)
    monkeypatch.setattr("callstats.adapters.parquet.GROUP_CALLS", 100)
    cells = [(f"{i:04}", StatSeries([i * SECOND], {f"m{i % 300}": [i]}).to_db()) for i in range(1000)]
    for long in (False, True):
        (tmp_path / str(long)).mkdir()
        path = exported(tmp_path / str(long), cells, long=long)
        sizes = [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(pq.ParquetFile(path).num_row_groups)]
        assert len(sizes) == 8
        assert sum(sizes) == 1000
    assert [series.to_db() for series in parquet.read(path)[1]] == [cell for _, cell in cells]


@pytest.mark.parametrize(
    ("kind", "keys", "arrow"),
    [("INTEGER", [1, 2**62], "int64"), ("REAL", [0.5, 2.0], "double"), ("BLOB", [b"\0", b"\xff"], "binary")],
)
def test_keys_of_other_types(tmp_path: Path, kind: str, keys: list[Value], arrow: str) -> None:
    """Keys keep their type."""
    cells = [(key, blob(2)) for key in keys]
    path = exported(tmp_path, cells, table=f"CREATE TABLE calls (id {kind} PRIMARY KEY, stats)")
    table = pq.read_table(path)
    assert table["id"].to_pylist() == keys
    assert str(table.schema.field("id").type) == arrow


def test_keys_of_several_types(tmp_path: Path) -> None:
    """A file's keys are of one type: a key of another is named, and no file is left."""
    database = made(tmp_path / "calls.db", [(1, ""), ("x", "")], table="CREATE TABLE calls (id UNIQUE, stats)")
    with pytest.raises(CallstatsError, match="calls must be keys of type int64, as the first is, got 'x'"):
        export_table(database, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["calls.db"]


def test_nothing_to_export(tmp_path: Path) -> None:
    """An empty table gives an empty file of the same columns."""
    for long, columns in ((False, ["id", "stats"]), (True, ["call", "row", "timestamp", "metric", "value", "count"])):
        (tmp_path / str(long)).mkdir()
        table = pq.read_table(exported(tmp_path / str(long), [], long=long))
        assert (table.num_rows, table.column_names) == (0, columns)


def test_stopping_leaves_no_file(tmp_path: Path) -> None:
    """A job that is asked to stop says so, and leaves nothing that could be taken for the whole."""
    database = made(tmp_path / "calls.db", CELLS)
    report = export_table(database, tmp_path / "out.parquet", stop=lambda: True)
    assert (report.stopped, report.written) == ("asked to stop", 0)
    assert not list(tmp_path.glob("out*"))


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """Nothing is replaced, and a path that can't be written is refused."""
    database = made(tmp_path / "calls.db", CELLS)
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(CallstatsError, match=r"path must be a new file, got .*: it exists"):
        export_table(database, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "mine"
    with pytest.raises(CallstatsError, match=r"path must be a writable file, got .*: No such file"):
        export_table(database, tmp_path / "nowhere" / "out.parquet")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    """`export` names refused rows and ends with 1; without any it ends with 0; a second run to the same file with 2."""
    database, path = made(tmp_path / "calls.db", CELLS), tmp_path / "out.parquet"
    done = CliRunner().invoke(cli, ["export", str(database), str(path), "--long"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0].startswith("rejected 'f': byte 0: expected value")
    assert done.stdout.startswith("8 rows: 6 written, 2 rejected; ")
    assert len(parquet.read(path)[1]) == 6
    again = CliRunner().invoke(cli, ["export", str(database), str(path)])
    assert again.exit_code == 2
    assert "must be a new file" in again.stderr
    some = CliRunner().invoke(
        cli, ["export", str(tmp_path / "some.parquet"), "--where", "id < 'c'"], env={"CALLSTATS_URL": str(database)}
    )
    assert (some.exit_code, some.stderr) == (0, "")
    assert pq.read_table(tmp_path / "some.parquet")["id"].to_pylist() == ["a", "b"]


def test_a_folder_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file at fault is named, and a folder without any is told apart."""

    def error() -> str:
        result = CliRunner().invoke(cli, ["summary", "calls"])
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr

    monkeypatch.chdir(tmp_path)
    Path("calls").mkdir()
    wrong = "callstats: FILE must be a Parquet file or folder, got 'calls': "
    assert error() == f"{wrong}the folder has no file\n"
    parquet.write(StatSeries([0], {"x": [1]}), "calls/a.parquet")
    Path("calls/_SUCCESS").write_bytes(b"")
    Path("calls/notes.txt").write_bytes(b"hi\n")
    assert error().startswith(f"{wrong}calls/notes.txt: Parquet file size is 3 bytes")
