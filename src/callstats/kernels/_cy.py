"""Every kernel, compiled."""

from callstats.kernels.bins_cy import decimate

BACKEND = "cython"

__all__ = ["BACKEND", "decimate"]
