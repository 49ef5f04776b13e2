"""The two ways of a blob: the kernel that scans the written shape, and the general reader."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import callstats.kernels
from callstats import StatSeries, reduce_json
from support.parity import exact, outcome


@contextmanager
def general_route() -> Iterator[None]:
    """Within it every blob takes the general route, as if the kernel had found no blob of the written shape."""
    twin = callstats.kernels.active
    blind = types.ModuleType("blind")
    vars(blind).update({name: getattr(twin, name) for name in twin.__all__})
    vars(blind).update(read_text=lambda text: None, reduce_texts=lambda texts, *rule: [None] * len(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callstats.kernels, "active", blind)
        yield


def disagreements(blobs: Iterable[bytes], **rule: Any) -> list[tuple[bytes, object, object]]:
    """The blobs of which the two ways give different results or refusals: with both."""
    blobs = list(blobs)
    ours = [exact(result) for result in reduce_json(blobs, errors="return", **rule)]
    with general_route():
        theirs = [exact(result) for result in reduce_json(blobs, errors="return", **rule)]
    return [(blob, a, b) for blob, a, b in zip(blobs, ours, theirs, strict=True) if a != b]


def read_differently(blobs: Iterable[bytes]) -> list[tuple[bytes, object, object]]:
    """The blobs that the two ways read as different series, or refuse differently."""
    blobs = list(blobs)
    ours = [exact(outcome(lambda blob=blob: StatSeries.from_json(blob))) for blob in blobs]
    with general_route():
        theirs = [exact(outcome(lambda blob=blob: StatSeries.from_json(blob))) for blob in blobs]
    return [(blob, a, b) for blob, a, b in zip(blobs, ours, theirs, strict=True) if a != b]
