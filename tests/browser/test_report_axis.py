"""The axis of time of a call's charts in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats import StatSeries
from callstats.cli.app import cli
from support.browser import opened
from support.reports import BEGAN, MIB, SECOND, stored

RANGE = "chart => chart._fullLayout.xaxis.range.map(Number)"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of calls of 2.01 s, with samples after 1.01 s and 1.5 s, after 1.01 s alone, and at the start and the end."""
    times = ("2026-10-26T00:00:00Z", "2026-10-26T00:00:00Z", "2026-10-26T00:00:02.01Z")
    rows = []
    for key, ms in (("two", (1010, 1500)), ("one", (1010,)), ("ends", (0, 2010))):
        metrics = {"mem_usage": [MIB, 2 * MIB], "cpu_total": [5, 9]}
        series = StatSeries(
            [BEGAN * SECOND + at * 10**6 for at in ms], {name: values[: len(ms)] for name, values in metrics.items()}
        )
        rows.append((key, key, "success", *times, series.to_db(), None))
    path = tmp_path_factory.mktemp("report") / "calls.db"
    result = CliRunner().invoke(cli, ["report", str(stored(path, rows)), "-o", str(path.with_suffix(".html"))])
    assert (result.exit_code, result.stderr) == (0, "")
    return path.with_suffix(".html")


@pytest.mark.parametrize("key", ["two", "one", "ends"])
def test_it_lasts_as_the_call_does(chromium: Any, short: Path, key: str) -> None:
    """From 0 to the duration, in all charts; also once a zoom has ended."""
    with opened(chromium, short, place=f"#{key}") as page:
        charts = page.locator("#panels .chart")
        assert charts.count() == 2
        for change in ({}, {"xaxis.range": [1, 1.2]}, {"xaxis.autorange": True}):
            page.evaluate("([chart, change]) => Plotly.relayout(chart, change)", [charts.first.element_handle(), change])
            for index in range(2):
                wanted = change.get("xaxis.range", [0, 2.01])
                page.wait_for_function(
                    "([chart, end]) => Math.abs(chart._fullLayout.xaxis.range[1] - end) < 1e-6",
                    arg=[charts.nth(index).element_handle(), wanted[1]],
                )
                assert charts.nth(index).evaluate(RANGE) == pytest.approx(wanted, abs=1e-6)
        assert charts.first.locator(".scatterlayer .point").count() == (1 if key == "one" else 2)


def test_a_double_click_shows_all_of_it(chromium: Any, short: Path) -> None:
    """After a zoom by dragging, in the other chart too."""
    with opened(chromium, short, place="#two") as page:
        charts = page.locator("#panels .chart")
        charts.first.scroll_into_view_if_needed()
        box = charts.first.locator(".nsewdrag").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.3, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
        page.mouse.up()
        last = charts.last.element_handle()
        page.wait_for_function("chart => chart._fullLayout.xaxis.range[1] < 1.5", arg=last)
        page.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
        page.wait_for_function("chart => chart._fullLayout.xaxis.range[1] > 2", arg=last)
        for index in range(2):
            assert charts.nth(index).evaluate(RANGE) == pytest.approx([0, 2.01], abs=1e-6)


def test_hovering_gives_seconds_since_the_start(chromium: Any, short: Path) -> None:
    """A sample 1.01 s after the start says so."""
    with opened(chromium, short, place="#two") as page:
        chart = page.locator("#panels .chart").first
        chart.scroll_into_view_if_needed()
        box = chart.locator(".nsewdrag").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 1.01 / 2.01, box["y"] + box["height"] / 2, steps=5)
        page.wait_for_function(
            "chart => chart.querySelector('.hoverlayer').textContent.startsWith('1.01 seconds')", arg=chart.element_handle()
        )
        page.mouse.move(0, 0)
