"""Start a command by a small shell, so that the kernel's peak of its memory doesn't begin with the size of this process."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from shlex import quote
from time import monotonic, time_ns

from callstats.drivers.process.procfs import read_cpu, read_process, read_status

_SHELL = "/bin/sh"

# The subshell tells its number, waits for a line, and becomes the command. The shell itself is killed in between, so that the
# command is a child of callstats. Its pipes are opened by their names, as some shells only know descriptors up to 9.
_SCRIPT = """
({
    read -r number rest </proc/self/stat
    echo "$number" >"/proc/$PPID/fd/$1"
    read -r go
} <"/proc/$PPID/fd/$2" 2>/dev/null || exit
shift 2
%sexec "$@")
exit
"""

_CHANGED_BY_SHELLS = ("PWD", "OLDPWD", "SHLVL")
_MAX_ARGUMENT_BYTES = 65_536
_SECONDS = 5.0


class Launched:
    """A child that runs the command, and our ends of its pipes."""

    def __init__(
        self, popen: subprocess.Popen[bytes], pid: int, floor: int, began_at: int, pipes: Sequence[int] = (), spent: float = 0.0
    ) -> None:
        self.pid = pid
        self.began_at = began_at
        self.floor = floor
        """The peak of memory in bytes that it has from the process that forked it."""
        self.spent = spent
        """The processor time in seconds that it took before it became the command."""
        self.stdin, self.stdout, self.stderr = popen.stdin, popen.stdout, popen.stderr
        self._popen = popen
        self._pipes = list(pipes)

    def go(self) -> None:
        """Let it run. Do what must precede that first."""
        if self._pipes:
            self.began_at = time_ns()
            os.write(self._pipes[-1], b"\n")
            self.close()

    def close(self) -> None:
        for number in self._pipes:
            os.close(number)
        self._pipes = []

    def forget(self, code: int | None) -> None:
        """Take note that it was reaped."""
        if self.pid == self._popen.pid:
            self._popen.returncode = 0 if code is None else code  # Popen must not wait for it


def launch(command: Sequence[str], env: Mapping[str, str], work_dir: str, *, stdin: int, stdout: int, stderr: int) -> Launched:
    """Start a command in a process group of its own, by a small shell where that can be. It waits for `Launched.go` then.

    The streams are arguments for `subprocess.Popen`. This process must be a subreaper. An OSError or a ValueError says that the
    command can't run.
    """
    options: dict[str, object] = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": 0}
    options |= {"cwd": work_dir or None, "env": env, "process_group": 0}
    if _suits_a_shell(command, env, work_dir):
        with suppress(OSError, ValueError):  # ValueError: the shell told no number
            return _launch_by_shell(command, env, options)
    began_at = time_ns()
    popen = subprocess.Popen(list(command), **options)  # type: ignore[call-overload] # noqa: S603 - the caller's command
    status = read_status(os.getpid())
    return Launched(popen, popen.pid, status.peak if status is not None else 0, began_at)


def _launch_by_shell(command: Sequence[str], env: Mapping[str, str], options: Mapping[str, object]) -> Launched:
    fixes = "".join(f"export {name}={quote(env[name])}\n" if name in env else f"unset {name}\n" for name in _CHANGED_BY_SHELLS)
    pipes = [*os.pipe(), *os.pipe()]
    popen = None
    try:
        arguments = [_SHELL, "-c", _SCRIPT % fixes, "callstats", str(pipes[1]), str(pipes[2]), *command]
        popen = subprocess.Popen(arguments, **options)  # type: ignore[call-overload] # noqa: S603 - as above
        pid = _read_number(pipes[0], popen)
        popen.kill()
        popen.wait()
        process, status = read_process(pid), read_status(pid)
        if process is None or process.parent != os.getpid() or status is None:
            raise OSError("the shell has failed")
        os.setpgid(pid, pid)
    except BaseException:
        if popen is not None:
            with popen, suppress(OSError):
                os.killpg(popen.pid, signal.SIGKILL)
        for number in pipes:
            os.close(number)
        raise
    return Launched(popen, pid, status.peak, 0, pipes, read_cpu(pid))


def _read_number(pipe: int, popen: subprocess.Popen[bytes]) -> int:
    """Return the number that the subshell tells."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    deadline = monotonic() + _SECONDS
    while not poll.poll(20):
        if popen.poll() is not None or monotonic() > deadline:
            raise OSError("the shell has failed")
    return int(os.read(pipe, 100))


def _suits_a_shell(command: Sequence[str], env: Mapping[str, str], work_dir: str) -> bool:
    """Return whether a shell runs the command just as `Popen` would. It must find the program, and keep each variable."""
    name, path = os.fspath(command[0]), env.get("PATH")
    if sys.platform != "linux" or not name or name.startswith("-") or sum(map(len, command)) > _MAX_ARGUMENT_BYTES:
        return False
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", each) for each in env) or any("\0" in each for each in command):
        return False
    if "/" not in name and (not path or not all(each.startswith("/") for each in path.split(":"))):
        return False
    program = shutil.which(os.path.join(work_dir, name) if "/" in name else name, path=path)  # noqa: PTH118 - it may be bytes
    return program is not None and _is_program(program)


def _is_program(path: str, *, interpreter: bool = False) -> bool:
    """Return whether the kernel runs this file: one of this machine's kind, or a script of one."""
    try:
        with open(path, "rb") as file, open(sys.executable, "rb") as own:  # noqa: PTH123 - path may be a descriptor's
            start, kind = file.read(255), own.read(20)  # more of a first line is more than the kernel takes
    except OSError:
        return False
    if start.startswith(b"\x7fELF"):
        return (start[4:6], start[18:20]) == (kind[4:6], kind[18:20])
    words = start.partition(b"\n")[0][2:].split()
    return start.startswith(b"#!") and not interpreter and bool(words) and _is_program(os.fsdecode(words[0]), interpreter=True)
