"""The documentation does what it says: its examples run, its links lead somewhere, and each public name is in it."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from click.testing import CliRunner

import callstats
from callstats.cli.app import cli
from callstats.cli.demo import LINES
from callstats.drivers import ContainerTask
from callstats.stats.calls import ERRORS
from callstats.stats.format import FINDINGS
from support import forked

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(callstats.__path__, "callstats.") if not module.name.endswith("_cy")
)
ADAPTERS = [
    f"adapters.{name}" for name in ("arrow", "duckdb", "pandas", "parquet", "polars", "prometheus", "sqlalchemy", "sqlite")
]
PUBLIC = ["callstats", *(f"callstats.{name}" for name in ("stats", "drivers", "db", "plot", *ADAPTERS))]


def run_example(example: doctest.DocTest, report: list[str]) -> None:
    """Run an example, and close what it opened: a reader's session would end there."""
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append, clear_globs=False)
    for value in example.globs.values():
        if isinstance(value, sqlite3.Connection):
            value.close()
        elif isinstance(value, sqlalchemy.Engine):
            value.dispose()
    example.globs.clear()


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def named(pages: list[Path], language: str) -> list[object]:
    """The pages that have such blocks."""
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages if blocks(page, language)]


@pytest.mark.parametrize("page", named(PAGES, "python"))
def test_python_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader types them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    text = "\n".join(blocks(page, "python"))
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, page.name, 0)
    assert len(example.examples) >= 3
    report: list[str] = []
    run_example(example, report)
    assert not report, "".join(report)


PROGRAMS = ROOT / "docs" / "embedding.md"


