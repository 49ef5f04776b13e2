"""The forms in which rows of one shape are read, against each other and the scanner. Needs the compiled kernels."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from callstats import Rule, StatSeries, decimate
from callstats.kernels import json_cy, json_reduce_cy
from callstats.reduce import _layout_for
from support.mutants import mutants
from support.spellings import OTHER, SAME

SECOND = 10**9
NO_LIMIT = 9_223_372_036_854_771_712
START = 1_511_794_373 * SECOND
FN = ("cpu_kernel", "cpu_total", "cpu_user", "disk_read", "disk_write", "mem_limit", "mem_usage", "net_rx", "net_tx")
FORMS = [form for form in ("off", "portable", "avx2", "avx512") if json_cy.choose_form(form)]
json_cy.choose_form("auto")


def series(n: int, *, digits: int = 16, names: tuple[str, ...] = FN, step: int = SECOND, **metrics: list[int]) -> StatSeries:
    """Values with 1 digit to so many, but for these metrics."""
    rng = random.Random(n)
    drawn = {name: [min(rng.randrange(10 ** rng.randint(1, digits)), 2**64 - 1) for _ in range(n)] for name in names}
    return StatSeries([START + i * step for i in range(n)], {**drawn, **metrics})


def results(blobs: list[bytes]) -> tuple[Any, ...]:
    """What the kernels alone make of each blob: the text reduced to a few rows, and the columns."""
    data = np.frombuffer(b"".join(blobs), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, blobs)], dtype=np.int64)
    text, ends, status = json_reduce_cy.reduce_packed(data, offsets, 3, -1, False, True, _layout_for(Rule(3)))
    columns = [json_cy.decode_blob(blob) for blob in blobs]
    parts = [None if found is None else (found[0], *map(_bytes_of, found[1:])) for found in columns]
    return text, ends.tolist(), status.tolist(), parts


def _bytes_of(array: Any) -> bytes | None:
    return None if array is None else array.tobytes()


def agree(blobs: list[bytes]) -> int:
    """Every form gives the same. Return how many rows were read by their shape, in the form that read fewest."""
    wanted, fewest = None, 2**63
    try:
        for form in FORMS:
            json_cy.choose_form(form)
            before = json_cy.fused_rows()
            found = results(blobs)
            if form == "off":
                wanted = found
                assert json_cy.fused_rows() == before
            else:
                assert found == wanted, form
                fewest = min(fewest, json_cy.fused_rows() - before)
    finally:
        json_cy.choose_form("auto")
    return fewest


def without_limit(n: int) -> StatSeries:
    """A limit of memory that is no limit has 19 digits, in each row."""
    return series(n, mem_limit=[NO_LIMIT] * n)


def seeds() -> list[bytes]:
    """Texts whose rows have a shape: Go's form, also with wide numbers, with counts, JSONB's and those of `json.dumps`."""
    full = series(12)
    blobs = [without_limit(12).to_json(), series(30, digits=20).to_json(), series(9, digits=20, names=("a", "b")).to_json()]
    blobs += [full.to_json(), series(40).to_json(), decimate(series(60), 20, how=("mean", "max")).to_json()]
    rows = json.loads(full.to_json())
    return blobs + [spell(rows).encode() for spell in (*SAME.values(), *OTHER.values())]


def agreeing_mutants(n: int, seed: int) -> int:
    """Compare n mutants, each after a text that is whole. Return how many rows were read by their shape."""
    wholes = [series(160).to_json(), without_limit(160).to_json()]  # after one the shape is tried in each text that follows
    rows = 0
    made = list(mutants(seeds(), seed, n))
    for i in range(0, n, 100):
        whole = wholes[i // 100 % 2]
        blobs = [text for j, mutant in enumerate(made[i : i + 100]) for text in ((whole, mutant) if j % 10 == 0 else (mutant,))]
        rows += agree(blobs)
    return rows
