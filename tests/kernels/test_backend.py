"""What happens at import, in fresh processes: the switch, each module alone, and how little is loaded."""

from __future__ import annotations

import importlib.machinery
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import callstats
from support.imports import faults_of_imports
from support.parity import TWINS

PACKAGE = Path(callstats.__file__).parent
SKIPPED = "cython" not in TWINS
compiled = pytest.mark.skipif(SKIPPED, reason="the extension was left out on purpose")


def run(code: str, *options: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which every warning is an error, the switch set only when given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CALLSTATS_", "PYTHON"))}
    command = [sys.executable, "-W", "error", *options, "-c", code]
    return subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=120, check=False)


def printed(code: str, *options: str, cwd: Path | None = None, **env: str) -> str:
    """What the code prints; it must end well and warn of nothing."""
    done = run(code, *options, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


BACKEND = "import callstats; print(callstats.backend, callstats.kernels.active.__name__, callstats.kernels.active.BACKEND)"


# --- the switch -------------------------------------------------------------------------------------------------------


@compiled
def test_the_extension_is_used_when_nothing_is_said() -> None:
    """Unset and `auto` take the compiled kernels."""
    want = "cython callstats.kernels._cy cython"
    assert printed(BACKEND, "-I") == want
    assert printed(BACKEND, "-I", CALLSTATS_BACKEND="auto") == want
    assert printed(BACKEND, "-I", CALLSTATS_BACKEND="cython") == want


def test_the_pure_half_can_be_asked_for() -> None:
    """`python` takes the twins, and the binary isn't even loaded."""
    assert printed(BACKEND, "-I", CALLSTATS_BACKEND="python") == "python callstats.kernels._py python"
    code = "import callstats, sys; print([name for name in sys.modules if name.endswith('_cy')])"
    assert printed(code, "-I", CALLSTATS_BACKEND="python") == "[]"


@pytest.mark.parametrize("word", ["Cython", "PYTHON", "c", "0", "1", "yes", "none", "cython ", "auto,python"])
def test_any_other_word_is_an_error(word: str) -> None:
    """A word that is none of the three ends the import, and the message names the variable, the words and what came."""
    done = run("import callstats", "-I", CALLSTATS_BACKEND=word)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    for piece in ("CALLSTATS_BACKEND", "auto", "cython", "python", word):
        assert piece in last


# --- without a binary, or with a broken one ---------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder to start Python in, with a copy of the package that has no binaries."""
    shutil.copytree(PACKAGE, tmp_path / "callstats", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "skipped"))
    return tmp_path


@pytest.fixture
def broken(bare: Path) -> Path:
    """The same, with binaries that are there but won't load."""
    for source in PACKAGE.glob("kernels/*_cy.pyi"):
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        (bare / "callstats" / "kernels" / f"{source.stem}{suffix}").write_bytes(b"no binary")
    return bare


WHERE = "import callstats, os; assert callstats.__file__.startswith(os.getcwd()); print(callstats.backend)"


def test_a_missing_binary_warns_once(bare: Path) -> None:
    """`auto` runs on the twins, and the first import says so in one warning with both ways out."""
    for switch in ({}, {"CALLSTATS_BACKEND": "auto"}, {"CALLSTATS_BUILD_EXT": "skip"}):  # the last one is for the build
        done = run(f"import warnings; warnings.simplefilter('always'); {WHERE}; import callstats.kernels", cwd=bare, **switch)
        assert (done.returncode, done.stdout.strip()) == (0, "python")
        assert done.stderr.count("Warning") == 1
        assert (
            "<string>:1: RuntimeWarning: callstats uses its Python kernels, many times slower, since this build has no compiled "
            "ones; build them with a compiler and CALLSTATS_BUILD_EXT=require, or set CALLSTATS_BACKEND=python if the Python "
            "ones are meant\n"
        ) in done.stderr
        assert "RuntimeWarning" in run(WHERE, cwd=bare, **switch).stderr.strip().splitlines()[-1]


def test_a_missing_binary_is_no_fault_where_that_was_asked_for(bare: Path) -> None:
    """`python`, and a build that was to skip them, are taken at their word."""
    assert printed(WHERE, cwd=bare, CALLSTATS_BACKEND="python") == "python"
    (bare / "callstats/kernels/skipped").touch()
    assert printed(WHERE, cwd=bare) == "python"


def test_a_missing_binary_that_was_asked_for(bare: Path) -> None:
    """`cython` without a binary ends the import, and says what to do."""
    done = run(WHERE, cwd=bare, CALLSTATS_BACKEND="cython")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "CALLSTATS_BACKEND=cython" in last


