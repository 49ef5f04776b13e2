"""Which rows get which rule: by the size of their cells, and with tiers by their age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, literal_column

from callstats._types import FIRST_TIME
from callstats.db.dialects.base import Clock
from callstats.db.jobs.tiers import Tier, untouched
from callstats.rule import Rule


@dataclass(frozen=True)
class Plan:
    """The rules, and as SQL which rows each is for."""

    rules: Sequence[Rule]
    tier: ColumnElement[Any] | None
    """The place of a row's rule among them; None where there is one for all."""
    condition: ColumnElement[bool] | None
    """That a rule may have something to do with a row; None where all are to be read."""


def plan_for_all(rule: Rule, size: ColumnElement[int], *, verify: bool) -> Plan:
    """One rule for all rows."""
    return Plan([rule], None, None if verify else size > untouched(rule))


def plan_by_age(tiers: Sequence[Tier], rule: Rule, size: ColumnElement[int], clock: Clock, as_of: int, *, verify: bool) -> Plan:
    """For each row the rule of the oldest tier that it is old enough for."""
    rules = [replace(rule, max_samples=rows) for _, rows in tiers]
    # What would have to be older than any time that a row can have is never old enough.
    old_enough = [clock.until(max(as_of - age // timedelta(microseconds=1) * 1000, FIRST_TIME)) for age, _ in tiers]
    places = list(range(len(rules)))[::-1]
    tier = case(*((old_enough[i], literal_column(str(i))) for i in places))
    most = case(*((old_enough[i], literal_column(str(untouched(rules[i])))) for i in places))
    return Plan(rules, tier, old_enough[0] if verify else size > most)
