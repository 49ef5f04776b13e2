"""Every kernel, in numpy."""

from callstats.kernels.bins_py import decimate

BACKEND = "python"

__all__ = ["BACKEND", "decimate"]
