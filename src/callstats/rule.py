"""Rule: how to reduce a series. Plain data, validated when it is made."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias, cast, get_args

from callstats.errors import ArgumentError, suggest_keywords

Reducer: TypeAlias = Literal["mean", "min", "max", "first", "last", "sum"]
Missing: TypeAlias = Literal["skip", "zero"]
How: TypeAlias = "Reducer | tuple[Reducer, ...]"

REDUCERS: tuple[Reducer, ...] = get_args(Reducer)
"""All reducers; the kernels know a reducer by its index here."""

PEAK_REDUCERS: tuple[Reducer, ...] = ("min", "max", "first", "last")
"""The reducers of peaks, such as ``mem_usage@max``."""

OTHERS = "*"


class HowByMetric(Mapping[str, "How"]):
    """An immutable, hashable mapping of metrics to reducers."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, How]) -> None:
        self._items = dict(items)
        self._hash = hash(tuple(self._items.items()))  # once: each reduction looks its reducers up

    def __getitem__(self, name: str) -> How:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return HowByMetric, (self._items,)  # without the hash: each process has its own

    def __repr__(self) -> str:
        return repr(self._items)


KEEP_PEAKS: Mapping[str, How] = HowByMetric(
    {"cpu_total": ("mean", "max"), "mem_limit": "max", "mem_usage": ("mean", "max"), "mem_working": ("mean", "max")}
)
"""The reducers that keep each row's peaks of memory and CPU: the default for tables, files and recordings."""


def parse_peak_name(name: str) -> tuple[str, Reducer] | None:
    """Split ``x@max`` into metric and reducer. Return None for a name without such a reducer."""
    metric, mark, reducer = name.rpartition("@")
    return (metric, reducer) if mark and reducer in PEAK_REDUCERS else None


@suggest_keywords
@dataclass(frozen=True)
class Rule:
    """How to reduce a series: to how many rows, by which reducers, to which size.

    Parameters
    ----------
    max_samples : int or None
        Maximum number of rows of the result. None means no limit. With 0 or less, every series with more rows becomes empty.
    how : str, tuple of str, or mapping of metric to either; optional
        The reducers: ``mean``, ``min``, ``max``, ``first``, ``last`` or ``sum``. Give one for all metrics, or a mapping by
        metric, where ``"*"`` names all others (default ``mean``). In a tuple, the first reducer gives ``x``; each further one of
        ``min``, ``max``, ``first`` or ``last`` adds a metric such as ``x@max``. None is the default of the function that uses
        the rule: `KEEP_PEAKS` for tables and the command, ``mean`` elsewhere. Metrics that a series lacks are ignored, so that
        one mapping fits series with different metrics.
    missing : {"skip", "zero"}
        How to treat samples without a metric: skip them, or count them as 0 (Fn's rule). A metric that no sample of a row has is
        absent either way.
    max_bytes : int or None
        Maximum size of the stored text in bytes.

    Examples
    --------
    >>> Rule(60, how={"mem_usage": ("mean", "max")}).how["mem_usage"]
    ('mean', 'max')
    """

    max_samples: int | None = 240
    how: How | Mapping[str, How] | None = None
    missing: Missing = "skip"
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        assign = object.__setattr__  # a frozen dataclass rejects plain assignment
        assign(self, "max_samples", _optional_int("max_samples", self.max_samples))
        assign(self, "max_bytes", _optional_int("max_bytes", self.max_bytes))
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ArgumentError("max_bytes", "1 or more, or None", self.max_bytes)
        if self.missing not in get_args(Missing):
            raise ArgumentError("missing", "'skip' or 'zero'", self.missing)
        if isinstance(self.how, Mapping):
            for name in self.how:
                if not isinstance(name, str):
                    raise ArgumentError("how", "a mapping of metric names", name)
            by_metric = {name: _validate_how(f"how[{name!r}]", self.how[name]) for name in sorted(self.how)}
            assign(self, "how", HowByMetric(by_metric))
        elif self.how is not None:
            assign(self, "how", _validate_how("how", self.how))

    def reducers(self, name: str) -> tuple[Reducer, ...]:
        """Return the reducers of a metric: the first for the metric itself, the others for its peaks.

        Parameters
        ----------
        name : str
            The metric's name.

        Returns
        -------
        tuple of str

        Examples
        --------
        >>> Rule(how={"mem_usage": ("mean", "max"), "*": "last"}).reducers("mem_usage")
        ('mean', 'max')
        """
        how = self.how.get(name, self.how.get(OTHERS)) if isinstance(self.how, Mapping) else self.how
        return how if isinstance(how, tuple) else (how or "mean",)

    def with_default(self, how: How | Mapping[str, How]) -> Rule:
        """Return the rule, its `how` replaced by a default if it is None.

        Parameters
        ----------
        how : str, tuple of str, or mapping
            As for `Rule`.

        Returns
        -------
        Rule

        Examples
        --------
        >>> Rule(60).with_default("max"), Rule(60, how="min").with_default("max").how
        (Rule(max_samples=60, how='max', missing='skip', max_bytes=None), 'min')
        """
        return replace(self, how=how) if self.how is None else self


def make_rule(
    rule: Rule | int | None = 240,
    how: How | Mapping[str, How] | None = None,
    missing: Missing | None = None,
    max_bytes: int | None = None,
) -> Rule:
    """Return the Rule that a function's arguments stand for. Keywords and a Rule exclude each other."""
    if how is None and missing is None and max_bytes is None:
        if isinstance(rule, Rule):
            return rule
        # A bool equals an int, and would find its rule in the cache.
        return _cached_rule(rule) if type(rule) is int else Rule(rule)
    if isinstance(rule, Rule):
        name, value = next(
            (name, value) for name, value in (("how", how), ("missing", missing), ("max_bytes", max_bytes)) if value is not None
        )
        raise ArgumentError(name, "left out beside a Rule", value, hint=f"use dataclasses.replace(rule, {name}=...)")
    return Rule(rule, how, missing or "skip", max_bytes)


def as_int(value: object) -> int | None:
    """Return an integer of any type as an int; None for anything else, such as a bool of Python or numpy."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return operator.index(cast(int, value))
    except TypeError:
        return None


_cached_rule = lru_cache(maxsize=64)(Rule)


def _optional_int(field: str, value: object) -> int | None:
    number = as_int(value)
    if number is None and value is not None:
        raise ArgumentError(field, "a whole number or None", value)
    return number


def _validate_how(where: str, how: object) -> How:
    if isinstance(how, str) and how in REDUCERS:
        return how
    if isinstance(how, (tuple, list)) and how:
        for i, reducer in enumerate(how):
            allowed = PEAK_REDUCERS if i else REDUCERS
            if not isinstance(reducer, str) or reducer not in allowed:
                raise ArgumentError(f"{where}[{i}]", f"one of {', '.join(allowed)}", reducer)
            if reducer in how[:i]:
                raise ArgumentError(f"{where}[{i}]", "a reducer that the tuple does not have already", reducer)
        return tuple(how)
    raise ArgumentError(where, f"one of {', '.join(REDUCERS)}, or a tuple of them", how)
