"""Every kernel, in numpy."""

from callstats.kernels.batch_py import read_buffer
from callstats.kernels.bins_py import decimate
from callstats.kernels.recorder_py import Rows
from callstats.kernels.stats_py import moments, text_totals, totals
from callstats.kernels.text_py import fit, read_text, reduce_text, reduce_texts, write_text

BACKEND = "python"

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
