"""`reduce_table` over PostgreSQL, MySQL and MariaDB: the same bytes as over SQLite."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

import pytest

from callstats import CallstatsError, DatabaseError, Rule, StatSeries, connect, reduce_json
from callstats.call import Key
from callstats.db.dialects.mysql import MySQL
from support.database import blob
from support.databases import SERVERS, Database
from support.tables import add_calls, create_table, get_series, list_calls, reduce_table, restore_table, summarize_table

RULE = Rule(10, how={"mem_usage": ("mean", "max")})
OLD = {
    "a": blob(100),
    "b": blob(3),
    "c": blob(50, seed=1),
    "d": "",
    "e": None,
    "f": blob(12) + " ",
    "g": "x" * 999,
    "é'😀": blob(30),
}


def expected(old: dict[str, str | None]) -> dict[str, bytes | None]:
    """What each cell is to become."""
    results = reduce_json(list(old.values()), RULE, errors="return")
    kept = {key: None if text is None else text.encode() for key, text in old.items()}
    return {
        key: kept[key] if isinstance(new, ValueError) or kept[key] is None else new for key, new in zip(old, results, strict=True)
    }


@pytest.mark.parametrize(
    ("packet", "sizes", "parts"),
    [
        (2**30, [9] * 450, [200, 200, 50]),
        (2**24, [2**20] * 5, [2, 2, 1]),  # 4 MiB of digits, two for a byte
        (2**20, [2**17, 2**17, 2**18, 2**18, 9, 9], [2, 1, 1, 2]),  # half of what the server takes
        (2**20, [2**19, 5, 2**19], [1, 1, 1]),
    ],
)
def test_statements_that_a_server_takes(packet: int, sizes: list[int], parts: list[int]) -> None:
    """MySQL gets many rows in one statement, up to a number of them and to what it takes at once."""
    dialect, connection = MySQL(), MagicMock()
    connection.exec_driver_sql.return_value.one.return_value = ("10.11.6-MariaDB", "db", "utf8mb4", packet)
    dialect.check_database(connection)
    blobs: list[tuple[Key, bytes, bool]] = [(f"{i}", b"x" * size, False) for i, size in enumerate(sizes)]
    found = [*dialect._statements(blobs)]
    assert [len(part) for part in found] == parts
    assert [row for part in found for row in part] == blobs


@pytest.mark.parametrize(
    ("version", "database", "charset", "message"),
    [
        ("8.0.0", "db", "utf8mb4", "MySQL 8.0.1, MariaDB 10.6 or newer, which skip locked rows, got '8.0.0'"),
        ("10.5.23-MariaDB-log", "db", "utf8mb4", "MySQL 8.0.1, MariaDB 10.6 or newer, which skip locked rows, got '10.5.23-M"),
        ("10.6.0-MariaDB", None, "utf8mb4", "a URL with a database, such as mysql://user:password@host/database, got None"),
        ("8.0.1", "db", "latin1", "a connection with the character set utf8mb4, got 'latin1'"),
        ("8.0.1", "db", "utf8mb4", ""),
        ("10.6.0-MariaDB", "db", "utf8mb4", ""),
    ],
)
def test_servers_that_fit(version: str, database: str | None, charset: str, message: str) -> None:
    """One that can skip locked rows, in a database, with all of Unicode."""
    connection = MagicMock()
    connection.exec_driver_sql.return_value.one.return_value = (version, database, charset, 2**24)
    with pytest.raises(CallstatsError) if message else nullcontext() as caught:
        MySQL().check_database(connection)
    assert not message or str(caught.value).startswith(f"url_or_engine must be {message}")  # type: ignore[union-attr]


@pytest.mark.parametrize("batch_size", [2, 1000])
@pytest.mark.parametrize("stats", ["text", "blob", "short"])
def test_the_same_bytes_everywhere(database: Database, stats: str, batch_size: int) -> None:
    """TEXT, VARCHAR, BLOB and BYTEA hold what reduce_json makes of each cell, and a second run changes nothing."""
    if stats == "short":
        stats = "TEXT" if database.kind == "sqlite" else "VARCHAR(12000)"
    in_bytes = stats == "blob"
    database.make(((key, text.encode() if in_bytes and text is not None else text) for key, text in OLD.items()), stats=stats)
    report = reduce_table(database.url, RULE, batch_size=batch_size, progress=lambda report: None)
    got = database.cells()
    assert {key: cell.encode() if isinstance(cell, str) else cell for key, cell in got.items()} == expected(OLD)
    assert {type(cell) for cell in got.values() if cell is not None} == {bytes if in_bytes else str}
    assert (report.changed, report.rejected, report.skipped, report.rows, report.total) == (4, 1, 3, 8, 8)
    assert report.stopped is None
    assert [reject.key for reject in report.rejects] == ["g"]
    again = reduce_table(database.url, RULE, batch_size=batch_size)
    assert (again.changed, again.rejected, again.rows) == (0, 1, 8)
    assert database.cells() == got


JSON_TYPES = [("postgres", "json"), ("postgres", "jsonb"), ("mysql", "json")]


@pytest.mark.parametrize(("kind", "stats"), JSON_TYPES)
def test_json_has_the_same_values(kind: str, stats: str, request: pytest.FixtureRequest) -> None:
    """JSON and JSONB hold the same values; a second run, with a budget too, changes nothing."""
    database: Database = request.getfixturevalue(kind)
    old = {key: text for key, text in OLD.items() if key != "g" and text != ""}
    database.make(old.items(), stats=stats)
    report = reduce_table(database.url, RULE)
    got = {key: json.loads(cell) if isinstance(cell, str) else cell for key, cell in database.cells().items()}
    assert got == {key: None if text is None else json.loads(text) for key, text in expected(old).items()}
    assert (report.changed, report.rows) == (4, 6)
    size = max(len(text) for text in expected(old).values() if text is not None)
    for rule in (RULE, Rule(10, max_bytes=size)):
        again = reduce_table(database.url, rule, verify=True)
        assert (again.changed, again.unchanged + again.skipped) == (0, 6)


@pytest.mark.parametrize(("kind", "stats"), JSON_TYPES)
def test_empty_json_is_null(kind: str, stats: str, request: pytest.FixtureRequest) -> None:
    """A series that is reduced to nothing is NULL where text can't be empty; a column that must not be NULL refuses its row."""
    database: Database = request.getfixturevalue(kind)
    database.make([("a", blob(9))], stats=stats)
    database.make([("a", blob(9))], stats=stats + " NOT NULL", table="strict")
    assert reduce_table(database.url, 0).changed == 1
    assert database.cell("a") is None
    report = reduce_table(database.url, 0, table="strict")
    assert report.rejected == 1
    assert "null" in report.rejects[0].reason
    assert "timestamp" not in report.rejects[0].reason


