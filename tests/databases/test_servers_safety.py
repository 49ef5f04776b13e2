"""Locks, deadlocks, lost connections and servers that go away: tried again a bounded number of times, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import callstats.db.dialects.mysql
import callstats.db.dialects.postgres
import callstats.db.jobs.reduce
import callstats.db.jobs.worker
from callstats import Rule, reduce_json
from callstats.db import ReduceResult
from support.database import blob
from support.databases import Database
from support.faults import SLOW, kill_others, restarted, time_limit
from support.tables import reduce_table, restore_table

RULE = Rule(10, how={"mem_usage": ("mean", "max")})
DONE = reduce_json([blob(12)], RULE)[0].decode()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of tries in less time."""
    monkeypatch.setattr(callstats.db.jobs.worker, "_FIRST_PAUSE", 0.02)


def once(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen in mid-batch: its rows are read and locked, and not yet written."""
    real = callstats.db.jobs.worker.reduce_json
    left = [change]

    def reduce_and_change(*args: Any, **options: Any) -> Any:
        results = real(*args, **options)
        if left:
            left.pop()()
        return results

    monkeypatch.setattr(callstats.db.jobs.worker, "reduce_json", reduce_and_change)


@contextmanager
def row_lock(database: Database, key: str) -> Iterator[Callable[[], None]]:
    """Another program that has one row locked, until the function that this gives is called."""
    with database.connect() as connection:
        database.run(connection, "BEGIN")
        database.run(connection, "UPDATE calls SET status = 'seen' WHERE id = ?", key)
        yield lambda: database.run(connection, "COMMIT") and None


# --- row locks --------------------------------------------------------------------------------------------------------


def test_locked_rows_are_tried_again(on_server: Database) -> None:
    """A row that another program has locked holds nobody up: it is done at the end, with what that program wrote."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    seen: list[int] = []
    with row_lock(on_server, "03") as let_go:

        def progress(report: ReduceResult) -> None:
            seen.append(report.rows)
            if report.rows == 19:
                let_go()

        report = reduce_table(on_server.url, RULE, batch_size=5, progress=progress)
    assert (report.changed, report.rows, report.locked, report.stopped) == (20, 20, 0, None)
    assert seen == [4, 9, 14, 19, 19, 20] or seen[-1] == 20
    assert set(on_server.cells().values()) == {DONE}
    assert on_server.ask("SELECT status FROM calls WHERE id = '03'") == [("seen",)]


def test_rows_that_stay_locked_are_counted(on_server: Database) -> None:
    """They are left as they are, the report says so, and the next run does them."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    with row_lock(on_server, "03"):
        report = reduce_table(on_server.url, RULE, retries=2)
    assert (report.changed, report.rows, report.locked) == (19, 19, 1)
    assert report.stopped == "rows that other programs kept locked: 1"
    assert on_server.cell("03") == blob(12)
    assert reduce_table(on_server.url, RULE).changed == 1


@pytest.mark.parametrize("most", [0, 1])
def test_no_more_locked_rows_are_remembered_than_there_is_room_for(
    on_server: Database, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that others lock row by row stops the job, rather than to fill the memory."""
    monkeypatch.setattr(callstats.db.jobs.reduce, "MAX_LOCKED", most)
    on_server.make([(f"{i:02}", blob(12)) for i in range(5)])
    with row_lock(on_server, "03"):
        report = reduce_table(on_server.url, RULE, retries=0)
    wanted = ["other programs have locked more than 0 rows", "rows that other programs kept locked: 1"]
    assert report.stopped == wanted[most]


def test_locked_rows_may_be_gone_or_short_by_then(on_server: Database) -> None:
    """A row that its program deletes doesn't count any more, one that it makes short is passed over."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(9)])
    with on_server.connect() as connection:
        on_server.run(connection, "BEGIN")
        on_server.run(connection, "DELETE FROM calls WHERE id = '03'")
        on_server.run(connection, "UPDATE calls SET stats = '' WHERE id = '05'")

        def progress(report: ReduceResult) -> None:
            if report.rows == 7:
                on_server.run(connection, "COMMIT")

        report = reduce_table(on_server.url, RULE, progress=progress)
    assert (report.changed, report.skipped, report.rows, report.stopped) == (7, 1, 8, None)


def test_a_lock_holds_for_its_batch_only(on_server: Database) -> None:
    """Between batches every row can be locked at once; in mid-batch those of other batches."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    skip = "SELECT id FROM calls FOR UPDATE SKIP LOCKED"
    between = [len(on_server.ask(skip))]
    real = callstats.db.jobs.worker.reduce_json
    within = []

    def look(*args: Any, **options: Any) -> Any:
        within.append(len(on_server.ask(skip)))
        return real(*args, **options)

    callstats.db.jobs.worker.reduce_json = look  # type: ignore[assignment]
    try:
        reduce_table(on_server.url, RULE, batch_size=5, progress=lambda report: between.append(len(on_server.ask(skip))))
    finally:
        callstats.db.jobs.worker.reduce_json = real
    assert set(between) == {20}
    assert within[:4] == [15] * 4


def test_a_lock_on_the_table_is_waited_for(on_server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement waits a bounded time; the batch is tried again, and done when the lock is gone."""
    for module in (callstats.db.dialects.postgres, callstats.db.dialects.mysql):
        monkeypatch.setattr(module, "LOCK_SECONDS", 1)
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    lock, unlock = {
        "postgres": ("BEGIN; LOCK TABLE calls", "COMMIT"),
        "mysql": ("LOCK TABLES calls WRITE", "UNLOCK TABLES"),
    }[on_server.kind]
    with on_server.connect() as connection:
        timer = threading.Timer(1.5, lambda: connection.cursor().execute(unlock))

        def progress(report: ReduceResult) -> None:
            if report.rows == 5:
                connection.cursor().execute(lock)
                timer.start()

        report = reduce_table(on_server.url, RULE, batch_size=5, progress=progress)
        timer.join()
    assert (report.changed, report.stopped) == (20, None)
    assert report.retries >= 1


DEADLOCKS = {
    "postgres": [
        "CREATE SEQUENCE tries",
        (
            "CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.id = '07' AND nextval('tries') <= {n} "
            "THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN new; END $$"
        ),
        "CREATE TRIGGER clash BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION clash()",
    ],
    "mysql": [
        "CREATE TABLE tries (n INTEGER) ENGINE = MyISAM",  # which no rollback touches
        "INSERT INTO tries VALUES (0)",
        (
            "CREATE TRIGGER clash BEFORE UPDATE ON calls FOR EACH ROW BEGIN IF new.id = '07' THEN UPDATE tries SET n = n + 1; "
            "IF (SELECT n FROM tries) <= {n} THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF; END IF; END"
        ),
    ],
}


@pytest.mark.parametrize("clashes", [3, 99])
def test_deadlocks_are_tried_again(on_server: Database, clashes: int) -> None:
    """A bounded number of times: then the job stops with all that is counted done."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    for statement in DEADLOCKS[on_server.kind]:
        on_server.ask(statement.replace("{n}", str(clashes)))
    report = reduce_table(on_server.url, RULE, batch_size=5, retries=4)
    changed = sum(cell == DONE for cell in on_server.cells().values())
    assert report.changed == report.rows == changed
    if clashes == 3:
        assert (changed, report.stopped, report.retries) == (20, None, 3)
    else:
        assert (changed, report.retries) == (5, 4)
        assert report.stopped is not None
        assert report.stopped.endswith("; tried 5 times")


# --- lost connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("save", [False, True])
def test_a_lost_connection_is_made_anew(
    on_server: Database, save: bool, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-batch and between batches: the job goes on with a new connection, and saved cells are still all there."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    once(lambda: kill_others(on_server), monkeypatch)
    saved = tmp_path / "old.jsonl" if save else None
    report = reduce_table(
        on_server.url, RULE, batch_size=5, save=saved, progress=lambda report: kill_others(on_server), jobs=jobs
    )
    # A commit of another worker, whose answer a kill cuts off, is found done by the next try.
    done = report.changed + (report.skipped if jobs > 1 else 0)
    assert (done, report.rows, report.stopped) == (20, 20, None)
    assert report.retries >= (4 if jobs == 1 else 1)
    assert set(on_server.cells().values()) == {DONE}
    if saved is not None:
        assert restore_table(on_server.url, saved).unknown == 0
        assert set(on_server.cells().values()) == {blob(12)}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_server_that_comes_back(on_server: Database, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies in mid-batch, and is there again some seconds later: the job resumes by itself, and nothing is lost."""
    monkeypatch.setattr(callstats.db.jobs.worker, "_FIRST_PAUSE", 0.1)
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    once(restarted(on_server, 1.0), monkeypatch)
    report = reduce_table(on_server.url, RULE, batch_size=5, jobs=jobs)
    assert (report.changed, report.rows, report.stopped) == (20, 20, None)
    assert report.retries >= 2
    assert set(on_server.cells().values()) == {DONE}


def test_a_server_that_stays_away(on_server: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of tries the job stops, and its reason shows no password."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    assert on_server.server is not None
    server, process = on_server.server, on_server.server.process
    restart = restarted(on_server, 0)
    assert process is not None
    started: list[float] = []
    real = process.start
    monkeypatch.setattr(process, "start", lambda: started.append(time.monotonic()))
    try:
        report = reduce_table(on_server.url, RULE, batch_size=5, retries=3, progress=lambda r: r.rows == 5 and restart())
    finally:
        monkeypatch.setattr(process, "start", real)
        process.start()
        process.wait_until(lambda: server.connect(None))
    assert (report.changed, report.rows) == (5, 5)
    assert report.stopped is not None
    assert report.stopped.endswith("; tried 4 times")
    assert server.address["password"] not in repr(report)
    assert reduce_table(on_server.url, RULE).changed == 15


# --- the caller's engine ----------------------------------------------------------------------------------------------


def test_an_engine_without_transactions(on_server: Database) -> None:
    """An Engine that commits each statement would hold no lock: the job has its own transactions, and puts all back."""
    from sqlalchemy import create_engine

    from callstats.db.engine import parse_url

    on_server.make([(f"{i:02}", blob(12)) for i in range(20)])
    engine = create_engine(parse_url(on_server.url), isolation_level="AUTOCOMMIT")
    waits = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout" if on_server.kind == "mysql" else "SHOW lock_timeout"
    with engine.connect() as connection:
        before = connection.exec_driver_sql(waits).all()
    held: list[int] = []
    real = callstats.db.jobs.worker.reduce_json

    def look(*args: Any, **options: Any) -> Any:
        held.append(20 - len(on_server.ask("SELECT id FROM calls FOR UPDATE SKIP LOCKED")))
        return real(*args, **options)

    callstats.db.jobs.worker.reduce_json = look  # type: ignore[assignment]
    try:
        assert reduce_table(engine, RULE, batch_size=5).changed == 20
    finally:
        callstats.db.jobs.worker.reduce_json = real
    assert held[:4] == [5] * 4
    with engine.connect() as connection:
        assert connection.exec_driver_sql(waits).all() == before
        driver: Any = connection.connection.dbapi_connection
        assert driver.autocommit if on_server.kind == "postgres" else driver.get_autocommit()
    engine.dispose()


# --- manners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_limit_is_kept_to_the_row(database: Database, dry_run: bool) -> None:
    """A run changes at most so many rows, and the next one goes on."""
    database.make([(f"{i:02}", blob(12 if i % 2 else 2)) for i in range(20)])
    report = reduce_table(database.url, RULE, limit=7, batch_size=5, dry_run=dry_run)
    assert (report.changed, report.more, report.stopped) == (7, "the limit of 7 changed rows is reached", None)
    report = reduce_table(database.url, RULE, limit=7, batch_size=5, dry_run=dry_run)
    assert (report.changed, report.more is None) == ((7, False) if dry_run else (3, True))


def test_run_time_and_sleep(database: Database) -> None:
    """No batch begins after the run time; between batches the job sleeps, but no longer than it may run or is asked to stop."""
    database.make([(f"{i:02}", blob(12)) for i in range(20)])
    report = reduce_table(database.url, RULE, batch_size=5, sleep=60, run_time=timedelta(seconds=4))
    assert (report.more, report.stopped, report.changed) == ("the run time of 4 s is over", None, 5)
    assert report.seconds < 30
    asked = threading.Event()
    timer = threading.Timer(0.3, asked.set)
    report = reduce_table(
        database.url, RULE, batch_size=1, sleep=60, stop=asked.is_set, progress=lambda _: timer.ident or timer.start()
    )
    timer.join()
    assert (report.stopped, report.rows) == ("asked to stop", 1)
    assert report.seconds < 30


def test_a_limit_holds_for_rows_that_were_locked(on_server: Database) -> None:
    """Those that are tried again at the end count too, and the report tells how many are left."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(10)])
    with on_server.connect() as connection:
        on_server.run(connection, "BEGIN")
        on_server.run(connection, "UPDATE calls SET status = 'seen' WHERE id IN ('00', '01', '02', '03', '04')")

        def progress(report: ReduceResult) -> None:
            on_server.run(connection, "COMMIT")

        report = reduce_table(on_server.url, RULE, limit=8, progress=progress)
    assert (report.changed, report.locked, report.more) == (8, 2, "the limit of 8 changed rows is reached")
    assert reduce_table(on_server.url, RULE).changed == 2


# --- time limits of the server ------------------------------------------------------------------------------------------


def test_a_time_limit_makes_batches_smaller(on_server: Database) -> None:
    """Until they fit; each row is done once, and nothing is lost."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(24)])
    for statement in SLOW[on_server.kind]:
        on_server.ask(statement.replace("{seconds}", "0.1"))
    with time_limit(on_server):
        report = reduce_table(on_server.url, RULE)
    assert (report.changed, report.rows, report.stopped) == (24, 24, None)
    assert report.retries >= 1
    assert set(on_server.cells().values()) == {DONE}


def test_a_row_that_takes_too_long(on_server: Database) -> None:
    """The job stops after a bounded number of tries, the smallest batches a row each, and changes nothing."""
    on_server.make([(f"{i:02}", blob(12)) for i in range(4)])
    for statement in SLOW[on_server.kind]:
        on_server.ask(statement.replace("{seconds}", "2"))
    with time_limit(on_server):
        report = reduce_table(on_server.url, RULE, retries=3)
    assert (report.changed, report.retries) == (0, 3)
    assert report.stopped is not None
    assert report.stopped.endswith("; tried 4 times")
    assert set(on_server.cells().values()) == {blob(12)}
