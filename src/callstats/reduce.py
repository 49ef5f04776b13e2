"""Reduction by a Rule: `decimate` for series, `reduce_json` for stored text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np

from callstats import _json, kernels
from callstats._columns import EMPTY, Columns, normalize
from callstats._parallel import map_ordered
from callstats._types import I64_MAX, U64_MAX, Bytes, Counts
from callstats.batch import StatBatch, text_or_none, validate_buffer
from callstats.errors import (
    ArgumentError,
    BudgetError,
    CallstatsError,
    SeriesError,
    detached,
    suggest_keywords,
    with_location,
)
from callstats.kernels.json_reduce_py import NO_RESULT, UNREAD
from callstats.rule import REDUCERS, How, Missing, Reducer, Rule, make_rule, parse_peak_name
from callstats.series import StatSeries

Series = TypeVar("Series", StatSeries, StatBatch)


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
        It is never modified.
    rule : Rule or int
        How to reduce. A number is the rule's `max_samples`.
    how, missing, max_bytes
        The other fields of the rule, as for `Rule`. They can't be combined with a Rule. Metrics that `how` names and a series
        lacks are ignored.

    Returns
    -------
    StatSeries or StatBatch
        The same type as `x`. A series that the rule leaves unchanged is returned itself.

    Raises
    ------
    SeriesError
        A sum exceeds 2**64 - 1.
    BudgetError
        Not even one row fits `max_bytes`.

    Notes
    -----
    Bins are ``max((last - first) // max_samples, 1)`` ns wide, as in the Fn project's ``Decimate``. An empty bin gives no row.
    After ``max_samples - 1`` rows, the next bin takes all remaining samples. A bin of one sample is left unchanged. Any other
    bin becomes a row, in exact integers: its time is the floor of the mean of its times, weighted by counts, and each metric is
    reduced by its reducer.

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
        raise TypeError(f"x must be a StatSeries or a StatBatch, got {type(x).__name__}")
    if rule.max_bytes is not None:
        return StatBatch(with_location(f"series[{i}]", _decimate_series, member, rule) for i, member in enumerate(x))
    if rule.max_samples is None or not (np.diff(x.offsets) > rule.max_samples).any():
        return x
    columns, offsets = _decimate_columns(x._columns, x.offsets, rule, rule.max_samples)
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
        Blobs as `StatSeries.from_json` takes them. None gives ``b""``.
    rule, how, missing, max_bytes
        As for `decimate`.
    counts : bool
        Whether the text of a reduced blob has counts, as in `StatSeries.to_json`.
    sort : bool
        Sort the rows by time (stable). Without it, times that decrease are an error.
    threads : int
        Number of threads.
    errors : {"raise", "return"}
        Raise the first error, or return each rejected blob's `CallstatsError` in its place.

    Returns
    -------
    list of bytes
        One for each blob. A blob that the rule leaves unchanged is validated and returned byte for byte, unless it exceeds
        `max_bytes`, or `sort` moved a row.

    Raises
    ------
    CallstatsError
        A `DecodeError`, `SeriesError` or `BudgetError`. The message names the blob: ``blobs[17]: $[3].timestamp: …``.

    Examples
    --------
    >>> blob = b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":1}},{"timestamp":"2017-11-27T14:52:54Z","metrics":{"x":4}}]'
    >>> print(reduce_json([blob], 1)[0].decode(), end="")
    [{"timestamp":"2017-11-27T14:52:53.500Z","metrics":{"x":2},"count":2}]
    """
    rule = make_rule(rule, how, missing, max_bytes)
    if isinstance(blobs, (bytes, bytearray, memoryview, str)) or not isinstance(blobs, Iterable):
        raise TypeError(f"blobs must be an iterable of blobs, got {type(blobs).__name__}")
    if errors not in ("raise", "return"):
        raise ArgumentError("errors", "'raise' or 'return'", errors)

    def reduce_chunk(numbered: tuple[int, list[object]]) -> list[bytes | CallstatsError]:
        start, chunk = numbered
        texts = chunk if set(map(type, chunk)) <= {bytes} else [text_or_none(blob) for blob in chunk]
        # The kernel gets b"" for an invalid blob, and its result is replaced.
        limits, layout = _kernel_limits(rule), _layout_for(rule)
        results: list[Any]
        results, status = kernels.active.reduce_blobs(
            texts if texts is chunk else [text or b"" for text in texts], *limits, counts, layout
        )
        if texts is chunk and not (status >= UNREAD).any():
            return results
        for i, (blob, text) in enumerate(zip(chunk, texts, strict=True)):
            if results[i] is None or text is None:
                try:
                    readable = blob if text is None else text
                    results[i] = _reduce_blob(readable, rule, counts, sort, decodes=status[i] == NO_RESULT)
                except CallstatsError as error:
                    if errors == "raise":
                        error.args = (f"blobs[{start + i}]: {error}",)
                        raise
                    results[i] = detached(error)
        return results

    return list(chain.from_iterable(map_ordered(reduce_chunk, _chunks(blobs), threads)))


