"""Every kernel, compiled."""

from callstats.kernels.bins_cy import decimate
from callstats.kernels.stats_cy import moments, totals
from callstats.kernels.text_cy import read_text, reduce_text, reduce_texts, text_size, write_text

BACKEND = "cython"

__all__ = ["BACKEND", "decimate", "moments", "read_text", "reduce_text", "reduce_texts", "text_size", "totals", "write_text"]
