"""Rule: plain data, checked when made."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from callstats import CallstatsError, Recorder, Rule, StatSeries, decimate, reduce_json


def test_the_defaults() -> None:
    """240 rows, no reducers of its own, absent samples skipped, no byte budget; the fields come in that order."""
    assert Rule() == Rule(240, None, "skip", None)
    assert Rule().reducers("x") == ("mean",)
    assert [field.name for field in dataclasses.fields(Rule)] == ["max_samples", "how", "missing", "max_bytes"]


@pytest.mark.parametrize("max_samples", [None, 0, -5, 1, 10**30, -(10**30), np.int32(60)])
def test_any_whole_number_of_rows(max_samples: Any) -> None:
    """None means no limit; 0 and less are allowed, and so is any size."""
    assert Rule(max_samples).max_samples == max_samples
    assert Rule(max_samples).max_samples is None or type(Rule(max_samples).max_samples) is int


@pytest.mark.parametrize("field", ["max_samples", "max_bytes"])
@pytest.mark.parametrize("value", [1.0, 1.5, "60", True, np.True_, float("nan"), [60], object()])
def test_limits_that_are_no_whole_numbers(field: str, value: Any) -> None:
    """A limit is a whole number or None: no float, no text, no bool."""
    with pytest.raises(CallstatsError, match=field):
        Rule(**{field: value})


def test_a_negative_byte_budget() -> None:
    """No text has fewer than no bytes."""
    with pytest.raises(CallstatsError, match="max_bytes"):
        Rule(max_bytes=-1)


@pytest.mark.parametrize(
    "how",
    [
        *("mean", "min", "max", "first", "last", "sum"),
        ("mean",),
        ("mean", "max"),
        ("max", "min", "first", "last"),
        ("sum", "last"),
        {},
        {"x": "sum"},
        {"mem_usage": ("mean", "max"), "*": "mean"},
        {"x@max": "sum", "": "min"},
    ],
)
def test_every_good_how(how: Any) -> None:
    """One reducer or a tuple of them, for all or by metric."""
    assert Rule(how=how).how == how


@pytest.mark.parametrize(
    "how",
    [
        *("median", "Mean", "", "p95", "mean,max"),
        (),
        ("mean", "mean"),
        ("mean", "sum"),
        ("max", "mean"),
        ("max", "max"),
        ("mean", "max", "max"),
        ("mean", "max", "min", "max"),
        ("median", "max"),
        ("mean", None),
        ("mean", ("max",)),
        5,
        b"mean",
        {"x": "median"},
        {"x": ("mean", "sum")},
        {"x": ()},
        {"*": None},
        {"x": {"y": "mean"}},
        {5: "mean"},
    ],
)
def test_every_bad_how(how: Any) -> None:
    """An unknown reducer, a further one that is no peak, a repeat, or nothing at all is a ValueError in one line."""
    with pytest.raises(CallstatsError, match="how") as caught:
        Rule(how=how)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["Skip", "", "nan", None, 0, True, ["skip"]])
def test_every_bad_missing(missing: Any) -> None:
    """`missing` is one of two words."""
    with pytest.raises(CallstatsError, match="missing"):
        Rule(missing=missing)


@pytest.mark.parametrize("keyword", [{"how": "max"}, {"missing": "zero"}, {"max_bytes": 900}])
def test_a_rule_and_keywords(keyword: dict[str, object]) -> None:
    """A Rule has all its fields: keywords beside it are rejected, and the error says what to do."""
    ((name, value),) = keyword.items()
    for work in (lambda: decimate(StatSeries([], {}), Rule(60), **keyword), lambda: reduce_json([], Rule(60), **keyword)):
        with pytest.raises(ValueError, match=f"^{name} must be left out beside a Rule, got {value!r}: use dataclasses.replace"):
            work()
    with pytest.raises(ValueError, match=f"^{name} must be left out beside a Rule"):
        Recorder(Rule(60), **keyword)


def test_a_default_for_how() -> None:
    """It is taken by a rule that has none."""
    assert Rule(60).with_default("max") == Rule(60, how="max")
    assert Rule(60, how="min").with_default("max") == Rule(60, how="min")


def test_a_rule_is_frozen() -> None:
    """No field can be set, and the mapping in `how` can't be written to."""
    rule = Rule(how={"x": "max"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.max_samples = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        rule.how["x"] = "min"  # type: ignore[index]


def test_a_rule_keeps_its_own_mapping() -> None:
    """Changing the caller's mapping afterwards changes no rule."""
    how: dict[str, Any] = {"x": ["mean", "max"]}
    rule = Rule(how=how)
    how["x"].append("min")
    how["y"] = "sum"
    assert rule == Rule(how={"x": ("mean", "max")})


@pytest.mark.parametrize("how", ["max", ("mean", "max"), {"x": ("mean", "max"), "*": "last"}, MappingProxyType({"x": "sum"})])
def test_pickles_and_copies(how: Any) -> None:
    """A rule goes through pickle and copy, and equal rules have equal hashes."""
    rule = Rule(60, how, "zero", 65_535)
    for other in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule), copy.copy(rule), Rule(60, how, "zero", 65_535)):
        assert other == rule
        assert hash(other) == hash(rule)
    assert rule != Rule(60, how, "zero")


def test_the_order_of_the_names_does_not_matter() -> None:
    """Two rules that say the same are equal."""
    one, other = Rule(how={"a": "max", "b": "min"}), Rule(how={"b": "min", "a": "max"})
    assert one == other
    assert hash(one) == hash(other)
