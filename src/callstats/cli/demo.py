"""``callstats demo``."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from callstats.cli.chart import chart_lines, fits, time_text
from callstats.cli.lines import summary_lines
from callstats.cli.options import KEPT, examples, write_file
from callstats.cli.progress import progress
from callstats.cli.reduce import exit_code
from callstats.cli.report import report_page
from callstats.rule import Rule
from callstats.series import StatSeries
from callstats.store import add_calls, init_table, read_series, reduce_table, survey_table
from callstats.store.urls import shown_url

_ROWS = 60
_RISK = 0.05  # its functions have some 300 calls each: too few for a smaller risk
_MARK = 0x63616C6C
"""SQLite's application id of a database that the demo made."""


@click.command("demo", epilog=examples("callstats demo", "callstats demo --db /tmp/calls.db"))
@click.option(
    "--db", type=click.Path(dir_okay=False, path_type=Path), default="demo.db", show_default=True, help="The file to make."
)
@click.pass_context
def demo_command(ctx: click.Context, db: Path) -> None:
    """Make a database of 2,001 calls, reduce it to 60 rows a call, and write a report.

    One call is a real container's, as a Docker engine reported it; the others are made up, and last from a tenth of a second to
    two hours. A database that an earlier demo made is replaced; any other file is left alone.
    """
    from callstats.demo import demo_calls

    _start_anew(db)
    init_table(db)
    longest = _Longest()
    rows = add_calls(db, longest.watch(demo_calls()))
    click.echo(f"{rows:,} calls are in {db}. Now: callstats reduce {db} --max-samples {_ROWS}")
    with progress() as shown:
        report = reduce_table(db, Rule(_ROWS, how=KEPT), progress=shown.update)
    click.echo("\n".join(summary_lines(report)))
    before = StatSeries.from_json(longest.stats)
    click.echo("\n".join(["", *memory_lines(longest.call, before, read_series(db, longest.call), fits(sys.stdout.encoding))]))
    click.echo(_report_line(db))
    ctx.exit(exit_code(report))


def _report_line(db: Path) -> str:
    """Write the demo's report beside its database, and name it; or say what it would need."""
    path = db.with_name(f"{db.stem}-report.html")
    survey = survey_table(db, risk=_RISK)
    try:
        page = report_page(survey, shown_url(db), datetime.now(UTC))
    except ImportError as error:
        return f"No report was written: {error}"
    write_file(path, page.encode("utf-8", "replace"))
    return f"A report of all calls is in {path}: open it in a browser"


class _Longest:
    """Lets calls through, and remembers the one with the most samples."""

    def __init__(self) -> None:
        self.call = ""
        self.stats = ""

    def watch(self, calls: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
        for call in calls:
            stats = str(call["stats"])
            if len(stats) > len(self.stats):
                self.call, self.stats = str(call["id"]), stats
            yield call


def memory_lines(call: str, before: StatSeries, after: StatSeries, blocks: bool) -> list[str]:
    """One call's memory as a chart: means solid, peaks light."""
    shown = [stat.metrics for stat in after]
    means = [row.get("mem_usage", 0) for row in shown]
    peaks = [row.get("mem_usage@max", row.get("mem_usage", 0)) for row in shown]
    seconds = int(after.timestamps[-1] - after.timestamps[0]) // 10**9
    title = f"Memory of call {call}, {time_text(seconds)}: {len(before)} rows became {len(after)}, with the peak of each"
    return [title, *chart_lines(means, peaks, seconds=seconds, blocks=blocks)]


def _start_anew(db: Path) -> None:
    """Make an empty database with the demo's mark; it may replace only one that has it."""
    if db.exists() and db.stat().st_size:
        try:
            with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as there:
                mark = there.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.Error:
            mark = None
        if mark != _MARK:
            raise click.UsageError(f"{str(db)!r} was not made by the demo, so it stays: name another file with --db")
    try:
        for part in ("", "-journal", "-wal", "-shm"):
            db.with_name(db.name + part).unlink(missing_ok=True)
        with closing(sqlite3.connect(db)) as new:
            new.execute(f"PRAGMA application_id = {_MARK}")
    except (OSError, sqlite3.Error) as error:
        raise click.UsageError(f"can't make {str(db)!r}: {error}") from None
