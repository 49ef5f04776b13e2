"""The extensions and the switches of their build. All else is in pyproject.toml.

``CALLSTATS_BUILD_EXT=auto|require|skip``: build the compiled kernels if that can be done, build them or fail, or leave them out
for good, so that no import warns. Without them the package is pure Python, and its wheel is tagged so. It is all or nothing: no
build has some kernels only.

``CALLSTATS_BUILD_DEBUG=off|on|fuzz``: kernels that check each index, under AddressSanitizer and UBSan, for ``make test-debug``;
and such as tell a fuzzer which branches they take, for ``make fuzz``, which clang can build.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, SetupError

KERNELS = Path("src/callstats/kernels")


def switch(name: str, *words: str) -> str:
    """Return the word that an environment variable holds, or the first one if it is not set."""
    word = os.environ.get(name, words[0])
    if word not in words:
        raise SetupError(f"{name} must be one of {', '.join(words)}, got {word!r}")
    return word


BUILD_EXT = switch("CALLSTATS_BUILD_EXT", "auto", "require", "skip")
BUILD_DEBUG = switch("CALLSTATS_BUILD_DEBUG", "off", "on", "fuzz")
DEBUG = BUILD_DEBUG != "off"

# Both backends give the same bytes, so no product and sum may melt into one rounding (-ffp-contract), and no flag may fit the
# code to the machine that builds it. -g0 keeps the paths of the build out of the binary. A sum of a few instructions that lies
# across two lines of the processor's cache is a fifth slower, and gcc aligns a vector loop only as what is jumped to.
FLAGS = ["-O3", "-falign-loops=64", "-falign-jumps=64", "-ffp-contract=off", "-g0"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
if DEBUG:
    FLAGS = ["-O1", "-g", "-ffp-contract=off", "-fno-wrapv", "-fno-omit-frame-pointer", *SANITIZE]
LINK_FLAGS = SANITIZE if BUILD_DEBUG == "on" else []
if BUILD_DEBUG == "fuzz":
    FLAGS.append("-fsanitize=fuzzer-no-link")  # the fuzzer itself brings what all of them call

# Wraparound stays off in a debug build too: there a negative index is a fault to be found.
# Free-threading is not declared: it was not tested, and scratch that the text kernel keeps between calls is guarded by the GIL.
DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
    "wraparound": False,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
}


class BuildKernels(build_ext):
    """Compile every kernel, or end up with none of them."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.cython_directives = DIRECTIVES
        self.cython_c_in_temp = True

    def run(self) -> None:
        inplace = self.inplace
        skipped = (KERNELS if inplace else Path(self.build_lib, *KERNELS.parts[1:])) / "skipped"
        skipped.unlink(missing_ok=True)
        if BUILD_EXT == "skip":
            skipped.parent.mkdir(parents=True, exist_ok=True)
            skipped.touch()  # so that the first import does not warn
            self.leave_out(inplace)
            return
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            if BUILD_EXT == "require":
                raise SetupError(
                    f"the compiled kernels can't be built: {error}; they need a C compiler and Python's headers "
                    "(on Debian and Ubuntu: apt-get install gcc python3-dev)"
                ) from error
            self.leave_out(inplace)
            line = "*" * 100
            self.warn(
                f"\n{line}\ncallstats: the compiled kernels can't be built: {error}\n"
                "This is a PURE PYTHON build, many times slower. CALLSTATS_BUILD_EXT=require makes this an error,\n"
                f"CALLSTATS_BUILD_EXT=skip is the way to ask for it.\n{line}"
            )

    def leave_out(self, inplace: bool) -> None:
        """Go on as a pure package, without what an earlier or a half-done build left behind."""
        for self.inplace in (False, True) if inplace else (False,):
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        self.extensions = self.distribution.ext_modules = []


class Wheel(bdist_wheel):
    """Choose the tag after the build: only then is it known whether the package is pure."""

    def run_command(self, command: str) -> None:
        super().run_command(command)
        if command == "build":
            self.root_is_pure = not self.distribution.has_ext_modules()


setup(
    ext_modules=[
        Extension(
            f"callstats.kernels.{source.stem}",
            [source.as_posix()],
            depends=["setup.py", *sorted(path.as_posix() for path in (*KERNELS.glob("*.px[di]"), *KERNELS.glob("*.h")))],
            include_dirs=[KERNELS.as_posix()],
            # Cython's short way to make an object by keywords frees what it has not set yet when memory ends.
            define_macros=[("CYTHON_VECTORCALL_TPNEW", "0")],
            extra_compile_args=[] if os.name == "nt" else FLAGS,
            extra_link_args=LINK_FLAGS,
        )
        for source in sorted(KERNELS.glob("*_cy.pyx"))
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
    options={"build": {"build_base": f"build/debug-{BUILD_DEBUG}"}} if DEBUG else {},
)
