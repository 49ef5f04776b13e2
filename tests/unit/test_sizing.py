"""Right-sizing: exact on what was seen, honest about what will be."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import numpy as np
import pytest

from callstats import CallstatsError
from callstats.stats import cpu_request, rightsize
from callstats.stats.proportions import upper_bound
from support.simulations import NEEDS, sizing_cell

MIB = 2**20
UNLIMITED = 9223372036854771712


bound_of = cache(upper_bound)  # trying every size asks for few bounds again and again


def slow_size(needs: list[float], risk: float, step: int) -> int | None:
    """The least size by trying every one upward."""
    for size in range(step, int(max(needs, default=0)) + 2 * step, step):
        if bound_of(sum(need > size for need in needs), len(needs)) <= risk:
            return size
    return None


def test_the_least_size_that_holds() -> None:
    """It is what trying every size upward finds."""
    dice = random.Random("sizes")
    for n in (60, 100, 300, 1000):
        for risk in (0.05, 0.1, 0.5):
            for step in (1, 7, 64):
                peaks = [dice.randrange(1, 500) for _ in range(n)]
                limits = [dice.choice((0, 200, 400, 600, UNLIMITED, 2**64 - 1)) for _ in range(n)]
                killed = [dice.random() < 0.03 for _ in range(n)]
                needs: list[float] = [
                    peak if not dead else max(peak, 2 * limit) if 0 < limit < UNLIMITED else math.inf
                    for peak, limit, dead in zip(peaks, limits, killed, strict=True)
                ]
                found = rightsize(peaks, risk=risk, step=step, limits=limits, killed=killed)
                finite = [need for need in needs if need != math.inf]
                want = slow_size([min(need, max(finite) + 10 * step) for need in needs], risk, step)
                if found.size is None:
                    assert "killed" in (found.reason or "")
                else:
                    assert found.size == want
                    assert found.over == sum(need > found.size for need in needs)
                    assert found.bound == max(bound_of(k, n) for k in range(n) if bound_of(k, n) <= risk)
                    assert found.assumed == sum(dead and need <= found.size for need, dead in zip(needs, killed, strict=True))
                    assert found.bound <= risk


def test_killed_calls_by_the_rule() -> None:
    """A killed call is over at every size up to its limit, and above unless the size is at least twice that."""
    peaks = [50] * 59
    for limit, want in ((100, 200), (130, 260), (64, 128)):
        killed = [False] * 58 + [True]
        found = rightsize(peaks, risk=0.05, step=10, limits=[limit] * 59, killed=killed)
        assert found.size == -(-want // 10) * 10
        assert (found.over, found.assumed) == (0, 1)
    for limit in (0, UNLIMITED, 2**64 - 1):
        found = rightsize(peaks, risk=0.05, limits=[limit] * 59, killed=killed)
        assert (found.size, found.reason) == (None, "too many calls exceed every size, as killed calls without a known limit do")


def test_not_enough_calls() -> None:
    """No guess is made from too few."""
    for n in (0, 1, 58):
        found = rightsize([5] * n, risk=0.05)
        assert found.size is None
        assert found.reason == f"not enough calls whose memory is known: {n} of the 59 that a risk of 5 % needs"
    assert rightsize([5] * 59, risk=0.05, step=64).size == 64
    assert (
        rightsize([5] * 2994, risk=0.001).reason
        == "not enough calls whose memory is known: 2,994 of the 2,995 that a risk of 0.1 % needs"
    )


def test_what_it_saves() -> None:
    """The share of the memory held under limits, weighed by time; calls without a limit are left out."""
    peaks = [100] * 100
    assert rightsize(peaks, risk=0.05, step=50).saved is None
    assert rightsize(peaks, risk=0.05, step=50, limits=[0, UNLIMITED] * 50).saved is None
    halves = rightsize(peaks, risk=0.05, step=50, limits=[400, 200] * 50)
    assert (halves.size, halves.limit, halves.saved) == (100, 300, pytest.approx(1 - 100 / 300))
    timed = rightsize(peaks, risk=0.05, step=50, limits=[400, 200] * 50, durations=[3, 1] * 50)
    assert timed.saved == pytest.approx(1 - 100 * 4 / (400 * 3 + 200))
    more = rightsize(peaks, risk=0.05, step=50, limits=[50] * 100, durations=[0] * 100)
    assert more.saved == -1.0


def test_unknown_and_huge() -> None:
    """Peaks of 0 are unknown: left out, and counted; values near 2**64 don't wrap."""
    found = rightsize([0] * 100, risk=0.05, step=64)
    assert (found.size, found.calls, found.unknown) == (None, 0, 100)
    found = rightsize([0] * 100 + [1] * 60, risk=0.05, step=64, limits=[5] * 100 + [256] * 60)
    assert (found.size, found.calls, found.unknown, found.limit, found.saved) == (64, 60, 100, 256, 0.75)
    assert rightsize([2**64 - 2] * 100, risk=0.05, step=64).size == 2**64


