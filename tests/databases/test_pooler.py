"""Jobs through a pooler in transaction mode, which gives each transaction another session of the server's."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import create_engine

from callstats import Rule, reduce_json
from callstats.db import connect
from callstats.db.engine import parse_url
from support.database import blob
from support.databases import Database
from support.servers import pooled
from support.tables import add_calls, create_table, export_table, list_calls, reduce_table, restore_table, summarize_table

RULE = Rule(10, how="mean")
DONE = reduce_json([blob(12)], RULE)[0].decode()
ROWS = 60


def test_a_job_through_a_pooler_twice(postgres: Database, tmp_path: Path) -> None:
    """The second run gets sessions in which the first would have prepared its statements."""
    postgres.make([(f"{i:02}", blob(12)) for i in range(ROWS)])
    assert postgres.server is not None
    with pooled(postgres.server, postgres.name) as url:
        for name in ("one", "other"):
            result = reduce_table(url, RULE, batch_size=4, save=tmp_path / name)
            assert (result.changed, result.stopped) == (ROWS, None)
            assert set(postgres.cells().values()) == {DONE}
            back = restore_table(url, tmp_path / name)
            assert (back.restored, back.stopped) == (ROWS, None)
            assert set(postgres.cells().values()) == {blob(12)}
        assert summarize_table(url, by="id").calls == ROWS
        assert export_table(url, tmp_path / "calls.parquet").written == ROWS
        assert create_table(url, table="others") == "created"
        assert add_calls(url, [{"id": str(i), "stats": ""} for i in range(300)], table="others") == 300
        assert len(list_calls(url, None, table="others")) == 300


def test_two_jobs_through_a_pooler_at_once(postgres: Database) -> None:
    """Each transaction of either is its own, and each row is reduced once."""
    postgres.make([(f"{i:02}", blob(12)) for i in range(ROWS)])
    assert postgres.server is not None
    with pooled(postgres.server, postgres.name) as url:
        results = []
        jobs = [threading.Thread(target=lambda: results.append(reduce_table(url, RULE, batch_size=2))) for _ in range(3)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert [result.stopped for result in results] == [None] * 3
    assert sum(result.changed for result in results) == ROWS
    assert set(postgres.cells().values()) == {DONE}


def test_workers_through_a_pooler(postgres: Database) -> None:
    """Three connections of one job share the server's sessions."""
    postgres.make([(f"{i:02}", blob(12)) for i in range(ROWS)])
    assert postgres.server is not None
    with pooled(postgres.server, postgres.name) as url:
        result = reduce_table(url, RULE, batch_size=4, jobs=3)
    assert (result.changed, result.stopped) == (ROWS, None)
    assert set(postgres.cells().values()) == {DONE}


def test_an_engine_of_the_callers_through_a_pooler(postgres: Database) -> None:
    """Its connections prepare no statement during a job, and do so again afterwards."""
    postgres.make([(f"{i:02}", blob(12)) for i in range(ROWS)])
    assert postgres.server is not None
    with pooled(postgres.server, postgres.name) as url:
        engine = create_engine(parse_url(url))
        for changed in (ROWS, 0):
            assert connect(engine).reduce(RULE, batch_size=4).changed == changed
            with engine.connect() as connection:
                assert connection.connection.dbapi_connection.prepare_threshold == 5  # type: ignore[union-attr]
        engine.dispose()
