"""The memory, CPU and time of one call, and what stays exact when it is reduced."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given

from callstats import KEEP_PEAKS, DecodeError, StatSeries, decimate
from callstats.stats import CallData, CallUsage, summarize_calls, usage_of
from callstats.stats.format import usage_text
from support.blobs import grammar, seeds
from support.parity import exact, outcome
from support.zoo import SECOND, zoo

MIB = 2**20
UNLIMITED = 9223372036854771712
START = 1_700_000_000 * SECOND

KEPT = ("peak_memory", "memory_metric", "memory_limit", "cpu_peak", "cpu_time_ns", "duration_ns", "samples")
"""The values that reductions by KEEP_PEAKS don't change."""

pytestmark = pytest.mark.usefixtures("backend")


def slow_usage(series: StatSeries, duration_ns: int | None = None) -> CallUsage:
    """The same by plain Python, row by row."""
    rows = [(stat.metrics, count) for stat, count in zip(series, series.counts.tolist(), strict=True)]
    fields: dict[str, Any] = {"samples": sum(count for _, count in rows), "rows": len(rows)}
    known = {"samples"}

    def largest(metric: str) -> tuple[int | None, bool]:
        peaks = []
        for metrics, count in rows:
            if f"{metric}@max" in metrics:
                peaks.append((metrics[f"{metric}@max"], True))
            elif metric in metrics and (metrics[metric] or metric not in ("mem_working", "mem_usage")):  # 0 is unknown
                peaks.append((metrics[metric], count == 1))
        return max((peak for peak, _ in peaks), default=None), bool(peaks) and all(is_exact for _, is_exact in peaks)

    for metric in ("mem_working", "mem_usage"):
        peak, is_exact = largest(metric)
        if peak:
            fields.update(peak_memory=peak, memory_metric=metric, peak_source="sampled")
            known.update(["peak_memory"] if is_exact else [])
            break
    ceilings = [(metrics["mem_usage@max"], count) for metrics, count in rows if metrics.get("mem_usage@max") is not None]
    if fields.get("memory_metric") == "mem_working" and ceilings and all(count == 1 for _, count in ceilings):
        fields["peak_ceiling"] = max(peak for peak, _ in ceilings) or None
        known.update(["peak_ceiling"] if fields["peak_ceiling"] else [])
    fields["memory_limit"] = largest("mem_limit")[0] or None
    known.update(["memory_limit"] if fields["memory_limit"] else [])
    fields["cpu_peak"], is_exact = largest("cpu_total")
    known.update(["cpu_peak"] if is_exact else [])
    times = [metrics["cpu_time@last"] for metrics, _ in rows if "cpu_time@last" in metrics]
    if times:
        fields["cpu_time_ns"] = times[-1]
        known.update(["cpu_time_ns"] if "cpu_time@last" in rows[-1][0] else [])
    fields["duration_ns"] = duration_ns
    if duration_ns is not None:
        known.add("duration_ns")
    elif rows:
        fields["duration_ns"] = min(int(series.timestamps[-1]) - int(series.timestamps[0]), 2**63 - 1)
    used = [(metrics["cpu_total"], count) for metrics, count in rows if "cpu_total" in metrics]
    if times and duration_ns:
        fields["cpu_mean"] = float(Fraction(100 * times[-1], duration_ns))
        known.update(["cpu_mean"] if "cpu_time_ns" in known else [])
    elif len(times) > 1 and duration_ns is None and fields["duration_ns"]:
        fields["cpu_mean"] = float(Fraction(100 * (times[-1] - times[0]), fields["duration_ns"]))
    elif used:
        fields["cpu_mean"] = float(Fraction(sum(value * count for value, count in used), sum(count for _, count in used)))
        known.update(["cpu_mean"] if all(count == 1 for _, count in used) and not times else [])
    return CallUsage(**fields, exact=frozenset(known))


