"""Three workers of one job while sessions are ended and the server restarts: nothing is lost, and the end state is the same."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import callstats.db.engine
import callstats.db.jobs.worker
from callstats import Rule, reduce_json
from support.database import blob
from support.databases import Database
from support.faults import kill_others, restarted
from support.tables import reduce_table, restore_table

ROWS = 240
RULE = Rule(10, how={"mem_usage": ("mean", "max")})
OLD = {f"{i:03}": blob(12 + i % 3, seed=i) for i in range(ROWS)}
NEW = {key: reduce_json([text], RULE)[0].decode() for key, text in OLD.items()}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of tries in less time."""
    monkeypatch.setattr(callstats.db.jobs.worker, "_FIRST_PAUSE", 0.05)


@pytest.mark.parametrize("jobs", [1, 3])
def test_sessions_that_are_ended(on_server: Database, jobs: int, tmp_path: Path) -> None:
    """`pg_terminate_backend` and `KILL` for all of them, again and again, at any moment of a batch."""
    on_server.make(OLD.items())
    over = threading.Event()

    def kill() -> None:
        for _ in range(6):
            if not over.wait(0.1):
                kill_others(on_server)

    killer = threading.Thread(target=kill)
    saved = tmp_path / "old.jsonl"
    try:
        result = reduce_table(
            on_server.url,
            RULE,
            batch_size=5,
            jobs=jobs,
            save=saved,
            sleep=0.02,
            progress=lambda _: killer.ident or killer.start(),
        )
    finally:
        over.set()
        killer.join()
    assert (result.stopped, result.rows) == (None, ROWS)
    assert result.retries >= 1
    assert result.changed + result.skipped + result.unchanged == ROWS  # a commit whose answer was lost is found done
    assert on_server.cells() == NEW
    assert restore_table(on_server.url, saved).unknown == 0
    assert on_server.cells() == OLD


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_server_that_restarts_in_the_middle(on_server: Database, jobs: int) -> None:
    """It is killed as by a power cut, and is there again a second later."""
    on_server.make(OLD.items())
    restart = restarted(on_server, 1.0)
    once = [restart]
    result = reduce_table(
        on_server.url, RULE, batch_size=5, jobs=jobs, progress=lambda so_far: so_far.rows >= 60 and once and once.pop()()
    )
    assert (result.stopped, result.rows) == (None, ROWS)
    assert result.retries >= 1
    assert on_server.cells() == NEW


def test_a_lost_connection_is_closed(on_server: Database) -> None:
    """A server may say that it ends a session before it does: what the driver holds of it is given back all the same."""
    on_server.make(OLD.items())
    database, drivers = callstats.db.engine.Database(on_server.url), []
    with database.session() as (connection, dialect):
        for _ in range(3):
            with dialect.transaction(connection, write=False):
                drivers.append(connection.connection.dbapi_connection)
            connection.invalidate()
    database.close()
    assert len({*map(id, drivers)}) == 3
    assert all(driver.closed if hasattr(driver, "closed") else not driver.open for driver in drivers)


def test_a_job_that_is_stopped_in_the_middle(on_server: Database) -> None:
    """All three workers end after their batches, all that is counted is committed, and a second run does the rest."""
    on_server.make(OLD.items())
    begun = time.monotonic()
    result = reduce_table(on_server.url, RULE, batch_size=5, jobs=3, sleep=0.05, stop=lambda: time.monotonic() > begun + 0.5)
    assert result.stopped == "asked to stop"
    cells = on_server.cells()
    assert result.changed == sum(cells[key] == NEW[key] for key in OLD)
    assert all(cells[key] in (OLD[key], NEW[key]) for key in OLD)
    assert reduce_table(on_server.url, RULE, jobs=3).changed == ROWS - result.changed
    assert on_server.cells() == NEW


def test_a_planned_end_of_three_workers(on_server: Database) -> None:
    """The run time of one is that of all, and no failure."""
    from datetime import timedelta

    on_server.make(OLD.items())
    result = reduce_table(on_server.url, RULE, batch_size=1, jobs=3, sleep=0.05, run_time=timedelta(seconds=1.5))
    assert (result.stopped, result.more) == (None, "the run time of 1.5 s is over")
    assert result.changed < ROWS
    assert reduce_table(on_server.url, RULE, jobs=3).changed == ROWS - result.changed
