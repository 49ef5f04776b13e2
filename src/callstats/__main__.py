"""So that ``python -m callstats`` is the command."""

from callstats.cli import main

main()
