"""Each allocation of each kernel call fails in turn: a MemoryError, no leak, no crash, and the next call works."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    """A process to begin copies from."""
    pipe, env = subprocess.PIPE, os.environ | {"CALLSTATS_BACKEND": "cython"}
    command = [sys.executable, "-m", "support.no_memory"]
    with subprocess.Popen(command, cwd=TESTS, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize("name", CALLS)
def test_no_memory(name: str, process: subprocess.Popen[str]) -> None:
    """Every call allocates, and says so where it can not."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("exit "):
            break
    count, code = said
    assert code == "exit 0\n"
    assert int(count) > 0
