"""Meter: samples of a tree of processes, with the peaks that the kernel keeps and the memory that processes share."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from time import monotonic, thread_time

from callstats.drivers._run import is_too_short
from callstats.drivers.process.procfs import UNKNOWN_DISK, Process, read_disk, read_share, read_status
from callstats.drivers.process.tree import Family, Used

_SHARED_BYTES = 64 * 2**20
_SHARED_RATIO = 1.2
"""Shared memory matters where the sum of several processes exceeds both: these bytes, and so many times the largest one."""

_SHARED_COST = 0.02
"""Max part of a core to read what processes share."""

_SHARED_READINGS = 3
"""Max readings at once, while processes exit."""

_PEAKS_DIFFER = 0.05
"""Max part by which the peaks of a tree and of its group differ, where both are the peak of the tree."""


class Meter:
    """Measure a tree from one sample to the next.

    `limit` is the task's max memory in bytes, or 0. `spent` is processor time in seconds that doesn't count, since the command
    had not begun. `relative` says that the processes ran before: their use until now doesn't count, and their peaks only once
    they have risen.
    """

    def __init__(self, family: Family, limit: int = 0, *, spent: float = 0.0, relative: bool = False) -> None:
        self._family = family
        self._limit = limit
        self._spent = spent
        self._last: dict[int, Process] = {}
        self._disks: dict[int, tuple[float, float]] = {}
        self._peaks: dict[int, tuple[float, int]] = {}  # of each process: its start time, and the peak that it began with
        self._ignoring: set[int] = set()  # processes whose children leave no trace
        self._any_ignoring = False
        self._lost = Used()  # of such children, as last seen
        self._shared: dict[int, int] = {}
        self._sharing_cost = 0.0
        self._peak = self._stored_peak = 0
        self._cpu_peak = 0
        self._began = monotonic()
        self._base = self._before = Used()
        if relative:
            self._base = self._before = self._measure(relative=True)
        self._before_at, self._earlier, self._earlier_at = self._began, self._base, self._began

    def look(self) -> None:
        """Note the peaks so far, and no sample."""
        self._measure(may_read_shares=False)

    def exceeded(self) -> int | None:
        """Return the memory of the tree where it exceeds the limit."""
        members = self._family.members()
        self._note(members)
        sizes = {each.pid: each.rss for each in members}
        if self._memory(members, sizes, may_read_shares=False) <= self._limit:
            return None
        # The kernel's quick numbers are rough, and what is shared must be known before a task is killed for it.
        sizes = {each.pid: status.rss for each in members if (status := read_status(each.pid)) is not None}
        memory = self._memory(members, sizes, must_read_shares=True)
        return memory if memory > self._limit else None

    def sample(self) -> dict[str, int]:
        """Return a sample; an empty one when no process runs."""
        now, totals = monotonic(), self._measure()
        if not self._living:
            return {}
        # The readings are from some time in between, as this thread may have had to wait for a processor. Over all of it, no
        # share is larger than it was.
        metrics = totals.minus(self._before).cpu_metrics(monotonic() - self._before_at)
        # While a process exits it runs without memory. So a sum of 0 is no measurement, and a later sample tells the peak.
        if self._now:
            metrics["mem_usage"] = self._now
            if self._peak > max(self._now, self._stored_peak):
                metrics["mem_usage@max"] = self._peak
            self._stored_peak = max(self._stored_peak, self._now, self._peak)
        self._cpu_peak = max(self._cpu_peak, metrics.get("cpu_total", 0))
        self._earlier, self._earlier_at = self._before, self._before_at
        self._before, self._before_at = totals, now
        return metrics | self._common(totals)

    def closing(self, ended: float) -> dict[str, int]:
        """Return the sample of the end, by the monotonic clock, once all processes were reaped.

        Its use of the processor is that since the last sample. Where that is too short, it is a peak alone, since the one before.
        """
        totals = self._grouped(self._exited()).at_least(self._before)
        family = self._family
        self._peak = max(self._peak, family.peak)
        known = self._note_group_peak(totals)
        metrics = totals.minus(self._before).cpu_metrics(ended - self._before_at)
        if is_too_short(ended - self._before_at, self._before_at - self._earlier_at):
            busy = totals.minus(self._earlier).cpu_metrics(ended - self._earlier_at).get("cpu_total", 0)
            metrics = {"cpu_total@max": busy} if busy > self._cpu_peak else {}
        if self._peak > self._stored_peak:
            metrics["mem_usage@max" if self._stored_peak else "mem_usage"] = self._peak
        of_root = family.peak and not family.peak_is_inherited
        if known or (family.only_root and of_root and not self._any_ignoring):  # its peak is that of the whole tree
            metrics["mem_peak@last"] = self._peak
        return metrics | self._common(totals)

    def _note_group_peak(self, totals: Used) -> bool:
        """Note the memory that the group must have held at once, and return whether that is the peak of the tree.

        The kernel's peak of a group counts its page cache, which never held more than what went to and from the disk, or than
        what is left of it. It does not count files that others had read before. So where both peaks differ by much, the true one
        is unknown.
        """
        if self._family.group is None or self._any_ignoring or isnan(totals.disk_read):
            return False
        peak, cache = self._family.group.peak()
        self._peak = max(self._peak, peak - max(cache, int(totals.disk_read + totals.disk_write)))
        return abs(self._peak - peak) < _PEAKS_DIFFER * peak

    def _common(self, totals: Used) -> dict[str, int]:
        used = totals.minus(self._base)
        metrics = {"cpu_time@last": int(used.cpu * 1e9)}
        if self._limit:
            metrics["mem_limit"] = self._limit
        if not isnan(used.disk_read):
            metrics |= {"disk_read": int(used.disk_read), "disk_write": int(used.disk_write)}
        return metrics

    def _measure(self, *, may_read_shares: bool = True, relative: bool = False) -> Used:
        """Return the totals of the tree. Note its memory and its peaks."""
        members = self._family.members()
        self._note(members)
        totals = self._exited()
        sizes: dict[int, int] = {}
        disks: dict[int, tuple[float, float]] = {}
        for process in members:
            status = read_status(process.pid)
            if status is not None:
                sizes[process.pid] = status.rss
                self._note_peak(process, status.peak, relative=relative)
                if status.ignores_children:
                    self._ignoring.add(process.pid)
                    self._any_ignoring = True
            disks[process.pid] = read_disk(process.pid)
            totals = totals.plus(process.user, process.kernel, disks[process.pid])
        self._disks = disks
        self._now = self._memory(members, sizes, may_read_shares=may_read_shares)
        if may_read_shares and not relative:  # else the sum of several processes may count pages twice, or it is no news
            self._peak = max(self._peak, self._now)
        return self._grouped(totals).at_least(self._before)

    def _exited(self) -> Used:
        reaped = self._family.reaped
        return self._lost.plus(reaped.user, reaped.kernel, (reaped.disk_read, reaped.disk_write))

    def _grouped(self, totals: Used) -> Used:
        """Return the totals with the processor time of the group where that is more: it counts what nobody has waited for."""
        part = max(1 - self._spent / totals.cpu, 0) if totals.cpu else 0
        totals = totals._replace(user=totals.user * part, kernel=totals.kernel * part)
        user, kernel = (0.0, 0.0) if self._family.group is None else self._family.group.cpu()
        return totals if user + kernel <= totals.cpu else totals._replace(user=user, kernel=kernel)

    def _note(self, members: Iterable[Process]) -> None:
        """Keep what is known of processes that are gone and whose parents don't count them."""
        now = {process.pid: process for process in members}
        for pid, process in self._last.items():
            if process.parent in self._ignoring and (pid not in now or now[pid].started != process.started):
                self._lost = self._lost.plus(process.user, process.kernel, self._disks.get(pid, UNKNOWN_DISK))
        self._ignoring &= now.keys()
        self._last = now
        self._living = sum(not process.zombie for process in members)

    def _note_peak(self, process: Process, peak: int, *, relative: bool) -> None:
        # Processes that fork inherit peaks, so peaks are never added.
        if relative:
            self._peaks[process.pid] = process.started, peak
        begun = self._peaks.get(process.pid)
        if begun is None or begun[0] != process.started or peak > begun[1]:
            self._peak = max(self._peak, peak)

    def _memory(
        self, members: list[Process], sizes: dict[int, int], *, may_read_shares: bool = True, must_read_shares: bool = False
    ) -> int:
        """Return the memory of the tree, where shared pages count once as far as that is known."""
        total = sum(sizes.values())
        if total <= _SHARED_BYTES or total <= _SHARED_RATIO * max(sizes.values()):
            self._shared = {}
            return total
        within_cost = self._sharing_cost <= _SHARED_COST * (monotonic() - self._began)
        if must_read_shares or (may_read_shares and within_cost):
            began = thread_time()
            for _ in range(_SHARED_READINGS):
                shares = {pid: read_share(pid) for pid in sizes}
                lost = [pid for pid, share in shares.items() if share == 0]
                sizes = {pid: size for pid, size in sizes.items() if pid not in lost}
                if not lost:  # else the shares of the others have grown meanwhile
                    break
            # Of another user's process the share is unknown.
            self._shared = {
                pid: size - min(size if (share := shares[pid]) is None else share, size) for pid, size in sizes.items()
            }
            self._sharing_cost += thread_time() - began
            total = sum(sizes.values())
        parents = {process.pid: process.parent for process in members}
        for pid, size in sizes.items():
            # A fork shares nearly all with its parent, until the next reading says what.
            total -= min(self._shared.get(pid, sizes.get(parents[pid], 0)), size)
        return max([total, *sizes.values()])
