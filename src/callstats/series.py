"""StatSeries: samples as numpy arrays, held once and never written to again."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple, SupportsIndex, overload

import numpy as np

from callstats import _coerce, _json
from callstats._columns import Columns, Held, equal, kind_of, refuse_disorder, refuse_totals, settled, take
from callstats._timestamps import format_times, parse_time
from callstats._types import AnyArray, Counts, Present, Times
from callstats.errors import CallstatsError, SeriesError, shorten_repr


class Stat(NamedTuple):
    """One sample.

    Attributes
    ----------
    timestamp : int
        Nanoseconds since the epoch, UTC.
    metrics : dict of str to int
        Those that the sample has.
    """

    timestamp: int
    metrics: dict[str, int]


class StatSeries(Held):
    """One call's samples.

    Parameters
    ----------
    timestamps : (n,) array-like
        Nanoseconds since the epoch, UTC, non-decreasing; whole numbers, datetime64 of any unit, or times that know their zone.
    metrics : mapping of str to (n,) array-like
        Values from 0 to 2**64 - 1. A masked value, or None in a list, is absent. A metric that no row has is dropped.
    counts : (n,) array-like, optional
        How many raw samples each row stands for, each at least 1, their total within int64. By default 1 each.
    sort : bool
        Put times that go back into order (stable) instead of refusing them.

    Raises
    ------
    SeriesError
        For anything that would not convert without losing a bit; it names metric, index and value.

    Notes
    -----
    Everything is copied, and the arrays handed out are read-only.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"mem_usage": [4096, 8192], "cpu_total": [None, 50]})
    >>> series
    <StatSeries: 2 rows of cpu_total, mem_usage, 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01.000Z>
    >>> series["mem_usage"]
    array([4096, 8192], dtype=uint64)
    >>> list(series)[0]
    Stat(timestamp=0, metrics={'mem_usage': 4096})
    """

    __slots__ = ()

    def __init__(
        self,
        timestamps: object,
        metrics: Mapping[str, object],
        *,
        counts: object = None,
        sort: bool = False,
    ) -> None:
        times, _ = _coerce.column(timestamps, "timestamps", _coerce.TIME)
        if not isinstance(metrics, Mapping):
            raise SeriesError(f"metrics must map names to values, got {shorten_repr(metrics)}")
        for name in metrics:
            if not isinstance(name, str) or not _json.is_text(name):
                raise SeriesError(f"metrics must be named by text that UTF-8 can hold, got {shorten_repr(name)}")
        # Of a member of an enumeration, say, the name is the text itself.
        columns_by_name = {str.__str__(name): values for name, values in metrics.items()}
        names = tuple(sorted(columns_by_name))
        values = np.empty((len(names), len(times)), dtype=np.uint64)
        present: Present | None = None
        for j, name in enumerate(names):
            where = f"metrics[{name!r}]"
            cells, there = _coerce.column(columns_by_name[name], where, _coerce.METRIC)
            _same_length(where, cells, times)
            values[j] = cells
            if there is not None:
                if present is None:
                    present = np.ones(values.shape, dtype=np.bool_)
                present[j] = there
        weights = None if counts is None else _counts(counts, times)
        columns = Columns(names, times, values, present, weights)
        if not sort:
            refuse_disorder(times)
        elif (times[1:] < times[:-1]).any():
            columns = take(columns, np.argsort(times, kind="stable"))
        self._columns = settled(columns)

    @classmethod
    def from_samples(
        cls, samples: Iterable[tuple[int | datetime | str, Mapping[str, int | None]]], *, sort: bool = False
    ) -> StatSeries:
        """A series from samples one by one.

        Parameters
        ----------
        samples : iterable of (timestamp, mapping)
            A timestamp is int nanoseconds, an aware `datetime`, or RFC 3339 text. A None value is absent.
        sort : bool
            As for `StatSeries`.

        Returns
        -------
        StatSeries

        Raises
        ------
        SeriesError
            For a sample that is no such pair, and for whatever `StatSeries` refuses.

        Examples
        --------
        >>> StatSeries.from_samples([("1970-01-01T00:00:01Z", {"x": 1}), (2_000_000_000, {"x": 2})]).timestamps
        array([1000000000, 2000000000])
        """
        times: list[object] = []
        cells: dict[str, list[object]] = {}
        for i, sample in enumerate(samples):
            try:
                timestamp, metrics = sample
            except (TypeError, ValueError):
                raise SeriesError(f"samples[{i}] must be a (timestamp, metrics) pair, got {shorten_repr(sample)}") from None
            times.append(nanoseconds(timestamp, f"samples[{i}]"))
            if not isinstance(metrics, Mapping):
                raise SeriesError(f"samples[{i}] must map names to values, got {shorten_repr(metrics)}")
            for name, value in metrics.items():
                column = cells.setdefault(name, [])
                column.extend([None] * (i - len(column)))
                column.append(value)
        for column in cells.values():
            column.extend([None] * (len(times) - len(column)))
        return cls(times, cells, sort=sort)

    @classmethod
    def from_json(cls, value: object, *, sort: bool = False) -> StatSeries:
        """Read a stored histogram.

        Parameters
        ----------
        value : bytes-like, str, list or None
            JSON text, or what a JSON reader made of it. None, ``""``, ``null`` and ``[]`` are the empty series.
        sort : bool
            Put rows whose times go back into order (stable) instead of refusing them.

        Returns
        -------
        StatSeries

        Raises
        ------
        DecodeError
            With the byte offset or the path of the first fault.

        Examples
        --------
        >>> StatSeries.from_json('[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]')["x"]
        array([7], dtype=uint64)
        """
        return cls._of(_json.decode(value, sort=sort)[0])

    from_db = from_json

    def to_json(self, *, counts: bool = True, digits: int = 3) -> bytes:
        """The stored text: empty, or compact JSON and a newline, as Go's encoder writes it.

        Parameters
        ----------
        counts : bool
            Whether rows that stand for more than one sample say so. Without it the text has Fn's exact shape, and every later
            mean is a mean of means.
        digits : {3, 9}
            Digits of a second; times are floored to them.

        Returns
        -------
        bytes

        Raises
        ------
        CallstatsError
            For other digits.

        Examples
        --------
        >>> print(StatSeries([1_999_999], {"x": [7]}).to_json().decode(), end="")
        [{"timestamp":"1970-01-01T00:00:00.001Z","metrics":{"x":7}}]
        """
        return _json.encode(self._columns, counts=counts, digits=digits)

    def to_db(self) -> str:
        """The stored text as a string, for a text column."""
        return self.to_json().decode()

    def __len__(self) -> int:
        return len(self._columns.times)

    @overload
    def __getitem__(self, key: str) -> AnyArray: ...
    @overload
    def __getitem__(self, key: slice) -> StatSeries: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> Stat: ...
    def __getitem__(self, key: str | slice | SupportsIndex) -> AnyArray | StatSeries | Stat:
        """The row of a metric (masked where it has holes), a slice of the series by position, or one sample."""
        names, times, values, present, _ = self._columns
        if isinstance(key, str):
            if key not in names:
                raise KeyError(f"no metric {key!r}: there are {', '.join(names) or 'none'}")
            row = names.index(key)
            if present is None or present[row].all():
                full: AnyArray = values[row]
                return full
            masked: AnyArray = np.ma.MaskedArray(values[row], mask=~present[row])
            return masked
        if isinstance(key, slice):
            if key.step is not None and operator.index(key.step) < 0:
                raise SeriesError(f"a slice must not turn time around, got the step {key.step}")
            return self._of(take(self._columns, np.arange(len(self))[key]))
        i = range(len(self))[key]
        there = range(len(names)) if present is None else np.flatnonzero(present[:, i])
        return Stat(int(times[i]), {names[j]: int(values[j, i]) for j in there})

    def __iter__(self) -> Iterator[Stat]:
        names, times, values, present, _ = self._columns
        rows = zip(times.tolist(), values.T.tolist(), strict=True)
        if present is None:
            for time, row in rows:
                yield Stat(time, dict(zip(names, row, strict=True)))
        else:
            for (time, row), held in zip(rows, present.T.tolist(), strict=True):
                yield Stat(time, {name: cell for name, cell, there in zip(names, row, held, strict=True) if there})

    def __eq__(self, other: object) -> bool:
        return equal(self._columns, other._columns) if isinstance(other, StatSeries) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "<StatSeries: empty>"
        first, last = format_times(self._columns.times[[0, -1]])
        return f"<StatSeries: {plural(len(self), 'row')} of {listed(self.names)}, {first} to {last}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _series, tuple(self._columns)

    @classmethod
    def _of(cls, columns: Columns) -> StatSeries:
        """A series from checked arrays of its own."""
        series = cls.__new__(cls)
        series._columns = settled(columns)
        return series


def _series(*columns: Any) -> StatSeries:
    """Unpickle."""
    return StatSeries._of(checked(*columns))


def checked(
    names: object, times: object, values: object, present: object, counts: object, offsets: Counts | None = None
) -> Columns:
    """Columns out of what came from outside, copied, and held to all that kernels take for granted.

    With offsets they are those of many series, which the offsets part.
    """
    if not isinstance(names, tuple) or not all(type(name) is str and _json.is_text(name) for name in names):
        raise SeriesError(f"names must be a tuple of text that UTF-8 can hold, got {shorten_repr(names)}")
    if any(a >= b for a, b in pairwise(names)):
        raise SeriesError(f"names must be sorted, and none there twice, got {shorten_repr(names)}")
    stamps, _ = _coerce.column(times, "timestamps", _coerce.TIME)
    n = len(stamps)
    block = _block(values, "values", np.dtype(np.uint64), (len(names), n))
    held = None
    if present is not None:
        held = _block(present, "present", np.dtype(np.bool_), block.shape)
        np.not_equal(held.view(np.uint8), 0, out=held)  # what was no bool before may be any byte
        block *= held
    weights = None
    if counts is not None:
        weights, _ = _coerce.column(counts, "counts", _coerce.COUNT)
        _same_length("counts", weights, stamps)
        refuse_totals(weights, (0, n) if offsets is None else offsets.tolist())
    refuse_disorder(stamps, offsets)
    return Columns(names, stamps, block, held, weights)


def _block(values: object, where: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> AnyArray:
    """A copy of a block; of numbers in the other order of bytes too."""
    if not isinstance(values, np.ndarray) or values.dtype.newbyteorder("=") != dtype or values.shape != shape:
        raise SeriesError(f"{where} must be {dtype} of shape {shape}, got {kind_of(values)}")
    return np.array(values, dtype=dtype, order="C", subok=False)


def _same_length(where: str, values: AnyArray, times: Times) -> None:
    if len(values) != len(times):
        raise SeriesError(f"{where} must have a value for each of the {len(times)} timestamps, got {len(values)}")


def _counts(counts: object, times: Times) -> Counts:
    weights, _ = _coerce.column(counts, "counts", _coerce.COUNT)
    _same_length("counts", weights, times)
    refuse_totals(weights, (0, len(weights)))
    return weights


def nanoseconds(timestamp: object, where: str) -> object:
    """A sample's time as whole nanoseconds; what is none of the known kinds is left for the series to judge."""
    if isinstance(timestamp, str):
        try:
            return parse_time(timestamp)
        except CallstatsError as error:
            raise SeriesError(f"{where} must have a time: {error}") from None
    if isinstance(timestamp, datetime):
        if timestamp.utcoffset() is None:
            raise SeriesError(f"{where} must have a time with its offset from UTC, got {shorten_repr(timestamp)}")
        return _coerce.since_epoch(timestamp)
    return timestamp


def plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4]) or "no metric"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
