"""One call as a figure: Plotly's, to look into, and Matplotlib's, to print."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from callstats._units import printable
from callstats.plot.panels import Kind, Track, tracks
from callstats.series import StatSeries

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from callstats._types import AnyArray

COLORS = ("#2f6fdb", "#d9822b", "#2e9d6a", "#b0479d", "#8a7a1f", "#5b5fc7")
LIMIT_COLOR = "#d64545"
_BANDS = tuple(f"rgba({int(color[1:3], 16)}, {int(color[3:5], 16)}, {int(color[5:7], 16)}, 0.25)" for color in COLORS)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MOST_PIXELS = 2**15


class Panel(NamedTuple):
    """Tracks that are drawn together: of one kind, on one scale."""

    title: str
    unit: str
    divisor: float
    """Of the tracks' values, to come to the unit."""
    tracks: list[Track]

    @property
    def limit(self) -> float | None:
        """The limit to be drawn, in the panel's unit."""
        drawn = [track.drawn_limit for track in self.tracks if track.drawn_limit is not None]
        return max(drawn) / self.divisor if drawn else None


_TITLES = {"mem": "Memory", "cpu": "Processor", "net": "Network", "disk": "Disk"}


def panels(series: StatSeries, metrics: Iterable[str] | None = None) -> list[Panel]:
    """The tracks of a series, those of the same thing together; each other metric is by itself."""
    together: dict[str, list[Track]] = {}
    for track in tracks(series, metrics):
        known = _TITLES.get(track.name.partition("_")[0]) if track.kind != "number" else None
        together.setdefault(known or track.name, []).append(track)
    return [_panel(title, found) for title, found in together.items()]


def _panel(title: str, found: list[Track]) -> Panel:
    kind: Kind = found[0].kind
    if kind == "percent":
        return Panel(title, "% of one core", 1.0, found)
    if kind == "number":
        return Panel(title, "", 1.0, found)
    top, power = max(track.top for track in found), 0
    while top >= 1024 and power + 1 < len(_UNITS):
        top, power = top / 1024, power + 1
    return Panel(title, _UNITS[power] + ("/s" if kind == "rate" else ""), float(1024**power), found)


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit for an axis of time, and how many seconds it has."""
    for unit, length, least in (("days", 86_400.0, 3.0), ("hours", 3_600.0, 3.0), ("minutes", 60.0, 5.0)):
        if seconds >= least * length:
            return unit, length
    return "seconds", 1.0


def figure(series: StatSeries, metrics: Iterable[str] | None = None, *, title: str | None = None) -> Figure:
    """One call as a Plotly figure: a panel for memory, processor, network and disk each, and one for any other metric.

    Parameters
    ----------
    series : StatSeries
    metrics : iterable of str, optional
        Only these.
    title : str, optional

    Returns
    -------
    plotly.graph_objects.Figure

    Notes
    -----
    The band of ``x@min`` and ``x@max`` lies around the line of a metric, where they are kept. The line is open where rows are
    missing. Counters are drawn as rates.

    Raises
    ------
    CallstatsError
        When the series has no such metric.
    ImportError
        When Plotly is missing.

    Examples
    --------
    >>> figure(StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]})).layout.yaxis.title.text
    'MiB'
    """
    try:
        from plotly import graph_objects
        from plotly.subplots import make_subplots
    except ModuleNotFoundError:
        raise ImportError('callstats.plot.figure needs Plotly: pip install "callstats[report]"') from None
    shown = panels(series, metrics)
    drawn: Figure = graph_objects.Figure()
    if shown:
        titles = [plotly_text(panel.title) for panel in shown]
        drawn = make_subplots(
            rows=len(shown), cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=min(0.25 / len(shown), 0.1)
        )
    for row, panel in enumerate(shown, 1):
        for trace in traces(panel):
            drawn.add_trace(trace, row=row, col=1)
        if panel.limit is not None:
            drawn.add_hline(panel.limit, row=row, col=1, line={"color": LIMIT_COLOR, "dash": "dash"}, annotation_text="limit")
        drawn.update_yaxes(title_text=plotly_text(panel.unit), rangemode="tozero", row=row, col=1)
    drawn.update_xaxes(title_text="seconds", row=max(len(shown), 1) if shown else None, col=1 if shown else None)
    drawn.update_layout(
        height=140 + 230 * max(len(shown), 1),
        hovermode="x unified",
        title=None if title is None else plotly_text(title),
    )
    return drawn


def traces(panel: Panel) -> list[dict[str, Any]]:
    """A panel's lines, and the bands around them, as Plotly takes them."""
    found: list[dict[str, Any]] = []
    for place, track in enumerate(panel.tracks):
        name, color = plotly_text(track.name), COLORS[place % len(COLORS)]
        whole = {"type": "scatter", "x": track.seconds, "legendgroup": name, "mode": "lines"}
        if track.low is not None or track.high is not None:
            low, high = (track.values if cells is None else cells for cells in (track.low, track.high))
            x, y = outline(track.seconds, low, high)
            band = {"fill": "toself", "fillcolor": _BANDS[place % len(_BANDS)], "line": {"width": 0}, "hoverinfo": "skip"}
            found.append({**whole, **band, "x": x, "y": y / panel.divisor, "name": f"{name}, least to most"})
            if track.high is not None:
                dotted = {"color": color, "width": 1, "dash": "dot"}
                found.append({**whole, "y": track.high / panel.divisor, "name": f"{name}, most", "line": dotted})
        lone = np.count_nonzero(np.isfinite(track.values)) < 3
        line = {"y": track.values / panel.divisor, "name": name, "line": {"color": color, "width": 2}}
        found.append({**whole, **line, "mode": "lines+markers" if lone else "lines"})
    return found


