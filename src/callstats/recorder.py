"""Recorder: take samples one by one in bounded memory, and return a series at the end."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import NamedTuple, NoReturn

import numpy as np

from callstats import _coerce, _json, kernels
from callstats._columns import EMPTY, Columns, take
from callstats._timestamps import since_epoch
from callstats._types import FIRST_TIME, U64_MAX, AnyArray, Block, Bytes, Counts, Times
from callstats.errors import ArgumentError, BudgetError, SeriesError, shorten_repr, suggest_keywords
from callstats.kernels._budget import BARE_ROW
from callstats.kernels.recorder_py import COUNT, FIRST, HAS_FIRST, HAS_LAST, LAST, MAX, MIN, SUM_HIGH, SUM_LOW
from callstats.reduce import decimate, plan_metrics, reduce_columns
from callstats.rule import PEAK_REDUCERS, REDUCERS, How, Missing, Reducer, Rule, as_int, make_rule, parse_peak_name
from callstats.series import StatSeries, join_names, to_nanoseconds

_MAX_CELLS = 2**20


class Recorder:
    """Takes the samples of a running call, and returns its series when the call ends.

    Parameters
    ----------
    rule, how, missing, max_bytes
        How to reduce at the end, as for `decimate`.
    capacity : int
        Maximum number of rows in memory, from 2 to 2**20. Up to as many samples, the result equals `decimate` of all samples.
        Beyond, neighbouring rows merge, and each row takes twice as many samples from then on. Rows keep exact sums, counts, min,
        max, first and last values.

    Notes
    -----
    One thread writes. Any thread may end the recording. Rows times names are at most 2**20, such as 256 names at the default
    capacity; a name beside one of its peaks, such as ``x`` beside ``x@max``, counts once more. A sample with a name beyond is
    dropped. The compiled kernels take at most 96 MiB then.

    Examples
    --------
    >>> recorder = Recorder(2, capacity=100)
    >>> for second in range(1000):
    ...     recorder.write_stat(second * 10**9, {"mem_usage": 4096 * second})
    >>> series = recorder.end()
    >>> series["mem_usage"], series.counts
    (array([1013760, 3061760], dtype=uint64), array([496, 504]))
    """

    @suggest_keywords
    def __init__(
        self,
        rule: Rule | int | None = 240,
        *,
        how: How | Mapping[str, How] | None = None,
        missing: Missing | None = None,
        max_bytes: int | None = None,
        capacity: int = 4096,
    ) -> None:
        rows = as_int(capacity)
        if rows is None or not 2 <= rows <= _MAX_CELLS:
            raise ArgumentError("capacity", f"a whole number of rows, from 2 to {_MAX_CELLS}", capacity)
        self._max_columns = _MAX_CELLS // rows
        self._rule = make_rule(rule, how, missing, max_bytes)
        self._rows = kernels.active.Rows(rows)
        self._columns: dict[tuple[str, str | None], int] = {}
        self._names: dict[str, int] = {}
        self._lock = Lock()
        self._dropped = 0
        self._ended = False
        self._series: StatSeries | None = None

    def write_stat(self, timestamp: int | datetime | str, metrics: Mapping[str, int | None]) -> None:
        """Add one sample.

        Parameters
        ----------
        timestamp : int, datetime or str
            Nanoseconds since the epoch, an aware `datetime`, or RFC 3339 text. Samples may come in any order. A sample before
            1677, such as one at Go's zero time, is only counted in `dropped`. So is a sample after the end, or with one name too
            many.
        metrics : mapping of str to int
            It is copied. The value None is absent.

        Raises
        ------
        SeriesError
            A series can't have this time or value. The whole sample is dropped.
        """
        if not self._rows.write(timestamp, metrics):
            self._convert_and_write(timestamp, metrics)

    def end(self) -> StatSeries:
        """Return the series of at most `max_samples` rows. A second call returns the same series.

        Raises
        ------
        SeriesError
            A sum exceeds 2**64 - 1.
        BudgetError
            Not even one row fits the rule's `max_bytes`.
        """
        with self._lock:  # several threads may end it
            self._ended = True
            if self._series is None:
                self._rows.close()
                self._series = self._make_series()
                self._rows = kernels.active.Rows(2)  # frees the memory of the full ones
                self._rows.close()
            return self._series

    @property
    def dropped(self) -> int:
        """Return the number of samples dropped: those before 1677, with names beyond the limit, and after the end."""
        return self._dropped

    def __repr__(self) -> str:
        state = "ended" if self._ended else "recording"
        return f"<Recorder: {state}, {join_names(tuple(sorted(self._names)))}, {self._dropped} dropped>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Recorder can't be copied or pickled: call end(), and copy or pickle its series")

    def _convert_and_write(self, timestamp: object, metrics: object) -> None:
        """Add a sample with new names, or with values or a time that are no plain ints in range."""
        with self._lock:
            if self._ended or _is_early(timestamp):
                self._dropped += 1
                return
            time = _coerce.scalar(to_nanoseconds(timestamp, "a sample"), "timestamp", _coerce.TIME)
            plain = _to_ints(metrics)
            added: list[str] = []
            columns: list[tuple[str, str | None, str | None]] = []
            for name in plain:
                if name in self._names:
                    continue
                columns += _new_columns(name, self._names.keys() | added)
                added.append(name)
                if len(self._columns) + len(columns) > self._max_columns:
                    self._dropped += 1
                    return
            for name in added:
                self._names[name] = len(self._names)
                self._rows.add_name(name)
            for column in columns:
                self._add_column(*column)
            self._rows.write(time, plain)

    def _add_column(self, own: str, fallback: str | None, copied: str | None) -> None:
        source = -1 if copied is None else self._columns[copied, None]  # it has the values so far
        self._columns[own, fallback] = len(self._columns)
        self._rows.add_column(self._names[own], -1 if fallback is None else self._names[fallback], source)

    def _make_series(self) -> StatSeries:
        samples = self._rows.samples()
        if samples is not None:
            return decimate(StatSeries._of(_sort_samples(self._names, *samples)), self._rule)
        return StatSeries._of(_MergedRows(self._names, self._columns, *self._rows.rows()).reduce(self._rule))


def _new_columns(name: str, names: AbstractSet[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the columns of a new metric beside these. If x and x@max are both known, x is the fallback of x@max."""
    yield name, None, None
    peak = parse_peak_name(name)
    if peak is not None and peak[0] in names:
        yield name, peak[0], peak[0]
    for reducer in PEAK_REDUCERS:
        if f"{name}@{reducer}" in names:
            yield f"{name}@{reducer}", name, f"{name}@{reducer}"


