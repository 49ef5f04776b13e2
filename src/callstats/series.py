"""StatSeries: samples as read-only numpy arrays."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import compress, pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, overload

import numpy as np

from callstats import _coerce, _json
from callstats._columns import Columns, ReadOnlyColumns, describe_array, equal, normalize, take, validate_order, validate_totals
from callstats._extras import needs
from callstats._timestamps import format_times, parse_time, since_epoch
from callstats._types import AnyArray, Counts, Present, Times
from callstats._units import plural
from callstats.errors import CallstatsError, SeriesError, shorten_repr

if TYPE_CHECKING:
    import pandas as pd


class Stat(NamedTuple):
    """One sample.

    Attributes
    ----------
    timestamp : int
        Nanoseconds since the epoch, UTC.
    metrics : dict of str to int
        The metrics that the sample has.
    """

    timestamp: int
    metrics: dict[str, int]


class StatSeries(ReadOnlyColumns):
    """One call's samples.

    Parameters
    ----------
    timestamps : (n,) array-like
        Nanoseconds since the epoch, UTC, non-decreasing: whole numbers, datetime64 of any unit, or datetimes with a time zone.
    metrics : mapping of str to (n,) array-like
        Values from 0 to 2**64 - 1. A masked value, or None in a list, is absent. A metric without any value is dropped.
    counts : (n,) array-like, optional
        How many raw samples each row stands for. Each count is 1 or more, and their total fits int64. By default all are 1.
    sort : bool
        Sort the rows by time (stable). Without it, times that decrease are an error.

    Raises
    ------
    SeriesError
        A value can't be converted exactly. The message names metric, index and value.

    Notes
    -----
    All input is copied. The arrays of a series are read-only.

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
            raise SeriesError(f"metrics must be a mapping of names to values, got {shorten_repr(metrics)}")
        for name in metrics:
            if not isinstance(name, str) or not _json.is_text(name):
                raise SeriesError(f"metric names must be text that UTF-8 can encode, got {shorten_repr(name)}")
        # str.__str__ gives an Enum member's value, not 'Color.RED'.
        columns_by_name = {str.__str__(name): values for name, values in metrics.items()}
        names = tuple(sorted(columns_by_name))
        values = np.empty((len(names), len(times)), dtype=np.uint64)
        present: Present | None = None
        for j, name in enumerate(names):
            where = f"metrics[{name!r}]"
            row, row_present = _coerce.column(columns_by_name[name], where, _coerce.METRIC)
            _validate_length(where, row, times)
            values[j] = row
            if row_present is not None:
                if present is None:
                    present = np.ones(values.shape, dtype=np.bool_)
                present[j] = row_present
        weights = None if counts is None else _convert_counts(counts, times, (0, len(times)))
        columns = Columns(names, times, values, present, weights)
        if not sort:
            validate_order(times)
        elif (times[1:] < times[:-1]).any():
            columns = take(columns, np.argsort(times, kind="stable"))
        self._columns = normalize(columns)

    @classmethod
    def from_samples(
        cls, samples: Iterable[tuple[int | datetime | str, Mapping[str, int | None]]], *, sort: bool = False
    ) -> StatSeries:
        """Make a series from single samples.

        Parameters
        ----------
        samples : iterable of (timestamp, mapping)
            A timestamp is int nanoseconds, an aware `datetime`, or RFC 3339 text. The value None is absent.
        sort : bool
            As for `StatSeries`.

        Returns
        -------
        StatSeries

        Raises
        ------
        SeriesError
            A sample is not such a pair, or has a value that `StatSeries` rejects.

        Examples
        --------
        >>> StatSeries.from_samples([("1970-01-01T00:00:01Z", {"x": 1}), (2_000_000_000, {"x": 2})]).timestamps
        array([1000000000, 2000000000])
        """
        times: list[object] = []
        values: dict[str, list[object]] = {}
        for i, sample in enumerate(samples):
            try:
                timestamp, metrics = sample
            except (TypeError, ValueError):
                raise SeriesError(f"samples[{i}] must be a (timestamp, metrics) pair, got {shorten_repr(sample)}") from None
            times.append(to_nanoseconds(timestamp, f"samples[{i}]"))
            if not isinstance(metrics, Mapping):
                raise SeriesError(f"samples[{i}] must have a mapping of names to values, got {shorten_repr(metrics)}")
            for name, value in metrics.items():
                column = values.setdefault(name, [])
                column.extend([None] * (i - len(column)))
                column.append(value)
        for column in values.values():
            column.extend([None] * (len(times) - len(column)))
        return cls(times, values, sort=sort)

    @classmethod
    def from_json(cls, value: object, *, sort: bool = False) -> StatSeries:
        """Decode a stored histogram.

        Parameters
        ----------
        value : bytes-like, str, list or None
            JSON text, or a list that a JSON library decoded. None, ``""``, ``null`` and ``[]`` are the empty series.
        sort : bool
            Sort the rows by time (stable). Without it, times that decrease are an error.

        Returns
        -------
        StatSeries

        Raises
        ------
        DecodeError
            The input is malformed. The error has the byte offset or the path of the first fault.

        Examples
        --------
        >>> StatSeries.from_json('[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]')["x"]
        array([7], dtype=uint64)
        """
        return cls._of(_json.decode(value, sort=sort)[0])

    from_db = from_json

    def to_json(self, *, counts: bool = True, digits: int = 3) -> bytes:
        """Encode the stored text: empty, or compact JSON and a newline, as Go's encoder writes it.

        Parameters
        ----------
        counts : bool
            Whether rows that stand for several samples have a ``count``. Without counts the text has Fn's exact shape, but every
            later mean is a mean of means.
        digits : {3, 9}
            Digits of the fraction of a second. Times are floored.

        Returns
        -------
        bytes

        Examples
        --------
        >>> print(StatSeries([1_999_999], {"x": [7]}).to_json().decode(), end="")
        [{"timestamp":"1970-01-01T00:00:00.001Z","metrics":{"x":7}}]
        """
        return _json.encode(self._columns, counts=counts, digits=digits)

    def to_db(self) -> str:
        """Encode the stored text as a str, for a text column."""
        return self.to_json().decode()

    def to_pandas(self, *, counts: str | None = "count") -> pd.DataFrame:
        """Return the series as a DataFrame of nullable UInt64, indexed by time in UTC.

        Parameters
        ----------
        counts : str or None
            The column of the counts. It is there only if some row stands for more than one sample. None leaves it out.

        Returns
        -------
        DataFrame

        Raises
        ------
        SeriesError
            A metric has the name of the counts' column.

        Examples
        --------
        >>> StatSeries([0, 10**9], {"x": [1, None]}).to_pandas()["x"].tolist()
        [1, <NA>]
        """
        with needs("StatSeries.to_pandas", "pandas"):
            import pandas as pd
        names, times, values, present, weights = self._columns
        if counts in names:
            raise SeriesError(f"counts must be a name that no metric has, got {counts!r}")
        columns: dict[str, Any] = {}
        for j, name in enumerate(names):
            mask = np.zeros(len(times), np.bool_) if present is None else ~present[j]
            columns[name] = pd.arrays.IntegerArray(values[j].copy(), mask)
        if counts is not None and weights is not None:
            columns[counts] = weights.copy()
        return pd.DataFrame(columns, index=pd.DatetimeIndex(times.view("M8[ns]"), tz="UTC", name="timestamp"))

    def __len__(self) -> int:
        return len(self._columns.times)

    def __contains__(self, name: object) -> bool:
        """Return whether the series has a metric of that name."""
        return name in self._columns.names

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.names)

    @overload
    def __getitem__(self, key: str) -> AnyArray: ...
    @overload
    def __getitem__(self, key: slice) -> StatSeries: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> Stat: ...
    def __getitem__(self, key: str | slice | SupportsIndex) -> AnyArray | StatSeries | Stat:
        """Return a metric's values (masked where absent), a slice of the series by position, or one sample."""
        names, times, values, present, _ = self._columns
        if isinstance(key, str):
            if key not in names:
                raise KeyError(f"no metric {key!r}: the series has {', '.join(names) or 'none'}")
            row = names.index(key)
            if present is None or present[row].all():
                full: AnyArray = values[row]
                return full
            masked: AnyArray = np.ma.MaskedArray(values[row], mask=~present[row])
            return masked
        if isinstance(key, slice):
            if key.step is not None and operator.index(key.step) < 0:
                raise SeriesError(f"a slice must have a positive step, got {shorten_repr(key.step)}")
            return self._of(take(self._columns, key))
        i = range(len(self))[key]
        rows = range(len(names)) if present is None else np.flatnonzero(present[:, i])
        return Stat(int(times[i]), {names[j]: int(values[j, i]) for j in rows})

    def __iter__(self) -> Iterator[Stat]:
        names, times, values, present, _ = self._columns
        masks: Iterable[Iterable[bool]] = repeat(repeat(True)) if present is None else present.T.tolist()
        for time, row, mask in zip(times.tolist(), values.T.tolist(), masks, strict=False):
            yield Stat(time, dict(compress(zip(names, row, strict=True), mask)))

    def __eq__(self, other: object) -> bool:
        return equal(self._columns, other._columns) if isinstance(other, StatSeries) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "<StatSeries: empty>"
        first, last = format_times(self._columns.times[[0, -1]])
        return f"<StatSeries: {plural(len(self), 'row')} of {join_names(self.names)}, {first} to {last}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle_series, tuple(self._columns)

    @classmethod
    def _of(cls, columns: Columns) -> StatSeries:
        """Make a series of validated arrays that nothing else refers to."""
        return cls._with(normalize(columns))

    @classmethod
    def _with(cls, columns: Columns) -> StatSeries:
        """Make a series of normalized columns."""
        series = cls.__new__(cls)
        series._columns = columns
        return series


