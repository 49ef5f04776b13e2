"""Many calls together, against the same by plain Python."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from statistics import median_low

import pytest
from hypothesis import given

from callstats import KEEP_PEAKS, Bernoulli, Rule, StatBatch, StatSeries, decimate, kernels, summarize
from callstats.stats import CallData, Percentiles, leak_trend, rightsize, summarize_calls, usage_of
from callstats.stats.call import _kernel_layout
from callstats.stats.calls import CallScalars
from callstats.stats.format import finding_text, memory_limit_text, summary_texts, waste_text
from callstats.stats.proportions import wilson
from support.blobs import grammar, seeds
from support.parity import exact, outcome
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
        status = dice.choice(("success", "success", "error", "timeout", "killed", "cancelled", None))
        calls.append(CallData(series, status, start if dice.random() < 0.5 else None, i * 10**6 if dice.random() < 0.7 else None))
    return calls


@pytest.mark.parametrize("n", [0, 1, 2, 50, 400])
def test_every_figure(n: int) -> None:
    """All figures are those of plain Python over the summaries of each call."""
    calls = random_calls(n, f"calls-{n}")
    found = summarize_calls(calls, risk=0.05, step=MIB)
    each = [summarize(call.series) for call in calls]
    assert (found.calls, found.killed) == (n, sum(call.status == "killed" for call in calls))
    assert found.errors == sum(call.status in ("error", "timeout", "killed", "cancelled") for call in calls)
    assert found.sampled == sum(len(call.series) > 0 for call in calls)

    rows = []
    for call, metrics in zip(calls, each, strict=True):
        usage = usage_of(call.series, call.duration_ns)
        first = int(call.series.timestamps[0]) if len(call.series) else 0
        time = first if call.time_ns is None else call.time_ns
        rows.append((time, usage, metrics.get(usage.memory_metric or ""), call.status == "killed"))
    known = [row for row in rows if row[1].peak_memory is not None]
    usages = [row[1] for row in rows]
    assert found.memory == spread([usage.peak_memory for _, usage, *_ in known])
    assert found.page_cache == sum(usage.memory_metric == "mem_usage" for usage in usages)
    assert found.growth == spread([memory.growth for *_, memory, _ in known if memory.growth is not None])
    limited = [(usage, dead) for _, usage, _, dead in rows if usage.memory_limit and (dead or usage.peak_memory)]
    near = [
        dead or (usage.memory_limit < UNLIMITED and usage.peak_memory >= Fraction(9, 10) * usage.memory_limit)
        for usage, dead in limited
    ]
    unused = [
        (0 if dead else usage.memory_limit - usage.peak_memory, usage.duration_ns)
        for usage, dead in limited
        if usage.memory_limit < UNLIMITED
    ]
    spans = [(max(room, 0), span) for room, span in unused if span is not None]
    assert found.headroom == min((room for room, _ in unused), default=None)
    assert found.waste == (sum(room * span for room, span in spans) // 10**9 if spans else None)
    assert found.near == wilson(sum(near), len(near))
    limits = [(time, index, usage.memory_limit) for index, (time, usage, *_) in enumerate(rows) if usage.memory_limit]
    latest = max(limits, default=(0, 0, None))[2]
    assert found.limit == latest
    assert found.is_unlimited == (latest is not None and latest >= UNLIMITED)
    in_order = sorted(known, key=lambda row: row[0])
    assert found.trend == leak_trend([memory.min for *_, memory, _ in in_order if memory.min])
    assert found.rightsize == rightsize(
        [usage.peak_memory or 0 for usage in usages],
        risk=0.05,
        step=MIB,
        limits=[usage.memory_limit or 0 for usage in usages],
        killed=[row[3] for row in rows],
        durations=[usage.duration_ns or 0 for usage in usages],
    )
    assert found.duration_ns == spread([usage.duration_ns for usage in usages if usage.duration_ns is not None])
    assert found.cpu == spread([usage.cpu_mean for usage in usages if usage.cpu_mean is not None])
    assert found.cpu_peak == spread([usage.cpu_peak for usage in usages if usage.cpu_peak is not None])
    weighed = [(Fraction(usage.cpu_mean), usage.duration_ns or 1) for usage in usages if usage.cpu_mean is not None]
    if weighed:
        mean = float(sum(share * span for share, span in weighed) / sum(span for _, span in weighed))
        assert found.cpu_mean == pytest.approx(mean, rel=1e-12)
    else:
        assert found.cpu_mean is None
    for name in COUNTERS:
        risen = [metrics[name].increase for metrics in each if name in metrics]
        assert found.increases[name] == (sum(risen) if risen else None)
        assert found.increase[name] == spread([min(value, 2**64 - 1) for value in risen])
        assert (name in found.approximate) == any(
            not metrics[name].exact or metrics[name].first for metrics in each if name in metrics
        )
    for name, field in (("memory", "peak_memory"), ("cpu", "cpu_mean"), ("cpu_peak", "cpu_peak"), ("duration_ns", "duration_ns")):
        inexact = [usage for usage in usages if getattr(usage, field) is not None and field not in usage.exact]
        assert (name in found.approximate) == bool(inexact)


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


def test_unlimited() -> None:
    """Both ways of no limit are unlimited, without headroom and never near."""
    for limit in (UNLIMITED, 2**64 - 1):
        found = summarize_calls([CallData(StatSeries([0], {"mem_usage": [2**62], "mem_limit": [limit]}))])
        assert (found.is_unlimited, found.headroom, found.near.k, found.near.n) == (True, None, 0, 1)


def test_calls_too_short_for_a_sample() -> None:
    """They are counted, and their time if it is known."""
    found = summarize_calls([CallData(StatSeries([], {}), "success", 5, 10), CallData(StatSeries([], {}))])
    assert (found.calls, found.sampled, found.duration_ns.max, found.memory.n) == (2, 0, 10, 0)
    assert not found.approximate


def test_no_processor_use() -> None:
    """Zeros throughout have the mean 0."""
    found = summarize_calls([CallData(StatSeries([0, 1], {"cpu_total": [0, 0]}))] * 3)
    assert (found.cpu_mean, found.cpu.p95, found.cpu_peak.max) == (0.0, 0.0, 0)


def test_page_cache() -> None:
    """A container's mem_usage includes the page cache. That of a recorded process, which has no network counters, does not."""
    container = {"mem_usage": [5, 7], "net_rx": [1, 2], "cpu_time@last": [1, 2]}
    process = {"mem_usage": [5, 7], "cpu_time@last": [1, 2]}
    plain = {"mem_usage": [5, 7], "disk_read": [1, 2]}
    unknown = {"mem_usage": [5, 7]}
    for metrics, page_cache in ((container, 1), (process, 0), (plain, 0), (unknown, 1)):
        assert summarize_calls([CallData(StatSeries([0, SECOND], metrics))]).page_cache == page_cache


