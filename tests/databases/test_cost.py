"""The cost follows the new rows: the database finds them, and what a rule can't change is neither read, locked nor written."""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from callstats import CallstatsError, Rule, reduce_json
from callstats._timestamps import format_time, stored_time_ns
from callstats.db.engine import parse_url
from support.database import blob
from support.databases import Database
from support.tables import reduce_table, restore_table

RULE = Rule(10, how={"mem_usage": ("mean", "max")})
DONE = reduce_json([blob(30)], RULE)[0].decode()
NOTHING = {"changed": 0, "unchanged": 0, "bytes_read": 0}


def counts(result: Any) -> dict[str, int]:
    """The counts of `NOTHING` in a result."""
    return {name: getattr(result, name) for name in NOTHING}


@pytest.mark.parametrize("stats", ["text", "blob", "json", "jsonb"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_second_run_reads_nothing(database: Database, stats: str, dry_run: bool) -> None:
    """Whatever the column's type: rows that were reduced are long enough by size, and are skipped by their number of rows."""
    if stats == "jsonb" and database.kind != "postgres":
        pytest.skip("PostgreSQL's own type")
    if stats == "json" and database.kind == "sqlite":
        pytest.skip("SQLite has no type for it")
    in_bytes = stats == "blob"
    database.make([(f"{i:03}", blob(30).encode() if in_bytes else blob(30)) for i in range(120)], stats=stats)
    assert reduce_table(database.url, RULE, batch_size=50).changed == 120
    again = reduce_table(database.url, RULE, batch_size=50, dry_run=dry_run)
    assert (counts(again), again.skipped, again.rows) == (NOTHING, 120, 120)


def test_only_new_rows_are_read(database: Database) -> None:
    """Among many that were reduced, in one batch and over several."""
    new = range(0, 200, 40)
    database.make([(f"{i:03}", blob(30) if i in new else DONE) for i in range(200)])
    for batch_size in (1000, 30):
        result = reduce_table(database.url, RULE, batch_size=batch_size, dry_run=True)
        assert (result.changed, result.bytes_read) == (5, 5 * len(blob(30)))
    assert reduce_table(database.url, RULE, batch_size=30).changed == 5
    assert set(database.cells().values()) == {DONE}


def test_dense_tables_are_read_without_counting(database: Database) -> None:
    """After rows that all change, a few that do not are read with them; after rows that do not, none is."""
    database.make([(f"{i:03}", blob(30) if i < 100 else DONE) for i in range(300)])
    result = reduce_table(database.url, RULE, batch_size=20)
    assert (result.changed, result.rows) == (100, 300)
    assert result.unchanged <= 20
    assert result.skipped == 200 - result.unchanged


@pytest.mark.parametrize("text", ["[1]", '"x"', "x"])
def test_rows_that_cannot_be_counted_are_read(database: Database, text: str) -> None:
    """A long text that is no histogram is rejected by each run."""
    database.make([("a", text + " " * 999), ("b", blob(30))])
    for _ in range(2):
        assert [reject.key for reject in reduce_table(database.url, RULE).rejects] == ["a"]


def test_a_budget_is_found_by_size(database: Database) -> None:
    """A row of few samples that exceeds the budget is read, and one that fits is not."""
    database.make([("a", blob(10)), ("b", blob(30)), ("c", blob(5) + " " * len(blob(10)))])
    rule = Rule(10, how="mean", max_bytes=len(blob(10)))
    result = reduce_table(database.url, rule)
    assert (result.changed, result.skipped) == (2, 1)
    assert counts(reduce_table(database.url, rule)) == NOTHING


def test_tiers_count_by_their_own_rows(database: Database) -> None:
    """A row that its tier has reduced is not read again, until it reaches the next one."""
    now = datetime(2026, 11, 25, tzinfo=UTC)
    rows = [(f"{days:02}", blob(30), format_time(stored_time_ns(now - timedelta(days=days)) or 0)) for days in range(60)]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")
    tiers = [(timedelta(days=7), 10), (timedelta(days=30), 5)]
    changed = []
    for night in range(3):
        result = reduce_table(database.url, Rule(None, how="mean"), tiers=tiers, as_of=now + timedelta(days=night))
        changed.append(result.changed)
        assert result.unchanged == 0
    assert changed == [53, 2, 2]


def received(database: Database) -> int:
    """Bytes that a run's connection gets from the server, of everything: the catalogue, keys and blobs."""
    total = 0

    def count(driver: Any) -> None:
        nonlocal total
        # tcp_info's tcpi_bytes_received
        with socket.socket(fileno=os.dup(driver.fileno() if database.kind == "postgres" else driver._sock.fileno())) as one:
            total += int.from_bytes(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)[128:], sys.byteorder)

    engine = create_engine(parse_url(database.url), poolclass=NullPool, connect_args=OPTIONS[database.kind])
    event.listen(engine, "close_detached", count)  # a job takes its connection out of the pool
    reduce_table(engine, RULE)
    engine.dispose()
    return total


OPTIONS: dict[str, dict[str, Any]] = {"postgres": {}, "mysql": {"binary_prefix": True, "charset": "utf8mb4"}}


@pytest.mark.skipif(sys.platform != "linux", reason="the socket's counters are Linux's")
def test_a_second_run_receives_little(on_server: Database) -> None:
    """At most 2 % of the bytes of the first run."""
    on_server.make([(f"{i:04}", blob(240)) for i in range(200)])
    first = received(on_server)
    assert first > 200 * len(blob(240))
    assert received(on_server) <= 0.02 * first


# --- locks and writes -------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_locks_and_writes_nothing(postgres: Database) -> None:
    """On PostgreSQL no row is marked as locked, no transaction gets a number, and the log does not grow."""
    postgres.make([(f"{i:03}", blob(30)) for i in range(300)])
    reduce_table(postgres.url, RULE)
    postgres.ask("VACUUM calls")  # which writes what the next reader would
    state = "SELECT id, ctid::text, xmin::text, xmax::text FROM calls ORDER BY id"
    before, log = postgres.ask(state), postgres.ask("SELECT pg_current_wal_insert_lsn()")[0][0]
    transaction = postgres.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    modes: list[str] = []

    def look(_: Any) -> None:
        held = "SELECT DISTINCT mode FROM pg_locks WHERE relation = 'calls'::regclass AND pid <> pg_backend_pid()"
        modes.extend(mode for (mode,) in postgres.ask(held))

    result = reduce_table(postgres.url, RULE, batch_size=50, progress=look)
    assert (counts(result), result.skipped) == (NOTHING, 300)
    assert modes == []
    assert postgres.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == transaction
    [(written,)] = postgres.ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), ?::pg_lsn)::bigint", log)
    assert written < 64 * 1024
    assert postgres.ask(state) == before


