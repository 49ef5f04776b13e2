"""``python -m fuzz mutants [--number N] [--seed N]``, or ``python -m fuzz TARGET [libFuzzer's options and folders]``.

`make fuzz` runs them all. Targets need atheris, and kernels built with ``CALLSTATS_BUILD_DEBUG=fuzz`` to be guided by them too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Run mutants, or a target until it is told to end or something is found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("target", help="mutants, seeds, or one of fuzz/targets.py")
    parser.add_argument("--number", type=int, default=1_000_000, help="of mutants")
    parser.add_argument("--seed", type=int, default=1, help="of mutants")
    parser.add_argument("--into", type=Path, help="the folder for seeds of the reader")
    wanted, options = parser.parse_known_args()
    if wanted.target == "mutants":
        from fuzz.mutants import run

        return run(wanted.number, wanted.seed)
    if wanted.target == "seeds":
        return _seeds(wanted.into)
    import atheris

    with atheris.instrument_imports(include=["callstats"]):
        from fuzz.targets import TARGETS
    if wanted.target not in TARGETS:
        parser.error(f"no target {wanted.target!r}: there are {', '.join(TARGETS)}")
    atheris.Setup([sys.argv[0], *options], TARGETS[wanted.target])
    atheris.Fuzz()
    return 0


def _seeds(folder: Path) -> int:
    """Real blobs, to begin with."""
    from support.blobs import seeds

    folder.mkdir(parents=True, exist_ok=True)
    for number, blob in enumerate(seeds()):
        (folder / f"seed-{number}").write_bytes(blob)
    return 0


if __name__ == "__main__":
    sys.exit(main())
