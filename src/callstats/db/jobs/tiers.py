"""Tiers by age, and how small a cell has nothing for a rule to do: no SQL yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import NamedTuple

from callstats._types import I64_MAX
from callstats.errors import CallstatsError
from callstats.rule import Rule

SHORTEST_ROW = len('{"timestamp":"2006-01-02T15:04:05Z"}')


class Tier(NamedTuple):
    """Rows that are at least so old are reduced to at most so many samples."""

    age: timedelta
    max_samples: int


def checked_tiers(tiers: Iterable[tuple[timedelta, int]] | None, rule: Rule) -> list[Tier]:
    """The tiers from the youngest to the oldest; refuse what leaves open which rule holds."""
    if tiers is None:
        return []
    ordered = sorted(Tier(*tier) for tier in tiers)
    if not ordered:
        raise CallstatsError("tiers must be None, or have at least one")
    if rule.max_samples is not None:
        raise CallstatsError(f"with tiers the rule's max_samples must be None, since they say how many, got {rule.max_samples}")
    for age, _ in ordered:
        if age < timedelta(0):
            raise CallstatsError(f"a tier's age must not be negative, got {age}")
    for (one, _), (other, _) in pairwise(ordered):
        if one == other:
            raise CallstatsError(f"expected one tier for each age, got two for {one}")
    return ordered


def untouched(rule: Rule) -> int:
    """The size in bytes up to which no cell has anything for the rule to do."""
    sizes = [] if rule.max_bytes is None else [rule.max_bytes]
    if rule.max_samples is not None:
        rows = max(rule.max_samples, 0) + 1
        sizes.append(len("[]") + rows * SHORTEST_ROW + (rows - 1) * len(",") - 1)
    return min([*sizes, I64_MAX])


def within(rule: Rule, room: int | None) -> Rule:
    """The rule for a column that holds so many bytes: a server that isn't strict would cut a longer text."""
    if room is None or (rule.max_bytes is not None and rule.max_bytes <= room):
        return rule
    return replace(rule, max_bytes=room)
