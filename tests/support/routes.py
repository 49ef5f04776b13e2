"""The two ways to decode a blob: the fast path of the compiled kernels, and the fallback decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import callstats.kernels
from callstats import StatSeries, reduce_json
from callstats.kernels import _py
from support.parity import exact, outcome

FAST_PATH = ("blob_totals", "decode_blob", "decode_blobs", "decode_packed", "reduce_blobs", "reduce_packed")
"""The kernels that decode. Those of the Python backend leave every blob to the fallback decoder."""


@contextmanager
def fallback_decoder() -> Iterator[None]:
    """Let the fallback decoder decode every blob."""
    kernels = callstats.kernels.active
    slow = SimpleNamespace(**{name: getattr(_py if name in FAST_PATH else kernels, name) for name in kernels.__all__})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callstats.kernels, "active", slow)
        yield


def disagreements(blobs: Iterable[bytes], **rule: Any) -> list[tuple[bytes, object, object]]:
    """Return the blobs for which the two ways give different results or errors, with both."""
    blobs = list(blobs)
    ours = [exact(result) for result in reduce_json(blobs, errors="return", **rule)]
    with fallback_decoder():
        theirs = [exact(result) for result in reduce_json(blobs, errors="return", **rule)]
    return [(blob, a, b) for blob, a, b in zip(blobs, ours, theirs, strict=True) if a != b]


def decoded_differently(blobs: Iterable[bytes]) -> list[tuple[bytes, object, object]]:
    """Return the blobs that the two ways decode to different series, or reject with different errors."""
    blobs = list(blobs)
    ours = [exact(outcome(lambda blob=blob: StatSeries.from_json(blob))) for blob in blobs]
    with fallback_decoder():
        theirs = [exact(outcome(lambda blob=blob: StatSeries.from_json(blob))) for blob in blobs]
    return [(blob, a, b) for blob, a, b in zip(blobs, ours, theirs, strict=True) if a != b]
