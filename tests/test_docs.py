"""The documentation does what it says: its examples run, its links lead somewhere, and each public name is in it."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import callstats
from callstats.cli.demo import LINES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(callstats.__path__, "callstats.") if not module.name.endswith("_cy")
)
PUBLIC = ["callstats", *(f"callstats.{name}" for name in ("summary", "drivers", "store", "report"))]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def named(pages: list[Path], language: str) -> list[object]:
    """The pages that have such blocks."""
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages if blocks(page, language)]


@pytest.mark.parametrize("page", named(PAGES, "python"))
def test_python_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader types them, in a folder that has the tests' data."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(page, "python"))
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, page.name, 0)
    assert len(example.examples) >= 3
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", named(PAGES, "console"))
def test_commands(page: Path, tmp_path: Path) -> None:
    """One after the other, in an empty folder."""
    lines = [line.removeprefix("$ ") for block in blocks(page, "console") for line in block.splitlines()]
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "callstats"
        command = [Path(sys.executable).with_name(name), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_pages_have_examples() -> None:
    """So that none of the above can pass over nothing."""
    assert len(named(PAGES, "python")) >= 7
    assert len(named(PAGES, "console")) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    """A link within the project leads to a file that is there, and to a heading that it has."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_entry(module: str) -> None:
    """In the pages made from docstrings, and a docstring to make it from."""
    entries = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    for name in importlib.import_module(module).__all__:
        assert re.search(rf"^\.\. [\w:]+:: {name}$", entries, re.MULTILINE), name
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def parameters(value: object) -> set[str]:
    """The names of a function's parameters, as its docstring should have them."""
    return {
        ("**" if parameter.kind is parameter.VAR_KEYWORD else "") + name
        for name, parameter in inspect.signature(value).parameters.items()
        if not name.startswith("_")
    }


@pytest.mark.parametrize("module", PUBLIC)
def test_docstrings_name_the_parameters(module: str) -> None:
    """Every one of a public function, and no other."""
    for name, value in vars(importlib.import_module(module)).items():
        if not inspect.isfunction(value) or name not in importlib.import_module(module).__all__:
            continue
        doc = inspect.getdoc(value) or ""
        section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", doc, re.MULTILINE | re.DOTALL)
        told = re.findall(r"^(\S.*?)(?: : .*)?$", section[1], re.MULTILINE) if section else []
        assert {one for line in told for one in line.split(", ")} == parameters(value), name


def test_the_demo_runs_these_lines() -> None:
    """What `callstats demo` runs is what the README shows."""
    assert blocks(README, "console")[0].splitlines() == [f"$ {line}" for line in LINES]


def test_make_verbs() -> None:
    """Every make verb that the texts and the workflows name exists."""
    verbs = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *ROOT.glob(".github/workflows/*.yml")]]
    told = {verb for text in texts for verb in re.findall(r"(?:^|[`:] ?)make (?:PYTHON=\S+ )?([a-z-]+)", text, re.MULTILINE)}
    assert {"demo", "test", "lint"} <= told <= verbs


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_cy", "__main__"))])
def test_docstring_examples(name: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(name)
    for example in finder.find(module, name):
        report: list[str] = []
        doctest.DocTestRunner().run(example, out=report.append)
        assert not report, "".join(report)
