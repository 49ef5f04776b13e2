"""Answers from stored calls: what a series says of a metric, and many calls of a function."""

from callstats.summary.calls import Call, CallsSummary, Spread, summarize_calls
from callstats.summary.chance import UNLIMITED, Bernoulli, bernoulli
from callstats.summary.figures import Summary, summarize
from callstats.summary.sizing import RightSize, rightsize
from callstats.summary.trend import LeakTrend, leak_trend

__all__ = [
    "UNLIMITED",
    "Bernoulli",
    "Call",
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
]
