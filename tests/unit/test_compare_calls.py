"""Whether two groups of calls differ."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from callstats import StatSeries
from callstats.stats import CallData, compare_calls
from callstats.stats.compare import CallSamples, compare_samples
from support.simulations import KINDS, equal_cell, shift_cell

SECOND = 10**9


def only_memory(values: list[int], failures: list[int] | None = None) -> CallSamples:
    failed = np.array(failures or [0] * len(values), dtype=bool)
    return CallSamples(np.zeros(0, dtype=np.int64), np.array(values, dtype=np.uint64), np.zeros(0), failed)


def test_what_is_compared() -> None:
    """Durations, known peaks, mean CPU and failures, whatever the order of the calls."""
    calls = [
        CallData(
            StatSeries([0, SECOND], {"mem_usage": [k, k + 1], "cpu_total": [k, k]}),
            "killed" if k % 4 else None,
            k * 7 % 41,
            5 * k,
        )
        for k in range(1, 41)
    ]
    calls += [CallData(StatSeries([0], {"mem_usage": [0]}), "success", 0, None)]
    duration, memory, cpu, failures = compare_calls(calls, reversed(calls))
    assert [one.name for one in (duration, memory, cpu, failures)] == ["duration_ns", "memory", "cpu", "failures"]
    assert (duration.calls_a, duration.a, duration.b, duration.difference) == (41, 100.0, 100.0, 0.0)
    assert (memory.calls_a, memory.a, cpu.a) == (40, 21.5, 20.5)
    assert (failures.calls_b, failures.a) == (41, 30 / 41)
    assert [(one.exact_a, one.exact_b) for one in (duration, memory, cpu, failures)] == [(False, False)] + [(True, True)] * 3
    assert not any(one.differs for one in (duration, memory, cpu, failures))
    for one in (duration, memory, cpu, failures):
        assert {type(value) for value in asdict(one).values()} == {str, int, float, bool}


def test_the_interval_and_p_agree() -> None:
    """A difference is one where the interval excludes 0, at the level of its step of Holm's procedure."""
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(60):
        a, b = (
            CallSamples(
                *(rng.integers(100, 120, (2, 40)) + int(rng.integers(0, 6))), rng.normal(5, 1, 40), rng.random(40) < rng.random()
            )
            for _ in range(2)
        )
        found = [one for one in compare_samples(a, b) if one.differs is not None]
        n = len(found)
        assert {one.differs for one in found} == {one.low > 0 or one.high < 0 for one in found}
        ordered = sorted(found, key=lambda one: one.p)
        kept = sum(one.differs for one in found)
        levels = [round(0.05 / (1 - one.confidence)) for one in ordered]
        assert levels == [*range(n, n - kept, -1), *[n - kept] * (n - kept)]
        assert [one.differs for one in ordered] == [True] * kept + [False] * (n - kept)
        assert all((one.p <= 0.05) == one.differs and one.low <= one.difference <= one.high for one in found)
        seen.add((n, kept))
    assert len(seen) > 2


def test_against_resampling() -> None:
    """The interval is that of medians of real resamples."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 1000, 41), rng.integers(0, 1000, 61)
    found = compare_samples(only_memory(a.tolist()), only_memory(b.tolist()))[1]
    draws = np.median(rng.choice(b, (20_000, 61)), axis=1) - np.median(rng.choice(a, (20_000, 41)), axis=1)
    assert found.confidence is not None
    low, high = np.quantile(draws, [(1 - found.confidence) / 2, (1 + found.confidence) / 2])
    assert (found.low, found.high) == (pytest.approx(low, abs=60), pytest.approx(high, abs=60))


def test_ties_and_constants() -> None:
    """Equal constants don't differ, others do; two values that flip the median show no difference."""
    [_, same, *_] = compare_samples(only_memory([7] * 30), only_memory([7] * 30))
    [_, other, *_] = compare_samples(only_memory([7] * 30), only_memory([8] * 30))
    assert (same.differs, same.low, same.high) == (False, 0, 0)
    assert (other.differs, other.low, other.high) == (True, 1, 1)
    flips = [1, 9] * 22 + [1] * 6, [1, 9] * 22 + [9] * 6
    [_, found, *_] = compare_samples(only_memory(flips[0]), only_memory(flips[1]))
    assert (found.a, found.b, found.differs) == (1, 9, False)


