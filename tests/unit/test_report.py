"""Plots without a browser: tracks, the page's data, its size, and figures."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from callstats import StatSeries, decimate
from callstats._units import printable
from callstats.errors import CallstatsError
from callstats.plot import ReportCall, figure, png, render, tracks
from callstats.plot.html.page import packed
from callstats.plot.panels import panels, time_unit, value_text
from callstats.plot.plotly import outline, traces
from callstats.stats import CallColumns, CallData, CallsGroup, summarize_calls
from callstats.stats.call import usage_of
from callstats.stats.calls import ERRORS, OUTCOMES
from callstats.stats.format import FINDINGS
from support.reports import HOSTILE, MIB, series
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def group(name: str, calls: int = 3) -> CallsGroup:
    """A group of calls with peaks of 1, 2, 3 MiB and so on."""
    members = [CallData(series(5, (i + 1) * MIB), "success") for i in range(calls)]
    return CallsGroup(
        name=name,
        summary=summarize_calls(members, risk=0.05),
        calls=columns([(i + 1) * SECOND for i in range(calls)], [(i + 1) * MIB for i in range(calls)]),
    )


def columns(durations: Any, peaks: Any, *, times: Any = 0, limit: int = 256 * MIB, outcomes: Any = 0) -> CallColumns:
    """Numbers of calls."""
    n, most = len(durations), np.uint64(2**64 - 1)
    filled = (np.broadcast_to(np.asarray(values, dtype), n) for values, dtype in ((times, "i8"), (limit, "u8"), (outcomes, "i1")))
    begun, limits, ends = filled
    return CallColumns(begun, np.asarray(durations, "i8"), np.minimum(np.asarray(peaks, "u8"), most), limits, ends)


# --- tracks


def test_gauges() -> None:
    """Values as they are, NaN where absent, once in a gap; memory has its limit, unless that means none."""
    found = StatSeries(
        [i * SECOND for i in (0, 1, 2, 3, 9, 10)], {"mem_usage": [1, 2, None, 4, 5, 6], "mem_limit": [8, 8, 8, 9, 9, 9]}
    )
    [track] = tracks(found)
    np.testing.assert_array_equal(track.seconds, [0, 1, 2, 3, 6, 9, 10])
    np.testing.assert_array_equal(track.values, [1, 2, np.nan, 4, np.nan, 5, 6])
    assert (track.kind, track.limit, track.drawn_limit, track.top) == ("memory", 9.0, 9.0, 6.0)
    [track] = tracks(StatSeries([0], {"mem_usage": [1], "mem_limit": [2**63 - 4096]}))
    assert track.limit is None
    [track] = tracks(StatSeries([0], {"mem_usage": [1], "mem_limit": [5]}))
    assert (track.limit, track.drawn_limit) == (5.0, None)


def test_counters() -> None:
    """The rate at the later of two rows; a reset begins at 0; of equal times the last counts; holes are crossed."""
    found = StatSeries(
        [0, SECOND, SECOND, 3 * SECOND, 4 * SECOND], {"net_rx": [10, 7, 30, 70, 6], "net_tx": [0, None, None, 9, 9]}
    )
    received, sent = tracks(found)
    np.testing.assert_array_equal(received.seconds, [0, 1, 3, 4])
    np.testing.assert_array_equal(received.values, [np.nan, 20, 20, 6])
    np.testing.assert_array_equal(sent.values, [np.nan, np.nan, 3, 0])


def test_bands() -> None:
    """The band is that of the peaks that are kept, a row's own value where it has none."""
    found = StatSeries([0, SECOND], {"cpu_total": [5, 6], "cpu_total@max": [9, None], "cpu_total@min": [None, 2]})
    [track] = tracks(found)
    assert track.low is not None
    assert track.high is not None
    np.testing.assert_array_equal(track.low, [5, 2])
    np.testing.assert_array_equal(track.high, [9, 6])
    assert track.top == 9.0


def test_order_and_choice() -> None:
    """The known metrics come first, the limit is none of its own unless asked for, and a missing one is refused."""
    found = StatSeries([0], {name: [1] for name in ("a", "cpu_total", "mem_limit", "mem_usage", "net_rx", "z@max", "z")})
    assert [track.name for track in tracks(found)] == ["mem_usage", "cpu_total", "net_rx", "a", "z"]
    assert [track.name for track in tracks(found, ["z", "mem_limit"])] == ["z", "mem_limit"]
    with pytest.raises(CallstatsError, match=r"metrics must be among those of the series, got 'y': it has 'a', 'cpu_total'"):
        tracks(found, ["y"])
    with pytest.raises(CallstatsError, match=r"got 'y': it has no samples$"):
        tracks(StatSeries([], {}), ["y"])


