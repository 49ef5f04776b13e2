"""The distribution of the durations of a name's calls in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats.cli.app import cli
from support.browser import DESKTOP, PHONE, opened
from support.reports import stored

BEGIN = datetime(2026, 10, 26, tzinfo=UTC)
DURATIONS_MS = {
    "narrow": [80 + index * 17 / 29 for index in range(30)],
    "single": [2_210],
    "long": [(7_200 + index) * 1_000 for index in range(31)],
    "wide": [100 * 2**index for index in range(17)],
}


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of names with similar durations, one duration, long ones, and ones from 0.1 s to two hours; most failed."""
    rows = []
    for name, durations in DURATIONS_MS.items():
        for index, ms in enumerate(durations):
            begun, ended = ((BEGIN + timedelta(milliseconds=at)).isoformat() for at in (0, ms))
            status = ("success", "error", "killed")[index % 3]
            rows.append((f"{name}-{index}", name, status, begun, begun, ended, None, None))
    path = tmp_path_factory.mktemp("report") / "calls.db"
    result = CliRunner().invoke(cli, ["report", str(stored(path, rows)), "-o", str(path.with_suffix(".html"))])
    assert (result.exit_code, result.stderr) == (0, "")
    return path.with_suffix(".html")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(
    ("name", "first", "outcomes"),
    [
        ("narrow", "0.080 s", [10, 10, 10]),
        ("single", "1.90 s", [1]),
        ("long", "2 h 00 min00 s", [11, 10, 10]),
        ("wide", "0.0625 s", [6, 6, 5]),
    ],
)
def test_bars(chromium: Any, bars: Path, size: tuple[int, int], name: str, first: str, outcomes: list[int]) -> None:
    """All calls are in narrow bars stacked by outcome, over labels that are apart from each other and within the page."""
    with opened(chromium, bars, size, place=f"#{name}") as page:
        chart = page.locator("#duration-bars")
        assert chart.evaluate("chart => chart.data.map(trace => trace.y.reduce((a, b) => a + b))") == outcomes
        assert 10 <= chart.evaluate("chart => chart._fullLayout.xaxis.range[1]") <= 24
        ticks = chart.locator(".xtick text")
        assert ticks.first.text_content() == first
        boxes = [ticks.nth(index).bounding_box() for index in range(ticks.count())]
        sides = sorted((box["x"], box["x"] + box["width"]) for box in boxes if box)  # Plotly hides a label that has no room
        assert len(sides) >= 2
        assert all(left[1] < right[0] for left, right in pairwise(sides))
        assert sides[0][0] >= 0
        assert sides[-1][1] <= size[0]
