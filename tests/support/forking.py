"""The program that copies of the command begin as: `forked.py` starts it, and `callstats()` there asks it for copies.

A request is four open files (three streams and the folder), then the arguments, the environment and the mask, marshalled.
The answer is the exit code of the copy, or the negative number of the signal that ended it.
"""

from __future__ import annotations

import gc
import io
import marshal
import os
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from callstats.cli import main

IMPORTED = [
    *("psycopg", "pymysql", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql"),
    *("callstats.cli.app", "callstats.cli.errors", "callstats.db.query", "callstats.db.table", "callstats.db.views"),
    *(
        "callstats.db.jobs.worker",
        "callstats.db.dialects.sqlite",
        "callstats.db.dialects.postgres",
        "callstats.db.dialects.mysql",
    ),
    *("callstats.db.jobs.changes", "callstats.db.jobs.reduce", "callstats.db.jobs.summarize"),
    *("callstats.db.rows", "callstats.db.schema", "callstats.db.spool", "numpy.ma", "rich"),
    *("callstats.drivers.process", "callstats.drivers.process.run", "callstats.drivers.process.terminal"),
]
"""What most commands need; a copy imports what else it needs."""


class Copy(NamedTuple):
    """A copy that runs, and who waits for it."""

    process: int
    end: int
    asker: socket.socket


class Server:
    """Copies of this process, each for a program that asks for one, until standard input ends."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/socket")
        self.listener.listen(64)
        self.poll = select.poll()
        self.poll.register(0)
        self.poll.register(self.listener)
        self.copies: dict[int, Copy] = {}

    def serve(self) -> list[str]:
        """Serve; a copy returns from here with its arguments."""
        while True:
            for number, _ in self.poll.poll():
                if number == 0:
                    self.stop()
                if number == self.listener.fileno():
                    asker, _ = self.listener.accept()
                    process = os.fork()
                    if process == 0:
                        return self.become(asker)
                    self.add(Copy(process, os.pidfd_open(process), asker))
                elif number in self.copies:
                    self.remove(self.copies[number], killed=number != self.copies[number].end)

    def stop(self) -> None:
        """Leave nothing."""
        for copy in set(self.copies.values()):
            os.kill(copy.process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)

    def add(self, copy: Copy) -> None:
        """Wait for its end, and for that of its asker."""
        self.copies[copy.end] = self.copies[copy.asker.fileno()] = copy
        self.poll.register(copy.end, select.POLLIN)
        self.poll.register(copy.asker, 0)  # a hang-up is told all the same

    def remove(self, copy: Copy, *, killed: bool) -> None:
        """Tell how it ended."""
        if killed:
            os.kill(copy.process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(copy.process, 0)[1])
        with suppress(OSError):  # nobody waits for it
            copy.asker.sendall(b"%d" % code)
        for number in (copy.end, copy.asker.fileno()):
            self.poll.unregister(number)
            del self.copies[number]
        os.close(copy.end)
        copy.asker.close()

    def become(self, asker: socket.socket) -> list[str]:
        """Take the place of the program that asks: its streams, folder, environment and mask. Return its arguments."""
        _, files, _, _ = socket.recv_fds(asker, 1, 4)
        arguments, environment, mask = marshal.loads(b"".join(iter(lambda: asker.recv(65_536), b"")))
        for copy in set(self.copies.values()):
            os.close(copy.end)
            copy.asker.close()
        for held in (asker, self.listener):
            held.close()
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
        os.fchdir(files[3])
        for file in files:
            os.close(file)
        for name in set(os.environb) - set(environment):
            del os.environb[name]
        os.environb.update(environment)
        time.tzset()
        os.umask(mask)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            setattr(sys, name, stream(number, getattr(sys, name)))
            setattr(sys, f"__{name}__", getattr(sys, name))
        return [os.fsdecode(argument) for argument in arguments]


def stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """A standard stream as Python makes it at its start."""
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    raw.name = like.name
    buffer = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, like.encoding, like.errors, newline="\n", line_buffering=number == 2)


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    _, folder, command = sys.argv
    server = Server(folder)
    os.write(1, b"ready\n")
    sys.argv = [command, *server.serve()]
    sys.exit(main())