def _unpickle_series(*columns: Any) -> StatSeries:
    return StatSeries._of(validate_columns(*columns))


def validate_columns(
    names: object, times: object, values: object, present: object, counts: object, offsets: Counts | None = None
) -> Columns:
    """Copy untrusted arrays into Columns, and raise unless they have all that kernels rely on.

    Offsets part the rows of several series.
    """
    if not isinstance(names, tuple) or not all(type(name) is str and _json.is_text(name) for name in names):
        raise SeriesError(f"names must be a tuple of text that UTF-8 can encode, got {shorten_repr(names)}")
    if any(a >= b for a, b in pairwise(names)):
        raise SeriesError(f"names must be sorted and unique, got {shorten_repr(names)}")
    stamps, _ = _coerce.column(times, "timestamps", _coerce.TIME)
    n = len(stamps)
    block = _copy_block(values, "values", np.dtype(np.uint64), (len(names), n))
    mask = None
    if present is not None:
        mask = _copy_block(present, "present", np.dtype(np.bool_), block.shape)
        np.not_equal(mask.view(np.uint8), 0, out=mask)  # a bool from outside may be any byte
        block *= mask
    bounds = (0, n) if offsets is None else offsets.tolist()
    weights = None if counts is None else _convert_counts(counts, stamps, bounds)
    validate_order(stamps, offsets)
    return Columns(names, stamps, block, mask, weights)


