"""The report in a real browser, from disk: nothing goes wrong, nothing leaves the page, charts draw, names are text."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callstats import StatSeries
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


def choose(page: Any, name: str) -> None:
    """Follow the link of a name."""
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_function("title => document.getElementById('group-title').textContent === title", arg=name)


@SIZES
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_have_drawn(chromium: Any, plain: Path, size: tuple[int, int], theme: str) -> None:
    """Both distributions and all panels of the heaviest call show colours; nothing is wider than the screen."""
    with opened(chromium, plain, size, theme) as page:
        charts = page.locator(".chart")
        assert charts.count() == 3 + 2 + 5
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
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert {"theme", "search", "groups-scroll", "failed", "killed", "export", "call", "after"} <= reached
        page.get_by_role("link", name="export").focus()
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.activeElement.id === 'group-title'")
        assert page.locator("#group-title").inner_text() == "export"
        assert page.locator("#call option").count() == 2


def test_choosing(chromium: Any, plain: Path) -> None:
    """A name shows its group: advice, figures, and its own heaviest calls one after the other."""
    with opened(chromium, plain) as page:
        assert page.locator("#advice").inner_text().startswith("Right size: 192 MiB: 0 of 80 calls would have exceeded it")
        choose(page, "export")
        few = "Right size: not enough calls whose memory is known: 2 of the 59 that a risk of 5 % needs"
        assert page.locator("#advice").inner_text() == few
        assert page.locator("#covered").inner_text().startswith("2 of 2 calls sampled, 2 killed; ")
        assert page.locator("#facts").inner_text().split("\n")[:2] == ["call", "export-1"]
        first = page.locator("#call").input_value()
        page.get_by_role("button", name="Next").click()
        assert page.locator("#call").input_value() != first
        assert page.get_by_role("button", name="Next").is_disabled()
        assert drawn(page.locator("#panels .chart").first) > 0.002
        choose(page, "short")
        assert page.locator("#calls-title").inner_text() == "No call of short is among the heaviest"
        assert page.locator("#panels .chart").count() == 0


def test_few_calls(chromium: Any, plain: Path) -> None:
    """There is no half of a call, and names come in the order of `summary`."""
    with opened(chromium, plain) as page:
        assert page.get_by_role("columnheader", name="waste").get_attribute("aria-sort") == "descending"
        choose(page, "export")
        for chart, ticks in {
            "#day-calls": ["0", "1"],
            "#memory-bars": ["0", "1", "2"],
            "#duration-bars": ["0", "1", "2"],
        }.items():
            assert page.locator(f"{chart} .ytick").all_text_contents() == ticks


def test_no_button_sends_data_away(chromium: Any, plain: Path) -> None:
    """Charts can be zoomed and saved as images; Plotly's button that shares them is left out."""
    with opened(chromium, plain) as page:
        buttons = page.locator("#panels .chart").first.locator(".modebar-btn")
        titles = buttons.evaluate_all("all => all.map(node => node.dataset.title)")
        assert sorted(titles) == ["Download plot as a PNG", "Pan", "Reset axes", "Zoom", "Zoom in", "Zoom out"]


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
        assert re.match(r"[0-9.]{1,5} minutescpu_total: [0-9]+ %", chart.locator(".hoverlayer").text_content())
        chart.locator(".legendtoggle").first.click()
        page.wait_for_function("chart => chart._fullData[0].visible === 'legendonly'", arg=chart.element_handle())
        page.mouse.move(0, 0)


@SIZES
def test_buttons_cover_no_label(chromium: Any, plain: Path, size: tuple[int, int]) -> None:
    """A chart's buttons stand beside its levels, its legend and its ticks."""
    boxes = """(chart, parts) => [...chart.querySelectorAll(parts)].map(node => node.getBoundingClientRect())
        .filter(box => box.width).map(box => [box.left, box.top, box.right, box.bottom])"""
    with opened(chromium, plain, size) as page:
        charts = page.locator(".chart")
        seen = 0
        for place in range(charts.count()):
            buttons = charts.nth(place).evaluate(boxes, ".modebar-group")
            labels = charts.nth(place).evaluate(boxes, ".annotation, .legend, .xtick, .ytick")
            assert buttons and labels, place
            for left, top, right, bottom in buttons:
                for label in labels:
                    assert label[2] <= left or right <= label[0] or label[3] <= top or bottom <= label[1], (place, label)
                    seen += 1
        assert seen > 50


