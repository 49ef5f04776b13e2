"""ProcessDriver passes the tests of all drivers."""

from __future__ import annotations

import pytest

from callstats.drivers import ProcessDriver
from callstats.drivers.testing import DriverConformance


class TestProcessDriver(DriverConformance):
    """Sample every 50 ms."""

    patience = 20.0  # on a machine that is busy with other tests too

    @pytest.fixture
    def driver(self) -> ProcessDriver:
        """Return the driver to test."""
        return ProcessDriver(0.05)
