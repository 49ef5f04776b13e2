"""Whether memory grows from call to call."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import combinations
from statistics import median

import numpy as np
import pytest
import scipy
from hypothesis import example, given
from hypothesis import strategies as st

from callstats.stats import LeakTrend, leak_trend
from callstats.stats.trend import MAX_POINTS
from support.simulations import MEDIAN, MIB, SHAPES, autoregressive, growth_cell


def sign(x: int) -> int:
    return (x > 0) - (x < 0)


def exact_slope(values: list[int]) -> Fraction:
    return Fraction(median(Fraction(b - a, j - i) for (i, a), (j, b) in combinations(enumerate(values), 2)))


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**64 - 1) | st.integers(2**64 - 9, 2**64 - 1), min_size=2, max_size=60))
@example([0, 2**64 - 1024, 2**64 - 1023])
@example([2**64 - 2, 2**64 - 1])
@example([2**64 - 1, 2**64 - 2] * 20)
def test_every_pair(values: list[int]) -> None:
    """S is the sum of the signs of all pairs, and the slope the median of their slopes, at any height."""
    found = leak_trend(values)
    assert found.s == sum(sign(b - a) for a, b in combinations(values, 2))
    slopes = sorted(Fraction(b - a, j - i) for (i, a), (j, b) in combinations(enumerate(values), 2))
    middle = slopes[(len(slopes) - 1) // 2], slopes[len(slopes) // 2]
    assert found.slope == pytest.approx(float(sum(middle) / 2), rel=0, abs=4e-16 * float(max(map(abs, middle))))
    later = values[len(values) // 2 :]
    if len(later) > 1:
        assert found.later_slope == pytest.approx(float(exact_slope(later)), rel=1e-12, abs=1e-12 * max(later))
    assert (found.growing is None) == (len(values) < 40)


def test_random_integers_by_all_pairs() -> None:
    """So it is for hundreds of random integers, with ties and without."""
    dice = random.Random("pairs")
    for n in (40, 99, 256, 400):
        for most in (2, 50, 2**40, 2**64):
            values = [dice.randrange(most) for _ in range(n)]
            found = leak_trend(values)
            assert found.s == sum(sign(b - a) for a, b in combinations(values, 2))
            if n < 100:
                assert found.slope == pytest.approx(float(exact_slope(values)), rel=1e-12)


def test_against_scipy() -> None:
    """S is that of Kendall's tau; without autocorrelation p is that of the normal distribution, with ties."""
    dice = random.Random("trend")
    for n in (20, 50, 333, 5000):
        for most in (3, 50, 2**33):
            values = [i * most // (4 * n) + dice.randrange(most) for i in range(n)]
            found = leak_trend(values)
            tau = scipy.stats.kendalltau(np.arange(n), values)
            pairs = n * (n - 1) / 2
            ties = [count for count in np.unique(values, return_counts=True)[1].tolist() if count > 1]
            assert found.s == round(tau.statistic * (pairs * (pairs - sum(t * (t - 1) / 2 for t in ties))) ** 0.5)
            variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
            z = (found.s - sign(found.s)) / variance**0.5
            assert found.p is not None
            assert abs(scipy.stats.norm.isf(found.p)) <= abs(z) * 1.000001 + 1e-9  # autocorrelation can only bring it nearer to 0
            assert abs(scipy.stats.norm.isf(found.p)) >= abs(z) / 2 - 1e-9
            if n <= MAX_POINTS:
                assert found.slope == pytest.approx(scipy.stats.theilslopes(values).slope, rel=1e-9)


def hamed_and_rao(values: list[int]) -> float:
    """The variance's factor, term by term."""
    n = len(values)
    rest = scipy.stats.rankdata(values) - scipy.stats.theilslopes(scipy.stats.rankdata(values)).slope * np.arange(n)
    ranks = scipy.stats.rankdata(np.round(2 * rest, 6))
    centred = ranks - ranks.mean()
    total = 0.0
    for lag in range(1, n):
        rho = (centred[lag:] * centred[:-lag]).sum() / (centred**2).sum()
        if rho <= 0:
            break
        total += (n - lag) * (n - lag - 1) * (n - lag - 2) * rho
    return float(1 + 2 * total / (n * (n - 1) * (n - 2)))


def test_the_correction() -> None:
    """The variance grows by Hamed and Rao's factor over the lags up to the first that is not positive."""
    rng = np.random.default_rng(3)
    for phi in (0, 0.5, 0.9):
        values = [round(1e9 + 1e7 * x) for x in autoregressive(rng, 1, 150, phi)[0].tolist()]
        found = leak_trend(values)
        deviation = (150 * 149 * 305 / 18 * hamed_and_rao(values)) ** 0.5
        assert found.p == pytest.approx(scipy.stats.norm.sf((found.s - sign(found.s)) / deviation), rel=1e-6)


def test_too_few() -> None:
    """Below 40 calls it can't tell, and of fewer than two there is no number."""
    none = {"p": None, "later_p": None, "last_p": None, "slope": None, "later_slope": None, "growing": None}
    assert leak_trend([]) == LeakTrend(n=0, s=0, **none)
    assert leak_trend([7]) == LeakTrend(n=1, s=0, **none)
    leak = [MEDIAN + call * MIB for call in range(40)]
    assert leak_trend(leak[:39]).growing is None
    assert leak_trend(leak).growing is True
    assert leak_trend(leak[::-1]).growing is False


def test_all_equal() -> None:
    """A constant doesn't grow, and divides by no 0."""
    none = {"p": None, "later_p": None, "last_p": None}
    assert leak_trend([5] * 50) == LeakTrend(n=50, s=0, **none, slope=0.0, later_slope=0.0, growing=False)
    step = leak_trend([5] * 30 + [6] * 30)
    assert (step.later_p, step.later_slope, step.growing) == (None, 0.0, False)


def test_what_is_no_leak() -> None:
    """Noise with memory, a warm-up of a tenth, one page more, and growth below a percent or a MiB are none."""
    noise = autoregressive(np.random.default_rng(39), 1, 200, 0.8)[0]
    assert leak_trend(np.rint(MEDIAN + MIB * noise).astype(np.uint64)).growing is False
    assert leak_trend([50 * MIB + 7 * MIB * min(call, 20) for call in range(200)]).growing is False
    assert leak_trend([MEDIAN + 4096 * (call >= 500) for call in range(1000)]).growing is False
    assert leak_trend([MEDIAN + 4096 * call // 2 for call in range(1000)]).growing is False  # 2 MiB, not 1 %
    assert leak_trend([MIB + 500 * call for call in range(1000)]).growing is False  # 50 %, not 1 MiB
    assert leak_trend([MEDIAN + 20_000 * call for call in range(1000)]).growing is True


def test_large_integers() -> None:
    """Integers that no float can tell apart are counted by their ranks."""
    found = leak_trend([2**60 + call for call in range(30)])
    assert (found.s, found.slope, found.growing) == (435, 1.0, None)
    found = leak_trend([2**64 - 1, 2**64 - 2] * 15)
    assert (found.s, found.growing) == (-15, None)
    assert leak_trend([2**63 + call * 2**55 for call in range(60)]).growing is True


def test_a_small_leak_among_many_calls() -> None:
    """A leak far below the scatter is seen over many calls, and its slope is that of blocks of calls."""
    rng = np.random.default_rng(7)
    values = MEDIAN + rng.integers(0, 100 * MIB, 20_000) + 1000 * np.arange(20_000)
    found = leak_trend(values)
    assert found.growing
    assert found.slope == pytest.approx(1000, rel=0.2)


@pytest.mark.parametrize("name", SHAPES)
def test_false_alarms_and_power(name: str) -> None:
    """The fast form of the documented table: 100 series a cell."""
    leak = SHAPES[name][3]
    for n in (200,) if leak else (50, 200):
        for noise in (0.01,) if leak else (0.001, 0.05):
            cell = growth_cell(name, n, noise, 100)
            assert cell.holds, cell
