"""New files that appear when they are complete, and writes that outlast a crash."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from callstats.errors import ArgumentError


@contextmanager
def new_file(path: str | os.PathLike[str], parameter: str = "path", *, replace: bool = False) -> Iterator[Any]:
    """Open a file that gets its name once it is complete and on disk. After an error there is none, or the one before.

    With `replace` an existing file is replaced, also through a link, and a pipe or a device is written to as it is.
    """
    name = Path(path)
    try:
        is_file = not (replace and name.exists() and not name.is_file())
        if replace:
            name = name.resolve()
        elif os.path.lexists(name):
            raise ArgumentError(parameter, "a new file", str(path), hint="it exists")
        # No reader of its folder takes the part for one of a dataset.
        part = name.with_name(f".callstats-{token_hex(8)}.part") if is_file else name
        file = part.open("xb" if is_file else "wb")
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself, before Python 3.13
        raise ArgumentError(parameter, "a writable file", str(path), hint=getattr(error, "strerror", str(error))) from None
    try:
        with file:
            yield file
        if is_file:
            with part.open("rb+") as whole:  # a codec may have closed it
                os.fsync(whole.fileno())
            part.replace(name)
            sync_folder(name.parent)
    finally:
        if is_file:
            part.unlink(missing_ok=True)


def replace_file(path: str | os.PathLike[str], parameter: str, data: bytes) -> None:
    """Write a file, so that no reader sees half of it."""
    with new_file(path, parameter, replace=True) as file:
        file.write(data)


def write_all(file: io.RawIOBase, data: bytes) -> None:
    """Write to a file without a buffer, which may take a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def sync_folder(path: Path) -> None:
    """Sync a folder to disk, so that its new files stay. Not every system can do that."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
