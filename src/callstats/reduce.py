"""What a Rule does: `decimate` for series, `reduce_json` for stored text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np

from callstats import _json, kernels
from callstats._columns import Columns
from callstats._parallel import share
from callstats._types import I64_MAX, U64_MAX, Bytes, Counts
from callstats.batch import StatBatch, refuse_texts
from callstats.errors import ArgumentError, BudgetError, CallstatsError, DecodeError, SeriesError, detached, suggest_keywords
from callstats.rule import REDUCERS, How, Missing, Reducer, Rule, make_rule, parse_peak_name
from callstats.series import StatSeries

Series = TypeVar("Series", StatSeries, StatBatch)
Result = TypeVar("Result")


@suggest_keywords
def decimate(
    x: Series,
    rule: Rule | int | None = 240,
    *,
    how: How | Mapping[str, How] | None = None,
    missing: Missing | None = None,
    max_bytes: int | None = None,
) -> Series:
    """Reduce a series, or every series of a batch, to at most `max_samples` rows.

    Parameters
    ----------
    x : StatSeries or StatBatch
        Left as it is.
    rule : Rule or int
        How to reduce. A number is the rule's `max_samples`.
    how, missing, max_bytes
        The other fields of the rule, as for `Rule`. They can't be combined with a Rule.

    Returns
    -------
    StatSeries or StatBatch
        As `x`: unchanged where the rule leaves it.

    Raises
    ------
    SeriesError
        When a sum passes 2**64 - 1.
    BudgetError
        When not even one row fits `max_bytes`.

    Notes
    -----
    The span is cut into bins of ``max((last - first) // max_samples, 1)`` ns. An empty bin gives no row; once ``max_samples - 1``
    rows are out, the next takes all that is left. A bin of one sample is passed on untouched; any other gives the floor of the
    mean of its times, weighed by counts, and each metric reduced by its reducer, in exact integers. The bins are those of the Fn
    project's ``Decimate``.

    Examples
    --------
    >>> series = StatSeries([0, 1, 2, 3], {"mem_usage": [10, 20, 50, 31]})
    >>> decimate(series, 2, how={"mem_usage": ("mean", "max")})["mem_usage@max"]
    array([20, 50], dtype=uint64)
    """
    rule = make_rule(rule, how, missing, max_bytes)
    if isinstance(x, StatSeries):
        return _decimate_series(x, rule)
    if not isinstance(x, StatBatch):
        raise TypeError(f"decimate takes a StatSeries or a StatBatch, got {type(x).__name__}")
    if rule.max_bytes is not None:
        return StatBatch(_named(f"series[{i}]", _decimate_series, member, rule) for i, member in enumerate(x))
    if rule.max_samples is None or not (np.diff(x.offsets) > rule.max_samples).any():
        return x
    columns, offsets = _reduced(x._columns, x.offsets, rule, rule.max_samples)
    return StatBatch._of(columns, cast(Counts, offsets))


@overload
def reduce_json(
    blobs: Iterable[object],
    rule: Rule | int | None = ...,
    *,
    how: How | Mapping[str, How] | None = ...,
    missing: Missing | None = ...,
    max_bytes: int | None = ...,
    counts: bool = ...,
    sort: bool = ...,
    threads: int = ...,
    errors: Literal["raise"] = ...,
) -> list[bytes]: ...
@overload
def reduce_json(
    blobs: Iterable[object],
    rule: Rule | int | None = ...,
    *,
    how: How | Mapping[str, How] | None = ...,
    missing: Missing | None = ...,
    max_bytes: int | None = ...,
    counts: bool = ...,
    sort: bool = ...,
    threads: int = ...,
    errors: Literal["return"],
) -> list[bytes | CallstatsError]: ...
@suggest_keywords
def reduce_json(
    blobs: Iterable[object],
    rule: Rule | int | None = 240,
    *,
    how: How | Mapping[str, How] | None = None,
    missing: Missing | None = None,
    max_bytes: int | None = None,
    counts: bool = True,
    sort: bool = False,
    threads: int = 1,
    errors: Literal["raise", "return"] = "raise",
) -> list[bytes] | list[bytes | CallstatsError]:
    """Reduce stored histograms, text to text.

    Parameters
    ----------
    blobs : iterable of bytes-like, str, list or None
        Each as `StatSeries.from_json` takes it; None gives ``b""``.
    rule, how, missing, max_bytes
        As for `decimate`.
    counts : bool
        Whether rows written anew say how many samples they stand for.
    sort : bool
        Put rows whose times go back into order (stable) instead of refusing the blob.
    threads : int
        How many threads share the work.
    errors : {"raise", "return"}
        Whether the first blob that is refused ends the work, or each such blob's `CallstatsError` takes its place in the list.

    Returns
    -------
    list of bytes
        One for each blob. A blob that the rule leaves unchanged comes back byte for byte, though it is checked like any other,
        unless it is larger than `max_bytes`, or `sort` had to move a row.

    Raises
    ------
    CallstatsError
        A `DecodeError`, `SeriesError` or `BudgetError` that names the blob: ``blobs[17]: $[3].timestamp: …``.

    Examples
    --------
    >>> blob = b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":1}},{"timestamp":"2017-11-27T14:52:54Z","metrics":{"x":4}}]'
    >>> print(reduce_json([blob], 1)[0].decode(), end="")
    [{"timestamp":"2017-11-27T14:52:53.500Z","metrics":{"x":2},"count":2}]
    """
    rule = make_rule(rule, how, missing, max_bytes)
    if isinstance(blobs, (bytes, bytearray, memoryview, str)) or not isinstance(blobs, Iterable):
        raise TypeError(f"reduce_json takes an iterable of blobs, got {type(blobs).__name__}")
    if errors not in ("raise", "return"):
        raise ArgumentError("errors", "'raise' or 'return'", errors)

    def reduce_chunk(chunk: tuple[int, list[object]]) -> list[bytes | CallstatsError]:
        return _reduce_chunk(*chunk, rule, counts, sort, errors == "raise")

    return [result for results in share(reduce_chunk, _chunks(blobs), threads) for result in results]


def _decimate_series(series: StatSeries, rule: Rule) -> StatSeries:
    reduced = fit(series._columns, rule)
    return series if reduced is series._columns else StatSeries._of(reduced)


def fit(columns: Columns, rule: Rule, *, counts: bool = True) -> Columns:
    """The columns reduced by a rule: the same object where it leaves them unchanged.

    `counts` says whether the text whose size `max_bytes` limits has them.
    """
    names, times, values, present, weights = columns
    n = len(times)
    most = n if rule.max_samples is None else min(n, rule.max_samples)
    if rule.max_bytes is not None and most > 0:
        out_names, plan = plan_of(names, rule)
        limit, keys = min(rule.max_bytes, I64_MAX), _json.keys_of(out_names)
        zero = rule.missing == "zero"
        most = kernels.active.fit(times, values, _json.as_bytes(present), weights, most, limit, zero, counts, plan, *keys)
        if most == 0:
            size = len(_json.encode(_reduced(columns, None, rule, 1)[0], counts=counts))
            raise BudgetError(f"max_bytes must hold one row at least, got {rule.max_bytes} for a row of {size} bytes")
        most = abs(most)  # where a sum is too large, the reduction will tell
    return columns if most == n else _reduced(columns, None, rule, most)[0]


def _reduced(columns: Columns, offsets: Counts | None, rule: Rule, max_samples: int) -> tuple[Columns, Counts | None]:
    """A batch reduced, or one series (no offsets): the one place that calls the kernel."""
    names, times, values, present, counts = columns
    if max_samples <= 0:
        none = np.zeros(0, dtype=np.int64)
        return Columns((), none, np.zeros((0, 0), dtype=np.uint64), None, None), None if offsets is None else np.zeros_like(
            offsets
        )
    out_names, plan = plan_of(names, rule)
    out_times, out_values, out_present, out_counts, out_offsets, fault = kernels.active.decimate(
        times,
        values,
        _json.as_bytes(present),
        counts,
        offsets,
        min(I64_MAX, max_samples),
        rule.missing == "zero",
        plan,
    )
    if fault is not None:
        row, column = fault
        where = ""
        if out_offsets is not None:
            member = int(np.searchsorted(out_offsets, row, side="right")) - 1
            where, row = f"series[{member}]: ", row - int(out_offsets[member])
        raise SeriesError(
            f"{where}the sum of metrics[{out_names[column]!r}] must be at most {U64_MAX}: row {row} of the result passes it"
        )
    if out_present is not None:
        out_present = out_present.view(np.bool_)
    return Columns(out_names, out_times, out_values, out_present, out_counts), out_offsets


def plan_of(names: tuple[str, ...], rule: Rule) -> tuple[tuple[str, ...], Counts]:
    """The metrics of the result, and of each its source, its stand-in, its reducer, and whether it is asked for."""
    return (_plan if len(names) <= _json.MANY_NAMES else _plan.__wrapped__)(names, rule)


@lru_cache(maxsize=256)
def _plan(names: tuple[str, ...], rule: Rule) -> tuple[tuple[str, ...], Counts]:
    places = {name: place for place, name in enumerate(names)}
    plan: dict[str, tuple[int, int, Reducer, bool]] = {}
    for name, place in places.items():
        peak = parse_peak_name(name)
        if peak is not None:
            base, reducer = peak
            asked = base in places and parse_peak_name(base) is None and reducer in rule.reducers(base)[1:]
            plan[name] = (place, places.get(base, -1), reducer, asked)
            continue
        first, *further = rule.reducers(name)
        plan[name] = (place, -1, first, True)
        for reducer in further:
            plan.setdefault(f"{name}@{reducer}", (places.get(f"{name}@{reducer}", -1), place, reducer, True))
    columns = [(own, other, REDUCERS.index(reducer), asked) for _, (own, other, reducer, asked) in sorted(plan.items())]
    array = np.array(columns, dtype=np.int64).reshape(len(columns), 4)
    return tuple(sorted(plan)), np.ascontiguousarray(array.T)


_CHUNK_BLOBS, _CHUNK_BYTES = 256, 2**21


def _chunks(blobs: Iterable[object]) -> Iterator[tuple[int, list[object]]]:
    """Blobs for one call of the kernel, with the place of the first: few, since their results are in memory twice for a time."""
    start, chunk, size = 0, [], 0
    for blob in blobs:
        chunk.append(blob)
        size += len(blob) if isinstance(blob, (bytes, str)) else _CHUNK_BYTES // _CHUNK_BLOBS
        if size >= _CHUNK_BYTES or len(chunk) == _CHUNK_BLOBS:
            yield start, chunk
            start, chunk, size = start + len(chunk), [], 0
    yield start, chunk


def _reduce_chunk(
    start: int, blobs: list[object], rule: Rule, counts: bool, sort: bool, raising: bool
) -> list[bytes | CallstatsError]:
    texts = [_own_text(blob) for blob in blobs]
    # An empty text is the empty series to the kernel, and stands here for a blob that is none.
    results: list[Any] = kernels.active.reduce_texts([text or b"" for text in texts], *_numbers(rule), counts, _layout_by(rule))
    for i, (blob, text, result) in enumerate(zip(blobs, texts, results, strict=True)):
        if result is None or text is None:
            try:
                results[i] = _named(f"blobs[{start + i}]" if raising else None, _reduce_blob, blob, rule, counts, sort)
            except CallstatsError as error:
                if raising:
                    raise
                results[i] = detached(error)
    return results


def reduce_buffer(
    data: Bytes, offsets: Counts, rule: Rule, *, counts: bool = True, sort: bool = False, threads: int = 1
) -> tuple[list[bytes | Bytes], Counts, dict[int, CallstatsError]]:
    """Reduce the texts ``data[offsets[i]:offsets[i + 1]]`` as `reduce_json` does: the door for whoever holds them in one buffer.

    Gives the results in the same form, the bytes as pieces to be joined, which are views of `data` where nothing changes; and of
    each text that is refused, whose result is empty, the error by its number.
    """
    refuse_texts(data, offsets)
    numbers, layout = _numbers(rule), _layout_by(rule)

    def reduce_stretch(stretch: tuple[int, int]) -> tuple[list[bytes | Bytes], Counts, dict[int, CallstatsError]] | None:
        begin, end = stretch
        text, ends, status = kernels.active.reduce_text(data, offsets[begin : end + 1], *numbers, counts, layout)
        if not status.any():
            return None
        own: list[bytes | Bytes] = []
        sizes, faults, done = np.diff(ends), {}, 0
        for i in np.flatnonzero(status == _OTHER).tolist():
            at = begin + i
            try:
                result = _reduce_blob(data[offsets[at] : offsets[at + 1]].tobytes(), rule, counts, sort)
            except CallstatsError as error:
                faults[at] = detached(error)
                continue
            sizes[i] = len(result)
            own += [text[done : ends[i]], result]
            done = int(ends[i])
        return [*own, text[done:] if done else text], sizes, faults

    stretches = list(_stretches(offsets, _STRETCH_BYTES if threads == 1 else _CHUNK_BYTES))
    sizes, kept = np.diff(offsets), 0  # what lies after the texts kept stays as it is
    pieces: list[bytes | Bytes] = []
    refused: dict[int, CallstatsError] = {}
    for (begin, end), changed in zip(stretches, share(reduce_stretch, stretches, threads), strict=True):
        if changed is not None:
            own, sizes[begin:end], faults = changed
            pieces += [data[offsets[kept] : offsets[begin]], *own]
            refused |= faults
            kept = end
    pieces.append(data[offsets[kept] : offsets[-1]])
    new_offsets = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum(sizes, out=new_offsets[1:])
    return [piece for piece in pieces if len(piece)], new_offsets, refused


def _stretches(offsets: Counts, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Which texts go to the kernel together: as many as have so many bytes, and one at least."""
    begin, n = 0, len(offsets) - 1
    while begin < n:
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + most_bytes, side="right")) - 1)
        yield begin, end
        begin = end


