"""`import` in batches: whatever happens to the connection or the server, the same end state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import callstats.db.jobs.restore
import callstats.db.jobs.worker
from callstats import reduce_json
from callstats.db import RestoreResult
from support.database import blob
from support.databases import Database
from support.faults import SLOW, kill_others, restarted, time_limit
from support.tables import reduce_table, restore_table

ROWS = 40
DONE = reduce_json([blob(12)], 10)[0].decode()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches of a few rows, and short pauses."""
    monkeypatch.setattr(callstats.db.jobs.restore, "_BATCH_ROWS", 10)
    monkeypatch.setattr(callstats.db.jobs.worker, "_FIRST_PAUSE", 0.05)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Old histograms of all rows."""
    file = tmp_path / "old.jsonl"
    file.write_text("".join(json.dumps({"key": f"{i:02}", "stats": blob(12, seed=i)}) + "\n" for i in range(ROWS)))
    return file


def is_put_back(database: Database) -> bool:
    """Whether each row has its old histogram."""
    return database.cells() == {f"{i:02}": blob(12, seed=i) for i in range(ROWS)}


def test_rows_that_are_there_twice_or_not_at_all(database: Database, saved: Path) -> None:
    """Of a key that was saved twice the later line counts, in one batch too; keys that no row has are told."""
    database.make([(f"{i:02}", DONE) for i in range(ROWS) if i != 7])
    first = json.dumps({"key": "05", "stats": ""}) + "\n"
    saved.write_text(first + saved.read_text() + json.dumps({"key": "nobody's", "stats": ""}) + "\n")
    result = restore_table(database.url, saved)
    assert (result.restored, result.unknown, result.rejected) == (ROWS, 2, 0)
    assert result.unknown_keys == ("07", "nobody's")
    database.add([("07", blob(12, seed=7))])
    assert is_put_back(database)


def test_a_lost_connection(on_server: Database, saved: Path) -> None:
    """Between batches: the import goes on with a new one."""
    on_server.make([(f"{i:02}", DONE) for i in range(ROWS)])
    result = restore_table(on_server.url, saved, progress=lambda _: kill_others(on_server))
    assert (result.restored, result.stopped) == (ROWS, None)
    assert is_put_back(on_server)


def test_a_server_that_restarts(on_server: Database, saved: Path) -> None:
    """It is gone for a second, and nothing is lost."""
    on_server.make([(f"{i:02}", DONE) for i in range(ROWS)])
    restart = restarted(on_server, 1.0)
    result = restore_table(on_server.url, saved, progress=lambda result: result.rows == 20 and restart())
    assert (result.restored, result.stopped) == (ROWS, None)
    assert is_put_back(on_server)


def test_a_time_limit(on_server: Database, saved: Path) -> None:
    """A batch that takes the server too long is halved."""
    on_server.make([(f"{i:02}", DONE) for i in range(ROWS)])
    for statement in SLOW[on_server.kind]:
        on_server.ask(statement.replace("{seconds}", "0.15"))
    with time_limit(on_server):
        result = restore_table(on_server.url, saved)
    assert (result.restored, result.stopped) == (ROWS, None)
    assert is_put_back(on_server)


def test_an_import_that_is_stopped_and_run_again(database: Database, saved: Path) -> None:
    """The second run puts all right, also where rows were reduced again between both."""
    database.make([(f"{i:02}", DONE) for i in range(ROWS)])
    seen: list[RestoreResult] = []
    result = restore_table(database.url, saved, progress=seen.append, stop=lambda: len(seen) == 2)
    assert (result.restored, result.stopped) == (20, "asked to stop")
    assert reduce_table(database.url, 10).changed == 20
    assert restore_table(database.url, saved).restored == ROWS
    assert is_put_back(database)
