"""What runs calls and samples them. Heavy parts are loaded where they are used."""

from __future__ import annotations

from callstats.drivers.frames import pick_stats

__all__ = ["pick_stats"]