_STRETCH_BYTES = 2**26
"""What goes to the kernel at once: the more, the less is done around it, but its results are in memory twice for a time."""

_OTHER = 2
"""What the text kernel says of a text that the general route is to tell of."""


def _own_text(blob: object) -> bytes | None:
    """The bytes of a blob; None where the general route is to tell of it."""
    try:
        return b"" if blob is None else _json.text_of(blob)
    except DecodeError:
        return None


def _numbers(rule: Rule) -> tuple[int, int, bool]:
    """A rule as the text kernel takes it: the most rows, the most bytes (-1: no limit), and whether what is missing is 0."""
    most = I64_MAX if rule.max_samples is None else max(min(rule.max_samples, I64_MAX), -1)
    return most, -1 if rule.max_bytes is None else min(rule.max_bytes, I64_MAX), rule.missing == "zero"


def _layout_by(rule: Rule) -> Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]:
    """What the text kernel asks for the metrics that it finds."""

    def layout(names: tuple[bytes, ...]) -> tuple[Counts, bytes, Counts]:
        out_names, columns = plan_of(tuple(name.decode() for name in names), rule)
        return columns, *_json.keys_of(out_names)

    return layout


def _reduce_blob(blob: object, rule: Rule, counts: bool, sort: bool) -> bytes:
    """One blob by the general route."""
    text = b"" if blob is None else _json.text_of(blob)
    columns, moved = _json.decode(blob, sort=sort)
    few = rule.max_samples is None or len(columns.times) <= rule.max_samples
    if text is not None and not moved and few and (rule.max_bytes is None or len(text) <= rule.max_bytes):
        return text
    return _json.encode(fit(columns, rule, counts=counts), counts=counts)


def _named(where: str | None, work: Callable[..., Result], *args: object) -> Result:
    """Do the work; an error of it says where."""
    try:
        return work(*args)
    except CallstatsError as error:
        if where is not None:
            error.args = (f"{where}: {error}",)
        raise