@pytest.mark.parametrize("index", range(len(blocks(PROGRAMS, "py"))))
def test_programs(tmp_path: Path, index: int) -> None:
    """Each prints what stands below it, and nothing else."""
    (tmp_path / "jobs.py").write_text(blocks(PROGRAMS, "py")[index])
    done = subprocess.run([sys.executable, "jobs.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", blocks(PROGRAMS, "text")[index])


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's calls, as the command makes them: the same ones each time."""
    path = tmp_path_factory.mktemp("example") / "example.db"
    subprocess.run([forked.callstats(), "init", path, "--example"], check=True, capture_output=True, timeout=120)
    return path


@pytest.mark.xdist_group("example")
@pytest.mark.parametrize("page", named(PAGES, "console"))
def test_commands(page: Path, tmp_path: Path, example: Path) -> None:
    """One after the other, in an empty folder. The example is made once for all pages."""
    lines = [line.removeprefix("$ ") for block in blocks(page, "console") for line in block.splitlines()]
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "callstats"
        if arguments[0] == "init" and arguments[2:] == ["--example"]:
            assert not (tmp_path / arguments[1]).exists()
            shutil.copy(example, tmp_path / arguments[1])
            continue
        command = [forked.callstats(), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_words_that_the_package_knows() -> None:
    """The tutorial has each finding, and what failed means is told once and for all."""
    tutorial, answers = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("tutorial.md", "answers.md"))
    assert {*re.findall(r"^\| ([a-z ]+) \|", tutorial, re.MULTILINE)} >= {*FINDINGS} - {""}
    [failed] = re.findall(r"The statuses (.*) are errors", answers)
    assert set(re.findall(r"`(\w+)`", failed)) == ERRORS


def test_prometheus_needs_its_extra() -> None:
    """All places say so that tell what it is for."""
    assert "pip install '.[cli,prometheus]'" in README.read_text(encoding="utf-8")
    assert "`--prom`" in (page := (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8"))
    assert "needs the extra `prometheus`" in page
    for command in ("reduce", "record"):
        assert 'needs the extra "prometheus"' in " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())


def test_the_pages_have_examples() -> None:
    """So that none of the above can pass over nothing."""
    assert len(named(PAGES, "python")) >= 7
    assert len(named(PAGES, "console")) >= 5


def test_lines_of_the_readme() -> None:
    """GitHub shows 97 characters of a line of code on a screen of 1280 px; the rest is cut."""
    lines = [line for block in blocks(README, r"\w+") for line in block.splitlines()]
    assert len(lines) > 30 and max(map(len, lines)) <= 97


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


def test_the_citation() -> None:
    """It names the version and the authors of the package."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {callstats.__version__}\n" in text
    assert "\n  - name: The callstats authors\n" in text


def public(module: str) -> dict[str, Any]:
    """The names that a module offers: those it lists, else the functions and classes that it has of its own."""
    this = importlib.import_module(module)
    own = [name for name, value in vars(this).items() if name[0] != "_" and getattr(value, "__module__", None) == module]
    return {name: getattr(this, name) for name in getattr(this, "__all__", own)}


def entries() -> set[str]:
    """The names, in full, that the pages made from docstrings have."""
    found = set()
    for page in (ROOT / "docs" / "api").glob("*.md"):
        module = ""
        for directive, name in re.findall(r"^\.\. ([\w:]+):: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            if directive == "currentmodule":
                module = name
            else:
                found.add(name if name.startswith("callstats.") else f"{module}.{name}")
    return found


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_entry(module: str) -> None:
    """In the pages made from docstrings; a name of the package itself has it there."""
    names = {f"{module}.{name}" for name, value in public(module).items() if getattr(callstats, name, None) is not value}
    assert names or module == "callstats"
    assert names | {f"callstats.{name}" for name in callstats.__all__} <= entries()


def sections(value: object) -> dict[str, set[str]]:
    """Of each section of a docstring the names that it begins its paragraphs with."""
    _, *parts = re.split(r"^(\w+)\n-+\n", inspect.getdoc(value) or "", flags=re.MULTILINE)
    return {
        title: {name for line in re.findall(r"^(\S.*?)(?: : .*)?$", text, re.MULTILINE) for name in line.split(", ")}
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def faults_of_function(value: Any) -> Iterator[str]:
    """What the docstring of a function, or of a class that is called, does not tell."""
    signature = inspect.signature(value)
    told = sections(value)
    names = {
        ("**" if parameter.kind is parameter.VAR_KEYWORD else "") + name
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls") and name[0] != "_"
    }
    if "Parameters" in told and (differing := names ^ told["Parameters"]):  # one sentence may tell of all
        yield f"parameters {sorted(differing)}"
    plain = not re.search("[A-Z]", str(signature.return_annotation))  # a class has a docstring of its own
    gives = plain and signature.return_annotation not in (None, "None", "object", signature.empty)
    summary = (inspect.getdoc(value) or "").partition("\n\n")[0]
    says_so = re.search(r"\b([Rr]eturn|[Yy]ield|Iterate)\b", summary) or told.keys() & {"Returns", "Yields"}
    if names and gives and not says_so:
        yield "what it returns"


def faults_of_class(value: Any) -> Iterator[str]:
    """The same of a class: its fields, or the parameters that it is made with, and its own methods."""
    fields = set(getattr(value, "_fields", ()) or getattr(value, "__dataclass_fields__", ()))
    fields -= {name for base in value.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
    told = sections(value)
    if fields:  # one whose name says all needs no docstring
        if unknown := (told.get("Attributes", set()) | told.get("Parameters", set())) - fields:
            yield f"fields {sorted(unknown)}"
    elif "__init__" in vars(value) and not getattr(value, "_is_protocol", False) and not issubclass(value, Exception):
        yield from faults_of_function(value)
    ours = [base for base in value.__mro__ if base.__module__.startswith("callstats.")]
    for owner, name, member in ((base, *item) for base in ours for item in vars(base).items()):
        inherited = any(hasattr(other, name) for other in owner.__mro__[1:])  # such as what SQLAlchemy asks of a type
        if name[0] == "_" or name in fields or inherited:
            continue
        function = getattr(member, "__func__", member)
        if isinstance(member, property) and not inspect.getdoc(member) and value is not ContainerTask:  # Task describes them
            yield f"{name}: no docstring"
        if inspect.isfunction(function):
            yield from (f"{name}: {fault}" for fault in faults_of_function(function))


@pytest.mark.parametrize("module", PUBLIC)
def test_docstrings_are_whole(module: str) -> None:
    """Each tells what comes out of it; a list of parameters has them all, and no list has a name that is not there."""
    found = []
    for name, value in public(module).items():
        if inspect.isclass(value) or inspect.isfunction(value):
            faults = faults_of_class(value) if inspect.isclass(value) else faults_of_function(value)
            found += [f"{name}: {fault}" for fault in faults]
            if not inspect.getdoc(value):
                found.append(f"{name}: no docstring")
    assert not found


def test_the_demo_runs_these_lines() -> None:
    """What `callstats demo` runs is what the README shows."""
    assert blocks(README, "console")[0].splitlines() == [f"$ {line}" for line in LINES]


def test_make_verbs() -> None:
    """Every make verb that the texts and the workflows name exists."""
    verbs = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *ROOT.glob(".github/workflows/*.yml")]]
    told = {verb for text in texts for verb in re.findall(r"(?:^|[`:] ?)make (?:PYTHON=\S+ )?([a-z0-9-]+)", text, re.MULTILINE)}
    assert {"demo", "test", "lint"} <= told <= verbs


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_cy", "__main__"))])
def test_docstring_examples(name: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(name)
    for example in finder.find(module, name):
        report: list[str] = []
        run_example(example, report)
        assert not report, "".join(report)


def test_the_table_of_extras_is_whole() -> None:
    """Each extra for users has its name in the table of the first page."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "index.md").read_text().splitlines() if line.startswith("| `")]
    assert {*re.findall(r"`(\w+)`", " ".join(rows))} == {*extras} - {"test", "docs", "fuzz", "dev"}
