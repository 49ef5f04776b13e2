"""The stored form: metric names, and JSON text to and from plain arrays.

`encode` writes the bytes of Go's JSON encoder before 1.22. `decode` accepts what Go's decoder accepts, but rejects input that
would change its meaning.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NoReturn, cast

import numpy as np

from callstats import kernels
from callstats._columns import Columns, take
from callstats._limits import CELLS_PER_VALUE, MAX_CELLS, MAX_DEPTH
from callstats._timestamps import parse_time
from callstats._types import FIRST_TIME, I64_MAX, U64_MAX, Block, Bytes, Counts, Present, Times
from callstats.errors import ArgumentError, CallstatsError, DecodeError, shorten_repr

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
    """Return a metric name as JSON text, escaped as Go does it."""
    return '"' + _ESCAPED.sub(lambda match: _ESCAPES[match[0]], name) + '"'


def is_text(name: str) -> bool:
    """Return whether the name can be encoded as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _member(path: str, name: str) -> str:
    if name.isidentifier():
        return f"{path}.{name}"
    quoted = json.dumps(name, ensure_ascii=not is_text(name))
    return f"{path}[{quoted}]"


# --- encoding ----------------------------------------------------------------------------------------------------------------


def encode(columns: Columns, *, counts: bool = True, digits: int = 3) -> bytes:
    """Return the stored text of a series: empty, or compact JSON and a newline."""
    return encode_each(columns, None, counts=counts, digits=digits)[0]


def encode_each(columns: Columns, offsets: Counts | None, *, counts: bool = True, digits: int = 3) -> list[bytes]:
    """Return the stored text of each series, whose rows the offsets part (None: there is one)."""
    names, times, values, present, weights = columns
    if type(digits) is not int or digits not in (3, 9):
        raise ArgumentError("digits", "3 or 9", digits)
    weights = weights if counts else None
    texts: list[bytes] = kernels.active.encode_columns(
        times, values, as_bytes(present), weights, offsets, *keys_of(names), digits
    )
    return texts


MANY_NAMES = 256
"""Plans and keys of more metrics than this are not cached."""


def keys_of(names: tuple[str, ...]) -> tuple[bytes, Counts]:
    """Return the text before each metric's value, with a comma first, and where each ends. Kernels read 16 bytes at once."""
    return (_keys if len(names) <= MANY_NAMES else _keys.__wrapped__)(names)


@lru_cache(maxsize=256)
def _keys(names: tuple[str, ...]) -> tuple[bytes, Counts]:
    keys = [f",{quote(name)}:".encode() for name in names]
    return b"".join([*keys, bytes(16)]), np.cumsum([len(key) for key in keys], dtype=np.int64)


def as_bytes(present: Present | None) -> Bytes | None:
    return None if present is None else present.view(np.uint8)


# --- decoding ----------------------------------------------------------------------------------------------------------------


class Number(str):
    """A JSON number outside the range of metrics, as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _ConstantError(Exception):
    """NaN or an infinity, which Python's json accepts."""


def decode(value: object, *, sort: bool = False, kernel: bool = True) -> tuple[Columns, bool]:
    """Decode a stored histogram. Return its columns, and whether `sort` had to move a row.

    `value` is None, bytes-like, text, or parsed JSON. Without `kernel`, the fallback decoder reads it: the kernel has left it to
    that. Raise a `DecodeError` at the first fault: first in the JSON of the whole blob, then row by row, and in each row in its
    time, the order of times, its metrics, and its count.
    """
    blob = text_of(value)
    decoded = kernels.active.decode_blob(blob) if kernel and blob is not None else None
    if decoded is not None:
        return _sorted_by_name(*decoded), False
    rows = parsed(value if blob is None else blob)
    if rows is None:
        rows = []
    if not isinstance(rows, list):
        _reject("$", "an array of samples", rows)
    return _decode_rows(rows, sort)


def text_of(value: object) -> bytes | None:
    """Return the bytes of a blob, or None for any other value. Raise a `DecodeError` for a str that is no UTF-8."""
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


def _sorted_by_name(
    names: tuple[bytes, ...], times: Times, values: Block, present: Bytes | None, counts: Counts | None
) -> Columns:
    """Return what the kernel decoded, with the names in order."""
    order = sorted(range(len(names)), key=names.__getitem__)
    mask = None if present is None else present.view(np.bool_)
    if order != list(range(len(names))):
        values, mask = values[order], None if mask is None else mask[order]
    return Columns(tuple(names[index].decode() for index in order), times, values, mask, counts)


