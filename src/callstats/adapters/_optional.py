"""What a missing extra says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(function: str, package: str, extra: str) -> Iterator[None]:
    """Within it, an import that finds nothing says in one line what is missing, and how to get it."""
    try:
        yield
    except ModuleNotFoundError:
        raise ImportError(f'callstats.{function} needs {package}: pip install "callstats[{extra}]"') from None
