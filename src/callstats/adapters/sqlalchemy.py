"""A SQLAlchemy column type for series."""

from __future__ import annotations

import json
from typing import Any

from callstats._extras import needs
from callstats.errors import shorten_repr
from callstats.series import StatSeries

with needs("adapters.sqlalchemy", "sqlalchemy"):
    from sqlalchemy import Dialect, Text
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.types import TypeDecorator, TypeEngine


class StatsType(TypeDecorator[StatSeries]):
    """A column of stored blobs that gives series to Python.

    Parameters
    ----------
    jsonb : bool
        Whether the column is JSONB on PostgreSQL, instead of TEXT. Its empty series is ``[]``.

    Notes
    -----
    None is stored as NULL, and an empty series as empty text. NULL, empty text, ``null`` and ``[]`` give an empty series. SQL
    compares the stored text. A series is immutable: set the attribute to change it.

    Examples
    --------
    >>> from sqlalchemy import Column, MetaData, String, Table
    >>> calls = Table("calls", MetaData(), Column("id", String, primary_key=True), Column("stats", StatsType))
    """

    impl = Text
    cache_ok = True

    def __init__(self, jsonb: bool = False) -> None:
        super().__init__()
        self.jsonb = jsonb

    @property
    def python_type(self) -> type[StatSeries]:
        return StatSeries

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if self._is_jsonb(dialect):
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return super().load_dialect_impl(dialect)

    def process_bind_param(self, value: StatSeries | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if not isinstance(value, StatSeries):
            raise TypeError(f"value must be a StatSeries or None, got {shorten_repr(value)}")
        text = value.to_db()
        return json.loads(text or "[]") if self._is_jsonb(dialect) else text

    def process_result_value(self, value: Any, dialect: Dialect) -> StatSeries:  # noqa: ARG002 - SQLAlchemy's signature
        return StatSeries.from_db(value)

    def _is_jsonb(self, dialect: Dialect) -> bool:
        return self.jsonb and dialect.name == "postgresql"
