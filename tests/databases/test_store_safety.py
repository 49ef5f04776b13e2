"""The job works on the only copy, while other programs write and machines go down."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import create_engine

import callstats.db.jobs.worker
from callstats import Rule, reduce_json
from callstats.db import DatabaseError
from callstats.db.jobs.base import Job
from callstats.db.jobs.worker import Attempts
from callstats.db.results import ConnectionLostError, StoppedError, TimedOutError, TransientError
from support.database import Value, ask, blob, cell, cells, connect, made
from support.databases import Database
from support.programs import started
from support.tables import create_table, reduce_table, restore_table

RULE = Rule(10, how={"mem_usage": ("mean", "max")})

CASE = blob(12), blob(12, metric="Mem_Usage")
SPACE = blob(12), blob(12).rstrip("\n") + " \n"

Change = tuple[str, tuple[Value, ...], Value]
CHANGES: dict[str, Change] = {
    "another histogram": ("UPDATE calls SET stats = ? WHERE id = 'b'", (blob(50),), reduce_json([blob(50)], RULE)[0].decode()),
    "a name's case": ("UPDATE calls SET stats = ? WHERE id = 'b'", (CASE[1],), reduce_json([CASE[1]], RULE)[0].decode()),
    "a trailing space": ("UPDATE calls SET stats = ? WHERE id = 'b'", (SPACE[1],), reduce_json([SPACE[1]], RULE)[0].decode()),
    "a short one": ("UPDATE calls SET stats = ? WHERE id = 'b'", (blob(2),), blob(2)),
    "NULL": ("UPDATE calls SET stats = NULL WHERE id = 'b'", (), None),
    "what is none": ("UPDATE calls SET stats = ? WHERE id = 'b'", ("x" * 999,), "x" * 999),
    "a BLOB": ("UPDATE calls SET stats = CAST(stats AS BLOB) WHERE id = 'b'", (), reduce_json([blob(12)], RULE)[0]),
    "another column": ("UPDATE calls SET status = 'seen' WHERE id = 'b'", (), reduce_json([blob(12)], RULE)[0].decode()),
}


def writes_once(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another program write when the job has read its first batch, and not yet locked it."""
    real = callstats.db.jobs.worker.reduce_json
    left = [change]

    def reduce_and_write(*args: Any, **options: Any) -> Any:
        results = real(*args, **options)
        if left:
            left.pop()()
        return results

    monkeypatch.setattr(callstats.db.jobs.worker, "reduce_json", reduce_and_write)


