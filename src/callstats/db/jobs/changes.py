"""Reports of a reduce job about metrics: how far their peaks and means move, and which metrics no blob has."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from callstats import kernels
from callstats._json import as_bytes, decode
from callstats._types import Counts
from callstats.call import Key
from callstats.db.results import Change
from callstats.errors import CallstatsError
from callstats.kernels.totals_py import ENDS_ARE_EXACT, MAX, MIN_IS_EXACT, ROWS, SUM, WEIGHT
from callstats.rule import KEEP_PEAKS, OTHERS, Rule
from callstats.stats.series import totals_plan


class PeakAndMean(NamedTuple):
    """The peak and the mean of one metric of a blob."""

    peak: int
    mean: float
    exact: tuple[bool, ...]
    """Whether each row has its own min, its own max, and its own first and last value."""


PeaksAndMeans: TypeAlias = dict[str, PeakAndMean]


class Changes:
    """The largest changes in reduced rows: of peaks that a rule keeps, of other peaks, and of means."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.kept_peaks: set[str] = set()
        """The metrics seen whose peaks the rule keeps."""
        self.kept_peak: Change | None = None
        self.peak: Change | None = None
        self.mean: Change | None = None

    def add(self, key: Key, old: PeaksAndMeans, new: PeaksAndMeans) -> None:
        """Compare a row before and after."""
        for metric, (old_peak, old_mean, _) in old.items():
            new_peak, new_mean, _ = new.get(metric, (None, None, ()))
            peak = None if new_peak == old_peak else Change(key, metric, old_peak, new_peak)
            if "max" in self._rule.reducers(metric):
                self.kept_peaks.add(metric)
                self.kept_peak = _larger(self.kept_peak, peak)
            else:
                self.peak = _larger(self.peak, peak)
            if new_mean is None or abs(new_mean - old_mean) >= 1:  # a smaller change is rounding, of whatever share
                self.mean = _larger(self.mean, Change(key, metric, old_mean, new_mean))


def _larger(one: Change | None, other: Change | None) -> Change | None:
    """Return the larger of two changes, the first if they are equal."""
    if one is None or other is None:
        return one or other
    return other if other.share > one.share else one


def peaks_and_means(blob: bytes) -> PeaksAndMeans:
    """Return the peak and the mean of each metric."""
    found = kernels.active.blob_totals(blob, _totals_layout)
    if found is None:
        names, _, values, present, counts = columns = decode(blob)[0]
        offsets = np.array([0, len(columns.times)], dtype=np.int64)
        metrics, plan = totals_plan(names)
        totals = kernels.active.totals(values, as_bytes(present), counts, offsets, plan)[:, 0]
    else:
        metrics, totals = totals_plan(tuple(name.decode() for name in found[0]))[0], found[4]
    return {
        name: PeakAndMean(
            total[MAX],
            (total[SUM] << 64 | total[SUM + 1]) / total[WEIGHT],
            tuple(map(bool, total[MIN_IS_EXACT : ENDS_ARE_EXACT + 1])),
        )
        for name, total in zip(metrics, totals.tolist(), strict=True)
        if total[ROWS]
    }


def peaks_of_means(old: PeaksAndMeans, new: PeaksAndMeans) -> set[str]:
    """Return the metrics of a reduced blob whose peaks are those of means, so that they read as exact although they are not."""
    return {one for one in old.keys() & new.keys() if any(map(operator.gt, new[one].exact, old[one].exact))}


def may_add_peaks(rule: Rule, old: bytes, new: bytes) -> bool:
    """Return whether a blob with counts may have got peaks that it had not before, by a quick look at its text."""
    if b'"count"' not in old and b"\\" not in old:
        return False
    peaks = _quoted_peaks(rule)
    return peaks is None or any(peak in new and peak not in old for peak in peaks)


@lru_cache(maxsize=16)
def _quoted_peaks(rule: Rule) -> tuple[bytes, ...] | None:
    """Return the names of the peaks that a rule keeps as JSON has them; None if they may be those of any metric."""
    how = rule.how if isinstance(rule.how, Mapping) else ()
    peaks = (f'"{metric}@{peak}"'.encode() for metric in how for peak in rule.reducers(metric)[1:])
    return None if len(rule.reducers(OTHERS)) > 1 else tuple(peaks)


@lru_cache(maxsize=256)
def _totals_layout(encoded: tuple[bytes, ...]) -> tuple[Counts, Counts]:
    return totals_plan(tuple(name.decode() for name in encoded))[1], np.empty(0, dtype=np.int64)


class UnseenMetrics:
    """The metrics that a rule names and that no blob has had so far."""

    def __init__(self, rule: Rule) -> None:
        how = rule.how if isinstance(rule.how, Mapping) else {}
        self._unseen = {name for name in how if name != OTHERS and how[name] != KEEP_PEAKS.get(name)}
        self._saw_samples = False

    def look_for(self, blobs: Iterable[bytes]) -> None:
        """Cross off the metrics that these blobs have."""
        for blob in blobs if self._unseen else ():
            self._saw_samples = self._saw_samples or len(blob) > len("null")
            # Only a blob that contains the name, or an escape, is worth decoding.
            if b"\\" in blob or any(f'"{name.partition("@")[0]}'.encode() in blob for name in self._unseen):
                with suppress(CallstatsError):
                    names = decode(blob)[0][0]
                    self._unseen -= {*names, *(name.rpartition("@")[0] for name in names)}

    def names(self) -> tuple[str, ...]:
        """Return the metrics, sorted; none before the first blob with samples."""
        return tuple(sorted(self._unseen)) if self._saw_samples else ()
