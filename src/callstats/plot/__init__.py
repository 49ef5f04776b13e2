"""Pictures of calls: as text, as Plotly and Matplotlib figures, and as a page of a whole table.

Plotly is loaded where it is used, and comes with the extra ``callstats[report]``; Matplotlib with ``callstats[plot]``.
"""

from callstats.plot.html.data import ReportCall, ReportGroup
from callstats.plot.html.render import render
from callstats.plot.panels import Track, tracks
from callstats.plot.plotly import figure, png

__all__ = ["ReportCall", "ReportGroup", "Track", "figure", "png", "render", "tracks"]
