"""Connections: locks are let go, and an Engine of the caller's is used as it is and given back as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import callstats
from callstats.db import ReduceResult
from support.database import blob, connect, made
from support.tables import add_calls, create_table, get_series, reduce_table

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("journal", ["delete", "wal", "truncate"])
def test_no_lock_is_left(tmp_path: Path, journal: str) -> None:
    """Between batches and at the end another program can lock the whole file at once."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(10)], before=[f"PRAGMA journal_mode = {journal}"])

    def lock(_: ReduceResult | None = None) -> None:
        with closing(connect(db, timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("UPDATE calls SET status = 'seen'")
            other.execute("COMMIT")

    assert reduce_table(db, 10, batch_size=3, progress=lock).changed == 10
    lock()


def test_what_reads_takes_no_lock(tmp_path: Path) -> None:
    """While another program has the lock for writing, all that reads does its work at once: also a job that changes nothing."""
    db = made(tmp_path / "calls.db", [(str(i), blob(12)) for i in range(10)])
    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        with callstats.connect(f"sqlite:///{db}?timeout=0") as calls:
            assert [call.key for call in calls.list(2)] == ["9", "8"]
            assert calls.max_blob_bytes() is None
            assert calls.summarize(by=None).calls == 10
            assert calls.export(tmp_path / "calls.parquet").written == 10
            assert calls.reduce(10, dry_run=True).changed == 10
            assert calls.reduce(20).skipped == 10
            assert calls.reduce(10).stopped == "database is locked: another program kept its lock for too long"


def test_an_engine_of_the_callers(tmp_path: Path) -> None:
    """An Engine is used as it is, whatever its hooks do to transactions, and gets its connections back as they were."""
    from sqlalchemy import create_engine, event

    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(10)])
    engine = create_engine(f"sqlite:///{db}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    assert reduce_table(engine, 10, batch_size=4).changed == 10
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        assert (driver.isolation_level, driver.text_factory) == ("", str)
        assert connection.exec_driver_sql("SELECT count(*) FROM calls").scalar_one() == 10
    engine.dispose()


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "autocommit"), reason="Python 3.12 brought the attribute")
def test_an_engine_in_the_new_transaction_mode(tmp_path: Path) -> None:
    """From Python 3.12 on the driver can hold a transaction open all the time; that is put back at the end."""
    from sqlalchemy import create_engine

    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(10)])
    engine = create_engine(f"sqlite:///{db}", connect_args={"autocommit": False})
    assert reduce_table(engine, 10, batch_size=4).changed == 10
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection.autocommit is False  # type: ignore[union-attr]
    engine.dispose()
    assert reduce_table(db, 10).changed == 0


def test_a_database_in_memory() -> None:
    """An Engine's own memory is reached too."""
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    assert create_table(engine) == "created"
    row = dict.fromkeys(["app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "error"])
    add_calls(engine, [{**row, "id": "a", "stats": blob(100)}])
    assert reduce_table(engine, 10).changed == 1
    assert len(get_series(engine, "a")) == 10
    engine.dispose()
