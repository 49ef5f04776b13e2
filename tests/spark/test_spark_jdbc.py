"""Tables of PostgreSQL and MariaDB in Spark: read over JDBC in several partitions, reduced, and written to other tables."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from callstats import Rule, StatSeries, reduce_json
from callstats.adapters.spark import reduce_stats, summarize_stats
from support.databases import Database
from support.sparking import jdbc
from support.tables import add_calls, create_table
from support.zoo import SECOND

# PySpark looks at pandas wherever it uses Arrow; no frame of pandas is made here.
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")

RULE = Rule(4, how={"mem_usage": ("mean", "max")})
MONTHS = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]


@pytest.fixture
def calls(on_server: Database) -> dict[str, str | None]:
    """Calls of three months in a table of Fn's shape, a NULL and a bad one among them."""
    cells: dict[str, str | None] = {}
    rows = []
    for i in range(300):
        series = StatSeries([row * SECOND for row in range(i % 20)], {"mem_usage": [i * 1000 + row for row in range(i % 20)]})
        cells[f"{i:04}"] = series.to_db()
        if i in (7, 107):
            cells[f"{i:04}"] = None if i == 7 else "no histogram"
        day = f"{MONTHS[i % 3][:8]}{1 + i % 28:02}T00:00:00.000Z"
        rows.append({"id": f"{i:04}", "fn_id": f"fn {i % 5}", "created_at": day, "stats": cells[f"{i:04}"]})
    create_table(on_server.url)
    assert add_calls(on_server.url, rows) == len(rows)
    return cells


def months() -> list[str]:
    """A condition for each partition: Fn's times are text, which sorts as the times do."""
    return [f"created_at >= '{begin}' AND created_at < '{end}'" for begin, end in pairwise(MONTHS)]


def test_a_table_is_read_reduced_and_written(spark: Any, on_server: Database, calls: dict[str, str | None]) -> None:
    """A partition for each condition; what comes back is what `reduce_json` makes, and the table itself stays as it was."""
    url, properties = jdbc(on_server)
    table = spark.read.jdbc(url, "calls", predicates=months(), properties=properties)
    assert table.rdd.getNumPartitions() == 3
    reduced = reduce_stats(table, RULE)
    reduced.select("id", "stats", "stats_rejected").write.jdbc(url, "calls_4", properties=properties)

    keys = list(calls)
    local = dict(zip(keys, reduce_json(calls.values(), RULE, errors="return"), strict=True))
    written = {key: (cell, why) for key, cell, why in on_server.ask("SELECT id, stats, stats_rejected FROM calls_4")}
    assert written["0007"] == (None, None)
    assert written["0107"] == ("no histogram", str(local["0107"]))
    good = [key for key in keys if key not in ("0007", "0107")]
    assert {key: written[key] for key in good} == {key: (local[key].decode(), None) for key in good}
    assert on_server.cells() == calls


def test_ranges_of_a_number(spark: Any, on_server: Database) -> None:
    """Where a column is a number, Spark makes the ranges itself."""
    cell = StatSeries([0, SECOND], {"mem_usage": [1, 3]}).to_db()
    on_server.make([(i, cell) for i in range(40)], key="INTEGER")
    url, properties = jdbc(on_server)
    table = spark.read.jdbc(url, "calls", column="id", lowerBound="0", upperBound="40", numPartitions=4, properties=properties)
    assert table.rdd.getNumPartitions() == 4
    [row] = summarize_stats(table).where("metric = 'mem_usage'").collect()
    assert (row.calls, int(row.max), row.mean) == (40, 3, 2.0)


def test_the_page_on_spark(
    spark: Any, on_server: Database, calls: dict[str, str | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it shows runs as it stands, but for where the data are."""
    page = (Path(__file__).parents[2] / "docs" / "spark.md").read_text(encoding="utf-8")
    _, parquet, database = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    url, login = jdbc(on_server)
    spark.createDataFrame(list(calls.items()), "id string, stats string").write.parquet(str(tmp_path / "calls"))
    names = {"spark": spark, "url": url, "login": login}
    for place in ("calls/", "calls-60/"):
        parquet = parquet.replace(f'"{place}"', repr(str(tmp_path / place)))
    exec(parquet, names)
    assert spark.read.parquet(str(tmp_path / "calls-60")).count() == len(calls)
    assert "byte 0: expected" in capsys.readouterr().out
    exec(database, names)
    assert names["calls"].rdd.getNumPartitions() == 12
    assert on_server.ask("SELECT count(*) FROM calls_60") == [(len(calls),)]
    assert "fn 4" in capsys.readouterr().out
