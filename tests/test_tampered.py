"""What did not come from us: pickles that were changed, and offsets that lead astray. Refused, before a kernel reads what isn't there."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from callstats import Rule, SeriesError, StatBatch, StatSeries
from callstats.batch import read_buffer
from callstats.reduce import reduce_buffer

SERIES = StatSeries([0, 1, 5], {"x": [1, None, 3], "y": [4, 5, 6]}, counts=[1, 2, 2**62])
BATCH = StatBatch([SERIES, StatSeries([], {}), SERIES])

CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "fewer times": lambda a: a["times"][:-1].copy(),
    "more times": lambda a: np.arange(100),
    "times that go back": lambda a: a["times"][::-1].copy(),
    "a time before all": lambda a: np.where(np.arange(len(a["times"])) == 0, -(2**63), a["times"]),
    "times as a list": lambda a: a["times"].tolist(),
    "narrow times": lambda a: a["times"].astype(np.int32),
    "swapped times": lambda a: a["times"].astype(">i8"),
    "fewer values": lambda a: a["values"][:1].copy(),
    "values by column": lambda a: np.asfortranarray(a["values"]),
    "strided values": lambda a: np.repeat(a["values"], 2, axis=1)[:, ::2],
    "signed values": lambda a: a["values"].astype(np.int64),
    "no values": lambda a: None,
    "a value where none is": lambda a: np.ones_like(a["values"]),
    "presence of bytes": lambda a: a["present"].astype(np.uint8),
    "less presence": lambda a: a["present"][:, 1:].copy(),
    "names in disorder": lambda a: a["names"][::-1],
    "a name twice": lambda a: ("x", "x"),
    "a name of bytes": lambda a: (b"x", b"y"),
    "a count of none": lambda a: np.zeros_like(a["counts"]),
    "counts past all": lambda a: np.full_like(a["counts"], 2**62),
    "fewer counts": lambda a: a["counts"][1:].copy(),
}
FIELD = {"times": "times", "time": "times", "values": "values", "value": "values", "presence": "present"}
FIELD |= {"names": "names", "name": "names", "count": "counts", "counts": "counts"}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("x", [SERIES, BATCH], ids=["series", "batch"])
def test_pickles(x: StatSeries | StatBatch, what: str) -> None:
    """A pickle says which arrays a series has; any that it could not have is refused."""
    make, given = x.__reduce__()
    columns = x._columns._asdict()
    field = next(FIELD[word] for word in what.split() if word in FIELD)
    columns[field] = CHANGES[what](columns)
    changed = tuple(columns.values())
    with pytest.raises(SeriesError):
        make(*changed) if x is SERIES else make(changed, given[1])


@pytest.mark.parametrize("offsets", [[0, 3, 3], [0, 3, 3, 7], [1, 3, 3, 6], [0, 4, 2, 6], [0, 2, 4, 6], [-1, 3, 3, 6], []])
def test_offsets_in_pickles(offsets: list[int]) -> None:
    """They go from 0 to the number of rows, and times go back only where a series begins."""
    make, (columns, _) = BATCH.__reduce__()
    with pytest.raises(SeriesError):
        make(columns, np.array(offsets, dtype=np.int64))


@pytest.mark.parametrize("x", [SERIES, BATCH, SERIES[:0], StatBatch([])], ids=["series", "batch", "empty", "none"])
def test_pickles_that_nobody_changed(x: StatSeries | StatBatch) -> None:
    """Come back as they were."""
    assert pickle.loads(pickle.dumps(x)) == x


@pytest.mark.parametrize(
    "offsets",
    [
        np.array([0, 50]),
        np.array([-1, 2]),
        np.array([2, 1, 3]),
        np.array([], dtype=np.int64),
        np.array([[0, 2]]),
        np.array([0, 2], dtype=np.int32),
        np.array([0, 9, 2, 9])[::2],
        [0, 2],
    ],
    ids=str,
)
def test_offsets_of_text(offsets: Any, backend: str) -> None:
    """They rise, and end where the text does."""
    data = np.frombuffer(b"[][]", np.uint8)
    with pytest.raises(SeriesError, match="offsets must be int64 and rise from 0 or more to 4 at most"):
        reduce_buffer(data, offsets, Rule(3))
    with pytest.raises(SeriesError, match="offsets must be int64"):
        read_buffer(data, offsets)
