"""Cells on servers: columns that hold only so much, character sets, and what the server refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from callstats import CallstatsError, Rule, StatSeries, reduce_json
from support.database import blob
from support.databases import Database
from support.tables import add_calls, reduce_table, restore_table

NINE = ["cpu_total", "cpu_user", "cpu_kernel", "mem_usage", "mem_limit", "net_rx", "net_tx", "disk_read", "disk_write"]
COLLATIONS = ["utf8mb4_general_ci", "utf8mb4_bin"]
MODES = {"strict": "STRICT_TRANS_TABLES", "not strict": ""}


def large(rows: int) -> str:
    """Nine metrics at 2**64 - 1, so many times."""
    times = [(1_511_794_373 + i) * 10**9 for i in range(rows)]
    return StatSeries(times, {name: [2**64 - 1] * rows for name in NINE}).to_db()


@contextmanager
def sql_mode(database: Database, mode: str) -> Iterator[None]:
    """The mode that new sessions have."""
    [(before,)] = database.ask("SELECT @@GLOBAL.sql_mode")
    database.ask("SET GLOBAL sql_mode = ?", mode)
    try:
        yield
    finally:
        database.ask("SET GLOBAL sql_mode = ?", before)


@pytest.mark.parametrize("collation", COLLATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_mysqls_text_is_never_cut(mysql: Database, mode: str, collation: str) -> None:
    """The 65,535 bytes of TEXT are found by itself: a reduction that would be larger is made to fit."""
    mysql.make([("a", large(189)), ("b", blob(12))], stats=f"TEXT COLLATE {collation}")
    rule = Rule(181, how=("mean", "min", "max", "last"))
    assert len(reduce_json([large(189)], rule)[0]) > 65_535
    with sql_mode(mysql, MODES[mode]):
        report = reduce_table(mysql.url, rule)
    assert (report.changed, report.rejected) == (1, 0)
    assert mysql.cell("a").encode() == reduce_json([large(189)], replace(rule, max_bytes=65_535))[0]
    assert len(mysql.cell("a")) <= 65_535


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_fit_is_refused_before_any_sql(mysql: Database, mode: str, tmp_path: Path) -> None:
    """240 rows of nine metrics at 2**64 - 1 take 82,802 bytes: into TEXT they are neither cut nor put back."""
    assert len(large(240)) == 82_802
    mysql.make([("a", "x"), ("b", "y")], stats="TEXT", more=", app_id TEXT, fn_id TEXT, created_at TEXT, started_at TEXT, "
               "completed_at TEXT, error TEXT")  # fmt: skip
    mysql.make([("b", blob(99)), ("a", large(240))], stats="MEDIUMTEXT", table="roomy")
    reduce_table(mysql.url, 12, table="roomy", save=tmp_path / "old.jsonl")
    with sql_mode(mysql, MODES[mode]):
        message = (
            r"stats\['a'\] must be a blob of at most the 65535 bytes that column 'stats' holds, got 82802: reduce it, or give"
        )
        with pytest.raises(CallstatsError, match=message):
            restore_table(mysql.url, tmp_path / "old.jsonl")
        row = dict.fromkeys(["app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "error"])
        with pytest.raises(CallstatsError, match=r"stats\['c'\] must be a blob of at most the 65535 bytes"):
            add_calls(mysql.url, [{**row, "id": "n", "stats": ""}, {**row, "id": "c", "stats": large(240)}])
    assert mysql.cells() == {"a": "x", "b": "y"}
    assert restore_table(mysql.url, tmp_path / "old.jsonl", table="roomy").restored == 2
    assert reduce_table(mysql.url, Rule(240, max_bytes=65_535), table="roomy").changed == 1


@pytest.mark.parametrize("collation", COLLATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_cut_blob_is_left_as_it_is(mysql: Database, mode: str, collation: str) -> None:
    """A histogram that a server that isn't strict has cut at 65,535 bytes is refused, and its row keeps what is left of it."""
    with sql_mode(mysql, ""):
        mysql.make([("a", large(240)), ("b", blob(700))], stats=f"TEXT COLLATE {collation}")
    cut = mysql.cell("a")
    assert cut == large(240)[:65_535]
    with sql_mode(mysql, MODES[mode]):
        report = reduce_table(mysql.url, 60)
    assert (report.changed, [reject.key for reject in report.rejects]) == (1, ["a"])
    assert mysql.cell("a") == cut


