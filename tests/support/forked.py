"""The command in processes that begin as copies of one that has imported it: most of what a start costs is paid once.

A small program stands for the command. It hands its arguments, environment, folder, mask and streams to a copy, and ends as the
copy ends. Where a copy would differ from the command, it becomes the command itself: where a stream is closed or a terminal,
a signal is ignored, the session is another one, or a variable is set that is read at the start.

Tests of signals, kills, terminals and the start itself need the command: `COMMAND`.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

COMMAND = Path(sys.executable).with_name("callstats")
"""The command as it is installed."""

SERVER = Path(__file__).with_name("forking.py")

AT_START = ("CALLSTATS_BACKEND", "CALLSTATS_FUSED", "LANG", "LC_", "LD_", "OPENBLAS_", "PYTHON")
"""How the names begin of variables that are read once, as a program starts."""

STANDS_FOR_IT = """#!{python} -SEs
import marshal, os, sys
import _signal, _socket  # what `signal` and `socket` add takes longer than all else here

def same():
    read = {{name: value for name, value in os.environb.items() if name.startswith({at_start})}}
    numbers = set(range(1, _signal.NSIG)) - {{_signal.SIGPIPE, _signal.SIGXFSZ}}
    return (
        read == {read}
        and os.getsid(0) == {session}
        and not any(map(os.isatty, range(3)))
        and all(map(os.fstat, range(3)))
        and not any(_signal.getsignal(number) == _signal.SIG_IGN for number in numbers)
    )

try:
    streams = [0, 1, 2, os.open(".", os.O_RDONLY)] if same() else []
except OSError:
    streams = []
if not streams:
    os.execv({command!r}, [{command!r}, *sys.argv[1:]])
mask = os.umask(0)
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
server.connect({address!r})
rights = b"".join(number.to_bytes(4, sys.byteorder) for number in streams)
server.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
server.sendall(marshal.dumps((list(map(os.fsencode, sys.argv[1:])), dict(os.environb), mask)))
server.shutdown(_socket.SHUT_WR)
code = int(server.recv(9))
if code < 0:
    _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@cache
def callstats() -> Path:
    """A program that does what the command does, in less time."""
    if not hasattr(os, "pidfd_open"):
        return COMMAND
    folder = Path(tempfile.mkdtemp(prefix="callstats-forked-"))
    with (folder / "errors").open("wb") as errors:
        server = subprocess.Popen(
            [sys.executable, "-P", SERVER, folder, COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    assert server.stdin is not None
    assert server.stdout is not None
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    with server.stdout as said:
        assert said.readline() == b"ready\n", (folder / "errors").read_text()
    prefixes = tuple(map(os.fsencode, AT_START))
    program = folder / "callstats"
    program.write_text(
        STANDS_FOR_IT.format(
            python=sys.executable,
            at_start=prefixes,
            read={name: value for name, value in os.environb.items() if name.startswith(prefixes)},
            session=os.getsid(0),
            command=str(COMMAND),
            address=str(folder / "socket"),
        )
    )
    program.chmod(0o755)
    return program