@pytest.mark.parametrize("times", [[-(2**63) + 10**9, 2**63 - 1], [0, 2**63 - 1]])
def test_the_longest_spans(times: list[int]) -> None:
    """A span of up to 64 bits is drawn at its length."""
    found = StatSeries(times, {"x": [1, 2**64 - 1]})
    assert tracks(found)[0].seconds[-1] == pytest.approx((times[1] - times[0]) / 1e9)
    assert png(found).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("memory", 1536.4, "1.5 KiB"),
        ("rate", 2**21, "2.1 MB/s"),
        ("percent", 12.34, "12.3 %"),
        ("percent", 12345.6, "12,346 %"),
        ("number", 7, "7"),
        ("number", 0.125, "0.125"),
        ("number", 2.0**64, "1.845e+19"),
    ],
)
def test_values_in_words(kind: Any, value: float, text: str) -> None:
    """Each kind has its unit."""
    assert value_text(kind, value) == text


# --- the page


def test_what_the_page_is_given() -> None:
    """Cells for every column, words, bins with their lines, and the charts of calls by group."""
    page = render([group("resize", 80), group("lone", 1)], [ReportCall(name="c1", series=series(60, 9 * MIB), group="lone")])
    data = data_of(page)
    titles = [title for title, tip in data["columns"] if tip]
    assert len(titles) == len(data["columns"])
    tips = dict(data["columns"])
    assert all(word in tips["finding"].lower() for word in FINDINGS)
    assert set(re.findall(r"\w+", tips["failed"])) >= ERRORS
    assert titles[:5] + titles[-2:] == ["finding", "memory over time", "calls", "failed", "killed", "right size", "waste"]
    assert "smallest memory that at most 5 % of calls exceed, with 95 % confidence. Fewer than 59 calls have none." in str(
        data["columns"]
    )
    assert [len(one["cells"]) + 2 for one in data["groups"]] == [len(titles)] * 2
    resize, lone = data["groups"]
    assert resize["cells"][0] == 80
    assert resize["cells"][-2] == ["128 MiB", 128 * MIB]
    assert lone["cells"][-2] is None
    assert [data["findings"][one["finding"]] for one in (resize, lone)] == ["memory grows", "too few calls"]
    assert resize["count"] == "80 calls: 80 sampled, 0 not"
    words = {data["texts"][title]: data["texts"][text] for title, text in lone["summary"]}
    assert words["right size"] == "not enough calls whose memory is known: 1 of the 59 that a risk of 5 % needs"
    assert words["covers"].startswith("1 of 1 call sampled, 0 killed; ")
    counts, edges, lines = resize["memory"]
    assert (sum(counts[0]), counts[1:], data["texts"][edges[1]]) == (80, [[], []], "16 MiB")
    assert lines == [[16.0, "limit 256 MiB"], [8.0, "right size 128 MiB"]]
    [call] = data["calls"]
    assert (call["group"], call["unit"], call["peak"]) == (1, "seconds", "8.9 MiB")
    assert [panel["title"] for panel in call["panels"]] == ["Memory", "Processor", "Network", "Disk", "queue"]
    words = {data["texts"][title]: data["texts"][text] for title, text in resize["summary"]}
    assert words["growing"] == "yes, by 341.3 KiB from call to call (p < 0.001)"


def test_a_call_of_one_moment() -> None:
    """It has no charts, which would be all but empty, and its values are facts; its duration is that of its columns."""
    found = StatSeries([SECOND], {"mem_usage": [9 * MIB], "cpu_total": [30], "net_rx": [5], "queue": [7]})
    usage = usage_of(found, duration_ns=2_440_000_000)
    [call] = data_of(render([], [ReportCall(name="c1", series=found, usage=usage)]))["calls"]
    assert (call["panels"], call["duration"]) == ([], "2.44 s")
    facts = dict(call["facts"])
    assert (facts["mem_usage"], facts["cpu_total"], facts["queue"], facts["duration"]) == (
        "at least 9 MiB",
        "30 %",
        "7",
        "2.44 s",
    )


def test_a_call_whose_peak_is_between_two_numbers() -> None:
    """Its box has both, as `show` does."""
    found = StatSeries([0, SECOND], {"mem_working": [5, 8], "mem_usage": [20, 25], "mem_usage@max": [20, 44]})
    [call] = data_of(render([], [ReportCall(name="c1", series=found)]))["calls"]
    assert dict(call["facts"])["mem_working"] == "at least 8 B, at most 44 B"


DAY = 86_400 * SECOND
MONDAY = 20_402 * DAY  # 2025-11-10


