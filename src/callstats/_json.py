"""The stored form: metric names, and JSON text to and from plain arrays.

The written form is byte for byte that of Go's JSON encoder before 1.22. Reading accepts what Go's decoder accepts of it, and
refuses what would change the meaning: see `decode`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn, cast

import numpy as np

from callstats import kernels
from callstats._columns import Columns, take
from callstats._timestamps import parse_time
from callstats._types import FIRST_TIME, I64_MAX, U64_MAX, Block, Bytes, Counts, Present, Times
from callstats.errors import ArgumentError, CallstatsError, DecodeError, shorten_repr

MAX_CELLS = 2**24
"""The most cells of a table of every row and every metric: a small text whose rows share no metric would fill the memory."""

MAX_DEPTH = 64
"""The most brackets that may be open at once, the outer array's among them."""

# --- names -------------------------------------------------------------------------------------------------------------------

_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in [*range(0x20), 0x2028, 0x2029, *map(ord, "<>&")]},
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_ESCAPED = re.compile("[" + "".join(map(re.escape, _ESCAPES)) + "]")


def quote(name: str) -> str:
    """A metric name as JSON text, escaped as Go escapes it."""
    return '"' + _ESCAPED.sub(lambda match: _ESCAPES[match[0]], name) + '"'


def is_text(name: str) -> bool:
    """Whether UTF-8 can hold the name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _member(path: str, name: str) -> str:
    """The path of an object's member."""
    if name.isidentifier():
        return f"{path}.{name}"
    quoted = json.dumps(name, ensure_ascii=not is_text(name))
    return f"{path}[{quoted}]"


# --- writing -----------------------------------------------------------------------------------------------------------------


def encode(columns: Columns, *, counts: bool = True, digits: int = 3) -> bytes:
    """The stored text of a series: empty, or compact JSON and a newline."""
    names, times, values, present, weights = columns
    if type(digits) is not int or digits not in (3, 9):
        raise ArgumentError("digits", "3 or 9", digits)
    weights = weights if counts else None
    text: bytes = kernels.active.write_text(times, values, as_bytes(present), weights, *keys_of(names), digits)
    return text


MANY_NAMES = 256
"""What is made for more metrics than this is not kept for the next series."""


def keys_of(names: tuple[str, ...]) -> tuple[bytes, Counts]:
    """The text before each metric's value, a comma first, and where each ends."""
    return (_keys if len(names) <= MANY_NAMES else _keys.__wrapped__)(names)


@lru_cache(maxsize=256)
def _keys(names: tuple[str, ...]) -> tuple[bytes, Counts]:
    keys = [f",{quote(name)}:".encode() for name in names]
    return b"".join(keys), np.cumsum([len(key) for key in keys], dtype=np.int64)


def as_bytes(present: Present | None) -> Bytes | None:
    """Presence as the kernels take it."""
    return None if present is None else present.view(np.uint8)


# --- reading -----------------------------------------------------------------------------------------------------------------


class Number(str):
    """A JSON number that no metric can hold, as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _ConstantError(Exception):
    """NaN or an infinity, which Python's json would take."""


def decode(value: object, *, sort: bool = False) -> tuple[Columns, bool]:
    """Read a stored histogram; with it whether `sort` had to move a row.

    `value` is None, bytes-like, text, or what a JSON reader made of it. JSON is judged over the whole blob first, then the rows
    in order, in each the time, its order, the metrics as written and the count.

    Raises
    ------
    DecodeError
        At the first fault.
    """
    blob = text_of(value)
    written = None if blob is None else kernels.active.read_text(blob)
    if written is not None:
        return _named(*written), False
    rows = parsed(value if blob is None else blob)
    if rows is None:
        rows = []
    if not isinstance(rows, list):
        _refuse("$", "an array of samples", rows)
    return _columns(rows, sort)


