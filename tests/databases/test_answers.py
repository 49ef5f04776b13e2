"""Questions to a table: one pass, by groups, that changes nothing."""

from __future__ import annotations

import hashlib
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from callstats import CallstatsError, StatSeries, decimate
from callstats._timestamps import stored_time_ns
from callstats.db import query
from callstats.demo import demo_calls
from callstats.stats import CallData, summarize_calls
from support.database import Value, blob, connect, made
from support.tables import add_calls, create_table, export_table, summarize_table
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")

FN = "CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id, status TEXT, created_at, started_at TEXT, completed_at TEXT, stats TEXT)"
T0 = 1_700_000_000


def stamp(seconds: float) -> str:
    """A time as Fn stores it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def filled(path: Path, rows: list[tuple[Value, ...]], table: str = FN) -> Path:
    """A database with these rows."""
    made(path, [], table=table)
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        db.executemany(f"INSERT INTO calls VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.execute("COMMIT")
    return path


def test_groups_are_their_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group says what its calls say, whatever the size of a page, and the file stays as it is."""
    dice = random.Random("groups")
    rows: list[tuple[Value, ...]] = []
    calls: dict[Value, list[CallData]] = {}
    keys: list[Value] = [f"k{dice.randrange(10**9)}" for _ in range(60)]
    for key in sorted(keys):
        series = StatSeries([(T0 + i) * SECOND for i in range(dice.choice((0, 1, 40)))], {})
        if len(series):
            metrics = {"mem_usage": [dice.randrange(10**9) for _ in series.timestamps], "net_rx": range(len(series))}
            series = decimate(StatSeries(series.timestamps, metrics), 9, how={"mem_usage": ("mean", "max")})
        group: Value = dice.choice(("a", "b", None, 7, b"\xff"))
        status = dice.choice(("success", "error", "killed"))
        began, lasted = T0 + dice.randrange(1000), dice.randrange(100)
        rows.append((key, group, status, stamp(began), stamp(began), stamp(began + lasted), series.to_db()))
        calls.setdefault(group, []).append(CallData(series, status, began * SECOND, lasted * SECOND))
    path = filled(tmp_path / "calls.db", rows)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    want = {key: summarize_calls(some, risk=0.1) for key, some in calls.items()}
    for page_rows in (128, 1, 7, 59, 60, 61):
        monkeypatch.setattr(query, "PAGE_ROWS", page_rows)
        found = summarize_table(path, risk=0.1)
        assert {group.name: group.summary for group in found.groups} == want
        assert [group.name for group in found.groups] == [7, "a", "b", b"\xff", None]
        assert (found.calls, found.rejected, found.by, found.stopped) == (60, 0, "fn_id", None)
        assert found.bytes_read == sum(len(row[-1]) for row in rows)  # type: ignore[arg-type]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [file.name for file in tmp_path.iterdir()] == ["calls.db"]


def test_an_empty_table(tmp_path: Path) -> None:
    """No calls, no groups, no warning."""
    found = summarize_table(made(tmp_path / "calls.db", []), risk=0.01)
    assert (found.groups, found.calls, found.rejected) == ((), 0, 0)


def test_a_table_of_keys_and_histograms_alone(tmp_path: Path) -> None:
    """What Fn's columns would say is done without: one group, durations from the samples."""
    path = made(
        tmp_path / "calls.db", [(1, blob(10)), (2, None), (3, "")], table="CREATE TABLE calls (id INTEGER PRIMARY KEY, stats)"
    )
    found = summarize_table(path)
    [(key, summary)] = [(group.name, group.summary) for group in found.groups]
    assert (found.by, key, summary.calls, summary.sampled, summary.errors) == (None, None, 3, 1, None)
    assert (summary.duration_ns.max, summary.duration_ns.n) == (9 * SECOND, 1)
    assert "duration_ns" in summary.approximate