def outline(seconds: AnyArray, low: AnyArray, high: AnyArray) -> tuple[AnyArray, AnyArray]:
    """The outline of a band, piece by piece between its gaps, with a NaN after each."""
    there = np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], there.astype(np.int8), [0]))))
    xs, ys, end_of_piece = [np.zeros(0)], [np.zeros(0)], np.full(1, np.nan)
    for begin, end in edges.reshape(-1, 2).tolist():
        xs += [seconds[begin:end], seconds[begin:end][::-1], end_of_piece]
        ys += [high[begin:end], low[begin:end][::-1], end_of_piece]
    return np.concatenate(xs), np.concatenate(ys)


def plotly_text(text: str) -> str:
    """Text as it stands, for Plotly, which knows some HTML."""
    return html.escape(printable(text), quote=False)


def png(series: StatSeries, metrics: Iterable[str] | None = None, *, title: str | None = None, width: int = 1000) -> bytes:
    """One call as a PNG image, drawn by Matplotlib: the same panels as those of `figure`.

    Parameters
    ----------
    series : StatSeries
    metrics : iterable of str, optional
        Only these.
    title : str, optional
    width : int
        In pixels.

    Returns
    -------
    bytes
        A file's.

    Raises
    ------
    CallstatsError
        When the series has no such metric.
    ImportError
        When Matplotlib is missing.

    Examples
    --------
    >>> png(StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]}))[1:4]
    b'PNG'
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Drawing
    except ModuleNotFoundError:
        raise ImportError('callstats.plot.png needs Matplotlib: pip install "callstats[plot]"') from None
    shown = panels(series, metrics)
    dpi = 100
    height = min(max(len(shown), 1) * 240 + 40, _MOST_PIXELS)
    drawing = Drawing(figsize=(width / dpi, height / dpi), dpi=dpi, layout="constrained")
    FigureCanvasAgg(drawing)
    if title is not None:
        drawing.suptitle(title, parse_math=False)
    if not shown:
        drawing.text(0.5, 0.5, "no sample", ha="center")
    for place, panel in enumerate(shown):
        axes = drawing.add_subplot(len(shown), 1, place + 1)
        _draw(axes, panel)
    out = io.BytesIO()
    drawing.savefig(out, format="png")
    return out.getvalue()


def _draw(axes: Any, panel: Panel) -> None:
    for place, track in enumerate(panel.tracks):
        color = COLORS[place % len(COLORS)]
        if track.low is not None or track.high is not None:
            low, high = (track.values if cells is None else cells for cells in (track.low, track.high))
            axes.fill_between(track.seconds, low / panel.divisor, high / panel.divisor, color=color, alpha=0.25, linewidth=0)
        lone = np.count_nonzero(np.isfinite(track.values)) < 3
        (line,) = axes.plot(track.seconds, track.values / panel.divisor, color=color, marker="o" if lone else None)
        line.set_label("\u200b" + printable(track.name))  # a label that begins with "_" would be left out
    if panel.limit is not None:
        axes.axhline(panel.limit, color=LIMIT_COLOR, linestyle="--", label="limit")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(track.seconds[-1] for track in panel.tracks) or 1)
    axes.set_title(printable(panel.title), loc="left", parse_math=False)
    axes.set_ylabel(panel.unit)
    axes.set_xlabel("seconds")
    axes.grid(alpha=0.3)
    for label in axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False).get_texts():
        label.set_parse_math(False)
