"""A whole table as one HTML file that needs nothing but itself."""

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

from callstats._units import printable
from callstats.plot.html.data import ReportCall, ReportGroup, content

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
    """A report on calls as the text of one HTML file, which opens from disk and asks no network for anything.

    Parameters
    ----------
    groups : iterable of ReportGroup
        A row of the table each; a group's distributions are aggregated here.
    calls : iterable of ReportCall
        The calls that get charts.
    title : str
    by : str
        What a group is.
    notes : iterable of str
        Lines below the title.

    Returns
    -------
    str
        The HTML, some 5 MB, nearly all of it Plotly.

    Raises
    ------
    CallstatsError
        When two groups have the same name.
    ImportError
        When Plotly is missing.

    Notes
    -----
    Whatever text is given shows as text. The page's own policy lets only its two scripts run, and load nothing.

    Examples
    --------
    >>> from callstats import StatSeries
    >>> from callstats.stats import CallData, summarize_calls
    >>> series = StatSeries([0, 10**9], {"mem_usage": [2**20, 2**21]})
    >>> group = ReportGroup(name="resize", summary=summarize_calls([CallData(series)]))
    >>> render([group], [ReportCall(name="1", series=series, group="resize")])[:15]
    '<!DOCTYPE html>'
    """
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise ImportError('callstats.plot.render needs Plotly: pip install "callstats[report]"') from None
    plotly, script = _inline(get_plotlyjs()), _part("page.js")
    data = json.dumps(content(groups, calls, by=by, notes=notes), separators=(",", ":"), allow_nan=False, default=str)
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
    """A script that can stand in a page: nothing in it ends it."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    """What allows a script to run, and no other."""
    digest: Any = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
