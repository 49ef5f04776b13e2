"""How far a job is, on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

import click

from callstats.cli.lines import progress_line
from callstats.db import ReduceResult

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """What `reduce` shows while it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def update(self, report: ReduceResult) -> None:
        """Show how far it is."""

    def say(self, line: str) -> None:
        """Print a line, for good."""


class Lines:
    """For logs and pipes."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def update(self, report: ReduceResult) -> None:
        """Print a line if the last is some time ago."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(progress_line(report))

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line, err=True)


class Bar:
    """For a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, report: ReduceResult) -> None:
        """Move the bar."""
        self._bar.update(self._task, total=report.total, completed=report.rows, description=progress_line(report))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress() -> Progress:
    """The one that suits standard error."""
    return Bar() if sys.stderr.isatty() else Lines()
