"""Tests that share a server run in one worker."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="the tests run in one process")
@pytest.mark.xdist_group("a-group")
def test_groups_are_told_to_the_scheduler(request: pytest.FixtureRequest) -> None:
    """pytest-xdist puts the group at the end of a test's id; without it each worker would start each server."""
    assert request.node.nodeid.endswith("@a-group"), "pytest-xdist must be told --dist=loadgroup, as make does"
