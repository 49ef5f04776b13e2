"""Corners in which a job could lose data, or leave rows alone without saying so: each is told, on every database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from callstats import CallstatsError, Rule, StatSeries, reduce_json
from support.database import blob
from support.databases import Database
from support.tables import reduce_table
from support.zoo import SECOND

RULE = Rule(10, how={"mem_usage": ("mean", "max")})
DONE = reduce_json([blob(12)], RULE)[0].decode()
TIERED = Rule(None, how=RULE.how)
WEEK = [(timedelta(days=7), 10)]

# --- times of a tier ----------------------------------------------------------------------------------------------------

NO_TIMES = [
    1577836800, 1577836800000, "2020-01-01 00:00:00 UTC", "Wed, 01 Jan 2020 00:00:00 GMT", "not a time", "2020-02-30",
    "2020-02-30T00:00:00Z", "2020-13-01", "2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00", "2020-1-1", "now",
    "2020-01-01T00:00:00+24:00", "2457000.5",
]  # fmt: skip
TIMES = ["2020-01-01", "2020-02-29", "2020-01-01T00:00:00Z", "2019-12-31t23:00:00.5-02:00"]
WITHOUT = [None, "", "0001-01-01T00:00:00.000Z"]


def timed(database: Database, times: list[object], rows: int = 12) -> None:
    """A table with a row for each time."""
    kind = "" if database.kind == "sqlite" else "VARCHAR(99)"
    cells = [(f"{i:02}", blob(rows), time) for i, time in enumerate(times)]
    database.make(cells, more=f", created_at {kind}", columns="id, stats, created_at")


@pytest.mark.parametrize("batch_size", [4, 1000])
@pytest.mark.parametrize("dry_run", [True, False])
def test_times_that_cannot_be_read_are_rejected(database: Database, dry_run: bool, batch_size: int) -> None:
    """By key, and never counted as young; a date alone is its midnight in UTC, and NULL counts as no time."""
    timed(database, [*NO_TIMES, *TIMES, *WITHOUT, "2999-01-01"])
    result = reduce_table(database.url, TIERED, tiers=WEEK, dry_run=dry_run, batch_size=batch_size)
    assert {reject.key for reject in result.rejects} == {f"{i:02}" for i in range(len(NO_TIMES))}
    assert (result.rejected, result.changed, result.untimed) == (len(NO_TIMES), len(TIMES), len(WITHOUT))
    assert (result.skipped, result.rows) == (1, len(NO_TIMES) + len(TIMES) + len(WITHOUT) + 1)
    got = NO_TIMES[0] if database.kind == "sqlite" else str(NO_TIMES[0])
    assert result.rejects[0].reason == f"created_at: expected an RFC 3339 time or a date, got {got!r}"
    changed = {key for key, cell in database.cells().items() if cell != blob(12)}
    assert changed == (set() if dry_run else {f"{len(NO_TIMES) + i:02}" for i in range(len(TIMES))})


def test_the_time_of_a_short_row_is_not_asked_for(database: Database) -> None:
    """No tier would change it, whatever its age; `verify` asks for it all the same."""
    timed(database, ["not a time"], rows=2)
    assert reduce_table(database.url, Rule(None), tiers=WEEK).rejected == 0
    assert reduce_table(database.url, Rule(None), tiers=WEEK, verify=True).rejected == 1


def test_a_date_alone_is_midnight(database: Database) -> None:
    """In UTC, to the second."""
    timed(database, ["2020-01-01"])
    for as_of, changed in [("2020-01-07T23:59:59Z", 0), ("2020-01-08T00:00:00Z", 1)]:
        assert reduce_table(database.url, Rule(None), tiers=WEEK, as_of=as_of).changed == changed


# --- rows that would grow -----------------------------------------------------------------------------------------------


def test_rows_that_would_grow_are_kept(database: Database) -> None:
    """They stay as they are and are counted, in every run; nothing is ever saved below zero."""
    metrics = {f"metric_{i}": range(i, i + 240) for i in range(9)}
    growing = StatSeries([i * SECOND for i in range(240)], metrics).to_db()
    database.make([("a", growing), ("b", blob(240))])
    rule = Rule(120, how={"*": ("mean", "min", "max"), "mem_usage": "mean", "cpu_total": "mean"})
    for changed, unchanged in [(1, 0), (0, 1)]:
        result = reduce_table(database.url, rule)
        assert (result.kept, result.changed, result.unchanged, result.rejected) == (1, changed, unchanged, 0)
        assert result.bytes_after <= result.bytes_before
        assert result.rows == 2
    assert database.cell("a") == growing
