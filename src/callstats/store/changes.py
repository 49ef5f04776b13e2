"""How far reductions move peaks and means: what a dry run tells before anything is lost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from callstats.rule import peak_of
from callstats.series import StatSeries
from callstats.store.report import Change, Key


class _Figures(NamedTuple):
    peak: int
    mean: float


class Largest:
    """The largest changes among the rows looked at."""

    def __init__(self) -> None:
        self.peak: Change | None = None
        self.mean: Change | None = None

    def look_at(self, key: Key, before: bytes | None, after: bytes) -> None:
        """Compare a row's cell with what it would become."""
        new = figures(StatSeries.from_json(after))
        for metric, (peak, mean) in figures(StatSeries.from_json(before)).items():
            now = new.get(metric)
            self.peak = _larger(self.peak, Change(key, metric, peak, None if now is None else now.peak))
            self.mean = _larger(self.mean, Change(key, metric, mean, None if now is None else now.mean))


def figures(series: StatSeries) -> dict[str, _Figures]:
    """Peak (the kept one where there is one) and mean (weighed by counts) of each metric."""
    found = {}
    names = set(series.names)
    for i, name in enumerate(series.names):
        if peak_of(name) is not None:
            continue
        there = slice(None) if series.present is None else series.present[i]
        values, counts = series.values[i][there], series.counts[there]
        peak = int(values.max())
        if (kept := f"{name}@max") in names:
            j = series.names.index(kept)
            there = slice(None) if series.present is None else series.present[j]
            peak = max(peak, int(series.values[j][there].max()))
        weights = counts.astype(np.float64)
        found[name] = _Figures(peak, float(values.astype(np.float64) @ weights / weights.sum()))
    return found


def _larger(one: Change | None, other: Change) -> Change | None:
    if other.before == other.after:
        return one
    return other if one is None or other.share > one.share else one