def test_lost_peaks_are_inexact() -> None:
    """A working set without its peaks is inexact, and mem_usage with them does not take its place."""
    series = StatSeries([k * SECOND for k in range(60)], {"mem_usage": [900 + k for k in range(60)], "mem_working": range(60)})
    whole = summarize_calls([CallData(series)])
    kept = summarize_calls([CallData(decimate(series, 6, how=("mean", "max")))])
    lost = summarize_calls([CallData(decimate(series, 6, how={"mem_usage": ("mean", "max")}))])
    assert [(found.memory.max, found.page_cache) for found in (whole, kept)] == [(59, 0), (59, 0)]
    assert not {"memory", "rightsize"} & (whole.approximate | kept.approximate)
    assert lost.memory.max is not None
    assert lost.memory.max < 59
    assert (lost.page_cache, "memory" in lost.approximate, "rightsize" in lost.approximate) == (0, True, True)


def test_unknown_memory_is_not_zero_bytes() -> None:
    """Calls with a mem_usage of 0 count as calls, and not as small ones; killed ones still need more than their limit."""
    small = [CallData(StatSeries([0], {"mem_usage": [100 * MIB], "mem_limit": [MIB * 400]}), "success")] * 60
    zero = [CallData(StatSeries([0], {"mem_usage": [0], "mem_limit": [MIB * 400]}))] * 40
    found = summarize_calls([*small, *zero, CallData(StatSeries([], {}))], risk=0.05)
    assert (found.calls, found.sampled, found.memory.n, found.memory.p50, found.near.n) == (101, 100, 60, 100 * MIB, 60)
    assert found.rightsize is not None
    assert (found.rightsize.size, found.rightsize.calls, found.rightsize.unknown) == (128 * MIB, 60, 41)
    texts = dict(summary_texts(found))
    size = "128 MiB: 0 of 60 calls would have exceeded it, at most 4.87 % with 95 % confidence; "
    assert texts["right size"] == size + "saves 68 % of limits of 400 MiB on average"
    seen = "peaks sampled; a shorter peak would not be seen"
    assert texts["covers"] == f"100 of 101 calls sampled, 41 without known memory left out, 0 killed; {seen}"
    blind = CallData(StatSeries([0], {"mem_usage": [0], "mem_limit": [MIB * 400]}), "killed")
    sized = summarize_calls([*small, *[blind] * 60], risk=0.5).rightsize
    assert sized is not None
    assert (sized.size, sized.unknown, sized.killed, sized.assumed) == (832 * MIB, 0, 60, 60)