def test_columns_by_any_name(tmp_path: Path) -> None:
    """Each column's name is the caller's to say; one that isn't there is refused, save Fn's own."""
    table = 'CREATE TABLE runs ("the key" TEXT PRIMARY KEY, job TEXT, state TEXT, t0 TEXT, "t 1" TEXT, hist BLOB)'
    path = tmp_path / "calls.db"
    with closing(connect(path)) as db:
        db.execute(table)
        for i in range(5):
            db.execute(
                "INSERT INTO runs VALUES (?, 'j', 'killed', ?, ?, ?)", (str(i), stamp(T0), stamp(T0 + i), blob(3).encode())
            )
    names = {"table": "runs", "key": "the key", "column": "hist", "by": "job", "status_column": "state"}
    found = summarize_table(path, **names, time_column="t0", start_column="t0", end_column="t 1", since=T0 * SECOND)
    [(key, summary)] = [(group.name, group.summary) for group in found.groups]
    assert (key, summary.calls, summary.killed, summary.duration_ns.max) == ("j", 5, 5, 4 * SECOND)
    assert not summary.approximate
    for name in ("by", "status_column", "time_column", "start_column", "end_column"):
        with pytest.raises(CallstatsError, match="must be a column of table 'runs', got 'gone': it has 'the key', 'job'"):
            summarize_table(path, **{**names, name: "gone"})
    with pytest.raises(CallstatsError, match=r"^since must be left out for 'runs', which has no column 'created_at', got '1970-"):
        summarize_table(path, **names, since=1)
    with pytest.raises(CallstatsError, match=r"^since must be None without a time_column, got 1$"):
        summarize_table(path, **names, since=1, time_column=None)


def test_bad_cells_are_named(tmp_path: Path) -> None:
    """A cell that is no histogram is left out and named by its key; all others count, and blobs as well as text."""
    good = blob(5)
    cells: list[tuple[Value, Value]] = [
        ("a", good),
        ("b", good.encode()),
        ("c", good[:-20]),
        ("d", 5),
        ("e", b"[\xff]"),
        ("f", "null"),
        ("g", " "),
        (None, good),
    ]
    seen: list[object] = []
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats)"
    found = summarize_table(made(tmp_path / "calls.db", cells, table=table), by=None, on_reject=seen.append)
    assert found.groups[0].summary.calls == 3
    assert found.rejected == 5
    assert [reject.key for reject in found.rejects] == [None, "c", "d", "e", "g"]
    assert list(found.rejects) == seen
    reasons = {reject.key: reject.reason for reject in found.rejects}
    assert reasons["d"] == "expected text or bytes, got a value of type integer"
    assert reasons["e"].startswith("byte 1: expected UTF-8, got the byte 0xff")
    assert reasons[None] == "rows whose key is NULL, after which no page can start: 1"


def test_since(tmp_path: Path) -> None:
    """Calls from a time on count, however the time is written; such as have none are counted apart."""
    cut = T0 + 86_400
    ahead = timezone(timedelta(hours=14))
    stamps: list[Value] = [
        stamp(cut - 0.001),
        stamp(cut),
        stamp(cut + 10**6),
        datetime.fromtimestamp(cut + 1, timezone(timedelta(hours=-12))).isoformat(),
        datetime.fromtimestamp(cut - 1, ahead).isoformat(),
        datetime.fromtimestamp(cut, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        cut,
        cut - 1,
        cut * 1000,
        float(cut),
        cut * 10**9,
        None,
        "some day",
        "0001-01-01T00:00:00.000Z",
    ]
    rows: list[tuple[Value, ...]] = [(f"{i:02}", f"{i:02}", "success", at, None, None, "") for i, at in enumerate(stamps)]
    found = summarize_table(filled(tmp_path / "calls.db", rows), since=cut * SECOND)
    assert [group.name for group in found.groups] == ["01", "02", "03", "05", "06", "08", "09", "10"]
    assert found.calls == 8
    assert found.untimed == 2  # NULL and "some day"; year 1 is a time before
    assert summarize_table(tmp_path / "calls.db").calls == len(stamps)
    for ages_ago in (0, -1, -(10**30)):
        assert summarize_table(tmp_path / "calls.db", since=ages_ago).calls == 11
    assert summarize_table(tmp_path / "calls.db", since=10**30).calls == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2023-11-14T22:13:20Z", T0),
        ("2023-11-14T22:13:20.5Z", T0 + 0.5),
        ("2023-11-14 23:13:20+01:00", T0),
        ("2023-11-14T22:13:20", T0),
        (datetime(2023, 11, 14, 22, 13, 20), T0),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), T0),
        (T0, T0),
        (T0 + 0.25, T0 + 0.25),
        (T0 * 10**3, T0),
        (T0 * 10**6, T0),
        (T0 * 10**9, T0),
        ("0001-01-01T00:00:00.000Z", None),
        ("9999-12-31T00:00:00Z", None),
        ("soon", None),
        (None, None),
        (b"2023", None),
        (0, None),
        (-5, None),
        (2**63, None),
        (float("nan"), None),
    ],
)
def test_times(value: object, seconds: float | None) -> None:
    """A time in any of the forms that databases have; what is none is None."""
    assert stored_time_ns(value) == (None if seconds is None else int(seconds * SECOND))


