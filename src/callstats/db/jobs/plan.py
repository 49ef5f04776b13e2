"""The plan of a reduce job: which rule each row gets, and which rows a rule may change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Text, and_, case, cast, column, func, literal_column, not_, or_
from sqlalchemy.sql.elements import ColumnElement

from callstats._types import FIRST_TIME, I64_MAX
from callstats.db.query import TableSession, optional
from callstats.errors import ArgumentError
from callstats.rule import Rule

_MOST_ROWS = 2**30
"""More rows than any blob has."""
_SHORTEST_ROW = len('{"timestamp":"2006-01-02T15:04:05Z"}')


class Plan(NamedTuple):
    """The rules, and as SQL which rows each is for."""

    rules: Sequence[Rule]
    tier: ColumnElement[Any] | None
    """The index of a row's rule; None if there is one rule for all."""
    cheap: ColumnElement[bool] | None
    """Whether a rule may change a row, as far as the database knows without reading its blob; None for all rows."""
    exact: ColumnElement[bool] | None = None
    """Whether the blob has more rows than the rule leaves, or none that can be counted; None if `cheap` says all."""

    untimed: ColumnElement[bool] | None = None
    """With tiers, whether a row has no time."""
    unreadable: ColumnElement[bool] | None = None
    """With tiers, whether a row that is long enough for one of them has a time of another form."""

    def touched(self, *, exactly: bool) -> list[ColumnElement[bool]]:
        """Return the conditions that all rows meet that a rule may change."""
        return [*optional(self.cheap), *(optional(self.exact) if exactly else ())]


def make_plan(rule: Rule, tiers: Sequence[tuple[timedelta, int]], session: TableSession, as_of: int, *, verify: bool) -> Plan:
    """Return the plan that gives each row the rule, or with tiers that of the oldest tier that it is old enough for."""
    # A server that isn't strict would cut a text that is longer than its column.
    limits = [limit for limit in (rule.max_bytes, session.dialect.max_bytes) if limit is not None]
    rule = replace(rule, max_bytes=min(limits, default=None))
    if not tiers:
        return Plan([rule], None, *((None,) if verify else _conditions(session, [rule], lambda sizes: _sql_number(sizes[0]))))
    rules = [replace(rule, max_samples=rows) for _, rows in tiers]
    # An age before the first possible time is never reached.
    times = [max(as_of - age // timedelta(microseconds=1) * 1000, FIRST_TIME) for age, _ in tiers]
    stored: ColumnElement[Any] = column(str(session.names.time_column))
    with session.dialect.transaction(session.connection, write=False):
        session.check_columns(time_column=session.names.time_column)
        time, at = session.dialect.time_column(session.connection, stored)
        session.connection.execute(session.select(stored).where(literal_column("0 = 1"))).all()  # fails without the privilege
        # To read a time from text takes a server longer than to compare the text, whatever its offset from UTC.
        may_be_old = not_(session.dialect.not_before(session.connection, stored, _date(times[0]) + timedelta(days=2)))
        may_be_none = not_(session.dialect.not_before(session.connection, stored, _date(FIRST_TIME) + timedelta(days=2)))
    indices = list(range(len(rules)))[::-1]
    first = at(FIRST_TIME + 10**9)

    def by_tier(values: Sequence[int]) -> ColumnElement[Any]:
        return case(*((time <= at(times[i]), _sql_number(values[i])) for i in indices))

    tier = by_tier(range(len(rules)))
    # Go's zero time, in year 1, means none.
    untimed = or_(stored.is_(None), cast(stored, Text) == "", and_(may_be_none, time < first))
    long_enough = [] if verify else [session.dialect.size(session.blob) > min(map(_max_untouched, rules))]
    unreadable = and_(time.is_(None), cast(stored, Text) != "", *long_enough)
    cheap, exact = (time <= at(times[0]), None) if verify else _conditions(session, rules, by_tier)
    return Plan(rules, tier, and_(*long_enough, may_be_old, cheap, time >= first), exact, untimed, unreadable)


def sorted_tiers(tiers: Iterable[tuple[timedelta, int]] | None, rule: Rule) -> list[tuple[timedelta, int]]:
    """Validate tiers and return them from the youngest to the oldest."""
    if tiers is None:
        return []
    ordered = sorted(tiers)
    if not ordered:
        raise ArgumentError("tiers", "None, or at least one tier", ordered)
    if rule.max_samples is not None:
        raise ArgumentError("max_samples", "None beside tiers, which have their own", rule.max_samples)
    if ordered[0][0] < timedelta(0):
        raise ArgumentError("tiers", "of ages that are 0 or more", str(ordered[0][0]))
    for (one, _), (other, _) in pairwise(ordered):
        if one == other:
            raise ArgumentError("tiers", "of different ages", f"{str(one).removesuffix(', 0:00:00')} twice")
    return ordered


def _conditions(
    session: TableSession, rules: Sequence[Rule], choose: Callable[[Sequence[int]], ColumnElement[int]]
) -> tuple[ColumnElement[bool], ColumnElement[bool] | None]:
    """Return which rows a rule may change: by the size of their blobs, and by their number of rows.

    `choose` returns the value of a row's rule, as an expression.
    """
    size, max_bytes = session.dialect.size(session.blob), rules[0].max_bytes
    by_size = size > choose([_max_untouched(rule) for rule in rules])
    most = [min(max(rule.max_samples, 0), _MOST_ROWS - 1) for rule in rules if rule.max_samples is not None]
    if len(most) < len(rules):
        return by_size, None
    # More than n, or none: 0 is the largest here. PostgreSQL would count twice for BETWEEN.
    rows = func.mod(session.dialect.rows(session.blob) + (_MOST_ROWS - 1), _MOST_ROWS)
    by_rows: ColumnElement[bool] = rows >= choose(most)
    if len(most) > 1:  # the smallest number first: it needs no time
        by_rows = and_(rows >= min(most), by_rows)
    if max_bytes is not None:
        by_rows = or_(by_rows, size > min(max_bytes, I64_MAX))
    # The size of a blob that the database keeps in its own form is known only once it is text.
    return (by_rows, None) if session.dialect.rewrites else (by_size, by_rows)


def _sql_number(value: int) -> ColumnElement[Any]:
    return literal_column(str(value))


def _date(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 10**9, UTC)


def _max_untouched(rule: Rule) -> int:
    """Return the size in bytes up to which the rule changes no blob."""
    sizes = [I64_MAX, I64_MAX if rule.max_bytes is None else rule.max_bytes]
    if rule.max_samples is not None:
        rows = max(rule.max_samples, 0) + 1
        sizes.append(len("[]") + rows * _SHORTEST_ROW + (rows - 1) * len(",") - 1)
    return min(sizes)