def text_of(value: object) -> bytes | None:
    """The blob's own bytes; None for what is no text.

    Raises
    ------
    DecodeError
        For a str that UTF-8 can't hold.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value)
        except ValueError as error:  # a view that was released
            raise DecodeError(f"expected bytes that can be read: {error}", path="$") from None
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            offset = len(value[: error.start].encode())
            raise DecodeError("expected text that UTF-8 can hold, got a lone surrogate", offset=offset) from None
    return None


def _named(names: list[bytes], times: Times, values: Block, present: Bytes | None, counts: Counts | None) -> Columns:
    """What the kernel read, in the order of names."""
    order = sorted(range(len(names)), key=names.__getitem__)
    there = None if present is None else present.view(np.bool_)
    if order != list(range(len(names))):
        values, there = values[order], None if there is None else there[order]
    return Columns(tuple(names[place].decode() for place in order), times, values, there, counts)


def parsed(value: object) -> object:
    """The parsed JSON of bytes, None of none; whatever is no bytes as it is. A `DecodeError` names the byte that breaks it."""
    if not isinstance(value, bytes):
        return value
    if not value:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"expected UTF-8, got the byte 0x{value[error.start]:02x}", offset=error.start) from None
    deep = _too_deep(text)
    try:
        return json.loads(
            text if deep is None else text[:deep],
            parse_int=_integer,
            parse_float=Number,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        place, message = error.pos, error.msg
        if message.startswith("Illegal trailing comma"):
            # Newer Pythons point at the comma, older ones at what should not follow it; their words differ too.
            place = _after_space(text, place + 1)
            message = "Expecting value" if text[place] == "]" else "Expecting property name enclosed in double quotes"
        if place == deep:
            reason = f"expected at most {MAX_DEPTH} open brackets, got one more"
        else:
            reason = f"{_expected(message)}, got {shorten_repr(text[place]) if place < len(text) else 'the end'}"
    except _ConstantError as error:
        place = next(match.start() for match in _CONSTANT.finditer(text) if match[0][0] != '"')
        reason = f"expected a value, got {error}"
    raise DecodeError(reason, offset=len(text[:place].encode()))


def _expected(message: str) -> str:
    """The words of Python's json in those of callstats."""
    if message.startswith("Expecting "):
        return message.replace("Expecting ", "expected ", 1)
    if message == "Extra data":
        return "expected nothing more"
    return f"expected JSON: {message[0].lower()}{message[1:].removesuffix(' at')}"


def _after_space(text: str, place: int) -> int:
    return place + len(text[place:]) - len(text[place:].lstrip(" \t\n\r"))


# A string that nothing closes is taken to the end: each character is looked at once.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONSTANT = re.compile(_STRING.pattern + r"|-?Infinity|NaN", re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING.pattern + r"|[][{}]", re.DOTALL)