def random_call(dice: random.Random) -> StatSeries:
    """A recorded call: with and without mem_working, the kernel's peaks, limits, holes and zeros."""
    rows = dice.choice((0, 1, 2, 30, 61, 240, 500))
    limits = [dice.choice((0, 256 * MIB, 512 * MIB, UNLIMITED))] * rows
    if dice.random() < 0.2:
        limits = [dice.choice((0, 256 * MIB, 512 * MIB)) for _ in range(rows)]
    cpu_time = 0
    cpu_times = [cpu_time := cpu_time + dice.randrange(SECOND) for _ in range(rows)]
    metrics: dict[str, list[int | None]] = {
        "mem_usage": [dice.randrange(400 * MIB) for _ in range(rows)],
        "mem_usage@max": [dice.randrange(400 * MIB) for _ in range(rows)],
        "mem_working": [dice.randrange(300 * MIB) for _ in range(rows)],
        "mem_limit": list(limits),
        "cpu_total": [dice.randrange(400) for _ in range(rows)],
        "cpu_time@last": list(cpu_times),
        "net_rx": [dice.randrange(2**40) for _ in range(rows)],
    }
    for name in list(metrics):
        roll = dice.random()
        if roll < 0.3:
            del metrics[name]
        elif roll < 0.5:
            metrics[name] = [None if dice.random() < 0.3 else value for value in metrics[name]]
        elif roll < 0.6:
            metrics[name] = [0] * rows
    return StatSeries([START + index * SECOND + dice.randrange(SECOND) for index in range(rows)], metrics)


def both_forms(series: StatSeries, duration_ns: int | None) -> CallUsage:
    """The usage of a series, which must be that of its blob."""
    usage = usage_of(series, duration_ns)
    assert usage_of(series.to_json(digits=9), duration_ns) == usage
    assert usage == slow_usage(series, duration_ns)
    return usage


def test_default_reductions_change_nothing_that_is_kept() -> None:
    """Reduced three times by KEEP_PEAKS, 300 calls tell the same values, and exact ones stay exact."""
    dice = random.Random("usage")
    seen: set[str] = set()
    for _ in range(300):
        series = random_call(dice)
        duration = dice.choice((None, 0, 5 * SECOND, 500 * SECOND))
        before = both_forms(series, duration)
        kept = [name for name in KEPT if name != "duration_ns" or duration is not None]
        for max_samples in (60, 12, 1):
            series = decimate(series, max_samples, how=KEEP_PEAKS)
            after = both_forms(series, duration)
            assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
            assert before.exact.intersection(kept) <= after.exact
            assert "rows" not in after.exact
        seen |= before.exact
    assert seen == {*KEPT, "cpu_mean", "peak_ceiling"} - {"memory_metric"}


def test_any_reductions_follow_the_rules() -> None:
    """The values and their marks are those of plain Python, whatever a reduction kept."""
    dice = random.Random("rules")
    hows: list[Any] = ["mean", "max", ("mean", "max"), ("mean", "min"), ("mean", "min", "max", "first", "last"), KEEP_PEAKS]
    for _ in range(100):
        series = random_call(dice)
        for _ in range(2):
            series = decimate(series, dice.choice((1, 7, 100)), how=dice.choice(hows))
            both_forms(series, dice.choice((None, SECOND)))


def test_lost_peaks_never_change_the_metric() -> None:
    """A working set that was reduced to means is inexact; mem_usage does not take its place."""
    series = StatSeries(
        [k * SECOND for k in range(60)], {"mem_usage": [900 + k for k in range(60)], "mem_working": [k + 1 for k in range(60)]}
    )
    usage = usage_of(decimate(series, 6, how={"mem_usage": ("mean", "max")}))
    assert (usage.memory_metric, "peak_memory" in usage.exact) == ("mem_working", False)
    assert usage.peak_memory is not None
    assert usage.peak_memory < 60


def test_a_peak_without_its_metric() -> None:
    """A series has a metric if it has any peak of it; only min, first and last of reduced rows are inexact."""
    for name, is_exact in (("mem_working@max", True), ("mem_working@min", False), ("mem_working@last", False)):
        usage = usage_of(StatSeries([0, 1], {"mem_usage": [9, 9], name: [5, None]}, counts=[3, 1]))
        assert (usage.memory_metric, usage.peak_memory, "peak_memory" in usage.exact) == ("mem_working", 5, is_exact)