def test_rows_that_stay_are_not_locked(postgres: Database) -> None:
    """In a run that changes some rows, the others keep their marks."""
    postgres.make([(f"{i:03}", blob(30) if i == 7 else DONE) for i in range(100)])
    state = "SELECT id, xmax::text FROM calls WHERE id <> '007' ORDER BY id"
    before = postgres.ask(state)
    assert reduce_table(postgres.url, RULE).changed == 1
    assert postgres.ask(state) == before


# --- how blobs travel -------------------------------------------------------------------------------------------------


def test_large_batches_in_several_statements(on_server: Database) -> None:
    """More rows than one statement takes, with letters beyond ASCII, quotes and percent signs in keys and names."""
    keys = [f"é'\\%s{i}" for i in range(450)]
    text = blob(30, metric='m"é%😀')
    on_server.make([(key, text) for key in keys])
    result = reduce_table(on_server.url, 10)
    assert (result.changed, result.stopped) == (450, None)
    assert on_server.cells() == dict.fromkeys(keys, reduce_json([text], 10)[0].decode())


def test_columns_that_set_themselves_are_kept(mysql: Database) -> None:
    """In statements of many rows, too."""
    mysql.make([], more=", seen TIMESTAMP DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP")
    mysql.add([(f"{i}", blob(30)) for i in range(9)])
    assert reduce_table(mysql.url, RULE).changed == 9
    assert mysql.ask("SELECT DISTINCT CAST(seen AS CHAR) FROM calls") == [("2020-01-01 00:00:00",)]


