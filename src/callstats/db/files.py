"""Write files so that what was written outlasts a crash."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path


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
