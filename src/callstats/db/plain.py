"""What databases hold, as JSON has it: all of it valid, none of it lost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def json_text(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """A value as JSON in ASCII."""
    return json.dumps(plain(value), indent=indent, separators=separators, allow_nan=False)


def plain(value: object) -> object:
    """A value of JSON's types: bytes as ``{"hex": …}``, what is no number of JSON's as ``{"real": "inf"}``, a time as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": bytes(value).hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def same_value(cell: bytes | None, result: bytes) -> bool:
    """Whether a database that writes JSON in its own form would make the same of both."""
    try:
        return bool(cell) and bool(result) and json.loads(cell or b"") == json.loads(result)
    except ValueError:  # more digits in a field of no interest than Python reads
        return False
