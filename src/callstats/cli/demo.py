"""``callstats demo``: the README's commands, one after the other."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from callstats.cli.options import default_option, examples, is_database

LINES = (
    "callstats init demo.db --example",
    "callstats record --db demo.db -- sh -c 'head -c 50000000 /dev/zero | tail | (sleep 1; wc -c)'",
    "callstats list demo.db --limit 5",
    "callstats reduce demo.db --max-samples 60",
    "callstats show demo.db 01M83YEN8Q00000000000001VP --metric mem_usage --metric cpu_total",
    "callstats summary demo.db --rightsize 5%",
    "callstats report demo.db -o demo-report.html --rightsize 5%",
)

RECORDED = shlex.join(shlex.split(LINES[1].partition(" -- ")[2]))
"""The command line that the demo records."""


@click.command("demo", epilog=examples("callstats demo", "callstats demo --db /tmp/calls.db"))
@default_option("--db", type=click.Path(dir_okay=False), default="demo.db", help="The file to make.")
@click.pass_context
def demo_command(ctx: click.Context, db: str) -> None:
    """Run the README's first commands on example data.

    They make a database of 2,001 calls and record one more. Then they list, reduce, show, summarize and report the calls.

    The database of an earlier demo is replaced. Any other file stays unchanged, and so does a demo's to which calls were added.
    The report beside it is always replaced.
    """
    if not Path(db).name:
        raise click.UsageError(f"--db must name a file, got {db!r}")
    group = ctx.find_root().command
    if db.startswith("-") or not is_database(db):
        db = f"./{db}"
    names = {"demo.db": db, "demo-report.html": f"{Path(db).with_suffix('')}-report.html"}
    for line in LINES:
        shown = re.sub("demo.db|demo-report.html", lambda name: shlex.quote(names[name[0]]), line)
        if line.startswith("callstats report") and find_spec("plotly") is None:
            click.echo('no report: that needs Plotly: install callstats with the extra "report"')
            continue
        click.echo(f"$ {shown}")
        code = group.main(shlex.split(shown)[1:], prog_name="callstats", standalone_mode=False)
        if code:
            ctx.exit(code)
        click.echo()
