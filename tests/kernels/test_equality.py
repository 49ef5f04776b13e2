"""Equality of what the package hands out: each part that differs is noticed, and foreign types get their say."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from callstats import Rule, Stat, StatBatch, StatSeries, Summary


def series(
    times: tuple[int, ...] = (0, 5, 5), metrics: dict[str, Any] | None = None, counts: tuple[int, ...] | None = (1, 2, 3)
) -> StatSeries:
    """A series with a hole and counts, unless told otherwise."""
    return StatSeries(times, metrics or {"x": [1, 2, None], "y": [0, 7, 9]}, counts=counts)


def other_series() -> dict[str, StatSeries]:
    """Series that differ from `series()` in one part each."""
    return {
        "the first time": series((1, 5, 5)),
        "the last time": series((0, 5, 6)),
        "a value": series(metrics={"x": [1, 3, None], "y": [0, 7, 9]}),
        "the last value of the last metric": series(metrics={"x": [1, 2, None], "y": [0, 7, 2**64 - 1]}),
        "two rows of one time in another order": series(metrics={"x": [1, None, 2], "y": [0, 9, 7]}, counts=(1, 3, 2)),
        "0 where the value was absent": series(metrics={"x": [1, 2, 0], "y": [0, 7, 9]}),
        "absent where the value was 0": series(metrics={"x": [1, 2, None], "y": [None, 7, 9]}),
        "nothing absent": series(metrics={"x": [1, 2, 2], "y": [0, 7, 9]}),
        "a count": series(counts=(1, 2, 4)),
        "counts in another order": series(counts=(2, 1, 3)),
        "no counts": series(counts=None),
        "a name": series(metrics={"x": [1, 2, None], "z": [0, 7, 9]}),
        "names that changed places": series(metrics={"y": [1, 2, None], "x": [0, 7, 9]}),
        "a metric less": series(metrics={"x": [1, 2, None]}),
        "a metric more": series(metrics={"x": [1, 2, None], "y": [0, 7, 9], "z": [0, 0, 0]}),
        "a row less": series()[:2],
        "a row more": series((0, 5, 5, 5), {"x": [1, 2, None, None], "y": [0, 7, 9, None]}, (1, 2, 3, 1)),
        "no row": StatSeries([], {}),
    }


def batch(*members: StatSeries) -> StatBatch:
    """A batch of two series and an empty one, unless told otherwise."""
    return StatBatch(members or [series(), StatSeries([], {}), StatSeries([9], {"z": [4]})])


def other_batches() -> dict[str, StatBatch]:
    """Batches that differ from `batch()` in one part each."""
    one, empty, last = batch()
    changed = {f"in the first series, {what}": batch(other, empty, last) for what, other in other_series().items()}
    return {
        **changed,
        "the time of the last series": batch(one, empty, StatSeries([8], {"z": [4]})),
        "the value of the last series": batch(one, empty, StatSeries([9], {"z": [5]})),
        "the name of the last series": batch(one, empty, StatSeries([9], {"x": [4]})),
        "the count of the last series": batch(one, empty, StatSeries([9], {"z": [4]}, counts=[2])),
        "the series in another order": batch(last, empty, one),
        "the empty series elsewhere": batch(empty, one, last),
        "a series less": batch(one, empty),
        "an empty series less": batch(one, last),
        "an empty series more": batch(one, empty, last, empty),
        "the same rows, parted elsewhere": batch(one[:2], one[2:], last),
        "no series": StatBatch([]),
    }


def rule(**changed: Any) -> Rule:
    """A rule without a default."""
    return Rule(**{"max_samples": 7, "how": {"x": ("mean", "max"), "*": "min"}, "missing": "zero", "max_bytes": 900, **changed})


OTHER_RULES: dict[str, Rule] = {
    "the most rows": rule(max_samples=8),
    "no limit of rows": rule(max_samples=None),
    "a metric's reducer": rule(how={"x": ("min", "max"), "*": "min"}),
    "the order of reducers": rule(how={"x": ("max", "min"), "*": "min"}),
    "a reducer alone": rule(how={"x": "mean", "*": "min"}),
    "a metric's name": rule(how={"y": ("mean", "max"), "*": "min"}),
    "the reducer of the others": rule(how={"x": ("mean", "max"), "*": "max"}),
    "no reducer of the others": rule(how={"x": ("mean", "max")}),
    "one reducer for all": rule(how="min"),
    "what is missing": rule(missing="skip"),
    "the most bytes": rule(max_bytes=901),
    "no limit of bytes": rule(max_bytes=None),
}


def summary() -> Summary:
    """A summary without a default."""
    return Summary(n=2, first=5, last=9, min=4, max=10, mean=7.5, median=7, p95=9, p99=8, increase=6, growth=4.0, exact=False)


OTHER_STATS = {
    "the time": Stat(6, {"x": 1, "y": 2}),
    "a value": Stat(5, {"x": 1, "y": 3}),
    "a name": Stat(5, {"x": 1, "z": 2}),
    "a metric less": Stat(5, {"x": 1}),
    "a metric more": Stat(5, {"x": 1, "y": 2, "z": 0}),
}


def differ(one: object, other: object) -> None:
    """Hold two values unequal, by both operators and from both sides."""
    assert (one == other) is False
    assert (other == one) is False
    assert (one != other) is True
    assert (other != one) is True


def equal(one: object, other: object) -> None:
    """Hold two values equal, by both operators and from both sides, though they are not one object."""
    assert one is not other
    assert (one == other) is True
    assert (other == one) is True
    assert (one != other) is False
    assert (other != one) is False


MADE: dict[str, Callable[[], object]] = {
    "StatSeries": series,
    "StatBatch": batch,
    "Rule": rule,
    "Summary": summary,
    "Stat": lambda: Stat(5, {"x": 1, "y": 2}),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_the_same_parts_are_equal(make: Callable[[], object]) -> None:
    """Two values made of the same parts are equal."""
    equal(make(), make())


@pytest.mark.parametrize("what", other_series())
def test_series_differ(what: str) -> None:
    """A series differs from one with another time, value, hole, count, name, order or length."""
    differ(series(), other_series()[what])


@pytest.mark.parametrize("what", other_batches())
def test_batches_differ(what: str) -> None:
    """A batch differs from one with another part in any of its series, another order, or other bounds between them."""
    differ(batch(), other_batches()[what])


def test_all_the_others_differ() -> None:
    """No two of these series or batches are equal."""
    for others in (list(other_series().values()), list(other_batches().values())):
        for i, one in enumerate(others):
            for other in others[:i]:
                differ(one, other)


@pytest.mark.parametrize("what", OTHER_RULES)
def test_rules_differ(what: str) -> None:
    """A rule differs from one with another value in any field."""
    differ(rule(), OTHER_RULES[what])


@pytest.mark.parametrize("field", Summary._fields)
def test_summaries_differ(field: str) -> None:
    """A summary differs from one with another value in any field."""
    found = summary()
    value = getattr(found, field)
    differ(found, found._replace(**{field: not value if isinstance(value, bool) else value + 1}))
    differ(found, found._replace(**{field: None}))


@pytest.mark.parametrize("what", OTHER_STATS)
def test_samples_differ(what: str) -> None:
    """A sample differs from one with another time, value or name."""
    differ(Stat(5, {"x": 1, "y": 2}), OTHER_STATS[what])


class Agreeable:
    """Something foreign that says that it equals anything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_foreign_types(make: Callable[[], Any]) -> None:
    """A value equals nothing of another type, but leaves the answer to a type that knows better."""
    one = make()
    foreign = [None, 5, "x", [], {}, object(), *(other() for other in MADE.values() if other is not make)]
    for other in foreign:
        differ(one, other)
        if not (isinstance(one, tuple) and isinstance(other, tuple)):
            assert one.__eq__(other) is NotImplemented
            assert one.__ne__(other) is NotImplemented
    assert one == Agreeable()
    assert operator.ne(one, Agreeable()) is False


def test_a_series_is_no_batch_of_one() -> None:
    """A series differs from the batch that holds it alone, and from the list of its samples."""
    differ(series(), batch(series()))
    differ(series(), list(series()))
    differ(batch(), list(batch()))