def parsed(value: object) -> object:
    """Parse JSON bytes: None if there are none. Return any other value as it is. A `DecodeError` says at which byte it fails."""
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
            object_pairs_hook=_members,
        )
    except json.JSONDecodeError as error:
        at, message = error.pos, error.msg
        if message.startswith("Illegal trailing comma"):
            # Newer Pythons point at the comma, older ones at what follows it, and their messages differ.
            at = len(text) - len(text[at + 1 :].lstrip(" \t\n\r"))
            message = "Expecting value" if text[at] == "]" else "Expecting property name enclosed in double quotes"
        if at == deep:
            reason = f"expected at most {MAX_DEPTH} open brackets, got one more"
        else:
            reason = f"{_expected(message)}, got {shorten_repr(text[at]) if at < len(text) else 'the end'}"
    except _ConstantError as error:
        at = next(match.start() for match in _CONSTANT.finditer(text) if match[0][0] != '"')
        reason = f"expected a value, got {error}"
    raise DecodeError(reason, offset=len(text[:at].encode()))


def _expected(message: str) -> str:
    """Return a message of Python's json in the form of callstats."""
    if message.startswith("Expecting "):
        return message.replace("Expecting ", "expected ", 1)
    if message == "Extra data":
        return "expected nothing more"
    return f"expected JSON: {message[0].lower()}{message[1:].removesuffix(' at')}"


# An unclosed string extends to the end, so that each character is matched once.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_CONSTANT = re.compile(_STRING.pattern + r"|-?Infinity|NaN", re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING.pattern + r"|[][{}]", re.DOTALL)


def _too_deep(text: str) -> int | None:
    """Return the index of the first bracket deeper than `MAX_DEPTH`."""
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
    # Python's int() makes -0 a 0, and has an error of its own for thousands of digits.
    return int(text) if len(text) <= 20 and text[0] != "-" else Number(text)


def _constant(text: str) -> NoReturn:
    raise _ConstantError(text)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        # The last member of a name counts, in its own position.
        members = {}
        for name, value in pairs:
            members.pop(name, None)
            members[name] = value
    return members


def _reject(path: str, expected: str, value: object) -> NoReturn:
    raise DecodeError(f"expected {expected}, got {_kind(value)}", path=path)


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


def _decode_rows(rows: list[Any], sort: bool) -> tuple[Columns, bool]:
    """Return the rows of parsed JSON as columns, and whether `sort` had to move one."""
    n = len(rows)
    times = [0] * n
    weights = [1] * n
    cells: dict[str, list[int | None]] = {}
    total, before, moved, max_cells = 0, FIRST_TIME, False, _max_cells(rows)
    for i, row in enumerate(rows):
        path = f"$[{i}]"
        if not isinstance(row, dict):
            _reject(path, "an object", row)
        time = _parse_timestamp(row, path)
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
                _reject(f"{path}.metrics", "an object", metrics)
            for name, value in metrics.items():
                # The common case first, without a call.
                if type(value) is int and 0 <= value <= U64_MAX and name in cells:
                    cells[name][i] = value
                else:
                    _add_cell(cells, name, value, i, n, max_cells, path)
        weight = row.get("count", 1)
        if type(weight) is not int or not 1 <= weight <= I64_MAX - total:
            _reject(f"{path}.count", f"a whole number from 1 to {I64_MAX - total}", weight)
        weights[i] = weight
        total += weight
    columns = _assemble(times, cells, weights if total > n else None)
    return (take(columns, np.argsort(columns.times, kind="stable")), True) if moved else (columns, False)


def _parse_timestamp(row: dict[str, Any], path: str) -> int:
    path += ".timestamp"
    if "timestamp" not in row:
        raise DecodeError("expected a time, got none", path=path)
    value = row["timestamp"]
    if not isinstance(value, str):
        _reject(path, "an RFC 3339 time", value)
    try:
        return parse_time(value)
    except CallstatsError as error:
        raise DecodeError(str(error), path=path) from None


def _add_cell(cells: dict[str, list[int | None]], name: object, value: object, i: int, n: int, max_cells: int, path: str) -> None:
    path += ".metrics"
    if isinstance(name, str):
        name = str.__str__(name)  # the value of an Enum member, not its `Color.RED`
    else:
        _reject(path, "names that are text", name)
    if not is_text(name):
        raise DecodeError("expected a name that UTF-8 can hold, got a lone surrogate", path=_member(path, name))
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= U64_MAX:
        _reject(_member(path, name), f"a whole number from 0 to {U64_MAX}", value)
    if name not in cells and (len(cells) + 1) * n > max_cells:
        raise DecodeError(
            f"expected at most {max_cells} cells, rows times metrics, got one metric more", path=_member(path, name)
        )
    cells.setdefault(name, [None] * n)[i] = int(value)


def _max_cells(rows: list[Any]) -> int:
    """Return how many cells these rows may have."""
    metrics = [row.get("metrics") for row in rows if isinstance(row, dict)]
    return max(MAX_CELLS, CELLS_PER_VALUE * sum(len(members) for members in metrics if isinstance(members, dict)))


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


# --- schema ------------------------------------------------------------------------------------------------------------------


@cache
def schema_text() -> str:
    """Return the JSON Schema of the stored form."""
    return files("callstats").joinpath("schema.json").read_text(encoding="utf-8")


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
