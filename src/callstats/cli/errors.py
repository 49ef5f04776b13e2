"""How the command ends: its exit codes, its errors in one line, and its signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from types import FrameType
from typing import IO, Any

import click

from callstats._units import printable
from callstats.cli.format import FewRejects
from callstats.db import Call, JobResult, Reject
from callstats.db.engine import hide_passwords
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DriverError, ImageError


class ExitCode(IntEnum):
    """The exit codes of the command."""

    DONE = 0
    REJECTED = 1  # some rows; each was reported with its key and the reason
    WRONG_USE = 2
    STOPPED = 3  # the database is locked or gone, the output can't be written any more, or a signal came
    TIMEOUT = 124  # of `record`: the command ran out of time
    DRIVER_FAULT = 125  # of `record`: the driver could not run or watch the command


class Failure(click.ClickException):
    """An error in one line, and the exit code that it gives."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.WRONG_USE) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click keeps it in the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error; its text may come from a database."""
        click.echo(f"callstats: {printable(self.message)}", file=file, err=file is None)


_ARGUMENTS = {"url_or_engine": "the database", "path": "FILE"}
"""How people know the arguments that are no options, by the library's names."""


class CommandGroup(click.Group):
    """A group whose commands may raise callstats' errors, lose their output and be interrupted."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command and exit, with the right code even where the error can't be printed. No error shows a password."""
        run: Callable[[], Any] = partial(super().main, args, *rest, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        code: int = ExitCode.STOPPED
        try:
            try:
                code = run() or ExitCode.DONE
            except click.ClickException as error:
                code = error.exit_code
                urls = (os.environ.get("CALLSTATS_URL", ""), *(sys.argv[1:] if args is None else args))
                error.message = hide_passwords(error.message, *urls)  # type: ignore[misc]  # click has it final
                error.show()
        except (OSError, click.Abort):
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
        except click.NoSuchOption as error:
            if error.option_name == "--db":
                raise click.UsageError("--db: give the database as an argument, without --db", error.ctx) from None
            raise
        except KeyboardInterrupt:
            click.echo("stopped at once: the current batch was not written", err=True)
            ctx.exit(ExitCode.STOPPED)
        except UnicodeEncodeError as error:  # an argument may hold bytes that no database or file takes
            raise Failure(f"arguments must be text that encodes to UTF-8, got {error.object!r}") from None
        except DatabaseError as error:
            raise Failure(str(error), ExitCode.STOPPED) from None
        except DriverError as error:
            raise Failure(str(error), ExitCode.DRIVER_FAULT) from None
        except ArgumentError as error:
            raise Failure(self._with_option(error, ctx.invoked_subcommand)) from None
        except ImageError as error:
            raise Failure(f"--image {str(error).removeprefix('image ').removeprefix('name ')}") from None
        except (CallstatsError, ImportError) as error:
            if isinstance(error, ImportError) and "install callstats with" not in str(error):
                raise
            raise Failure(str(error)) from None

    def _with_option(self, error: ArgumentError, subcommand: str | None) -> str:
        """Return the error's message, which begins with a parameter, with the command's option in its place."""
        shown = _ARGUMENTS.get(error.parameter, error.parameter)
        flag = f"--{error.parameter.replace('_', '-')}"
        for param in self.commands[subcommand or ""].params:
            if isinstance(param, click.Option) and (param.name == error.parameter or flag in param.opts):
                shown = param.opts[0]
        return option_message(error, shown)


def option_message(error: ArgumentError, option: str) -> str:
    """Return the error's message, which begins with a parameter, with another name in its place."""
    return option + str(error).removeprefix(error.parameter)


def exit_code(result: JobResult) -> ExitCode:
    """Return how a command ends whose job has this result."""
    if result.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.REJECTED if result.rejected else ExitCode.DONE


def say(line: str) -> None:
    """Print a line to standard error. It does not matter if nobody can read it."""
    try:
        click.echo(line, err=True)
    except (OSError, ValueError):
        _drop_output()


def print_rejected(calls: Iterable[Call]) -> ExitCode:
    """Print the calls that were rejected, and return how the command ends."""
    rejects = [Reject(call.key, call.rejected) for call in calls if call.rejected is not None]
    with FewRejects() as few:
        for reject in rejects:
            few.add(reject)
    return ExitCode.REJECTED if rejects else ExitCode.DONE


@contextmanager
def catch_ctrl_c() -> Iterator[threading.Event]:
    """Set an event at Ctrl-C, or at SIGTERM, by which schedulers end a job; a second one interrupts.

    Signals that are ignored stay so: they are meant for the job in the foreground.
    """
    caught = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        if caught.is_set():
            raise KeyboardInterrupt
        caught.set()

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = [(n, signal.signal(n, note)) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    try:
        yield caught
    finally:
        for number, handler in before:
            signal.signal(number, handler)


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
        raise Failure(f"{what}: {error.strerror or error}", ExitCode.STOPPED) from None


def _drop_output() -> None:
    """Send output that can't be written to the null device, so that the interpreter's last flush doesn't fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
