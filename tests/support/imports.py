"""Whether each module can be the first one imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

# Each module has a copy of a process that knows other people's libraries only: loading these takes most of the time.
_EACH_ALONE = """
import importlib, os, sys
libraries, modules = (names.split() for names in sys.argv[1:])
for library in libraries:
    importlib.import_module(library)
for module in modules:
    child = os.fork()
    if not child:
        importlib.import_module(module)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(module, flush=True)
assert not any(name.startswith("callstats") for name in sys.modules)
"""


def faults_of_imports(modules: Iterable[str], libraries: Iterable[str]) -> str:
    """Import each module in a process that has these libraries only. Return the modules that fail, and what is printed."""
    command = [sys.executable, "-W", "error", "-I", "-c", _EACH_ALONE, " ".join(libraries), " ".join(modules)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr
