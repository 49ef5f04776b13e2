"""Every kernel, compiled."""

from callstats.kernels.batch_cy import read_buffer
from callstats.kernels.bins_cy import decimate
from callstats.kernels.recorder_cy import Rows
from callstats.kernels.stats_cy import moments, text_totals, totals
from callstats.kernels.text_cy import fit, read_text, reduce_text, reduce_texts, write_text

BACKEND = "cython"

__all__ = [
    "BACKEND",
    "Rows",
    "decimate",
    "fit",
    "moments",
    "read_buffer",
    "read_text",
    "reduce_text",
    "reduce_texts",
    "text_totals",
    "totals",
    "write_text",
]
