"""Recorder: samples as they come, in bounded memory, and a series at the end."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock

from callstats import _coerce, _json, kernels
from callstats._types import FIRST_TIME
from callstats.errors import ArgumentError, SeriesError, shorten_repr, suggest_keywords
from callstats.recorder.merged import MergedRows, sorted_columns
from callstats.reduce import decimate
from callstats.rule import PEAK_REDUCERS, How, Missing, Rule, as_int, make_rule, parse_peak_name
from callstats.series import StatSeries, nanoseconds


class Recorder:
    """Takes samples of a running call, and gives its series when it ends.

    Parameters
    ----------
    rule : Rule or int
        How to reduce at the end; a number is the rule's `max_samples`.
    capacity : int
        The most rows to hold, 2 or more. Up to as many samples the result equals `decimate` of all of them. Beyond, neighbours
        merge and each row takes twice as many samples from then on; it keeps exact sums, counts, least, greatest, first and last
        values.

    Notes
    -----
    One thread writes; any thread may end.

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
        if rows is None or rows < 2:
            raise ArgumentError("capacity", "a whole number of rows, 2 or more", capacity)
        self._rule = make_rule(rule, how, missing, max_bytes)
        self._rows = kernels.active.Rows(rows)
        self._columns: dict[tuple[str, str | None], int] = {}
        self._names: dict[str, int] = {}
        self._lock = Lock()
        self._dropped = 0
        self._ended = False
        self._series: StatSeries | None = None

    def write_stat(self, timestamp: int | datetime | str, metrics: Mapping[str, int | None]) -> None:
        """Take one sample in.

        Parameters
        ----------
        timestamp : int, datetime or str
            Nanoseconds since the epoch, an aware `datetime`, or RFC 3339 text. It may lie before an earlier sample's. A time
            before 1677, such as Go's zero time, is counted in `dropped` and no more, and so is a sample after the end.
        metrics : mapping of str to int
            It is copied. A None value is absent.

        Raises
        ------
        SeriesError
            For a time or a value that no series could hold; nothing of that sample is kept.
        """
        if not self._rows.write(timestamp, metrics):
            self._write_other(timestamp, metrics)

    def end(self) -> StatSeries:
        """The series of at most `max_samples` rows; a second call gives the same.

        Raises
        ------
        SeriesError
            When a sum passes 2**64 - 1.
        BudgetError
            When not even one row fits the rule's `max_bytes`.
        """
        with self._lock:  # of several threads that end it, one does the work
            self._ended = True
            if self._series is None:
                self._rows.close()
                self._series = self._reduced()
                self._rows = kernels.active.Rows(2)  # the old ones' memory is given back
                self._rows.close()
            return self._series

    @property
    def dropped(self) -> int:
        """How many samples were not kept: those before 1677, and those after the end."""
        return self._dropped

    def _write_other(self, timestamp: object, metrics: object) -> None:
        """Take in a sample that is not of plain ints in range under known names, if that is what it means."""
        with self._lock:
            if self._ended or _is_early(timestamp):
                self._dropped += 1
                return
            time = _coerce.cell(nanoseconds(timestamp, "a sample"), "timestamp", _coerce.TIME)
            plain = _plain(metrics)
            for name in plain:
                if name not in self._names:
                    self._add(name)
            self._rows.write(time, plain)

    def _add(self, name: str) -> None:
        """Make a metric known; where it is a peak of another one, or that one's, the one stands in for it."""
        self._names[name] = len(self._names)
        self._rows.add_name(name)
        self._add_column(name, None, None)
        peak = parse_peak_name(name)
        if peak is not None and peak[0] in self._names:
            self._add_column(name, peak[0], peak[0])
        for reducer in PEAK_REDUCERS:
            if f"{name}@{reducer}" in self._names:
                self._add_column(f"{name}@{reducer}", name, f"{name}@{reducer}")

    def _add_column(self, own: str, other: str | None, like: str | None) -> None:
        begin = -1 if like is None else self._columns[like, None]
        self._columns[own, other] = len(self._columns)
        self._rows.add_column(self._names[own], -1 if other is None else self._names[other], begin)

    def _reduced(self) -> StatSeries:
        samples = self._rows.samples()
        if samples is not None:
            return decimate(StatSeries._of(sorted_columns(self._names, *samples)), self._rule)
        return StatSeries._of(MergedRows(self._names, self._columns, *self._rows.rows()).fit(self._rule))


def _plain(metrics: object) -> dict[str, int]:
    """A sample's values as plain ints, absent ones left out."""
    if not isinstance(metrics, Mapping):
        raise SeriesError(f"a sample must map names to values, got {shorten_repr(metrics)}")
    plain: dict[str, int] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not _json.is_text(name):
            raise SeriesError(f"metrics must be named by text that UTF-8 can hold, got {shorten_repr(name)}")
        whole = _coerce.cell(value, f"metrics[{name!r}]", _coerce.METRIC)
        if whole is not None:
            plain[str(name)] = whole
    return plain


_FIRST = datetime(1677, 9, 21, 0, 12, 43, 146_000, tzinfo=UTC)


def _is_early(timestamp: object) -> bool:
    """Whether a time lies before all that a series can hold; what is no time at all does not."""
    if isinstance(timestamp, str):
        try:
            timestamp = datetime.fromisoformat(timestamp)
        except ValueError:
            return False
    if isinstance(timestamp, datetime):
        return timestamp.tzinfo is not None and timestamp < _FIRST
    try:
        return operator.index(timestamp) < FIRST_TIME  # type: ignore[arg-type]
    except TypeError:
        return False
