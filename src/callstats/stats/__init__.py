"""Answers from stored calls: what a series says of a metric, and many calls of a function."""

from callstats.stats.call import CallUsage, usage_of
from callstats.stats.calls import Call, CallsSummary, Spread, summarize_calls
from callstats.stats.proportions import UNLIMITED, Bernoulli, bernoulli
from callstats.stats.rightsize import RightSize, rightsize
from callstats.stats.series import Summary, summarize
from callstats.stats.trend import LeakTrend, leak_trend

__all__ = [
    "UNLIMITED",
    "Bernoulli",
    "Call",
    "CallUsage",
    "CallsSummary",
    "LeakTrend",
    "RightSize",
    "Spread",
    "Summary",
    "bernoulli",
    "leak_trend",
    "rightsize",
    "summarize",
    "summarize_calls",
    "usage_of",
]
