"""The two backends as one fixture, for tests and benchmarks."""

from __future__ import annotations

import importlib

import pytest

import callstats.kernels
from support.parity import TWINS


@pytest.fixture(params=TWINS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test over each twin of the kernels; a missing extension fails, unless it was left out on purpose."""
    twin = importlib.import_module(f"callstats.kernels.{TWINS[request.param]}")
    monkeypatch.setattr(callstats.kernels, "active", twin)
    return request.param
