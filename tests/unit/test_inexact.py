"""What is marked as inexact: of raw rows nothing, of reduced rows each figure that they no longer hold, and no other."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats import StatSeries, connect, decimate, summarize
from callstats.cli.app import cli
from callstats.cli.record import record_line
from callstats.stats import CallData, summarize_calls
from callstats.stats.calls import CallScalars
from support.database import connect as open_sqlite
from support.zoo import EPOCH, SECOND

pytestmark = pytest.mark.usefixtures("backend")

MIB = 2**20
COUNTERS = {"net_rx", "net_tx", "disk_read", "disk_write"}
EVERY = ("mean", "min", "max", "first", "last")


def raw() -> StatSeries:
    """A minute of Fn's metrics that a right size needs, and the working set."""
    seconds = range(60)
    metrics = {
        "cpu_total": [i % 50 for i in seconds],
        "mem_usage": [MIB * (i + 1) for i in seconds],
        "mem_working": [MIB * (i + 1) // 2 for i in seconds],
        "mem_limit": [256 * MIB] * 60,
        "net_rx": [1000 * i for i in seconds],
        "net_tx": [7 * i for i in seconds],
        "disk_read": [4096 * i for i in seconds],
        "disk_write": [i // 2 for i in seconds],
    }
    return StatSeries([EPOCH + i * SECOND for i in seconds], metrics)


FORMS: dict[str, StatSeries] = {
    "raw": raw(),
    "every-peak": decimate(raw(), 6, how=EVERY),
    "peaks-of-memory": decimate(raw(), 6, how=dict.fromkeys(("mem_usage", "mem_working", "mem_limit"), ("mean", "max"))),
    "ends-of-counters": decimate(raw(), 6, how=dict.fromkeys(COUNTERS, ("mean", "first", "last"))),
    "no-peak": decimate(raw(), 6),
}
"""One series as it was sampled, and reduced to rows that keep all, some or none of their peaks."""

NOT_EXACT: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": set(),
    "peaks-of-memory": {"cpu_total", *COUNTERS},
    "ends-of-counters": {"cpu_total", "mem_usage", "mem_working", "mem_limit"},
    "no-peak": {"cpu_total", "mem_usage", "mem_working", "mem_limit", *COUNTERS},
}
"""The metrics whose summary is not exact."""

MEANS = {"cpu", "cpu_mean", "cpu_request", "growth"}
"""What any reduced row no longer holds: its mean is floored, and a slope needs every sample."""

OF_PEAKS = {"memory", "headroom", "near", "rightsize", "waste"}

APPROXIMATE: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": MEANS,
    "peaks-of-memory": {*MEANS, "cpu_peak", "trend", *COUNTERS},
    "ends-of-counters": {*MEANS, "cpu_peak", "trend", *OF_PEAKS},
    "no-peak": {*MEANS, "cpu_peak", "trend", *OF_PEAKS, *COUNTERS},
}
"""The figures of calls that are not exact, where it is known how long each call took."""

SHOWN: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": {"CPU mean", "CPU p95", "CPU request"},
    "peaks-of-memory": {"CPU mean", "CPU p95", "CPU request", "growing", "received", "sent", "read", "written"},
    "ends-of-counters": {
        *("CPU mean", "CPU p95", "CPU request", "growing", "memory p50", "memory p95", "memory p99", "memory max"),
        *("limit than", "waste", "near limit", "near limit share", "right size"),
    },
    "no-peak": {
        *("CPU mean", "CPU p95", "CPU request", "growing", "memory p50", "memory p95", "memory p99", "memory max"),
        *("limit than", "waste", "near limit", "near limit share", "right size", "received", "sent", "read", "written"),
    },
}
"""The same as `summary` and the page show them, by their words."""

CELLS: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": {"CPU mean"},
    "peaks-of-memory": {"finding", "CPU mean"},
    "ends-of-counters": {"finding", "CPU mean", "memory p95", "memory max", "near limit", "right size", "waste"},
    "no-peak": {"finding", "CPU mean", "memory p95", "memory max", "near limit", "right size", "waste"},
}
"""The same in the columns of the page's table."""

DURATIONS = {"duration p50", "duration p95", "duration p99", "duration max"}

REDUCED = {*(f"{name} mean" for name in ("cpu_total", "mem_usage", "mem_working")), *(f"{name} up to" for name in COUNTERS)}

CHARTS: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": REDUCED,
    "peaks-of-memory": {*REDUCED, "cpu_total max", *(f"{name} in all" for name in COUNTERS)},
    "ends-of-counters": {*REDUCED, "mem_working max", "mem_usage max", "cpu_total max"},
    "no-peak": {*REDUCED, "mem_working max", "mem_usage max", "cpu_total max", *(f"{name} in all" for name in COUNTERS)},
}
"""The same above the charts of one call."""

PANELS: dict[str, set[str]] = {
    "raw": set(),
    "every-peak": {"Network", "Disk"},
    "peaks-of-memory": {"Processor", "Network", "Disk"},
    "ends-of-counters": {"Memory", "Processor", "Network", "Disk"},
    "no-peak": {"Memory", "Processor", "Network", "Disk"},
}
"""The charts of the page whose largest value is not exact."""