def test_varchar_has_room_for_so_much(on_server: Database) -> None:
    """A reduction that a VARCHAR can't hold is made to fit; one that can't fit is refused."""
    on_server.make([("a", blob(12))], stats=f"VARCHAR({len(blob(12))})")
    assert reduce_table(on_server.url, Rule(11, how=("mean", "min", "max", "first", "last"))).changed == 1
    assert 0 < len(on_server.cell("a")) <= len(blob(12))


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_bytes_that_are_no_text(on_server: Database, batch_size: int) -> None:
    """A valid BLOB is reduced and stays one; what is no UTF-8, or has a NUL after its array, is refused by its key."""
    bad = {"ff": b"[\xff]", "nul": blob(12).encode() + b"\0", "long": b"[" + b" " * 999 + b"\xff]"}
    on_server.make([("a", blob(12).encode()), *bad.items(), ("z", blob(12).encode())], stats="blob")
    report = reduce_table(on_server.url, 10, verify=True, batch_size=batch_size)
    want = reduce_json([blob(12)], 10)[0]
    assert on_server.cells() == {"a": want, **bad, "z": want}
    assert (report.changed, report.rejected) == (2, 3)
    assert {reject.key for reject in report.rejects} == bad.keys()
    assert all(reject.reason.startswith("byte ") for reject in report.rejects)


@pytest.mark.parametrize("collation", [*COLLATIONS, "latin1_swedish_ci", "utf8mb3_general_ci"])
@pytest.mark.parametrize("mode", MODES)
def test_text_that_is_none_in_mysql(mysql: Database, mode: str, collation: str) -> None:
    """A NUL after the array is refused by its key, and all other rows are done, names with letters beyond ASCII too."""
    charset = collation.partition("_")[0]
    rows = {"a": blob(12, metric="méthode"), "nul": blob(12) + "\0", "z": blob(12)}
    mysql.make(rows.items(), stats=f"LONGTEXT CHARACTER SET {charset} COLLATE {collation}")
    with sql_mode(mysql, MODES[mode]):
        report = reduce_table(mysql.url, 10, verify=True)
    assert (report.changed, [reject.key for reject in report.rejects]) == (2, ["nul"])
    assert mysql.cells() == {key: text if key == "nul" else reduce_json([text], 10)[0].decode() for key, text in rows.items()}


def test_a_latin1_database(postgres: Database) -> None:
    """Text in another encoding is read and written as the same letters."""
    assert postgres.server is not None
    name = f"{postgres.name}_latin1"
    postgres.ask(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    other = Database("postgres", postgres.server.url(name), postgres.server, name)
    try:
        other.make([("é", blob(12, metric="méthode"))])
        assert reduce_table(other.url, 10).changed == 1
        assert other.cells() == {"é": reduce_json([blob(12, metric="méthode")], 10)[0].decode()}
    finally:
        postgres.server.drop_database(name)


def test_what_the_server_refuses_is_one_row(on_server: Database) -> None:
    """A constraint or a trigger refuses its row alone, and the reason holds nothing of the row."""
    on_server.make([(key, blob(12)) for key in "abc"], more=", CHECK (id <> 'b' OR length(stats) > 500)")
    report = reduce_table(on_server.url, 1)
    assert (report.changed, report.rejected, report.stopped) == (2, 1, None)
    assert report.rejects[0].key == "b"
    assert report.rejects[0].reason.startswith("the database rejects the reduced text: ")
    assert "timestamp" not in report.rejects[0].reason
    assert [on_server.cell(key) == blob(12) for key in "abc"] == [False, True, False]


def test_a_dry_run_writes_nothing(database: Database) -> None:
    """It reports what a run would do, and the largest change of a peak and of a mean."""
    flat = StatSeries([i * 10**9 for i in range(20)], {"x": [100] * 20}).to_db()
    some = [None] * 3 + [1000] + [None] * 12 + [900] * 4  # the first one weighs as four in the mean of a reduced row
    spike = StatSeries([i * 10**9 for i in range(20)], {"x": [100] * 19 + [1100], "y": some}).to_db()
    database.make([("flat", flat), ("spike", spike), ("none", "x" * 999)])
    before = database.cells()
    dry = reduce_table(database.url, 5, dry_run=True)
    assert database.cells() == before
    assert (dry.changed, dry.rejected, dry.dry_run) == (2, 1, True)
    assert dry.peak_change is not None
    assert dry.peak_change[:3] == ("spike", "x", 1100)
    assert dry.peak_change.after is not None
    assert dry.peak_change.after < 1100
    assert dry.mean_change is not None
    assert dry.mean_change == ("spike", "y", 920, 950)
    kept = reduce_table(database.url, Rule(5, how=("mean", "max")), dry_run=True)
    assert kept.peak_change is None
    gone = reduce_table(database.url, 0, dry_run=True)
    assert gone.peak_change is not None
    assert (gone.peak_change.after, gone.peak_change.share) == (None, 1.0)
    wet = reduce_table(database.url, 5)
    assert (wet.changed, wet.bytes_before, wet.bytes_after) == (dry.changed, dry.bytes_before, dry.bytes_after)
    assert (wet.peak_change, wet.mean_change) == (None, None)
