"""Shares and their intervals."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from callstats import Bernoulli, CallstatsError, StatSeries, bernoulli, decimate
from callstats.stats.proportions import UNLIMITED, binomial_cdf, max_exceedances, min_calls, upper_bound, wilson
from support.zoo import EDGES, SECOND, Item, zoo

ZOO = [item for item in zoo() if len(item.rows) < 200]


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_shares_of_the_zoo(item: Item) -> None:
    """Rows are counted as Python's integers compare, by the row's peak where it has one, with the metric or without."""
    series = item.series()
    for metric in ("x", "mem_usage"):
        high, low = (
            [metrics.get(peak, metrics.get(metric, -1)) for _, metrics, _ in item.rows if metrics.keys() & {metric, peak}]
            for peak in (f"{metric}@max", f"{metric}@min")
        )
        for threshold in (*EDGES, 0.5, 2.0**53, 1e30, -3, -0.5, Fraction(1, 3)):
            over = bernoulli(series, metric, at_least=threshold)
            under = bernoulli(series, metric, at_most=threshold)
            assert (over.k, over.n) == (sum(value >= threshold for value in high), len(high))
            assert (under.k, under.n) == (sum(value <= threshold for value in low), len(low))


def test_shares_of_another_metric() -> None:
    """Each row has its own threshold, exact for any value, over rows with both; no limit is never reached."""
    dice = random.Random("shares")
    values = [dice.choice(EDGES) for _ in range(300)] + [9, 8, 10**6, 2**64 - 1, None]
    limits = [dice.choice(EDGES) for _ in range(300)] + [10, 10, None, UNLIMITED, 5]
    series = StatSeries(range(305), {"x": values, "limit": limits})
    for share in (0.9, 0, 1, Fraction(1, 3), 0.123456789):
        exact = Fraction(str(share))
        pairs = [(v, q) for v, q in zip(values, limits, strict=True) if v is not None and q is not None]
        over = bernoulli(series, "x", at_least=(share, "limit"))
        under = bernoulli(series, "x", at_most=(share, "limit"))
        assert (over.k, over.n) == (sum(v >= exact * q and q < UNLIMITED for v, q in pairs), len(pairs))
        assert under.k == sum(v <= exact * q or q >= UNLIMITED for v, q in pairs)


def test_peaks_survive_reduction() -> None:
    """A row whose peak reached the threshold counts, though its mean did not."""
    series = StatSeries([SECOND * i for i in range(100)], {"mem_usage": [10] * 99 + [95]})
    assert bernoulli(decimate(series, 10, how=("mean", "max")), "mem_usage", at_least=90).k == 1
    assert bernoulli(decimate(series, 10), "mem_usage", at_least=90).k == 0


def test_nothing_to_count() -> None:
    """Without rows there is no share and no interval."""
    nothing = Bernoulli(0, 0, None, None, None)
    assert bernoulli(StatSeries([], {}), "x", at_least=1) == nothing
    assert bernoulli(StatSeries([1], {"x": [1]}), "y", at_most=1) == nothing
    assert bernoulli(StatSeries([1], {"x": [1]}), "x", at_least=(0.9, "y")) == nothing


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), True, "9", None, (1.1, "y"), (-0.1, "y"), ("a", "y")])
def test_wrong_thresholds(threshold: object) -> None:
    """What is no number, or no share, is refused."""
    with pytest.raises(CallstatsError, match="must be"):
        bernoulli(StatSeries([1], {"x": [1], "y": [1]}), "x", at_least=threshold)  # type: ignore[arg-type]


def test_one_threshold() -> None:
    """Exactly one side is asked for, of a series."""
    with pytest.raises(CallstatsError, match="exactly where at_least is not, got 2: give at_least or at_most"):
        bernoulli(StatSeries([], {}), "x", at_least=1, at_most=2)
    with pytest.raises(TypeError, match="x must be a StatSeries or a StatBatch, got list"):
        bernoulli([], "x", at_least=1)  # type: ignore[arg-type]
    assert bernoulli(StatSeries([1], {"x": [5]}), "x", at_least=np.uint64(5)).k == 1


def test_wilson_against_statsmodels() -> None:
    """The interval is the field's own, with its ends exact."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    dice = random.Random("wilson")
    for n in (1, 2, 10, 100, 10**6):
        for k in {0, n, n // 2, dice.randrange(n + 1), dice.randrange(n + 1)}:
            found = wilson(k, n)
            low, high = proportion.proportion_confint(k, n, method="wilson")
            assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
            assert 0 <= found.low <= found.p <= found.high <= 1
            assert (found.low == 0) == (k == 0)
            assert (found.high == 1) == (k == n)


def test_binomial_against_fractions() -> None:
    """The chance of k or fewer is that of exact fractions."""
    for n in (1, 2, 7, 60, 300):
        for p in (Fraction(1, 1000), Fraction(1, 10), Fraction(1, 2), Fraction(9, 10)):
            total = Fraction(0)
            for k in range(n):
                total += comb(n, k) * p**k * (1 - p) ** (n - k)
                assert binomial_cdf(k, n, float(p)) == pytest.approx(float(total), rel=1e-10, abs=1e-300)
    assert [binomial_cdf(-1, 5, 0.1), binomial_cdf(5, 5, 0.1), binomial_cdf(2, 5, 0.0), binomial_cdf(2, 5, 1.0)] == [
        0,
        1,
        1,
        0,
    ]


def test_bounds_against_scipy() -> None:
    """The upper bound is the beta distribution's quantile, and the most that a risk allows follows from it."""
    stats = pytest.importorskip("scipy.stats")
    dice = random.Random("bounds")
    for n in (1, 2, 60, 3000, 100_000, 10**7):
        for k in {0, 1, n // 1000, n // 3, dice.randrange(n)}:
            if k < n:
                assert upper_bound(k, n) == pytest.approx(stats.beta.ppf(0.95, k + 1, n - k), rel=1e-8)
        for risk in (0.5, 0.1, 0.01, 0.001):
            most = max_exceedances(n, risk)
            if most >= 0:
                assert stats.beta.ppf(0.95, most + 1, n - most) <= risk
            assert stats.beta.ppf(0.95, most + 2, n - most - 1) > risk if most + 1 < n else risk >= 1
    assert upper_bound(5, 5) == 1.0


@pytest.mark.parametrize(("risk", "calls"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_how_many_calls_a_risk_needs(risk: float, calls: int) -> None:
    """The known sizes of samples: of 59 without one, at most 5 % are."""
    assert min_calls(risk) == calls
    assert max_exceedances(calls, risk) == 0
    assert max_exceedances(calls - 1, risk) == -1