def to_nanoseconds(timestamp: object, where: str) -> object:
    """Return nanoseconds for text or a datetime. Return anything else unchanged, for the series to validate."""
    if isinstance(timestamp, str):
        try:
            return parse_time(timestamp)
        except CallstatsError as error:
            raise SeriesError(f"{where} must have a time: {error}") from None
    if isinstance(timestamp, datetime):
        if timestamp.utcoffset() is None:
            got = f"{shorten_repr(timestamp)}: {_coerce.NAIVE}"
            raise SeriesError(f"{where} must have a time with its offset from UTC, got {got}")
        return since_epoch(timestamp)
    return timestamp


def join_names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4]) or "no metric"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _copy_block(values: object, where: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> AnyArray:
    if not isinstance(values, np.ndarray) or values.dtype.newbyteorder("=") != dtype or values.shape != shape:
        raise SeriesError(f"{where} must be {dtype} of shape {shape}, got {describe_array(values)}")
    return np.array(values, dtype=dtype, order="C", subok=False)


def _validate_length(where: str, values: AnyArray, times: Times) -> None:
    if len(values) != len(times):
        raise SeriesError(f"{where} must have a value for each of the {len(times)} timestamps, got {len(values)}")


def _convert_counts(counts: object, times: Times, offsets: Iterable[int]) -> Counts:
    weights, _ = _coerce.column(counts, "counts", _coerce.COUNT)
    _validate_length("counts", weights, times)
    validate_totals(weights, offsets)
    return weights
