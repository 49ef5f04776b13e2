"""Fixtures over both backends, databases, servers and a browser; a marker for each folder; the profiles of Hypothesis."""

from __future__ import annotations

import gc
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.backends import backend
from support.browser import chromium
from support.databases import SERVERS, database, mysql, on_server, postgres
from support.engine import engine, private_engine, registry
from support.monitoring import prometheus
from support.servers import mysql_server, postgres_server
from support.signals import heeded_by_children
from support.sparking import spark

__all__ = [
    "backend",
    "chromium",
    "database",
    "engine",
    "mysql",
    "mysql_server",
    "on_server",
    "postgres",
    "postgres_server",
    "private_engine",
    "prometheus",
    "registry",
    "spark",
]

heeded_by_children()  # else tests that send signals fail under nohup and in the background
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a thread for each core costs every program that tests start 0.05 s

# The backend fixture is the same for every example of a test, so a function's scope does no harm.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.register_profile("nightly", settings.get_profile("local"), max_examples=1000, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

TESTS = Path(__file__).parent

gc.disable()  # until all is collected: nothing of it is garbage, and the collector would look through it again and again


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by its folder, and group the tests that share a server or a build for pytest-xdist."""
    folder = folder_of(item.path)
    if folder is not None:
        item.add_marker(folder)
    group = shared_by(item)
    if group is not None:
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """Keep what was collected out of the garbage collector's way: tests that count objects call it often."""
    gc.collect()
    gc.freeze()
    gc.enable()


@cache
def folder_of(path: Path) -> str | None:
    """Return the name of a file's folder, if it is one of the tests'."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else None


def shared_by(item: pytest.Item) -> str | None:
    """Return the name of what a test shares with others, if anything: one worker runs all its tests, so it is made once."""
    fixtures = getattr(item, "fixturenames", ())
    for name in ("spark", "engine", "private_engine", "chromium", "prometheus", "sdist"):
        if name in fixtures:
            return "faults" if item.path.stem == "test_docker_faults" else name  # they wait for long, on an engine of their own
    params = item.callspec.params if hasattr(item, "callspec") else {}
    kinds = {*fixtures, *(value for value in params.values() if isinstance(value, str))}
    return next((kind for kind in SERVERS if kind in kinds or f"{kind}_server" in kinds), None)
