"""The import of the package where it is the start of the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import PurePath


@contextmanager
def one_line_at_the_start() -> Iterator[None]:
    """What ends the import ends the command as wrong use does, in one line; to any other program it is an ImportError."""
    try:
        yield
    except ImportError as error:
        if not _is_the_command():
            raise
        sys.stderr.write(f"callstats: {error}\n")
        sys.exit(2)


def _is_the_command() -> bool:
    """Whether Python was started as ``callstats`` or as ``python -m callstats``."""
    program = PurePath(sys.argv[0]).name if getattr(sys, "argv", None) else ""
    if program == "-m":  # Python has not found the module yet
        return ("-m", "callstats") in pairwise(sys.orig_argv)
    return program in ("callstats", "callstats.exe")
