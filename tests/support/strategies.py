"""Hypothesis strategies: random series as plain rows, and the fields of random rules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.reference import TIME_MAX, TIME_MIN, UINT64_MAX, Row
from support.zoo import EDGES, EPOCH, SECOND

NAMES = ("x", "y", "x@max", "x@min", "x@first", "x@last", "y@max", "x@max@max", "x@sum", "@max", "", "mem_usage", "é<")
REDUCERS = ("mean", "min", "max", "first", "last", "sum")
PEAKS = ("min", "max", "first", "last")

values = st.sampled_from(EDGES) | st.integers(0, UINT64_MAX) | st.integers(0, 100)
steps = st.sampled_from((0, 0, 1, 2, SECOND, SECOND, 7 * SECOND + 1, 590 * SECOND, 2**61)) | st.integers(0, 100)
starts = st.sampled_from((0, EPOCH, -EPOCH, TIME_MIN, TIME_MAX - 100 * SECOND, -3))


@st.composite
def rows(draw: st.DrawFn, most: int = 40) -> list[Row]:
    """A series of at most so many rows, in order of time."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True))
    time = draw(starts)
    counted = draw(st.booleans())
    out: list[Row] = []
    for _ in range(draw(st.integers(0, most))):
        metrics = {name: draw(values) for name in names if draw(st.integers(0, 3))}
        out.append((time, metrics, draw(st.integers(1, 5) | st.integers(1, 2**63 // (most + 1))) if counted else 1))
        time = min(time + draw(steps), TIME_MAX)
    return out


one_how = st.sampled_from(REDUCERS) | st.lists(st.sampled_from(PEAKS), unique=True, max_size=4).flatmap(
    lambda peaks: st.sampled_from([first for first in REDUCERS if first not in peaks]).map(lambda first: (first, *peaks))
)
how = one_how | st.dictionaries(st.sampled_from((*NAMES, "*")), one_how, max_size=4)


def rules(limits: st.SearchStrategy[Any] = st.none() | st.integers(-1, 12)) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a rule without a byte budget."""
    return st.fixed_dictionaries({"max_samples": limits, "how": how, "missing": st.sampled_from(("skip", "zero"))})
