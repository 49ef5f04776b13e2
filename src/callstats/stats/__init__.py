"""Statistics: of the metrics of a series, of one call, and of many calls."""

from callstats.stats.call import CallUsage, usage_of
from callstats.stats.calls import CallColumns, CallData, CallsGroup, CallsSummary, Percentiles, summarize_calls
from callstats.stats.compare import Difference, compare_calls
from callstats.stats.proportions import UNLIMITED, Bernoulli, bernoulli
from callstats.stats.rightsize import RightSize, cpu_request, rightsize
from callstats.stats.series import Summary, summarize
from callstats.stats.trend import LeakTrend, leak_trend

__all__ = [
    "UNLIMITED",
    "Bernoulli",
    "CallColumns",
    "CallData",
    "CallUsage",
    "CallsGroup",
    "CallsSummary",
    "Difference",
    "LeakTrend",
    "Percentiles",
    "RightSize",
    "Summary",
    "bernoulli",
    "compare_calls",
    "cpu_request",
    "leak_trend",
    "rightsize",
    "summarize",
    "summarize_calls",
    "usage_of",
]