@pytest.mark.parametrize(("limit", "finding"), [(300 * MIB, "fits"), (0, "no limit"), (UNLIMITED, "no limit")])
def test_only_a_limit_fits(limit: int, finding: str) -> None:
    """Calls that have none are told so; with too few calls nothing is found."""
    calls = [CallData(StatSeries([0], {"mem_usage": [250 * MIB], "mem_limit": [limit]}), "success")] * 60
    assert finding_text(summarize_calls(calls, risk=0.05)) == finding
    assert finding_text(summarize_calls(calls[:9], risk=0.05)) == "too few calls"


def test_distances_to_limits_are_as_sure_as_peaks() -> None:
    """Where the kernel kept each peak nothing came nearer; samples may have missed what did."""
    metrics = {"mem_usage": [5 * MIB], "mem_limit": [9 * MIB], "cpu_time@last": [1]}
    for more, tail in (({"mem_peak@last": [6 * MIB]}, ""), ({}, ", as far as samples tell")):
        texts = dict(summary_texts(summarize_calls([CallData(StatSeries([0], metrics | more))])))
        assert texts["limit"].endswith(f"came nearer to its limit than {3 if more else 4} MiB{tail}")
        assert texts["near limit"].endswith(f" to 79.3 %){tail}")


def test_calls_without_a_status() -> None:
    """It is not known which failed or were killed, and so not whether the limit fits; an empty status is none."""
    series = StatSeries([0], {"mem_usage": [250 * MIB], "mem_limit": [300 * MIB]})
    for status in (None, ""):
        found = summarize_calls([CallData(series, status)] * 60, risk=0.05)
        assert (found.errors, found.killed, finding_text(found)) == (None, None, "")
        assert "60 of 60 calls sampled; how they ended is not known; " in dict(summary_texts(found))["covers"]
    some = summarize_calls([CallData(series)] * 60 + [CallData(series, "killed")])
    assert (some.errors, some.killed) == (1, 1)
    assert (summarize_calls([]).errors, summarize_calls([]).killed) == (0, 0)


def test_killed_calls_are_not_told_as_enough() -> None:
    """A size above twice the limit of a killed call rests on what nobody knows; unsampled killed calls are not left out."""
    calls = [CallData(StatSeries([0], {"mem_usage": [100 * MIB], "mem_limit": [99 * MIB]}), duration_ns=-SECOND)] * 99
    dead = CallData(StatSeries([0], {"mem_usage": [0], "mem_limit": [99 * MIB]}), "killed", duration_ns=SECOND)
    texts = dict(summary_texts(summarize_calls([*calls, dead, CallData(StatSeries([], {}))], risk=0.05)))
    assert texts["right size"].startswith("128 MiB: 1 of 100 calls would have exceeded it, at most 4.66 % with 95 % confidence; ")
    assert texts["covers"].startswith(
        "100 of 101 calls sampled, 1 without known memory left out, 1 killed, 1 of them without known memory; "
    )
    texts = dict(summary_texts(summarize_calls([*calls, *[dead] * 9], risk=0.05)))
    assert texts["covers"].startswith(
        "108 of 108 calls sampled, 9 killed, 9 of them without known memory; "
        "9 killed are taken to need twice the limit, and may need more; "
    )
    assert texts["limit"] == "99 MiB of the latest call; a call was 1 MiB over its limit"
    assert texts["waste"] == "0 GiB h reserved and not needed"
    assert texts["right size"].endswith("costs 159 % more than limits of 99 MiB on average")