@pytest.mark.parametrize(("turn", "pause"), [(0, 0.1), (1, 0.2), (4, 1.6), (40, 5.0)])
def test_pauses_grow(turn: int, pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is at most twice the one before it and at least half of that, and none is longer than the longest."""
    monkeypatch.setattr(callstats.db.jobs.worker, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(callstats.db.jobs.worker, "_LONGEST_PAUSE", 5.0)
    for drawn in (0.5, 1.0):
        monkeypatch.setattr("random.uniform", lambda low, high, drawn=drawn: {0.5: low, 1.0: high}[drawn])
        assert callstats.db.jobs.worker.backoff(turn) == pytest.approx(drawn * pause)


def test_a_step_is_tried_again() -> None:
    """After each transient error, up to so many in a row; batches shrink where the server had no time for them."""
    pauses: list[float] = []
    lost: list[bool] = []
    job: Any = SimpleNamespace(pause=pauses.append, count_retry=lambda: None)
    session: Any = SimpleNamespace(connection=SimpleNamespace(invalidate=lambda: lost.append(True)))
    attempts = Attempts(job, session, 3)
    errors = [TimedOutError("late"), ConnectionLostError("gone"), TransientError("deadlock"), TimedOutError("too late")]
    steps = iter(errors)

    def step() -> str:
        if (error := next(steps, None)) is not None:
            raise error
        return "done"

    with pytest.raises(DatabaseError, match=r"^too late; tried 4 times$"):
        attempts.attempt(step)
    assert (len(pauses), len(lost), attempts.shrink) == (3, 1, 4)
    steps = iter(errors[1:])
    assert attempts.attempt(step) == "done"
    assert (len(pauses), len(lost), attempts.shrink) == (6, 2, 8)
    steps = iter([StoppedError("asked to stop")])
    with pytest.raises(StoppedError):
        attempts.attempt(step)
    assert len(pauses) == 6


def test_a_pause_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks ten times a second whether to stop, and does nothing else."""
    now = [5.0]
    slept: list[float] = []
    asked: list[bool] = []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", sleep)
    job = Job({"stop": lambda: asked.append(True) or len(asked) == 7})
    job.pause(0.0)
    assert (slept, len(asked)) == ([], 1)
    job.pause(0.25)
    assert (slept, len(asked)) == ([0.1, 0.1, 0.05], 5)
    with pytest.raises(StoppedError, match=r"^asked to stop$"):
        job.pause(0.25)
    assert len(slept) == 4


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_write_between_read_and_lock_is_kept(tmp_path: Path, kind: str, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another program wrote meanwhile is what gets reduced; nothing of it is overwritten, and the other rows are done."""
    rows = [(key, blob(12)) for key in "abc"]
    db = made(tmp_path / "calls.db", rows, before=[f"PRAGMA journal_mode = {journal}"])
    statement, values, want = CHANGES[kind]
    writes_once(lambda: ask(db, statement, *values), monkeypatch)
    saved = tmp_path / "old.jsonl"
    report = reduce_table(db, RULE, save=saved)
    reduced = reduce_json([blob(12)], RULE)[0].decode()
    assert [cell(db, key) for key in "abc"] == [reduced, want, reduced]
    assert report.rows == 3
    assert report.rejected == (kind == "what is none")
    assert report.changed == (2 if kind in ("a short one", "NULL", "what is none") else 3)
    restore_table(db, saved)
    assert [cell(db, key) for key in "ac"] == [blob(12)] * 2
    assert cell(db, "b") == {"a BLOB": blob(12).encode(), "another column": blob(12)}.get(kind, (*values, None)[0])


@pytest.mark.usefixtures("backend")
def test_rows_that_come_and_go_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted row stays deleted; a new row is left whole, for this run or the next."""
    db = made(tmp_path / "calls.db", [(key, blob(12)) for key in "abcd"])

    def change() -> None:
        ask(db, "DELETE FROM calls WHERE id = 'b'")
        ask(db, "INSERT INTO calls (id, stats) VALUES ('aa', ?)", blob(13))
        ask(db, "INSERT INTO calls (id, stats) VALUES ('e', ?)", blob(14))

    writes_once(change, monkeypatch)
    report = reduce_table(db, RULE, batch_size=2)
    assert report.changed == 4
    assert [row[0] for row in cells(db)] == ["a", "aa", "c", "d", "e"]
    assert cell(db, "aa") == blob(13)
    assert reduce_table(db, RULE).changed == 1


@pytest.mark.usefixtures("backend")
def test_no_lock_is_held_while_reducing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is for the writing: a program that won't wait can write while a batch is reduced."""
    db = made(tmp_path / "calls.db", [(str(i), blob(12)) for i in range(9)])
    real = callstats.db.jobs.worker.reduce_json
    written = []

    def reduce_and_write(blobs: list[bytes], *args: Any, **options: Any) -> Any:
        if blobs:  # none under the lock, since no histogram has changed
            with closing(connect(db, timeout=0)) as other:
                other.execute("BEGIN EXCLUSIVE")
                other.execute("UPDATE calls SET status = 'seen' WHERE id = '8'")
                other.execute("COMMIT")
            written.append(len(blobs))
        return real(blobs, *args, **options)

    monkeypatch.setattr(callstats.db.jobs.worker, "reduce_json", reduce_and_write)
    assert reduce_table(db, RULE, batch_size=3).changed == 9
    assert written == [3, 3, 3]


@pytest.mark.usefixtures("backend")
def test_a_lock_that_stays_ends_the_job(tmp_path: Path) -> None:
    """Another program that never lets go: what was done stays done, the rest is left, and the report says so."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(9)])
    with closing(connect(db)) as other:
        report = reduce_table(
            f"sqlite:///{db}?timeout=0.05", RULE, batch_size=3, progress=lambda _: other.execute("BEGIN IMMEDIATE")
        )
    assert report.stopped == "database is locked: another program kept its lock for too long"
    assert (report.changed, report.rows) == (3, 3)
    assert [cell(db, str(i)) == blob(12) for i in range(9)] == [False] * 3 + [True] * 6
    assert reduce_table(db, RULE).changed == 6


@pytest.mark.usefixtures("backend")
def test_an_interrupt_rolls_its_batch_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt passes through; the batch at hand is not written, half or whole, nor kept as saved."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(9)])
    real = callstats.db.jobs.worker.SavedBlob
    made_cells = []

    def interrupted(*args: Any) -> Any:
        made_cells.append(args)
        if len(made_cells) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(callstats.db.jobs.worker, "SavedBlob", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reduce_table(db, RULE, batch_size=3, save=tmp_path / "old.jsonl")
    assert [cell(db, str(i)) == blob(12) for i in range(9)] == [False] * 3 + [True] * 6
    assert len((tmp_path / "old.jsonl").read_bytes().splitlines()) == 3
    with closing(connect(db, timeout=0)) as other:
        other.execute("BEGIN EXCLUSIVE")


# --- other processes --------------------------------------------------------------------------------------------------

SLOWLY = """
import itertools, sys, time
import callstats.db.jobs.worker as job
from callstats import Rule
from callstats.db import connect
real, batches = job.reduce_json, itertools.count()
def slowly(*args, **options):
    time.sleep(0.01 if next(batches) < int(sys.argv[4]) else 60)
    return real(*args, **options)
job.reduce_json = slowly
rule = Rule(10, how={"mem_usage": ("mean", "max")})
tell = lambda report: print(report.rows, flush=True)
report = connect(sys.argv[1]).reduce(rule, batch_size=int(sys.argv[2]), save=sys.argv[3], progress=tell)
assert report.stopped is None, report.stopped
"""


@contextmanager
def slow_job(db: Path, batch_size: int, save: Path, stalls_after: int = 10**6) -> Iterator[subprocess.Popen[str]]:
    """Run a job in a process of its own that takes about 10 ms a batch, and stalls after so many.

    The job begins its second batch before the block.
    """
    command = [sys.executable, "-c", SLOWLY, str(db), str(batch_size), str(save), str(stalls_after)]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{batch_size}\n"
        yield process


def code_of(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a job, and give its code."""
    process.communicate(timeout=60)
    return process.returncode


def test_killed_runs_lose_nothing(tmp_path: Path) -> None:
    """Killed at random moments, then run to the end, it gives what a calm run gives; importing what was saved undoes that."""
    rows: list[tuple[Value, Value]] = [(f"{i:03}", blob(11 + i % 5, seed=i)) for i in range(600)]
    calm, db = made(tmp_path / "calm.db", rows), made(tmp_path / "killed.db", rows)
    before = cells(db)
    reduce_table(calm, RULE)
    moments = random.Random(24)
    saved = [tmp_path / f"old{turn}.jsonl" for turn in range(10)]
    for file in saved[:-1]:
        with slow_job(db, 5, file, stalls_after=12) as job:  # on a busy machine the kill may come late
            time.sleep(moments.uniform(0, 0.04))
            job.kill()
            assert code_of(job) == -signal.SIGKILL
        for (_, _, raw), old, new in zip(cells(db), before, cells(calm), strict=True):
            assert raw in (old[2], new[2])
    report = reduce_table(db, RULE, save=saved[-1])
    assert 0 < report.changed < 600
    assert cells(db) == cells(calm)
    for file in saved:
        assert restore_table(db, file).unknown == 0
    assert cells(db) == before


def test_a_second_writer_loses_nothing(tmp_path: Path) -> None:
    """Rows that another program changes all the while, in a name's case or a trailing space only, keep its last change."""
    rows: list[tuple[Value, Value]] = [(str(i), CASE[0]) for i in range(200)]
    db = made(tmp_path / "calls.db", rows)
    last: dict[str, str] = {}
    done = threading.Event()

    def write() -> None:
        choose = random.Random(25)
        with closing(connect(db, timeout=30)) as other:
            while not done.is_set():
                key, text = str(choose.randrange(200)), choose.choice([*CASE, *SPACE])
                other.execute("UPDATE calls SET stats = ? WHERE id = ?", [text, key])
                last[key] = text
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(2):
            with slow_job(db, 10, tmp_path / f"old{turn}.jsonl") as job:
                assert code_of(job) == 0
    finally:
        done.set()
        writer.join()
    assert len(last) > 20
    reduce_table(db, RULE)
    for key, _ in rows:
        text = last.get(str(key), CASE[0])
        assert cell(db, key).encode() == reduce_json([text], RULE)[0]


def test_two_jobs_at_once(tmp_path: Path) -> None:
    """Both end well, and each row is written once."""
    db = made(tmp_path / "calls.db", [(str(i), blob(12)) for i in range(200)])
    with closing(connect(db)) as to:
        to.execute("CREATE TABLE writes (id)")
        to.execute("CREATE TRIGGER count_writes AFTER UPDATE ON calls BEGIN INSERT INTO writes VALUES (new.id); END")
    with slow_job(db, 10, tmp_path / "one.jsonl") as one, slow_job(db, 10, tmp_path / "two.jsonl") as two:
        assert [code_of(one), code_of(two)] == [0, 0]
    assert ask(db, "SELECT count(*), count(DISTINCT id) FROM writes") == [(200, 200)]
    assert reduce_table(db, RULE).changed == 0


def test_secure_delete(tmp_path: Path) -> None:
    """On, old histograms are gone from the file; off, they stay in its free pages. The caller's setting is restored."""
    marks = {}
    for on in (True, False):
        path = made(tmp_path / f"{on}.db", [(str(i), blob(999, metric="a_mark_of_old")) for i in range(20)])
        assert reduce_table(str(path), 2, secure_delete=on).changed == 20
        marks[on] = path.read_bytes().count(b"a_mark_of_old")
    assert marks[True] == 40
    assert marks[False] > 1000
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for value, kept in [("ON", 1), ("OFF", 0), ("FAST", 2)]:
            connection.exec_driver_sql(f"PRAGMA secure_delete = {value}")
            for on in (True, False, None):
                create_table(engine)
                reduce_table(engine, 2, secure_delete=on)
                assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == kept
    engine.dispose()


def test_only_sqlite_has_secure_delete(on_server: Database) -> None:
    """For a server it is wrong use."""
    on_server.make([("a", blob(12))])
    with pytest.raises(ValueError, match=r"^secure_delete must be None for a server: only SQLite has it, got False$"):
        reduce_table(on_server.url, 2, secure_delete=False)
    assert on_server.cells() == {"a": blob(12)}
