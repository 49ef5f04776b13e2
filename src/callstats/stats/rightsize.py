"""How much memory and CPU calls need: `rightsize` and `cpu_request`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from callstats._types import U64_MAX, AnyArray, Block
from callstats.errors import ArgumentError
from callstats.stats.proportions import UNLIMITED, max_exceedances, min_calls, upper_bound

MIB = 2**20
CPU_RISK = 0.05
"""The share of calls that may use more CPU than they request: it slows them down, but kills none."""
UNKNOWN = 0
"""Stands for an unknown peak or limit: a container engine reports 0 for a container that is gone."""

Integers: TypeAlias = "Sequence[int] | AnyArray"


@dataclass(frozen=True, slots=True, kw_only=True)
class RightSize:
    """The memory or CPU that calls need."""

    risk: float
    step: int
    calls: int
    """Calls with a known need."""
    unknown: int = 0
    """The other calls, which are left out."""
    killed: int = 0
    """Calls that were killed for memory: they need more than they had."""
    assumed: int = 0
    """Of these, calls for which `size` is enough only if they need no more than twice their limit, which nobody knows."""
    needed: int
    """The min number of calls for this risk."""
    size: int | None = None
    """The smallest size whose risk is within `risk` with 95 % confidence, in bytes or thousandths of a core; None where there is
    no answer."""
    over: int | None = None
    """The calls that would have exceeded `size`."""
    bound: float | None = None
    """An upper bound of their share with 95 % confidence: that of the most calls that may exceed a size within the risk."""
    limit: int | None = None
    """The mean limit of the calls that have one, in bytes."""
    saved: float | None = None
    """The share that `size` saves of the memory reserved by those limits, weighted by duration; negative where it takes more.
    None without such limits."""
    reason: str | None = None
    """Why there is no answer."""


def rightsize(
    peaks: Integers,
    *,
    risk: float = 0.001,
    step: int = 64 * MIB,
    limits: Integers | None = None,
    killed: Integers | None = None,
    durations: Integers | None = None,
) -> RightSize:
    """Return the smallest memory size that at most a share `risk` of calls exceeds; a reason where the calls are too few.

    Parameters
    ----------
    peaks : (n,) int
        The peak memory of each call, in bytes; 0 is unknown. Calls with an unknown peak are left out and counted, unless they
        were killed.
    risk : float
        Above 0 and below 1.
    step : int
        The size is a multiple of this many bytes.
    limits : (n,) int, optional
        The limit of each call in bytes; 0 is unknown, and 2**63 - 4096 or more unlimited.
    killed : (n,) bool, optional
        Calls that were killed for memory. Such a call counts as one that needs twice its limit; without a known limit it
        exceeds any size.
    durations : (n,) int, optional
        The duration of each call in any unit, as weights for `RightSize.saved`.

    Notes
    -----
    With k of n calls over a size, its risk is at most the one-sided 95 % bound of Clopper and Pearson (1934). The largest k whose
    bound is within `risk` depends on n alone. So the size is an order statistic of the needs, and holds in 95 % of cases for any
    distribution. The method is that of Wilks (1941), "Determination of sample sizes for setting tolerance limits", Annals of
    Mathematical Statistics 12.

    Examples
    --------
    >>> rightsize(range(2**20, 101 * 2**20, 2**20), risk=0.05, step=2**20).size // 2**20
    99
    >>> rightsize([5, 6], risk=0.01).reason
    'not enough calls whose memory is known: 2 of the 299 that a risk of 1 % needs'
    """
    needs: Block = np.array(peaks, dtype=np.uint64)
    for name, values in (("limits", limits), ("killed", killed), ("durations", durations)):
        if values is not None and len(values) != len(needs):
            raise ArgumentError(name, f"as many as the {len(needs)} peaks", len(values))
    caps: Block = np.zeros(len(needs), dtype=np.uint64) if limits is None else np.asarray(limits, dtype=np.uint64)
    weights = np.ones(len(needs), dtype=np.int64) if durations is None else np.asarray(durations)
    limited = (caps != UNKNOWN) & (caps < UNLIMITED)
    known = needs != UNKNOWN
    dead = np.zeros(len(needs), dtype=np.bool_) if killed is None else np.asarray(killed, dtype=np.bool_)
    if dead.any():
        twice = np.where(limited, caps * np.uint64(2), np.uint64(U64_MAX))
        needs = np.where(dead, np.maximum(needs, twice), needs)
        known |= dead
    result = replace(_size_for(needs[known], "memory", risk, step), unknown=int(np.sum(~known)), killed=int(np.sum(dead)))
    if result.size is None:
        return result
    assumed = int(np.sum(dead[known] & (needs[known] <= np.uint64(min(result.size, U64_MAX - 1)))))
    limit, saved = _savings(result.size, caps[known & limited].tolist(), weights[known & limited].tolist())
    return replace(result, assumed=assumed, limit=limit, saved=saved)


def cpu_request(percents: Sequence[float] | AnyArray, *, risk: float = CPU_RISK, step: int = 10) -> RightSize:
    """Return the smallest CPU request that at most a share `risk` of calls exceeds on average, as `rightsize` does.

    Parameters
    ----------
    percents : (n,) float
        The mean CPU of each call, in percent of one core.
    risk : float
        Above 0 and below 1.
    step : int
        The request is a multiple of this many thousandths of a core.

    Examples
    --------
    >>> cpu_request([20.0] * 50 + [120.0] * 50).size
    1200
    """
    thousandths = np.minimum(np.ceil(np.asarray(percents, dtype=np.float64) * 10), 2.0**63)  # any stored number may stand there
    return _size_for(thousandths.astype(np.uint64), "CPU", risk, step)


def _size_for(needs: Block, what: str, risk: float, step: int) -> RightSize:
    """Return the size that at most a share `risk` of needs exceeds."""
    if not isinstance(risk, (int, float, np.floating)) or not 0 < risk < 1:
        raise ArgumentError("risk", "above 0 and below 1", risk)
    if not isinstance(step, (int, np.integer)) or step < 1:
        raise ArgumentError("step", "1 or more", step)
    n, needed = len(needs), min_calls(risk)
    result = RightSize(risk=risk, step=step, calls=n, needed=needed)
    if n < needed:
        few = f"{n:,} of the {needed:,} that a risk of {100 * risk:g} % needs"
        return replace(result, reason=f"not enough calls whose {what} is known: {few}")
    allowed = max_exceedances(n, risk)
    index = n - 1 - allowed
    need = int(np.partition(needs, index)[index])
    if need == U64_MAX:
        return replace(result, reason="too many calls exceed every size, as killed calls without a known limit do")
    size = -(-max(need, 1) // step) * step
    over = int(np.count_nonzero(needs > np.uint64(min(size, U64_MAX))))
    return replace(result, size=size, over=over, bound=upper_bound(allowed, n))


def _savings(size: int, limits: list[int], weights: list[int]) -> tuple[int | None, float | None]:
    """Return the mean limit, and the weighted share of the limits that a size saves."""
    if not limits:
        return None, None
    weights = weights if any(weights) else [1] * len(limits)
    reserved = sum(limit * weight for limit, weight in zip(limits, weights, strict=True))
    return sum(limits) // len(limits), 1 - size * sum(weights) / reserved
