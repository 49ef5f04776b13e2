"""Every kernel, compiled."""

from callstats.kernels.bins_cy import decimate
from callstats.kernels.recorder_cy import Rows
from callstats.kernels.text_cy import read_text, reduce_text, reduce_texts, text_size, write_text

BACKEND = "cython"

__all__ = ["BACKEND", "Rows", "decimate", "read_text", "reduce_text", "reduce_texts", "text_size", "write_text"]
