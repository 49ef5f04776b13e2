"""A guard: a small shell beside each task that kills it when callstats itself dies, in whatever way."""

from __future__ import annotations

import subprocess
from contextlib import suppress

# Its input ends without a word when callstats is gone. It then kills the task's group, and for a while every process that has the
# task's mark in its environment.
_SCRIPT = """
read -r group || exit 0
read -r word && exit 0
kill -KILL -- "-$group"
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(grep -lsaF "$1" /proc/[0-9]*/environ); do
        number=${file#/proc/}
        kill -KILL "${number%/environ}" && found=1
    done
    [ "$found" ] || exit 0
done
"""


class Guard:
    """Watches over one task from before its start until `close`."""

    def __init__(self, mark: str) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with suppress(OSError):  # without a shell there is no guard
            self._shell = subprocess.Popen(  # noqa: S603 - a script of our own, and a mark as its argument
                ["/bin/sh", "-c", _SCRIPT, "callstats-guard", mark],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin"},
                start_new_session=True,
            )

    def watch(self, group: int) -> None:
        """Say which process group to kill."""
        self._say(f"{group}\n")

    def close(self) -> None:
        """Let the guard go."""
        if self._shell is not None and self._shell.stdin is not None:
            self._say("over\n")
            with suppress(OSError):
                self._shell.stdin.close()
            self._shell.wait()
            self._shell = None

    def _say(self, line: str) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(line.encode())
                self._shell.stdin.flush()
