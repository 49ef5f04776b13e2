"""Corners in which a job could lose data, or leave rows alone without saying so: each is told, on every database."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callstats import CallstatsError, DatabaseError, Rule, StatSeries, reduce_json
from callstats.db.jobs.batches import BatchSession
from support.database import blob
from support.databases import Database
from support.tables import reduce_table, restore_table, summarize_table
from support.zoo import SECOND

RULE = Rule(10, how={"mem_usage": ("mean", "max")})
DONE = reduce_json([blob(12)], RULE)[0].decode()
TIERED = Rule(None, how=RULE.how)
WEEK = [(timedelta(days=7), 10)]

# --- times of a tier ----------------------------------------------------------------------------------------------------

NO_TIMES = [
    1577836800, 1577836800000, "2020-01-01 00:00:00 UTC", "Wed, 01 Jan 2020 00:00:00 GMT", "not a time", "2020-02-30",
    "2020-02-30T00:00:00Z", "2020-13-01", "2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00", "2020-1-1", "now",
    "2020-01-01T00:00:00+24:00", "2457000.5",
]  # fmt: skip
TIMES = ["2020-01-01", "2020-02-29", "2020-01-01T00:00:00Z", "2019-12-31t23:00:00.5-02:00"]
WITHOUT = [None, "", "0001-01-01T00:00:00.000Z"]


def timed(database: Database, times: list[object], rows: int = 12) -> None:
    """A table with a row for each time."""
    kind = "" if database.kind == "sqlite" else "VARCHAR(99)"
    cells = [(f"{i:02}", blob(rows), time) for i, time in enumerate(times)]
    database.make(cells, more=f", created_at {kind}", columns="id, stats, created_at")


@pytest.mark.parametrize("batch_size", [4, 1000])
@pytest.mark.parametrize("dry_run", [True, False])
def test_times_that_cannot_be_read_are_rejected(database: Database, dry_run: bool, batch_size: int) -> None:
    """By key, and never counted as young; a date alone is its midnight in UTC, and NULL counts as no time."""
    timed(database, [*NO_TIMES, *TIMES, *WITHOUT, "2999-01-01"])
    result = reduce_table(database.url, TIERED, tiers=WEEK, dry_run=dry_run, batch_size=batch_size)
    assert {reject.key for reject in result.rejects} == {f"{i:02}" for i in range(len(NO_TIMES))}
    assert (result.rejected, result.changed, result.untimed) == (len(NO_TIMES), len(TIMES), len(WITHOUT))
    assert (result.skipped, result.rows) == (1, len(NO_TIMES) + len(TIMES) + len(WITHOUT) + 1)
    got = NO_TIMES[0] if database.kind == "sqlite" else str(NO_TIMES[0])
    assert result.rejects[0].reason == f"created_at: expected an RFC 3339 time or a date, got {got!r}"
    changed = {key for key, cell in database.cells().items() if cell != blob(12)}
    assert changed == (set() if dry_run else {f"{len(NO_TIMES) + i:02}" for i in range(len(TIMES))})


def test_the_time_of_a_short_row_is_not_asked_for(database: Database) -> None:
    """No tier would change it, whatever its age; `verify` asks for it all the same."""
    timed(database, ["not a time"], rows=2)
    assert reduce_table(database.url, Rule(None), tiers=WEEK).rejected == 0
    assert reduce_table(database.url, Rule(None), tiers=WEEK, verify=True).rejected == 1


def test_a_date_alone_is_midnight(database: Database) -> None:
    """In UTC, to the second."""
    timed(database, ["2020-01-01"])
    for as_of, changed in [("2020-01-07T23:59:59Z", 0), ("2020-01-08T00:00:00Z", 1)]:
        assert reduce_table(database.url, Rule(None), tiers=WEEK, as_of=as_of).changed == changed


# --- rows that would grow -----------------------------------------------------------------------------------------------


def test_rows_that_would_grow_are_kept(database: Database) -> None:
    """They stay as they are and are counted, in every run; nothing is ever saved below zero."""
    metrics = {f"metric_{i}": range(i, i + 240) for i in range(9)}
    growing = StatSeries([i * SECOND for i in range(240)], metrics).to_db()
    database.make([("a", growing), ("b", blob(240))])
    rule = Rule(120, how={"*": ("mean", "min", "max"), "mem_usage": "mean", "cpu_total": "mean"})
    for changed in (1, 0):
        result = reduce_table(database.url, rule)
        assert (result.kept, result.changed, result.unchanged, result.rejected) == (1, changed, 0, 0)
        assert result.bytes_after <= result.bytes_before
        assert result.rows == 2
    assert database.cell("a") == growing


# --- where --------------------------------------------------------------------------------------------------------------

NO_EXPRESSIONS = ["1=1) or (1=1", "1=1) /*", "1=1) -- ", "1=1; DELETE FROM calls", "1=1) OR 1 IN (SELECT 1", "", "1=1 ORDER BY 1"]


@pytest.mark.parametrize("where", [*NO_EXPRESSIONS, "1=1 THEN 1 END = 1 OR CASE WHEN 1=1"])
def test_where_is_one_expression(database: Database, where: str) -> None:
    """Text that ends the parentheses it is put in is wrong use, and nothing is changed."""
    database.make([("a", blob(12))])
    with pytest.raises(CallstatsError, match=r"^where must be a condition in the SQL of ") as caught:
        reduce_table(database.url, RULE, where=where)
    assert not isinstance(caught.value, DatabaseError)
    assert database.cells() == {"a": blob(12)}


@pytest.mark.parametrize("where", ["id = 'a' -- (", "id IN ('a', ')')", "id = 'a' OR id = ')('", "(id = 'a')", "NOT id <> 'a'"])
def test_where_may_be_any_expression(database: Database, where: str) -> None:
    """With comments, and brackets in text."""
    database.make([("a", blob(12)), ("b", blob(12))])
    assert reduce_table(database.url, RULE, where=where).changed == 1
    assert database.cells() == {"a": DONE, "b": blob(12)}


# --- one key, several rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_key_in_parent_and_heir(postgres: Database, tmp_path: Path, dry_run: bool) -> None:
    """No index is unique over both tables: wrong use, and nothing is written; each of them can be reduced on its own."""
    postgres.make([("a", blob(12)), ("b", blob(12))])
    postgres.ask("CREATE TABLE heirs (PRIMARY KEY (id)) INHERITS (calls)")
    postgres.ask(f"INSERT INTO heirs (id, stats) VALUES ('c', '{blob(12)}')")
    assert reduce_table(postgres.url, RULE, dry_run=True).changed == 3
    postgres.ask(f"INSERT INTO heirs (id, stats) VALUES ('a', '{blob(13)}')")
    before = postgres.ask("SELECT * FROM calls")
    saved = tmp_path / "old.jsonl"
    saved.write_text('{"key":"a","stats":""}\n')
    for run in (
        lambda: reduce_table(postgres.url, RULE, dry_run=dry_run),
        lambda: restore_table(postgres.url, saved),
        lambda: summarize_table(postgres.url),
    ):
        with pytest.raises(
            ValueError, match=r"^key must be unique over 'calls' and the tables that inherit from it, got 'id': 'a'"
        ):
            run()
    assert postgres.ask("SELECT * FROM calls") == before
    assert reduce_table(postgres.url, RULE, table="heirs").changed == 2


def test_a_partitioned_table_has_no_heirs(postgres: Database) -> None:
    """Its unique index spans all partitions."""
    postgres.ask("CREATE TABLE calls (id TEXT PRIMARY KEY, status TEXT, stats TEXT) PARTITION BY LIST (id)")
    postgres.ask("CREATE TABLE one PARTITION OF calls FOR VALUES IN ('a')")
    postgres.ask("CREATE TABLE other PARTITION OF calls DEFAULT")
    postgres.add([("a", blob(12)), ("b", blob(12))])
    assert reduce_table(postgres.url, RULE).changed == 2


def test_more_rows_changed_than_written_are_rolled_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes the key ambiguous: here a key that was unique when the job began."""
    key = {"sqlite": "TEXT", "postgres": "TEXT", "mysql": "VARCHAR(9)"}[database.kind]
    database.ask(f"CREATE TABLE calls (id {key} UNIQUE, stats {'LONGTEXT' if database.kind == 'mysql' else 'TEXT'})")
    database.add([("a", blob(12)), ("b", blob(13))])
    drop = {"postgres": "ALTER TABLE calls DROP CONSTRAINT calls_id_key", "mysql": "ALTER TABLE calls DROP INDEX id"}
    real = BatchSession.__init__

    def ambiguous(self: BatchSession, *given: Any, **options: Any) -> None:
        real(self, *given, **options)
        if database.kind == "sqlite":
            database.ask("ALTER TABLE calls RENAME TO others")
            database.ask("CREATE TABLE calls AS SELECT * FROM others")
        else:
            database.ask(drop[database.kind])
        database.add([("a", blob(14))])

    monkeypatch.setattr(BatchSession, "__init__", ambiguous)
    result = reduce_table(database.url, RULE, batch_size=10)
    assert result.changed == 0
    assert result.stopped is not None
    assert re.fullmatch(r"key 'id' is not unique: an update of \d rows changed \d, and was rolled back", result.stopped)
    assert sorted(cell for _, cell in database.ask("SELECT id, stats FROM calls")) == sorted([blob(12), blob(13), blob(14)])