def test_figures_that_leave_calls_out_add_up() -> None:
    """Of killed calls those over the size, of a trend the calls whose peak alone is known; a size for a leak does not last."""
    calls = [CallData(StatSeries([0], {"mem_usage": [(100 + k) * MIB], "mem_limit": [300 * MIB + 512]})) for k in range(200)]
    dead = [CallData(StatSeries([0], {"mem_usage": [MIB], "mem_limit": [limit]}), "killed") for limit in (150 * MIB, 2**40)]
    texts = dict(summary_texts(summarize_calls([*calls, *dead], risk=0.05)))
    assert (
        "; 1 of 2 killed is taken to need twice the limit, and may need more; the other 1 would have exceeded it; "
        in (texts["covers"])
    )
    texts = dict(summary_texts(summarize_calls(calls, risk=0.05)))
    assert texts["growing"].startswith("yes, by 1 MiB")
    assert texts["right size"].endswith("; memory grows from call to call, so no size suits it for long")
    assert texts["limit"] == "300 MiB of the latest call; no call came nearer to its limit than 1 MiB, as far as samples tell"
    peaks = [CallData(StatSeries([0, 1], {"mem_usage": [0, None], "mem_usage@max": [None, MIB]}), "timeout")] * 2
    assert dict(summary_texts(summarize_calls([*calls[:3], *peaks])))["growing"] == (
        "can't tell from 3 calls: needs 40; 2 calls without min memory left out"
    )


@pytest.mark.parametrize("stored", [False, True], ids=["series", "text"])
def test_a_memory_sample_of_0_is_no_measurement(stored: bool) -> None:
    """Beside others it counts neither as min memory nor as a fall; a trend is over the same calls once it is reduced."""
    scalars, rule = CallScalars(), Rule(2, how=KEEP_PEAKS)
    reduced, kept = CallScalars(), CallScalars()
    for k in range(50):
        memory = [(100 + k) * MIB] * 5 + [0] * (k % 7 == 0)
        series = StatSeries([i * SECOND for i in range(len(memory))], {"mem_usage": memory, "cpu_total": [9] * len(memory)})
        low = replace(rule, how={"mem_usage": ("mean", "min", "max")})
        for into, each in ((scalars, series), (reduced, decimate(series, rule)), (kept, decimate(series, low))):
            into.add(each.to_json() if stored else each, time_ns=k)
    found = scalars.summary()
    assert (found.trend.n, found.trend.slope, found.trend.growing, found.growth.max) == (50, MIB, True, 0)
    assert "trend" not in found.approximate
    assert list(scalars.min_memory) == [(100 + k) * MIB for k in range(50)]
    for each in (reduced, kept):
        assert each.min_memory[0] < 100 * MIB == each.min_memory[1] - MIB
        assert (each.summary().trend.n, "trend" in each.summary().approximate) == (50, True)


def test_texts_of_limits_and_waste() -> None:
    """A limit of 0.2g reads as people write sizes, and a waste has two decimals."""
    limits = [128 * MIB, 1536 * MIB, 214_748_364, 1000, 2**63 - 1]
    assert [memory_limit_text(limit) for limit in limits] == ["128 MiB", "1,536 MiB", "204.8 MiB", "1,000 B", "unlimited"]
    hour = 2**30 * 3600
    assert [waste_text(int(hour * share)) for share in (0, 1e-5, 0.0971, 13, 1234.5)] == [
        *("0 GiB h", "<0.01 GiB h", "0.10 GiB h", "13.00 GiB h", "1,234.50 GiB h"),
    ]


def test_calls_of_containers_that_had_gone() -> None:
    """A thousand calls with a usage and a limit of 0 are no calls of 0 bytes: there is no right size, nor CPU of 0 %."""
    gone = [CallData(StatSeries([0], {"mem_usage": [0], "mem_limit": [0], "cpu_total": [0]}))] * 1000
    found = summarize_calls([*gone, *[CallData(StatSeries([0], {"mem_usage": [400 * MIB]}))] * 20], risk=0.05)
    assert found.rightsize is not None
    assert (found.rightsize.size, found.rightsize.calls, found.rightsize.unknown) == (None, 20, 1000)
    assert found.rightsize.reason == "not enough calls whose memory is known: 20 of the 59 that a risk of 5 % needs"
    assert (found.limit, found.headroom, found.waste, found.near.n, found.trend.n) == (None, None, None, 0, 20)
    assert found.cpu_request is not None
    assert (found.cpu.n, found.cpu_mean, found.cpu_request.size, found.cpu_request.unknown) == (0, None, None, 1020)
    idle = [CallData(StatSeries([0], {"mem_usage": [MIB], "cpu_total": [0]}))] * 60
    found = summarize_calls([*idle, CallData(StatSeries([0], {"cpu_total": [0]}))], risk=0.05)
    assert (found.cpu.n, found.cpu_mean) == (61, 0.0)


