"""Whether a value grows from call to call."""

from __future__ import annotations

import random
import sys
from fractions import Fraction
from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from callstats import StatSeries
from callstats.stats import CallData, LeakTrend, leak_trend, summarize_calls


def sign(x: int) -> int:
    return (x > 0) - (x < 0)


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1), min_size=2, max_size=40))
@example([0, 2**64 - 1024, 2**64 - 1023])
@example([2**64 - 2, 2**64 - 1])
def test_every_pair(values: list[int]) -> None:
    """S is the sum of the signs of all pairs, and the slope the median of their slopes."""
    found = leak_trend(values)
    pairs = list(combinations(enumerate(values), 2))
    assert found.s == sum(sign(b - a) for (_, a), (_, b) in pairs)
    slope = float(median(Fraction(b - a, j - i) for (i, a), (j, b) in pairs))
    assert found.slope == pytest.approx(slope, rel=1e-9, abs=max(values) * 1e-15)
    assert (found.growing is None) == (len(values) < 20)


def test_against_scipy() -> None:
    """S and slope are those of Kendall's tau and of Theil and Sen; p is that of the normal distribution, with ties."""
    dice = random.Random("trend")
    for n in (20, 50, 333, 500):
        for most in (3, 50, 2**33):
            values = [i * most // (4 * n) + dice.randrange(most) for i in range(n)]
            found = leak_trend(values)
            tau = stats.kendalltau(np.arange(n), values)
            pairs = n * (n - 1) / 2
            ties = [count for count in np.unique(values, return_counts=True)[1].tolist() if count > 1]
            assert found.s == round(tau.statistic * (pairs * (pairs - sum(t * (t - 1) / 2 for t in ties))) ** 0.5)
            variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
            z = (found.s - sign(found.s)) / variance**0.5
            assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)
            assert found.slope == pytest.approx(stats.theilslopes(values).slope, rel=1e-9)
            assert found.growing == (found.p < 0.01 and found.slope > 0)


def test_too_few() -> None:
    """Below 20 calls there is no telling, and of fewer than two no figure."""
    assert leak_trend([]) == LeakTrend(n=0, s=0, p=None, slope=None, growing=None)
    assert leak_trend([7]) == LeakTrend(n=1, s=0, p=None, slope=None, growing=None)
    assert leak_trend(range(19)).growing is None
    assert leak_trend(range(20)).growing is True
    assert leak_trend(range(20, 0, -1)).growing is False


def test_all_equal() -> None:
    """What never changes doesn't grow, and divides by no 0."""
    assert leak_trend([5] * 30) == LeakTrend(n=30, s=0, p=None, slope=0.0, growing=False)


def test_few_false_alarms() -> None:
    """Without a trend, growth is seen in about 1 of 200 cases (half of those with p < 0.01)."""
    dice = np.random.default_rng(6)
    alarms = sum(bool(leak_trend(dice.integers(0, 2**30, 40)).growing) for _ in range(2000))
    assert alarms <= 20


def test_a_small_leak_among_many_calls() -> None:
    """A leak far below the scatter is seen over many calls, and its slope is that of calls spread among them."""
    dice = np.random.default_rng(7)
    values = dice.integers(0, 10**6, 20_000) + 20 * np.arange(20_000)
    found = leak_trend(values)
    assert found.growing
    assert found.slope == pytest.approx(20, rel=0.2)


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named with its extra, and a summary does without."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r'^callstats\.stats\.leak_trend needs scipy: pip install "callstats\[stats\]"$'):
        leak_trend(range(30))
    calls = [CallData(StatSeries([0], {"mem_usage": [i]})) for i in range(30)]
    assert summarize_calls(calls).trend is None
