"""Parity is bytes: both twins of every kernel, by the calls that the package makes of them, and through the public verbs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import callstats.kernels
from callstats import Rule, StatBatch, StatSeries, decimate, reduce_json, summarize
from callstats.stats.calls import CallScalars
from support import strategies
from support.parity import TWINS, exact, outcome, same
from support.reference import TIME_MAX, TIME_MIN, Row
from support.routes import FAST_PATH
from support.zoo import Item, series_of, zoo

ZOO = zoo()
MODULES = {name: importlib.import_module(f"callstats.kernels.{module}") for name, module in TWINS.items()}
KERNELS = [name for name in MODULES["python"].__all__ if name.islower()]
PACKED = {"reduce_packed", "decode_packed"}  # called by adapters only: see test_text.py and test_read_buffer.py

RULES = [
    Rule(1),
    Rule(2, "sum"),
    Rule(7, ("mean", "min", "max", "first", "last"), "zero"),
    Rule(12, {"mem_usage": ("mean", "max"), "x": "last", "*": ("max", "first")}),
    Rule(60, "min"),
    Rule(3, ("first", "max"), "zero"),
    Rule(100, "last", "zero"),
]
BUDGETS = [Rule(None, "mean", max_bytes=3000), Rule(100, ("max", "min"), "zero", 1500)]
SMALL = [item for item in ZOO if len(item.rows) < 200]  # a budget is tried at every number of rows


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """What the package asks of its kernels while a test runs."""
    asked: list[tuple[str, tuple[Any, ...]]] = []

    def spy(name: str) -> Any:
        def kernel(*args: Any) -> Any:
            asked.append((name, args))
            return getattr(MODULES["python"], name)(*args)

        return kernel

    monkeypatch.setattr(callstats.kernels, "active", SimpleNamespace(**{name: spy(name) for name in KERNELS}))
    yield asked
    assert asked, "the test reached no kernel"
    for name, args in asked:
        compare(name, args)


def compare(name: str, args: tuple[Any, ...]) -> None:
    """Both twins return the same bytes, and leave their arguments unchanged.

    The twins of the fast path differ: one leaves every blob to the fallback decoder. test_text.py compares the two ways.
    """
    before = exact(args)
    results = [outcome(lambda module=module: getattr(module, name)(*args)) for module in MODULES.values()]
    first, *others = map(exact, results)
    if name not in FAST_PATH:
        for other in others:
            assert other == first
    assert exact(args) == before


# --- the twins as modules ---------------------------------------------------------------------------------------------


def test_the_twins_have_the_same_kernels() -> None:
    """Each aggregate module offers the same names, and says which it is."""
    assert KERNELS
    for name, module in MODULES.items():
        assert name == module.BACKEND
        assert sorted(module.__all__) == sorted(MODULES["python"].__all__)


@pytest.mark.parametrize("name", KERNELS)
def test_the_twins_are_described_alike(name: str) -> None:
    """Parameter names, their order and the first line of the docstring are the same; nothing has a default."""
    described = []
    for module in MODULES.values():
        kernel = getattr(module, name)
        parameters = inspect.signature(kernel).parameters.values()
        assert all(parameter.default is parameter.empty for parameter in parameters)
        described.append(([parameter.name for parameter in parameters], inspect.getdoc(kernel).splitlines()[0]))
    assert all(one == described[0] for one in described)


def test_every_kernel_is_reached(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    """The package calls each kernel, so that the comparisons below leave none out."""
    series = StatSeries(range(9), {"x": range(9)})
    StatBatch.from_json([decimate(series, 2).to_json(), decimate(series, Rule(None, max_bytes=300)).to_json()]).to_json()
    reduce_json([series.to_json(), b"[]"] * 3, 2, threads=2)
    reduce_json([series.to_json()], Rule(None, max_bytes=300))
    summarize(series)
    CallScalars().add(series.to_json(), "success", 0, 0)
    assert {name for name, _ in calls} == set(KERNELS) - PACKED


# --- the kernels, by the calls that are made of them ------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.max_samples}-{rule.missing}")
@pytest.mark.usefixtures("calls")
def test_kernels_over_the_zoo(rule: Rule) -> None:
    """Every input alone, under every kind of rule."""
    for item in ZOO:
        outcome(lambda item=item: decimate(item.series(), rule))


@pytest.mark.parametrize("rule", BUDGETS, ids=lambda rule: f"{rule.max_bytes}")
@pytest.mark.usefixtures("calls")
def test_kernels_within_a_budget(rule: Rule) -> None:
    """What the search for the largest number of rows that fit asks of them."""
    for item in SMALL:
        outcome(lambda item=item: decimate(item.series(), rule))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.max_samples}-{rule.missing}")
@pytest.mark.usefixtures("calls")
def test_kernels_over_batches(rule: Rule) -> None:
    """All inputs as one batch, and in batches of a few, empty members among them."""
    members = [item.series() for item in ZOO]
    for batch in (members, members[::7], [StatSeries([], {}), *members[5:8], StatSeries([], {})]):
        outcome(lambda batch=batch: decimate(StatBatch(batch), rule))


@pytest.mark.usefixtures("calls")
def test_kernels_over_stored_text() -> None:
    """What reduce_json asks of the kernels."""
    for rule in (*RULES, BUDGETS[1]):
        reduce_json([item.series().to_json() for item in (SMALL if rule.max_bytes else ZOO)], rule, errors="return")


@pytest.mark.usefixtures("calls")
def test_kernels_over_the_largest_numbers() -> None:
    """Sums of products that need all of 128 bits, at both ends of time."""
    rng = np.random.default_rng(7)
    for n in (2, 3, 64, 1000):
        times = np.sort(rng.choice(np.array([TIME_MIN, TIME_MIN + 1, -1, 0, TIME_MAX - 1, TIME_MAX]), n))
        values = rng.choice(np.array([0, 1, 2**32, 2**63, 2**64 - 1], dtype=np.uint64), n)
        counts = rng.integers(1, (2**63 - 1) // n, n)
        series = StatSeries(times, {"x": values, "y": np.ma.array(values[::-1], mask=rng.random(n) < 0.5)}, counts=counts)
        for k in range(1, min(n, 20)):
            for missing in ("skip", "zero"):
                outcome(lambda series=series, rule=Rule(k, ("mean", "max"), missing): decimate(series, rule))


@given(rows=st.lists(strategies.rows(most=20), min_size=1, max_size=4), fields=strategies.rules(st.integers(1, 12)))
def test_kernels_over_random_batches(rows: list[list[Row]], fields: dict[str, Any]) -> None:
    """Random batches under random rules."""
    batch = StatBatch(series_of(member) for member in rows)
    same(lambda: decimate(batch, Rule(**fields)))


# --- the public verbs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ZOO, ids=lambda item: item.name)
def test_every_verb_gives_the_same_bytes(item: Item) -> None:
    """Making, reducing, writing and reading a series."""
    for rule in (*RULES, Rule(0), Rule(5, max_bytes=60), *(BUDGETS if len(item.rows) < 200 else [])):
        same(lambda rule=rule: decimate(item.series(), rule))
    same(lambda: (item.series(), item.series()[1:-1], item.series().to_json(), item.series().to_json(counts=False, digits=9)))
    same(lambda: StatSeries.from_json(item.series().to_json()))
    same(lambda: StatBatch([item.series()] * 2).to_json())


REFUSED: list[Any] = [
    lambda: decimate(StatSeries([0, 1, 2], {"x": [2**64 - 1, 1, 1], "y": [2**63] * 3}), 1, how="sum"),
    lambda: decimate(StatSeries(range(9), {"a": [1] * 9, "b": [1] * 7 + [2**64 - 1] * 2}), 2, how="sum"),
    lambda: decimate(StatSeries(range(9), {"x": [2**62] * 9}, counts=[3] * 9), 2, how={"*": "sum"}),
    lambda: decimate(StatBatch([StatSeries([0, 1], {"x": [1, 1]}), StatSeries([0, 1], {"x": [2**64 - 1, 1]})]), 1, how="sum"),
    lambda: decimate(
        StatBatch([StatSeries([0, 1], {"x": [2**64 - 1, 1]}), StatSeries([0, 1], {"a": [2**64 - 1, 1]})]), 1, how="sum"
    ),
    lambda: decimate(StatSeries(range(9), {"x": range(9)}), Rule(None, max_bytes=20)),
    lambda: StatSeries([0, 1], {"x": [1, -1]}),
    lambda: StatSeries([1, 0], {"x": [1, 1]}),
    lambda: StatSeries.from_json(b"[{\xff"),
    lambda: StatSeries.from_json('[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":1.5}}]'),
    lambda: reduce_json([b"", b"[null]"]),
    lambda: reduce_json([b"x", b"[{}]", 5, b'[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":-0}}]'], errors="return"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_every_refusal_is_the_same(number: int) -> None:
    """Type, text, offset and path of the errors."""
    result = same(REFUSED[number])
    assert any(isinstance(one, ValueError) for one in (result if isinstance(result, list) else [result]))


def test_the_comparison_sees_differences() -> None:
    """The helper itself tells apart what `==` on arrays would not."""
    one = np.array([1, 2])
    different = [
        one.astype("u8"),
        one.astype(">i8"),
        one[:, None],
        np.ma.array([1, 2]),
        [1, 2],
        (1, 2),
        one[:1],
        np.array([1.0, 2.0]),
    ]
    forms = [exact(value) for value in (one, *different)]
    assert all(a != b for i, a in enumerate(forms) for b in forms[:i])
    assert exact(1) != exact(True) != exact(1.0)
    assert exact(ValueError("x")) != exact(KeyError("x"))
    assert exact(ValueError("x")) != exact(ValueError("y"))
    assert exact(StatSeries([0], {"x": [1]})) != exact(StatSeries([0], {"x": [2]}))


@pytest.mark.skipif(len(TWINS) < 2, reason="the extension was left out on purpose")
def test_the_comparison_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twin that is off by one is caught, so that the helper can't compare a twin with itself."""
    right = MODULES["python"].decimate_columns

    def wrong(*args: Any) -> Any:
        times, *rest = right(*args)
        return (times + 1, *rest)

    monkeypatch.setattr(MODULES["python"], "decimate_columns", wrong)
    with pytest.raises(AssertionError):
        same(lambda: decimate(StatSeries([0, 1], {"x": [1, 2]}), 1))
