"""Every kernel, compiled."""

from callstats.kernels.bins_cy import decimate
from callstats.kernels.recorder_cy import Rows
from callstats.kernels.text_cy import fit, read_text, reduce_text, reduce_texts, write_text

BACKEND = "cython"

__all__ = ["BACKEND", "Rows", "decimate", "fit", "read_text", "reduce_text", "reduce_texts", "write_text"]