def test_a_peak_is_compared_with_its_own_limit() -> None:
    """A limit that was lowered since says nothing about older calls."""
    calls = [
        CallData(StatSeries([time], {"mem_usage": [peak], "mem_limit": [limit]}), "success", time, 3 * SECOND)
        for time, peak, limit in ((1, 300, 500), (2, 100, 200), (3, 450, UNLIMITED), (4, 40, 150))
    ]
    found = summarize_calls(calls)
    assert (found.limit, found.headroom, found.waste) == (150, 100, 3 * (200 + 100 + 110))
    killed = summarize_calls([*calls, CallData(StatSeries([5], {"mem_usage": [7], "mem_limit": [150]}), "killed", 5, SECOND)])
    assert (killed.headroom, killed.waste, killed.near.k) == (0, found.waste, 1)


def test_how_peaks_were_seen() -> None:
    """The sentence says that peaks were sampled, and how often; not of peaks that the kernel kept."""
    for step, samples, text in (
        (SECOND, 5, "peaks sampled each second; a shorter peak would not be seen"),
        (SECOND // 4, 5, "peaks sampled each 0.25 s; a shorter peak would not be seen"),
        (SECOND, 1, "peaks sampled; a shorter peak would not be seen"),
    ):
        series = StatSeries([k * step for k in range(samples)], {"mem_usage": [MIB] * samples})
        found = summarize_calls([CallData(series)] * 60, risk=0.05)
        assert f"; {text}" in dict(summary_texts(found))["covers"]
        some = dict(summary_texts(replace(found, kernel_peaks=59)))["covers"]
        assert f"; {text.replace('peaks sampled', 'peaks of 1 call sampled')}" in some
        assert "sampled each" not in dict(summary_texts(replace(found, kernel_peaks=60)))["covers"]
    reduced = decimate(StatSeries([k * SECOND for k in range(600)], {"mem_usage": [MIB] * 600}), 60, how=("mean", "max"))
    assert summarize_calls([CallData(reduced)]).interval_ns == pytest.approx(SECOND, rel=0.01)


def at(*seconds: float, memory: int, **others: int) -> StatSeries:
    """Samples at these times, the first so many of which have memory."""
    used = ({"mem_usage": MIB} if k < memory else {"x": 1} for k in range(len(seconds)))
    return StatSeries.from_samples(
        (int(time * SECOND), {**metrics, **others}) for time, metrics in zip(seconds, used, strict=True)
    )


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [
        ([(at(1, 1.064, memory=1), 1.1)], 1.036),  # from the start to the only sample before the end
        ([(at(1, 1.064, memory=2), 1.1)], 1.036),
        ([(at(1, 2, memory=2), 2)], 1.0),
        ([(at(1, 1.064, memory=1), None)], None),
        ([(at(1, 1.064, memory=2), None)], None),
        ([(at(0.3, memory=1), 0.3)], None),
        ([(at(1, 2, 2.01, memory=2), 2.01)], 1.0),
        ([(at(1, 2, 2.01, memory=3), 2.01)], 1.0),
        ([(at(1, 2, 3, 4, 4.5, memory=4), 4.5)], 1.0),
        ([(at(1, 2, 3, 3.1, memory=3), 3.1), (at(*(k / 100 for k in range(50)), memory=50, **{"mem_peak@last": MIB}), 0.5)], 1.0),
    ],
)
def test_the_sample_at_the_end_is_no_interval(calls: list[tuple[StatSeries, float | None]], seconds: float | None) -> None:
    """The interval is that at which peaks may be missed: of sampled ones alone, and without the sample at the exit."""
    data = [CallData(series, duration_ns=None if span is None else round(span * SECOND)) for series, span in calls]
    assert summarize_calls(data).interval_ns == (None if seconds is None else round(seconds * SECOND))


def test_one_call_is_its_usage() -> None:
    """The summary of a single call tells the numbers of its usage."""
    series = StatSeries(
        [0, 3 * SECOND], {"mem_working": [5, 9], "cpu_total": [10, 33], "cpu_time@last": [1, SECOND], "x": [1, 2]}
    )
    for duration in (None, 3 * SECOND, 7):
        usage, found = usage_of(series, duration), summarize_calls([CallData(series, duration_ns=duration)])
        assert (found.memory.max, found.cpu_mean, found.cpu.p50) == (usage.peak_memory, usage.cpu_mean, usage.cpu_mean)
        assert (found.cpu_peak.max, found.duration_ns.p50) == (usage.cpu_peak, usage.duration_ns)


