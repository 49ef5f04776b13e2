"""The command group."""

from __future__ import annotations

import click

import callstats
from callstats.cli.compare import compare_command
from callstats.cli.demo import demo_command
from callstats.cli.errors import CommandGroup
from callstats.cli.export import export_command
from callstats.cli.import_ import import_command
from callstats.cli.init import init_command
from callstats.cli.list_ import list_command
from callstats.cli.options import examples
from callstats.cli.record import record_command
from callstats.cli.reduce import reduce_command
from callstats.cli.report import report_command
from callstats.cli.schema import schema_command
from callstats.cli.show import show_command
from callstats.cli.summary import summary_command


@click.group(
    cls=CommandGroup,
    commands=[
        demo_command,
        init_command,
        record_command,
        list_command,
        show_command,
        summary_command,
        compare_command,
        report_command,
        reduce_command,
        export_command,
        import_command,
        schema_command,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "callstats demo",
        "callstats record -- make test",
        "callstats list calls.db",
        "callstats reduce calls.db --max-samples 60 --dry-run",
        "callstats reduce calls.db --max-samples 60 --save old.jsonl",
        "callstats summary calls.db --rightsize 0.1%",
        "callstats compare calls.db resize --at 2026-11-20",
        "callstats show calls.db",
        "callstats report calls.db",
        "callstats import calls.db old.jsonl",
    ),
)
@click.version_option(callstats.__version__, prog_name="callstats", message=f"%(prog)s %(version)s ({callstats.backend} backend)")
def cli() -> None:
    """Record calls, and reduce their stored histograms.

    A database is a SQLAlchemy URL or the path of an SQLite file. The default is CALLSTATS_URL, else calls.db. It is given as
    the first argument, to record and demo as --db. An argument without a / is one if it ends in .db or .sqlite, or is an SQLite
    file; any other name needs a path, as in ./calls. Durations are written as 250ms, 90s, 30min, 1.5h, 1h30m, 7d or 4w, or as a
    number of seconds; sizes as 64k, 32m or 1.5g, in units of 1024; shares as 0.1% or 0.001.

    Exit codes: 0 done; 1 some rows were rejected, reported with their keys and reasons; 2 wrong use; 3 stopped early.
    `record` ends with its command's own code.
    """