def span_of(chart: Any) -> float:
    """The width of what a chart shows."""
    return float(chart.evaluate("chart => chart._fullLayout.xaxis.range.map(Number).reduce((from, to) => to - from)"))


def test_a_zoom_is_that_of_all_charts(chromium: Any, plain: Path) -> None:
    """The charts of a call show the same part of it, and so do those of the timeline; a double click shows all again."""
    with opened(chromium, plain) as page:
        charts = page.locator("#panels .chart")
        first, last = charts.first, charts.last
        whole, timeline = span_of(last), span_of(page.locator("#memory-bars"))
        page.evaluate("chart => Plotly.relayout(chart, { 'xaxis.range[0]': 1, 'xaxis.range[1]': 3 })", first.element_handle())
        for place in range(charts.count()):
            assert charts.nth(place).evaluate("chart => chart._fullLayout.xaxis.range") == [1, 3]
        assert span_of(page.locator("#memory-bars")) == timeline
        page.evaluate("chart => Plotly.relayout(chart, { 'xaxis.autorange': true })", last.element_handle())
        assert span_of(last) == pytest.approx(whole)
        assert span_of(first) > 2


def test_links(chromium: Any, plain: Path) -> None:
    """The address has the name and the call. It can be opened, and Back goes to what was chosen before."""
    with opened(chromium, plain) as page:
        assert "#" not in page.url
        choose(page, "export")
        page.get_by_role("button", name="Next").click()
        assert page.url.endswith("#export/export-2")
        choose(page, "short")
        assert page.url.endswith("#short")
        page.go_back()
        page.wait_for_function("() => document.querySelector('#facts dd')?.textContent === 'export-2'")
        assert page.locator("#group-title").inner_text() == "export"
        page.go_back()
        page.wait_for_function("() => document.querySelector('#facts dd').textContent === 'export-1'")
        page.go_back()
        page.wait_for_function("() => document.getElementById('group-title').textContent === 'resize'")
    for place, title, fact, absent in (
        ("#export/export-2", "export", "export-2", ""),
        ("#export/none", "export", "export-1", "This page has no call none of export: it has the heaviest calls."),
        ("#%ff", "resize", "resize-78", "This page has no name %ff."),
        ("#no%20such", "resize", "resize-78", "This page has no name no such."),
        ("", "resize", "resize-78", ""),
    ):
        with opened(chromium, plain, place=place) as page:
            assert (page.locator("#group-title").inner_text(), page.locator("#facts dd").first.inner_text()) == (title, fact)
            told = page.locator("#absent")
            assert (told.is_visible(), told.inner_text()) == (bool(absent), absent)
            assert page.evaluate("scrollY") == 0 or not absent, "the line is in sight"
            choose(page, "export")
            told.wait_for(state="hidden")


def test_outcomes_have_colours(chromium: Any, plain: Path) -> None:
    """Killed calls are apart in the timeline and the distributions, and at the call itself."""
    with opened(chromium, plain) as page:
        names = "chart => chart.data.map(trace => trace.name)"
        assert page.locator("#memory-bars").evaluate(names) == ["succeeded"]
        assert page.locator("#outcome").inner_text() == ""
        choose(page, "export")
        for chart in ("#memory-bars", "#duration-bars", "#day-calls"):
            assert page.locator(chart).evaluate(names) == ["killed"], chart
        assert page.locator("#outcome").inner_text() == "killed"
        assert page.locator("#count").inner_text() == "2 calls: 2 sampled, 0 not; 2 failed, 2 of them killed"


def test_on_paper(chromium: Any, plain: Path) -> None:
    """Printing makes the page light and as wide as A4 less its margins, with all charts within it, and then all is as before."""
    wide = "[...document.querySelectorAll('section, table, .chart, .main-svg')].map(node => node.getBoundingClientRect().right)"
    with opened(chromium, plain, theme="dark") as page:
        background = "getComputedStyle(document.documentElement).getPropertyValue('--card')"
        chart = page.locator("#memory-bars")
        before = page.evaluate(background), chart.evaluate("chart => chart._fullLayout.width")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(background) == "#ffffff"
        left = page.evaluate("document.body.getBoundingClientRect().left")
        assert max(page.evaluate(wide)) - left <= 186 / 25.4 * 96 + 1
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.wait_for_function("([chart, width]) => chart._fullLayout.width === width", arg=[chart.element_handle(), before[1]])
        assert page.evaluate(background) == before[0]
        assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"


