"""Text for people, built and not printed."""

from __future__ import annotations

from typing import NamedTuple

from callstats import kernels
from callstats.errors import CallstatsError
from callstats.readable import printable, size_text
from callstats.store import ImportReport, ReduceReport, Reject
from callstats.store.report import Key


class LineCounts(NamedTuple):
    """What became of the lines of `reduce --jsonl`."""

    changed: int
    unchanged: int
    refused: int
    bytes_before: int
    """Of the changed lines."""
    bytes_after: int


def key_text(key: Key | None) -> str:
    """A key as it is named to people."""
    if key is None:
        return "NULL"
    return f"x'{key.hex()}'" if isinstance(key, bytes) else repr(key)


def reject_line(reject: Reject) -> str:
    """A refused row by its key, and why."""
    return printable(f"refused {key_text(reject.key)}: {reject.reason}")


def refused_line(number: int, error: CallstatsError) -> str:
    """A refused line of `reduce --jsonl` by its number, and why."""
    return printable(f"refused line {number}: {error}")


def rate_text(report: ReduceReport) -> str:
    """How fast cells were read."""
    return f"{size_text(report.bytes_read / max(report.seconds, 1e-9))}/s"


def progress_line(report: ReduceReport) -> str:
    """How far the job is."""
    total = "" if report.total is None else f" of {report.total:,}"
    return f"{report.rows:,}{total} rows, {rate_text(report)}, {size_text(report.bytes_before - report.bytes_after)} saved"


def less_text(before: int, after: int, what: str) -> str:
    """What a reduction saved."""
    less = 100 * (before - after) / max(before, 1)
    return f"{size_text(before)} before, {size_text(after)} after in the {what}: {less:.1f} % less"


def line_summary(counted: LineCounts) -> str:
    """What `reduce --jsonl` did."""
    lines = counted.changed + counted.unchanged + counted.refused
    counts = f"{lines:,} lines: {counted.changed:,} changed, {counted.unchanged:,} unchanged, {counted.refused:,} refused"
    return f"{counts}; {less_text(counted.bytes_before, counted.bytes_after, 'changed lines')}; {kernels.active.BACKEND} backend"


def summary_lines(report: ReduceReport) -> list[str]:
    """What the job did."""
    changed = "to change" if report.dry_run else "changed"
    read = f"{report.changed:,} {changed}, {report.unchanged:,} unchanged, {report.refused:,} refused"
    lines = [f"{report.rows:,} rows: {read}, {report.passed:,} too short to be read"]
    if report.changed:
        lines.append(less_text(report.bytes_before, report.bytes_after, f"rows {changed}"))
    lines.append(f"{report.seconds:.1f} s, {rate_text(report)}, {report.backend} backend")
    if report.dry_run:
        lines.append("dry run: nothing was written")
    if report.stopped is not None:
        lines.append(printable(f"stopped early: {report.stopped}; all that is counted here is done"))
    return lines


def import_lines(report: ImportReport) -> list[str]:
    """What the import did."""
    lines = [f"{report.restored:,} rows put back, {report.unknown:,} not in the table, {report.seconds:.1f} s"]
    if report.torn:
        lines.append("the file ends in half a line, as a kill leaves it: that row had not been changed")
    if report.stopped is not None:
        lines.append(printable(f"stopped early: {report.stopped}; all that is counted here is done"))
    return lines


def unknown_lines(report: ImportReport) -> list[str]:
    """The saved rows that the table doesn't have."""
    lines = [printable(f"not in the table: {key_text(key)}") for key in report.unknown_keys]
    more = report.unknown - len(report.unknown_keys)
    return [*lines, f"and {more:,} more"] if more else lines