def test_zeros_are_unknown() -> None:
    """No engine measures 0 bytes of memory, and a limit of 0 is no limit."""
    usage = usage_of(StatSeries([0, 1], {"mem_usage": [0, 0], "mem_working": [0, 0], "mem_limit": [0, 0], "cpu_total": [0, 0]}))
    assert (usage.peak_memory, usage.memory_metric, usage.memory_limit, usage.peak_source) == (None, None, None, None)
    assert (usage.cpu_mean, usage.cpu_peak) == (0.0, 0)
    usage = usage_of(StatSeries([0], {"mem_usage": [7], "mem_working": [0]}))
    assert (usage.peak_memory, usage.memory_metric) == (7, "mem_usage")


def test_the_ceiling_is_the_kernels() -> None:
    """A mem_usage@max that a sample had bounds the working set; one that a reduction made does not."""
    series = StatSeries([0, 1, 2], {"mem_working": [5, 8, 6], "mem_usage": [20, 25, 22]})
    assert usage_of(series).peak_ceiling is None
    assert usage_of(decimate(series, 1, how=KEEP_PEAKS)).peak_ceiling is None
    told = StatSeries([0, 1, 2], {"mem_working": [5, 8, 6], "mem_usage": [20, 25, 22], "mem_usage@max": [20, 44, None]})
    assert usage_of(told).peak_ceiling == 44
    assert usage_of(StatSeries([0], {"mem_usage": [20], "mem_usage@max": [44]})).peak_ceiling is None


