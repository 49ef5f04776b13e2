"""JSON lines in Spark's workers: a column `value` of bytes, each a blob or an object with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from callstats.adapters.files import LinePage, reduce_page
from callstats.rule import Rule


def reduce_lines(batches: Iterator[pa.RecordBatch], *, rule: Rule, column: str, key: str) -> Iterator[pa.RecordBatch]:
    """Yield the lines with their blobs reduced, their keys, and the reasons why blobs are rejected."""
    for batch in batches:
        page = LinePage(batch.column(0).to_pylist(), column)
        changed, reasons, _ = reduce_page(page, rule)
        lines = [line.removesuffix(b"\n") for line in page.lines(changed)]
        columns = [pa.array(lines, pa.binary()), _texts(page, key), pa.array(map(reasons.get, range(len(batch))), pa.string())]
        yield pa.RecordBatch.from_arrays(columns, names=["value", "key", "reason"])


def parse_lines(batches: Iterator[pa.RecordBatch], *, column: str, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield fields as text, and the blobs. An object without one is handed on as its blob, which is rejected."""
    for batch in batches:
        lines = batch.column(0).to_pylist()
        page = LinePage(lines, column)
        blobs = [lines[i] if i in page.faults else blob for i, blob in enumerate(page.blobs)]
        columns = [*(_texts(page, name) for name in fields), pa.array(blobs, pa.binary())]
        yield pa.RecordBatch.from_arrays(columns, names=[*fields, column])


def _texts(page: LinePage, name: str) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in page.values(name)], pa.string())
