"""How the command ends, whichever command it was."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from types import FrameType
from typing import IO, Any

import click

from callstats._units import printable
from callstats.errors import CallstatsError, DatabaseError


class ExitCode(IntEnum):
    """The codes that the command ends with."""

    DONE = 0
    REFUSED = 1
    """Some rows were refused, each named with its key and the reason."""
    WRONG_USE = 2
    STOPPED = 3
    """It stopped early: the database is locked or gone, the output can't be written any more, or Ctrl-C."""
    TIMEOUT = 124
    """`record`: the command ran out of time."""
    DRIVER_FAULT = 125
    """`record`: the command could not be run or watched, through no fault of its own."""


class Group(click.Group):
    """A group whose commands may raise the package's errors, lose their output and be interrupted."""

    def main(self, args: Any = None, prog_name: Any = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command and exit; with the right code too when even the error can't be written."""
        run: Callable[[], Any] = partial(super().main, args, prog_name, *more, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        code: int = ExitCode.STOPPED
        try:
            try:
                code = run() or ExitCode.DONE
            except click.ClickException as error:
                code = error.exit_code
                error.show()
            except click.Abort:
                pass
        except OSError:
            _drop_output()
        sys.exit(code)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the command line; --help and --version print from in here."""
        with _output_may_end():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end as `ExitCode` says."""
        try:
            with _output_may_end():
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except KeyboardInterrupt:
            click.echo("stopped at once: the batch at hand was not written", err=True)
            ctx.exit(ExitCode.STOPPED)
        except UnicodeEncodeError as error:  # what the system's arguments may hold, and no database or file can
            raise WrongUse(f"expected text that UTF-8 can hold, got {error.object!r}") from None
        except DatabaseError as error:
            raise Stopped(in_options(str(error), self)) from None
        except CallstatsError as error:
            raise WrongUse(in_options(str(error), self)) from None
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


_CLAUSE = re.compile(r"[\w ]+?(?= must | needs )|\w+(?=: )")


def in_options(message: str, group: click.Group) -> str:
    """An error of the library's, its parameters by the names that they have on the command line.

    They begin it, up to what they must be; names of two words stand for nothing else, but where they are quoted.
    """
    known = {
        str(option.name): option.opts[0]
        for command in group.commands.values()
        for option in command.params
        if isinstance(option, click.Option)
    }
    found = _CLAUSE.match(message)
    clause = found[0] if found else ""
    clause, rest = re.sub(r"\w+", lambda word: known.get(word[0], word[0]), clause), message[len(clause) :]
    return clause + re.sub(r"(?<![\w'-])[a-z]+_[a-z]+(?![\w'])", lambda word: known.get(word[0], word[0]), rest)


@contextmanager
def ctrl_c_stops() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C makes the function that this gives say True; a second one interrupts.

    Ctrl-C stays ignored where it was ignored before, as in a shell's background job: it is meant for the job in the foreground.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
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
def _output_may_end() -> Iterator[None]:
    """A reader that has gone ends the command in silence; a disk that is full, in one line."""
    try:
        yield
    except BrokenPipeError:
        _drop_output()
        raise click.exceptions.Exit(ExitCode.STOPPED) from None
    except OSError as error:
        _drop_output()
        what = "can't write the output" if error.filename is None else repr(error.filename)
        raise Stopped(f"{what}: {error.strerror or error}") from None


def _drop_output() -> None:
    """Send what can't be written to nowhere, so that the interpreter's own last flush finds no fault either."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