# --- what an update would change besides ----------------------------------------------------------------------------------


def test_columns_that_set_themselves_are_kept(mysql: Database, tmp_path: Path) -> None:
    """An update of the histogram is no update of the call."""
    mysql.make([], more=", seen TIMESTAMP(6) NULL ON UPDATE CURRENT_TIMESTAMP(6), touched DATETIME ON UPDATE CURRENT_TIMESTAMP")
    mysql.add([("a", blob(12), "2020-01-01", "2020-01-01"), ("b", blob(12), None, None)], columns="id, stats, seen, touched")
    before = mysql.ask("SELECT id, seen, touched FROM calls")
    assert reduce_table(mysql.url, RULE, save=tmp_path / "old.jsonl").changed == 2
    assert mysql.ask("SELECT id, seen, touched FROM calls") == before
    assert restore_table(mysql.url, tmp_path / "old.jsonl").restored == 2
    assert mysql.ask("SELECT id, seen, touched FROM calls") == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_history_that_only_grows_is_wrong_use(mysql: Database, dry_run: bool) -> None:
    """MariaDB keeps each old value of a system-versioned table, so that a reduction would free nothing."""
    if "mariadb" not in mysql.ask("SELECT VERSION()")[0][0].lower():
        pytest.skip("only MariaDB versions tables")
    mysql.make([("a", blob(12))], end=" WITH SYSTEM VERSIONING")
    with pytest.raises(ValueError, match=r"^table must be one that this session may update, got 'calls': it is system-versioned"):
        reduce_table(mysql.url, RULE, dry_run=dry_run)
    assert summarize_table(mysql.url).calls == 1
    mysql.ask(
        "SET STATEMENT system_versioning_alter_history = 1 FOR ALTER TABLE calls MODIFY stats LONGTEXT WITHOUT SYSTEM VERSIONING"
    )
    assert reduce_table(mysql.url, RULE).changed == 1
    assert mysql.ask("SELECT COUNT(*) FROM calls FOR SYSTEM_TIME ALL") == [(1,)]