forms = pytest.mark.parametrize("form", FORMS)
timed = pytest.mark.parametrize("timed", [True, False], ids=["with-times", "without-times"])


def database(path: Path, form: str, *, timed: bool = True, calls: int = 60) -> Path:
    """A table of calls of one form; without times nothing but the samples tells how long they took."""
    with closing(open_sqlite(path)) as db:
        times = ", started_at, completed_at" if timed else ""
        db.execute(f"CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id, status{times}, stats)")
        ends = ["2017-11-27T14:52:53.000Z", "2017-11-27T14:53:53.000Z"] if timed else []
        rows = [(f"{i:02}", "resize", "success", *ends, FORMS[form].to_db()) for i in range(calls)]
        db.execute("BEGIN")
        db.executemany(f"INSERT INTO calls VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.execute("COMMIT")
    return path


def output(*args: object) -> str:
    """What a command prints."""
    result = CliRunner(env={"CALLSTATS_URL": None, "COLUMNS": "200"}).invoke(cli, [str(arg) for arg in args])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def marked_figures(figures: list[tuple[str, str]]) -> set[str]:
    """The figures that carry the mark, by title and the word beside each."""
    found = set()
    for title, text in figures:
        for mark in re.finditer("~", text):
            before, after = text[: mark.start()], text[mark.start() :]
            if title in ("memory", "duration", "CPU"):
                found.add(f"{title} {before.split()[-1]}")
            elif title in ("network", "disk"):
                found.add(after.split(",")[0].split()[-1])
            elif title == "limit":
                found.add(f"limit {before.split()[-1]}")
            elif title == "near limit":
                found.add("near limit share" if before else "near limit")
            else:
                assert not before, (title, text)
                found.add(title)
    assert sum(text.count("~") for _, text in figures) == len(found)
    return found


def lines_of(text: str) -> list[tuple[str, str]]:
    """The titles and texts of a printed group."""
    return [(line[2:13].strip(), line[14:]) for line in text.splitlines() if line.startswith("  ")]


# --- the library -------------------------------------------------------------------------------------------------------------


@forms
def test_summarize(form: str) -> None:
    """`exact` is False for the metrics whose rows lost what it takes."""
    found = summarize(FORMS[form])
    assert found.keys() == set(raw().names)
    assert {name for name, summary in found.items() if not summary.exact} == NOT_EXACT[form]


@forms
@timed
def test_summarize_calls(form: str, timed: bool) -> None:
    """`approximate` has those figures, of series and of stored text, and the duration where samples tell it."""
    series, duration = FORMS[form], 60 * SECOND if timed else None
    wanted = APPROXIMATE[form] | (set() if timed else {"duration_ns", "waste"})
    assert summarize_calls([CallData(series, "success", 0, duration)]).approximate == wanted
    scalars = CallScalars()
    scalars.add(series.to_json(), "success", 0, duration)
    assert scalars.summary(risk=0.5).approximate == wanted


def test_one_call_of_many() -> None:
    """A figure of many calls is inexact if one of them makes it so."""
    for one in FORMS:
        for other in FORMS:
            calls = [CallData(FORMS[form], "success", 0, SECOND) for form in ("raw", one, other)]
            assert summarize_calls(calls).approximate == APPROXIMATE[one] | APPROXIMATE[other]


def test_metrics_that_are_not_there() -> None:
    """Of what no call has, nothing is inexact."""
    for name, wanted in (("cpu_total", {"cpu", "cpu_mean", "cpu_peak", "cpu_request"}), ("net_rx", {"net_rx"}), ("other", set())):
        series = decimate(StatSeries(range(60), {name: range(60)}), 6)
        assert summarize_calls([CallData(series, None, 0, SECOND)]).approximate == wanted
    memory = decimate(StatSeries(range(60), {"mem_usage": range(60)}), 6)
    assert summarize_calls([CallData(memory, None, 0, SECOND)]).approximate == {*OF_PEAKS, "trend", "growth"}
    assert summarize_calls([CallData(StatSeries([], {}))]).approximate == set()


def test_a_row_alone_is_exact() -> None:
    """Rows of one sample each are raw, though they came out of a reduction; one row of two samples is not."""
    for rows, wanted in ((60, set()), (59, {"mem_usage"})):
        series = decimate(StatSeries([i * SECOND for i in range(60)], {"mem_usage": range(60)}), rows)
        assert {name for name, summary in summarize(series).items() if not summary.exact} == wanted


# --- the command -------------------------------------------------------------------------------------------------------------


@forms
@timed
def test_summary_for_people(form: str, timed: bool, tmp_path: Path) -> None:
    """Each figure of the set carries the mark, and the line that explains it is there when one does."""
    text = output("summary", database(tmp_path / "calls.db", form, timed=timed), "--rightsize", "50%", "--long")
    wanted = SHOWN[form] | (set() if timed else DURATIONS | {"CPU mean", "waste"})
    assert marked_figures(lines_of(text)) == wanted
    assert ("\n~ is not exact: " in text) == bool(wanted)
    assert text.count("~") == len(wanted) + bool(wanted)


@forms
@timed
def test_summary_for_programs(form: str, timed: bool, tmp_path: Path) -> None:
    """JSON and CSV name the set, sorted, and hold no mark."""
    db = database(tmp_path / "calls.db", form, timed=timed)
    wanted = sorted(APPROXIMATE[form] | (set() if timed else {"cpu_mean", "duration_ns", "waste"}))
    text, table = output("summary", db, "--json"), output("summary", db, "--csv")
    assert [group["approximate"] for group in json.loads(text)["groups"]] == [wanted]
    assert [row["approximate"] for row in csv.DictReader(io.StringIO(table))] == [" ".join(wanted)]
    assert "~" not in text + table


NUMBERS = ("cpu_mean", "cpu_peak", "cpu_time_ns", "duration_ns", "memory_limit", "peak_memory", "samples")
INEXACT = {
    "raw": set(),
    "every-peak": {"cpu_mean"},
    "peaks-of-memory": {"cpu_mean", "cpu_peak"},
    "ends-of-counters": {"cpu_mean", "cpu_peak", "peak_memory"},
    "no-peak": {"cpu_mean", "cpu_peak", "peak_memory"},
}
"""What a call no longer tells exactly, whichever command prints it."""


@forms
@timed
def test_report(form: str, timed: bool, tmp_path: Path) -> None:
    """The page's table and figures carry the mark on the set, and nothing else of its data does."""
    page = tmp_path / "page.html"
    output("report", database(tmp_path / "calls.db", form, timed=timed), "-o", page, "--rightsize", "50%")
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    texts = data["texts"]
    [group] = data["groups"]
    cells = {
        title
        for (title, _), cell in zip(data["columns"][2:], group["cells"], strict=True)  # after the finding and its line
        if isinstance(cell, list) and "~" in (texts[cell[0]] if isinstance(cell[0], int) else cell[0])
    }
    assert data["findings"][group["finding"]] == "too much memory"
    cells |= {"finding"} if group["mark"] else set()
    figures = [(texts[title], texts[text]) for title, text in group["summary"]]
    assert cells == CELLS[form] | (set() if timed else {"duration p95", "CPU mean", "waste"})
    assert marked_figures(figures) == SHOWN[form] | (set() if timed else DURATIONS | {"CPU mean", "waste"})
    want = INEXACT[form] | (set() if timed else {"duration_ns"})
    facts = {"duration": "duration_ns", "mem_working": "peak_memory", "CPU mean": "cpu_mean", "CPU peak": "cpu_peak"}
    for call in data["calls"]:
        marked = {title for title, text in call["facts"] if "~" in text}
        assert marked == {title for title, name in facts.items() if name in want and title in dict(call["facts"])}
        assert [("~" in call[name]) for name in ("peak", "duration")] == ["peak_memory" in want, "duration_ns" in want]
        tops = {panel["title"]: panel["top"] for panel in call["panels"]}
        assert {title for title, top in tops.items() if "~" in top} == PANELS[form]
    of_calls = sum(
        text.count("~")
        for call in data["calls"]
        for text in (*dict(call["facts"]).values(), call["peak"], call["duration"], *(panel["top"] for panel in call["panels"]))
    )
    assert found[1].count("~") == len(cells) + sum(text.count("~") for _, text in figures) + of_calls


@forms
def test_show(form: str, tmp_path: Path) -> None:
    """Above a chart the max, the mean, a counter's increase and its rate are marked, and nothing else of the output is."""
    head, text = output("show", database(tmp_path / "calls.db", form, calls=1)).split("\n\n", 1)
    assert head.count("~") == len(INEXACT[form] & {"peak_memory", "cpu_mean"})
    found = set()
    for line in text.splitlines():
        name, _, figures = line.partition("  ")
        for part in figures.split(", "):
            if "~" in part:
                found.add(f"{name} {re.sub('~[0-9.]+ (B|kB|%|[KM]iB)(/s)? ?', '', part).strip()}")
    assert found == CHARTS[form]
    assert text.count("~") == len(found)


@forms
@timed
def test_list_and_record(form: str, timed: bool, tmp_path: Path) -> None:
    """The memory and CPU of a call are marked where reductions have changed them, in a list, a line and JSON alike."""
    db = database(tmp_path / "calls.db", form, calls=1, timed=timed)
    want = INEXACT[form] | (set() if timed else {"duration_ns"})
    texts = output("list", db).splitlines()[2].split("  ")
    assert [("~" in text) for text in (texts[-2], texts[-1])] == ["peak_memory" in want, "cpu_mean" in want]
    [known] = [json.loads(line)["usage"] for line in output("list", db, "--json").splitlines()]
    assert set(known["exact"]) == {name for name in NUMBERS if known[name] is not None} - want
    with connect(str(db)) as table:
        [call] = table.list()
    assert record_line(call, "calls", "sampled").count("~") == len(want & {"peak_memory", "cpu_mean", "duration_ns"})
