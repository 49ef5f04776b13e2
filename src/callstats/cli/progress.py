"""How far a job is, on standard error: a bar, lines, or a log in JSON."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click

from callstats._json import json_text
from callstats._timestamps import format_time
from callstats._units import size_text
from callstats.cli.format import FewRejects
from callstats.db import ReduceResult, Reject

SECONDS_BETWEEN_LINES = 5.0


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
        self.reject = self.enter_context(FewRejects(self.say, "; --rejects FILE has all")).add

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


def progress_line(result: ReduceResult) -> str:
    """Return how far the job is."""
    total = "" if result.total is None else f" of {result.total:,}"
    return f"{result.rows:,}{total} rows, {rate_text(result)}, {size_text(result.bytes_before - result.bytes_after)} saved"


def rate_text(result: ReduceResult) -> str:
    """Return how fast text was read."""
    return f"{size_text(result.bytes_read / max(result.seconds, 1e-9))}/s"