def reduce_columns(columns: Columns, rule: Rule, *, counts: bool = True) -> Columns:
    """Reduce columns by a rule. Return the same object if the rule leaves them unchanged.

    `counts` says whether the text that `max_bytes` limits has counts.
    """
    names, times, values, present, weights = columns
    n, rows = len(times), rule.max_samples
    if rows is None or rows > n:
        rows = n
    if rule.max_bytes is not None and rows > 0:
        out_names, plan = plan_metrics(names, rule)
        limit, keys = min(rule.max_bytes, I64_MAX), _json.keys_of(out_names)
        zero = rule.missing == "zero"
        rows = kernels.active.fit_rows(times, values, _json.as_bytes(present), weights, rows, limit, zero, counts, plan, *keys)
        if rows == 0:
            size = len(_json.encode(_decimate_columns(columns, None, rule, 1)[0], counts=counts))
            raise BudgetError(f"max_bytes must be at least the size of one row, {size} bytes, got {rule.max_bytes}")
        rows = abs(rows)  # negative where a sum is too large; the reduction raises the error
    return columns if rows == n else _decimate_columns(columns, None, rule, rows)[0]


def _decimate_series(series: StatSeries, rule: Rule) -> StatSeries:
    reduced = reduce_columns(series._columns, rule)
    return series if reduced is series._columns else StatSeries._with(reduced)


def _decimate_columns(columns: Columns, offsets: Counts | None, rule: Rule, max_samples: int) -> tuple[Columns, Counts | None]:
    """Reduce a batch, or one series (without offsets). Only this function calls the kernel."""
    names, times, values, present, counts = columns
    if max_samples <= 0:
        return EMPTY, None if offsets is None else np.zeros_like(offsets)
    out_names, plan = plan_metrics(names, rule)
    out_times, out_values, out_present, out_counts, out_offsets, fault = kernels.active.decimate_columns(
        times,
        values,
        _json.as_bytes(present),
        counts,
        offsets,
        max_samples,
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
            f"{where}the sum of metrics[{out_names[column]!r}] must be at most {U64_MAX}, got more in row {row} of the result"
        )
    reduced = Columns(out_names, out_times, out_values, None, out_counts)
    if out_present is not None:
        reduced = normalize(reduced._replace(present=out_present.view(np.bool_)))
    return reduced, out_offsets


def plan_metrics(names: tuple[str, ...], rule: Rule) -> tuple[tuple[str, ...], Counts]:
    """Return the metrics of a result, and the (4, k) plan of how kernels compute them.

    The plan has the indices of a metric's source and of its fallback, both -1 where there is none, its reducer's index, and
    whether the rule asks for it.
    """
    return (_plan_metrics if len(names) <= _json.MANY_NAMES else _plan_metrics.__wrapped__)(names, rule.how)


@lru_cache(maxsize=256)
def _plan_metrics(names: tuple[str, ...], how: How | Mapping[str, How] | None) -> tuple[tuple[str, ...], Counts]:
    rule = Rule(how=how)
    index_of = {name: index for index, name in enumerate(names)}
    plan: dict[str, tuple[int, int, Reducer, bool]] = {}
    for name, index in index_of.items():
        peak = parse_peak_name(name)
        if peak is not None:
            metric, reducer = peak
            asked = metric in index_of and parse_peak_name(metric) is None and reducer in rule.reducers(metric)[1:]
            plan[name] = (index, index_of.get(metric, -1), reducer, asked)
            continue
        first, *further = rule.reducers(name)
        plan[name] = (index, -1, first, True)
        for reducer in further:
            plan.setdefault(f"{name}@{reducer}", (index_of.get(f"{name}@{reducer}", -1), index, reducer, True))
    columns = [(own, other, REDUCERS.index(reducer), asked) for _, (own, other, reducer, asked) in sorted(plan.items())]
    array = np.array(columns, dtype=np.int64).reshape(len(columns), 4)
    return tuple(sorted(plan)), np.ascontiguousarray(array.T)


_CHUNK_BLOBS, _CHUNK_BYTES = 256, 2**21


