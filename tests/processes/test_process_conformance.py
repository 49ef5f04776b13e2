"""ProcessDriver passes what every driver must."""

from __future__ import annotations

import pytest

from callstats.drivers import ProcessDriver
from callstats.drivers.testing import DriverConformance


class TestProcessDriver(DriverConformance):
    """A sample every 50 ms."""

    patience = 20.0  # on a machine that is busy with other tests too

    @pytest.fixture
    def driver(self) -> ProcessDriver:
        """The driver to check."""
        return ProcessDriver(0.05)
