"""``callstats summary``: a table, blocks, JSON, CSV or a patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import click

from callstats._json import json_text
from callstats._types import FN_COUNTERS
from callstats._units import percent_text, plural, size_text
from callstats.adapters.files import is_blob_file
from callstats.cli.errors import ExitCode, catch_ctrl_c, exit_code, say
from callstats.cli.format import (
    NOT_EXACT,
    FewRejects,
    calls_hint,
    caveat_lines,
    choice_text,
    csv_text,
    name_text,
    stopped_lines,
    text_table,
    wrap_lines,
)
from callstats.cli.kubernetes import kubernetes_patch
from callstats.cli.options import (
    choice_options,
    column_options,
    default_option,
    detail_options,
    examples,
    form_option,
    open_calls,
    require_time_column,
    shown_source,
    source_argument,
)
from callstats.db import TableSummary
from callstats.stats import CallsGroup, CallsSummary, summarize_calls
from callstats.stats.format import LEAKING, PERCENTILES, UNKNOWN_ENDS, number_text, summary_texts
from callstats.stats.trend import MIN_CALLS

_SORT_KEYS: dict[str, Callable[[CallsSummary], int | float | None]] = {
    "waste": lambda summary: summary.waste,
    "calls": lambda summary: summary.calls,
    "errors": lambda summary: summary.errors,
    "duration": lambda summary: summary.duration_ns.p95,
    "memory": lambda summary: summary.memory.max,
    "cpu": lambda summary: summary.cpu.p95,
}
"""The columns that groups may be sorted by, the largest value first."""

_COLUMNS = {
    "time\np95": ("duration p95", ""),
    "memory\nmax": ("memory max", ""),
    "limit": ("limit", ""),
    "right\nsize": ("right size", ""),
    "CPU\ncores": ("CPU request", "core"),
    "growing": ("growing", ""),
    "waste\nGiB h": ("waste", "GiB h"),
}
"""The columns of the table after the counts: the number that each has, and the unit that its heading tells."""

_OPTIONAL = ("CPU\ncores", "time\np95", "errors", "growing")
"""The columns that a narrow terminal leaves out, the first of them first."""

_SHOWN_NAMES = 2


@click.command(
    "summary",
    epilog=examples(
        "callstats summary calls.db",
        "callstats summary calls.db --since 7d --rightsize 0.1% --step 64m --long",
        "callstats summary calls.parquet --sort memory",
        "callstats summary calls.db --tag branch=main",
        "callstats summary calls.db --patch kubernetes > patches.yaml",
        "callstats summary calls.db --by app_id --csv > apps.csv",
        "callstats summary runs.db --table runs --by job --status-column state --time-column began",
    ),
)
@source_argument
@choice_options
@form_option("--long", help="Print a block for each name, with what each number covers.")
@form_option("--json", help="Print JSON.")
@form_option("--csv", help="Print CSV, a line for each name.")
@click.option("--patch", type=click.Choice(["kubernetes"]), help="Print requests and limits as a patch in YAML.")
@default_option(
    "--sort", type=click.Choice([*_SORT_KEYS, "name"]), default="waste", help="The order of names, the largest first."
)
@detail_options
@column_options
def summary_command(url: str, form: str | None, patch: str | None, sort: str, **asked: Any) -> ExitCode:
    """Summarize what calls needed, by name.

    Time, memory, CPU, network and disk are summarized. Names come in the order of their waste: memory that calls reserved by
    their limit and did not need, in GiB hours.

    Nothing is changed. The table need not have every column that is a default below. A call's memory is mem_working where it
    was recorded, else mem_usage, which includes the page cache; the output says which. ~ marks values that are not
    exact: reductions have changed them, or they are known from samples only. Of a peak that was sampled, a line below says so.

    --rightsize has a confidence of 95 %, by the one-sided bound of Clopper and Pearson. A killed call exceeds every size
    below twice its limit. Twice the limit is taken to be enough; the output says for how many calls.

    --patch prints a strategic merge patch of a Deployment for each name. The Deployment and its container must have that
    name. Names whose advice is not sound get a comment in place of a patch.
    """
    if form and patch:
        raise click.UsageError(f"--patch must be given without --{form}")
    summary = summarize_database(url, **asked)
    if sort != "name":
        values = [_SORT_KEYS[sort](group.summary) for group in summary.groups]
        order = sorted(range(len(values)), key=lambda index: (values[index] is None, -(values[index] or 0)))
        summary = replace(summary, groups=tuple(summary.groups[index] for index in order))
    click.echo(_FORMS[patch or form](summary))
    return exit_code(summary)


def summarize_database(
    url: str,
    *,
    name: str | None,
    since: int | None,
    tags: dict[str, str],
    where: str | None,
    risk: float | None,
    step: int,
    top: int = 0,
    **columns: Any,
) -> TableSummary:
    """Summarize a table until Ctrl-C, and print its rejects to standard error."""
    require_time_column(columns["time_column"], since=since)
    with catch_ctrl_c() as caught, FewRejects() as few, open_calls(url, **columns) as calls:
        summary = calls.summarize(
            name=name, since=since, tags=tags, where=where, risk=risk, step=step, top=top, stop=caught.is_set, on_reject=few.add
        )
    asked = choice_text(name=name, since=since, tags=tags, where=where)
    if asked and not (summary.calls or summary.rejected or summary.untimed or summary.unfinished or summary.stopped):
        hint = "" if is_blob_file(url) else f": {calls_hint(shown_source(url), tags=tags)}"
        say(f"no calls meet {asked}{hint}")
    return summary


def _table_notes(summary: TableSummary) -> list[str]:
    """Return the risks of the sizes, what a dash stands for (how many calls each name lacks), and sizes that don't last."""
    risks, lacks, others = [], dict[str, dict[str, int]](), []
    for group in summary.groups:
        one, name = group.summary, _group_name(summary.by, group)
        needs = [("growing", "min memory", MIN_CALLS, one.trend.n)]
        if (sized := one.rightsize) and (cores := one.cpu_request):
            both = f"at most {percent_text(sized.risk)} of calls exceed it, CPU cores: at most {percent_text(cores.risk)}"
            risks = [f"right size: {both}; both with 95 % confidence"]
            needs[:0] = [
                ("right size", "memory", sized.needed, sized.calls),
                ("CPU cores", "CPU", cores.needed, cores.calls),
            ]
            if sized.size is None and sized.calls >= sized.needed:
                others.append(f"{name}: {sized.reason}")
            elif one.trend.growing and sized.size is not None:
                others.append(f"{name}: its {LEAKING}")
        for title, what, needed, known in needs:
            lacks.setdefault(f"- as {title}: needs {needed:,} calls with known {what}", {})[name] = needed - known
    for what, missing in lacks.items():
        few = [f"{name} {n:,}" for name, n in missing.items() if n > 0]
        more = [plural(len(few) - _SHOWN_NAMES, "more name")] * (len(few) > _SHOWN_NAMES)
        risks += [f"{what}; missing: {', '.join(few[:_SHOWN_NAMES] + more)}"] * bool(few)
    return risks + others