def test_processor_time() -> None:
    """The time in the last row is exact; with the duration of the columns it gives an exact mean."""
    series = StatSeries([0, SECOND], {"cpu_time@last": [1, SECOND // 2], "cpu_total": [0, 900]})
    usage = usage_of(series, SECOND)
    assert (usage.cpu_time_ns, usage.cpu_mean, usage.cpu_peak) == (SECOND // 2, 50.0, 900)
    assert {"cpu_time_ns", "cpu_mean", "duration_ns"} <= usage.exact
    assert not {"cpu_mean", "duration_ns"} & usage_of(series).exact
    since_first = StatSeries([0, SECOND, 2 * SECOND], {"cpu_time@last": [SECOND // 2, 6 * SECOND // 10, 7 * SECOND // 10]})
    assert usage_of(since_first).cpu_mean == 10.0  # what was used before the first sample took unknown time
    restarted = StatSeries([0, SECOND, 2 * SECOND], {"cpu_time@last": [SECOND // 2, 0, SECOND // 5]})
    assert usage_of(restarted).cpu_mean == 10.0
    recorded = StatSeries([0, SECOND // 100], {"cpu_time@last": [None, SECOND // 2], "cpu_total": [40, 60]})
    assert usage_of(recorded).cpu_mean == 50.0
    assert "cpu_mean" not in usage_of(recorded).exact
    early = StatSeries([0, SECOND], {"cpu_time@last": [7, None], "cpu_total": [0, 900]})
    for x in (early, early.to_json()):
        assert usage_of(x).cpu_time_ns == 7
        assert "cpu_time_ns" not in usage_of(x).exact
    assert usage_of(series, 0).cpu_mean == 450.0


def test_samples_of_rows_without_a_metric_of_their_own() -> None:
    """Samples count rows of every kind, whichever metrics they have."""
    series = StatSeries([0, 1, 2], {"mem_usage": [1, None, None], "x": [None, 2, None], "y": [None, None, 3]}, counts=[2, 3, 5])
    for x in (series, series.to_json()):
        assert (usage_of(x).samples, usage_of(x).rows) == (10, 3)
    only = StatSeries([0, 1], {"x": [1, 2]}, counts=[4, 1])
    assert usage_of(only.to_json()).samples == usage_of(only).samples == 5
    assert usage_of(None) == usage_of(b"") == usage_of(StatSeries([], {})) == CallUsage(exact=frozenset({"samples"}))


def test_right_size_of_the_working_set() -> None:
    """100 calls with 100 MiB of working set need 128 MiB, though mem_usage peaks at 400; reduced ones as well."""
    calls = [
        StatSeries(
            [k * SECOND for k in range(100)],
            {
                "mem_working": [100 * MIB if k == 50 else 20 * MIB + k for k in range(100)],
                "mem_usage": [400 * MIB if k == 70 else 90 * MIB + k for k in range(100)],
            },
        )
        for _ in range(100)
    ]
    for max_samples in (100, 60, 12, 1):
        calls = [decimate(series, max_samples, how=KEEP_PEAKS) for series in calls]
        found = summarize_calls((CallData(series) for series in calls), risk=0.05)
        assert found.rightsize is not None
        assert (found.rightsize.size, found.rightsize.unknown, found.page_cache) == (128 * MIB, 0, 0)
        assert not {"memory", "rightsize"} & found.approximate


def test_blobs_of_every_kind() -> None:
    """Real blobs, the vectors and malformed ones give the usage of their series, or its error."""
    for blob in seeds():
        same_as_decoded(blob)
    for item in zoo():
        if len(item.rows) < 200:
            both_forms(item.series(), None)


@given(grammar())
@example(
    b'[{"timestamp":"2017-11-27T14:52:14Z","metrics":{"x@max":1}},'
    b'{"timestamp":"2017-11-27T14:52:15Z","metrics":{"x":0},"count":2}]'
)
def test_blobs_of_any_kind(blob: bytes) -> None:
    """Whatever is about of the stored form."""
    same_as_decoded(blob.replace(b'"x', b'"mem_usage').replace(b'"y', b'"cpu_time'))


def same_as_decoded(blob: bytes) -> None:
    """A blob gives the usage of its series, or the same error."""
    decoded = outcome(lambda: StatSeries.from_json(blob))
    found = outcome(lambda: usage_of(blob))
    if isinstance(decoded, StatSeries):
        assert found == slow_usage(decoded)
    else:
        assert exact(found) == exact(decoded)


def test_malformed_blobs() -> None:
    """Bytes that are no blob raise an error."""
    with pytest.raises(DecodeError):
        usage_of(b"{")


def test_texts_are_marked() -> None:
    """A value that is not exact has a mark, and an unknown one no text."""
    usage = usage_of(StatSeries([0, SECOND], {"mem_usage": [MIB, 2 * MIB], "mem_limit": [UNLIMITED] * 2}, counts=[1, 2]))
    texts = {name: usage_text(usage, name) for name in ("peak_memory", "memory_limit", "duration_ns", "cpu_mean", "samples")}
    assert texts == {
        "peak_memory": "~2 MiB",
        "memory_limit": "unlimited",
        "duration_ns": "~1 s",
        "cpu_mean": "",
        "samples": "3",
    }


def test_the_kernel_s_peak(backend: str) -> None:
    """A peak that the kernel kept of the whole call stays exact, and is known as such, after every reduction."""
    rows = {"mem_usage": [5, 8, 6, None], "mem_usage@max": [None, 44, None, None], "mem_peak@last": [None, None, None, 44]}
    series = StatSeries([0, 10**9, 2 * 10**9, 3 * 10**9], rows)
    for each in (series, decimate(series, 2, how=KEEP_PEAKS), decimate(series, 1, how=KEEP_PEAKS), decimate(series, 1)):
        for form in (each, each.to_json()):
            usage = usage_of(form)
            assert (usage.peak_memory, usage.peak_source, usage.peak_ceiling) == (44, "kernel", None)
            assert "peak_memory" in usage.exact
    sampled = StatSeries([0], {"mem_usage": [5], "mem_usage@max": [44]})
    assert usage_of(sampled).peak_source == "sampled"


def test_the_kernel_s_peak_bounds_the_working_set(backend: str) -> None:
    """Beside a working set it is the ceiling, which survives every reduction too."""
    rows = {"mem_working": [5, 8, 6], "mem_usage": [20, 25, 22], "mem_peak@last": [None, None, 44]}
    series = StatSeries([0, 1, 2], rows)
    for each in (series, decimate(series, 1, how=KEEP_PEAKS)):
        usage = usage_of(each)
        assert (usage.peak_memory, usage.peak_source, usage.peak_ceiling) == (8, "sampled", 44)
        assert "peak_ceiling" in usage.exact
