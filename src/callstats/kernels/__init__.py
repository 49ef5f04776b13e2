"""The inner loops of callstats, each in numpy and in Cython. Both backends give the same bytes.

``decimate_py`` is the specification of ``decimate_cy``, and so on. Callers reach a kernel only as ``kernels.active.NAME``.
``CALLSTATS_BACKEND=auto|cython|python`` chooses the backend when the package is imported, and
``CALLSTATS_FUSED=auto|off|portable|avx2|avx512`` how the compiled one reads rows that differ in their digits only:
see ``_fused.h``.
"""

from __future__ import annotations

import os
import sys
import warnings
from itertools import pairwise
from pathlib import Path, PurePath
from types import ModuleType

_BACKENDS = ("auto", "cython", "python")
_FUSED = ("auto", "off", "portable", "avx2", "avx512")


def _choose(word: str) -> ModuleType:
    if word not in _BACKENDS:
        raise ImportError(f"CALLSTATS_BACKEND must be one of {', '.join(_BACKENDS)}, got {word!r}")
    if word != "python":
        try:
            from callstats.kernels import _cy

            return _cy
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("callstats.kernels.")
            if word == "cython":
                cause = "it was not built" if missing else str(error)
                raise ImportError(
                    f"CALLSTATS_BACKEND=cython, but the compiled kernels can't be loaded: {cause}; build them with "
                    "CALLSTATS_BUILD_EXT=require, or set CALLSTATS_BACKEND=auto"
                ) from error
            if not missing or not Path(__file__).with_name("skipped").exists():  # `setup.py` leaves it where that was asked for
                cause = "this build has no compiled ones" if missing else f"the compiled ones can't be loaded: {error}"
                warnings.warn(
                    f"callstats uses its Python kernels, many times slower, since {cause}; build them with a compiler and "
                    "CALLSTATS_BUILD_EXT=require, or set CALLSTATS_BACKEND=python if the Python ones are meant",
                    RuntimeWarning,
                    stacklevel=4,
                )
    from callstats.kernels import _py

    return _py


def _choose_form(word: str) -> None:
    if word not in _FUSED:
        raise ImportError(f"CALLSTATS_FUSED must be one of {', '.join(_FUSED)}, got {word!r}")
    if active.BACKEND == "cython" and not active.choose_form(word):
        raise ImportError(f"CALLSTATS_FUSED={word}, but this processor or build has no such form; set CALLSTATS_FUSED=auto")


def _is_command() -> bool:
    """Return whether Python was started as ``callstats`` or as ``python -m callstats``."""
    program = PurePath(sys.argv[0]).name if getattr(sys, "argv", None) else ""
    if program == "-m":  # Python has not found the module yet
        return ("-m", "callstats") in pairwise(sys.orig_argv)
    return program in ("callstats", "callstats.exe")


try:
    active: ModuleType = _choose(os.environ.get("CALLSTATS_BACKEND", "auto"))
    _choose_form(os.environ.get("CALLSTATS_FUSED", "auto"))
except ImportError as error:
    # The command can't catch this itself: its package is imported first.
    if not _is_command():
        raise
    sys.stderr.write(f"callstats: {error}\n")
    sys.exit(2)
