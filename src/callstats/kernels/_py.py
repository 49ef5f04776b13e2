"""Every kernel, in numpy."""

from callstats.kernels.bins_py import decimate
from callstats.kernels.stats_py import moments, totals
from callstats.kernels.text_py import read_text, reduce_text, reduce_texts, text_size, write_text

BACKEND = "python"

__all__ = ["BACKEND", "decimate", "moments", "read_text", "reduce_text", "reduce_texts", "text_size", "totals", "write_text"]
