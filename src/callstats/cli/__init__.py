"""The command ``callstats``: a thin skin on `callstats.db`. It needs the extra ``callstats[cli]``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper


def main(args: Sequence[str] | None = None) -> None:
    """Run the command, by default with the program's own arguments; it ends in `SystemExit` with one of `ExitCode`'s codes."""
    _fill_streams()
    _await_children()
    try:
        import click  # noqa: F401 - only whether they are there
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.stderr.write(f'callstats needs {error.name}: pip install "callstats[cli]"\n')
        sys.exit(2)
    from callstats.cli.app import cli

    cli.main(args=None if args is None else list(args), prog_name="callstats")


def _await_children() -> None:
    """Stop ignoring SIGCHLD, which a parent may have left ignored: the system would throw away the exit codes of children."""
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


_STREAMS = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def _fill_streams() -> None:
    """Put something in the place of standard streams that are closed, lest a database's file takes it.

    To write there fails as it does where the stream is closed; only messages vanish.
    """
    for number, (name, mode, flag) in enumerate(_STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, flag)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            if number:  # what reads says itself that there is nothing
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a database holds, it can be shown
