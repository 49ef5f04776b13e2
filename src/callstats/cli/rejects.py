"""Refused rows as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from callstats._json import json_text
from callstats.db import Reject
from callstats.errors import CallstatsError, DatabaseError


class RejectsFile:
    """A new file that each refused row goes to at once; without a path, nothing. A run that refuses none makes none."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            if self._path.exists():
                raise CallstatsError(f"rejects must be a new file: {str(self._path)!r} is there")
            if not self._path.parent.is_dir():
                raise CallstatsError(f"rejects: there is no folder {str(self._path.parent)!r}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            with self._told():
                self._file.close()

    def write(self, reject: Reject) -> None:
        """Put a line on it."""
        if self._path is None:
            return
        with self._told():
            if self._file is None:
                self._file = self._path.open("x", encoding="ascii", buffering=1)
            self._file.write(json_text(reject._asdict()) + "\n")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatabaseError(f"rejects: {error.strerror}: {str(self._path)!r}") from None
