"""Every kernel, in numpy."""

from callstats.kernels.bins_py import decimate
from callstats.kernels.recorder_py import Rows

BACKEND = "python"

__all__ = ["BACKEND", "Rows", "decimate"]
