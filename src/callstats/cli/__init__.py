"""The command ``callstats``: a thin skin over `callstats.db`. It needs the extra ``callstats[cli]``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper


def main(args: Sequence[str] | None = None) -> None:
    """Run the command, by default with the program's own arguments. It ends in SystemExit, with one of `ExitCode`'s codes."""
    _fill_streams()
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):  # only the main thread may; ignored by a parent, it would cost the exit codes of children
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        import click  # noqa: F401 - only to see whether they are installed
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.stderr.write(f'callstats needs {error.name}: install callstats with the extra "cli"\n')
        sys.exit(2)
    from callstats.cli.app import cli

    cli.main(args=None if args is None else list(args), prog_name="callstats")


_STREAMS = (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def _fill_streams() -> None:
    """Open a closed standard stream to the null device, so that no database gets its number.

    Writing there fails, as on a closed stream; only messages vanish.
    """
    for number, (name, mode, flag) in enumerate(_STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, flag)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            if number:  # code that reads standard input reports that it is closed
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # text of a database may not fit the encoding
