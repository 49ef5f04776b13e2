"""The layers: a file imports only from below its own line, lazy imports included."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import callstats

PACKAGE = Path(callstats.__file__).parent

# From the bottom up. A name is a file or a folder of the package; "callstats" is its own `__init__`, which hands out the names.
LINES = [
    "errors _limits _types _version",
    "image _extras _files _timestamps _units _parallel",
    "rule _coerce _columns",
    "kernels",
    "_json",
    "series",
    "batch",
    "reduce",
    "recorder",
    "stats",
    "adapters",
    "plot",
    "call",
    "drivers",
    "db",
    "callstats",
    "demo",
    "cli",
    "__main__",
]
RANK = {name: rank for rank, line in enumerate(LINES) for name in line.split()}

NO_NUMPY = {"errors", "_limits", "_version", "_extras", "_files", "_units", "_parallel", "image", "cli"}
FOREIGN = {
    "numpy": RANK.keys() - NO_NUMPY,
    "sqlalchemy": {"adapters", "db"},
    "plotly": {"plot"},
    "matplotlib": {"plot"},
    "pyarrow": {"adapters"},
    "pandas": {"adapters", "series", "call"},
    "polars": {"adapters"},
    **{name: {"adapters"} for name in ("pydantic", "pydantic_core", "prometheus_client")},
    "duckdb": {"adapters"},
    **{name: {"adapters"} for name in ("pyspark", "py4j")},
    "psycopg": {"db"},
    "pymysql": {"db"},
    "click": {"cli"},
    "rich": {"cli"},
    **{name: {"drivers"} for name in ("psutil", "docker", "requests", "urllib3", "pytest")},
}
"""Who may use what comes from elsewhere."""

FILES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def module_of(path: Path) -> str:
    """The dotted name of a file, from the package down."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["callstats", *(parts[:-1] if parts[-1] == "__init__" else parts)])


MODULES = {module_of(path) for path in FILES}


def place_of(module: str) -> str:
    """The name on a line that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "callstats"


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in (".pyx", ".pxd"):
        for line in re.findall(r"^\s*(?:from\s+\S+\s+c?import|c?import)\s[^\n]*", source, re.MULTILINE):
            yield re.split(r"\s+", line.strip())[1].rstrip(",")
        return
    base = module_of(path).split(".")
    if path.stem != "__init__":
        base = base[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in MODULES else module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def wrong(path: Path, imported: str) -> str | None:
    """Why a file may not import a module; None when it may."""
    place, root = place_of(module_of(path)), imported.partition(".")[0]
    if root in sys.stdlib_module_names or root in ("cython", "libc", "cpython"):
        return None
    if root != "callstats":
        return None if place in FOREIGN.get(root, ()) else f"{root} is not for {place}"
    other = place_of(imported)
    if other == place:
        return None
    return None if RANK[other] < RANK[place] else f"{other} is not below {place}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_has_a_line(path: Path) -> None:
    """A new file is given its place before anything is built on it."""
    assert place_of(module_of(path)) in RANK


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) + path.suffix)
def test_imports_go_down(path: Path) -> None:
    """No file imports from its own line or above it, except within its own folder, nor what is not for it."""
    found = list(imports(path))
    assert [reason for imported in found if (reason := wrong(path, imported))] == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("_json.py", "callstats.series"),
        ("_json.py", "callstats"),
        ("series.py", "callstats.reduce"),
        ("kernels/decimate_py.py", "callstats._json"),
        ("kernels/decimate_py.py", "callstats.series"),
        ("reduce.py", "callstats.db.jobs.reduce"),
        ("db/jobs/reduce.py", "callstats.cli.format"),
        ("drivers/base.py", "callstats.db"),
        ("errors.py", "callstats.rule"),
        ("reduce.py", "sqlalchemy.engine"),
        ("db/jobs/reduce.py", "rich.progress"),
        ("reduce.py", "pandas"),
    ],
)
def test_the_walk_would_notice(importer: str, imported: str) -> None:
    """The check refuses what the layers forbid."""
    assert wrong(PACKAGE / importer, imported)


def test_lazy_and_relative_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports inside functions, for type checkers, by relative name and by `import_module` all count."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "db").mkdir()
    path = tmp_path / "db" / "reduce.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import callstats.cli\n"
        "def f():\n    from callstats import _json\n    from ..series import StatSeries\n    from . import query\n"
        "    importlib.import_module('callstats.reduce')\n"
    )
    want = {"typing", "callstats.cli", "callstats._json", "callstats.series", "callstats.reduce", "callstats.db.query"}
    assert set(imports(path)) == want


def top_level_names(path: Path) -> Iterator[str]:
    """The functions, classes and constants that a module defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_no_name_is_defined_twice() -> None:
    """Except in siblings of one folder that do the same for two libraries, two dialects or two backends."""
    owners: dict[str, set[Path]] = {}
    for path in FILES:
        if path.suffix == ".py":
            for name in top_level_names(path):
                owners.setdefault(name, set()).add(path)
    siblings = {PACKAGE / folder for folder in ("adapters", "adapters/arrow", "db/dialects", "kernels")}
    twice = {
        name: sorted(module_of(path) for path in paths)
        for name, paths in owners.items()
        if len(paths) > 1 and name[:2] != "__" and not {path.parent for path in paths} <= siblings
    }
    assert twice == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) + path.suffix)
def test_errors_are_of_a_kind(path: Path) -> None:
    """Errors about input or arguments are ValueErrors too, so nothing raises the bare base class."""
    assert not re.search(r"raise CallstatsError\b", path.read_text(encoding="utf-8"))


def test_programs_of_a_failed_test_end() -> None:
    """Tests start programs by `support.programs.started`: what a failed test left of a bare Popen would fail a later test."""
    files = Path(__file__).parent.rglob("test_*.py")
    assert [path.name for path in files if "Popen" + "(" in path.read_text(encoding="utf-8")] == []
