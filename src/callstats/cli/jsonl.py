"""Histograms from line to line, without a database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from callstats.cli.lines import LineCounts
from callstats.errors import CallstatsError
from callstats.reduce import reduce_json
from callstats.rule import Rule


def reduce_lines(
    lines: Iterable[bytes],
    sink: BinaryIO,
    rule: Rule,
    *,
    counts: bool,
    threads: int,
    batch_size: int,
    batch_bytes: int,
    on_refused: Callable[[int, CallstatsError], object],
) -> LineCounts:
    """Write each line reduced, or as it came where it needs no change or is refused."""
    changed = unchanged = refused = number = before = after = 0
    for batch in _batches(lines, batch_size, batch_bytes):
        blobs = [line.rstrip(b"\r\n") for line in batch]
        results = reduce_json(blobs, rule, counts=counts, threads=threads, errors="return")
        for line, blob, result in zip(batch, blobs, results, strict=True):
            number += 1
            if isinstance(result, CallstatsError):
                refused += 1
                on_refused(number, result)
                sink.write(line)
            elif result == blob:
                unchanged += 1
                sink.write(line)
            else:
                changed += 1
                before, after = before + len(line), after + max(len(result), 1)
                sink.write(result or b"\n")
        sink.flush()
    return LineCounts(changed, unchanged, refused, before, after)


def _batches(lines: Iterable[bytes], batch_size: int, batch_bytes: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) >= batch_size or size >= batch_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
