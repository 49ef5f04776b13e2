"""`connect` and `CallTable`: calls are added, read and reduced through one handle, on all databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callstats import KEEP_PEAKS, Call, CallstatsError, Rule, StatSeries, connect, reduce_json
from callstats.errors import ArgumentError
from callstats.stats.call import usage_of
from support.database import ask, blob, made
from support.databases import Database

MINUTE = StatSeries([second * 10**9 for second in range(60)], {"mem_usage": range(1, 61), "cpu_total": [50] * 60})
STARTED = datetime(2026, 11, 25, 12, tzinfo=UTC)
FULL = Call(
    key="01",
    series=MINUTE,
    status="success",
    name="resize",
    tags={"team": "web", "é": "1"},
    created_at=STARTED,
    started_at=STARTED,
    completed_at=STARTED + timedelta(seconds=90),
    exit_code=3,
    error="none",
)


def test_a_call_comes_back(database: Database) -> None:
    """Each value of a Call is stored, and its usage takes the duration from the columns."""
    with connect(database.url) as calls:
        assert calls.create() == "created"
        assert calls.add([FULL, Call(key="02", series=MINUTE)]) == 2
        found = calls.get("01")
        assert (found.key, found.series, found.status, found.name) == ("01", MINUTE, "success", "resize")
        assert (found.tags, found.exit_code, found.error) == (FULL.tags, 3, "none")
        assert (found.created_at, found.completed_at) == ("2026-11-25T12:00:00.000Z", "2026-11-25T12:01:30.000Z")
        assert found.usage == usage_of(MINUTE, 90 * 10**9)
        assert found.to_pandas().equals(MINUTE.to_pandas())
        assert [call.key for call in calls.list()] == ["02", "01"]
        assert [call.key for call in calls.list(1)] == ["02"]
        assert [call.key for call in calls.list(where="status = 'success'")] == ["01"]
        bare = calls.get()
        assert (bare.key, bare.name, bare.tags, bare.exit_code) == ("02", None, {}, None)
        assert calls.create() == "nothing"


def test_columns_that_are_left_out_get_their_defaults(database: Database) -> None:
    """Mappings may differ in their columns; one that the table lacks adds no row at all."""
    database.make([], more=", app_id VARCHAR(9) DEFAULT 'app'")
    with connect(database.url) as calls:
        assert calls.add([{"id": "a", "stats": MINUTE}, {"id": "b", "app_id": "x"}, {"id": "c", "stats": ""}]) == 3
        with pytest.raises(ArgumentError, match=r"^calls must be a column of table 'calls', got 'colour': it has 'id', "):
            calls.add([{"id": "d"}, {"id": "e", "colour": "red"}])
        assert len(calls.list()) == 3
    assert database.ask("SELECT id, app_id FROM calls ORDER BY id") == [("a", "app"), ("b", "x"), ("c", "app")]


def test_calls_that_end(database: Database) -> None:
    """A running row is completed once, a missing one inserted, and any other stays; keys are compared as their type is."""
    begun = Call(key="01", name="resize", status="running", series=StatSeries([], {}))
    with connect(database.url) as calls:
        calls.create()
        assert calls.begin(begun) == calls.max_blob_bytes()
        assert calls.get("01").status == "running"
        assert calls.finish([FULL, Call(key="02", status="error", series=MINUTE)]) == 2
        assert calls.finish([Call(key="01", status="error", series=MINUTE), Call(key="03", series=MINUTE)]) == 1
        assert [(call.key, call.status, call.series) for call in calls.list()] == [
            ("03", None, MINUTE),
            ("02", "error", MINUTE),
            ("01", "success", MINUTE),
        ]


def test_keys_as_a_command_line_has_them(database: Database) -> None:
    """Digits find a number too; what no key can be finds nothing, however long it is."""
    database.make([(7, blob(2)), (-8, "")], key="BIGINT")
    with connect(database.url) as calls:
        assert (calls.get("7").key, calls.get(-8).key) == (7, -8)
        for none in ("x", "07x", 8, "8", "9" * 19, "9" * 20, "9" * 5000, 2**64, b"7", ""):
            with pytest.raises(ArgumentError, match=r"^key must be the key of a call in table 'calls', got .*: list "):
                calls.get(none)


def test_a_blob_that_is_rejected(tmp_path: Path) -> None:
    """Its call has no series, and says why; it can't be drawn up as a table or added elsewhere."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats)"
    db = made(tmp_path / "calls.db", [("a", "x" * 9), ("b", None)], table=table)
    ask(db, "INSERT INTO calls (id, stats) VALUES ('c', 5)")
    with connect(db) as calls:
        bad = calls.get("a")
        assert (bad.series, bad.rejected) == (None, "byte 0: expected value, got 'x'")
        assert calls.get("c").rejected == "expected text or bytes, got a value of type integer"
        assert (calls.get("b").rejected, len(calls.get("b").series or ())) == (None, 0)
        assert bad.usage == usage_of(None)
        with pytest.raises(CallstatsError, match=r"^call 'a' has no series: byte 0: "):
            bad.to_pandas()
        with pytest.raises(ArgumentError, match=r"^calls must be calls with a series, got 'a': its blob was rejected: byte 0"):
            calls.add([bad])


