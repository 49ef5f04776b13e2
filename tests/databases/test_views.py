"""The views of a table: every value is that of the library, a range of times uses the index, and a dashboard asks them."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats import CallstatsError, StatSeries, connect, decimate
from callstats.cli.app import cli
from callstats.demo import demo_calls
from callstats.rule import KEEP_PEAKS
from callstats.stats import usage_of
from callstats.stats.calls import ERRORS
from support.databases import Database
from support.zoo import SECOND

START = 1_700_000_000 * SECOND
BELOW = 2**63 - 1
FIELDS = ("peak_memory", "memory_metric", "memory_limit", "cpu_peak", "cpu_time_ns", "samples", "rows")
BAD = [
    "",
    " ",
    "null",
    "[]",
    "no",
    "[",
    "{}",
    '{"a": {"timestamp": 1}}',
    '[1, "x", null, [], {"metrics": 5}, {"metrics": [6]}]',
    None,
]
TYPES = {
    "text": {"sqlite": "TEXT", "postgres": "TEXT", "mysql": "MEDIUMTEXT"},
    "bytes": {"sqlite": "BLOB", "postgres": "BYTEA", "mysql": "LONGBLOB"},
    "json": {"postgres": "JSON", "mysql": "JSON"},
    "jsonb": {"postgres": "JSONB"},
}
COLUMNS = "id, fn_id, status, created_at, stats"


def stamp(seconds: float) -> str:
    """A time as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def random_series(dice: random.Random) -> StatSeries:
    """A call with any of the metrics that a view reads, with holes, zeros, large values and lost rows; some are reduced."""
    rows = dice.choice((0, 1, 2, 9, 30))
    metrics: dict[str, list[int | None]] = {}
    for name in ("mem_usage", "mem_working", "mem_limit", "cpu_total", "cpu_time", "mem_peak"):
        for peak in ("@max", "@last") if name in ("cpu_time", "mem_peak") else ("", "", "@max"):
            if dice.random() < 0.5:
                most = dice.choice((1, 2, 1000, BELOW))
                present = dice.choice((0.1, 0.9, 1))
                metrics[name + peak] = [dice.randint(0, most) if dice.random() < present else None for _ in range(rows)]
    metrics['odd "name"<\\ é'] = [dice.randint(0, 9) for _ in range(rows)]
    counts = [dice.choice((1, 1, 7)) for _ in range(rows)] if dice.random() < 0.5 else None
    series = StatSeries([START + i * SECOND for i in range(rows)], metrics, counts=counts)
    return decimate(series, 5, how=KEEP_PEAKS) if dice.random() < 0.3 else series


def filled(database: Database, stats: str = "text") -> dict[str, StatSeries]:
    """Make a table of random calls and the captured one, with views, and bad blobs beside them. Return the series."""
    dice = random.Random(20)
    series = {f"{i:03}": random_series(dice) for i in range(120)}
    series["captured"] = StatSeries.from_db(next(iter(demo_calls()))["stats"])
    more = ", fn_id VARCHAR(256), created_at VARCHAR(256)"
    database.make([], stats=TYPES[stats][database.kind], more=more)
    cells: list[Any] = [*(value.to_db() for value in series.values()), *BAD]
    if stats.startswith("json"):  # which holds nothing but JSON
        cells = [cell if cell is not None and is_json(cell) else None for cell in cells]
    elif stats == "bytes":
        cells = [*(cell if cell is None else cell.encode() for cell in cells), b"[\xff]"]
    keys = [*series, *(f"bad {i}" for i in range(len(cells) - len(series)))]
    rows = [(key, "f", "success", stamp(1_700_000_000), cell) for key, cell in zip(keys, cells, strict=True)]
    database.add(rows, columns=COLUMNS)
    with connect(database.url) as calls:
        calls.create(views=True)
    return series


CASES = [(kind, stats) for stats, kinds in TYPES.items() for kind in kinds]