@pytest.mark.parametrize("kind", SERVERS)
def test_saved_cells_come_back(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    """What `save` kept is put back to the byte, into text and bytes."""
    database: Database = request.getfixturevalue(kind)
    for stats in ("text", "blob"):
        rows = [(f"k{i}", blob(12 + i)) for i in range(20)]
        database.make([(key, text.encode() if stats == "blob" else text) for key, text in rows], stats=stats, table=f"in_{stats}")
        before = database.cells(f"in_{stats}")
        saved = tmp_path / f"{stats}.jsonl"
        assert reduce_table(database.url, RULE, table=f"in_{stats}", save=saved, batch_size=7).changed == 20
        assert restore_table(database.url, saved, table=f"in_{stats}").restored == 20
        assert database.cells(f"in_{stats}") == before


def test_init_makes_the_table(on_server: Database) -> None:
    """A missing table is made in Fn's shape, a missing column added; calls can be added and read."""
    assert create_table(on_server.url) == "created"
    assert create_table(on_server.url) == "nothing"
    assert create_table(on_server.url, column="a column: of%its own") == "added"
    assert create_table(on_server.url, column="a column: of%its own") == "nothing"
    row: dict[str, Any] = dict.fromkeys(["app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "error"], "x")
    assert add_calls(on_server.url, ({**row, "id": f"c{i}", "stats": blob(i)} for i in range(150))) == 150
    assert get_series(on_server.url, "c7") == StatSeries.from_json(blob(7))
    assert reduce_table(on_server.url, RULE, column="a column: of%its own").skipped == 150
    assert reduce_table(on_server.url, RULE).changed == 139
    with pytest.raises(DatabaseError, match=r"(?i)duplicate"):
        add_calls(on_server.url, [{**row, "id": "new", "stats": ""}, {**row, "id": "c7", "stats": ""}])
    with pytest.raises(ValueError, match=r"^key must be the key of a call in table 'calls', got 'new': list shows the latest$"):
        get_series(on_server.url, "new")


def test_init_on_mysql_compares_bytes(mysql: Database) -> None:
    """The column is utf8mb4 with a binary collation, and has room for 240 rows; so have keys."""
    create_table(mysql.url)
    create_table(mysql.url, column="more")
    columns = mysql.ask(
        "SELECT column_name, data_type, character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND column_name IN ('id', 'stats', 'more') ORDER BY 1"
    )
    assert columns == [
        ("id", "varchar", "utf8mb4", "utf8mb4_bin"),
        ("more", "mediumtext", "utf8mb4", "utf8mb4_bin"),
        ("stats", "mediumtext", "utf8mb4", "utf8mb4_bin"),
    ]


def test_json_with_more_digits_than_python_reads(postgres: Database) -> None:
    """A field of no interest may hold any number: it neither stops the job nor keeps its row from being reduced."""
    odd = blob(12).rstrip("\n")[:-2] + ',"other":' + "9" * 5000 + "}]"
    postgres.make([("a", odd), ("b", blob(12))], stats="jsonb")
    assert reduce_table(postgres.url, RULE).changed == 2


def test_answers_are_the_same_everywhere(database: Database) -> None:
    """Calls are listed and summed up over servers as over SQLite, and read by keys of any type."""
    rows = [(f"c{i:02}", "success" if i % 3 else "error", blob(i, seed=i) or None) for i in range(40)]
    database.make(rows, more=", fn_id VARCHAR(99)", columns="id, status, stats")
    database.ask("UPDATE calls SET fn_id = 'f' WHERE id < 'c20'")
    listed = list_calls(database.url, limit=3)
    assert [(call.key, len(call.series or ())) for call in listed] == [("c39", 39), ("c38", 38), ("c37", 37)]
    summary = summarize_table(database.url, by="fn_id")
    assert (summary.calls, summary.rejected, summary.stopped) == (40, 0, None)
    assert {group.name: group.summary.calls for group in summary.groups} == {"f": 20, None: 20}
    database.ask("UPDATE calls SET fn_id = 'F' WHERE id >= 'c20'")
    with connect(database.url) as table:
        compared = table.compare("f", "F")
        assert (compared.group_calls, compared.rows, len(compared.differences)) == ((20, 20), 40, 4)
        assert table.compare("f", "gone").group_calls == (20, 0)
    if database.kind == "postgres":
        key = "00000000-0000-0000-0000-00000000000a"
        database.make([(key, blob(5))], key="UUID", table="by_uuid")
        assert [call.key for call in list_calls(database.url, table="by_uuid")] == [key]
        assert summarize_table(database.url, table="by_uuid", by=None).calls == 1
        assert len(get_series(database.url, key, table="by_uuid")) == 5


@pytest.mark.parametrize("kind", ["TIMESTAMP", "DATE", "VARCHAR(40)", "TEXT", "BIGINT"])
def test_since_reads_no_older_calls(on_server: Database, kind: str) -> None:
    """The database passes over calls that are too old, where the column's type lets it; nobody is lost by that."""
    null = "NULL DEFAULT NULL" if kind == "TIMESTAMP" else ""  # else MariaDB fills it in
    on_server.ask(f"CREATE TABLE runs (id INTEGER PRIMARY KEY, stats TEXT, began {kind} {null})")
    cell = StatSeries([0, 10**9], {"mem_usage": [5, 7]}).to_db()
    stamp = {"DATE": "{}", "TIMESTAMP": "{} 12:00:00"}.get(kind, "{}T12:00:00Z")
    for number, day in enumerate(["2026-01-05", "2026-01-31", "2026-02-01", "2026-02-02", "2026-03-01"]):
        seconds = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp())
        began = seconds if kind == "BIGINT" else repr(stamp.format(day))
        on_server.ask(f"INSERT INTO runs VALUES ({number}, '{cell}', {began})")
    on_server.ask(f"INSERT INTO runs VALUES (9, '{cell}', NULL)")
    since = int(datetime(2026, 2, 2, tzinfo=UTC).timestamp()) * 10**9
    found = summarize_table(on_server.url, table="runs", by=None, time_column="began", since=since)
    assert (found.calls, found.untimed) == (2, 1)
    assert _read_rows(on_server, since) == (6 if kind == "BIGINT" else 4)


def _read_rows(database: Database, since: int) -> int:
    """How many rows the database gives for calls since then."""
    from callstats.db.engine import Database as Engine
    from callstats.db.jobs.summarize import recent_calls
    from callstats.db.query import Names, TableSession

    with Engine(database.url).session() as (connection, dialect):
        session = TableSession(connection, dialect, Names("runs"))
        return len([*session.scan([], recent_calls(session, "began", since))])


def test_a_generated_column(on_server: Database) -> None:
    """It can be read, and not reduced; a column with a default of its own is none."""
    made = "GENERATED ALWAYS AS (origin) STORED"
    on_server.ask(f"CREATE TABLE runs (id INTEGER PRIMARY KEY, origin TEXT, made TEXT {made}, stats TEXT DEFAULT ('[]'))")
    on_server.ask(f"INSERT INTO runs (id, origin, stats) VALUES (1, '{blob(50)}', '{blob(50)}')")
    with pytest.raises(CallstatsError, match=r"^column must be writable, got 'made': the database generates it$"):
        reduce_table(on_server.url, RULE, table="runs", column="made")
    assert len(get_series(on_server.url, 1, table="runs", column="made")) == 50
    assert reduce_table(on_server.url, RULE, table="runs").changed == 1
