"""Modules that need more than numpy, each imported alone in a fresh process."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import callstats

EXTRAS = {"adapters", "cli", "db", "demo", "drivers", "plot"}
FOUND = [found.name for found in pkgutil.walk_packages(callstats.__path__, "callstats.")]
MODULES = [name for name in FOUND if name.split(".")[1] in EXTRAS]


def test_every_module_is_found() -> None:
    """The walk sees each folder, and the files in it."""
    assert {name.split(".")[1] for name in MODULES} == EXTRAS
    assert {"callstats.db.table", "callstats.cli.app", "callstats.adapters.arrow"} < set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_alone(module: str) -> None:
    """Every module can be the first one imported, without a warning and without a word."""
    command = [sys.executable, "-W", "error", "-I", "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
