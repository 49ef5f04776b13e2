"""Right sizes as a patch for Kubernetes."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from callstats._units import plural, printable
from callstats.cli.format import name_text
from callstats.stats.format import summary_texts
from callstats.stats.proportions import max_exceedances

if TYPE_CHECKING:
    from callstats.db import TableSummary
    from callstats.stats import CallsGroup, CallsSummary

_DNS_LABEL = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label (RFC 1123), as a container must be named."""


def kubernetes_patch(summary: TableSummary) -> str:
    """Return a strategic merge patch of a Deployment for each group whose advice is sound, as documents of YAML.

    The memory request equals the limit, so that no node promises more memory than it has. CPU gets a request alone, since a limit
    would only slow calls down.
    """
    fault = None if summary.stopped is None else "not all calls were read"
    names = Counter(name_text(group.name) for group in summary.groups)
    twice = "another name reads the same"
    return "\n".join(
        line for group in summary.groups for line in _document(group, twice if names[name_text(group.name)] > 1 else fault)
    )


def _document(group: CallsGroup, fault: str | None) -> list[str]:
    name, summary = name_text(group.name), group.summary
    fault = fault or _fault(name, summary)
    sized, request = summary.rightsize, summary.cpu_request
    if fault is not None or sized is None or sized.size is None:
        return [f"# {name}: no patch: {printable(fault or '')}"]
    quoted, memory = json.dumps(name), _quantity(sized.size)
    sound = request is not None and request.size is not None and request.unknown <= request.calls
    cpu = [f"              cpu: {request.size}m"] if request is not None and sound else []
    return [
        "---",
        *(f"# {title}: {text}" for title, text in summary_texts(summary) if title in ("right size", "covers", "CPU request")),
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        f"  name: {quoted}",
        "spec:",
        "  template:",
        "    spec:",
        "      containers:",
        f"        - name: {quoted}",
        "          resources:",
        "            requests:",
        f"              memory: {memory}",
        *cpu,
        "            limits:",
        f"              memory: {memory}",
    ]


def _fault(name: str, summary: CallsSummary) -> str | None:
    """Return why there is no sound advice."""
    sized = summary.rightsize
    if not _DNS_LABEL.fullmatch(name):
        return "a container's name must be a DNS label"
    if sized is None or sized.size is None:
        return "no right size" if sized is None else sized.reason
    if "rightsize" in summary.approximate:
        return "its peaks are not exact, since reductions did not keep them"
    if sized.unknown > sized.calls:
        return f"memory is known in {sized.calls:,} of {plural(summary.calls, 'call')} only"
    if (sized.over or 0) + sized.assumed > max_exceedances(sized.calls, sized.risk):
        return f"{plural(sized.killed, 'call')} of {sized.calls:,} ran out of memory, and what such calls need is not known"
    if summary.killed is None:
        return "it is not known which calls ran out of memory, since they have no status"
    if summary.trend.growing:
        return "its memory grows from call to call, so no size lasts"
    return None


def _quantity(size: int) -> str:
    """Return bytes as Kubernetes writes them."""
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