def test_an_older_table_is_extended(database: Database) -> None:
    """It gets the columns and the index that it lacks, and keeps its rows; before that it works without them."""
    database.make([("a", blob(3))], more=", created_at TEXT", columns="id, stats")
    with connect(database.url) as calls:
        assert calls.get("a").tags == {}
        assert (calls.create(), calls.create()) == ("added", "nothing")
        calls.add([Call(key="b", series=MINUTE, tags={"x": "1"}, exit_code=1)])
        assert (calls.get("b").tags, calls.get("b").exit_code, calls.get("a").exit_code) == ({"x": "1"}, 1, None)
    assert database.ask("SELECT id, command, host, pid FROM calls WHERE id = 'a'") == [("a", None, None, None)]


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_table_of_another_schema(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every verb takes ``schema.table``."""
    database: Database = request.getfixturevalue(kind)
    other = f"{database.name}_other"
    database.ask(f"CREATE {'SCHEMA' if kind == 'postgres' else 'DATABASE'} {other}")
    try:
        with connect(database.url, table=f"{other}.runs") as calls:
            assert (calls.create(), calls.create()) == ("created", "nothing")
            assert calls.add([FULL]) == 1
            assert calls.reduce(10, save=tmp_path / "old.jsonl").changed == 1
            assert len(calls.get("01").series or ()) == 10
            assert calls.restore(tmp_path / "old.jsonl").restored == 1
            assert calls.summarize().groups[0].summary.memory.max == 60
            assert calls.max_blob_bytes() is None or calls.max_blob_bytes() == 2**24 - 1
        with pytest.raises(CallstatsError, match=r"runs"):
            connect(database.url, table="runs").get()
    finally:
        database.ask(f"DROP SCHEMA {other} CASCADE" if kind == "postgres" else f"DROP DATABASE {other}")


def test_names_of_columns(tmp_path: Path) -> None:
    """A new table has the columns under the names of the handle, and the verbs use them."""
    names: dict[str, Any] = {"table": "runs", "key": "run", "column": "hist", "group_column": "job", "time_column": "came"}
    with connect(tmp_path / "runs.db", **names) as runs:
        runs.create()
        runs.add([Call(key="a", name="build", series=MINUTE, created_at="2026-11-25T12:00:00Z")])
        assert (runs.get().name, runs.get().created_at) == ("build", "2026-11-25T12:00:00Z")
        found = runs.reduce(tiers=[(timedelta(0), 10)], as_of="2026-11-26T00:00:00Z")
        assert found.changed == 1
        assert runs.summarize(top=1).heaviest[0].name == "build"
        assert runs.summarize(top=1, by=None).heaviest[0].name is None
        assert runs.summarize(by="status").by == "status"


def test_peaks_are_kept_by_default(database: Database) -> None:
    """Without a `how` a table keeps peaks, so usage stays as exact; a `how` of the caller's replaces that."""
    with connect(database.url) as calls:
        calls.create()
        calls.add([FULL])
        before = calls.get().usage
        for rows in (30, 10, 2):
            assert calls.reduce(rows).changed == 1
            after = calls.get().usage
            for name in ("peak_memory", "memory_limit", "cpu_peak", "duration_ns", "samples"):
                assert (getattr(after, name), name in after.exact) == (getattr(before, name), name in before.exact)
        assert calls.get().series == StatSeries.from_json(
            reduce_json(reduce_json(reduce_json([MINUTE.to_json()], 30, how=KEEP_PEAKS), 10, how=KEEP_PEAKS), 2, how=KEEP_PEAKS)[
                0
            ]
        )
        calls.add([Call(key="02", series=MINUTE)])
        calls.reduce(Rule(2, how="mean"))
        assert (calls.get().series or MINUTE).names == ("cpu_total", "mem_usage")


def test_metrics_that_no_blob_has_are_reported(database: Database) -> None:
    """Only names that the caller wrote, and only if a blob was read; in a dry run too."""
    database.make([("a", blob(30)), ("b", blob(30, metric="m\\u0065m"))])
    how = {"mem_usage": "max", "cpu_totl": "max", "timestamp": "max", "mem_working": ("mean", "max"), "*": "mean"}
    with connect(database.url) as calls:
        for dry_run in (True, False):
            found = calls.reduce(10, how=how, dry_run=dry_run)  # type: ignore[arg-type]
            assert (found.changed, found.unknown_metrics) == (2, ("cpu_totl", "timestamp"))
        assert calls.reduce(99, how=how).unknown_metrics == ()  # type: ignore[arg-type]
        assert calls.reduce(5).unknown_metrics == ()


def test_a_misspelt_keyword_is_named(tmp_path: Path) -> None:
    """With the one that it was meant for."""
    with pytest.raises(TypeError, match=r"^connect: unexpected keyword 'tble': did you mean 'table'\?$"):
        connect(tmp_path / "calls.db", tble="x")  # type: ignore[call-arg]
    with connect(tmp_path / "calls.db") as calls, pytest.raises(TypeError, match=r"unexpected keyword 'hwo': did you mean 'how'"):
        calls.reduce(10, hwo="max")  # type: ignore[call-arg]


def test_a_handle_shows_no_password() -> None:
    """Its repr names the table and the database."""
    with connect("postgres://user:s3kr3t@host/db", table="runs") as calls:
        assert repr(calls) == "<CallTable 'runs' of 'postgresql+psycopg://user:***@host/db'>"
