"""Rule: how a series is to be reduced. Plain data, checked when made."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, cast, get_args

from callstats.errors import CallstatsError, short

Reducer: TypeAlias = Literal["mean", "min", "max", "first", "last", "sum"]
Missing: TypeAlias = Literal["skip", "zero"]
How: TypeAlias = "Reducer | tuple[Reducer, ...]"

REDUCERS: tuple[Reducer, ...] = get_args(Reducer)
"""Every reducer; its place here is its number in the kernels."""

PEAKS: tuple[Reducer, ...] = ("min", "max", "first", "last")
"""The reducers that a metric ``x@reducer`` may keep."""

OTHERS = "*"


class ByMetric(Mapping[str, "How"]):
    """A mapping that stays as it was made."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, How]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> How:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __deepcopy__(self, memo: object) -> ByMetric:
        return self


def peak_of(name: str) -> tuple[str, Reducer] | None:
    """Metric and reducer of a name ``x@reducer``; None for an ordinary name."""
    base, mark, reducer = name.rpartition("@")
    return (base, reducer) if mark and reducer in PEAKS else None


@dataclass(frozen=True)
class Rule:
    """How to reduce a series: to how many rows, by which reducers, within which size.

    Parameters
    ----------
    max_samples : int or None
        The most rows that the result may have. None means no limit; with 0 or less every series with more rows becomes empty.
    how : str, tuple of str, or mapping of metric to either
        ``mean``, ``min``, ``max``, ``first``, ``last`` or ``sum``, one for all metrics or by metric (``"*"`` for the others, by
        default ``mean``). Of a tuple the first gives ``x``, and each further one of ``min``, ``max``, ``first`` or ``last`` gives
        a metric ``x@max`` and so on beside it.
    missing : {"skip", "zero"}
        Whether a row's samples that lack a metric are passed over or count as 0 where another sample of the row has it. Fn's own
        rule is ``zero``.
    max_bytes : int or None
        The most bytes that the stored text may have.

    Raises
    ------
    CallstatsError
        When a field is none of these.

    Examples
    --------
    >>> Rule(60, how={"mem_usage": ("mean", "max")}).how["mem_usage"]
    ('mean', 'max')
    """

    max_samples: int | None = 240
    how: How | Mapping[str, How] = "mean"
    missing: Missing = "skip"
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the one way to normalise a field of a frozen dataclass
        put(self, "max_samples", _whole("max_samples", self.max_samples))
        put(self, "max_bytes", _whole("max_bytes", self.max_bytes))
        if self.max_bytes is not None and self.max_bytes < 1:
            raise CallstatsError(f"max_bytes must be 1 or more, or None, got {short(self.max_bytes)}")
        if self.missing not in get_args(Missing):
            raise CallstatsError(f"missing must be 'skip' or 'zero', got {short(self.missing)}")
        if isinstance(self.how, Mapping):
            for name in self.how:
                if not isinstance(name, str):
                    raise CallstatsError(f"how must map metric names to reducers, got the name {short(name)}")
            by_name = {name: _reducers(f"how[{name!r}]", self.how[name]) for name in sorted(self.how)}
            put(self, "how", ByMetric(by_name))
        else:
            put(self, "how", _reducers("how", self.how))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Made once: a rule is looked up for every series that it reduces.
        return hash((self.max_samples, self.how, self.missing, self.max_bytes))

    def __reduce__(self) -> tuple[object, ...]:
        how = dict(self.how) if isinstance(self.how, Mapping) else self.how
        return Rule, (self.max_samples, how, self.missing, self.max_bytes)

    def reducers(self, name: str) -> tuple[Reducer, ...]:
        """The reducers for a metric: the first for itself, the others for its peaks.

        Parameters
        ----------
        name : str
            The metric's.

        Returns
        -------
        tuple of str

        Examples
        --------
        >>> Rule(how={"mem_usage": ("mean", "max"), "*": "last"}).reducers("mem_usage")
        ('mean', 'max')
        """
        how = self.how.get(name, self.how.get(OTHERS, "mean")) if isinstance(self.how, Mapping) else self.how
        return how if isinstance(how, tuple) else (how,)


def whole(value: object) -> int | None:
    """A whole number of any type, as an int; None for anything else, bools among it, numpy's too."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return operator.index(cast(int, value))
    except TypeError:
        return None


def _whole(field: str, value: object) -> int | None:
    number = whole(value)
    if number is None and value is not None:
        raise CallstatsError(f"{field} must be a whole number or None, got {short(value)}")
    return number


def _reducers(field: str, how: object) -> How:
    if isinstance(how, str) and how in REDUCERS:
        return how
    if isinstance(how, (tuple, list)) and how:
        for place, reducer in enumerate(how):
            allowed = PEAKS if place else REDUCERS
            if not isinstance(reducer, str) or reducer not in allowed:
                raise CallstatsError(f"{field}[{place}] must be one of {', '.join(allowed)}, got {short(reducer)}")
            if reducer in how[:place]:
                raise CallstatsError(f"{field} must not name a reducer twice, got {short(reducer)} again")
        return tuple(how)
    raise CallstatsError(f"{field} must be one of {', '.join(REDUCERS)}, or a tuple of them, got {short(how)}")
