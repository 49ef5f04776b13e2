"""Many calls together, against the same by plain Python."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from fractions import Fraction
from statistics import median_low

import pytest
from hypothesis import given

from callstats import Bernoulli, StatBatch, StatSeries, decimate, kernels, summarize
from callstats.stats import CallData, Percentiles, leak_trend, rightsize, summarize_calls
from callstats.stats.calls import CallScalars, _layout
from callstats.stats.proportions import wilson
from support.blobs import grammar, seeds
from support.parity import exact, outcome, same
from support.zoo import SECOND, zoo

ZOO = zoo()
MIB = 2**20
UNLIMITED = 9223372036854771712
COUNTERS = ("disk_read", "disk_write", "net_rx", "net_tx")

pytestmark = pytest.mark.usefixtures("backend")


def spread(values: Sequence[int] | Sequence[float]) -> Percentiles:
    """Exact percentiles by sorting."""
    if not values:
        return Percentiles()
    ordered, n = sorted(values), len(values)
    low, high = median_low(ordered), ordered[n // 2]
    middle = (low + high) // 2 if isinstance(low, int) else (low + high) / 2
    p95, p99 = (ordered[math.ceil(Fraction(p * n, 100)) - 1] for p in (95, 99))
    return Percentiles(n=n, p50=middle, p95=p95, p99=p99, max=ordered[-1])


def random_calls(n: int, seed: str) -> list[CallData]:
    """Calls of all kinds: unsampled, reduced, without some metrics, killed, unlimited."""
    dice = random.Random(seed)
    calls = []
    for i in range(n):
        rows = dice.choice((0, 1, 2, 9, 60))
        limit = dice.choice((0, 256 * MIB, 512 * MIB, UNLIMITED, 2**64 - 1))
        metrics: dict[str, object] = {
            "mem_usage": [dice.randrange(300 * MIB) for _ in range(rows)],
            "mem_working": [dice.randrange(200 * MIB) for _ in range(rows)],
            "mem_limit": [limit] * rows,
            "cpu_total": [dice.choice((None, 0, dice.randrange(400))) for _ in range(rows)],
            "net_rx": [dice.randrange(2 ** dice.choice((8, 40, 64))) for _ in range(rows)],
            "disk_write": sorted(dice.randrange(2**40) for _ in range(rows)),
        }
        for name in list(metrics):
            if dice.random() < 0.25:
                del metrics[name]
        start = (1_700_000_000 + dice.randrange(10**6)) * SECOND
        series = StatSeries([start + k * SECOND for k in range(rows)], metrics)
        how = dice.choice(("mean", ("mean", "max"), {"mem_usage": ("mean", "max")}, ("mean", "min", "max", "first", "last")))
        series = decimate(series, dice.choice((240, 7)), how=how)
        status = dice.choice(("success", "success", "error", "timeout", "killed", None))
        calls.append(CallData(series, status, start if dice.random() < 0.5 else None, i * 10**6 if dice.random() < 0.7 else None))
    return calls


@pytest.mark.parametrize("n", [0, 1, 2, 50, 400])
def test_every_figure(n: int) -> None:
    """All figures are those of plain Python over the summaries of each call."""
    calls = random_calls(n, f"calls-{n}")
    found = summarize_calls(calls, risk=0.05, step=MIB)
    each = [summarize(call.series) for call in calls]
    assert (found.calls, found.killed) == (n, sum(call.status == "killed" for call in calls))
    assert found.errors == sum(call.status in ("error", "timeout", "killed") for call in calls)
    assert found.unsampled == sum(not len(call.series) for call in calls)

    held, blind = [], 0
    for call, metrics in zip(calls, each, strict=True):
        usage, working = metrics.get("mem_usage"), metrics.get("mem_working")
        memory = working if working is not None and (working.exact or usage is None) else usage
        first = int(call.series.timestamps[0]) if len(call.series) else 0
        last = int(call.series.timestamps[-1]) if len(call.series) else 0
        if memory is None:
            blind += call.status == "killed"
            continue
        limit = metrics["mem_limit"].max if "mem_limit" in metrics else 0
        time = first if call.time_ns is None else call.time_ns
        lasted = last - first if call.duration_ns is None else call.duration_ns
        held.append((time, memory, limit or 0, call.status == "killed", lasted, memory is usage))
    assert found.memory == spread([memory.max for _, memory, *_ in held])
    assert found.page_cache == sum(row[5] for row in held)
    assert found.growth == spread([memory.growth for _, memory, *_ in held if memory.growth is not None])
    near = [dead or (limit < UNLIMITED and memory.max >= Fraction(9, 10) * limit) for _, memory, limit, dead, *_ in held if limit]
    assert found.near == wilson(sum(near), len(near))
    latest = max(((row[0], place, row[2]) for place, row in enumerate(held) if row[2]), default=(0, 0, None))[2]
    assert found.limit == latest
    assert found.is_unlimited == (latest is not None and latest >= UNLIMITED)
    assert found.headroom == (None if latest is None or latest >= UNLIMITED else latest - max(row[1].max for row in held))
    in_order = sorted(held, key=lambda row: row[0])
    assert found.trend == leak_trend([row[1].min for row in in_order])
    assert found.rightsize == rightsize(
        [row[1].max for row in held] + [0] * blind,
        risk=0.05,
        step=MIB,
        limits=[row[2] for row in held] + [0] * blind,
        killed=[row[3] for row in held] + [True] * blind,
        durations=[row[4] for row in held] + [0] * blind,
    )
    spans = [
        int(call.series.timestamps[-1] - call.series.timestamps[0]) if call.duration_ns is None else call.duration_ns
        for call in calls
        if call.duration_ns is not None or len(call.series)
    ]
    assert found.duration_ns == spread(spans)
    used = [(metrics["cpu_total"], call.series) for call, metrics in zip(calls, each, strict=True) if "cpu_total" in metrics]
    assert found.cpu == spread([cpu.mean for cpu, _ in used])
    assert found.cpu_peak == spread([cpu.max for cpu, _ in used])
    pooled = [
        (sample.metrics["cpu_total"], count)
        for _, rows in used
        for sample, count in zip(rows, rows.counts.tolist(), strict=True)
        if "cpu_total" in sample.metrics
    ]
    if pooled:
        assert found.cpu_mean == float(Fraction(sum(v * c for v, c in pooled), sum(c for _, c in pooled)))
    else:
        assert found.cpu_mean is None
    for name in COUNTERS:
        risen = [metrics[name].increase for metrics in each if name in metrics]
        assert found.increases[name] == sum(risen)
        assert found.increase[name] == spread([min(value, 2**64 - 1) for value in risen])
        assert (name in found.approximate) == any(not metrics[name].exact for metrics in each if name in metrics)
    assert ("memory" in found.approximate) == any(not row[1].exact for row in held)


def test_the_zoo_as_calls() -> None:
    """Whatever a series may hold, the figures come without a warning and none is NaN."""
    for item in ZOO:
        series = item.series()
        names = {"x": "mem_usage", "y": "mem_limit", "mem_usage": "mem_working", "x@max": "mem_usage@max"}
        metrics = {names.get(name, name): series[name] for name in series.names}
        call = StatSeries(series.timestamps, metrics, counts=series.counts)
        found = summarize_calls([CallData(call, "killed"), CallData(call)], risk=0.5)
        assert "nan" not in repr(found)
        assert found.calls == 2


def test_nothing_at_all() -> None:
    """Without calls every figure is None or 0."""
    found = summarize_calls([], risk=0.1)
    assert (found.calls, found.memory, found.limit, found.cpu_mean) == (0, Percentiles(), None, None)
    assert found.near == Bernoulli(0, 0, None, None, None)
    assert found.rightsize is not None
    assert found.rightsize.size is None


def test_case_5_unlimited() -> None:
    """Both ways of no limit are unlimited, without headroom and never near."""
    for limit in (UNLIMITED, 2**64 - 1):
        found = summarize_calls([CallData(StatSeries([0], {"mem_usage": [2**62], "mem_limit": [limit]}))])
        assert (found.is_unlimited, found.headroom, found.near.k, found.near.n) == (True, None, 0, 1)


def test_case_11_calls_too_short_for_a_sample() -> None:
    """They are counted, and their time if it is known."""
    found = summarize_calls([CallData(StatSeries([], {}), "success", 5, 10), CallData(StatSeries([], {}))])
    assert (found.calls, found.unsampled, found.duration_ns.max, found.memory.n) == (2, 2, 10, 0)
    assert not found.approximate


def test_case_30_no_processor_use() -> None:
    """Zeros throughout have the mean 0."""
    found = summarize_calls([CallData(StatSeries([0, 1], {"cpu_total": [0, 0]}))] * 3)
    assert (found.cpu_mean, found.cpu.p95, found.cpu_peak.max) == (0.0, 0.0, 0)


def test_working_memory_needs_its_peaks() -> None:
    """A reduced working set without its peaks gives way to mem_usage with them, and that includes the page cache."""
    series = StatSeries([k * SECOND for k in range(60)], {"mem_usage": [900 + k for k in range(60)], "mem_working": range(60)})
    whole = summarize_calls([CallData(series)])
    kept = summarize_calls([CallData(decimate(series, 6, how={"mem_usage": ("mean", "max")}))])
    both = summarize_calls([CallData(decimate(series, 6, how=("mean", "max")))])
    lost = summarize_calls([CallData(decimate(series, 6))])
    assert [(found.memory.max, found.page_cache) for found in (whole, kept, both)] == [(59, 0), (959, 1), (59, 0)]
    assert (lost.page_cache, "memory" in lost.approximate, "rightsize" in lost.approximate) == (1, True, True)
    assert "memory" not in kept.approximate


def test_a_batch_of_calls_needs_no_copies() -> None:
    """Members of a batch are calls like any other."""
    batch = StatBatch([StatSeries([0], {"mem_usage": [k]}) for k in range(30)])
    assert summarize_calls(CallData(series) for series in batch).memory.max == 29
    assert summarize_calls(CallData(series, time_ns=k) for k, series in enumerate(batch)).trend.growing is True
    assert summarize_calls(CallData(series, time_ns=-k) for k, series in enumerate(batch)).trend.growing is False


def test_eight_bytes_a_call_and_scalar() -> None:
    """What stays of a call are 13 numbers of 8 bytes and one of 1, however many samples it had."""
    metrics = ("mem_usage", "mem_limit", "cpu_total", *COUNTERS)
    call = CallData(StatSeries([k * SECOND for k in range(60)], {name: range(60) for name in metrics}), "success", 0, 1)
    scalars = CallScalars()
    for _ in range(100):
        scalars.add(call.series._columns, *call[1:])
    arrays = [*scalars.increase.values(), *(held for held in vars(scalars).values() if isinstance(held, array))]
    assert [(len(held), held.itemsize) for held in arrays].count((100, 8)) == len(arrays) - 1 == 13
    assert scalars.kills.itemsize == 1


# --- stored calls, read and taken in at once -----------------------------------------------------------------------------------


def both_ways(blob: bytes) -> None:
    """A blob taken in as it is stored gives the figures of its decoded series, or its error; in both twins the same words."""
    texts, series = CallScalars(), CallScalars()
    found = same(lambda: kernels.active.text_totals(blob, _layout))
    error = outcome(lambda: texts.add_text(blob, "killed", None, None))
    decoded = outcome(lambda: StatSeries.from_json(blob))
    if isinstance(decoded, StatSeries):
        assert error is None
        series.add(decoded._columns, "killed", None, None)
    else:
        assert found is None
        assert exact(error) == exact(decoded)
    assert texts.summary(risk=0.5) == series.summary(risk=0.5)


RENAMED = {b'"x': b'"mem_usage', b'"y': b'"mem_limit', b'"a"': b'"mem_working"', b'"b': b'"net_rx', b'""': b'"cpu_total"'}


def renamed(blob: bytes) -> bytes:
    """A blob of metrics that calls are asked for."""
    for old, new in RENAMED.items():
        blob = blob.replace(old, new)
    return blob


def test_stored_calls_of_every_kind() -> None:
    """Real blobs, the vectors, and what is wrong with them."""
    for blob in seeds():
        both_ways(blob)
        both_ways(renamed(blob))
        for cut in range(0, len(blob), 37):
            both_ways(blob[:cut])
    for blob in (b"", b"null", b"[]", b" ", b"[]\n", b"[{}]"):
        both_ways(blob)


@given(grammar())
def test_stored_calls_of_any_kind(blob: bytes) -> None:
    """Whatever has about the stored shape."""
    both_ways(blob)
    both_ways(renamed(blob))


def test_the_zoo_as_stored_calls() -> None:
    """Each input of the zoo, with its counts and holes."""
    for item in ZOO:
        both_ways(item.series().to_json(digits=9))
        both_ways(renamed(item.series().to_json(digits=9)))


def test_no_blob_is_no_sample() -> None:
    """A NULL cell is a call without a sample."""
    scalars = CallScalars()
    scalars.add_text(None, "success", None, None)
    assert (scalars.calls, scalars.unsampled) == (1, 1)
