"""The fixtures over both backends, databases, servers and a browser, and the fixed profile for Hypothesis."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from support.backends import backend
from support.browser import chromium
from support.databases import database, mysql, on_server, postgres
from support.engine import engine, registry
from support.servers import mariadb_server, postgres_server
from support.signals import heeded_by_children
from support.sparking import spark

__all__ = [
    "backend",
    "chromium",
    "database",
    "engine",
    "mariadb_server",
    "mysql",
    "on_server",
    "postgres",
    "postgres_server",
    "registry",
    "spark",
]

heeded_by_children()  # else tests that send signals fail under nohup and in the background

# The backend fixture is the same for every example of a test, so a function's scope does no harm.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
