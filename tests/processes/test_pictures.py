"""The pictures of the README show what the commands give today; `make pictures` draws them anew."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "docs" / "static"


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    """The program that draws them."""
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_terminal(draw: ModuleType, tmp_path: Path) -> None:
    """It has each line of the summary of the example."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", (STATIC / "summary.svg").read_text(encoding="utf-8"))
    shown = "".join(html.unescape(text).replace("\xa0", " ") for text in texts)
    lines = draw.table(tmp_path)
    assert len(lines) == 11 and "growing" in lines[1]
    missing = [line for line in lines if line.strip() not in shown]
    assert not missing, "make pictures"


def test_the_page(draw: ModuleType) -> None:
    """It was drawn from the page's files as they are."""
    Image = pytest.importorskip("PIL.Image")  # noqa: N806 - a module
    with Image.open(STATIC / "report.png") as picture:
        assert picture.text["made from"] == draw.page_digest(), "make pictures"


def test_sizes() -> None:
    """All pictures together have less than 200 kB."""
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 200_000