@pytest.fixture(params=[pytest.param(case, id="-".join(case)) for case in CASES])
def typed(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A database, and the type of its blobs."""
    from support.databases import a_database

    kind, stats = request.param
    for database in a_database(kind, request, tmp_path):
        yield database, stats


def test_values_are_those_of_the_library(typed: tuple[Database, str]) -> None:
    """Each call's usage and each of its samples, for any type of column; bad blobs have none and stop nothing."""
    database, stats = typed
    series = filled(database, stats)
    listed = ", ".join(f"u.{name}" for name in ("key", "name", "status", *FIELDS))
    found = {row[0]: row[1:] for row in database.ask(f"SELECT {listed} FROM call_usage u")}
    for key, one in series.items():
        usage = usage_of(one)
        assert found.pop(key) == ("f", "success", *(getattr(usage, name) for name in FIELDS)), key
    assert {row[2:-1] for row in found.values()} == {(None, None, None, None, None, row[-2]) for row in found.values()}
    assert found["bad 0"] == ("f", "success", None, None, None, None, None, 0, 0)
    samples: dict[Any, list[Any]] = {}
    for key, *sample in database.ask("SELECT s.key, s.time, s.metric, s.value FROM call_samples s"):
        samples.setdefault(key, []).append(tuple(sample))
    for key, one in series.items():
        rows = [] if not len(one) else json.loads(one.to_db())
        wanted = [(row["timestamp"], metric, value) for row in rows for metric, value in row["metrics"].items()]
        assert sorted(samples.pop(key, [])) == sorted(wanted), key
    assert not samples


def test_the_captured_call(database: Database) -> None:
    """8.6 MiB, of 45 samples."""
    filled(database)
    asked = "SELECT u.peak_memory, u.memory_metric, u.memory_limit, u.samples FROM call_usage u WHERE u.key = 'captured'"
    assert database.ask(asked) == [(8_990_720, "mem_working", 96 * 2**20, 45)]


MANY = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 59999) INSERT INTO calls ({}) "
    "SELECT printf('%06d', i), 'f' || i % 7, 'success', strftime('%Y-%m-%dT%H:%M:%S.000Z', 1700000000 + i * 518, 'unixepoch'), "
    "'{}' FROM n",
    "postgres": "INSERT INTO calls ({}) SELECT lpad(i::text, 6, '0'), 'f' || i % 7, 'success', "
    """to_char(to_timestamp(1700000000 + i * 518) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.000"Z"'), """
    "'{}' FROM generate_series(0, 59999) i",
    "mysql": "INSERT INTO calls ({}) SELECT lpad(seq, 6, '0'), concat('f', seq % 7), 'success', "
    "date_format(timestampadd(SECOND, 1700000000 + seq * 518, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.000Z'), "
    "'{}' FROM seq_0_to_59999",
}
"""A year of calls, one every 518 seconds."""


def plan_of(database: Database, query: str) -> str:
    """Return how the database would run a query, in one line."""
    rows = database.ask(("EXPLAIN QUERY PLAN " if database.kind == "sqlite" else "EXPLAIN ") + query)
    return " | ".join(" ".join(map(str, row)) for row in rows)