def _to_ints(metrics: object) -> dict[str, int]:
    if not isinstance(metrics, Mapping):
        raise SeriesError(f"metrics must be a mapping of names to values, got {shorten_repr(metrics)}")
    plain: dict[str, int] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not _json.is_text(name):
            raise SeriesError(f"metric names must be text that UTF-8 can encode, got {shorten_repr(name)}")
        integer = _coerce.scalar(value, f"metrics[{name!r}]", _coerce.METRIC)
        if integer is not None:
            plain[str(name)] = integer
    return plain


def _is_early(timestamp: object) -> bool:
    if isinstance(timestamp, str):
        with suppress(ValueError):
            timestamp = datetime.fromisoformat(timestamp)
    if isinstance(timestamp, datetime) and timestamp.tzinfo is not None:
        timestamp = since_epoch(timestamp)
    try:
        return operator.index(timestamp) < FIRST_TIME  # type: ignore[arg-type]
    except TypeError:
        return False


def _sort_samples(names: Mapping[str, int], times: Times, values: Block, present: Bytes) -> Columns:
    ordered = tuple(sorted(names))
    rows = [names[name] for name in ordered]
    columns = Columns(ordered, times, values[rows], present[rows].astype(np.bool_), None)
    return take(columns, np.argsort(times, kind="stable"))


class _Bins(NamedTuple):
    """Row i of the result stands for rows ``starts[i]`` to ``ends[i]``, which stand for ``totals[i]`` samples."""

    starts: Counts
    ends: Counts
    totals: Counts


