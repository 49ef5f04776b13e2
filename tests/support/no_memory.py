"""``python -m support.no_memory``: let each allocation of a kernel's call fail in turn, each in a process of its own.

Each line of standard input names a call. A copy of this process goes through it, then its exit code is told.

A call must raise MemoryError, or give the right result where Python can do without the allocation. Then it must work again, and
keep no more memory however often it fails. Print how many allocations made it raise.
"""

from __future__ import annotations

import _testcapi
import gc
import os
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import callstats.kernels
from callstats import Rule, StatSeries
from callstats._json import as_bytes, keys_of
from callstats.reduce import _layout_for, plan_metrics
from callstats.stats.call import _kernel_layout
from support.parity import exact

KERNELS = callstats.kernels.active
N = 300
SERIES = StatSeries(
    [i * 10**9 for i in range(N)], {"cpu": [*range(N - 1), None], "mem_usage": range(N), "é": range(N)}, counts=[2] * N
)
ODD = (
    b'[ {"timestamp":"1970-01-01T00:00:00Z","more":[1],"metrics":{"\\u0061":1,"b":null}} , {"timestamp":"1970-01-01T00:00:01Z"}]'
)
BLOBS = [SERIES.to_json(), ODD, SERIES[:2].to_json(), b"no", b""]
DATA, OFFSETS = np.frombuffer(b"".join(BLOBS), np.uint8), np.cumsum([0, *map(len, BLOBS)], dtype=np.int64)


def answers(layout: Callable[[tuple[bytes, ...]], object]) -> Callable[[tuple[bytes, ...]], Any]:
    """Return a layout as a function in C: Python 3.12 itself crashes where the generator in a Python one gets no memory."""
    return {names: layout(names) for names in ((b"cpu", b"mem_usage", "é".encode()), (b"a", b"b"), (b"a",), ())}.__getitem__


LAYOUT = answers(_layout_for(Rule(7, how=("mean", "max"))))
SHARES = answers(_kernel_layout)
OUT_NAMES, PLAN = plan_metrics(SERIES.names, Rule(7, how=("mean", "max")))
KEYS = keys_of(OUT_NAMES)
COLUMNS = (SERIES.timestamps, SERIES.values, as_bytes(SERIES.present), SERIES.counts)
EDGES = np.array([0, N])
PARTS = np.array([0, 0, 100, N])
METRICS = np.arange(3)
TOTALS = np.array([[0, 1, 2], *[[-1] * 3] * 4])


def record() -> object:
    """Record samples, which merge."""
    rows = KERNELS.Rows(8)
    for index, name in enumerate(("cpu", "mem_usage")):
        rows.add_name(name)
        rows.add_column(index, -1, -1)
    for i in range(40):
        rows.write(i, {"cpu": i, "mem_usage": 2 * i})
    rows.close()
    return rows.rows()


CALLS: dict[str, Callable[[], Any]] = {
    "decode_blob": lambda: KERNELS.decode_blob(BLOBS[0]),
    "decode_blob-odd": lambda: KERNELS.decode_blob(ODD),
    "decode_packed": lambda: KERNELS.decode_packed(DATA, OFFSETS),
    "decode_blobs": lambda: KERNELS.decode_blobs([*BLOBS, None]),
    "encode_columns": lambda: KERNELS.encode_columns(*COLUMNS, PARTS, *keys_of(SERIES.names), 3),
    "encode_columns-one": lambda: KERNELS.encode_columns(*COLUMNS, None, *keys_of(SERIES.names), 3),
    "reduce_packed": lambda: KERNELS.reduce_packed(DATA, OFFSETS, 7, -1, False, True, LAYOUT),
    "reduce_packed-budget": lambda: KERNELS.reduce_packed(DATA, OFFSETS, 240, 900, False, True, LAYOUT),
    "reduce_blobs": lambda: KERNELS.reduce_blobs(BLOBS, 7, -1, False, True, LAYOUT),
    "fit_rows": lambda: KERNELS.fit_rows(*COLUMNS, 240, 900, False, True, PLAN, *KEYS),
    "decimate_columns": lambda: KERNELS.decimate_columns(*COLUMNS, None, 7, False, PLAN),
    "totals": lambda: KERNELS.totals(*COLUMNS[1:], EDGES, TOTALS),
    "moments": lambda: KERNELS.moments(*COLUMNS[:3], EDGES, METRICS),
    "ranks": lambda: KERNELS.ranks(*COLUMNS[1:3], PARTS, METRICS),
    "blob_totals": lambda: KERNELS.blob_totals(BLOBS[0], SHARES),
    "record": record,
}


def attempt(call: Callable[[], Any], n: int) -> object:
    """Call it; its n-th allocation fails."""
    _testcapi.set_nomemory(n, n + 1)
    try:
        return call()
    except MemoryError:
        return MemoryError
    finally:
        _testcapi.remove_mem_hooks()


def child(call: Callable[[], Any], n: int) -> int:
    """Return 1 if the call raised MemoryError, 0 if it did not; anything else is a fault."""
    first = attempt(call, n)
    again = exact(call())
    if first is not MemoryError and exact(first) != again:
        return 3
    if again != exact(call()):
        return 4
    tracemalloc.start()
    kept = []
    for turn in range(25):
        attempt(call, n)
        if turn % 20 == 4:
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0])
    # Python and numpy lose up to a hundred bytes themselves.
    return 5 if kept[1] - kept[0] > 20 * 200 else int(first is MemoryError)


def main(name: str) -> int:
    """Go through all allocations of a call, until none is left that could fail."""
    call, failed, fine, n = CALLS[name], 0, 0, 0
    gc.freeze()  # the children collect often
    while fine < 30:
        pid = os.fork()
        if pid == 0:
            os._exit(child(call, n))
        status = os.waitpid(pid, 0)[1]
        if status not in (0, 256):
            sys.stdout.write(f"{name}: allocation {n}: status {status}\n")
            return 1
        failed += status == 256
        fine = 0 if status == 256 else fine + 1
        n += 1
    sys.stdout.write(f"{failed}\n")
    return 0


if __name__ == "__main__":
    for line in iter(sys.stdin.readline, ""):
        copy = os.fork()
        if copy == 0:
            code = main(line.strip())
            sys.stdout.flush()
            os._exit(code)
        sys.stdout.write(f"exit {os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])}\n")
        sys.stdout.flush()
