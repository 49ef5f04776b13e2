"""The two backends as one fixture, for tests and benchmarks."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

import callstats.kernels
from support.parity import TWINS

FEWER = 5
"""By how much to divide the number of random examples for the numpy backend, which is many times slower."""


@pytest.fixture(params=TWINS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test over each twin of the kernels; a missing extension fails, unless it was left out on purpose."""
    twin = importlib.import_module(f"callstats.kernels.{TWINS[request.param]}")
    monkeypatch.setattr(callstats.kernels, "active", twin)
    if request.param == "python" and len(TWINS) > 1 and is_hypothesis_test(request.function):
        take_fewer_examples(request.function, monkeypatch)
    return request.param


def compiled(test: Any) -> Any:
    """Run a test over the compiled backend only, the one with a fast path."""
    names = [name for name in TWINS if name != "python"]
    return pytest.mark.usefixtures("backend")(pytest.mark.parametrize("backend", names, indirect=True)(test))


def take_fewer_examples(test: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the number of examples of one run of a test; Hypothesis binds its settings to the function, not to the run."""
    name = "_hypothesis_internal_use_settings"
    bound: settings = getattr(test, name)
    monkeypatch.setattr(test, name, settings(bound, max_examples=max(bound.max_examples // FEWER, 1)))
