"""The report of a run in the making."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from callstats import kernels
from callstats.db.jobs.changes import Largest
from callstats.db.jobs.rows import Row
from callstats.db.results import FIRST_REJECTS, Key, ReduceReport, Reject


class Verdict(NamedTuple):
    """What is to become of a row: it is refused for a reason, or gets a new text, or stays."""

    row: Row
    reduced: bytes | None = None
    reason: str | None = None


@dataclass
class Tally:
    """Counts, sums and the first rejects."""

    dry_run: bool
    on_reject: Callable[[Reject], object] | None
    as_of: str | None = None
    total: int | None = None
    passed: int = 0
    unchanged: int = 0
    changed: int = 0
    refused: int = 0
    bytes_read: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    retries: int = 0
    stopped: str | None = None
    locked: list[Key] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    largest: Largest = field(default_factory=Largest)
    began: float = field(default_factory=time.perf_counter)

    def add(self, passed: int, verdicts: Iterable[Verdict]) -> None:
        self.passed += passed
        for row, reduced, reason in verdicts:
            size = len(row.cell or b"")
            self.bytes_read += size
            if reason is not None:
                self.reject(Reject(row.key, reason))
            elif reduced is None:
                self.unchanged += 1
            else:
                self.changed += 1
                self.bytes_before += size
                self.bytes_after += len(reduced)
                if self.dry_run:
                    self.largest.look_at(row.key, row.cell, reduced)

    def reject(self, reject: Reject, rows: int = 1) -> None:
        self.refused += rows
        if len(self.rejects) < FIRST_REJECTS:
            self.rejects.append(reject)
        if self.on_reject is not None:
            self.on_reject(reject)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def report(self) -> ReduceReport:
        return ReduceReport(
            rows=self.passed + self.unchanged + self.changed + self.refused,
            passed=self.passed,
            unchanged=self.unchanged,
            changed=self.changed,
            refused=self.refused,
            locked=len(self.locked),
            total=self.total,
            bytes_read=self.bytes_read,
            bytes_before=self.bytes_before,
            bytes_after=self.bytes_after,
            seconds=self.seconds,
            backend=kernels.active.BACKEND,
            dry_run=self.dry_run,
            as_of=self.as_of,
            peak_change=self.largest.peak,
            mean_change=self.largest.mean,
            retries=self.retries,
            stopped=self.stopped,
            rejects=tuple(self.rejects),
        )
