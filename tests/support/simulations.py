"""How often statistics are right over simulated calls: ``python -m support.simulations`` prints the tables of the docs.

`make simulate` runs all of it; the tests run the same cells with fewer series.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from callstats.stats import leak_trend

MIB = 2**20
MEDIAN = 200 * MIB
Floats = NDArray[np.float64]


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


def main() -> int:
    """Print each table with its bounds, and fail where one does not hold."""
    ok = True
    print("| calls | n | noise | growing | bound |\n|--|--|--|--|--|")
    for cell in growth_cells(400):
        word = "at least" if cell.at_least else "at most"
        print(f"| {cell.name} | {cell.n} | {cell.noise:.1%} | {cell.share:.2%} | {word} {cell.bound:.0%} |", flush=True)
        ok &= cell.holds
    return not ok


if __name__ == "__main__":
    sys.exit(main())
