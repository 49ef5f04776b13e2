"""Run the command, for ``python -m callstats``."""

from callstats.cli import main

main()
