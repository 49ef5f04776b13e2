"""The command ``callstats``: a thin skin on `callstats.store`. It needs the extra ``callstats[cli]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the command, by default with the program's own arguments; it ends in `SystemExit` with one of `ExitCode`'s codes."""
    _open_what_is_closed()
    try:
        import click  # noqa: F401 - only whether they are there
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.stderr.write(f'callstats needs {error.name}: pip install "callstats[cli]"\n')
        sys.exit(2)
    from callstats.cli.app import cli
    from callstats.cli.exits import written

    with written():
        cli.main(args=None if args is None else list(args), prog_name="callstats")


def _open_what_is_closed() -> None:
    """Where standard input, output or error is closed, the next file that is opened, a database's, would take its place.

    What is printed to a closed output can't be written, and so is told of; of a closed error nobody can be told.
    """
    for number, (name, mode) in enumerate((("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # it takes the lowest number that is free, which is this one
        if getattr(sys, name) is None and number:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
