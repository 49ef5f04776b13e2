"""The command ``callstats``: a thin skin on `callstats.store`. It needs the extra ``callstats[cli]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the command, by default with the program's own arguments; it ends in `SystemExit` with one of `ExitCode`'s codes."""
    try:
        import click  # noqa: F401 - only whether they are there
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.stderr.write(f'callstats needs {error.name}: pip install "callstats[cli]"\n')
        sys.exit(2)
    from callstats.cli.app import cli

    cli.main(args=None if args is None else list(args), prog_name="callstats")
