"""Each allocation of each kernel call fails in turn: a MemoryError, no leak, no crash, and the next call works."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.parity import TWINS

TESTS = Path(__file__).parents[1]
CALLS = [
    "decode_blob",
    "decode_blob-odd",
    "decode_packed",
    "decode_blobs",
    "encode_columns",
    "encode_columns-one",
    "reduce_packed",
    "reduce_packed-budget",
    "reduce_blobs",
    "fit_rows",
    "decimate_columns",
    "totals",
    "moments",
    "ranks",
    "blob_totals",
    "record",
]

pytestmark = [
    pytest.mark.skipif("cython" not in TWINS, reason="the compiled kernels were left out"),
    pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no allocators that fail"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies"),
]


@pytest.mark.parametrize("name", CALLS)
def test_no_memory(name: str) -> None:
    """Every call allocates, and says so where it can not."""
    done = subprocess.run(
        [sys.executable, "-m", "support.no_memory", name],
        cwd=TESTS,
        env=os.environ | {"CALLSTATS_BACKEND": "cython"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert int(done.stdout) > 0
