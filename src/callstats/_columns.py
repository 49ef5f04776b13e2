"""Columns: a series as plain arrays, and the operations on whole series."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, TypeVar, cast

import numpy as np

from callstats._limits import CELLS_PER_VALUE, MAX_CELLS
from callstats._types import I64_MAX, AnyArray, Block, Counts, Present, Times
from callstats.errors import SeriesError

Array = TypeVar("Array", bound=AnyArray)


class Columns(NamedTuple):
    """A series as plain arrays. `values` and `present` have one row for each of the sorted `names`.

    `present` is None when every value is present. `counts` is None when every row stands for one sample.
    """

    names: tuple[str, ...]
    times: Times
    values: Block
    present: Present | None
    counts: Counts | None


# By position: the keyword takes longer than the work, and every new series needs this.
_set_writeable = cast("Callable[[AnyArray, bool], None]", np.ndarray.setflags)


def freeze(array: Array) -> Array:
    """Make an array read-only."""
    _set_writeable(array, False)
    return array


EMPTY = Columns((), freeze(np.zeros(0, dtype=np.int64)), freeze(np.zeros((0, 0), dtype=np.uint64)), None, None)


class ReadOnlyColumns:
    """The arrays that series and batches share, as read-only views."""

    __slots__ = ("_columns",)
    _columns: Columns

    @property
    def names(self) -> tuple[str, ...]:
        """Return the metrics, sorted."""
        return self._columns.names

    @property
    def timestamps(self) -> Times:
        """Return (n,) int64 nanoseconds since the epoch; in a batch, those of all series one after another."""
        return self._columns.times.view()

    @property
    def values(self) -> Block:
        """Return (k, n) uint64 with a row for each of `names`; 0 where absent."""
        return self._columns.values.view()

    @property
    def present(self) -> Present | None:
        """Return (k, n) bool: which values are present. None when all are."""
        present = self._columns.present
        return None if present is None else present.view()

    @property
    def counts(self) -> Counts:
        """Return (n,) int64: how many raw samples each row stands for."""
        _, times, _, _, counts = self._columns
        return freeze(np.ones(len(times), dtype=np.int64)) if counts is None else counts.view()


def take(columns: Columns, rows: Counts | slice) -> Columns:
    """Return a copy of some rows, in the order given."""
    names, times, values, present, counts = columns
    return Columns(
        names,
        times[rows].copy(),
        values[:, rows].copy(),
        None if present is None else present[:, rows].copy(),
        None if counts is None else counts[rows].copy(),
    )


def normalize(columns: Columns) -> Columns:
    """Return read-only columns without empty metrics; `present` and `counts` are None where they would be all True or all 1."""
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
    for array in (times, values, present, counts):
        if array is not None:
            freeze(array)
    return columns


def equal(a: Columns, b: Columns) -> bool:
    if a.names != b.names:
        return False
    return all(np.array_equal(x, y) if x is not None and y is not None else x is y for x, y in zip(a[1:], b[1:], strict=True))


def concatenate(members: list[Columns], offsets: Counts) -> Columns:
    """Return the columns of many series as one block."""
    names = tuple(sorted(set().union(*(member.names for member in members))))
    n = int(offsets[-1])
    found = sum(member.values.size if member.present is None else int(member.present.sum()) for member in members)
    validate_cells("series", len(names), n, found)
    times = np.empty(n, dtype=np.int64)
    values = np.zeros((len(names), n), dtype=np.uint64)
    full = all(member.present is None and member.names == names for member in members if len(member.times))
    present = None if full else np.zeros((len(names), n), dtype=np.bool_)
    plain = all(member.counts is None for member in members)
    counts = None if plain else np.ones(n, dtype=np.int64)
    row_of = {name: row for row, name in enumerate(names)}
    for member, begin, end in zip(members, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        times[begin:end] = member.times
        rows = slice(None) if member.names == names else [row_of[name] for name in member.names]
        values[rows, begin:end] = member.values
        if present is not None:
            present[rows, begin:end] = True if member.present is None else member.present
        if counts is not None and member.counts is not None:
            counts[begin:end] = member.counts
    return Columns(names, times, values, present, counts)


def validate_order(times: Times, offsets: Counts | None = None) -> None:
    """Raise if timestamps decrease within a series. Offsets part the times of several series."""
    back = times[1:] < times[:-1]
    if offsets is not None:
        back[offsets[(offsets > 0) & (offsets < len(times))] - 1] = False
    if back.any():
        i = int(back.argmax()) + 1
        raise SeriesError(
            f"timestamps must not decrease, got timestamps[{i}]={times[i]} after timestamps[{i - 1}]={times[i - 1]}"
        )


def validate_totals(counts: Counts, offsets: Iterable[int]) -> None:
    """Raise if the counts of a series exceed int64 in total."""
    if len(counts) and int(counts.max()) * len(counts) > I64_MAX:
        for begin, end in pairwise(offsets):
            total = sum(counts[begin:end].tolist())
            if total > I64_MAX:
                raise SeriesError(f"counts must have a total of at most {I64_MAX}, got {total}")


def validate_cells(where: str, names: int, rows: int, values: int) -> None:
    """Raise if a block of so many names and rows is too large for the values in it."""
    limit = max(MAX_CELLS, CELLS_PER_VALUE * values)
    if names * rows > limit:
        raise SeriesError(
            f"{where} must have at most {limit} cells in one batch, rows times metrics, got {names * rows}: "
            "put series with the same metrics into one batch"
        )


def validate_offsets(offsets: Counts, size: int, unit: str) -> None:
    """Raise unless offsets rise within 0 to `size`, a number of bytes or rows."""
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets) or not offsets.flags.c_contiguous:
        raise SeriesError(f"offsets must be a contiguous array of at least one int64, got {describe_array(offsets)}")
    back = offsets[1:] < offsets[:-1]
    if back.any():
        i = int(back.argmax()) + 1
        raise SeriesError(f"offsets must not decrease, got offsets[{i}]={offsets[i]} after offsets[{i - 1}]={offsets[i - 1]}")
    if offsets[0] < 0 or offsets[-1] > size:
        raise SeriesError(f"offsets must be within the {size} {unit}, got {offsets[0]} to {offsets[-1]}")


def describe_array(array: object) -> str:
    """Return an array's type as a message shows it."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    return f"{array.dtype} of shape {array.shape}{'' if array.flags.c_contiguous else ', with gaps'}"
