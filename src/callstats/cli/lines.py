"""Text for people, built and not printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from callstats import kernels
from callstats._units import memory_text, plural, printable, size_text
from callstats.call import Key
from callstats.db import Call, Change, ReduceResult, Reject, RestoreResult
from callstats.drivers import RunResult
from callstats.errors import CallstatsError
from callstats.series import StatSeries
from callstats.stats.call import usage_of


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


def rate_text(report: ReduceResult) -> str:
    """How fast cells were read."""
    return f"{size_text(report.bytes_read / max(report.seconds, 1e-9))}/s"


def progress_line(report: ReduceResult) -> str:
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
    counts = f"{plural(lines, 'line')}: {counted.changed:,} changed, {counted.unchanged:,} unchanged, {counted.refused:,} refused"
    return f"{counts}; {less_text(counted.bytes_before, counted.bytes_after, 'changed lines')}; {kernels.active.BACKEND} backend"


def summary_lines(report: ReduceResult) -> list[str]:
    """What the job did."""
    changed = "to change" if report.dry_run else "changed"
    read = f"{report.changed:,} {changed}, {report.unchanged:,} unchanged, {report.rejected:,} refused"
    passed = "too short to be read" if report.as_of is None else f"too short, or too young as of {report.as_of}, to be read"
    lines = [f"{report.rows:,} rows: {read}, {report.skipped:,} {passed}"]
    if report.locked:
        lines.append(f"{report.locked:,} more rows were locked by other programs, and are as they were")
    if report.changed:
        lines.append(less_text(report.bytes_before, report.bytes_after, f"rows {changed}"))
    lines.append(f"{report.seconds:.1f} s, {rate_text(report)}, {report.backend} backend")
    if report.retries:
        lines.append(f"{report.retries:,} times a batch was tried again, since a lock or the connection failed")
    lines += [change_line(name.replace("_change", ""), change) for name, change in largest_changes(report).items() if change]
    if report.dry_run:
        lines.append("dry run: nothing was written")
    if report.stopped is not None:
        lines.append(printable(f"stopped early: {report.stopped}; all that is counted here is done"))
    return lines


def largest_changes(report: ReduceResult) -> dict[str, Change | None]:
    """What a dry run found, by the report's own names."""
    return {"peak_change": report.peak_change, "mean_change": report.mean_change}


def change_line(what: str, change: Change) -> str:
    """How far a reduction moves a peak or a mean at most."""
    after = "nothing" if change.after is None else f"{change.after:,.10g}"
    share = f"{100 * change.share:.3g} %"
    return printable(
        f"largest change of a {what}: {change.metric} of {key_text(change.key)}, {change.before:,.10g} to {after}, {share}"
    )


def import_lines(report: RestoreResult) -> list[str]:
    """What the import did."""
    refused = f"{report.rejected:,} refused, " if report.rejected else ""
    lines = [f"{report.restored:,} rows put back, {report.unknown:,} not in the table, {refused}{report.seconds:.1f} s"]
    if report.torn:
        lines.append("the file ends in half a line, as a kill leaves it: that row had not been changed")
    if report.stopped is not None:
        lines.append(printable(f"stopped early: {report.stopped}; all that is counted here is done"))
    return lines


def unknown_lines(report: RestoreResult) -> list[str]:
    """The saved rows that the table doesn't have, or doesn't take."""
    lines = [printable(f"not in the table: {key_text(key)}") for key in report.unknown_keys]
    more = report.unknown - len(report.unknown_keys)
    lines += [f"and {more:,} more"] if more else []
    lines += map(reject_line, report.rejects)
    more = report.rejected - len(report.rejects)
    return [*lines, f"and {more:,} more refused"] if more else lines


def recorded_line(call: Mapping[str, object], series: StatSeries, ns: int, result: RunResult, url: str) -> str:
    """What `record` saw."""
    usage = usage_of(series)
    memory, cpu = usage.peak_memory, usage.cpu_mean
    used = "no sample" if memory is None else f"peak memory {memory_text(memory)}"
    busy = "" if cpu is None else f", CPU {cpu:.0f} %"
    ended = "" if result.error is None else f", {result.status}: {result.error}"
    return f"callstats: {used}{busy}, {ns / 1e9:.2f} s{ended}; call {call['id']} in {url}"


@dataclass(frozen=True)
class ListedCall:
    """A call as `list` shows it."""

    key: Key
    columns: Mapping[str, Any]
    rows: int | None
    peak_memory: int | None
    mean_cpu: float | None
    fault: str | None = None


def listed_call(call: Call) -> ListedCall:
    """Return what `list` shows of a call."""
    columns = {"fn_id": call.name, "status": call.status, "started_at": call.started_at, "completed_at": call.completed_at}
    columns = {name: value for name, value in columns.items() if value is not None}
    rows = None if call.series is None else len(call.series)
    return ListedCall(call.key, columns, rows, call.usage.peak_memory, call.usage.cpu_mean, call.rejected)


_HEADINGS = ("call", "function", "status", "started", "rows", "peak memory", "CPU")


def listed_lines(calls: Sequence[ListedCall]) -> list[str]:
    """Calls as a table of text."""
    table = [_HEADINGS, *map(_listed_cells, calls)]
    widths = [max(len(row[place]) for row in table) for place in range(len(_HEADINGS))]
    numbers = _HEADINGS.index("rows")
    return [
        "  ".join(
            cell.rjust(width) if place >= numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def listed_fault(call: ListedCall) -> str:
    """A call whose histogram can't be read, and why."""
    return printable(f"refused {key_text(call.key)}: {call.fault}")


def _listed_cells(call: ListedCall) -> tuple[str, ...]:
    key = call.key if isinstance(call.key, str) else key_text(call.key)
    told = [printable(str(call.columns.get(name) or "")) for name in ("fn_id", "status", "started_at")]
    figures = (
        "?" if call.rows is None else f"{call.rows:,}",
        "" if call.peak_memory is None else memory_text(call.peak_memory),
        "" if call.mean_cpu is None else f"{call.mean_cpu:.0f} %",
    )
    return (printable(key), *told, *figures)