@pytest.mark.parametrize(
    ("times", "step", "at"),
    [
        ([MONDAY, MONDAY + 60 * SECOND - 1, MONDAY + 7200 * SECOND - 1], "minute", [0, 119]),
        ([MONDAY, MONDAY + 3600 * SECOND - 1, MONDAY + 7200 * SECOND], "hour", [0, 2]),
        ([MONDAY, MONDAY + 3600 * SECOND - 1, MONDAY + DAY], "hour", [0, 24]),
        ([MONDAY, MONDAY + DAY, MONDAY + 3 * DAY - 1], "day", [0, 1, 2]),
        ([MONDAY - 1, MONDAY, MONDAY + 200 * DAY], "week", [0, 1, 29]),
        ([1, MONDAY - 365 * 5 * DAY, MONDAY], "four weeks", [0, 664, 729]),
        ([-(2**63) + 1, 2**63 - 1], "four weeks", [0, 7625]),
    ],
)
def test_steps_of_a_timeline(times: list[int], step: str, at: list[int]) -> None:
    """Days, or hours of two days, minutes of two hours, 120 weeks from Monday, or four of them. Empty steps are left out."""
    numbers = columns([SECOND] * len(times), [MIB] * len(times), times=times)
    [found] = data_of(render([replace(group("x"), calls=numbers)]))["groups"]
    assert (found["timeline"]["step"], found["timeline"]["at"]) == (step, at)
    assert sum(found["timeline"]["counts"][0]) == len(times)


def test_a_timeline() -> None:
    """Each day has its calls by outcome, the p95 of peak memory, the last limit, and the p95 of duration; unknown is NaN."""
    times = [MONDAY] * 20 + [MONDAY + DAY, MONDAY + 2 * DAY, 0]
    peaks, durations = [*range(1, 21), 0, 7, 1], [*range(1, 21), -1, 300, 1]
    numbers = columns(
        [each * SECOND if each >= 0 else -1 for each in durations],
        [each * MIB for each in peaks],
        times=times,
        limit=32 * MIB,
        outcomes=[0] * 18 + [1, 2, 2, 0, 0],
    )
    [found] = data_of(render([replace(group("x"), calls=numbers)]))["groups"]
    days = found["timeline"]
    assert (days["start"] * 10**6, days["ms"], days["at"]) == (MONDAY, 86_400_000, [0, 1, 2])
    assert dict(zip(OUTCOMES, days["counts"], strict=True)) == {"succeeded": [18, 0, 1], "failed": [1, 0, 0], "killed": [1, 1, 0]}
    np.testing.assert_allclose(unpacked(days["peaks"]), [19, np.nan, 7])
    np.testing.assert_allclose(unpacked(days["limits"]), [32, 32, 32])
    np.testing.assert_allclose(unpacked(days["durations"]), [19 / 60, np.nan, 5], rtol=1e-6)
    assert (days["unit"], days["time_unit"]) == ("MiB", "minutes")


def test_no_timeline_without_times() -> None:
    """Calls whose time is unknown are on no day, and calls of one minute make no line."""
    assert data_of(render([group("x")]))["groups"][0]["timeline"] == {}
    minute = columns([SECOND] * 3, [MIB] * 3, times=[MONDAY, MONDAY + 9, MONDAY + 59 * SECOND])
    assert data_of(render([replace(group("x"), calls=minute)]))["groups"][0]["timeline"] == {}


def test_hostile_text_stays_text() -> None:
    """No text ends the script that it is in, and each is given as it reads."""
    groups = [replace(group("x"), name=name) for name in HOSTILE]
    calls = [ReportCall(name=name, series=series(9, MIB, metric=name), group=name, facts={name: name}) for name in HOSTILE]
    page = render(groups, calls, title=HOSTILE[1], by=HOSTILE[0], notes=HOSTILE)
    assert len(re.findall("<script", page)) == 3
    body = page[page.index('id="data">') : page.index("</script>", page.index('id="data">'))]
    assert not set("<>&\u2028\u2029\x00") & set(body.removeprefix('id="data">'))
    data = data_of(page)
    assert [one["name"] for one in data["groups"]] == data["notes"] == [printable(name) for name in HOSTILE]
    assert "<title>&lt;/script&gt;" in page


def test_groups_of_one_name_are_refused() -> None:
    """A call could not tell which one it belongs to."""
    with pytest.raises(CallstatsError, match="groups must be groups with distinct names, got 'a': two groups have it"):
        render([group("a"), group("a")])


def test_nothing_at_all() -> None:
    """A page of nothing is a page."""
    data = data_of(render([]))
    assert (data["groups"], data["calls"]) == ([], [])