def test_durations_that_make_no_sense(tmp_path: Path) -> None:
    """A call that ended before it began, or never began, lasts as long as its samples."""
    rows: list[tuple[Value, ...]] = [
        ("a", "f", "success", stamp(T0), stamp(T0 + 9), stamp(T0), blob(5)),
        ("b", "f", "success", stamp(T0), "0001-01-01T00:00:00.000Z", stamp(T0), blob(5)),
        ("c", "f", "success", None, None, None, ""),
    ]
    [group] = summarize_table(filled(tmp_path / "calls.db", rows)).groups
    summary = group.summary
    assert (summary.duration_ns.n, summary.duration_ns.max) == (2, 4 * SECOND)
    assert "duration_ns" in summary.approximate


def test_where_and_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition in SQL narrows the rows, and a stop ends with what was read."""
    path = made(tmp_path / "calls.db", [(f"{i:03}", blob(2)) for i in range(300)])
    assert summarize_table(path, where="id < '010' -- the first").calls == 10
    monkeypatch.setattr(query, "PAGE_ROWS", 128)
    asked = iter([False, False, True])
    found = summarize_table(path, stop=lambda: next(asked))
    assert (found.calls, found.stopped) == (256, "asked to stop")
    asked = iter([False, False, True])
    exported = export_table(path, tmp_path / "calls.parquet", stop=lambda: next(asked))
    assert (exported.rows, exported.written, exported.bytes_written, exported.stopped) == (256, 0, 0, "asked to stop")
    assert [*tmp_path.glob("*.parquet*")] == []


def test_while_others_write(tmp_path: Path) -> None:
    """Another program's transaction is no hindrance."""
    path = made(tmp_path / "calls.db", [("a", blob(2))])
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM calls")
        found = summarize_table(path)
        assert (found.calls, found.stopped) == (1, None)
        other.execute("ROLLBACK")


@pytest.fixture(scope="module")
def demo() -> list[dict[str, Any]]:
    """The demo's calls, which are the same by either backend."""
    return list(demo_calls())


def test_the_demo(demo: list[dict[str, Any]], tmp_path: Path) -> None:
    """The demo's calls: each function's group, and the one that leaks within a call rises."""
    path = tmp_path / "demo.db"
    create_table(path)
    add_calls(path, demo)
    found = summarize_table(path, risk=0.05)
    groups = {group.name: group.summary for group in found.groups}
    assert found.calls == 2001
    assert groups["reindex"].growth.p50 > 0
    assert groups["reindex"].rightsize is not None
    assert groups["captured"].page_cache == 0
    assert {name for name, group in groups.items() if group.trend.growing} == {"checkout"}
    assert groups["embed"].trend.slope > 0  # it only warms up
    saved = {name: group.rightsize.saved for name, group in groups.items()}
    assert saved["reindex"] == -1.0
    assert saved["invoice-pdf"] > 0.7
