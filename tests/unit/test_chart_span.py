"""The axis of time of a call's charts: from its start to its end, where these are known and all rows lie between them."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import pytest

from callstats import StatSeries
from callstats.plot import ReportCall, figure, png, render, tracks
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")

MS = 10**6
START = 1_511_794_373 * SECOND
SPAN = (START, START + 201 * SECOND // 100)


def sampled(*ms: int) -> StatSeries:
    """A counter and memory, so many milliseconds after the start."""
    n = len(ms)
    return StatSeries([START + at * MS for at in ms], {"mem_usage": range(1, n + 1), "net_rx": range(0, 50 * n, 50)})


def test_seconds_since_the_start() -> None:
    """The first sample is where it was; a rate is that of the samples; nothing is drawn before the one or after the other."""
    memory, received = tracks(sampled(1010, 2000), span=SPAN)
    for track in (memory, received):
        np.testing.assert_allclose(track.seconds, [1.01, 2.0])
        assert track.end == 2.01
    np.testing.assert_allclose(received.values, [np.nan, 50 / 0.99])
    np.testing.assert_array_equal(memory.values, [1, 2])


def test_a_last_sample_at_the_end() -> None:
    """No rounding takes it beyond the axis."""
    for end in range(1100, 3000, 7):
        [track] = tracks(sampled(1010, end), ["mem_usage"], span=(START, START + end * MS))
        assert track.seconds[-1] <= track.end == end / 1000


def test_gaps_are_those_of_the_samples() -> None:
    """A late first sample makes none, and the middle of one is a time since the start."""
    [track] = tracks(
        StatSeries([START + at * SECOND for at in (50, 51, 52, 60)], {"x": [1, 2, 3, 4]}), span=(START, START + 99 * SECOND)
    )
    np.testing.assert_array_equal(track.seconds, [50, 51, 52, 56, 60])
    np.testing.assert_array_equal(track.values, [1, 2, 3, np.nan, 4])


@pytest.mark.parametrize(
    ("start", "end", "seconds", "axis"),
    [
        (0, 1000, [0, 1], 1),
        (1, 1000, [0, 0.999], 0.999),
        (1.000001, 1000, [0, 1], 1),
        (0, 999.999999, [0, 1], 1),
        (-500, 2000, [0.5, 1.5], 2.5),
    ],
    ids=["just so", "floored", "before the start", "after the end", "within"],
)
def test_times_that_contradict_the_samples(start: float, end: float, seconds: list[float], axis: float) -> None:
    """A stored time is floored to the millisecond; what is further outside shows that the span is wrong, and it is not used."""
    span = START + round(start * MS), START + round(end * MS)
    for track in tracks(sampled(0, 1000), span=span):
        np.testing.assert_allclose(track.seconds, seconds)
        assert track.end == pytest.approx(axis)
    drawn = figure(sampled(0, 1000), span=span).layout.xaxis.autorangeoptions
    assert (drawn.minallowed, drawn.maxallowed) == (0, pytest.approx(axis))


def test_without_a_span() -> None:
    """A series lasts from its first row to its last, and one without rows has no track."""
    assert [(track.seconds.tolist(), track.end) for track in tracks(sampled(1010, 2010))] == [([0.0, 1.0], 1.0)] * 2
    assert [track.end for track in tracks(sampled(7))] == [0.0, 0.0]
    assert tracks(StatSeries([], {}), span=SPAN) == []


def test_the_longest_span() -> None:
    """It has more than 64 bits."""
    first, last = -(2**63) + SECOND, 2**63 - 1
    [track] = tracks(StatSeries([0], {"x": [1]}), span=(first, last))
    assert track.seconds == pytest.approx([-first / 1e9])
    assert track.end == pytest.approx((last - first) / 1e9)


def test_images() -> None:
    """A PNG image lasts as long, and a single sample is a dot within it."""
    assert png(sampled(1010), span=SPAN) != png(sampled(1010)) != png(sampled(2000), span=SPAN) != png(sampled(1010), span=SPAN)
    assert png(sampled(1010), span=(START + SECOND * 2, SPAN[1])) == png(sampled(1010))


def test_a_dot_at_the_end_is_whole() -> None:
    """The edge of the plot does not cut it in half, as it would cut a line."""
    from matplotlib.image import imread

    blue = np.array([0x2F, 0x6F, 0xDB]) / 255
    images = [imread(io.BytesIO(png(sampled(at), ["mem_usage"], span=SPAN)))[..., :3] for at in (1500, 2010)]
    middle, end = (int((abs(image - blue) < 0.1).all(axis=2).sum()) for image in images)
    assert middle - end < 15  # of some 50 pixels; the frame hides a line of them
    assert [trace.cliponaxis for n in (2, 3) for trace in figure(sampled(*range(n)), ["mem_usage"]).data] == [False, None]


def call_data(*ms: int, span: tuple[int, int] | None) -> Any:
    """What the page has of a call."""
    page = render([], [ReportCall(name="c", series=sampled(*ms), span=span)])
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])["calls"][0]


def test_the_page() -> None:
    """All charts of a call have one end, in its unit of time; a single sample has a chart where its call lasts."""
    call = call_data(1010, 2000, span=SPAN)
    assert (call["unit"], call["end"]) == ("seconds", float(np.float32(2.01)))
    call = call_data(1010, 2000, span=(START, START + 600 * SECOND))
    assert (call["unit"], call["end"]) == ("minutes", 10)
    for end in range(1100, 2100, 50):
        call = call_data(0, end, span=(START, START + end * MS))
        xs = np.frombuffer(base64.b64decode(call["panels"][0]["traces"][-1]["x"]["bdata"]), "<f4")
        assert call["end"] == float(xs[-1]), "a marker after the end is hidden"
    assert [panel["title"] for panel in call_data(1010, span=SPAN)["panels"]] == ["Memory"]
    assert call_data(1010, span=None)["panels"] == []
