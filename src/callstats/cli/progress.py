"""How far a job is, on standard error: a bar, lines, or a log in JSON."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Self

import click

from callstats._json import json_text
from callstats._timestamps import format_time
from callstats._units import plural, printable, size_text
from callstats.cli.format import reject_line
from callstats.db import ReduceResult, Reject

SECONDS_BETWEEN_LINES = 5.0

_MOST_ALIKE = 10
"""How many rejected rows with the same reason are shown."""
_MOST_REASONS = 20
"""How many reasons are shown."""


class ProgressLine(ExitStack):
    """Show how far a job is on standard error: a bar on a terminal, else a line every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = None
        self._last = time.monotonic()
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            text = progress.TextColumn("{task.description}", markup=False)
            columns = progress.BarColumn(), text, progress.TimeRemainingColumn()
            self._bar = self.enter_context(progress.Progress(*columns, console=Console(stderr=True), transient=True))
            self._task = self._bar.add_task("", total=None)

    def update(self, result: ReduceResult) -> None:
        """Show the result so far."""
        if self._bar is not None:
            self._bar.update(self._task, total=result.total, completed=result.rows, description=progress_line(result))
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.say(progress_line(result))

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def reject(self, reject: Reject) -> None:
        """Print a rejected row."""
        self.say(reject_line(reject))


class JSONLog(ExitStack):
    """Show how far a job is on standard error, as JSON: a line for each batch, each rejected row and each note."""

    def update(self, result: ReduceResult) -> None:
        """Log the counts so far, after a batch."""
        self._log("batch", {name: value for name, value in asdict(result).items() if isinstance(value, (int, float))})

    def say(self, line: str) -> None:
        """Log a note."""
        self._log("note", {"text": line})

    def reject(self, reject: Reject) -> None:
        """Log a rejected row."""
        self._log("reject", reject._asdict())

    def _log(self, event: str, fields: dict[str, Any]) -> None:
        click.echo(json_text({"time": format_time(time.time_ns()), "event": event, **fields}), err=True)


class FewRejects:
    """Show the first rejected rows of each reason, and at the end of a ``with`` block how many more there were.

    A log in JSON gets all of them.
    """

    def __init__(self, progress: ProgressLine | JSONLog) -> None:
        self._progress = progress
        self._counts: Counter[str | None] = Counter()
        """Rejected rows by reason; None is every reason after the first 20."""

    def __enter__(self) -> Self:
        return self

    def add(self, reject: Reject) -> None:
        """Show a rejected row, or count it."""
        if isinstance(self._progress, JSONLog):
            self._progress.reject(reject)
            return
        reason = reject.reason if reject.reason in self._counts or len(self._counts) < _MOST_REASONS else None
        self._counts[reason] += 1
        if reason is not None and self._counts[reason] <= _MOST_ALIKE:
            self._progress.reject(reject)

    def __exit__(self, *_: object) -> None:
        for reason, count in self._counts.items():
            if (more := count - (0 if reason is None else _MOST_ALIKE)) > 0:
                why = "with further reasons" if reason is None else f"too: {reason}"
                self._progress.say(printable(f"rejected {plural(more, 'more row')} {why}; --rejects FILE has all"))


def progress_line(result: ReduceResult) -> str:
    """Return how far the job is."""
    total = "" if result.total is None else f" of {result.total:,}"
    return f"{result.rows:,}{total} rows, {rate_text(result)}, {size_text(result.bytes_before - result.bytes_after)} saved"


def rate_text(result: ReduceResult) -> str:
    """Return how fast text was read."""
    return f"{size_text(result.bytes_read / max(result.seconds, 1e-9))}/s"