def test_a_week_uses_the_index(database: Database) -> None:
    """In both views a week of 60,000 rows is found by the index on times, and a call by its key."""
    with connect(database.url) as calls:
        assert calls.create(views=True) == "created"
    blob = StatSeries([START, START + SECOND], {"mem_usage": [1, 2]}).to_db()
    database.ask(MANY[database.kind].format(COLUMNS, blob))
    if database.kind != "sqlite":
        database.ask("ANALYZE calls" if database.kind == "postgres" else "ANALYZE TABLE calls")
    by_time, by_key = {
        "sqlite": (
            r"SEARCH c USING INDEX calls_by_created_at \(created_at>\? AND created_at<\?\)",
            r"SEARCH c USING .*\(id=\?\)",
        ),
        "postgres": (r"Index Scan (using|on) calls_by_created_at.*Index Cond: .*>= .*AND.*< ", "Index Scan using calls_pkey"),
        "mysql": (r"\bc range \S*calls_by_created_at\S* calls_by_created_at ", r"\bc const PRIMARY"),
    }[database.kind]
    for view in ("call_usage", "call_samples"):
        week = f"FROM {view} u WHERE u.call_time >= '2024-03-01T00:00:00.000Z' AND u.call_time < '2024-03-08T00:00:00.000Z'"
        plan = plan_of(database, f"SELECT * {week}")
        assert re.search(by_time, plan), plan
        plan = plan_of(database, f"SELECT * FROM {view} u WHERE u.key = '000017'")
        assert re.search(by_key, plan), plan
        assert database.ask(f"SELECT COUNT(DISTINCT u.key) {week}") == [(7 * 86400 // 518 + 1,)]


def run(*args: object) -> str:
    """What a command prints."""
    result = CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_older_table_with_other_names(database: Database) -> None:
    """It gets its views by init, under its own name; a column that it lacks is NULL, and who may read a view still may."""
    database.ask(
        "CREATE TABLE runs (run INTEGER PRIMARY KEY, image VARCHAR(99), hist TEXT, `at` VARCHAR(99))".replace(
            "`", '"' if database.kind != "mysql" else "`"
        )
    )
    blob = StatSeries([START], {"mem_usage": [4096]}).to_db()
    database.ask("INSERT INTO runs VALUES (?, ?, ?, ?)", 7, "resize", blob, "2023-11-14T00:00:00.000Z")
    names = ("--table", "runs", "--key", "run", "--column", "hist", "--by", "image", "--time-column", "at")
    for done in ("added to", "nothing to do:"):
        made = run("init", database.url, "--views", *names).splitlines()
        assert made[0].startswith(f"{done} table runs")
        assert made[1] == "made its views run_samples and run_usage"
        if database.kind == "postgres" and done.startswith("added"):
            database.ask("GRANT SELECT ON run_usage TO pg_monitor")
    if database.kind == "postgres":
        assert database.ask("SELECT has_table_privilege('pg_monitor', 'run_usage', 'SELECT')") == [(True,)]
    wanted = (7, "resize", None, "2023-11-14T00:00:00.000Z", 4096, "mem_usage", None, None, None, 1, 1)
    assert database.ask("SELECT * FROM run_usage") == [wanted]
    assert database.ask("SELECT * FROM run_samples") == [(7, "resize", wanted[3], "2023-11-14T22:13:20.000Z", "mem_usage", 4096)]


def test_what_is_refused(database: Database) -> None:
    """A column that is not there, and a view's name that something else has; nothing is changed."""
    database.make([("a", "")])
    database.ask("CREATE TABLE call_usage (mine INTEGER)")
    with connect(database.url) as calls, pytest.raises(CallstatsError, match=r"'call_usage' has other columns than the view"):
        calls.create(views=True)
    database.ask("DROP TABLE call_usage")
    with (
        connect(database.url, group_column="job") as calls,
        pytest.raises(CallstatsError, match=r"column of table 'calls', got 'job'"),
    ):
        calls.create(views=True)
    with connect(database.url) as calls:
        with pytest.raises(Exception, match=r"(?i)host"):
            database.ask("SELECT host FROM calls")
        assert calls.create(views=True) == "added"
        assert calls.reduce(10).rows == 1
    assert database.ask("SELECT u.key, u.name, u.call_time, u.samples FROM call_usage u") == [("a", None, None, 0)]


def test_names_that_need_quotes(database: Database) -> None:
    """Quotes, spaces, percent signs and braces."""
    names = {"table": "odd 'one's", "key": "the `key`; %s", "column": 'hi"st {0}', "group_column": "a%b"}
    with connect(database.url, **names) as calls:
        assert calls.create(views=True) == "created"
        assert calls.create(views=True) == "nothing"
        calls.add([{"the `key`; %s": "1", 'hi"st {0}': StatSeries([START], {"mem_usage": [4096]}), "a%b": "resize"}])
    quote = "`" if database.kind == "mysql" else '"'
    found = database.ask(f"SELECT u.key, u.name, u.peak_memory FROM {quote}odd 'one'_usage{quote} u")
    assert found == [("1", "resize", 4096)]


GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
has_grafana = pytest.mark.skipif(not GRAFANA.exists(), reason="a wheel's tests have no such files beside them")


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels."""
    found: list[dict[str, Any]] = json.loads((GRAFANA / "dashboard.json").read_text())["panels"]
    return found


def expanded(sql: str, **values: str) -> str:
    """Return a query as Grafana sends it."""
    for name, value in values.items():
        sql = sql.replace(f"${{{name}:sqlstring}}", "'" + value.replace("'", "''") + "'").replace(f"${{{name}}}", value)
    sql = sql.replace("${__from:date:iso}", values["since"]).replace("${__to:date:iso}", values["until"])
    assert "$" not in sql
    return sql


@has_grafana
def test_the_dashboard_asks_the_views(database: Database) -> None:
    """Calls, failures and the 95th percentile of peaks by name and hour, the highest peaks, and one call's samples."""
    dice, base = random.Random(3), datetime(2026, 3, 1, tzinfo=UTC)
    rows, wanted = [], {}
    for i in range(300):
        name, at = dice.choice(("resize", "it's", None)), base + timedelta(minutes=dice.randrange(240))
        status, peak = (
            dice.choice(("success", "success", *sorted(ERRORS))),
            dice.choice((0, dice.randrange(1, 10**9))),
        )
        limit = dice.choice((0, 2**30, 2**63 - 4096, 2**29))
        series = StatSeries([START], {"mem_usage": [peak], "mem_limit": [limit], "cpu_total": [i]})
        created = stamp(at.timestamp() + i / 1000)
        rows.append({"id": f"{i:03}'", "fn_id": name, "status": status, "created_at": created, "stats": series})
        if timedelta(hours=1) <= at - base < timedelta(hours=3):
            wanted.setdefault((name, created[:13]), []).append((created, status, peak, limit))
    with connect(database.url) as calls:
        calls.create(views=True)
        calls.add(rows)
    queries = {panel["id"]: panel["targets"][0]["rawSql"] for panel in panels() if "rawSql" in panel["targets"][0]}
    values = {
        "since": "2026-03-01T01:00:00.000Z",
        "until": "2026-03-01T03:00:00.000Z",
        "bucket": "13",
        "name": "%",
        "call": "017'",
    }
    found = {(name, time[:13]): (time, *totals) for time, name, *totals in database.ask(expanded(queries[1], **values))}
    for bucket, some in wanted.items():
        peaks = sorted(peak for _, _, peak, _ in some if peak)
        failures = sum(status != "success" for _, status, _, _ in some)
        limits = [limit for *_, limit in some if limit and limit < 2**63 - 4096]
        p95 = peaks[-(-95 * len(peaks) // 100) - 1] if peaks else None
        assert found.pop(bucket) == (min(some)[0], len(some), failures, p95, min(limits, default=None)), bucket
    assert not found
    only = database.ask(expanded(queries[1], **{**values, "name": "it's"}))
    assert {row[1] for row in only} == {"it's"}
    highest = database.ask(expanded(queries[4], **values))
    peaks = sorted((peak for some in wanted.values() for _, _, peak, _ in some), reverse=True)
    assert [row[4] for row in highest] == [peak or None for peak in peaks[:100]]
    memory = database.ask(expanded(queries[5], **values))
    cpu = database.ask(expanded(queries[6], **values))
    assert [metric for _, metric, _ in sorted(memory)] == ["mem_limit", "mem_usage"]
    assert cpu == [("2023-11-14T22:13:20.000Z", "cpu_total", 17)]


@has_grafana
def test_the_dashboards_shape() -> None:
    """Each panel asks the provisioned source or another panel's result, in the words of each plugin, for fields that it shows."""
    dashboard = json.loads((GRAFANA / "dashboard.json").read_text())
    assert dashboard["uid"] == "callstats"
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"name", "bucket", "call"}
    own: dict[int, str] = {}
    for panel in dashboard["panels"]:
        [target] = panel["targets"]
        assert target["datasource"] == panel["datasource"]
        assert panel["type"] in ("timeseries", "table")
        if "panelId" in target:
            assert panel["datasource"]["uid"] == "-- Dashboard --"
            sql = own[target["panelId"]]
        else:
            assert panel["datasource"] == {"uid": "callstats"}
            sql = own[panel["id"]] = target["rawSql"]
            assert (target["format"], target["queryText"], target["rawQueryText"]) == ("table", sql, sql)
        for options in (step["options"] for step in panel["transformations"]):
            fields = [one["targetField"] for one in options.get("conversions", [])]
            fields += options.get("fields", []) + options.get("include", {"names": []})["names"]
            assert fields
            assert all(re.search(rf"(AS |[.]){field}\b", sql) for field in fields), (panel["title"], fields)
    failures = re.findall(r"status IN \((.*?)\)", json.dumps(dashboard))
    assert [set(re.findall(r"\w+", words)) for words in failures] == [ERRORS] * 3
    boxes = [tuple(panel["gridPos"][name] for name in "xywh") for panel in dashboard["panels"]]
    assert len(set(boxes)) == len(boxes)
    assert all(x + w <= 24 for x, _, w, _ in boxes)
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    [source] = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((GRAFANA / "dashboards.yaml").read_text())["providers"]
    assert (source["uid"], provider["type"]) == ("callstats", "file")
