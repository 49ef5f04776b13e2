"""Killed runs, a second writer, and two runs at once: on every database nothing is lost, and one more run puts all right."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from callstats import Rule, reduce_json
from support.database import blob
from support.databases import Database
from support.killed import Runs
from support.tables import reduce_table

ROWS = 600
KILLS = 20
AS_OF = "2026-11-25T12:00:00Z"
TIERS = [(7, 10), (30, 5)]
IN_DAYS = [(timedelta(days=days), rows) for days, rows in TIERS]
HOW: Any = {"mem_usage": ("mean", "max")}
TIMES = {None: "2026-11-25T13:00:00+02:00", 10: "2026-11-15T23:30:00-05:00", 5: "2025-01-01T00:00:00.000Z"}
CHANGES = [
    blob(30),
    blob(30, metric="Mem_Usage"),  # in a name's case only
    blob(30).rstrip("\n") + " \n",  # in a space only
    blob(30).rstrip("\n") + "\n ",
]


def reduced(text: str, rows: int | None) -> str:
    """What a text becomes in the tier of so many rows."""
    return text if rows is None else reduce_json([text], Rule(rows, how=HOW))[0].decode()


def tier_of(i: int) -> int | None:
    """The tier of a row."""
    return [None, 10, 5, 5][i % 4]


def filled(database: Database, texts: list[str]) -> None:
    """A table of rows of all tiers."""
    rows = [(f"{i}", text, TIMES[tier_of(i)]) for i, text in enumerate(texts)]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")


@contextmanager
def a_writer(database: Database, last: dict[str, str]) -> Iterator[None]:
    """Another program that changes rows all the while."""
    done = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        choose = random.Random(25)
        try:
            with database.connect() as connection:
                while not done.is_set():
                    key, text = str(choose.randrange(ROWS)), choose.choice(CHANGES)
                    database.run(connection, "UPDATE calls SET stats = ? WHERE id = ?", text, key)
                    last[key] = text
                    time.sleep(0.003)
        except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()
    assert failed == []


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """A process to begin runs from."""
    with Runs() as process:
        yield process


@pytest.fixture(params=[1, 3])
def jobs(request: pytest.FixtureRequest, database: Database) -> int:
    """The number of workers of a run; SQLite has one."""
    if request.param > 1 and database.kind == "sqlite":
        pytest.skip("SQLite has one worker")
    return int(request.param)


def killed_runs(runs: Runs, database: Database, seed: int, jobs: int) -> int:
    """Begin and kill runs at random moments, KILLS times in a row; tell how many had written something by then."""
    moments = random.Random(seed)
    job = {"url": database.url, "tiers": TIERS, "as_of": AS_OF, "batch_size": 5, "lingers": 60, "jobs": jobs}
    wrote = 0
    before = database.cells()
    for turn in range(KILLS):
        [process] = runs.start(job)
        if turn % 3:
            runs.wait_for_batch()
        time.sleep(moments.uniform(0, 0.03))
        runs.kill(process)
        assert runs.ends() == [-signal.SIGKILL]
        now = database.cells()
        wrote += now != before
        before = now
    return wrote


def test_killed_runs_lose_nothing(runs: Runs, database: Database, jobs: int) -> None:
    """After 20 kills in a row each row is old or new, and one full run gives what one undisturbed run gives."""
    old = [blob(28 + i % 5, seed=i) for i in range(ROWS)]
    filled(database, old)
    wrote = killed_runs(runs, database, 1, jobs)
    want = {str(i): reduced(text, tier_of(i)) for i, text in enumerate(old)}
    half = database.cells()
    assert all(half[str(i)] in (text, want[str(i)]) for i, text in enumerate(old))
    assert wrote >= 5
    report = reduce_table(database.url, Rule(None, how=HOW), tiers=IN_DAYS, as_of=AS_OF)
    assert report.stopped is None
    assert database.cells() == want


def test_killed_runs_beside_a_writer(runs: Runs, database: Database, jobs: int) -> None:
    """The same while another program writes, in a name's case or in a space only: its last write of each row is what counts."""
    filled(database, [CHANGES[0]] * ROWS)
    last: dict[str, str] = {}
    with a_writer(database, last):
        killed_runs(runs, database, 2, jobs)
        if database.kind != "sqlite":
            reduce_table(database.url, Rule(None, how=HOW), tiers=IN_DAYS, as_of=AS_OF, batch_size=7, jobs=jobs)
    assert len(last) > 50
    assert reduce_table(database.url, Rule(None, how=HOW), tiers=IN_DAYS, as_of=AS_OF).stopped is None
    want = {str(i): reduced(last.get(str(i), CHANGES[0]), tier_of(i)) for i in range(ROWS)}
    assert database.cells() == want


COUNTED = {
    "sqlite": ["CREATE TRIGGER count_writes AFTER UPDATE ON calls BEGIN INSERT INTO writes VALUES (new.id); END"],
    "postgres": [
        (
            "CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN INSERT INTO writes VALUES (new.id); RETURN NULL; END $$"
        ),
        "CREATE TRIGGER count_writes AFTER UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION count_writes()",
    ],
    "mysql": ["CREATE TRIGGER count_writes AFTER UPDATE ON calls FOR EACH ROW INSERT INTO writes VALUES (new.id)"],
}


def test_two_runs_at_once(runs: Runs, database: Database, jobs: int) -> None:
    """Both end well, and each row is written once: fifty batches are enough for them to meet."""
    rows = 200
    database.make([(str(i), blob(30)) for i in range(rows)])
    database.ask("CREATE TABLE writes (id VARCHAR(99))")
    for statement in COUNTED[database.kind]:
        database.ask(statement)
    job = {"url": database.url, "rows": 10, "batch_size": 4, "jobs": jobs}
    runs.start(job, job)
    assert runs.ends() == [0, 0]
    assert database.ask("SELECT count(*), count(DISTINCT id) FROM writes") == [(rows, rows)]
    assert set(database.cells().values()) == {reduced(blob(30), 10)}
