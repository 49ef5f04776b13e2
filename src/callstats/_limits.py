"""Limits of what is decoded and kept, for both backends."""

from __future__ import annotations

MAX_CELLS = 2**24
"""The max number of cells, rows times metrics, of a stored histogram most of whose cells have no value."""

CELLS_PER_VALUE = 4
"""A stored histogram may have more than `MAX_CELLS` cells, if they are at most so many for each value in its text.

So any histogram that is mostly values can be decoded, and a small text whose rows share no metric can't fill the memory.
"""

MAX_DEPTH = 64
"""The max number of open brackets in a stored histogram, with that of the outer array."""

SCRATCH_BYTES = 2**26
"""How much memory the compiled decoder keeps for its next call, and the compiled encoder again as much, over all threads."""
