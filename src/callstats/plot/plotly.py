"""A call as a Plotly figure, and the traces of its panels."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from callstats._extras import needs
from callstats._types import AnyArray
from callstats._units import printable
from callstats.plot.panels import COLORS, LIMIT_COLOR, Panel, panels
from callstats.series import StatSeries

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def figure(
    series: StatSeries,
    metrics: Iterable[str] | None = None,
    *,
    title: str | None = None,
    span: tuple[int, int] | None = None,
) -> Figure:
    """Return one call as a Plotly figure: a panel for memory, processor, network and disk, and one for each other metric.

    Each of the metrics, by default all, is drawn as its `Track`, in its band. The line is open where rows are missing.
    The axis of time is the call's with ``span=call.span``; by default it lasts from the first row to the last.

    Examples
    --------
    >>> figure(StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]})).layout.yaxis.title.text
    'MiB'
    """
    with needs("plot.figure", "report"):
        from plotly import graph_objects
        from plotly.subplots import make_subplots
    shown = panels(series, metrics, span=span)
    drawn: Figure = graph_objects.Figure()
    if shown:
        titles, spacing = [plotly_text(panel.title) for panel in shown], min(0.25 / len(shown), 0.1)
        drawn = make_subplots(len(shown), 1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=spacing)
    for row, panel in enumerate(shown, 1):
        for trace in traces(panel):
            drawn.add_trace(trace, row=row, col=1)
        if panel.limit is not None:
            drawn.add_hline(panel.limit, row=row, col=1, line={"color": LIMIT_COLOR, "dash": "dash"}, annotation_text="limit")
        drawn.update_yaxes(title_text=plotly_text(panel.unit), rangemode="tozero", row=row, col=1)
        if end := panel.tracks[0].end:
            drawn.update_xaxes(autorangeoptions={"minallowed": 0, "maxallowed": end}, row=row, col=1)
    drawn.update_xaxes(title_text="seconds", row=len(shown) or None, col=1 if shown else None)
    text = None if title is None else plotly_text(title)
    drawn.update_layout(height=140 + 230 * max(len(shown), 1), hovermode="x unified", title=text)
    return drawn


def traces(panel: Panel, seconds_in_unit: float = 1.0) -> list[dict[str, Any]]:
    """Return the traces of a panel for Plotly: of each track its band, the max of each row, and its line."""
    found: list[dict[str, Any]] = []
    for index, track in enumerate(panel.tracks):
        name, color = plotly_text(track.name), COLORS[index % len(COLORS)]
        x = track.seconds / seconds_in_unit
        shared = {"type": "scatter", "mode": "lines", "x": x}
        hover = {"hovertemplate": f"%{{fullData.name}}: %{{y}} {panel.unit}<extra></extra>"}
        if track.band is not None:
            band_x, band_y = outline(x, *track.band)
            fill = {"fill": "toself", "fillcolor": f"{color}40", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            band = {"x": band_x, "y": band_y / panel.divisor, "name": f"{name}, min to max", "legendgroup": name}
            found.append({**shared, **fill, **band})
        if track.high is not None:
            dotted = {"color": color, "width": 1, "dash": "dot"}
            found.append({**shared, **hover, "y": track.high / panel.divisor, "name": f"{name}, max", "line": dotted})
        line = {"y": track.values / panel.divisor, "name": name, "legendgroup": name, "line": {"color": color, "width": 2}}
        markers = {"mode": "lines+markers", "cliponaxis": False} if track.needs_markers else {}  # whole at both ends of the axis
        found.append({**shared, **hover, **line, **markers})
    return found


def outline(x: AnyArray, low: AnyArray, high: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return the outline of a band, with a NaN after each piece between its gaps."""
    xs, ys, end_of_piece = [np.zeros(0)], [np.zeros(0)], np.full(1, np.nan)
    for piece in np.ma.clump_unmasked(np.ma.masked_invalid(low + high)):  # type: ignore[no-untyped-call]
        xs += [x[piece], x[piece][::-1], end_of_piece]
        ys += [high[piece], low[piece][::-1], end_of_piece]
    return np.concatenate(xs), np.concatenate(ys)


def plotly_text(text: str) -> str:
    """Escape text for Plotly, which renders some HTML."""
    return html.escape(printable(text), quote=False)
