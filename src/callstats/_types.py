"""The arrays that pass between the layers. All are C-contiguous."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Times: TypeAlias = "npt.NDArray[np.int64]"
"""(n,) nanoseconds since the epoch, UTC."""

Counts: TypeAlias = "npt.NDArray[np.int64]"
"""(n,) whole numbers: raw samples per row, offsets or edges."""

Block: TypeAlias = "npt.NDArray[np.uint64]"
"""(k, n) metric values with a row for each metric; 0 where absent."""

Present: TypeAlias = "npt.NDArray[np.bool_]"
"""(k, n) which values are present."""

Bytes: TypeAlias = "npt.NDArray[np.uint8]"
"""Raw bytes, and `Present` as the kernels take it."""

AnyArray: TypeAlias = "npt.NDArray[Any]"

U64_MAX = 2**64 - 1
I64_MAX = 2**63 - 1

FIRST_TIME = -9_223_372_036_854_000_000
"""1677-09-21T00:12:43.146Z, the first whole millisecond of int64 nanoseconds."""

FN_COUNTERS = ("disk_read", "disk_write", "net_rx", "net_tx")
"""Fn's counters, which only rise; its other five metrics are gauges."""

COUNTERS = (*FN_COUNTERS, "cpu_time")
"""Every known counter: Fn's four, and the processor time in nanoseconds."""
