"""The fixture over both backends, a browser, and the fixed profile for Hypothesis."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from support.backends import backend
from support.browser import chromium

__all__ = ["backend", "chromium"]

# The backend fixture is the same for every example of a test, so a function's scope does no harm.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
