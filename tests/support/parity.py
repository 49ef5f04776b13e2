"""Parity is bytes: one helper that runs the same work over both twins and compares all that comes out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import callstats.kernels
from callstats import StatBatch, StatSeries

TWINS = {"cython": "_cy", "python": "_py"}
"""Backend name -> the module of its kernels. Only the Python half is there when the extension was left out on purpose."""

if os.environ.get("CALLSTATS_BUILD_EXT") == "skip":
    del TWINS["cython"]


def exact(value: object) -> object:
    """A form of a result whose `==` is equality of types and bytes."""
    match value:
        case np.ma.MaskedArray():
            return "masked", exact(np.ma.getmaskarray(value)), exact(value.filled(0))
        case np.ndarray() | np.generic():
            return type(value).__name__, value.dtype.str, value.shape, value.tobytes()
        case StatSeries():
            return "series", value.names, *map(exact, (value.timestamps, value.values, value.present, value.counts))
        case StatBatch():
            return "batch", [exact(series) for series in value]
        case BaseException():
            return type(value), str(value), getattr(value, "offset", None), getattr(value, "path", None)
        case list() | tuple():
            return type(value).__name__, [exact(item) for item in value]
        case Mapping():
            return type(value).__name__, [(exact(key), exact(item)) for key, item in value.items()]
    return type(value), value


def outcome(work: Callable[[], Any]) -> object:
    """What `work` returns, or the ValueError that it raises."""
    try:
        return work()
    except ValueError as error:
        return error


def same(work: Callable[[], Any]) -> Any:
    """Run `work` over both twins, hold their outcomes equal to the byte, and give the last."""
    seen: dict[str, object] = {}
    result: object = None
    for name, module in TWINS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(callstats.kernels, "active", importlib.import_module(f"callstats.kernels.{module}"))
            result = outcome(work)
        seen[name] = exact(result)
    first, *others = seen.values()
    for other in others:
        assert other == first
    return result