def table_lines(summary: TableSummary) -> list[str]:
    """Return a line for each name."""
    if not summary.groups:
        return list(wrap_lines(_end_lines(summary, []), indent=2))
    rows = [("name", "sampled\n/ calls", "errors", *_COLUMNS)]
    for group in summary.groups:
        one = group.summary
        numbers = [(number_text(one, title)[1], unit) for title, unit in _COLUMNS.values()]
        cells = (text.partition(f" {unit}")[0] if unit else text for text, unit in numbers)
        name = _group_name(summary.by, group)
        errors = "" if one.errors is None else f"{one.errors:,}"
        rows.append((name, f"{one.sampled:,}/{one.calls:,}", *(cell or "-" for cell in (errors, *cells))))
    table = text_table(rows, right=1, optional=_OPTIONAL, cut="name")
    notes = wrap_lines([*_table_notes(summary), *_end_lines(summary, table, is_table=True)], indent=2)
    return [*table, "", *notes]


def _group_name(by: str | None, group: CallsGroup) -> str:
    return name_text(group.name) if by else "all"


def summary_lines(summary: TableSummary) -> list[str]:
    """Return a block of lines for each name."""
    blocks = [line for group in summary.groups for line in _group_lines(summary.by, group)]
    return blocks + _end_lines(summary, blocks)


