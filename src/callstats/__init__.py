"""Reduce the stats of calls: series of samples, downsampling by bins, and stored histograms."""

from importlib import import_module
from typing import TYPE_CHECKING

from callstats import kernels
from callstats._version import __version__
from callstats.batch import StatBatch
from callstats.errors import BudgetError, CallstatsError, DatabaseError, DecodeError, DriverError, ImageError, SeriesError
from callstats.image import ImageRef, parse_image
from callstats.recorder import Recorder
from callstats.reduce import decimate, reduce_json
from callstats.rule import KEEP_PEAKS, Rule
from callstats.series import Stat, StatSeries
from callstats.stats import Bernoulli, Summary, bernoulli, summarize

if TYPE_CHECKING:
    from callstats.call import Call
    from callstats.db.table import CallTable, connect
    from callstats.drivers._record import record
    from callstats.stats.call import CallUsage

backend: str = kernels.active.BACKEND
"""The kernels in use: ``"cython"`` or ``"python"``."""

__all__ = [
    "KEEP_PEAKS",
    "Bernoulli",
    "BudgetError",
    "Call",
    "CallTable",
    "CallUsage",
    "CallstatsError",
    "DatabaseError",
    "DecodeError",
    "DriverError",
    "ImageError",
    "ImageRef",
    "Recorder",
    "Rule",
    "SeriesError",
    "Stat",
    "StatBatch",
    "StatSeries",
    "Summary",
    "__version__",
    "backend",
    "bernoulli",
    "connect",
    "decimate",
    "parse_image",
    "record",
    "reduce_json",
    "summarize",
]

_LAZY = {
    "Call": "callstats.call",
    "CallTable": "callstats.db.table",
    "CallUsage": "callstats.stats.call",
    "connect": "callstats.db.table",
    "record": "callstats.drivers._record",
}
"""Names whose modules are loaded on first use."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