def test_cpu_by_time() -> None:
    """The mean of several calls weighs them by their durations, however often each was sampled; spans of samples are inexact."""
    long = StatSeries([SECOND, 2 * SECOND], {"cpu_total": [3, 1]})
    short = StatSeries([k * SECOND // 100 for k in range(33)], {"cpu_total": [0] * 33})
    calls = [CallData(long, duration_ns=2_540_000_000), CallData(short, duration_ns=330_000_000)]
    found = summarize_calls(calls)
    assert found.cpu_mean == pytest.approx(2 * 254 / 287, rel=1e-12)
    assert "cpu_mean" not in found.approximate
    spans = summarize_calls([CallData(long), CallData(short)])
    assert spans.cpu_mean == pytest.approx(2 * 100 / 132, rel=1e-12)
    assert "cpu_mean" in spans.approximate
    assert "cpu_mean" not in summarize_calls([CallData(long)]).approximate
    one_sample = [CallData(StatSeries([0], {"cpu_total": [value]})) for value in (10, 40)]
    assert summarize_calls(one_sample).cpu_mean == 25.0


def test_traffic_since_the_start() -> None:
    """A recording counts from its start. Of another call what was there at the first sample is left out, and the rest inexact."""
    written, ends = {"disk_write": [50, 80, 20, 90]}, {"cpu_time@last": [None, None, None, SECOND]}
    times = [k * SECOND for k in range(4)]
    for metrics, increase, is_exact in (
        (written | ends, 170, True),
        (written, 120, False),
        ({"disk_write": [0, 30, 80, 90]}, 90, True),
        ({"disk_write": [50, 50, 50, 50]}, 0, False),
    ):
        series = StatSeries(times, metrics)
        found = summarize_calls([CallData(series)])
        assert found.increases["disk_write"] == found.increase["disk_write"].max == increase
        assert ("disk_write" not in found.approximate) == is_exact
        scalars = CallScalars()
        scalars.add(series.to_json())
        assert scalars.summary().increases == found.increases
        assert dict(summary_texts(found))["disk"] == f"{'' if is_exact else '~'}{increase} B written"
    kept = decimate(StatSeries(times, written | ends), 2, how={"disk_write": ("mean", "first", "last")})
    assert summarize_calls([CallData(kept)]).increases["disk_write"] == 50 + 30 + 20 + 70
    assert summarize_calls([CallData(decimate(kept, 1))]).increases["disk_write"] == 90


def test_a_batch_of_calls_needs_no_copies() -> None:
    """Members of a batch are calls like any other."""
    batch = StatBatch([StatSeries([0], {"mem_usage": [k * MIB]}) for k in range(1, 51)])
    assert summarize_calls(CallData(series) for series in batch).memory.max == 50 * MIB
    assert summarize_calls(CallData(series, time_ns=k) for k, series in enumerate(batch)).trend.growing is True
    assert summarize_calls(CallData(series, time_ns=-k) for k, series in enumerate(batch)).trend.growing is False


def test_eight_bytes_a_call_and_scalar() -> None:
    """A call keeps 13 numbers of 8 bytes and one of 1, however many samples it had."""
    metrics = ("mem_usage", "mem_limit", "cpu_total", *COUNTERS)
    call = CallData(StatSeries([k * SECOND for k in range(60)], {name: range(60) for name in metrics}), "success", 0, 1)
    scalars = CallScalars()
    for _ in range(100):
        scalars.add(*call)
    arrays = [*scalars.increase.values(), *(held for held in vars(scalars).values() if isinstance(held, array))]
    assert [(len(held), held.itemsize) for held in arrays].count((100, 8)) == len(arrays) - 1 == 13
    assert scalars.outcomes.itemsize == 1


# --- stored calls, read and taken in at once -----------------------------------------------------------------------------------


def both_ways(blob: bytes) -> None:
    """A blob taken in as it is stored gives the figures of its decoded series, or its error."""
    texts, series = CallScalars(), CallScalars()
    found = kernels.active.blob_totals(blob, _kernel_layout)
    error = outcome(lambda: texts.add(blob, "killed"))
    decoded = outcome(lambda: StatSeries.from_json(blob))
    if isinstance(decoded, StatSeries):
        assert error == usage_of(decoded)
        series.add(decoded, "killed")
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
    scalars.add(None, "success")
    assert (scalars.calls, scalars.sampled) == (1, 0)
