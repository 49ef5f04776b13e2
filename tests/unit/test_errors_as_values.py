"""What is refused is told of by an error that may be kept: it holds nothing of the input, and nothing waits for the collector."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callstats import BudgetError, CallstatsError, DecodeError, Rule, SeriesError, reduce_json
from callstats.adapters import arrow
from callstats.batch import decode_buffer
from callstats.reduce import reduce_buffer

GOOD = bytes(bytearray(b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":18446744073709551615}}]'))
BAD = {
    "its shape": (GOOD.replace(b":18", b":-18"), DecodeError, {}),
    "its JSON": (GOOD[:-1], DecodeError, {}),
    "its UTF-8": (GOOD.replace(b"x", b"\xff"), DecodeError, {}),
    "a sum": (GOOD[:-1] + b"," + GOOD[1:], SeriesError, {"how": "sum"}),
    "a budget": (GOOD[:-1] + b"," + GOOD[1:], BudgetError, {"max_bytes": 80}),
}


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is let go but what no one refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


WORK: dict[str, Callable[[bytes, Any, Any, dict[str, Any]], Any]] = {
    "reduce_json": lambda bad, data, offsets, how: reduce_json([GOOD, bad], 1, errors="return", **how)[1],
    "reduce_json in threads": lambda bad, data, offsets, how: reduce_json([GOOD, bad] * 9, 1, errors="return", threads=2, **how)[
        1
    ],
    "reduce_buffer": lambda bad, data, offsets, how: reduce_buffer(data, offsets, Rule(1, **how))[2][1],
    "decode_buffer": lambda bad, data, offsets, how: decode_buffer(data, offsets)[1].get(1),
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("bad", BAD)
def test_errors_that_are_kept(name: str, bad: str, backend: str) -> None:
    """Another blob of the same call is not held by them, nor is the buffer."""
    blob, kind, how = BAD[bad]
    data, offsets = np.frombuffer(GOOD + blob, np.uint8).copy(), np.cumsum([0, len(GOOD), len(blob)])
    WORK[name](blob, data, offsets, how)  # what is kept of a rule is there from now on
    before = sys.getrefcount(GOOD), sys.getrefcount(blob), sys.getrefcount(data), sys.getrefcount(offsets)
    kept = WORK[name](blob, data, offsets, how)
    assert type(kept) is kind or (name == "decode_buffer" and kept is None)
    assert (sys.getrefcount(GOOD), sys.getrefcount(blob), sys.getrefcount(data), sys.getrefcount(offsets)) == before


@pytest.mark.parametrize("bad", ["its shape", "its JSON", "its UTF-8"])
def test_arrays_of_which_some_is_refused(bad: str, backend: str) -> None:
    """A stream of Arrow's makes few objects of Python's: the collector might not come before the memory is full."""
    array = pa.array([GOOD, BAD[bad][0]], pa.binary())
    before = sys.getrefcount(array)
    arrow.reduce(array, 1, errors="null")
    arrow.read_stored(array, errors="empty")
    arrow.reduce_checked(array, 1)
    assert sys.getrefcount(array) == before
    for refused in (arrow.reduce, arrow.read_stored):
        try:
            refused(array)
        except CallstatsError:
            pass
        else:
            raise AssertionError("refused")
        assert sys.getrefcount(array) == before
