"""A call as an image by Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from callstats._extras import needs
from callstats._units import printable
from callstats.plot.panels import COLORS, LIMIT_COLOR, Panel, panels
from callstats.series import StatSeries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_PIXELS = 2**15


def png(
    series: StatSeries,
    metrics: Iterable[str] | None = None,
    *,
    title: str | None = None,
    width: int = 1000,
    span: tuple[int, int] | None = None,
) -> bytes:
    """Return one call as a PNG image, with the panels and the span of `figure`. The width is in pixels.

    Examples
    --------
    >>> png(StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]}))[1:4]
    b'PNG'
    """
    with needs("plot.png", "plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    shown = panels(series, metrics, span=span)
    height = min(max(len(shown), 1) * 240 + 40, _MAX_PIXELS)
    drawing = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    FigureCanvasAgg(drawing)
    if title is not None:
        drawing.suptitle(title, parse_math=False)
    if not shown:
        drawing.text(0.5, 0.5, "no sample", ha="center")
    for index, panel in enumerate(shown):
        _draw_panel(drawing.add_subplot(len(shown), 1, index + 1), panel)
    out = io.BytesIO()
    drawing.savefig(out, format="png")
    return out.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for index, track in enumerate(panel.tracks):
        color = COLORS[index % len(COLORS)]
        if track.band is not None:
            low, high = track.band
            axes.fill_between(track.seconds, low / panel.divisor, high / panel.divisor, color=color, alpha=0.25, linewidth=0)
        marker = "o" if track.needs_markers else None
        (line,) = axes.plot(track.seconds, track.values / panel.divisor, color=color, marker=marker)
        line.set_clip_on(marker is None)  # a marker is whole at both ends of the axis
        line.set_label("\u200b" + printable(track.name))  # Matplotlib leaves out labels that begin with "_"
    if panel.limit is not None:
        axes.axhline(panel.limit, color=LIMIT_COLOR, linestyle="--", label="limit")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, panel.tracks[0].end or 1)
    axes.set_title(printable(panel.title), loc="left", parse_math=False)
    axes.set_ylabel(panel.unit)
    axes.set_xlabel("seconds")
    axes.grid(alpha=0.3)
    for label in axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False).get_texts():
        label.set_parse_math(False)
