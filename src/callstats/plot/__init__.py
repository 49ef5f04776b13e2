"""Plots of calls: in the terminal, by Plotly and Matplotlib, and as a page of a whole table.

Plotly comes with the extra ``callstats[report]``, Matplotlib with ``callstats[plot]``. Each is loaded where it is used.
"""

from callstats.plot.html.page import ReportCall, render
from callstats.plot.matplotlib import png
from callstats.plot.panels import Track, tracks
from callstats.plot.plotly import figure

__all__ = ["ReportCall", "Track", "figure", "png", "render", "tracks"]
