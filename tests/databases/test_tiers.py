"""Tiers: rows get the rule of their age, and the others are passed over by the database, on all databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callstats import CallstatsError, Rule, reduce_json
from callstats._timestamps import format_time, stored_time_ns
from support.database import blob
from support.databases import Database
from support.tables import reduce_table

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TIERS = [(timedelta(days=30), 5), (timedelta(days=7), 10)]
RULE = Rule(None, how={"mem_usage": ("mean", "max")})
TICK = timedelta(milliseconds=1)

AGES = {
    "young": (timedelta(days=7) - TICK, None),
    "future": (timedelta(days=-1), None),
    "seven": (timedelta(days=7), 10),
    "eight": (timedelta(days=8), 10),
    "twentynine": (timedelta(days=30) - TICK, 10),
    "thirty": (timedelta(days=30), 5),
    "ancient": (timedelta(days=9000), 5),
}


def reduced(rows: int | None) -> str:
    """What a cell becomes in the tier of so many rows."""
    return blob(12) if rows is None else reduce_json([blob(12)], rows, how=RULE.how)[0].decode()


def check(database: Database, want: dict[str, int | None], **options: Any) -> None:
    """Run twice: each row is in its tier, and those in none were never read."""
    report = reduce_table(database.url, RULE, tiers=TIERS, as_of=NOW, batch_size=3, **options)
    assert {key: cell == reduced(want[key]) for key, cell in database.cells().items()} == dict.fromkeys(want, True)
    changed = sum(rows is not None for rows in want.values())
    assert (report.changed, report.skipped + report.untimed, report.rejected) == (changed, len(want) - changed, 0)
    assert report.untimed == ("null" in want)
    assert report.bytes_read == changed * len(blob(12))
    assert report.as_of == "2026-11-25T12:00:00.000000Z"
    assert reduce_table(database.url, RULE, tiers=TIERS, as_of=NOW, **options).changed == 0


FORMS = {
    "utc": lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
    "offset east": lambda at: (at + timedelta(hours=5, minutes=45)).strftime("%Y-%m-%dT%H:%M:%S.%f+05:45"),
    "offset west": lambda at: (at - timedelta(hours=9, minutes=30)).strftime("%Y-%m-%dt%H:%M:%S.%f")[:-3] + "-09:30",
    "small letters": lambda at: at.strftime("%Y-%m-%d %H:%M:%S.%f000z"),
    "no offset": lambda at: at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
}


@pytest.mark.parametrize("form", FORMS)
def test_tiers_by_text(database: Database, form: str) -> None:
    """Times as RFC 3339 text with any offset; the oldest tier that a row is old enough for holds, to the millisecond."""
    rows = [(key, blob(12), FORMS[form](NOW - age)) for key, (age, _) in AGES.items()]
    database.make(
        rows, more=f", created_at {'TEXT' if database.kind == 'sqlite' else 'VARCHAR(256)'}", columns="id, stats, created_at"
    )
    check(database, {key: rows for key, (_, rows) in AGES.items()})


def test_offsets_are_not_sorted_as_text(database: Database) -> None:
    """Texts whose order is not that of their times."""
    times = {
        "in": ("2026-11-18T13:00:00.000+01:00", 10),
        "out": ("2026-11-18T11:00:00.001-01:00", None),
        "in as well": ("2026-11-19T02:00:00+14:00", 10),
        "out as well": ("2026-11-17T23:00:01-13:00", None),
    }
    rows = [(key, blob(12), time) for key, (time, _) in times.items()]
    database.make(rows, more=", at VARCHAR(99)", columns="id, stats, at")
    check(database, {key: rows for key, (_, rows) in times.items()}, time_column="at")


def test_one_row_too_many(database: Database) -> None:
    """A histogram with just the rows of its tier is not read, and one with a row more is reduced."""
    calls = {"a": (30, 5, None), "b": (30, 6, 5), "c": (7, 10, None), "d": (7, 11, 10)}
    rows = [(key, blob(size), FORMS["utc"](NOW - timedelta(days=days))) for key, (days, size, _) in calls.items()]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")
    report = reduce_table(database.url, RULE, tiers=TIERS, as_of=NOW)
    assert (report.changed, report.skipped, report.bytes_read) == (2, 2, len(blob(6)) + len(blob(11)))
    assert {key: text.count("timestamp") for key, text in database.cells().items()} == {
        key: after or size for key, (_, size, after) in calls.items()
    }


@pytest.mark.parametrize("verify", [False, True])
def test_rows_without_a_readable_time_stop_nothing(database: Database, verify: bool) -> None:
    """NULL, nothing and Go's zero time are none; other text and dates that don't exist are rejected."""
    times = [
        None, "", "never", "2017", "2017-11-27", "0001-01-01T00:00:00.000Z", "2017-13-27T00:00:00Z", "2017-11-27T00:00:00 UTC",
        "x2017-11-27T00:00:00Z", "2017-11-27T00:00:00+1", "2017-11-27T0:00:00Z", "now", "2457000.5", "17-11-27T00:00:00Z",
    ]  # fmt: skip
    rows = [(f"bad{i:02}", blob(12), time) for i, time in enumerate(times)]
    rows += [("good", blob(12), "2017-11-27T00:00:00Z"), ("wrong", "x" * 999, "2017-11-27T00:00:00Z")]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")
    report = reduce_table(database.url, RULE, tiers=TIERS, as_of=NOW, verify=verify)
    got = database.cells()
    assert {key for key in got if got[key] != blob(12)} == {"bad04", "good", "wrong"}  # a date alone is its midnight
    assert got["good"] == got["bad04"] == reduced(5)
    untimed = {"bad00", "bad01", "bad05"}
    assert {reject.key for reject in report.rejects} == {key for key in got if key.startswith("bad")} - untimed - {"bad04"} | {
        "wrong"
    }
    assert (report.untimed, report.skipped, report.rows) == (len(untimed), 0, len(rows))


NATIVE = [
    ("postgres", "TIMESTAMP WITH TIME ZONE"),
    ("postgres", "TIMESTAMP"),
    ("mysql", "DATETIME(6)"),
    ("mysql", "TIMESTAMP(6) NULL"),
]


@pytest.mark.parametrize(("kind", "native"), NATIVE)
def test_tiers_by_native_timestamps(kind: str, native: str, request: pytest.FixtureRequest) -> None:
    """The databases' own timestamps, whatever the session's time zone; those without a zone are UTC."""
    database: Database = request.getfixturevalue(kind)
    database.make([], more=f", created_at {native}")
    statement = "INSERT INTO calls (id, stats, created_at) VALUES (?, ?, ?)"
    zones = ("SET TIME ZONE 'UTC'", "SET TIME ZONE 'Asia/Kathmandu'") if kind == "postgres" else ("SET time_zone = '+00:00'", "")
    with database.connect() as connection:
        database.run(connection, zones[0])
        for key, (age, _) in AGES.items():
            database.run(connection, statement, key, blob(12), (NOW - age).replace(tzinfo=None))
        database.run(connection, statement, "null", blob(12), None)
    if kind == "postgres":
        database.ask(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Kathmandu'")
    else:
        database.ask("SET GLOBAL time_zone = '+05:45'")
    try:
        check(database, {key: rows for key, (_, rows) in AGES.items()} | {"null": None})
    finally:
        if kind == "mysql":
            database.ask("SET GLOBAL time_zone = 'SYSTEM'")


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_tiers_by_dates(kind: str, request: pytest.FixtureRequest) -> None:
    """A date is its midnight in UTC."""
    database: Database = request.getfixturevalue(kind)
    rows = [("in", blob(12), "2026-11-18"), ("out", blob(12), "2026-11-19")]
    database.make(rows, more=", created_at DATE", columns="id, stats, created_at")
    check(database, {"in": 10, "out": None})


def test_as_of_is_the_start_of_the_run(database: Database) -> None:
    """Without as_of ages are measured from now."""
    now = datetime.now(UTC)
    times = {"a": now - timedelta(days=7), "b": now}
    rows = [(key, blob(12), format_time(stored_time_ns(time) or 0)) for key, time in times.items()]
    database.make(rows, more=", created_at VARCHAR(99)", columns="id, stats, created_at")
    assert reduce_table(database.url, RULE, tiers=TIERS).changed == 1
    assert database.cells() == {"a": reduced(10), "b": blob(12)}


def test_wrong_use_of_tiers_is_named(database: Database) -> None:
    """Before anything is changed."""
    database.make([("a", blob(12))], more=", n INTEGER")
    for options, message in [
        ({"tiers": []}, "tiers must be None, or at least one tier, got"),
        ({"tiers": [(timedelta(1), 5), (timedelta(1), 6)]}, "tiers must be of different ages, got '1 day twice'"),
        ({"tiers": [(timedelta(-1), 5)]}, "tiers must be of ages that are 0 or more, got '-1 day"),
        ({"tiers": TIERS, "time_column": "at"}, "time_column must be a column of table 'calls', got 'at'"),
        ({"tiers": TIERS, "time_column": "n", "as_of": "now"}, "expected an RFC 3339 time, got 'now'"),
        ({"tiers": TIERS, "time_column": "n", "as_of": datetime(2026, 1, 1)}, "as_of must have a time with its offset from UTC"),
    ]:
        with pytest.raises(CallstatsError, match=message):
            reduce_table(database.url, RULE, **options)  # type: ignore[arg-type]
    with pytest.raises(CallstatsError, match=r"^max_samples must be None beside tiers, which have their own, got 240$"):
        reduce_table(database.url, Rule(), tiers=TIERS)
    if database.kind != "sqlite":
        with pytest.raises(CallstatsError, match=r"^time_column must be a column of times or text, got 'n': it is of type int"):
            reduce_table(database.url, RULE, tiers=TIERS, time_column="n")
