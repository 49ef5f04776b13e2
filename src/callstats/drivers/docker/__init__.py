"""Run and sample containers."""

from callstats.drivers.docker.driver import DockerDriver

__all__ = ["DockerDriver"]