def test_size_of_a_large_report() -> None:
    """2,000 groups of 50 calls each, and 50 calls of 240 rows with all that is kept, stay under 10 MB."""
    rng = np.random.default_rng(7)
    one, month = group("x", 60), np.sort(rng.integers(20_000, 20_031, 50)) * 86_400 * SECOND
    groups = [
        replace(
            one,
            name=f"application-{i % 40:02}/some-function-of-a-usual-length-{i:04}",
            calls=columns(rng.integers(10**7, 10**13, 50), rng.integers(MIB, 2**32, 50), times=month),
        )
        for i in range(2000)
    ]
    raw = StatSeries(
        np.arange(2400) * SECOND + rng.integers(0, 10**8, 2400),
        {name: rng.integers(0, 2**32, 2400) for name in ("cpu_total", "cpu_user", "cpu_kernel", "mem_usage", "mem_limit")}
        | {name: np.cumsum(rng.integers(0, 10**7, 2400)) for name in ("disk_read", "disk_write", "net_rx", "net_tx")},
    )
    kept = decimate(raw, 240, how=("mean", "min", "max"))
    calls = [ReportCall(name=f"{i:026}", series=kept, group=groups[i].name, facts={"status": "success"}) for i in range(50)]
    assert len(render(groups, calls).encode()) < 10_000_000


def unpacked(values: dict[str, str]) -> np.ndarray[Any, Any]:
    """Read numbers as Plotly does."""
    return np.frombuffer(base64.b64decode(values["bdata"]), {"f4": "<f4"}[values["dtype"]])


def test_numbers() -> None:
    """Seven digits of a number are drawn, and NaN is no value."""
    values = np.array([1.0, 123456.7, 0.1234567, np.nan, 2.0**64])
    np.testing.assert_allclose(unpacked(packed(values)), values, rtol=1e-7)


def test_a_chart_of_the_page_is_the_figure() -> None:
    """The page's script hands Plotly the traces of the figure, in the page's unit of time."""
    found = decimate(series(900, 100 * MIB, metric="<b>x"), 60, how={"mem_usage": ("mean", "min", "max")})
    [call] = data_of(render([], [ReportCall(name="c", series=found)]))["calls"]
    assert call["unit"] == "minutes"
    assert len(call["panels"]) == len(panels(found))
    for drawn, panel in zip(call["panels"], panels(found), strict=True):
        assert (drawn["title"], drawn["unit"], drawn["limit"]) == (panel.title, panel.unit, panel.limit)
        for trace, want in zip(drawn["traces"], traces(panel, 60.0), strict=True):
            for axis in ("x", "y"):
                np.testing.assert_allclose(unpacked(trace.pop(axis)), want.pop(axis), rtol=1e-6)
            assert trace == want


# --- figures


def test_figure() -> None:
    """A Plotly figure with a panel for each thing, the band, the limit, and open gaps; text as text."""
    found = decimate(series(900, 100 * MIB, metric="<b>x"), 60, how={"mem_usage": ("mean", "min", "max")})
    drawn = figure(found, title="<i>call")
    names = [trace.name for trace in drawn.data]
    assert names == [
        "mem_usage, min to max", "mem_usage, max", "mem_usage", "cpu_total", "net_rx", "disk_write", "&lt;b&gt;x"
    ]  # fmt: skip
    assert drawn.layout.title.text == "&lt;i&gt;call"
    assert [note.text for note in drawn.layout.annotations] == ["Memory", "Processor", "Network", "Disk", "&lt;b&gt;x", "limit"]
    assert drawn.layout.shapes[0].y0 == 256
    assert drawn.layout.yaxis.title.text == "MiB"
    assert len(figure(found, ["cpu_total"]).data) == 1
    assert len(figure(StatSeries([], {})).data) == 0
    gap = StatSeries([0, SECOND, 2 * SECOND, 60 * SECOND], {"x": [1, 2, 3, 4]})
    assert np.isnan(figure(gap).data[0].y[3])


def test_outline() -> None:
    """A band is drawn piece by piece, there above and back below."""
    x, y = outline(np.arange(5.0), np.array([1, 1, np.nan, 3, 3.0]), np.array([2, 2, np.nan, 4, 4.0]))
    np.testing.assert_array_equal(x, [0, 1, 1, 0, np.nan, 3, 4, 4, 3, np.nan])
    np.testing.assert_array_equal(y, [2, 2, 1, 1, np.nan, 4, 4, 3, 3, np.nan])


def test_panels() -> None:
    """Metrics of one thing share a panel and a unit; the unit suits the largest value."""
    found = StatSeries([0, SECOND], {"net_rx": [0, 3 * MIB], "net_tx": [0, 5], "mem_usage": [5, 1000], "x": [1, 2]})
    assert [(panel.title, panel.unit, len(panel.tracks)) for panel in panels(found)] == [
        ("Memory", "B", 1),
        ("Network", "MB/s", 2),
        ("x", "", 1),
    ]


@pytest.mark.parametrize(
    ("seconds", "unit"), [(0, "seconds"), (299, "seconds"), (300, "minutes"), (10_800, "hours"), (259_200, "days")]
)
def test_time_units(seconds: float, unit: str) -> None:
    """An axis of time has the unit that its length asks for."""
    assert time_unit(seconds)[0] == unit
