"""Every kernel, compiled."""

from callstats.kernels.bins_cy import decimate
from callstats.kernels.recorder_cy import Rows

BACKEND = "cython"

__all__ = ["BACKEND", "Rows", "decimate"]
