"""Statistics: of the metrics of a series, of one call, and of many calls."""

from callstats.stats.call import CallUsage, usage_of
from callstats.stats.calls import CallData, CallsGroup, CallsSummary, Percentiles, summarize_calls
from callstats.stats.proportions import UNLIMITED, Bernoulli, bernoulli
from callstats.stats.rightsize import RightSize, rightsize
from callstats.stats.series import Summary, summarize
from callstats.stats.trend import LeakTrend, leak_trend

__all__ = [
    "UNLIMITED",
    "Bernoulli",
    "CallData",
    "CallUsage",
    "CallsGroup",
    "CallsSummary",
    "LeakTrend",
    "Percentiles",
    "RightSize",
    "Summary",
    "bernoulli",
    "leak_trend",
    "rightsize",
    "summarize",
    "summarize_calls",
    "usage_of",
]