class _MergedRows:
    """The rows of `kernels.active.Rows.rows`, which stand for one sample or for many.

    `columns` has the indices of columns by their metric and its fallback (or None) in samples without it.
    """

    def __init__(
        self,
        names: Mapping[str, int],
        columns: Mapping[tuple[str, str | None], int],
        counts: Counts,
        sums: Block,
        cells: Block,
        flags: Bytes,
    ) -> None:
        self._names = tuple(sorted(names))
        self._columns = columns
        self._counts = counts
        self._cells = cells
        self._flags = flags
        self._time_sums = _join_words(sums)

    def reduce(self, rule: Rule) -> Columns:
        """Reduce the rows by a rule. A single row, too, is reduced from all its samples."""
        n = len(self._counts)
        max_rows = n if rule.max_samples is None else min(n, rule.max_samples)
        if max_rows < 1:
            return EMPTY
        if rule.max_bytes is None:
            return self._reduce_to(max_rows, rule)
        size = 0
        for rows in range(max_rows, 0, -1):  # sizes are not monotone in the number of rows
            size = BARE_ROW * len(self._bins(rows).starts)
            if size <= rule.max_bytes or rows == 1:
                reduced = self._reduce_to(rows, rule)
                size = len(_json.encode(reduced))
                if size <= rule.max_bytes:
                    return reduced
        raise BudgetError(f"max_bytes must be at least the size of one row, {size} bytes, got {rule.max_bytes}")

    def _reduce_to(self, max_samples: int, rule: Rule) -> Columns:
        bins = self._bins(max_samples)
        out_names, plan = plan_metrics(self._names, rule)
        shape = len(out_names), len(bins.starts)
        values, present = np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.bool_)
        for j, (own, other, reducer, _) in enumerate(plan.T.tolist()):
            name = self._names[own if own >= 0 else other]
            fallback = self._names[other] if own >= 0 and other >= 0 else None
            column = self._columns[name, fallback]
            present[j] = np.add.reduceat(self._cells[COUNT, column], bins.starts) > 0
            values[j] = self._reduce_column(out_names[j], column, REDUCERS[reducer], rule.missing == "zero", bins)
            single = bins.totals == 1
            if single.any():  # a single sample stays unchanged, without fallback
                plain = self._cells[COUNT, self._columns[name, None], bins.starts[single]]
                present[j, single] = plain > 0 if own >= 0 else False
        values[~present] = 0
        times = np.add.reduceat(self._time_sums, bins.starts) // bins.totals + FIRST_TIME
        return Columns(out_names, times.astype(np.int64), values, present, bins.totals)

    def _bins(self, max_samples: int) -> _Bins:
        """Put the rows into bins, as if each were a sample at its mean time."""
        n = len(self._counts)
        times = np.array(self._time_sums // self._counts + FIRST_TIME, dtype=np.int64)
        indices = Columns(("row",), times, np.arange(n, dtype=np.uint64).reshape(1, n), None, None)
        starts = reduce_columns(indices, Rule(max_samples, how="first")).values[0].astype(np.int64)
        return _Bins(starts, np.append(starts[1:], n), np.add.reduceat(self._counts, starts))

    def _reduce_column(self, name: str, column: int, reducer: Reducer, zero: bool, bins: _Bins) -> AnyArray:
        """Return a value for each bin. Values without a sample are arbitrary."""
        starts, ends, totals = bins
        cells: Block = self._cells[:, column]
        counts = np.add.reduceat(cells[COUNT], starts)
        if reducer in ("mean", "sum"):
            sums = np.add.reduceat(_join_words(cells[SUM_HIGH : SUM_LOW + 1]), starts)
            if reducer == "mean":
                return np.asarray(sums // (totals if zero else np.maximum(counts, np.uint64(1)).astype(object)))
            large = np.flatnonzero(sums > U64_MAX)
            if len(large):
                raise SeriesError(
                    f"the sum of metrics[{name!r}] must be at most {U64_MAX}, got more in row {large[0]} of the result"
                )
            return np.asarray(sums)
        if reducer == "max":
            return np.maximum.reduceat(cells[MAX], starts)
        if reducer == "min":
            result: AnyArray = np.minimum.reduceat(np.where(cells[COUNT] > 0, cells[MIN], np.uint64(U64_MAX)), starts)
            if zero:
                result[counts < totals.astype(np.uint64)] = 0
            return result
        rows = np.arange(len(self._counts))
        if reducer == "first":
            found = starts if zero else np.minimum.reduceat(np.where(cells[COUNT] > 0, rows, len(rows) - 1), starts)
            flag = HAS_FIRST
        else:
            found = ends - 1 if zero else np.maximum.reduceat(np.where(cells[COUNT] > 0, rows, 0), starts)
            flag = HAS_LAST
        values = cells[FIRST if reducer == "first" else LAST, found]
        return np.where(self._flags[column, found] & flag, values, np.uint64(0)) if zero else values


def _join_words(words: Block) -> AnyArray:
    """Return Python ints from their upper and lower 64 bits."""
    high, low = words.astype(object)
    return np.asarray(high * 2**64 + low)
