"""Modules that need more than numpy, each imported first, in a process that has none of the package."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import pytest

import callstats

EXTRAS = {"adapters", "cli", "db", "demo", "drivers", "plot"}
FOUND = [found.name for found in pkgutil.walk_packages(callstats.__path__, "callstats.")]
MODULES = [name for name in FOUND if name.split(".")[1] in EXTRAS]

# Each module has a copy of a process that knows other people's libraries only: loading these takes most of the time.
EACH_ALONE = """
import importlib, os, sys
import click, docker, duckdb, numpy, pandas, plotly.graph_objects, polars, psutil, pyarrow.parquet, rich, sqlalchemy
for module in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(module)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(module, "failed", flush=True)
assert not any(name.startswith("callstats") for name in sys.modules)
"""


def test_every_module_is_found() -> None:
    """The walk sees each folder, and the files in it."""
    assert {name.split(".")[1] for name in MODULES} == EXTRAS
    assert {"callstats.db.table", "callstats.cli.app", "callstats.adapters.arrow"} < set(MODULES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies")
def test_each_module_alone() -> None:
    """Every module can be the first one imported, without a warning and without a word."""
    command = [sys.executable, "-W", "error", "-I", "-c", EACH_ALONE, *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
