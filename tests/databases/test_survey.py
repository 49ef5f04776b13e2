"""The heaviest calls of a table, and ``callstats report`` in this process: what it writes, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from callstats.cli.app import cli
from support.databases import Database
from support.reports import MIB, call, hostile, platform, series, stored
from support.tables import get_call, summarize_table

pytestmark = pytest.mark.usefixtures("backend")


def run(*args: object, **env: str | None) -> Result:
    """What the command prints and how it ends."""
    return CliRunner(env={"CALLSTATS_URL": None, **env}).invoke(cli, ["report", *map(str, args)], prog_name="callstats")


def data_of(path: Path) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_same_as_the_summary(tmp_path: Path) -> None:
    """The groups are those of `summarize_table`, with the scalars of their calls."""
    db = platform(tmp_path / "calls.db")
    survey, summary = summarize_table(db, risk=0.05, top=50), summarize_table(db, risk=0.05)
    assert survey.groups == summary.groups
    assert summary.heaviest == ()
    calls = {group.name: group.calls for group in survey.groups if group.calls is not None}
    assert [(name, np.count_nonzero(each.peaks), np.count_nonzero(each.durations >= 0)) for name, each in calls.items()] == [
        ("export", 2, 2),
        ("resize", 80, 80),
        ("short", 0, 1),
    ]
    assert calls["resize"].peaks.max() == summary.groups[1].summary.memory.max
    assert calls["export"].outcomes.tolist() == [2, 2]


def test_the_heaviest_by_turns(tmp_path: Path) -> None:
    """The heaviest of each group, then the second of each; of equal peaks the longest, of equals the first."""
    rows = [call(f"a{i}", "a", series(5, (10 + i) * MIB).to_db()) for i in range(4)]
    rows += [call("b1", "b", series(5, MIB).to_db()), call("b2", "b", series(5, MIB).to_db()), call("c", "c", "")]
    db = stored(tmp_path / "calls.db", rows)
    assert [found.key for found in summarize_table(db, top=50).heaviest] == ["a3", "b1", "a2", "b2", "a1", "a0"]
    assert [found.key for found in summarize_table(db, top=3).heaviest] == ["a3", "b1", "a2"]
    assert summarize_table(db, top=0).heaviest == ()
    found = summarize_table(db, top=1, by=None).heaviest[0]
    assert (found.key, found.status, found.completed_at) == ("a3", "success", "2026-10-26T00:01:00Z")


def test_the_heaviest_of_many(tmp_path: Path) -> None:
    """The heaviest calls are found wherever they are among many more, of many groups."""
    rows = [call(f"{name}{i:02}", name, series(5, (50 - i) * MIB).to_db()) for i in range(20) for name in "abc"]
    db = stored(tmp_path / "calls.db", rows)
    assert [found.key for found in summarize_table(db, top=5).heaviest] == ["a00", "b00", "c00", "a01", "b01"]
    db = stored(tmp_path / "back.db", [call(f"b{i:02}", "b", series(5, (10 + i) * MIB).to_db()) for i in range(40)])
    assert [found.key for found in summarize_table(db, top=3).heaviest] == ["b39", "b38", "b37"]


def test_the_first_of_many_equals(tmp_path: Path) -> None:
    """Of more equals than are asked for the first ones are kept, whatever their keys."""
    db = stored(tmp_path / "calls.db", [call(f"a{i}", "a", series(5, MIB).to_db()) for i in range(6)])
    assert [found.key for found in summarize_table(db, top=2).heaviest] == ["a0", "a1"]


def test_calls_without_memory(tmp_path: Path) -> None:
    """A call that has other metrics alone can be drawn too; one without samples can't."""
    from callstats import StatSeries

    db = stored(tmp_path / "calls.db", [call("a", "a", StatSeries([0], {"x": [1]}).to_db()), call("b", "a", "")])
    assert [found.key for found in summarize_table(db, top=50).heaviest] == ["a"]


def test_read_call(tmp_path: Path) -> None:
    """All that the table tells of a call; a table without those columns tells less, one asked for must be there."""
    from support.database import blob, made

    db = hostile(tmp_path / "calls.db")
    found = get_call(db)
    assert found.key.startswith("7")
    assert (found.name, found.status, found.error) == (found.key[1:],) * 3
    small = made(tmp_path / "small.db", [("a", blob(3))])
    found = get_call(small, "a")
    assert (found.name, found.created_at, len(found.series or ())) == (None, None, 3)
    with pytest.raises(ValueError, match=r"^by must be a column of table 'calls', got 'fn'"):
        get_call(small, "a", group_column="fn")


