"""StatBatch: many series as one block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import SupportsIndex, overload

import numpy as np

from callstats import _coerce, _json, kernels
from callstats._columns import Columns, Held, equal, joined, kind_of, locked, refuse_offsets, settled, take
from callstats._types import Bytes, Counts
from callstats.errors import CallstatsError, DecodeError, SeriesError, detached, shorten_repr
from callstats.series import StatSeries, checked, listed, plural


class StatBatch(Held):
    """Many series of differing lengths and metrics as one block.

    Parameters
    ----------
    series : iterable of StatSeries

    Notes
    -----
    Series i lies at ``offsets[i]`` to ``offsets[i + 1]`` of `timestamps`, `values`, `present` and `counts`, which are read-only;
    `names` are all metrics of all series, sorted. ``batch[i]`` has only its own.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0], {"x": [1]}), StatSeries([5, 6], {"y": [2, 3]})])
    >>> len(batch), batch.names, batch[1]["y"]
    (2, ('x', 'y'), array([2, 3], dtype=uint64))
    """

    __slots__ = ("_offsets",)
    _offsets: Counts

    def __init__(self, series: Iterable[StatSeries]) -> None:
        members = list(series)
        for i, member in enumerate(members):
            if not isinstance(member, StatSeries):
                raise SeriesError(f"series[{i}] must be a StatSeries, got {shorten_repr(member)}")
        offsets = np.zeros(len(members) + 1, dtype=np.int64)
        np.cumsum([len(member) for member in members], out=offsets[1:])
        self._columns = settled(joined([member._columns for member in members], offsets))
        self._offsets = locked(offsets)

    @classmethod
    def from_json(cls, blobs: Iterable[object], *, sort: bool = False) -> StatBatch:
        """Read stored histograms.

        Parameters
        ----------
        blobs : iterable
            Each as for `StatSeries.from_json`.
        sort : bool
            As for `StatSeries.from_json`.

        Returns
        -------
        StatBatch

        Raises
        ------
        DecodeError
            It names the blob: ``blobs[17]: …``.
        TypeError
            For a single blob.

        Examples
        --------
        >>> [len(series) for series in StatBatch.from_json(['[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]', None])]
        [1, 0]
        """
        if isinstance(blobs, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"StatBatch.from_json takes an iterable of blobs, got {type(blobs).__name__}")
        return cls(_read(i, blob, sort) for i, blob in enumerate(blobs))

    def to_json(self, *, counts: bool = True, digits: int = 3) -> list[bytes]:
        """The stored text of each series.

        Parameters
        ----------
        counts, digits
            As for `StatSeries.to_json`.

        Returns
        -------
        list of bytes

        Examples
        --------
        >>> empty, text = StatBatch([StatSeries([], {}), StatSeries([0], {"x": [7]})]).to_json()
        >>> empty, StatSeries.from_json(text)["x"].tolist()
        (b'', [7])
        """
        return [member.to_json(counts=counts, digits=digits) for member in self]

    @property
    def offsets(self) -> Counts:
        """(m + 1,) int64, where each of the m series begins, and the end."""
        return self._offsets.view()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, key: slice) -> StatBatch: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> StatSeries: ...
    def __getitem__(self, key: slice | SupportsIndex) -> StatBatch | StatSeries:
        """One series, or a batch of some."""
        if isinstance(key, slice):
            return StatBatch(self[i] for i in range(len(self))[key])
        i = range(len(self))[key]
        return StatSeries._of(take(self._columns, np.arange(self._offsets[i], self._offsets[i + 1])))

    def __iter__(self) -> Iterator[StatSeries]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StatBatch):
            return NotImplemented
        return np.array_equal(self._offsets, other._offsets) and equal(self._columns, other._columns)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        rows = plural(len(self._columns.times), "row")
        return f"<StatBatch: {len(self)} series, {rows} of {listed(self.names)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _batch, (*self._columns, self._offsets)

    @classmethod
    def _of(cls, columns: Columns, offsets: Counts) -> StatBatch:
        """A batch from checked arrays of its own."""
        batch = cls.__new__(cls)
        batch._columns = settled(columns)
        batch._offsets = locked(offsets)
        return batch


def read_buffer(data: Bytes, offsets: Counts, *, sort: bool = False) -> tuple[StatBatch, dict[int, CallstatsError]]:
    """Read the stored histograms ``data[offsets[i]:offsets[i + 1]]``; of each that is refused, which is empty, the error."""
    refuse_texts(data, offsets)
    names, times, values, there, counts, ends, was_read = kernels.active.read_buffer(data, offsets)
    present = None if there is None else there.view(np.bool_)
    columns = Columns(tuple(name.decode() for name in names), times, values, present, counts)
    others = np.flatnonzero(was_read == 0).tolist()
    if not others:
        return StatBatch._of(columns, ends), {}
    refused: dict[int, CallstatsError] = {}
    members, whose = [columns], [np.repeat(np.arange(len(was_read)), np.diff(ends))]
    for i in others:
        try:
            member, _ = _json.decode(data[offsets[i] : offsets[i + 1]].tobytes(), sort=sort)
        except CallstatsError as error:
            refused[i] = detached(error)
        else:
            members.append(settled(member))
            whose.append(np.full(len(member.times), i))
    series = np.concatenate(whose)
    bounds = np.cumsum([0, *(len(member.times) for member in members)])
    ends[1:] = np.cumsum(np.bincount(series, minlength=len(was_read)))
    return StatBatch._of(take(joined(members, bounds), np.argsort(series, kind="stable")), ends), refused


def _batch(names: object, times: object, values: object, present: object, counts: object, offsets: object) -> StatBatch:
    """Unpickle."""
    places, _ = _coerce.column(offsets, "offsets", _coerce.PLACE)
    columns = checked(names, times, values, present, counts, places)
    n = len(columns.times)
    refuse_offsets(places, n, "rows")
    if places[0] != 0 or places[-1] != n:
        raise SeriesError(f"offsets must part all {n} rows, got {places[0]} to {places[-1]}")
    return StatBatch._of(columns, places)


def refuse_texts(data: Bytes, offsets: Counts) -> None:
    """Refuse texts in one buffer, and offsets between them, through which a kernel would read what lies elsewhere."""
    if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
        raise SeriesError(f"data must be a contiguous array of uint8, got {kind_of(data)}")
    refuse_offsets(offsets, len(data), "bytes")


def _read(i: int, blob: object, sort: bool) -> StatSeries:
    try:
        return StatSeries.from_json(blob, sort=sort)
    except DecodeError as error:
        error.args = (f"blobs[{i}]: {error}",)
        raise
