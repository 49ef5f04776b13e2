"""A whole table as one HTML file without references to others."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from callstats._extras import needs
from callstats._units import printable
from callstats.plot.html.data import ReportCall, ReportGroup, page_data

_MARK = re.compile(r"<!--(\w+)-->|/\*(\w+)\*/")
_IN_SCRIPTS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(
    groups: Iterable[ReportGroup],
    calls: Iterable[ReportCall] = (),
    *,
    title: str = "callstats report",
    by: str = "function",
    notes: Iterable[str] = (),
) -> str:
    """Return a report on calls as the text of one HTML file, which opens from disk and needs no network.

    Parameters
    ----------
    groups : iterable of ReportGroup
        The rows of the table. The distributions of each group are computed here.
    calls : iterable of ReportCall
        The calls with charts.
    title : str
    by : str
        The name of a group's kind.
    notes : iterable of str
        Lines below the title.

    Returns
    -------
    str
        The HTML: 5 MB, mostly Plotly.

    Raises
    ------
    ArgumentError
        When two groups have the same name.

    Notes
    -----
    All texts are escaped. The page's own policy lets only its two scripts run, and load nothing.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> from callstats.stats import CallData, summarize_calls
    >>> series = StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]})
    >>> group = ReportGroup(name="resize", summary=summarize_calls([CallData(series)]))
    >>> render([group], [ReportCall(name="1", series=series, group="resize")])[:15]
    '<!DOCTYPE html>'
    """
    with needs("plot.render", "report"):
        from plotly.offline import get_plotlyjs
    plotly, script = _inline(get_plotlyjs()), _part("page.js")
    data = json.dumps(page_data(groups, calls, by=by, notes=notes), separators=(",", ":"), allow_nan=False, default=str)
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(printable(title)),
        "by": html.escape(printable(by)),
        "style": _part("page.css"),
        "data": data.translate(_IN_SCRIPTS),
        "plotly": plotly,
        "script": script,
    }
    return _MARK.sub(lambda found: parts[found[1] or found[2]], _part("page.html"))


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """Escape all parts of a script that could end it in a page."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    """Return the hash that lets a script run under the page's policy."""
    digest: Any = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
