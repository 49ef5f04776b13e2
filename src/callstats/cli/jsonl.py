"""``callstats reduce --jsonl``: lines in, lines out, without a database."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO

import click

from callstats import kernels
from callstats._units import plural, printable
from callstats.cli.errors import ExitCode, Failure
from callstats.cli.format import less_text
from callstats.errors import CallstatsError
from callstats.reduce import reduce_json
from callstats.rule import Rule

_ENDS = ("changed", "unchanged", "rejected")


def reduce_file(file: str | None, rule: Rule, **batches: Any) -> ExitCode:
    """Reduce the lines of a file or of standard input, and print the result to standard error."""
    file = file or "-"
    if file == "-" and sys.stdin is None:
        raise click.UsageError("--jsonl needs a file or standard input, and that is closed")
    try:
        source = click.open_file(file, "rb")
    except OSError as error:
        raise click.UsageError(f"can't read {file!r}: {error.strerror}") from None
    with source:
        lines = _lines(source, "standard input" if file == "-" else repr(file))
        result = reduce_lines(lines, sys.stdout.buffer, rule, **batches)
    click.echo(lines_line(result), err=True)
    return ExitCode.REJECTED if result["rejected"] else ExitCode.DONE


def _lines(source: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        yield from source
    except OSError as error:
        raise Failure(f"can't read {name}: {error.strerror or error}", ExitCode.STOPPED) from None


def reduce_lines(
    lines: Iterable[bytes], sink: BinaryIO, rule: Rule, *, counts: bool, threads: int, batch_size: int, batch_bytes: int
) -> Counter[str]:
    """Write each line reduced; a line that is short or rejected stays unchanged. Rejects are printed to standard error."""
    result: Counter[str] = Counter()
    for batch in _batches(lines, batch_size, batch_bytes):
        blobs = [line.rstrip(b"\r\n") for line in batch]
        reduced = reduce_json(blobs, rule, counts=counts, threads=threads, errors="return")
        for line, blob, new in zip(batch, blobs, reduced, strict=True):
            if isinstance(new, CallstatsError):
                result["rejected"] += 1
                click.echo(printable(f"rejected line {_count(result)}: {new}"), err=True)
                sink.write(line)
            elif new == blob:
                result["unchanged"] += 1
                sink.write(line)
            else:
                result["changed"] += 1
                result["bytes_before"] += len(line)
                result["bytes_after"] += sink.write(new or b"\n")
        sink.flush()
    return result


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


def lines_line(result: Counter[str]) -> str:
    """Return what `reduce --jsonl` did."""
    counts = ", ".join(f"{result[what]:,} {what}" for what in _ENDS)
    less = less_text(result["bytes_before"], result["bytes_after"], "changed lines")
    return f"{plural(_count(result), 'line')}: {counts}; {less}; {kernels.active.BACKEND} backend"


def _count(result: Counter[str]) -> int:
    return sum(result[what] for what in _ENDS)
