"""Every kernel, compiled."""

# ruff: noqa: F401 - `__all__` names them
from callstats.kernels._py import __all__
from callstats.kernels.decimate_cy import decimate_columns
from callstats.kernels.json_cy import choose_form, decode_blob, decode_blobs, decode_packed, encode_columns, fused_rows
from callstats.kernels.json_reduce_cy import fit_rows, reduce_blobs, reduce_packed
from callstats.kernels.recorder_cy import Rows
from callstats.kernels.totals_cy import blob_totals, moments, ranks, totals

BACKEND = "cython"