@SIZES
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(chromium: Any, plain: Path, size: tuple[int, int], theme: str) -> None:
    """axe-core finds nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(chromium, plain, size, theme, place="#export", guarded=False) as page:  # axe is a script of its own
        found = axe.run(page).response
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 30


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
        assert sorted(page.locator("#groups tbody th a").evaluate_all("all => all.map(b => b.textContent)")) == sorted(shown)
        for name in shown:
            page.get_by_label("Search").fill(name)
            buttons = page.locator("#groups tbody th a")
            buttons.nth(buttons.evaluate_all("all => all.map(node => node.textContent)").index(name)).click()
            page.wait_for_function("title => document.getElementById('group-title').textContent === title", arg=name)
            assert name in page.locator("#call").evaluate("node => node.options[0].textContent")
            facts = page.locator("#facts dd").evaluate_all("all => all.map(node => node.textContent)")
            assert facts.count(name) == 2
            assert any(name in fact and fact != name for fact in facts)
            titles = page.locator("#panels figcaption").evaluate_all("all => all.map(node => node.textContent)")
            assert name in titles
            legend = page.locator("#panels .chart").nth(titles.index(name)).locator(".legendtext")
            words = legend.evaluate("node => node.textContent")
            assert re.sub(r"\s", "", words) == re.sub(r"\s", "", name)
        assert page.title().startswith("Calls in ")
        assert page.locator("main script, main img, main a:not([href^='#']), main b").count() == 0


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


def test_long_durations_stand_beside_each_other(chromium: Any, tmp_path: Path) -> None:
    """On a phone a chart has fewer labels, if they are as long as "34 min 08 s"."""
    from support.reports import call, stored

    rows = [call(str(i), "fn", None) for i in range(9)]
    ends = [f"2026-10-26T{2**i // 120:02}:{2**i // 2 % 60:02}:30Z" for i in range(9)]
    db = stored(tmp_path / "calls.db", [(*row[:5], end, *row[6:]) for row, end in zip(rows, ends, strict=True)])
    with opened(chromium, made(db), PHONE) as page:
        ticks = page.locator("#duration-bars .xtick text")
        sides = [(box["x"], box["x"] + box["width"]) for box in (ticks.nth(i).bounding_box() for i in range(ticks.count()))]
        assert len(sides) >= 3
        assert all(left[1] < right[0] for left, right in pairwise(sorted(sides)))


def test_words_stand_for_empty_charts(chromium: Any, tmp_path: Path) -> None:
    """Of a name without known memory the page says so, of a call with one sample that it has no chart; then charts come again."""
    from support.reports import MIB, SECOND, call, series, stored

    cpu = StatSeries([0, SECOND], {"cpu_total": [5, 9]}).to_db()
    rows = [call(f"blind-{i}", "blind", cpu, minute=i) for i in range(3)]
    rows += [call(f"seen-{i}", "seen", series(9, MIB).to_db(), minute=i) for i in range(3)]
    rows += [call("lone", "lone", series(1, MIB).to_db(), minute=5), call("never", "never", None)]
    with opened(chromium, made(stored(tmp_path / "calls.db", rows))) as page:
        for name, words, charts, told in (
            ("blind", 2, 3, False),
            ("lone", 0, 2, True),
            ("seen", 0, 5, False),
            ("never", 1, 1, False),
            ("blind", 2, 3, False),
        ):
            choose(page, name)
            shown = page.locator("#group .chart:visible")
            shown.last.locator(".main-svg").first.wait_for(state="attached")
            assert page.get_by_text("Not known of any call.").and_(page.locator(":visible")).count() == words, name
            assert shown.count() == charts, name
            assert page.get_by_text("No chart: that needs samples at two times.").is_visible() is told, name
        page.evaluate("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")


def test_an_empty_table(chromium: Any, tmp_path: Path) -> None:
    """A report of no calls says so, and is no broken page."""
    with opened(chromium, made(stored_empty(tmp_path))) as page:
        assert page.get_by_role("status").inner_text() == "0 in all"
        assert not page.locator("#group").is_visible()


def stored_empty(folder: Path) -> Path:
    """A table without rows."""
    from support.reports import stored

    return stored(folder / "calls.db", [])