def test_phases_add_up(database: Database) -> None:
    """The result tells what the time was spent on, and how much was read."""
    database.make([(f"{i:03}", blob(30)) for i in range(60)])
    result = reduce_table(database.url, RULE)
    assert [*result.phases] == ["find", "read", "reduce", "write", "commit", "compare"]
    assert all(result.phases[name] > 0 for name in ("read", "reduce", "write", "commit"))
    assert sum(result.phases.values()) <= result.seconds
    assert result.bytes_read == 60 * len(blob(30))


# --- several workers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [False, True])
def test_workers_share_the_ranges(on_server: Database, save: bool, tmp_path: Path) -> None:
    """Each row is done once, there is one result, and progress comes one call at a time."""
    on_server.make([(f"{i:03}", blob(30)) for i in range(300)])
    saved, seen = tmp_path / "old.jsonl" if save else None, []
    result = reduce_table(
        on_server.url, RULE, batch_size=20, jobs=3, save=saved, progress=lambda so_far: seen.append(so_far.rows)
    )
    assert (result.changed, result.rows, result.total, result.stopped) == (300, 300, 300, None)
    assert seen == sorted(seen)
    assert seen[-1] == 300
    assert set(on_server.cells().values()) == {DONE}
    if saved is not None:
        assert len({json.loads(line)["key"] for line in saved.read_bytes().splitlines()}) == 300
        assert restore_table(on_server.url, saved).restored == 300
        assert set(on_server.cells().values()) == {blob(30)}


def test_what_ends_one_worker_ends_all(on_server: Database) -> None:
    """What is counted is written, the reason is that of the one that failed, and the next run does the rest."""
    on_server.make([(f"{i:03}", blob(30)) for i in range(300)])
    calls = iter(range(10**6))
    result = reduce_table(on_server.url, RULE, batch_size=10, jobs=3, stop=lambda: next(calls) >= 6)
    assert result.stopped == "asked to stop"
    assert result.changed == sum(cell == DONE for cell in on_server.cells().values()) <= 60
    on_server.ask("ALTER TABLE calls RENAME TO others")
    with pytest.raises(CallstatsError, match="table must be a table of the database, got 'calls'"):
        reduce_table(on_server.url, RULE, jobs=3)
    on_server.ask("ALTER TABLE others RENAME TO calls")
    assert reduce_table(on_server.url, RULE, jobs=3).changed == 300 - result.changed


def test_a_limit_is_kept_by_several_workers(on_server: Database) -> None:
    """One of them works then."""
    on_server.make([(f"{i:03}", blob(30)) for i in range(100)])
    assert reduce_table(on_server.url, RULE, batch_size=10, jobs=3, limit=37).changed == 37


def test_sqlite_has_one_worker(database: Database) -> None:
    """Its one lock is for the whole file."""
    if database.kind != "sqlite":
        pytest.skip("of SQLite")
    database.make([("a", blob(30))])
    with pytest.raises(
        CallstatsError, match=r"^jobs must be 1 for SQLite, got 2: it has one lock for the whole file, so use threads$"
    ):
        reduce_table(database.url, RULE, jobs=2)


def test_ranges_grow_where_nothing_is_to_do(database: Database) -> None:
    """A stretch of rows that a rule can't change takes few statements, and what comes after it takes batches as asked for."""
    database.make([(f"{i:04}", blob(30) if 900 <= i < 910 else DONE) for i in range(1000)])
    seen: list[int] = []
    result = reduce_table(database.url, RULE, batch_size=10, progress=lambda so_far: seen.append(so_far.rows))
    assert (result.changed, result.skipped, result.bytes_read) == (10, 990, 10 * len(blob(30)))
    assert seen[:3] == [10, 20, 30]
    assert seen[-1] == 1000
    assert len(seen) < 20