def test_a_broken_binary_warns_with_the_cause(broken: Path) -> None:
    """`auto` falls back, and the warning gives the loader's own words."""
    code = f"import warnings; warnings.simplefilter('always'); {WHERE}"
    done = run(code, cwd=broken)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "python"
    assert "RuntimeWarning" in done.stderr
    assert "_cy" in done.stderr
    strict = run(WHERE, cwd=broken)
    assert strict.returncode != 0
    assert "Warning" in strict.stderr


def test_a_broken_binary_that_was_asked_for(broken: Path) -> None:
    """`cython` with a broken binary ends the import with the cause; `python` never looks at it."""
    done = run(WHERE, cwd=broken, CALLSTATS_BACKEND="cython")
    assert done.returncode != 0
    assert "_cy" in done.stderr.strip().splitlines()[-1]
    assert printed(WHERE, cwd=broken, CALLSTATS_BACKEND="python") == "python"


# --- each module alone ------------------------------------------------------------------------------------------------

FOUND = [found.name for found in pkgutil.walk_packages(callstats.__path__, "callstats.")]
EXTRAS = {"adapters", "cli", "db", "demo", "drivers", "plot"}  # the folders that need more than numpy
MODULES = ["callstats", *(name for name in FOUND if name.split(".")[1] not in EXTRAS | {"__main__"})]  # which is run


def test_every_module_is_found() -> None:
    """The walk below sees all that needs numpy alone."""
    assert {"callstats._json", "callstats.series", "callstats.kernels._py", "callstats.kernels.decimate_py"} < set(MODULES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies")
def test_each_module_alone() -> None:
    """Every module can be the first one imported, without a warning and without a word."""
    modules = [module for module in MODULES if not (SKIPPED and module.endswith("_cy"))]
    assert faults_of_imports(modules, ["numpy"]) == ""


# --- how little is loaded ---------------------------------------------------------------------------------------------

LOADED = """
import sys
import numpy
before = set(sys.modules)
import callstats
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = [
    "asyncio",
    "email",
    "http",
    "importlib.metadata",
    "multiprocessing",
    "sqlite3",
    "ssl",
    "tkinter",
    "unittest",
    "urllib.request",
    "xml",
    "zipfile",
]


@pytest.mark.parametrize("backend", TWINS)
def test_importing_the_package_is_light(backend: str) -> None:
    """`import callstats` loads numpy, and nothing else that is heavy or comes from elsewhere."""
    loaded = json.loads(printed(LOADED, "-I", CALLSTATS_BACKEND=backend))
    assert "callstats.series" in loaded
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert {name for name in foreign if "cython" not in name.lower()} <= {"callstats", "numpy"}
    assert not [name for name in loaded if name in HEAVY]
    assert not [
        name for name in loaded if name.startswith(("callstats.db", "callstats.cli", "callstats.drivers", "callstats.demo"))
    ]


@pytest.mark.parametrize("module", ["callstats.db", "callstats.drivers"])
def test_the_worlds_load_their_heavy_parts_where_used(module: str) -> None:
    """`callstats.db` and `callstats.drivers` can be imported without SQLAlchemy and its like."""
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(printed(code, "-I"))
    assert not [name for name in loaded if name.partition(".")[0] in ("sqlalchemy", "click", "rich", "docker")]


def test_every_public_name_is_there() -> None:
    """What the package promises can be imported from its top, and nothing in `__all__` is missing."""
    names = [
        "StatSeries",
        "StatBatch",
        "Stat",
        "Rule",
        "decimate",
        "reduce_json",
        "parse_image",
        "ImageRef",
        "backend",
        "__version__",
    ]
    errors = ["CallstatsError", "SeriesError", "DecodeError", "BudgetError", "ImageError"]
    assert {*names, *errors} <= set(callstats.__all__)
    assert all(hasattr(callstats, name) for name in callstats.__all__)
    assert {"KEEP_PEAKS", "DatabaseError", "DriverError"} <= set(callstats.__all__)
    for name in [*errors, "DatabaseError", "DriverError"]:
        assert issubclass(getattr(callstats, name), callstats.CallstatsError)
        assert issubclass(getattr(callstats, name), ValueError) == (name in errors[1:])


def test_the_backend_is_named() -> None:
    """`callstats.backend` is one of two words, and the one of the kernels in use."""
    assert callstats.backend in ("cython", "python")


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("callstats"))], [sys.executable, "-m", "callstats"]])
def test_a_wrong_word_is_one_line_of_the_command(command: list[str]) -> None:
    """It ends as wrong use does; a program that only takes the package in gets the error, whatever it is called with."""
    env = os.environ | {"CALLSTATS_BACKEND": "foo"}
    told = "CALLSTATS_BACKEND must be one of auto, cython, python, got 'foo'"
    done = subprocess.run([*command, "--version"], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"callstats: {told}\n")
    other = [sys.executable, "-c", "import callstats", "callstats", "-m", "callstats"]
    done = subprocess.run(other, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f"ImportError: {told}\n")
