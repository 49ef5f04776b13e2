"""How often statistics are right over simulated calls: ``python -m support.simulations`` prints the tables of the docs.

`make simulate` runs all of it; the tests run the same cells with fewer series.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from callstats.stats import leak_trend, rightsize
from callstats.stats.compare import CallSamples, compare_samples
from callstats.stats.proportions import min_calls

MIB = 2**20
MEDIAN = 200 * MIB
Floats = NDArray[np.float64]
KINDS = ("10 % noise", "log-normal", "two values")
PAIRS = ((200, 0.0), (10, 0.8), (20, 0.8), (50, 0.8), (200, 0.5))
"""The number of calls, and the correlation of neighbours, of equal pairs beside those of 50 independent calls."""


class Cell(NamedTuple):
    """The share of simulated series with an outcome, and the share that it must not pass."""

    name: str
    n: int
    noise: float
    share: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.share >= self.bound if self.at_least else self.share <= self.bound


def autoregressive(rng: np.random.Generator, runs: int, n: int, phi: float) -> Floats:
    """Return noise of variance 1 whose neighbours have the correlation phi, a row for each run."""
    noise = rng.normal(size=(runs, n))
    noise[:, 1:] *= (1 - phi * phi) ** 0.5
    for i in range(1, n):
        noise[:, i] += phi * noise[:, i - 1]
    return noise


SHAPES: dict[str, tuple[float, Callable[[Floats], Floats], float, bool]] = {
    # The correlation of neighbours, the level by the share of calls so far, the bound.
    "independent noise": (0.0, np.zeros_like, 0.02, False),
    "AR(1), 0.5": (0.5, np.zeros_like, 0.02, False),
    "AR(1), 0.8": (0.8, np.zeros_like, 0.02, False),
    "AR(1), 0.9": (0.9, np.zeros_like, 0.05, False),
    "linear warm-up by 5 %": (0.0, lambda t: 0.05 * np.minimum(3 * t, 1), 0.03, False),
    "linear warm-up by 50 %": (0.0, lambda t: 0.5 * np.minimum(3 * t, 1), 0.03, False),
    "exponential warm-up by 5 %": (0.0, lambda t: 0.05 * -np.expm1(-10 * t), 0.03, False),
    "exponential warm-up by 50 %": (0.0, lambda t: 0.5 * -np.expm1(-10 * t), 0.03, False),
    "exponential warm-up to fivefold": (0.0, lambda t: 4 * -np.expm1(-10 * t), 0.03, False),
    "leak of 5 %": (0.0, lambda t: 0.05 * t, 0.95, True),
}


def growth_cell(name: str, n: int, noise: float, runs: int) -> Cell:
    """Return how often series of a shape count as growing."""
    phi, shape, bound, at_least = SHAPES[name]
    rng = np.random.default_rng([n, int(noise * 1000), list(SHAPES).index(name)])
    level = 1 + shape(np.arange(n) / n)
    series = MEDIAN * (level + noise * np.median(level) * autoregressive(rng, runs, n, phi))
    growing = sum(bool(leak_trend(np.rint(one).astype(np.uint64)).growing) for one in series)
    return Cell(name, n, noise, growing / runs, bound, at_least)


def growth_cells(runs: int) -> Iterator[Cell]:
    """Yield the table of leak_trend: false alarms, and the power for a leak of 5 % under 1 % noise."""
    for name, (_, _, _, is_leak) in SHAPES.items():
        for n in (200,) if is_leak else (50, 200):
            for noise in (0.01,) if is_leak else (0.001, 0.01, 0.05):
                yield growth_cell(name, n, noise, runs)


# The share of calls that need more than a number of MiB.
NEEDS: dict[str, tuple[Callable[[np.random.Generator, int], Floats], Callable[[float], float]]] = {
    "uniform": (lambda rng, n: rng.uniform(10, 500, n), lambda x: min(max((500 - x) / 490, 0), 1)),
    "exponential": (lambda rng, n: rng.exponential(100, n), lambda x: math.exp(-x / 100)),
    "heavy tail": (lambda rng, n: 50 * (1 + rng.pareto(1.2, n)), lambda x: min((50 / x) ** 1.2, 1)),
    "log-normal": (lambda rng, n: rng.lognormal(5, 1, n), lambda x: math.erfc((math.log(x) - 5) / math.sqrt(2)) / 2),
}


def sizing_cell(name: str, risk: float, runs: int) -> Cell:
    """Return how often no more calls than the risk exceed the right size.

    A fifth of the calls is not sampled, a twentieth has a peak of 0, and calls over their limit are killed before they reach it.
    No call needs more than twice its limit.
    """
    draw, exceeds = NEEDS[name]
    rng = np.random.default_rng([int(risk * 1000), list(NEEDS).index(name)])
    held = 0
    for _ in range(runs):
        n = int(rng.integers(2, 6) * min_calls(risk))
        limit = float(np.quantile(draw(rng, 10_000), rng.uniform(0.97, 0.999)))
        needs = np.minimum(draw(rng, n), 2 * limit)
        killed = needs > limit
        unknown = rng.random(n) < 0.25
        peaks = np.where(killed, limit * rng.uniform(0.5, 1, n), needs)
        found = rightsize(
            np.where(unknown, 0, np.ceil(peaks * MIB)).astype(np.uint64),
            risk=risk,
            step=MIB // 64,
            limits=np.where(unknown & ~killed, 0, np.full(n, math.ceil(limit * MIB), dtype=np.uint64)),
            killed=killed,
        )
        assert found.size is not None
        size = found.size / MIB
        held += size >= 2 * limit or exceeds(size) <= risk
    nominal = 0.95
    return Cell(name, 0, risk, held / runs, nominal - 3 * math.sqrt(nominal * (1 - nominal) / runs), True)


def samples(rng: np.random.Generator, kind: str, n: int, scale: float = 1.0, phi: float = 0.0) -> CallSamples:
    """Return calls whose medians are known up to a scale."""
    noise = autoregressive(rng, 3, n, phi)
    if kind == "10 % noise":
        values = scale * (1 + 0.1 * noise)
    elif kind == "log-normal":
        values = scale * np.exp(noise)
    else:
        values = scale * np.where(noise > 0.1, 3.0, 1.0)
    duration, memory, cpu = np.maximum(values, 0.01) * np.array([[1e9], [2e8], [50]])
    return CallSamples(np.rint(duration).astype(np.int64), np.rint(memory).astype(np.uint64), cpu, rng.random(n) < 0.02)


def equal_cell(kind: str, n: int, runs: int, phi: float = 0.0, bound: float = 0.94) -> Cell:
    """Return how often two equal groups show no difference in any of the four numbers."""
    rng = np.random.default_rng([n, len(kind), int(phi * 10)])
    equal = sum(
        not any(one.differs for one in compare_samples(samples(rng, kind, n, phi=phi), samples(rng, kind, n, phi=phi)))
        for _ in range(runs)
    )
    return Cell(f"equal, {kind}" + (f", AR(1) {phi}" if phi else ""), n, 0, equal / runs, bound, True)


def shift_cell(name: str, runs: int) -> Cell:
    """Return how often a shift of 20 % under 10 % noise is found at n = 50."""
    rng = np.random.default_rng(len(name))
    found = 0
    for _ in range(runs):
        differences = compare_samples(samples(rng, "10 % noise", 50), samples(rng, "10 % noise", 50, 1.2))
        found += bool({one.name: one.differs for one in differences}[name])
    return Cell(f"20 % more {name}, 10 % noise", 50, 0.1, found / runs, 0.95, True)


def main() -> int:
    """Print each table with its bounds, and fail where one does not hold."""
    tables = {
        "| calls | n | noise | growing | bound |": growth_cells(400),
        "| needs | | risk | within the risk | bound |": (sizing_cell(name, risk, 500) for name in NEEDS for risk in (0.05, 0.01)),
        "| pairs | n | | no difference | bound |": (
            equal_cell(kind, n, 2000, phi)
            for kind, n, phi in (*((kind, 50, 0.0) for kind in KINDS), *((KINDS[0], n, phi) for n, phi in PAIRS))
        ),
        "| pairs | n | noise | found | bound |": (shift_cell(name, 500) for name in ("duration_ns", "memory", "cpu")),
    }
    ok = True
    for title, cells in tables.items():
        print(f"\n{title}\n|--|--|--|--|--|")
        for cell in cells:
            word = "at least" if cell.at_least else "at most"
            columns = (cell.name, cell.n or "", f"{cell.noise:.1%}", f"{cell.share:.2%}", f"{word} {cell.bound:.3g}")
            print("|", " | ".join(map(str, columns)), "|", flush=True)
            ok &= cell.holds
    return not ok


if __name__ == "__main__":
    sys.exit(main())
