"""How the command ends: its exit codes, its errors in one line, and its signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import click

from callstats._units import printable
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DriverError

if TYPE_CHECKING:
    from callstats.db import JobResult


class ExitCode(IntEnum):
    """The exit codes of the command."""

    DONE = 0
    REJECTED = 1
    """Some rows were rejected; each was reported with its key and the reason."""
    WRONG_USE = 2
    STOPPED = 3
    """The database is locked or gone, the output can't be written any more, or a signal came."""
    TIMEOUT = 124
    """`record`: the command ran out of time."""
    DRIVER_FAULT = 125
    """`record`: the driver could not run or watch the command."""


class Failure(click.ClickException):
    """An error in one line."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error; its text may come from a database."""
        click.echo(f"callstats: {printable(self.message)}", file=file, err=file is None)


class WrongUse(Failure):
    """Arguments that can't work."""

    exit_code = ExitCode.WRONG_USE


class DriverFault(Failure):
    """A recorded command that the driver could not run or watch."""

    exit_code = ExitCode.DRIVER_FAULT


class Stopped(Failure):
    """A database or an output that doesn't work now."""

    exit_code = ExitCode.STOPPED


_ARGUMENTS = {"url_or_engine": "the database", "path": "FILE"}
"""How people know the arguments that are no options, by the library's names."""


class CommandGroup(click.Group):
    """A group whose commands may raise callstats' errors, lose their output and be interrupted."""

    def main(self, args: Any = None, prog_name: Any = None, *more: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command and exit, with the right code even where the error can't be printed."""
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
        """Parse the arguments; --help and --version print from here."""
        with _output_may_end():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn its errors into one line and an exit code."""
        try:
            with _output_may_end():
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except KeyboardInterrupt:
            click.echo("stopped at once: the current batch was not written", err=True)
            ctx.exit(ExitCode.STOPPED)
        except UnicodeEncodeError as error:  # an argument may hold bytes that no database or file takes
            raise WrongUse(f"arguments must be text that encodes to UTF-8, got {error.object!r}") from None
        except DatabaseError as error:
            raise Stopped(str(error)) from None
        except DriverError as error:
            raise DriverFault(str(error)) from None
        except ArgumentError as error:
            raise WrongUse(self._with_option(error, ctx.invoked_subcommand)) from None
        except CallstatsError as error:
            raise WrongUse(str(error)) from None
        except ImportError as error:
            if "pip install" not in str(error):
                raise
            raise WrongUse(str(error)) from None

    def _with_option(self, error: ArgumentError, subcommand: str | None) -> str:
        """Return the error's message, which begins with a parameter, with the command's option in its place."""
        if error.parameter in _ARGUMENTS:
            return option_message(error, _ARGUMENTS[error.parameter])
        flag = f"--{error.parameter.replace('_', '-')}"
        for param in self.commands[subcommand or ""].params:
            if isinstance(param, click.Option) and (param.name == error.parameter or flag in param.opts):
                return option_message(error, param.opts[0])
        return str(error)


def option_message(error: ArgumentError, option: str) -> str:
    """Return the error's message, which begins with a parameter, with another name in its place."""
    return option + str(error).removeprefix(error.parameter)


def exit_code(result: JobResult) -> ExitCode:
    """Return how a command ends whose job has this result."""
    if result.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.REJECTED if result.rejected else ExitCode.DONE


@contextmanager
def ctrl_c_stops() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True after the first Ctrl-C; a second one interrupts.

    Where Ctrl-C was ignored it stays ignored, as in a shell's background job: it is meant for the job in the foreground.
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
    """End the command in silence when the reader of its output has gone, and with one line when the disk is full."""
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
    """Send output that can't be written to the null device, so that the interpreter's last flush doesn't fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
