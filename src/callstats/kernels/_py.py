"""Every kernel, in numpy."""

from callstats.kernels.decimate_py import decimate_columns
from callstats.kernels.json_py import decode_blob, decode_blobs, decode_packed, encode_columns
from callstats.kernels.json_reduce_py import fit_rows, reduce_blobs, reduce_packed
from callstats.kernels.recorder_py import Rows
from callstats.kernels.totals_py import blob_totals, moments, ranks, totals

BACKEND = "python"

__all__ = [
    "BACKEND",
    "Rows",
    "blob_totals",
    "decimate_columns",
    "decode_blob",
    "decode_blobs",
    "decode_packed",
    "encode_columns",
    "fit_rows",
    "moments",
    "ranks",
    "reduce_blobs",
    "reduce_packed",
    "totals",
]
