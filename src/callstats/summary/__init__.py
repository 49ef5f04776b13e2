"""Answers from stored calls: what a series says of a metric, and many calls of a function."""

from callstats.summary.chance import UNLIMITED, Bernoulli, bernoulli
from callstats.summary.figures import Summary, summarize

__all__ = ["UNLIMITED", "Bernoulli", "Summary", "bernoulli", "summarize"]
