"""A new file that gets its name when it is complete."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from callstats.errors import ArgumentError


class NewFile:
    """The base of writers. A subclass writes to `part`, and implements `close`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(f"{self.path.name}.part")
        self.size = 0
        """The size of the complete file, in bytes."""
        if self.path.exists():
            raise ArgumentError("path", "a new file", str(path), hint="it exists")

    def close(self, *, complete: bool) -> None:
        """Close what is open; if the file is complete, write its end first."""
        raise NotImplementedError

    def not_writable(self, error: OSError) -> ArgumentError:
        """Return the error for a file that can't be opened."""
        hint = os.strerror(error.errno) if error.errno else str(error)
        return ArgumentError("path", "a writable file", str(self.path), hint=hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close(complete=kind is None)
            if kind is None:
                self.size = self.part.stat().st_size
                self.part.replace(self.path)
        finally:
            self.part.unlink(missing_ok=True)
