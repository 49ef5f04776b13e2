"""Watchdog: a shell that ends a task whose recorder was killed."""

from __future__ import annotations

import subprocess
from contextlib import suppress

# Without callstats, the script's input ends before the third line. It then kills the task's group, and for a while every process
# with the task's mark in its environment.
_WATCHDOG = """
read -r group || exit 0
read -r folder
read -r word && exit 0
kill -KILL -- "-$group"
[ ! "$folder" ] || echo 1 >"$folder/cgroup.kill"
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(grep -lsaF "$1" /proc/[0-9]*/environ); do
        number=${file#/proc/}
        kill -KILL "${number%/environ}" && found=1
    done
    [ "$found" ] || break
done
[ ! "$folder" ] || until rmdir "$folder" || [ $((tries = tries + 1)) -gt 100 ]; do sleep 0.05; done
"""


class Watchdog:
    """A small shell beside a task that kills it when callstats itself dies, in whatever way."""

    def __init__(self, mark: str) -> None:
        self.pid = 0
        self._shell: subprocess.Popen[bytes] | None = None
        with suppress(OSError):  # a system without a shell has no watchdog
            self._shell = subprocess.Popen(  # noqa: S603 - our own script, with a mark as its argument
                ["/bin/sh", "-c", _WATCHDOG, "callstats-watchdog", mark],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin"},
                start_new_session=True,
            )
            self.pid = self._shell.pid

    def watch(self, group: int, folder: str) -> None:
        """Name the process group to kill, and the folder of the control group, if any."""
        if self._shell is not None and self._shell.stdin is not None:
            with suppress(OSError):
                self._shell.stdin.write(f"{group}\n{folder}\n".encode())
                self._shell.stdin.flush()

    def disown(self) -> None:
        """In a fork of this process: let it end with its parent alone."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.returncode = 0  # it is no child of the fork

    def close(self) -> None:
        """End the watchdog without harm to the task."""
        if self._shell is not None:
            with suppress(OSError):
                self._shell.communicate(b"over\n")
            self._shell = None