def _too_deep(text: str) -> int | None:
    """Where the bracket past `MAX_DEPTH` opens, if one does."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    rest = re.sub(r"[^][{}]+", "", _STRING.sub("", text))
    for _ in range(MAX_DEPTH):
        if not rest:
            return None
        rest = re.sub(r"\[\]|\{\}", "", rest)
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            return match.start()
    return None


def _integer(text: str) -> int | Number:
    # Python's int() takes -0 for 0, and refuses thousands of digits in its own words.
    return int(text) if len(text) <= 20 and text[0] != "-" else Number(text)


def _constant(text: str) -> NoReturn:
    raise _ConstantError(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        # The last of a name counts, at its own place.
        members = {}
        for name, value in pairs:
            members.pop(name, None)
            members[name] = value
    return members


def _refuse(path: str, expected: str, came: object) -> NoReturn:
    raise DecodeError(f"expected {expected}, got {_kind(came)}", path=path)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return shorten_repr(value)


def _columns(rows: list[Any], sort: bool) -> tuple[Columns, bool]:
    """Rows of parsed JSON as arrays."""
    n = len(rows)
    times = [0] * n
    weights = [1] * n
    cells: dict[str, list[int | None]] = {}
    total, before, moved = 0, FIRST_TIME, False
    for i, row in enumerate(rows):
        path = f"$[{i}]"
        if not isinstance(row, dict):
            _refuse(path, "an object", row)
        time = _time(row.get("timestamp"), path, "timestamp" in row)
        if time < before:
            if not sort:
                raise DecodeError(
                    f"expected a time no earlier than {shorten_repr(rows[i - 1]['timestamp'])}, "
                    f"got {shorten_repr(row['timestamp'])}",
                    path=f"{path}.timestamp",
                )
            moved = True
        times[i] = before = time
        metrics = row.get("metrics")
        if metrics is not None:
            if not isinstance(metrics, dict):
                _refuse(f"{path}.metrics", "an object", metrics)
            for name, value in metrics.items():
                # Whole numbers first: nearly every value is one.
                if type(value) is int and 0 <= value <= U64_MAX and name in cells:
                    cells[name][i] = value
                else:
                    _put(cells, name, value, i, n, path)
        weight = row.get("count", 1)
        if type(weight) is not int or not 1 <= weight <= I64_MAX - total:
            _refuse(f"{path}.count", f"a whole number from 1 to {I64_MAX - total}", weight)
        weights[i] = weight
        total += weight
    columns = _assemble(times, cells, weights if total > n else None)
    return (take(columns, np.argsort(columns.times, kind="stable")), True) if moved else (columns, False)


def _time(value: object, path: str, given: bool) -> int:
    if not isinstance(value, str):
        if not given:
            raise DecodeError("expected a time, got none", path=f"{path}.timestamp")
        _refuse(f"{path}.timestamp", "an RFC 3339 time", value)
    try:
        return parse_time(value)
    except CallstatsError as error:
        raise DecodeError(str(error), path=f"{path}.timestamp") from None


def _put(cells: dict[str, list[int | None]], name: object, value: object, i: int, n: int, path: str) -> None:
    """Check one metric of row i, and keep it."""
    path += ".metrics"
    if isinstance(name, str):
        name = str.__str__(name)  # of a member of an enumeration, say, the text itself
    else:
        _refuse(path, "names that are text", name)
    if not is_text(name):
        raise DecodeError("expected a name that UTF-8 can hold, got a lone surrogate", path=_member(path, name))
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= U64_MAX:
        _refuse(_member(path, name), f"a whole number from 0 to {U64_MAX}", value)
    if name not in cells and (len(cells) + 1) * n > MAX_CELLS:
        raise DecodeError(
            f"expected at most {MAX_CELLS} cells, rows times metrics, got one metric more", path=_member(path, name)
        )
    cells.setdefault(name, [None] * n)[i] = int(value)


def _assemble(times: list[int], cells: dict[str, list[int | None]], weights: list[int] | None) -> Columns:
    names = tuple(sorted(cells))
    n = len(times)
    values = np.zeros((len(names), n), dtype=np.uint64)
    present: Present | None = None
    for j, name in enumerate(names):
        column = cells[name]
        if None in column:
            if present is None:
                present = np.ones((len(names), n), dtype=np.bool_)
            present[j] = [cell is not None for cell in column]
            column = [cell or 0 for cell in column]
        values[j] = cast(list[int], column)
    counts = None if weights is None else np.array(weights, dtype=np.int64)
    return Columns(names, np.array(times, dtype=np.int64), values, present, counts)


# --- other JSON --------------------------------------------------------------------------------------------------------------


def json_text(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """Return any value that a database may hold as valid JSON in ASCII."""
    return json.dumps(_plain(value), indent=indent, separators=separators, allow_nan=False)


def _plain(value: object) -> object:
    """Return a value as one of JSON's types: bytes as ``{"hex": …}``, infinity as ``{"real": "inf"}``, others as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": bytes(value).hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
