"""Rows as they are read: plain data."""

from __future__ import annotations

from typing import NamedTuple

from callstats.db.results import Key


class Row(NamedTuple):
    """A cell as it is stored: its bytes, the kind of it as the database names it, and which of the rules is for it."""

    key: Key
    cell: bytes | None
    kind: str
    tier: int = 0


class Batch(NamedTuple):
    """The rows of one stretch of keys that a rule may touch, read without locking them."""

    rows: list[Row]
    in_all: int
    """How many rows the stretch has in all."""
    end: Key | None
    """Its last key; None when it goes on to the end of the table."""
    version: int
    """The database's version before the rows were read."""


class Stretch(NamedTuple):
    """The keys of one stretch that a rule may touch."""

    keys: list[Key]
    in_all: int
    end: Key | None
