"""What a recorder holds at the end: rows that stand for one sample or for many, reduced by what each has kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from callstats import _json
from callstats._columns import Columns, take
from callstats._types import FIRST_TIME, U64_MAX, AnyArray, Block, Bytes, Counts, Times
from callstats.errors import BudgetError, SeriesError
from callstats.kernels.recorder_py import COUNT, FIRST, HAS_FIRST, HAS_LAST, LAST, MAX, MIN, SUM_HIGH, SUM_LOW
from callstats.reduce import fit, plan_of
from callstats.rule import REDUCERS, Reducer, Rule


def sorted_columns(names: Mapping[str, int], times: Times, values: Block, present: Bytes) -> Columns:
    """Samples as they came, in the order of their names and times."""
    ordered = tuple(sorted(names))
    numbers = [names[name] for name in ordered]
    columns = Columns(ordered, times, values[numbers], present[numbers].astype(np.bool_), None)
    return take(columns, np.argsort(times, kind="stable"))


_LEAST_BYTES = len('{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{}},')
"""Of a row's text."""


class _Bins(NamedTuple):
    """Rows ``starts[i]`` up to the next start make a row of the result, which stands for ``totals[i]`` samples."""

    starts: Counts
    ends: Counts
    totals: Counts


class MergedRows:
    """The rows that `kernels.active.Rows.rows` gives, under their names.

    `columns` are numbered by the metric and the one that stands in for it in samples that lack it, or None.
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
        self._time_sums = _wide(sums)
        self._sums: dict[int, AnyArray] = {}

    def fit(self, rule: Rule) -> Columns:
        """The rows reduced by a rule, each by all that it stands for, a lone one too."""
        n = len(self._counts)
        most = n if rule.max_samples is None else min(n, rule.max_samples)
        if most < 1:
            return fit(Columns((), np.zeros(n, dtype=np.int64), np.zeros((0, n), dtype=np.uint64), None, None), Rule(0))
        if rule.max_bytes is None:
            return self._reduced(rule, most)
        size = 0
        for rows in range(most, 0, -1):  # sizes are not monotone in the number of rows
            size = _LEAST_BYTES * len(self._bins(rows).starts)
            if size <= rule.max_bytes or rows == 1:
                reduced = self._reduced(rule, rows)
                size = len(_json.encode(reduced))
                if size <= rule.max_bytes:
                    return reduced
        raise BudgetError(f"max_bytes must hold one row at least, got {rule.max_bytes} for a row of {size} bytes")

    def _reduced(self, rule: Rule, max_samples: int) -> Columns:
        bins = self._bins(max_samples)
        out_names, plan = plan_of(self._names, rule)
        shape = len(out_names), len(bins.starts)
        values, present = np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.bool_)
        for j, (own, other, reducer, _) in enumerate(plan.T.tolist()):
            name = self._names[own if own >= 0 else other]
            stand_in = self._names[other] if own >= 0 and other >= 0 else None
            column = self._columns[name, stand_in]
            present[j] = np.add.reduceat(self._cells[COUNT, column], bins.starts) > 0
            values[j] = self._column(out_names[j], column, REDUCERS[reducer], rule.missing == "zero", bins)
            lone = bins.totals == 1
            if lone.any():  # a sample alone is passed on untouched, so nothing stands in
                at = bins.starts[lone]
                plain = self._columns[name, None]
                present[j, lone] = (self._cells[COUNT, plain, at] > 0) if own >= 0 else False
                values[j, lone] = self._cells[FIRST, plain, at]
        values[~present] = 0
        times = np.add.reduceat(self._time_sums, bins.starts) // bins.totals + FIRST_TIME
        return Columns(out_names, times.astype(np.int64), values, present, bins.totals)

    def _bins(self, max_samples: int) -> _Bins:
        """Rows by the rule's bins, as if each were a sample at the mean of its times."""
        n = len(self._counts)
        times = np.array(self._time_sums // self._counts + FIRST_TIME, dtype=np.int64)
        places = Columns(("row",), times, np.arange(n, dtype=np.uint64).reshape(1, n), None, None)
        starts = fit(places, Rule(max_samples, how="first")).values[0].astype(np.int64)
        return _Bins(starts, np.append(starts[1:], n), np.add.reduceat(self._counts, starts))

    def _column(self, name: str, column: int, reducer: Reducer, zero: bool, bins: _Bins) -> AnyArray:
        """One value for each bin; anything at all where no sample has the metric."""
        starts, ends, totals = bins
        cells: Block = self._cells[:, column]
        held = np.add.reduceat(cells[COUNT], starts)
        if reducer in ("mean", "sum"):
            sums = np.add.reduceat(self._wide_sums(column), starts)
            if reducer == "mean":
                return np.asarray(sums // (totals if zero else np.maximum(held, np.uint64(1)).astype(object)))
            large = np.flatnonzero(sums > U64_MAX)
            if len(large):
                raise SeriesError(
                    f"the sum of metrics[{name!r}] must be at most {U64_MAX}: row {large[0]} of the result passes it"
                )
            return np.asarray(sums)
        if reducer == "max":
            return np.maximum.reduceat(cells[MAX], starts)
        if reducer == "min":
            least: AnyArray = np.minimum.reduceat(np.where(cells[COUNT] > 0, cells[MIN], np.uint64(U64_MAX)), starts)
            if zero:
                least[held < totals.astype(np.uint64)] = 0
            return least
        n = len(self._counts)
        rows = np.arange(n)
        has = cells[COUNT] > 0
        if reducer == "first":
            if zero:
                return np.asarray(cells[FIRST, starts] * ((self._flags[column, starts] & HAS_FIRST) > 0))
            return np.asarray(cells[FIRST, np.clip(np.minimum.reduceat(np.where(has, rows, n), starts), 0, n - 1)])
        if zero:
            return np.asarray(cells[LAST, ends - 1] * ((self._flags[column, ends - 1] & HAS_LAST) > 0))
        return np.asarray(cells[LAST, np.clip(np.maximum.reduceat(np.where(has, rows, -1), starts), 0, n - 1)])

    def _wide_sums(self, column: int) -> AnyArray:
        if column not in self._sums:
            self._sums[column] = _wide(self._cells[SUM_HIGH : SUM_LOW + 1, column])
        return self._sums[column]


def _wide(words: Block) -> AnyArray:
    """Python ints from their upper and lower 64 bits."""
    high, low = words.astype(object)
    return np.asarray(high * 2**64 + low)
