"""Text: stored histograms to columns, columns to text, and text to reduced text. The specification of `json_cy`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from callstats._types import I64_MAX, U64_MAX, Block, Bytes, Counts, Times
from callstats.kernels import decimate_py

SAME, WRITTEN, OTHER = range(3)

Layout: TypeAlias = Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]
_Text: TypeAlias = "tuple[list[bytes], Times, Block, Bytes | None, Counts | None]"

_FEW_COLUMNS = 256
_BARE_ROW = len('{"timestamp":"2006-01-02T15:04:05.000Z","metrics":{}},')

_NUMBER = rb"(?:0|[1-9][0-9]{0,19})"
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_METRIC = rb'"[ !#-%\'-;=?-\[\]-\x7f]*":' + _NUMBER
_METRICS = rb"(?:" + _METRIC + rb"(?:," + _METRIC + rb")*+)?"
_ROW = rb'\{"timestamp":"' + _TIME + rb'","metrics":\{' + _METRICS + rb'\}(?:,"count":' + _NUMBER + rb")?\}"
_WRITTEN = re.compile(rb"\[" + _ROW + rb"(?:," + _ROW + rb")*+\]\n?")


def reduce_text(
    data: Bytes,
    offsets: Counts,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    counts: bool,
    layout: Layout,
) -> tuple[bytes, Counts, Bytes]:
    """Reduce the stored histograms data[offsets[i]:offsets[i + 1]], text to text.

    Gives the results in the same form, and of each whether it is the text given (0), a new one (1), or empty (2), since the text
    has not the written shape, can't be reduced, or can't be made to fit max_bytes (-1: no limit): the general route is to tell.
    ``layout(names)`` gives, for the metrics of a blob, the columns of `decimate`, and for each column of the result its key
    ``,"name":``, as bytes and their ends. Where all are the texts given, they are not copied: the text is empty, and the offsets
    are those of the texts.
    """
    bounds = offsets.tolist()
    texts = [data[begin:end].tobytes() for begin, end in pairwise(bounds)]
    results = reduce_texts(texts, max_samples, max_bytes, zero, counts, layout)
    status = [OTHER if new is None else SAME if new is old else WRITTEN for old, new in zip(texts, results, strict=True)]
    out_offsets = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum([len(result or b"") for result in results], out=out_offsets[1:])
    same = not any(status)
    return b"" if same else b"".join(result or b"" for result in results), out_offsets, np.array(status, dtype=np.uint8)


def reduce_texts(
    texts: list[bytes], max_samples: int, max_bytes: int, zero: bool, counts: bool, layout: Layout
) -> list[bytes | None]:
    """Reduce stored histograms, bytes to bytes, as `reduce_text` does: a list, None where the general route is to tell."""
    return [_reduce(text, max_samples, max_bytes, zero, counts, layout) for text in texts]


def _reduce(text: bytes, max_samples: int, max_bytes: int, zero: bool, counts: bool, layout: Layout) -> bytes | None:
    read = read_text(text)
    if read is None:
        return None
    names, times, values, present, weights = read
    if len(times) <= max_samples and (max_bytes < 0 or len(text) <= max_bytes):
        return text
    if max_samples <= 0:
        return b""
    columns, keys, key_ends = layout(tuple(names))
    most = max_samples
    if max_bytes >= 0:
        most = fit(times, values, present, weights, max_samples, max_bytes, zero, counts, columns, keys, key_ends)
        if most <= 0:
            return None
    to_times, to_values, to_present, to_counts, _, fault = decimate_py.decimate(
        times, values, present, weights, None, most, zero, columns
    )
    if fault is not None:
        return None
    return write_text(to_times, to_values, to_present, to_counts if counts else None, keys, key_ends, 3)


def read_text(text: bytes) -> _Text | None:
    """The columns of a stored histogram of the written shape: names, times, values, present (None: all), counts (None: all one).

    Metrics come in the order in which they were met. None for a text of any other shape.
    """
    if not text:
        return [], np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.uint64), None, None
    if _WRITTEN.fullmatch(text) is None:
        return None
    rows: list[dict[str, object]] = json.loads(text, object_pairs_hook=_object)
    n = len(rows)
    times = _times([row["timestamp"] for row in rows])
    if times is None or (times[1:] < times[:-1]).any():
        return None
    weights: list[int] = [row.get("count", 1) for row in rows]  # type: ignore[misc]
    if min(weights) < 1 or sum(weights) > I64_MAX:
        return None
    metrics: list[dict[str, int] | None] = [row["metrics"] for row in rows]  # type: ignore[misc]
    cells: dict[str, list[int | None]] = {}
    for i, row in enumerate(metrics):
        if row is None:
            return None
        for name, value in row.items():
            if value > U64_MAX:
                return None
            cells.setdefault(name, [None] * n)[i] = value
    if len(cells) > _FEW_COLUMNS:
        return None
    values = np.zeros((len(cells), n), dtype=np.uint64)
    present = None
    for j, column in enumerate(cells.values()):
        if None in column:
            present = np.ones((len(cells), n), dtype=np.uint8) if present is None else present
            present[j] = [cell is not None for cell in column]
        values[j] = [cell or 0 for cell in column]
    counts = np.array(weights, dtype=np.int64) if max(weights) > 1 else None
    return [name.encode() for name in cells], times, values, present, counts


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | None:
    """A row, or its metrics: None unless their names rise, as they do where they were written."""
    if pairs and pairs[0][0] == "timestamp" and isinstance(pairs[0][1], str):
        return dict(pairs)
    names = [name for name, _ in pairs]
    return dict(pairs) if all(a < b for a, b in pairwise(names)) else None


def _times(stamps: list[object]) -> Times | None:
    """Nanoseconds of times of the years 1678 to 2261; None where one is no such time."""
    text = [str(stamp) for stamp in stamps]
    if any(not "1678" <= stamp[:4] <= "2261" for stamp in text):
        return None
    try:
        seconds = np.array([stamp[:19] for stamp in text], dtype="M8[s]").view(np.int64)
    except ValueError:
        return None
    rest = [_after_seconds(stamp[19:]) for stamp in text]
    return seconds * 10**9 + np.array(rest, dtype=np.int64)


def _after_seconds(rest: str) -> int:
    """Nanoseconds that a fraction and an offset from UTC add."""
    zone = -1 if rest[-1] == "Z" else -6
    ns = int(rest[1:zone].ljust(9, "0")) if rest[0] == "." else 0
    if zone == -1:
        return ns
    offset = (int(rest[-5:-3]) * 3_600 + int(rest[-2:]) * 60) * 10**9
    return ns + offset if rest[-6] == "-" else ns - offset


def write_text(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    keys: bytes,
    key_ends: Counts,
    digits: int,
) -> bytes:
    """The stored text of columns: bytes. `keys` and `key_ends` as in `reduce_text`, `digits` of a second 3 or 9."""
    if not len(times):
        return b""
    floored = times // 10**6 if digits == 3 else times
    stamps = np.datetime_as_string(floored.view("M8[ms]" if digits == 3 else "M8[ns]")).tolist()
    ends = [0, *key_ends.tolist()]
    names = [keys[begin + 1 : end].decode() for begin, end in pairwise(ends)]
    cells = values.T.tolist()
    if present is None:
        template = ",".join(name.replace("%", "%%") + "%d" for name in names)
        bodies = [template % tuple(row) for row in cells]
    else:
        bodies = [
            ",".join([f"{name}{cell}" for name, cell, there in zip(names, row, held, strict=True) if there])
            for row, held in zip(cells, present.T.tolist(), strict=True)
        ]
    if counts is None:
        tails = ["}"] * len(stamps)
    else:
        tails = [f'}},"count":{count}' if count > 1 else "}" for count in counts.tolist()]
    rows = [
        f'{{"timestamp":"{stamp}Z","metrics":{{{body}{tail}}}' for stamp, body, tail in zip(stamps, bodies, tails, strict=True)
    ]
    return ("[" + ",".join(rows) + "]\n").encode()


def fit(
    times: Times,
    values: Block,
    present: Bytes | None,
    counts: Counts | None,
    max_samples: int,
    max_bytes: int,
    zero: bool,
    counted: bool,
    columns: Counts,
    keys: bytes,  # noqa: ARG001 - the compiled twin hands it on
    key_ends: Counts,
) -> int:
    """The largest k from max_samples >= 1 down for which the text of the series reduced to k rows fits max_bytes.

    0 when none does, -k when a sum is too large at k. `columns`, `keys` and `key_ends` as in `reduce_text`; `counted`: the text
    has counts.
    """
    n = len(times)
    most, least = min(max_samples, n), _shortest_row(present, columns, key_ends)
    # Bins that are no wider hold at least half as many rows: each meets two of the wide ones at most. So where half the rows of
    # k are too many, every larger number of rows is out.
    k = 1
    while k < most:
        if (len(decimate_py.first_samples(times, k)) + 1) // 2 * least + 2 > max_bytes:
            most = k
        k *= 2
    tried: bytes | None = None
    for k in range(most, 0, -1):
        rows = decimate_py.first_samples(times, k)
        if len(rows) * least + 2 > max_bytes or rows.tobytes() == tried:
            continue
        tried = rows.tobytes()
        _, to_values, to_present, to_counts, _, fault = decimate_py.decimate(
            times, values, present, counts, None, k, zero, columns
        )
        if fault is not None:
            return -k
        if _size(to_values, to_present, to_counts if counted else None, key_ends) <= max_bytes:
            return k
    return 0


def _shortest_row(present: Bytes | None, columns: Counts, key_ends: Counts) -> int:
    """The fewest bytes that a row can take: with a digit for each metric that every sample has."""
    held = [own >= 0 and (present is None or bool(present[own].all())) for own in columns[0].tolist()]
    sizes = [size + 1 for size, always in zip(np.diff(key_ends, prepend=0).tolist(), held, strict=True) if always]
    return int(_BARE_ROW + sum(sizes) - bool(sizes))


def _size(values: Block, present: Bytes | None, counts: Counts | None, key_ends: Counts) -> int:
    """The length of `write_text`'s text with 3 digits of a second, without making it."""
    n = values.shape[1]
    # Around each row stand {"timestamp":"…","metrics":{…}} and a comma or bracket, around all a bracket and a newline.
    size: int = n * _BARE_ROW + 2
    sizes = np.diff(key_ends, prepend=0)
    if present is None:
        size += n * int(sizes.sum()) + int(_digits(values).sum()) - (n if len(sizes) else 0)
    else:
        held = present.astype(np.bool_)
        size += int((held.sum(axis=1) * sizes).sum()) + int(_digits(values)[held].sum()) - int(held.any(axis=0).sum())
    if counts is not None:
        grouped = counts[counts > 1]
        size += 9 * len(grouped) + int(_digits(grouped.astype(np.uint64)).sum())
    return size


_POWERS = np.array([10**power for power in range(1, 20)], dtype=np.uint64)


def _digits(values: Block) -> Counts:
    """How many digits each number has."""
    return np.searchsorted(_POWERS, values, side="right") + 1
