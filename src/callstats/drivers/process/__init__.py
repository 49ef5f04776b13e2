"""Run and sample processes."""

from callstats.drivers.process.driver import ProcessDriver

__all__ = ["ProcessDriver"]
