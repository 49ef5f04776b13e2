"""The error for an extra that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(name: str, extra: str) -> Iterator[None]:
    """Say in one line which package ``callstats.{name}`` needs, if an import in the block does not find it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        raise ImportError(f'callstats.{name} needs {package}: install callstats with the extra "{extra}"') from None
