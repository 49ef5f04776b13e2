"""The report in a real browser, from disk: nothing goes wrong, nothing leaves the page, charts draw, names are text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats._units import printable
from callstats.cli.app import cli
from support.browser import DESKTOP, PHONE, drawn, opened
from support.reports import HOSTILE, hostile, platform

SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])


def made(db: Path, *options: str) -> Path:
    """The report of a database."""
    path = db.with_suffix(".html")
    result = CliRunner().invoke(cli, ["report", str(db), "-o", str(path), "--rightsize", "5%", *options])
    assert (result.exit_code, result.stderr) == (0, "")
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small platform."""
    return made(platform(tmp_path_factory.mktemp("report") / "calls.db"))


@pytest.fixture(scope="module")
def wicked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a database whose names are attacks."""
    return made(hostile(tmp_path_factory.mktemp("report") / "calls.db"))


def names(page: Any) -> list[str]:
    """The groups that the table shows, from the top."""
    return page.locator("#groups tbody th").all_inner_texts()


@SIZES
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_have_drawn(chromium: Any, plain: Path, size: tuple[int, int], theme: str) -> None:
    """Both distributions and all panels of the heaviest call show colours; nothing is wider than the screen."""
    with opened(chromium, plain, size, theme) as page:
        charts = page.locator(".chart")
        assert charts.count() == 2 + 5
        for place in range(charts.count()):
            assert drawn(charts.nth(place)) > 0.002, place
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@SIZES
def test_sorting(chromium: Any, plain: Path, size: tuple[int, int]) -> None:
    """A heading sorts by its column, downward first, and again the other way; empty cells come last; its state is told."""
    with opened(chromium, plain, size) as page:
        assert names(page) == ["resize", "export", "short"]
        page.get_by_role("button", name="memory max").click()
        assert names(page) == ["export", "resize", "short"]
        heading = page.get_by_role("columnheader", name="memory max")
        assert heading.get_attribute("aria-sort") == "descending"
        page.get_by_role("button", name="memory max").click()
        assert names(page) == ["resize", "export", "short"]
        assert heading.get_attribute("aria-sort") == "ascending"
        page.get_by_role("button", name="name", exact=True).click()
        assert names(page) == ["export", "resize", "short"]


@SIZES
def test_search(chromium: Any, plain: Path, size: tuple[int, int]) -> None:
    """Typing narrows the table to the names that hold the text, whatever its case, and says how many."""
    with opened(chromium, plain, size) as page:
        page.get_by_label("Search").fill("RES")
        assert names(page) == ["resize"]
        assert page.get_by_role("status").inner_text() == "1 of 3 match"
        page.get_by_label("Search").fill("nothing")
        assert names(page) == []
        page.get_by_label("Search").fill("")
        assert page.get_by_role("status").inner_text() == "3 in all"


def test_by_keyboard(chromium: Any, plain: Path) -> None:
    """All can be reached and used without a pointer: search, headings, names, calls and the theme."""
    with opened(chromium, plain) as page:
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert {"theme", "search", "groups-scroll", "errors", "killed", "export", "call", "after"} <= reached
        page.get_by_role("button", name="export").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "group-title"
        assert page.locator("#group-title").inner_text() == "name export"
        assert page.locator("#call option").count() == 2


def test_choosing(chromium: Any, plain: Path) -> None:
    """A name shows its group: advice, figures, and its own heaviest calls one after the other."""
    with opened(chromium, plain) as page:
        assert page.locator("#advice").inner_text().startswith("Right size: 192 MiB: 0 of 80 calls would have exceeded it")
        page.get_by_role("button", name="export").click()
        few = "Right size: not enough calls whose memory is known: 2 of the 59 that a risk of 5 % needs; 2 of 2 calls sampled, "
        assert page.locator("#advice").inner_text().startswith(few)
        assert page.locator("#facts").inner_text().split("\n")[:2] == ["status", "killed"]
        first = page.locator("#call").input_value()
        page.get_by_role("button", name="Next").click()
        assert page.locator("#call").input_value() != first
        assert page.get_by_role("button", name="Next").is_disabled()
        assert drawn(page.locator("#panels .chart").first) > 0.002
        page.get_by_role("button", name="short").click()
        assert page.locator("#calls-title").inner_text() == "No call of short is among the heaviest"
        assert page.locator("#panels .chart").count() == 0


def test_no_button_sends_data_away(chromium: Any, plain: Path) -> None:
    """Charts can be zoomed and saved as images; Plotly's button that shares them is left out."""
    with opened(chromium, plain) as page:
        buttons = page.locator("#panels .chart").first.locator(".modebar-btn")
        titles = buttons.evaluate_all("all => all.map(node => node.dataset.title)")
        assert titles == ["Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


def test_zoom_legend_and_hover(chromium: Any, plain: Path) -> None:
    """Dragging zooms, a double click shows all again, hovering tells values, and the legend hides a line."""
    with opened(chromium, plain) as page:
        chart = page.locator("#panels .chart").nth(1)
        chart.scroll_into_view_if_needed()
        span = "chart => chart.layout.xaxis.range[1] - chart.layout.xaxis.range[0]"
        whole = chart.evaluate(span)
        box = chart.locator(".nsewdrag").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.3, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
        page.mouse.up()
        page.wait_for_function(
            "([chart, whole]) => chart.layout.xaxis.range[1] - chart.layout.xaxis.range[0] < whole * 0.5",
            arg=[chart.element_handle(), whole],
        )
        page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
        page.wait_for_function(
            "chart => chart.querySelector('.hoverlayer').textContent.includes('cpu_total')", arg=chart.element_handle()
        )
        assert re.match(r"[0-9.]+ minutescpu_total: [0-9]+ %", chart.locator(".hoverlayer").text_content())
        chart.locator(".legendtoggle").first.click()
        page.wait_for_function("chart => chart._fullData[0].visible === 'legendonly'", arg=chart.element_handle())
        page.mouse.move(0, 0)


def test_a_finger_scrolls(chromium: Any, plain: Path) -> None:
    """On a touch screen a dragged finger scrolls the page, and the buttons zoom."""
    with opened(chromium, plain, PHONE) as page:
        chart = page.locator("#panels .chart").first
        assert chart.evaluate("chart => chart._fullLayout.dragmode") is False
        span = "chart => chart._fullLayout.xaxis.range[1] - chart._fullLayout.xaxis.range[0]"
        whole = chart.evaluate(span)
        chart.get_by_role("button", name="Zoom in").tap()
        page.wait_for_function(
            "([chart, whole]) => chart._fullLayout.xaxis.range[1] - chart._fullLayout.xaxis.range[0] < whole",
            arg=[chart.element_handle(), whole],
        )


@SIZES
def test_theme(chromium: Any, plain: Path, size: tuple[int, int]) -> None:
    """The page follows the system, and the switch goes before it; charts take the colours too, and the chosen call stays."""
    background = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#panels .xtick text')).fill"
    for system, other in (("light", "dark"), ("dark", "light")):
        with opened(chromium, plain, size, system) as page:
            page.get_by_role("button", name="Next").click()
            call = page.locator("#call").input_value()
            before = page.evaluate(background), page.evaluate(ink)
            page.get_by_label("Theme").select_option(other)
            after = page.evaluate(background), page.evaluate(ink)
            assert before[0] != after[0]
            assert before[1] != after[1]
            assert page.locator("#call").input_value() == call


@SIZES
def test_hostile_names_are_text(chromium: Any, wicked: Path, size: tuple[int, int]) -> None:
    """Whatever a name tries, it shows as it reads, in the table, the words, the choices and the charts; nothing of it runs."""
    with opened(chromium, wicked, size) as page:
        shown = [printable(name) for name in HOSTILE]
        assert sorted(page.locator("#groups tbody th button").evaluate_all("all => all.map(b => b.textContent)")) == sorted(shown)
        for name in shown:
            page.get_by_label("Search").fill(name)
            buttons = page.locator("#groups tbody th button")
            buttons.nth(buttons.evaluate_all("all => all.map(node => node.textContent)").index(name)).click()
            assert page.locator("#group-title").evaluate("node => node.textContent") == f"name {name}"
            assert name in page.locator("#call").evaluate("node => node.options[0].textContent")
            facts = page.locator("#facts dd").evaluate_all("all => all.map(node => node.textContent)")
            assert facts.count(name) == 2
            titles = page.locator("#panels figcaption").evaluate_all("all => all.map(node => node.textContent)")
            assert name in titles
            legend = page.locator("#panels .chart").nth(titles.index(name)).locator(".legendtext")
            words = legend.evaluate("node => node.textContent")
            assert re.sub(r"\s", "", words) == re.sub(r"\s", "", name)
        assert page.title().startswith("Calls in ")
        assert page.locator("main script, main img, main a, main b").count() == 0


def test_many_groups_come_by_hundreds(chromium: Any, tmp_path: Path) -> None:
    """The table begins with 100 groups and tells how many there are; a button shows the rest."""
    from support.reports import MIB, call, series, stored

    histogram = series(10, MIB).to_db()
    db = stored(tmp_path / "calls.db", [call(f"{i}", f"fn-{i}", histogram) for i in range(250)])
    with opened(chromium, made(db)) as page:
        assert len(names(page)) == 100
        assert page.get_by_role("status").inner_text() == "250 in all, 100 shown"
        page.get_by_role("button", name="Show 150 more").click()
        assert len(names(page)) == 250


def test_an_empty_table(chromium: Any, tmp_path: Path) -> None:
    """A report of no calls says so, and is no broken page."""
    with opened(chromium, made(stored_empty(tmp_path))) as page:
        assert page.get_by_role("status").inner_text() == "0 in all"
        assert not page.locator("#group").is_visible()


def stored_empty(folder: Path) -> Path:
    """A table without rows."""
    from support.reports import stored

    return stored(folder / "calls.db", [])
