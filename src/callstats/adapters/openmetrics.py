"""Stored calls as OpenMetrics text with timestamps, and the names and units that metrics have in Prometheus."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from callstats._types import AnyArray
from callstats._units import printable
from callstats.series import StatSeries
from callstats.stats.call import CallUsage
from callstats.stats.proportions import UNLIMITED

_UNITS = {"bytes": 1, "ratio": 100, "seconds": 10**9}
"""Prometheus' base units, and the divisors of values that give them."""


class MetricFamily(NamedTuple):
    """A metric family: its name, which ends in the unit, what it means, and its type."""

    name: str
    help: str
    type: Literal["gauge", "counter"] = "gauge"

    @property
    def unit(self) -> str:
        """The base unit; no text for a family of any unit."""
        unit = self.name.rpartition("_")[2]
        return unit if unit in _UNITS else ""

    def known(self, values: Any) -> Any:
        """Return which values of an array, or whether a value, are known and finite: memory is neither 0 nor unlimited."""
        return (values > 0) & (values < UNLIMITED) if "_memory_" in self.name else values >= 0

    def convert(self, values: Any) -> Any:
        """Return an array or a value in the base unit."""
        divisor = _UNITS.get(self.unit, 1)
        return values if divisor == 1 else values / divisor


OWN = MetricFamily("callstats_value", "A metric of the program's own, in its own unit.")
"""The family of all metrics without a family of their own, which the label `metric` tells apart."""

FAMILIES = {
    "cpu_total": MetricFamily("callstats_cpu_usage_ratio", "Processor time since the sample before, where 1 is one core."),
    "cpu_total@max": MetricFamily(
        "callstats_cpu_usage_peak_ratio", "Max of callstats_cpu_usage_ratio, so far or in a reduced row."
    ),
    "cpu_user": MetricFamily("callstats_cpu_user_ratio", "The share of programs in callstats_cpu_usage_ratio."),
    "cpu_kernel": MetricFamily("callstats_cpu_kernel_ratio", "The share of the kernel in callstats_cpu_usage_ratio."),
    "cpu_time@last": MetricFamily("callstats_cpu_seconds", "Processor time.", "counter"),
    "mem_usage": MetricFamily("callstats_memory_usage_bytes", "Memory in use."),
    "mem_usage@max": MetricFamily(
        "callstats_memory_usage_peak_bytes", "Max of callstats_memory_usage_bytes, so far or in a reduced row."
    ),
    "mem_working": MetricFamily("callstats_memory_working_set_bytes", "Memory in use without page cache that could be given up."),
    "mem_working@max": MetricFamily(
        "callstats_memory_working_set_peak_bytes", "Max of callstats_memory_working_set_bytes, so far or in a reduced row."
    ),
    "mem_peak@last": MetricFamily(
        "callstats_memory_kernel_peak_bytes", "The kernel's own peak of the memory over the whole call."
    ),
    "mem_limit": MetricFamily("callstats_memory_limit_bytes", "Max memory that the call may use."),
    "disk_read": MetricFamily("callstats_disk_read_bytes", "Bytes read from disks.", "counter"),
    "disk_write": MetricFamily("callstats_disk_written_bytes", "Bytes written to disks.", "counter"),
    "net_rx": MetricFamily("callstats_network_receive_bytes", "Bytes received from the network.", "counter"),
    "net_tx": MetricFamily("callstats_network_transmit_bytes", "Bytes sent to the network.", "counter"),
}
"""Families by metric, of running and of stored calls. The samples of a counter have the name and ``_total``."""

_USAGE = {
    "duration_ns": MetricFamily("callstats_call_duration_seconds", "Time from the start of the call to its end."),
    "cpu_time_ns": MetricFamily("callstats_call_cpu_seconds", "Processor time of the whole call."),
    "peak_memory": MetricFamily("callstats_call_memory_peak_bytes", "Peak memory of the whole call."),
}
"""Families by field of `CallUsage`, with one sample at the last row of a call."""


class Writer:
    """A writer of OpenMetrics text, as `callstats.adapters.files.LineWriter` is one of lines.

    Each call has series of its own, labelled by `call` and `name`: Prometheus takes no two values of one series at one time.
    """

    def __init__(self, sink: IO[bytes], path: str, **_columns: object) -> None:
        self._sink, self._folder = sink, Path(path).parent
        self._open = ExitStack()
        self._texts: dict[MetricFamily, IO[bytes]] = {}  # the text of a family must be in one piece

    def add(self, calls: Sequence[object], cells: Sequence[StatSeries], others: Sequence[tuple[object, CallUsage]]) -> None:
        """Write calls: their keys, their series, and for each its name and its usage."""
        for call, series, (name, usage) in zip(calls, cells, others, strict=True):
            labels = f'call="{_escaped(call)}"' + ("" if name is None else f',name="{_escaped(name)}"')
            ms = series.timestamps // 10**6
            for i, metric in enumerate(series.names):
                present = slice(None) if series.present is None else series.present[i]
                own = "" if metric in FAMILIES else f',metric="{_escaped(metric)}"'
                self._add(FAMILIES.get(metric, OWN), labels + own, ms[present], series.values[i, present])
            for field, family in _USAGE.items():
                value = getattr(usage, field)
                if value is not None:
                    self._add(family, labels, ms[-1:], np.array([value] * len(ms[-1:])))

    def close(self, *, complete: bool) -> None:
        """Join the families, if they are complete."""
        with self._open:
            if not complete:
                return
            for family in (*FAMILIES.values(), OWN, *_USAGE.values()):
                if family in self._texts:
                    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
                    head = f"# TYPE {family.name} {family.type}\n{unit}# HELP {family.name} {family.help}\n"
                    self._sink.write(head.encode())
                    self._texts[family].seek(0)
                    shutil.copyfileobj(self._texts[family], self._sink)
            self._sink.write(b"# EOF\n")

    def _add(self, family: MetricFamily, labels: str, ms: AnyArray, values: AnyArray) -> None:
        """Write a series. Of several values in one millisecond, Prometheus' unit of time, the last one counts."""
        known = family.known(values)
        ms, values = ms[known], values[known]
        if not len(ms):
            return
        last = np.append(ms[1:] > ms[:-1], True)
        if family not in self._texts:
            self._texts[family] = self._open.enter_context(TemporaryFile(dir=self._folder))  # noqa: SIM115 - entered
        start = f"{family.name}{'_total' if family.type == 'counter' else ''}{{{labels}}}"
        samples = zip(family.convert(values[last]).tolist(), _seconds(ms[last]).tolist(), strict=True)
        self._texts[family].write("".join([f"{start} {value} {second}\n" for value, second in samples]).encode())


def _seconds(ms: AnyArray) -> AnyArray:
    """Return times in seconds which Prometheus, as it cuts what is below a millisecond, reads as these."""
    seconds = ms / 1000
    away = np.nextafter(seconds, np.copysign(np.inf, seconds))
    return np.where((seconds * 1000).astype(np.int64) == ms, seconds, away)


def _escaped(label: object) -> str:
    """Return a value of a label as it stands between quotes."""
    text = label.hex() if isinstance(label, bytes) else str(label)
    return printable(text).replace("\\", r"\\").replace('"', r"\"")
