"""Running calls and the reports of reductions for Prometheus, by its own client library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import time
from typing import Any, TypeAlias

from callstats._extras import needs
from callstats._units import printable
from callstats.adapters.openmetrics import FAMILIES, OWN, MetricFamily
from callstats.errors import ArgumentError

with needs("adapters.prometheus", "prometheus"):
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_Sample: TypeAlias = tuple[MetricFamily, dict[str, str], float]
"""A value in its family's unit, and its labels."""

_RUNNING = MetricFamily("callstats_running_calls", "Calls that are running.")
_ENDED = MetricFamily("callstats_ended_calls", "Calls that have ended.", "counter")


class Collector:
    """The last samples of the running calls by name, as a collector for a registry of `prometheus_client`.

    A gauge is the sum over the running calls of a name, and a peak is the highest value of any of them so far. A counter is the
    sum over all calls of a name. Metrics without a family of their own are in ``callstats_value``, labelled by `metric`.

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry
    >>> registry, collector = CollectorRegistry(), Collector()
    >>> registry.register(collector)
    >>> with collector.call("resize") as on_stat:
    ...     on_stat(0, {"mem_usage": 4096, "disk_read": 100})
    ...     registry.get_sample_value("callstats_memory_usage_bytes", {"name": "resize"})
    4096.0
    >>> registry.get_sample_value("callstats_disk_read_bytes_total", {"name": "resize"})
    100.0
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[int, tuple[str, dict[str, int]]] = {}
        self._totals: Counter[tuple[str, str]] = Counter()
        self._ended: Counter[str] = Counter()

    @contextmanager
    def call(self, name: str) -> Iterator[Callable[[int, Mapping[str, int | None]], None]]:
        """Count a call as running within the block.

        Parameters
        ----------
        name : str
            What the call is grouped by.

        Yields
        ------
        callable
            It takes the samples, for `on_stat` or beside `write_stat`: the time, which does not count, and the metrics.
        """
        name, last = printable(name), dict[str, int]()

        def on_stat(_timestamp: int, metrics: Mapping[str, int | None]) -> None:
            with self._lock:
                for metric, value in metrics.items():
                    if value is None:
                        continue
                    before = last.get(metric, 0)
                    if FAMILIES.get(metric, OWN).type == "counter":  # a value below the one before is a reset
                        self._totals[name, metric] += value - (before if value >= before else 0)
                    last[metric] = max(before, value) if metric.endswith("@max") else value
                    if (peak := f"{metric}@max") in FAMILIES:
                        last[peak] = max(last.get(peak, 0), value)

        with self._lock:
            self._ended[name] += 0
            self._running[id(last)] = name, last
        try:
            yield on_stat
        finally:
            with self._lock:
                del self._running[id(last)]
                self._ended[name] += 1

    def collect(self) -> Iterable[Metric]:
        """Return the metric families that have samples, for the registry."""
        with self._lock:
            values: dict[tuple[str, str], int] = dict(self._totals)
            for name, last in self._running.values():
                for metric, value in last.items():
                    if FAMILIES.get(metric, OWN).type == "gauge":
                        before = values.get((name, metric), 0)
                        values[name, metric] = max(before, value) if "@" in metric else before + value
            names = Counter(name for name, _ in self._running.values())
            calls: list[_Sample] = [(_RUNNING, {"name": name}, names[name]) for name in self._ended]
            calls += [(_ENDED, {"name": name}, ended) for name, ended in self._ended.items()]
        for (name, metric), value in values.items():
            family = FAMILIES.get(metric, OWN)
            if family.known(value):
                own = {"metric": printable(metric)} if family is OWN else {}
                calls.append((family, {"name": name, **own}, family.convert(value)))
        return _metrics(calls)


@contextmanager
def serve(collector: Collector, host: str, port: int) -> Iterator[str]:
    """Serve a collector over HTTP within the block, and yield the URL.

    Parameters
    ----------
    collector : Collector
        What to serve.
    host, port : str, int
        The address to listen at. Port 0 stands for any free port.

    Raises
    ------
    ArgumentError
        If the address can't be listened at.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ArgumentError("listen", "a free address of this machine", f"{host}:{port}", hint=error.strerror) from None
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reduce_text(result: Mapping[str, Any], exit_code: int, labels: Mapping[str, str]) -> bytes:
    """Return the report of a reduction as text for the textfile collector of the node exporter.

    Parameters
    ----------
    result : mapping
        The fields of a `ReduceResult`.
    exit_code : int
        How the command ends.
    labels : mapping of str to str
        Labels of all samples, such as the table.
    """
    ends = ("changed", "unchanged", "kept", "skipped", "untimed", "rejected", "known", "locked")
    rows = MetricFamily("callstats_reduce_rows", "Rows of the last run, by what became of them.")
    size = MetricFamily("callstats_reduce_changed_bytes", "Bytes of the changed histograms, before and after.")
    phase = MetricFamily("callstats_reduce_phase_seconds", "Seconds of the last run, by what they were spent on.")
    samples: list[_Sample] = [(rows, {"end": end}, result[end]) for end in ends]
    samples += [(size, {"when": when}, result[f"bytes_{when}"]) for when in ("before", "after")]
    samples += [(phase, {"phase": name}, seconds) for name, seconds in result["phases"].items()]
    for name, text, value in (
        ("read_bytes", "Bytes of histograms that the last run read.", result["bytes_read"]),
        ("retries", "How often the last run tried a batch again.", result["retries"]),
        ("duration_seconds", "How long the last run took.", result["seconds"]),
        ("exit_code", "How the last run ended: 0 done, 1 with rejected rows, 3 early.", exit_code),
        ("completed_timestamp_seconds", "When the last run ended.", time()),
    ):
        samples.append((MetricFamily(f"callstats_reduce_{name}", text), {}, value))
    constant = {name: printable(value) for name, value in labels.items()}
    report: bytes = generate_latest(_Report([(family, {**constant, **own}, value) for family, own, value in samples]))
    return report


class _Report:
    """Samples as a collector."""

    def __init__(self, samples: list[_Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        return _metrics(self._samples)


def _metrics(samples: list[_Sample]) -> Iterable[Metric]:
    """Return the samples by family."""
    metrics: dict[MetricFamily, Any] = {}
    for family, labels, value in samples:
        if family not in metrics:
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            metrics[family] = kind(family.name, family.help, labels=list(labels), unit=family.unit)
        metrics[family].add_metric(list(labels.values()), float(value))
    return metrics.values()
