"""A series as plain arrays, and what is done to them as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np

from callstats._types import I64_MAX, AnyArray, Block, Counts, Present, Times
from callstats.errors import SeriesError


class Columns(NamedTuple):
    """A series as plain arrays: one row of `values` (and `present`) for each of the sorted `names`.

    `present` is None when every value is there, `counts` is None when every row stands for one sample.
    """

    names: tuple[str, ...]
    times: Times
    values: Block
    present: Present | None
    counts: Counts | None


class Held:
    """Columns that are held for good: what series and batches show of them, as views that nobody can write to."""

    __slots__ = ("_columns",)
    _columns: Columns

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, sorted."""
        return self._columns.names

    @property
    def timestamps(self) -> Times:
        """(n,) int64 nanoseconds since the epoch; in a batch those of all series one after another."""
        return self._columns.times.view()

    @property
    def values(self) -> Block:
        """(k, n) uint64, a row for each of `names`; 0 where absent."""
        return self._columns.values.view()

    @property
    def present(self) -> Present | None:
        """(k, n) bool, which values are there; None when all are."""
        present = self._columns.present
        return None if present is None else present.view()

    @property
    def counts(self) -> Counts:
        """(n,) int64, how many raw samples each row stands for."""
        _, times, _, _, counts = self._columns
        return locked(np.ones(len(times), dtype=np.int64)) if counts is None else counts.view()


def take(columns: Columns, order: Counts) -> Columns:
    """The rows at the places in `order`."""
    names, times, values, present, counts = columns
    return Columns(
        names,
        times[order],
        np.ascontiguousarray(values[:, order]),
        None if present is None else np.ascontiguousarray(present[:, order]),
        None if counts is None else counts[order],
    )


# By position: the keyword takes longer than the work, and this is done for every series that is made.
_set_writeable = cast("Callable[[AnyArray, bool], None]", np.ndarray.setflags)


def settled(columns: Columns) -> Columns:
    """The one form in which columns are held: no metric without a value, no presence or counts that say nothing, read-only."""
    names, times, values, present, counts = columns
    if not len(times):
        columns = Columns((), times, values[:0], None, None)
    elif present is not None:
        kept = np.flatnonzero(present.any(axis=1))
        if len(kept) < len(names):
            names, values, present = tuple(names[row] for row in kept), values[kept], present[kept]
        columns = Columns(names, times, values, None if present.all() else present, counts)
    if columns.counts is not None and columns.counts.item(0) == 1 and (columns.counts == 1).all():
        columns = columns._replace(counts=None)
    _, times, values, present, counts = columns
    _set_writeable(times, False)
    _set_writeable(values, False)
    if present is not None:
        _set_writeable(present, False)
    if counts is not None:
        _set_writeable(counts, False)
    return columns


def equal(a: Columns, b: Columns) -> bool:
    if a.names != b.names:
        return False
    return all(np.array_equal(x, y) if x is not None and y is not None else x is y for x, y in zip(a[1:], b[1:], strict=True))


def joined(members: list[Columns], offsets: Counts) -> Columns:
    """The columns of many series as one block."""
    names = tuple(sorted(set().union(*(member.names for member in members))))
    n = int(offsets[-1])
    times = np.empty(n, dtype=np.int64)
    values = np.zeros((len(names), n), dtype=np.uint64)
    full = all(member.present is None and member.names == names for member in members if len(member.times))
    present = None if full else np.zeros((len(names), n), dtype=np.bool_)
    plain = all(member.counts is None for member in members)
    counts = None if plain else np.ones(n, dtype=np.int64)
    places = {name: row for row, name in enumerate(names)}
    for member, begin, end in zip(members, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        times[begin:end] = member.times
        rows = slice(None) if member.names == names else [places[name] for name in member.names]
        values[rows, begin:end] = member.values
        if present is not None:
            present[rows, begin:end] = True if member.present is None else member.present
        if counts is not None and member.counts is not None:
            counts[begin:end] = member.counts
    return Columns(names, times, values, present, counts)


def refuse_disorder(times: Times, offsets: Counts | None = None) -> None:
    """Refuse times that go back, but for those from the end of a series to the next one, where there are offsets of several."""
    back = times[1:] < times[:-1]
    if offsets is not None:
        back[offsets[(offsets > 0) & (offsets < len(times))] - 1] = False
    if back.any():
        i = int(back.argmax()) + 1
        raise SeriesError(
            f"timestamps must not decrease: timestamps[{i}]={times[i]} is before timestamps[{i - 1}]={times[i - 1]}"
        )


def refuse_totals(counts: Counts, offsets: Iterable[int]) -> None:
    """Refuse counts of a series whose total int64 can't hold."""
    if len(counts) and int(counts.max()) * len(counts) > I64_MAX:
        for begin, end in pairwise(offsets):
            total = sum(counts[begin:end].tolist())
            if total > I64_MAX:
                raise SeriesError(f"counts must add up to {I64_MAX} at most, got {total}")


def refuse_offsets(offsets: Counts, size: int, what: str) -> None:
    """Refuse offsets, one at least, that don't go from one to the next within so many bytes, rows or the like."""
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets) or not offsets.flags.c_contiguous:
        raise SeriesError(f"offsets must be a contiguous array of int64, one at least, got {kind_of(offsets)}")
    back = offsets[1:] < offsets[:-1]
    if back.any():
        i = int(back.argmax()) + 1
        raise SeriesError(f"offsets must not decrease: offsets[{i}]={offsets[i]} is below offsets[{i - 1}]={offsets[i - 1]}")
    if offsets[0] < 0 or offsets[-1] > size:
        raise SeriesError(f"offsets must lie within the {size} {what}, got {offsets[0]} to {offsets[-1]}")


def kind_of(array: object) -> str:
    """An array as a message shows it."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    return f"{array.dtype} of shape {array.shape}{'' if array.flags.c_contiguous else ', with gaps'}"


def locked(array: Counts) -> Counts:
    """The array, read-only from now on."""
    array.flags.writeable = False
    return array
