"""What is refused, in the words that a user reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import callstats
from callstats import Recorder, Rule, StatBatch, StatSeries, connect, decimate, reduce_json
from callstats._units import parse_share
from callstats.db import CallTable, open_file
from callstats.db.engine import dialect_of, parse_url
from support.database import TABLE, blob, made
from support.tables import create_table

SERIES = StatSeries([0, 1], {"x": [1, 2]})
ROW = {"timestamp": "1970-01-01T00:00:01Z"}
MOST = 2**64 - 1


def released() -> memoryview:
    """A view of nothing."""
    view = memoryview(b"[]")
    view.release()
    return view


LARGE = StatSeries(range(6), {"w": range(6), "x": [1, 2, 2**63, 1, 2**63, 2**63]})

CORE: dict[str, Callable[[], Any]] = {
    "blobs must be an iterable of blobs, got str": lambda: StatBatch.from_json("[]"),
    "blobs must be an iterable of blobs, got bytes": lambda: reduce_json(b"[]"),
    "blobs must be an iterable of blobs, got int": lambda: reduce_json(5),  # type: ignore[call-overload]
    "errors must be 'raise' or 'return', got 'ignore'": lambda: reduce_json([], errors="ignore"),  # type: ignore[call-overload]
    "x must be a StatSeries or a StatBatch, got list": lambda: decimate([]),  # type: ignore[type-var]
    "series[1] must be a StatSeries, got 'x'": lambda: StatBatch([SERIES, "x"]),  # type: ignore[list-item]
    "series must be an iterable of StatSeries, got a single one: put it in a list": lambda: StatBatch(SERIES),  # type: ignore[arg-type]
    "a slice must have a positive step, got -1": lambda: SERIES[::-1],
    "slice step cannot be zero": lambda: SERIES[::0],
    "digits must be 3 or 9, got 6": lambda: SERIES.to_json(digits=6),
    "digits must be 3 or 9, got True": lambda: SERIES.to_json(digits=True),
    "counts must be a name that no metric has, got 'x'": lambda: SERIES.to_pandas(counts="x"),
    "samples[0] must have a time: expected an RFC 3339 time, got 'soon'": lambda: StatSeries.from_samples([("soon", {})]),
    "missing must be 'skip' or 'zero', got 'drop'": lambda: Rule(missing="drop"),  # type: ignore[arg-type]
    "max_bytes must be 1 or more, or None, got 0": lambda: Rule(max_bytes=0),
    "how must be a mapping of metric names, got 5": lambda: Rule(how={5: "max"}),  # type: ignore[dict-item]
    "how[1] must be a reducer that the tuple does not have already, got 'max'": lambda: Rule(how=("max", "max")),
    "how must be one of mean, min, max, first, last, sum, or a tuple of them, got ()": lambda: Rule(how=()),
    "how['x'][1] must be one of min, max, first, last, got 'mean'": lambda: Rule(how={"x": ("max", "mean")}),
    "capacity must be a whole number of rows, from 2 to 1048576, got 1": lambda: Recorder(capacity=1),
    "share must be above 0 and below 100 %, such as 0.1% or 0.001, got '100%'": lambda: parse_share("100%"),
    "share must be above 0 and below 100 %, such as 0.1% or 0.001, got '0'": lambda: parse_share("0"),
    f"the sum of metrics['x'] must be at most {MOST}, got more in row 2 of the result": lambda: decimate(LARGE, 3, how="sum"),
    f"series[1]: the sum of metrics['x'] must be at most {MOST}, got more in row 2 of the result": lambda: decimate(
        StatBatch([SERIES, LARGE, LARGE]), 3, how="sum"
    ),
    "module 'callstats' has no attribute 'nothing'": lambda: callstats.nothing,
}


@pytest.mark.parametrize("message", CORE)
def test_of_series_and_rules(message: str) -> None:
    """The whole message."""
    with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
        CORE[message]()
    assert str(caught.value) == message


DECODED: list[tuple[Any, str]] = [
    (released(), "$: expected bytes that can be read: operation forbidden on released memoryview object"),
    ("[\u00e9\ud800", "byte 3: expected text that UTF-8 can hold, got a lone surrogate"),
    ([{}], "$[0].timestamp: expected a time, got none"),
    ([5], "$[0]: expected an object, got 5"),
    ([{"timestamp": 5}], "$[0].timestamp: expected an RFC 3339 time, got 5"),
    ([{"timestamp": "2017-02-29T00:00:00Z"}], "$[0].timestamp: expected a time that exists, got '2017-02-29T00:00:00Z'"),
    (
        [ROW, {"timestamp": "1970-01-01T00:00:00Z"}],
        "$[1].timestamp: expected a time no earlier than '1970-01-01T00:00:01Z', got '1970-01-01T00:00:00Z'",
    ),
    ([{**ROW, "metrics": [5]}], "$[0].metrics: expected an object, got an array"),
    ([{**ROW, "metrics": {5: 1}}], "$[0].metrics: expected names that are text, got 5"),
    (
        [{**ROW, "metrics": {"\ud800": 1}}],
        '$[0].metrics["\\ud800"]: expected a name that UTF-8 can hold, got a lone surrogate',
    ),
    ([{**ROW, "metrics": {"a b": True}}], f'$[0].metrics["a b"]: expected a whole number from 0 to {MOST}, got true'),
    ([{**ROW, "metrics": {"x": 2**64}}], f"$[0].metrics.x: expected a whole number from 0 to {MOST}, got {2**64}"),
    ([{**ROW, "count": 0}], f"$[0].count: expected a whole number from 1 to {2**63 - 1}, got 0"),
    ([{**ROW, "count": 2**63 - 1}, ROW], "$[1].count: expected a whole number from 1 to 0, got 1"),
]


@pytest.mark.parametrize(("value", "message"), DECODED, ids=[message for _, message in DECODED])
def test_of_decoded_json(value: Any, message: str) -> None:
    """The place, what was expected and what came."""
    with pytest.raises(callstats.DecodeError) as caught:
        StatSeries.from_json(value)
    assert str(caught.value) == message


TABLES: dict[str, Callable[[CallTable], Any]] = {
    "key must be the key of a call in table 'calls', got 'b': list shows the latest": lambda calls: calls.get("b"),
    "name must be left out for a table without names, got 'f'": lambda calls: calls.list(name="f"),
    "at must be given exactly where b is not, got None: give b or at": lambda calls: calls.compare("a"),
    "at must be given exactly where b is not, got 5: give b or at": lambda calls: calls.compare("a", "b", at=5),
    "b must be tags as a is, or a name as a is, got 'b'": lambda calls: calls.compare({"team": "a"}, "b"),
    "b must be other calls than a, got '7'": lambda calls: calls.compare("7", 7),
    "b must be other calls than a, got 'team=a'": lambda calls: calls.compare({"team": "a"}, {"team": "a"}),
    "since must be left out for 'calls', which has no column 'created_at', got '1970-01-01T00:00:00.000000Z': "
    "name its column of times, if it has one": lambda calls: calls.summarize(since=5),
    "since must be a whole number, in nanoseconds since the epoch, got 'tomorrow'": lambda calls: calls.list(since="tomorrow"),
    "since must be a whole number, in nanoseconds since the epoch, got 1.5": lambda calls: calls.summarize(since=1.5),
    "at must be a whole number, in nanoseconds since the epoch, got '7d'": lambda calls: calls.compare("a", at="7d"),
    "tags must be a mapping such as {'team': 'web'}, got 'team=web'": lambda calls: calls.list(tags="team=web"),
    "tags must be a mapping such as {'team': 'web'}, got ['team']": lambda calls: calls.summarize(tags=["team"]),
    "calls must be an iterable of Call, or of mappings of column to value, got 'id'": lambda calls: calls.add({"id": "z"}),
    "calls must be an iterable of Call, or of mappings of column to value, got 5": lambda calls: calls.finish([5]),
    "run_time must be a timedelta of 0 or more, such as timedelta(hours=2), got 60": lambda calls: calls.reduce(10, run_time=60),
    "path must be a file of JSON lines (.jsonl) or Parquet (.parquet), got 'x.txt'": lambda calls: calls.export("x.txt"),
    "openmetrics must be given without long and others, which are for other files, got True": lambda calls: calls.export(
        "x", openmetrics=True, long=True
    ),
    "stats must be text that encodes to UTF-8, got '\\ud800'": lambda calls: calls.add([{"id": "z", "stats": "\ud800"}]),
}


@pytest.mark.parametrize("message", TABLES)
def test_of_tables(message: str, tmp_path: Path) -> None:
    """By each verb, before anything is changed."""
    with connect(made(tmp_path / "calls.db", [("a", blob(2))], table=TABLE)) as calls:
        with pytest.raises(callstats.CallstatsError) as caught:
            TABLES[message](calls)
        assert str(caught.value) == message
        assert [call.key for call in calls.list()] == ["a"]


def test_of_tables_without_names_or_times(tmp_path: Path) -> None:
    """What was asked for needs a column that was given as None; and an empty table has no latest call."""
    create_table(tmp_path / "calls.db")
    with connect(tmp_path / "calls.db", time_column=None, group_column=None) as calls:
        with pytest.raises(callstats.CallstatsError, match=r"^at must be None without a time_column, got 5$"):
            calls.compare("a", at=5)
        with pytest.raises(callstats.CallstatsError, match=r"^a must be tags without a group_column, got 'a'$"):
            calls.compare("a", "b")
        with pytest.raises(callstats.CallstatsError, match=r"^table must be a table with calls, got 'calls': it has none$"):
            calls.get()
    with pytest.raises(callstats.CallstatsError, match=r"^where must be None for a file, got '1=1'$"):
        open_file(tmp_path / "none.jsonl").summarize(where="1=1")


URLS = {
    "user:secret@host/db": "url_or_engine must be a database URL such as sqlite:///calls.db or postgresql://",
    "postgres://user:se@cret@host:port/db": "url_or_engine must be a database URL such as sqlite:///calls.db or postgresql://",
    "oracle://host/db": "url_or_engine must be for SQLite, PostgreSQL or MySQL, got a URL for 'oracle'",
    "mysql+mysqldb://host/db": "url_or_engine must be for MySQL's driver pymysql, got a URL for 'mysqldb'",
    "postgresql+asyncpg://host/db": "url_or_engine must be for PostgreSQL's driver psycopg, got a URL for 'asyncpg'",
}


@pytest.mark.parametrize("url", URLS)
def test_of_urls(url: str) -> None:
    """What is no URL of a database that is known here; passwords are hidden."""
    with pytest.raises(callstats.CallstatsError, match=f"^{re.escape(URLS[url])}") as caught:
        dialect_of(parse_url(url))
    assert "secret" not in str(caught.value)
