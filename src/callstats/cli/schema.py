"""``callstats schema``."""

from __future__ import annotations

import click

from callstats._json import schema_text
from callstats.cli.options import examples


@click.command("schema", epilog=examples("callstats schema", "callstats schema > histogram.schema.json"))
def schema_command() -> None:
    """Print the JSON Schema of a stored histogram (draft 2020-12).

    What callstats writes is valid, and so is all else that it accepts. A schema can't express that times must exist and must not
    decrease, or that counts have a max total; and it takes 1.0 for a whole number.
    """
    click.echo(schema_text(), nl=False)
