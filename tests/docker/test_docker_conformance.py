"""DockerDriver passes what every driver must, over a real engine."""

from __future__ import annotations

import pytest

from callstats.drivers import Config, DockerDriver
from callstats.drivers.testing import DriverConformance
from support.engine import IMAGE, Engine


class TestDockerDriver(DriverConformance):
    """A busybox on network ``none``."""

    patience = 20.0  # on a machine that is busy with other tests too

    image = IMAGE
    missing_image = "127.0.0.1:9/team/nothing:1"

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Engine) -> None:
        self.engine = engine

    @pytest.fixture
    def driver(self) -> DockerDriver:
        """The driver to check."""
        return DockerDriver(Config(self.engine.url), network="none")

    def leftovers(self) -> list[str]:
        """Containers."""
        return self.engine.containers()