def _end_lines(summary: TableSummary, above: Iterable[str], *, is_table: bool = False) -> list[str]:
    """Return what the numbers above cover; for a table also how peaks are known, which --long has for each name."""
    lines = []
    if any("~" in line for line in above):
        lines.append(NOT_EXACT)
    sized = [group.summary.rightsize for group in summary.groups if group.summary.rightsize]
    if any(one.size is not None for one in sized):
        lines.append("a right size covers calls whose memory is known" + ": --long has the details" * is_table)
    sampled = sum(group.summary.memory.n - group.summary.kernel_peaks for group in summary.groups)
    if is_table and sampled:
        lines.append(f"peaks of memory were sampled in {plural(sampled, 'call')}, and may have been higher")
    if any(group.summary.errors is None for group in summary.groups):
        lines.append("calls without a status may have failed or been killed: killed ones count by their peaks")
    if any(group.summary.rightsize and group.summary.rightsize.assumed for group in summary.groups):
        lines.append("killed calls are taken to need twice their limit, and may need more")
    if lines:
        lines.append("")
    groups = f" in {plural(len(summary.groups), 'name')}" if summary.by else ""
    read = f"{size_text(summary.bytes_read)} in {summary.seconds:.1f} s, {summary.backend} backend"
    lines.append(f"{plural(summary.calls, 'call')}{groups}, {summary.rejected:,} rejected; {read}")
    return lines + caveat_lines(summary) + stopped_lines(summary, "the numbers are of the calls read so far")


def _group_lines(by: str | None, group: CallsGroup) -> Iterator[str]:
    summary = group.summary
    ends = UNKNOWN_ENDS if summary.errors is None else f", {plural(summary.errors, 'error')}, {summary.killed:,} killed"
    yield f"{_group_name(by, group)}: {plural(summary.calls, 'call')}, {summary.sampled:,} sampled{ends}"
    for title, text in summary_texts(summary):
        yield f"  {title:<12}{text}"
    yield ""


def summary_json(summary: TableSummary) -> str:
    """Return the summary as JSON."""
    groups: list[dict[str, Any]] = []
    for group in summary.groups:
        extra = {"unlimited": group.summary.is_unlimited, "approximate": sorted(group.summary.approximate)}
        groups.append({"name": group.name, **asdict(group.summary), **extra})
    counts = ("calls", "rejected", "untimed", "unfinished", "lost", "unknown_statuses", "bytes_read")
    rest = {name: getattr(summary, name) for name in (*counts, "seconds", "backend", "stopped")}
    rejects = [reject._asdict() for reject in summary.rejects]
    return json_text({"by": summary.by, "groups": groups, **rest, "rejects": rejects}, indent=2)


def summary_csv(summary: TableSummary) -> str:
    """Return a line for each name; an empty field means no value."""
    rows = (_flat(name_text(group.name), group.summary) for group in summary.groups)
    return csv_text([list(_flat("", summarize_calls([]))), *(list(row.values()) for row in rows)])


def _flat(name: str, summary: CallsSummary) -> dict[str, object]:
    sized, near, trend, request = summary.rightsize, summary.near, summary.trend, summary.cpu_request
    spreads = {title: getattr(summary, title) for title in ("duration_ns", "memory", "growth", "cpu", "cpu_peak")}
    return {
        "name": name,
        **{title: getattr(summary, title) for title in ("calls", "sampled", "errors", "killed")},
        **{f"{title}_{part}": getattr(spread, part) for title, spread in spreads.items() for part in PERCENTILES},
        **{title: getattr(summary, title) for title in ("kernel_peaks", "page_cache", "limit", "headroom", "waste", "cpu_mean")},
        "unlimited": int(summary.is_unlimited),
        **{f"near_{part}": getattr(near, part) for part in ("k", "n", "p", "low", "high")},
        **{title: summary.increases[title] if summary.increase[title].n else None for title in FN_COUNTERS},
        "growing": None if trend.growing is None else int(trend.growing),
        **{f"trend_{part}": getattr(trend, part, None) for part in ("p", "slope")},
        **{f"rightsize_{part}": getattr(sized, part, None) for part in ("size", "over", "bound", "assumed", "saved", "reason")},
        "cpu_request": None if request is None else request.size,
        "approximate": " ".join(sorted(summary.approximate)),
    }


def _patch_text(summary: TableSummary, patch: str) -> str:
    return "\n".join([*(f"# {line}".rstrip() for line in _end_lines(summary, [patch])), patch])


_FORMS: dict[str | None, Callable[[TableSummary], str]] = {
    None: lambda summary: "\n".join(table_lines(summary)),
    "long": lambda summary: "\n".join(wrap_lines(summary_lines(summary), indent=14)),
    "json": summary_json,
    "csv": summary_csv,
    "kubernetes": lambda summary: _patch_text(summary, kubernetes_patch(summary)),
}
