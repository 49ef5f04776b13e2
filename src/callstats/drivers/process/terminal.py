"""The terminal of a recorded command, and its stops (Ctrl-Z): job control as a shell does it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import BinaryIO, Self

from callstats.drivers._run import stop_program

_STOPS = {getattr(signal, name) for name in ("SIGTSTP", "SIGTTIN", "SIGTTOU") if hasattr(signal, name)}

_DISCARDED_SECONDS = 0.01
"""A stop that ends sooner was none: the system discards it in a group that nobody could continue."""


class Terminal:
    """Job control for a command whose process group is its own, as `group`.

    A command that reads from the terminal gets it at once, if this program is alone in the foreground. In a pipeline, whose other
    programs may read from it too, it gets the terminal once it asks for it.
    """

    def __init__(self, stdin: BinaryIO | None, group: int) -> None:
        self._group = group
        self._number = _terminal_of(stdin)
        self._owned = False
        """Whether it was opened here."""
        self._given = self._busy = False

    def __enter__(self) -> Self:
        if self._number is not None and self._is_ours() and _is_alone():
            self._give()
            self._signal(signal.SIGCONT)  # it may have stopped because it read too early
        return self

    def __exit__(self, *_: object) -> None:
        self._take()
        if self._owned and self._number is not None:
            os.close(self._number)
            self._number = None

    def follow_stop(self) -> None:
        """If the command has stopped for the terminal's sake, stop this program too until it is continued, then both continue.

        The main thread calls this on SIGCHLD. A stop by another program, which will continue the command, changes nothing.
        """
        while not self._busy and (number := self._stop_signal()) is not None:
            with self._handling():
                if self._given:  # Ctrl-Z, or the command stops itself
                    self._take()
                    self._stop_group(number if number in _STOPS else signal.SIGTSTP)
                elif number not in _STOPS - {signal.SIGTSTP}:
                    continue
                elif not self._open() or not self._is_ours():  # in the background, like this program
                    self._stop_group(number)
                self._resume()

    def stop(self) -> None:
        """Stop the command and this program, which was asked to stop, until it is continued. The main thread calls this."""
        with self._handling():
            self._signal(signal.SIGTSTP)
            stop_program()
            self._resume()
        self.follow_stop()

    @contextmanager
    def _handling(self) -> Iterator[None]:
        """Keep signals that come meanwhile from taking the same stop for another."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _stop_signal(self) -> int | None:
        """Return the signal that has stopped the command since the last call, if any."""
        with suppress(ChildProcessError):
            found = os.waitid(os.P_PID, self._group, os.WSTOPPED | os.WNOHANG)  # reaps nothing
            return None if found is None else found.si_status
        return None

    def _stop_group(self, number: int) -> None:
        """Stop the process group of this program, as the terminal would."""
        began = monotonic()
        handler = signal.signal(number, signal.SIG_DFL)
        os.killpg(os.getpgrp(), number)
        signal.signal(number, handler)
        if monotonic() - began < _DISCARDED_SECONDS and not self._is_ours():
            self._signal(signal.SIGHUP)  # it can never have the terminal

    def _resume(self) -> None:
        if self._open() and self._is_ours():
            self._give()
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            os.waitid(os.P_PID, self._group, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # fails once it was reaped
            os.killpg(self._group, number)

    def _open(self) -> bool:
        """Open the controlling terminal unless it is open. Return whether there is one."""
        if self._number is None:
            with suppress(OSError):
                self._number = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
                self._owned = True
        return self._number is not None

    def _is_ours(self) -> bool:
        """Return whether this program is in the foreground of the terminal."""
        return self._foreground() == os.getpgrp()

    def _foreground(self) -> int:
        try:
            return -1 if self._number is None else os.tcgetpgrp(self._number)
        except OSError:
            return -1

    def _give(self) -> None:
        self._given = True
        self._set(self._group)

    def _take(self) -> None:
        if self._given and self._foreground() == self._group:
            self._set(os.getpgrp())
        self._given = False

    def _set(self, group: int) -> None:
        assert self._number is not None  # noqa: S101 - the callers have looked
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # else a background group is stopped by the call
        with suppress(OSError):
            os.tcsetpgrp(self._number, group)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _terminal_of(stdin: BinaryIO | None) -> int | None:
    """Return the descriptor of an input that is a terminal."""
    with suppress(OSError, AttributeError, ValueError):
        if stdin is not None and os.isatty(stdin.fileno()):
            return stdin.fileno()
    return None


def _is_alone() -> bool:
    """Return whether no other process is in the group of this program."""
    group, own = os.getpgrp(), os.getpid()
    with suppress(OSError):  # a system without such a folder
        for name in os.listdir("/proc"):  # noqa: PTH208 - names alone
            if name.isdecimal() and int(name) != own:
                with suppress(OSError):
                    if os.getpgid(int(name)) == group:
                        return False
    return True
