"""StatBatch: many series as one block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex, overload

import numpy as np

from callstats import _coerce, _json, kernels
from callstats._columns import (
    Columns,
    ReadOnlyColumns,
    concatenate,
    describe_array,
    equal,
    freeze,
    normalize,
    take,
    validate_offsets,
)
from callstats._types import Bytes, Counts
from callstats._units import plural
from callstats.errors import CallstatsError, DecodeError, SeriesError, detached, raise_first, shorten_repr
from callstats.series import StatSeries, join_names, validate_columns


class StatBatch(ReadOnlyColumns):
    """Many series, of any lengths and metrics, as one block.

    Parameters
    ----------
    series : iterable of StatSeries

    Notes
    -----
    Series i has the rows from ``offsets[i]`` to ``offsets[i + 1]`` of `timestamps`, `values`, `present` and `counts`. All arrays
    are read-only. `names` has the metrics of all series, sorted; ``batch[i].names`` only those of series i.

    Examples
    --------
    >>> batch = StatBatch([StatSeries([0], {"x": [1]}), StatSeries([5, 6], {"y": [2, 3]})])
    >>> len(batch), batch.names, batch[1]["y"]
    (2, ('x', 'y'), array([2, 3], dtype=uint64))
    """

    __slots__ = ("_offsets",)
    _offsets: Counts

    def __init__(self, series: Iterable[StatSeries]) -> None:
        given: object = series
        if isinstance(given, StatSeries):
            raise SeriesError("series must be an iterable of StatSeries, got a single one: put it in a list")
        members = list(series)
        for i, member in enumerate(members):
            if not isinstance(member, StatSeries):
                raise SeriesError(f"series[{i}] must be a StatSeries, got {shorten_repr(member)}")
        offsets = np.zeros(len(members) + 1, dtype=np.int64)
        np.cumsum([len(member) for member in members], out=offsets[1:])
        self._columns = normalize(concatenate([member._columns for member in members], offsets))
        self._offsets = freeze(offsets)

    @classmethod
    def from_json(cls, blobs: Iterable[object], *, sort: bool = False) -> StatBatch:
        """Decode stored histograms.

        Parameters
        ----------
        blobs, sort
            As for `StatSeries.from_json`, but with many blobs.

        Returns
        -------
        StatBatch

        Raises
        ------
        DecodeError
            A blob is malformed. The message names it: ``blobs[17]: …``.
        TypeError
            `blobs` is a single blob.

        Examples
        --------
        >>> [len(series) for series in StatBatch.from_json(['[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]', None])]
        [1, 0]
        """
        if isinstance(blobs, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"blobs must be an iterable of blobs, got {type(blobs).__name__}")
        values = list(blobs)
        texts = [text_or_none(value) for value in values]
        batch, errors = _complete(kernels.active.decode_blobs(texts), values.__getitem__, sort)
        raise_first(errors, "blobs")
        return batch

    def to_json(self, *, counts: bool = True, digits: int = 3) -> list[bytes]:
        """Encode the stored text of each series.

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
        return _json.encode_each(self._columns, self._offsets, counts=counts, digits=digits)

    @property
    def offsets(self) -> Counts:
        """Return (m + 1,) int64: the first row of each of the m series, and the end."""
        return self._offsets.view()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, key: slice) -> StatBatch: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> StatSeries: ...
    def __getitem__(self, key: slice | SupportsIndex) -> StatBatch | StatSeries:
        """Return one series, or a batch of a slice."""
        if isinstance(key, slice):
            return StatBatch(self[i] for i in range(len(self))[key])
        if isinstance(key, str):
            raise TypeError(f"a batch has series, and they have metrics: batch[0][{shorten_repr(key)}]")
        i = range(len(self))[key]
        return StatSeries._of(take(self._columns, slice(self._offsets.item(i), self._offsets.item(i + 1))))

    def __iter__(self) -> Iterator[StatSeries]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StatBatch):
            return NotImplemented
        return np.array_equal(self._offsets, other._offsets) and equal(self._columns, other._columns)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        rows = plural(len(self._columns.times), "row")
        return f"<StatBatch: {len(self)} series, {rows} of {join_names(self.names)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle_batch, (*self._columns, self._offsets)

    @classmethod
    def _of(cls, columns: Columns, offsets: Counts) -> StatBatch:
        """Make a batch of validated arrays that nothing else refers to."""
        batch = cls.__new__(cls)
        batch._columns = normalize(columns)
        batch._offsets = freeze(offsets)
        return batch


def decode_buffer(data: Bytes, offsets: Counts, *, sort: bool = False) -> tuple[StatBatch, dict[int, CallstatsError]]:
    """Decode the blobs ``data[offsets[i]:offsets[i + 1]]``.

    Return the batch and the errors by index. Rejected blobs become empty series.
    """
    validate_buffer(data, offsets)
    return _complete(kernels.active.decode_packed(data, offsets), lambda i: data[offsets[i] : offsets[i + 1]].tobytes(), sort)


def text_or_none(value: object) -> bytes | None:
    """Return the bytes of a stored histogram; None where only the fallback decoder can decode or reject it."""
    try:
        return b"" if value is None else _json.text_of(value)
    except DecodeError:
        return None


def _complete(
    found: tuple[Any, ...], value_at: Callable[[int], object], sort: bool
) -> tuple[StatBatch, dict[int, CallstatsError]]:
    """Return the batch that a kernel has decoded, completed by the fallback decoder, and the errors by index."""
    names, times, values, present, counts, ends, decoded = found
    mask = None if present is None else present.view(np.bool_)
    columns = Columns(tuple(name.decode() for name in names), times, values, mask, counts)
    others = np.flatnonzero(decoded == 0).tolist()
    if not others:
        return StatBatch._of(columns, ends), {}
    errors: dict[int, CallstatsError] = {}
    members, indices = [columns], [np.repeat(np.arange(len(decoded)), np.diff(ends))]
    for i in others:
        try:
            member, _ = _json.decode(value_at(i), sort=sort, kernel=False)
        except CallstatsError as error:
            errors[i] = detached(error)
        else:
            members.append(normalize(member))
            indices.append(np.full(len(member.times), i))
    index_of_row = np.concatenate(indices)
    bounds = np.cumsum([0, *(len(member.times) for member in members)])
    ends[1:] = np.cumsum(np.bincount(index_of_row, minlength=len(decoded)))
    return StatBatch._of(take(concatenate(members, bounds), np.argsort(index_of_row, kind="stable")), ends), errors


def validate_buffer(data: Bytes, offsets: Counts) -> None:
    """Raise if data or offsets would make a kernel read out of bounds."""
    if data.dtype != np.uint8 or data.ndim != 1 or not data.flags.c_contiguous:
        raise SeriesError(f"data must be a contiguous array of uint8, got {describe_array(data)}")
    validate_offsets(offsets, len(data), "bytes")


def _unpickle_batch(names: object, times: object, values: object, present: object, counts: object, offsets: object) -> StatBatch:
    bounds, _ = _coerce.column(offsets, "offsets", _coerce.INDEX)
    columns = validate_columns(names, times, values, present, counts, bounds)
    n = len(columns.times)
    validate_offsets(bounds, n, "rows")
    if bounds[0] != 0 or bounds[-1] != n:
        raise SeriesError(f"offsets must part all {n} rows, got {bounds[0]} to {bounds[-1]}")
    return StatBatch._of(columns, bounds)
