"""Every kernel, in numpy."""

from callstats.kernels.decimate_py import decimate
from callstats.kernels.json_batch_py import read_buffer
from callstats.kernels.json_py import fit, read_text, reduce_text, reduce_texts, write_text
from callstats.kernels.recorder_py import Rows
from callstats.kernels.totals_py import moments, text_totals, totals

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
