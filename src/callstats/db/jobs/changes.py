"""How far reductions move peaks and means: what a dry run tells before anything is lost."""

from __future__ import annotations

from callstats.db.results import Change, Key
from callstats.series import StatSeries
from callstats.stats import summarize


class Largest:
    """The largest changes among the rows looked at."""

    def __init__(self) -> None:
        self.peak: Change | None = None
        self.mean: Change | None = None

    def look_at(self, key: Key, before: bytes | None, after: bytes) -> None:
        """Compare a row's cell with what it would become."""
        new = summarize(StatSeries.from_json(after))
        for metric, old in summarize(StatSeries.from_json(before)).items():
            now = new.get(metric)
            if old.max is not None and old.mean is not None:
                self.peak = _larger(self.peak, Change(key, metric, old.max, None if now is None else now.max))
                self.mean = _larger(self.mean, Change(key, metric, old.mean, None if now is None else now.mean))


def _larger(one: Change | None, other: Change) -> Change | None:
    if other.before == other.after:
        return one
    return other if one is None or other.share > one.share else one
