"""Modules that need more than numpy, each imported first, in a process that has none of the package."""

from __future__ import annotations

import os
import pkgutil

import pytest

import callstats
from support.imports import faults_of_imports

EXTRAS = {"adapters", "cli", "db", "demo", "drivers", "plot"}
FOUND = [found.name for found in pkgutil.walk_packages(callstats.__path__, "callstats.")]
MODULES = [name for name in FOUND if name.split(".")[1] in EXTRAS]

LIBRARIES = ["click", "docker", "duckdb", "pandas", "plotly.graph_objects", "polars", "psutil", "pyarrow", "rich", "sqlalchemy"]


def test_every_module_is_found() -> None:
    """The walk sees each folder, and the files in it."""
    assert {name.split(".")[1] for name in MODULES} == EXTRAS
    assert {"callstats.db.table", "callstats.cli.app", "callstats.adapters.arrow"} < set(MODULES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies")
def test_each_module_alone() -> None:
    """Every module can be the first one imported, without a warning and without a word."""
    assert faults_of_imports(MODULES, LIBRARIES) == ""
