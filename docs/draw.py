"""Draw the pictures of the README from the example data: ``make pictures``."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STATIC = Path(__file__).parent / "static"
SUMMARY = ("summary", "example.db", "--rightsize", "5%")
WIDTH = 72  # which a phone shows large enough to read
SIZE = (1280, 1020)


def example(folder: Path, *command: str) -> str:
    """Make the example's calls in a folder, and return what a command prints about them on a terminal."""
    env = os.environ | {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    for arguments in (("init", "example.db", "--example"), command):
        reader, terminal = os.openpty()
        line = [sys.executable, "-m", "callstats", *arguments]
        subprocess.run(line, cwd=folder, env=env, check=True, stdout=terminal)  # noqa: S603 - our own
        os.close(terminal)
        printed = os.read(reader, 1 << 16).decode()  # a terminal holds more than that they print
        os.close(reader)
    return printed.replace("\r\n", "\n")


def table(folder: Path) -> list[str]:
    """Return the lines of the summary's table."""
    return example(folder, *SUMMARY).partition("\n\n")[0].splitlines()


def summary_svg(lines: list[str]) -> str:
    """Return a terminal with these lines."""
    from rich.console import Console

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(f"[bold]$ callstats {' '.join(SUMMARY)}[/bold]")
    for line in lines:
        console.print(line, markup=False, no_wrap=True)
    svg = console.export_svg(title="callstats", unique_id="callstats").replace("<svg ", '<svg width="680" ', 1)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # which is loaded from a network


def page_digest() -> str:
    """Return a digest of all that the report's page is made from."""
    import callstats

    package = Path(callstats.__file__).parent
    files = sorted(path for folder in ("plot/html", "demo") for path in (package / folder).iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def report_png(folder: Path) -> bytes:
    """Return the report's page of the example."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    from playwright.sync_api import sync_playwright

    example(folder, "report", "example.db", "-o", "report.html", "--rightsize", "5%")
    with sync_playwright() as playwright:
        path = os.environ.get("CALLSTATS_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, reduced_motion="reduce")
        page.goto((folder / "report.html").as_uri() + "#checkout")
        page.wait_for_selector("html[data-ready]", state="attached")
        page.wait_for_timeout(2000)
        page.evaluate("scrollTo(0, 0)")
        shot = page.screenshot()
        browser.close()
    info, small = PngInfo(), io.BytesIO()
    info.add_text("made from", page_digest())
    Image.open(io.BytesIO(shot)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        small, "PNG", optimize=True, pnginfo=info
    )
    return small.getvalue()


def main() -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        (STATIC / "summary.svg").write_text(summary_svg(table(Path(folder))), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        (STATIC / "report.png").write_bytes(report_png(Path(folder)))


if __name__ == "__main__":
    main()
