"""How much memory calls need: `rightsize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from callstats._types import U64_MAX, AnyArray
from callstats.errors import CallstatsError
from callstats.stats.proportions import CONFIDENCE, UNLIMITED, least_calls, most_allowed, upper_bound

MIB = 2**20
NO_LIMIT = 0
"""Stands for a limit that isn't known; a container engine reports it of a container that is gone."""

Whole: TypeAlias = "Sequence[int] | AnyArray"


@dataclass(frozen=True, slots=True, kw_only=True)
class RightSize:
    """What size of memory calls need.

    Attributes
    ----------
    risk : float
        The share of calls that may go over.
    step : int
        Sizes are multiples of so many bytes.
    calls : int
        Calls whose peak is known.
    needed : int
        The least number of calls that an answer for this risk needs.
    size : int or None
        The least size whose risk is within the one asked for, with 95 % confidence; None where there is no answer.
    over : int or None
        How many of the calls would have gone over `size`.
    bound : float or None
        The share of calls that go over it is at most this, with 95 % confidence.
    limit : int or None
        The mean limit of the calls that have one, in bytes.
    saved : float or None
        What part of the memory held under those limits the size saves, weighed by how long each call held it; negative where it
        takes more. None without such limits.
    reason : str or None
        Why there is no answer.
    """

    risk: float
    step: int
    calls: int
    needed: int
    size: int | None = None
    over: int | None = None
    bound: float | None = None
    limit: int | None = None
    saved: float | None = None
    reason: str | None = None


def rightsize(
    peaks: Whole,
    *,
    risk: float = 0.001,
    step: int = 64 * MIB,
    limits: Whole | None = None,
    killed: Whole | None = None,
    durations: Whole | None = None,
) -> RightSize:
    """The least memory size over which at most a share `risk` of calls would have gone.

    Parameters
    ----------
    peaks : (n,) int
        The most memory that each call used, in bytes.
    risk : float
        Above 0, below 1.
    step : int
        The size is a multiple of it.
    limits : (n,) int, optional
        The limit that each call ran under; 0 is one that isn't known, and 2**63 - 4096 or more none.
    killed : (n,) bool, optional
        Which calls were killed for memory. Such a call is over at every size below twice its own limit, and at all without one.
    durations : (n,) int, optional
        How long each call ran, in any unit; they weigh what is saved.

    Returns
    -------
    RightSize
        With a reason instead of a size where there are too few calls to tell.

    Raises
    ------
    CallstatsError
        When risk or step is out of range, or the lengths differ.

    Notes
    -----
    The risk behind k calls over of n is at most the one-sided 95 % bound by Clopper and Pearson. The largest k whose bound is
    within the risk depends on n alone, so the size is an order statistic of the needs, and holds in 95 % of cases whatever their
    distribution (Wilks 1941, "Determination of sample sizes for setting tolerance limits").

    Examples
    --------
    >>> rightsize(range(0, 100 * 2**20, 2**20), risk=0.05, step=2**20).size // 2**20
    98
    >>> rightsize([5, 6], risk=0.01).reason
    'not enough calls: 2 of the 299 that a risk of 1 % needs'
    """
    if not 0 < risk < 1:
        raise CallstatsError(f"a risk must be above 0 and below 1, got {risk!r}")
    if step < 1:
        raise CallstatsError(f"a step must be 1 or more bytes, got {step!r}")
    n = len(peaks)
    for name, given in (("limits", limits), ("killed", killed), ("durations", durations)):
        if given is not None and len(given) != n:
            raise CallstatsError(f"{name} must have a value for each of the {n} peaks, got {len(given)}")
    needs = np.array(peaks, dtype=np.uint64)
    caps = np.zeros(n, dtype=np.uint64) if limits is None else np.asarray(limits, dtype=np.uint64)
    limited = (caps != NO_LIMIT) & (caps < UNLIMITED)
    if killed is not None:
        over = np.asarray(killed, dtype=np.bool_)
        twice = np.where(limited, caps * np.uint64(2), np.uint64(U64_MAX))
        needs = np.where(over, np.maximum(needs, twice), needs)
    allowed, needed = most_allowed(n, risk), least_calls(risk)
    answer = RightSize(risk=risk, step=step, calls=n, needed=needed)
    if n < needed:
        return replace(answer, reason=f"not enough calls: {n:,} of the {needed:,} that a risk of {100 * risk:g} % needs")
    place = n - 1 - allowed
    need = int(np.partition(needs, place)[place])
    if need == U64_MAX:
        return replace(answer, reason="too many calls were killed whose limit is not known")
    size = max(-(-need // step), 1) * step
    over_size = int(np.count_nonzero(needs > np.uint64(min(size, U64_MAX))))
    held, spans = caps[limited].tolist(), [1] * int(np.count_nonzero(limited))
    if durations is not None:
        spans = np.asarray(durations)[limited].tolist()
        spans = spans if any(spans) else [1] * len(spans)
    under_limits = sum(cap * span for cap, span in zip(held, spans, strict=True))
    return replace(
        answer,
        size=size,
        over=over_size,
        bound=upper_bound(over_size, n, CONFIDENCE),
        limit=sum(held) // len(held) if held else None,
        saved=1 - size * sum(spans) / under_limits if held else None,
    )
