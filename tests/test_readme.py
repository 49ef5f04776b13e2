"""The examples that readers see, in the README and in docstrings, do what they say."""

from __future__ import annotations

import doctest
import importlib
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
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(callstats.__path__, "callstats.") if not module.name.endswith("_cy")
)


def blocks(language: str) -> list[str]:
    """Fenced blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_python_examples() -> None:
    """One after the other, as a reader types them."""
    text = "\n".join(blocks("python"))
    example = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert len(example.examples) >= 10
    report: list[str] = []
    doctest.DocTestRunner().run(example, out=report.append)
    assert not report, "".join(report)


def test_commands(tmp_path: Path) -> None:
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "callstats"
        command = [Path(sys.executable).with_name(name), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_demo_runs_these_lines() -> None:
    """What `callstats demo` runs is what the README shows."""
    assert blocks("console")[0].splitlines() == [f"$ {line}" for line in LINES]


def test_make_verbs() -> None:
    """Every make verb that the texts and the workflows name exists."""
    verbs = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [README, (ROOT / "CONTRIBUTING.md").read_text(), *(path.read_text() for path in ROOT.glob(".github/workflows/*.yml"))]
    named = {verb for text in texts for verb in re.findall(r"(?:^|[`:] ?)make (?:PYTHON=\S+ )?([a-z-]+)", text, re.MULTILINE)}
    assert {"demo", "test", "lint"} <= named <= verbs


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_cy", "__main__"))])
def test_docstring_examples(name: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(name)
    for example in finder.find(module, name):
        report: list[str] = []
        doctest.DocTestRunner().run(example, out=report.append)
        assert not report, "".join(report)
