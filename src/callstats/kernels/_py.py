"""Every kernel, in numpy."""

from callstats.kernels.bins_py import decimate
from callstats.kernels.text_py import read_text, reduce_text, reduce_texts, text_size, write_text

BACKEND = "python"

__all__ = ["BACKEND", "decimate", "read_text", "reduce_text", "reduce_texts", "text_size", "write_text"]