def test_the_command(tmp_path: Path) -> None:
    """It writes the page, names it with its size, and leaves the database alone."""
    db = platform(tmp_path / "calls.db")
    before = db.read_bytes()
    result = run(db, "-o", tmp_path / "page.html", "--rightsize", "5%", "--top", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"83 calls in 3 names, 0 rejected; wrote \S+page.html, 2\.\d MB: open it in a browser\n", result.stdout)
    assert db.read_bytes() == before
    data = data_of(tmp_path / "page.html")
    assert data["by"] == "name"
    assert [one["name"] for one in data["groups"]] == ["export", "resize", "short"]
    assert [one["group"] for one in data["calls"]] == [0, 1, 0]
    assert data["calls"][0]["facts"][:2] == [["call", "export-1"], ["status", "killed"]]
    assert data["notes"][0].startswith("83 calls in 3 names, as of ")


def test_one_group_of_all(tmp_path: Path) -> None:
    """--by '' makes one group; --where and --since choose calls; CALLSTATS_URL is the default."""
    db = platform(tmp_path / "calls.db")
    page = tmp_path / "page.html"
    assert run("-o", page, "--by", "", "--where", "status = 'killed'", CALLSTATS_URL=str(db)).exit_code == 0
    data = data_of(page)
    assert [one["name"] for one in data["groups"]] == ["all calls"]
    assert [one["group"] for one in data["calls"]] == [0, 0]
    assert run(db, "-o", page, "--since", "2026-10-27T00:00:00Z").exit_code == 0
    assert data_of(page)["groups"] == []


def test_groups_that_read_alike(tmp_path: Path) -> None:
    """1 and '1', NULL and 'NULL' are four groups with four names."""
    rows = [call(str(i), name, series(3, MIB).to_db()) for i, name in enumerate((1, "1", None, "NULL"))]
    db = stored(tmp_path / "calls.db", rows)
    assert run(db, "-o", tmp_path / "page.html").exit_code == 0
    names = [one["name"] for one in data_of(tmp_path / "page.html")["groups"]]
    assert sorted(names) == ["1", "1 (2)", "NULL", "NULL (2)"]
    assert sorted(one["group"] for one in data_of(tmp_path / "page.html")["calls"]) == [0, 1, 2, 3]


def test_refused_rows(tmp_path: Path) -> None:
    """A row that holds no histogram is named, counted in the page, and makes the exit code 1."""
    db = stored(tmp_path / "calls.db", [call("a", "f", series(3, MIB).to_db()), call("b", "f", "[{]")])
    result = run(db, "-o", tmp_path / "page.html")
    assert result.exit_code == 1
    assert result.stderr.startswith("rejected 'b': ")
    assert "left out, since their histogram can't be read: 1 row" in data_of(tmp_path / "page.html")["notes"]


def test_wrong_use(tmp_path: Path) -> None:
    """No database, or a place that can't be written, is told in one line."""
    db = platform(tmp_path / "calls.db")
    for args, said in (
        ((), "there is no SQLite database 'calls.db'"),
        ((db, "-o", tmp_path / "no" / "page.html"), "No such file"),
    ):
        result = run(*args)
        assert (result.exit_code, said in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("plotly", ["report", "calls.db"], "report"), ("matplotlib", ["show", "calls.db", "--png", "call.png"], "plot")],
)
def test_a_missing_library(missing: str, arguments: list[str], extra: str, tmp_path: Path) -> None:
    """What draws is named with the extra that brings it."""
    platform(tmp_path / "calls.db")
    program = f"import sys; sys.modules[{missing!r}] = None; from callstats.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f'install callstats with the extra "{extra}"\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls.db"]


def test_nothing_heavy_is_loaded() -> None:
    """`callstats.plot` loads neither Plotly nor Matplotlib."""
    program = "import sys, callstats.plot; print(sorted({'plotly', 'matplotlib', 'sqlalchemy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_over_all_databases(database: Database) -> None:
    """A call is read, and a table surveyed, in SQLite, PostgreSQL and MySQL alike; a column that is not there is done without."""
    from support.database import blob

    database.make([("a", blob(5)), ("b", blob(9, seed=1)), ("c", None)])
    assert get_call(database.url).key == "c"
    found = get_call(database.url, "b")
    assert (found.key, found.name, len(found.series or ())) == ("b", None, 9)
    survey = summarize_table(database.url, top=50)
    assert (survey.calls, survey.stopped, len(survey.groups)) == (3, None, 1)
    assert sorted(call.key for call in survey.heaviest) == ["a", "b"]
    with pytest.raises(ValueError, match=r"^key must be the key of a call in table 'calls', got 'x': list shows the latest$"):
        get_call(database.url, "x")
    database.make([(7, blob(5))], key="BIGINT", table="numbered")
    assert get_call(database.url, "7", table="numbered").key == 7