def _chunks(blobs: Iterable[object]) -> Iterator[tuple[int, list[object]]]:
    """Yield blobs for one call of the kernel, and the index of the first. Chunks are small, since results are copied once."""
    start, chunk, size = 0, [], 0
    if isinstance(blobs, list) and set(map(type, blobs)) == {bytes} and sum(map(len, blobs)) <= _CHUNK_BYTES:
        for start in range(0, len(blobs), _CHUNK_BLOBS):
            yield start, blobs[start : start + _CHUNK_BLOBS]
        return
    for blob in blobs:
        chunk.append(blob)
        size += len(blob) if isinstance(blob, (bytes, str)) else _CHUNK_BYTES // _CHUNK_BLOBS
        if size >= _CHUNK_BYTES or len(chunk) == _CHUNK_BLOBS:
            yield start, chunk
            start, chunk, size = start + len(chunk), [], 0
    yield start, chunk


def reduce_buffer(
    data: Bytes, offsets: Counts, rule: Rule, *, counts: bool = True, sort: bool = False, threads: int = 1
) -> tuple[list[bytes | Bytes], Counts, dict[int, CallstatsError]]:
    """Reduce the blobs ``data[offsets[i]:offsets[i + 1]]`` as `reduce_json` does.

    Return pieces to be joined, the offsets of the joined results, and the errors by index. Pieces without changes are views of
    `data`. Rejected blobs become empty.
    """
    validate_buffer(data, offsets)
    limits, layout = _kernel_limits(rule), _layout_for(rule)

    def reduce_span(span: tuple[int, int]) -> tuple[list[bytes | Bytes], Counts, dict[int, CallstatsError]] | None:
        begin, end = span
        text, ends, status = kernels.active.reduce_packed(data, offsets[begin : end + 1], *limits, counts, layout)
        if not status.any():
            return None
        own: list[bytes | Bytes] = []
        sizes, rejected, done = np.diff(ends), {}, 0
        for i in np.flatnonzero(status >= UNREAD).tolist():
            index = begin + i
            blob = data[offsets[index] : offsets[index + 1]].tobytes()
            try:
                result = _reduce_blob(blob, rule, counts, sort, decodes=status[i] == NO_RESULT)
            except CallstatsError as error:
                rejected[index] = detached(error)
                continue
            sizes[i] = len(result)
            own += [text[done : ends[i]], result]
            done = int(ends[i])
        return [*own, text[done:] if done else text], sizes, rejected

    spans = list(_spans(offsets, _SPAN_BYTES if threads == 1 else _CHUNK_BYTES))
    sizes, done = np.diff(offsets), 0  # blobs from `done` on are unchanged so far
    pieces: list[bytes | Bytes] = []
    errors: dict[int, CallstatsError] = {}
    for (begin, end), changed in zip(spans, map_ordered(reduce_span, spans, threads), strict=True):
        if changed is not None:
            own, sizes[begin:end], rejected = changed
            pieces += [data[offsets[done] : offsets[begin]], *own]
            errors |= rejected
            done = end
    pieces.append(data[offsets[done] : offsets[-1]])
    new_offsets = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum(sizes, out=new_offsets[1:])
    return [piece for piece in pieces if len(piece)], new_offsets, errors


def _spans(offsets: Counts, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of blobs for one call of the kernel: of at most `max_bytes`, but one blob or more."""
    begin, n = 0, len(offsets) - 1
    while begin < n:
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + max_bytes, side="right")) - 1)
        yield begin, end
        begin = end


_SPAN_BYTES = 2**26
"""Size of the kernel's input: more means less work around the kernel, but more memory for its results."""


def _kernel_limits(rule: Rule) -> tuple[int, int, bool]:
    """Return max_samples, max_bytes (-1: no limit), and whether a missing value counts as 0."""
    rows = I64_MAX if rule.max_samples is None else max(min(rule.max_samples, I64_MAX), -1)
    return rows, -1 if rule.max_bytes is None else min(rule.max_bytes, I64_MAX), rule.missing == "zero"


def _layout_for(rule: Rule) -> Callable[[tuple[bytes, ...]], tuple[Counts, bytes, Counts]]:
    """Return the function by which the text kernel asks for the plan and keys of the metrics that it finds."""

    def layout(names: tuple[bytes, ...]) -> tuple[Counts, bytes, Counts]:
        out_names, plan = plan_metrics(tuple(name.decode() for name in names), rule)
        return plan, *_json.keys_of(out_names)

    return layout


def _reduce_blob(blob: object, rule: Rule, counts: bool, sort: bool, *, decodes: bool) -> bytes:
    """Reduce a blob that the kernel did not. Unless the kernel can decode it, the fallback decoder does."""
    text = _json.text_of(blob)
    columns, moved = _json.decode(blob, sort=sort, kernel=decodes)
    few = rule.max_samples is None or len(columns.times) <= rule.max_samples
    if text is not None and not moved and few and (rule.max_bytes is None or len(text) <= rule.max_bytes):
        return text
    return _json.encode(reduce_columns(columns, rule, counts=counts), counts=counts)
