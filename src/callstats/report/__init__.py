"""Pictures of calls: as text, as Plotly and Matplotlib figures, and as a page of a whole table.

Plotly is loaded where it is used, and comes with the extra ``callstats[report]``; Matplotlib with ``callstats[plot]``.
"""

from callstats.report.content import ReportCall, ReportGroup
from callstats.report.figures import figure, png
from callstats.report.page import render
from callstats.report.tracks import Track, tracks

__all__ = ["ReportCall", "ReportGroup", "Track", "figure", "png", "render", "tracks"]
