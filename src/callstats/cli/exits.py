"""How the command ends, whichever command it was."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import IO, Any

import click

from callstats.errors import CallstatsError
from callstats.readable import printable
from callstats.store import StoreError


class ExitCode(IntEnum):
    """The codes that the command ends with."""

    DONE = 0
    REFUSED = 1
    """Some rows were refused, each named with its key and the reason."""
    WRONG_USE = 2
    STOPPED = 3
    """It stopped early: the database is locked or gone, nobody reads the output any more, or Ctrl-C."""
    TIMEOUT = 124
    """`record`: the command ran out of time."""
    DRIVER_FAULT = 125
    """`record`: the command could not be run or watched, through no fault of its own."""


class Group(click.Group):
    """A group whose commands may raise the package's errors, lose their reader and be interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end as `ExitCode` says."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            _drop_output()
            ctx.exit(ExitCode.STOPPED)
        except KeyboardInterrupt:
            click.echo("stopped at once: the batch at hand was not written", err=True)
            ctx.exit(ExitCode.STOPPED)
        except UnicodeEncodeError as error:  # what the system's arguments may hold, and no database or file can
            raise WrongUse(f"expected text that UTF-8 can hold: got {error.object!r}") from None
        except StoreError as error:
            raise Stopped(str(error)) from None
        except CallstatsError as error:
            raise WrongUse(str(error)) from None
        except ImportError as error:
            if "pip install" not in str(error):
                raise
            raise WrongUse(str(error)) from None


class Failure(click.ClickException):
    """An error in one line."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it; it may quote the database."""
        click.echo(f"callstats: {printable(self.message)}", file=file, err=file is None)


class WrongUse(Failure):
    """What was asked for can't be done."""

    exit_code = ExitCode.WRONG_USE


class DriverFault(Failure):
    """A recorded command could not be run or watched."""

    exit_code = ExitCode.DRIVER_FAULT


class Stopped(Failure):
    """The database can't be worked on now."""

    exit_code = ExitCode.STOPPED


@contextmanager
def ctrl_c_stops() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C makes the function that this gives say True; a second one interrupts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def written() -> Iterator[None]:
    """Around the whole program: what it prints is written at its end, or the reason why it could not be is told."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(ExitCode.STOPPED)
    except OSError as error:
        _drop_output(sys.stdout)
        what = "can't write the output" if error.filename is None else printable(repr(error.filename))
        click.echo(f"callstats: {what}: {error.strerror or error}", err=True)
        sys.exit(ExitCode.STOPPED)


def _drop_output(*streams: IO[Any]) -> None:
    """Send what is left to nowhere, so that the interpreter's own last flush finds no broken pipe either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams or (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
