"""Keys on servers: gone through in the server's own order, whatever their type and collation."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from callstats import CallstatsError, reduce_json
from support.database import blob
from support.databases import Database
from support.tables import get_series, reduce_table, restore_table

WORDS = ["10", "9", "1", "01", "a", "B", "c", "_", "é", "z ", "Z1", "zz", "ß", "😀", "a'b", "a\\", ":x", "%s", "%", ""]
UUIDS = [str(uuid.UUID(int=i * 7919**9)) for i in range(1, 12)]

KEYS: dict[str, tuple[str, str, list[Any]]] = {
    "pg bigint": ("postgres", "BIGINT", [-(2**63), -5, 0, 3, 10, 9, 2**53 + 1, 2**63 - 1]),
    "pg smallint": ("postgres", "SMALLINT", [-32768, 10, 9, 32767]),
    "pg text C": ("postgres", 'TEXT COLLATE "C"', WORDS),
    "pg text": ("postgres", "TEXT", WORDS),
    "pg icu": ("postgres", 'VARCHAR(99) COLLATE "und-x-icu"', WORDS),
    "pg no case": ("postgres", "TEXT COLLATE no_case", [word for word in WORDS if word != "Z1"]),
    "pg char": ("postgres", "CHAR(9)", ["a", "b c", "10", "9"]),
    "pg bytea": ("postgres", "BYTEA", [b"", b"\x00", b"\xff\xfe", b"abc", b"'\\"]),
    "pg uuid": ("postgres", "UUID", UUIDS),
    "pg numeric": ("postgres", "NUMERIC", ["1", "10", "9.5", "123456789012345678901234567890"]),
    "my bigint": ("mysql", "BIGINT", [-(2**63), -5, 0, 3, 10, 9, 2**53 + 1, 2**63 - 1]),
    "my unsigned": ("mysql", "BIGINT UNSIGNED", [0, 10, 9, 2**63, 2**64 - 1]),
    "my general": ("mysql", "VARCHAR(99) COLLATE utf8mb4_general_ci", [w for w in WORDS if w not in ("ß", "")] + ["s"]),
    "my unicode": ("mysql", "VARCHAR(99) COLLATE utf8mb4_unicode_ci", WORDS),
    "my bin": ("mysql", "VARCHAR(99) COLLATE utf8mb4_bin", [*WORDS, "A", "b", "Z"]),
    "my latin1": ("mysql", "VARCHAR(99) CHARACTER SET latin1", [word for word in WORDS if word != "😀"]),
    "my binary": ("mysql", "VARBINARY(99)", [b"", b"\x00", b"\xff\xfe", b"abc", b"'\\", b"a", b"A", b"a "]),
}


@pytest.mark.parametrize(("kind", "key", "keys"), KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_keys_of_every_kind(
    kind: str, key: str, keys: list[Any], batch_size: int, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    """Each row is done once, found again by its key, and put back by it."""
    database: Database = request.getfixturevalue(kind)
    if "no_case" in key:
        database.ask("CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    database.make([(key, blob(12, seed=i)) for i, key in enumerate(keys)], key=key)
    before = database.cells()
    report = reduce_table(database.url, 10, batch_size=batch_size, save=tmp_path / "old.jsonl")
    assert (report.changed, report.rows, report.stopped) == (len(keys), len(keys), None)
    assert sorted(database.cells().values()) == sorted(
        reduce_json([blob(12, seed=i) for i in range(len(keys))], 10)[i].decode() for i in range(len(keys))
    )
    assert reduce_table(database.url, 10, batch_size=batch_size, verify=True).unchanged == len(keys)
    if batch_size == 3:
        assert len(get_series(database.url, keys[1])) == 10
        assert restore_table(database.url, tmp_path / "old.jsonl").restored == len(keys)
        assert database.cells() == before


def test_text_keys_in_batches(on_server: Database) -> None:
    """2,500 rows in batches of 1,000, whose keys sort as text ('10' < '9'): none skipped, none done twice."""
    on_server.make([(str(i), blob(12)) for i in range(2500)])
    seen: list[int] = []
    report = reduce_table(on_server.url, 10, batch_size=1000, progress=lambda report: seen.append(report.rows))
    assert (report.changed, report.rows, report.total) == (2500, 2500, 2500)
    assert seen == [1000, 2000, 2500]
    assert set(on_server.cells().values()) == {reduce_json([blob(12)], 10)[0].decode()}


def test_an_index_with_a_collation_of_its_own(postgres: Database) -> None:
    """Where the column's collation finds keys equal that the unique index tells apart, none is skipped."""
    postgres.ask("CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    postgres.ask("CREATE TABLE calls (id TEXT COLLATE no_case, stats TEXT)")
    postgres.ask('CREATE UNIQUE INDEX one ON calls (id COLLATE "C")')
    postgres.add([(key, blob(12)) for key in ("a", "A", "b", "B", "_")])
    assert reduce_table(postgres.url, 10, batch_size=1).changed == 5


def test_null_keys_are_reported(on_server: Database) -> None:
    """A unique column may have NULLs; such rows are counted as refused and left alone."""
    on_server.ask("CREATE TABLE calls (id VARCHAR(99) UNIQUE, stats VARCHAR(9999))")
    on_server.add([(None, blob(12)), (None, blob(13)), (None, ""), ("a", blob(12))])
    report = reduce_table(on_server.url, 10)
    assert (report.changed, report.rejected) == (1, 2)
    assert on_server.ask("SELECT count(*) FROM calls WHERE id IS NULL AND stats <> ''") == [(2,)]


WRONG = {
    "composite": (
        "CREATE TABLE calls (a INTEGER, id INTEGER, stats VARCHAR(9999), PRIMARY KEY (a, id))",
        r"key must be one column that is unique by itself, got 'id': the primary key of 'calls' is \(a, id\)",
    ),
    "not unique": (
        "CREATE TABLE calls (id INTEGER, stats VARCHAR(9999))",
        "key must be a unique column of table 'calls', got 'id': it has no unique index of its own",
    ),
    "no histograms": (
        "CREATE TABLE calls (id INTEGER PRIMARY KEY, stats INTEGER)",
        "column must be a column of text, bytes or JSON, got 'stats': it is of type int",
    ),
    "no column": (
        "CREATE TABLE calls (id INTEGER PRIMARY KEY, stat INTEGER)",
        "column must be a column of table 'calls', got 'stats': it has 'id', 'stat'",
    ),
    "no table": ("CREATE TABLE runs (id INTEGER)", "table must be a table of the database, got 'calls': it has 'runs'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_named(on_server: Database, case: str) -> None:
    """Each says in one line what was expected and what came."""
    statement, message = WRONG[case]
    on_server.ask(statement)
    with pytest.raises(CallstatsError, match=message):
        reduce_table(on_server.url, 10)


def test_where_is_the_servers_own_sql(on_server: Database) -> None:
    """Whatever stands in it; what the server doesn't know is wrong use."""
    on_server.make([(f"k:{i}%", blob(12)) for i in range(9)])
    assert reduce_table(on_server.url, 10, where="id LIKE 'k:%' AND id <> 'k:3%' -- all but one").changed == 8
    for where in ("colour = 1", "1; DROP TABLE calls", "id = "):
        with pytest.raises(CallstatsError, match=r"^where must be a condition in the SQL of \w+, got '"):
            reduce_table(on_server.url, 10, where=where)


def test_tables_without_transactions_are_refused(mysql: Database) -> None:
    """MyISAM has no row locks."""
    mysql.make([("a", blob(12))], key="VARCHAR(99)", end=" ENGINE = MyISAM")
    with pytest.raises(
        CallstatsError, match=r"^table must be an InnoDB table, which has transactions, got 'calls': its engine is MyISAM$"
    ):
        reduce_table(mysql.url, 10)


def test_names_are_quoted(on_server: Database) -> None:
    """Tables and columns of any name."""
    quote = '"' if on_server.kind == "postgres" else "`"
    on_server.ask('CREATE TABLE "run of:it%" ("my key" INTEGER PRIMARY KEY, "Order" VARCHAR(9999))'.replace('"', quote))
    on_server.ask(f"INSERT INTO {quote}run of:it%%{quote} VALUES (1, ?)", blob(12))
    report = reduce_table(on_server.url, 10, table="run of:it%", key="my key", column="Order")
    assert report.changed == 1