@pytest.mark.parametrize("risk", [0, 1, -0.1, 1.5, float("nan"), "5%", None])
def test_wrong_risks(risk: Any) -> None:
    """A risk is above 0 and below 1."""
    with pytest.raises(CallstatsError, match="risk must be above 0 and below 1"):
        rightsize([1], risk=risk)


def test_wrong_lengths_and_steps() -> None:
    """Each call has one of each."""
    with pytest.raises(CallstatsError, match="limits must be as many as the 2 peaks, got 1"):
        rightsize([1, 2], limits=[1])
    with pytest.raises(CallstatsError, match="step must be 1 or more, got 0"):
        rightsize([1], step=0)
    with pytest.raises(CallstatsError, match="step must be 1 or more, got '64m'"):
        rightsize([1], step="64m")  # type: ignore[arg-type]


def misses(draw: str, n: int, risk: float, step: float, runs: int, seed: int) -> int:
    """In how many runs more calls than the risk would go over the advised size."""
    sample, over = NEEDS[draw]
    rng = np.random.default_rng(seed)
    missed = 0
    for _ in range(runs):
        peaks = np.minimum(np.ceil(sample(rng, n) * MIB), 2.0**60).astype(np.uint64)
        found = rightsize(peaks, risk=risk, step=int(step * MIB))
        assert found.size is not None
        missed += over(found.size / MIB) > risk
    return missed


@pytest.mark.parametrize("draw", NEEDS)
@pytest.mark.parametrize(("n", "risk", "step"), [(59, 0.05, 1 / 64), (400, 0.05, 1 / 64), (1000, 0.01, 1), (3000, 0.001, 64)])
def test_the_advice_is_honest(draw: str, n: int, risk: float, step: float) -> None:
    """Over seeded runs the true share of calls over the advised size stays within the risk in at least 95 %."""
    runs = 400
    # The chance of a miss is at most 5 %; of 400 runs, that makes more than 35 with a chance of 1 in 1,000.
    assert misses(draw, n, risk, step, runs, seed=n) <= 35


@pytest.mark.parametrize("draw", NEEDS)
def test_the_advice_is_honest_with_unknown_calls_and_kills(draw: str) -> None:
    """So it does where calls were not sampled, have a peak of 0 or were killed; the fast form of the documented table."""
    cell = sizing_cell(draw, 0.05, 60)
    assert cell.holds, cell


def test_cpu_requests() -> None:
    """A request of CPU is an order statistic of the calls' means, in hundredths of a core; 0 is a known need."""
    assert cpu_request([0.0] * 59).size == 10
    assert cpu_request([33.3] * 59).size == 340
    assert cpu_request([33.3] * 58).reason == "not enough calls whose CPU is known: 58 of the 59 that a risk of 5 % needs"
    found = cpu_request([10.0] * 95 + [400.0] * 5, risk=0.2, step=1)
    assert (found.size, found.over) == (100, 5)
    assert cpu_request([10.0] * 95 + [400.0] * 5).size == 4000
