"""Reduce the stats of calls: series of samples, downsampling by bins, and stored histograms."""

from callstats import kernels
from callstats._version import __version__
from callstats.batch import StatBatch
from callstats.errors import (
    BudgetError,
    CallstatsError,
    DatabaseError,
    DecodeError,
    DriverError,
    ImageError,
    SeriesError,
)
from callstats.image import ImageRef, parse_image
from callstats.recorder import Recorder
from callstats.reduce import decimate, reduce_json
from callstats.rule import KEEP_PEAKS, Rule
from callstats.series import Stat, StatSeries
from callstats.stats import Bernoulli, Summary, bernoulli, summarize

backend: str = kernels.active.BACKEND
"""The kernels in use: ``"cython"`` or ``"python"``."""

__all__ = [
    "KEEP_PEAKS",
    "Bernoulli",
    "BudgetError",
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
    "decimate",
    "parse_image",
    "reduce_json",
    "summarize",
]