def test_failures() -> None:
    """Shares are compared by Newcombe's interval."""
    a, b = [1] * 56 + [0] * 14, [1] * 48 + [0] * 32
    rng = np.random.default_rng(1)
    rng.shuffle(a)
    rng.shuffle(b)
    found = compare_samples(only_memory([1] * 70, a), only_memory([1] * 80, b))[3]
    # His example has 56 of 70 and 48 of 80: 0.0524 to 0.3339 with 95 %; fewer effective calls or another level widen it.
    assert found.difference == pytest.approx(-0.2)
    assert found.low is not None
    assert found.high is not None
    assert -0.40 < found.low <= -0.3338
    assert -0.0525 <= found.high < 0.0


def test_too_few() -> None:
    """Below ten calls of either group there is no answer."""
    for one in compare_samples(only_memory([1] * 9), only_memory([2] * 50)):
        assert (one.differs, one.difference, one.p, one.confidence) == (None, None, None, None)


def test_calls_that_depend_on_each_other() -> None:
    """They count as fewer, and below ten independent ones there is no answer, unless the groups are far apart."""
    # The correlation of 0 to 19 in order with the one before is 0.85, which stands for (20 x 0.85 + 1) / 16 > 1.
    [_, slow, *_] = compare_samples(only_memory([*range(1000, 1020)]), only_memory([990] * 20))
    assert (slow.differs, slow.effective_a, slow.effective_b) == (None, 0.0, 20.0)
    [_, steps, *_] = compare_samples(only_memory([1] * 30 + [2] * 30), only_memory([3] * 60))
    assert steps.differs is None
    [_, quick, *_] = compare_samples(only_memory([1, 2] * 10), only_memory([7] * 20))
    assert (quick.differs, quick.effective_a) == (True, 20.0)


@pytest.mark.parametrize(("n", "differs"), [(9, None), (10, True), (22, True)])
def test_groups_far_apart(n: int, differs: bool | None) -> None:
    """From ten calls on, a gap wider than both ranges together is a difference, whatever the calls are worth."""
    low, high = [*range(n)], [*range(3 * n - 2, 4 * n - 2)]
    [_, found, *_] = compare_samples(only_memory(low), only_memory(high))
    assert (found.differs, found.difference) == (differs, 3 * n - 2 if differs else None)
    if found.low is not None and found.high is not None:
        assert 2 * n - 1 <= found.low < found.difference < found.high <= 4 * n - 3
    [_, closer, *_] = compare_samples(only_memory(low), only_memory([value - 1 for value in high]))
    assert closer.differs is None


@pytest.mark.parametrize("n", [10, 20, 50])
def test_strong_dependence(n: int) -> None:
    """Few calls whose neighbours have a correlation of 0.8 seldom differ falsely."""
    cell = equal_cell(KINDS[0], n, 100, 0.8)
    assert cell.holds, cell


@pytest.mark.parametrize("kind", KINDS)
def test_equal_groups(kind: str) -> None:
    """The fast form of the documented table: 100 pairs a cell."""
    for n in (20, 50):
        cell = equal_cell(kind, n, 100)
        assert cell.holds, cell


@pytest.mark.parametrize("name", ["duration_ns", "memory", "cpu"])
def test_a_shift_is_found(name: str) -> None:
    """A shift of 20 % under 10 % noise shows at n = 50."""
    cell = shift_cell(name, 40)
    assert cell.holds, cell


def test_calls_without_a_status() -> None:
    """Whether they failed is not known, and so not whether their failures differ."""
    known, unknown = ([CallData(StatSeries([0], {"mem_usage": [5]}), status)] * 20 for status in ("success", None))
    for a, b in ((known, unknown), (unknown, known), (unknown, unknown)):
        failures = compare_calls(a, b)[3]
        assert (failures.name, failures.differs, {failures.a, failures.b} - {0.0}) == ("failures", None, {None})
