"""Every kernel, compiled."""

from callstats.kernels.decimate_cy import decimate
from callstats.kernels.json_batch_cy import read_buffer
from callstats.kernels.json_cy import fit, read_text, reduce_text, reduce_texts, write_text
from callstats.kernels.recorder_cy import Rows
from callstats.kernels.totals_cy import moments, text_totals, totals

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
