"""A real browser: Debian's Chromium, driven by Playwright, which downloads none of its own.

`CALLSTATS_CHROMIUM` names another binary. `CALLSTATS_REQUIRE_SERVERS=1` makes a missing one a failure.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
def opened(browser: Any, path: Path, size: tuple[int, int] = DESKTOP, theme: str = "light") -> Iterator[Any]:
    """A page from disk, drawn; at its end it must have asked for nothing but itself, and complained of nothing."""
    address = path.absolute().as_uri()
    width, height = size
    touch = {"has_touch": True, "is_mobile": True} if size == PHONE else {}
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", **touch
    )
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: said.append(f"request: {request.url}") if request.url != address else None)
    try:
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        yield page
        assert not said, said
    finally:
        context.close()


def drawn(chart: Any) -> float:
    """The share of a chart's pixels that are in colour, and not grey, once it no longer changes."""
    from PIL import Image

    chart.scroll_into_view_if_needed()
    chart.locator(".main-svg").first.wait_for(state="attached")
    pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB")).astype(int)
    return float((pixels.max(axis=2) - pixels.min(axis=2) > 60).mean())
