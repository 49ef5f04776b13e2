"""A real browser: Debian's Chromium, driven by Playwright, which downloads none of its own.

`CALLSTATS_CHROMIUM` names another binary. `CALLSTATS_REQUIRE_SERVERS=1` makes a missing one a failure.
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, started once; without it the test is passed over, unless servers are a must."""
    binary = os.environ.get("CALLSTATS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _unavailable('no Playwright here: install callstats with the extra "test"')
    if binary is None:
        _unavailable("no Chromium here: apt-get install chromium, or name one by CALLSTATS_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(ARGUMENTS))
        yield browser
        browser.close()


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CALLSTATS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{reason}, and CALLSTATS_REQUIRE_SERVERS=1 asks for it")
    pytest.skip(reason)


@contextmanager
def opened(
    browser: Any, path: Path, size: tuple[int, int] = DESKTOP, theme: str = "light", *, place: str = "", guarded: bool = True
) -> Iterator[Any]:
    """A page from disk, drawn; at its end it must have asked for nothing but itself, and complained of nothing.

    A place is what follows ``#``. A page that is not guarded runs the scripts of others too.
    """
    page = _page_of(browser, size, guarded)
    one = shutil.copy(path, _folder() / "report.html")  # a page at another address would compile Plotly anew too
    address = one.as_uri()
    said: list[str] = []
    listeners = {
        "console": lambda message: said.append(f"{message.type}: {message.text}"),
        "pageerror": lambda error: said.append(f"error: {error}"),
        "dialog": lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        "request": lambda request: said.append(f"request: {request.url}") if request.url.split("#")[0] != address else None,
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        page.emulate_media(color_scheme=theme)
        page.goto(address + place)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        yield page
        assert not said, said
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        page.mouse.move(0, 0)
        page.goto("about:blank")
    except BaseException:
        page.context.close()
        raise


@cache
def _folder() -> Path:
    """A folder for the report that is open."""
    folder = Path(tempfile.mkdtemp(prefix="callstats-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _page_of(browser: Any, size: tuple[int, int], guarded: bool) -> Any:
    """An empty page, that of the last time if it is still there: a new one would compile Plotly anew, for most of its time."""
    touch = size == PHONE
    wanted = {"has_touch": touch, "is_mobile": touch, "bypass_csp": not guarded}
    for context in browser.contexts:
        if context.wanted == wanted:
            return context.pages[0]
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **wanted)
    context.wanted = wanted
    return context.new_page()


def drawn(chart: Any) -> float:
    """The share of a chart's pixels that are in colour, and not grey, once it no longer changes."""
    from PIL import Image

    chart.scroll_into_view_if_needed()
    chart.locator(".main-svg").first.wait_for(state="attached")
    pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB")).astype(int)
    return float((pixels.max(axis=2) - pixels.min(axis=2) > 60).mean())
