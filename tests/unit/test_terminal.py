"""Job control of a recorded command, step by step over a scripted terminal: who gets it, who is stopped and who is continued."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers.process import terminal as terminals
from callstats.drivers.process.terminal import Terminal

pytestmark = pytest.mark.skipif(not hasattr(os, "tcsetpgrp"), reason="there are no process groups")

OURS, COMMAND, SHELL = 10, 50, 99
STDIN, OPENED = 3, 7


class System:
    """The system calls of job control: `log` has each signal to a group, and each group that gets the terminal."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.foreground: int | None = OURS
        self.stops: list[int] = []
        self.clock = 0.0
        self.group_of = {1: 1, 20: OURS, 60: COMMAND}
        self.has_terminal = True
        self.is_reaped = False
        self.when_stopped: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def isatty(self, number: int) -> bool:
        return number == STDIN

    def open(self, path: str, flags: int) -> int:
        assert path == "/dev/tty" and flags & os.O_NOCTTY
        if not self.has_terminal:
            raise OSError
        return OPENED

    def close(self, number: int) -> None:
        self.log.append(("close", number))

    def getpgrp(self) -> int:
        return OURS

    def getpid(self) -> int:
        return 20

    def getpgid(self, pid: int) -> int:
        return self.group_of[pid]

    def listdir(self, path: str) -> list[str]:
        return ["self", *map(str, self.group_of)]

    def tcgetpgrp(self, number: int) -> int:
        assert number in (STDIN, OPENED)
        if self.foreground is None:
            raise OSError
        return self.foreground

    def tcsetpgrp(self, number: int, group: int) -> None:
        assert signal.SIGTTOU in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self.foreground = group
        self.log.append(("terminal", group))

    def killpg(self, group: int, number: int) -> None:
        self.log.append((group, number))
        if group == OURS:
            assert signal.getsignal(number) is signal.SIG_DFL
            self.clock += 1
            self.when_stopped()

    def waitid(self, kind: int, pid: int, flags: int) -> Any:
        assert (kind, pid) == (os.P_PID, COMMAND)
        if self.is_reaped:
            raise ChildProcessError
        assert flags & os.WNOHANG
        if flags & os.WEXITED:
            assert flags & os.WNOWAIT
            return None
        assert flags == os.WSTOPPED | os.WNOHANG
        return SimpleNamespace(si_status=self.stops.pop(0)) if self.stops else None


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    """Return a system in whose foreground this program is, alone."""
    made = System()
    monkeypatch.setattr(terminals, "os", made)
    monkeypatch.setattr(terminals, "monotonic", lambda: made.clock)
    monkeypatch.setattr(terminals, "stop_program", lambda: made.log.append("stopped"))
    return made


def at(number: int | None = STDIN) -> Terminal:
    """Job control for a command with this input."""
    stdin: Any = None if number is None else SimpleNamespace(fileno=lambda: number)
    return Terminal(stdin, COMMAND)


def told(system: System) -> list[object]:
    """What was done since the last time."""
    log, system.log = system.log, []
    return log


def test_a_command_gets_the_terminal_and_gives_it_back(system: System) -> None:
    """At once, if this program is alone in the foreground; its own descriptor stays open, and its mask of signals as it was."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with at():
        assert told(system) == [("terminal", COMMAND), (COMMAND, SIGCONT)]
    assert told(system) == [("terminal", OURS)]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask and SIGTTOU not in mask
    with at():
        system.foreground = SHELL  # somebody has taken it meanwhile
        told(system)
    assert told(system) == []


@pytest.mark.parametrize("case", ["pipeline", "background", "no terminal", "gone"])
def test_a_command_that_does_not_get_it(system: System, case: str) -> None:
    """Another program of the pipeline may read from it, or it is not ours to give."""
    if case == "pipeline":
        system.group_of[30] = OURS
    system.foreground = {"background": SHELL, "gone": None}.get(case, OURS)
    with at(5 if case == "no terminal" else STDIN):
        pass
    assert told(system) == []


@pytest.mark.parametrize("number", [STDIN, None])
def test_a_command_that_asks_for_it(system: System, number: int | None) -> None:
    """In a pipeline it has stopped to read or write; what was opened for it is closed at the end."""
    system.group_of[30] = OURS
    with at(number) as terminal:
        for asks in (SIGTTIN, SIGTTOU):
            system.foreground, terminal._given = OURS, False
            system.stops = [asks]
            terminal.follow_stop()
            assert told(system) == [("terminal", COMMAND), (COMMAND, SIGCONT)]
    assert told(system) == [("terminal", OURS), *([] if number else [("close", OPENED)])]


@pytest.mark.parametrize(("by", "ours"), [(SIGTSTP, SIGTSTP), (SIGTTIN, SIGTTIN), (SIGSTOP, SIGTSTP)])
def test_a_command_that_stops(system: System, by: int, ours: int) -> None:
    """By Ctrl-Z or by itself: this program stops as well, with its terminal back, and continues it with the terminal."""
    handler = lambda *_: None  # noqa: E731 - told from the system's own
    before = signal.signal(ours, handler)
    with at() as terminal:
        told(system)
        system.stops = [by]
        terminal.follow_stop()
        assert told(system) == [("terminal", OURS), (OURS, ours), ("terminal", COMMAND), (COMMAND, SIGCONT)]
        system.stops, system.when_stopped = [by], lambda: setattr(system, "foreground", SHELL)
        terminal.follow_stop()  # continued in the background
        assert told(system) == [("terminal", OURS), (OURS, ours), (COMMAND, SIGCONT)]
    assert signal.signal(ours, before) is handler


def test_a_stop_by_another_program(system: System) -> None:
    """One who stops a command that has no terminal will continue it."""
    system.group_of[30] = OURS
    with at() as terminal:
        system.stops = [SIGSTOP, SIGTSTP]
        terminal.follow_stop()
        assert told(system) == [] and system.stops == []


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_command_that_asks_in_the_background(system: System, has_terminal: bool) -> None:
    """Both stop until the shell brings them to the foreground."""
    system.foreground, system.has_terminal = SHELL, has_terminal
    with at(None) as terminal:
        system.stops, system.when_stopped = [SIGTTIN], lambda: setattr(system, "foreground", OURS)
        terminal.follow_stop()
    given = [("terminal", COMMAND)] if has_terminal else []
    back = [("terminal", OURS), ("close", OPENED)] if has_terminal else []
    assert told(system) == [(OURS, SIGTTIN), *given, (COMMAND, SIGCONT), *back]


@pytest.mark.parametrize(("seconds", "hangs_up"), [(0.2, True), (0.25, False)])
def test_a_stop_that_the_system_discards(system: System, seconds: float, hangs_up: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a group that nobody could continue, a stop ends at once: a command that asks for a terminal then never gets it."""
    monkeypatch.setattr(terminals, "_DISCARDED_SECONDS", 0.25)
    system.foreground = SHELL
    with at() as terminal:
        system.clock = 1000.0
        system.stops, system.when_stopped = [SIGTTIN], lambda: setattr(system, "clock", 1000.0 + seconds)
        terminal.follow_stop()
    assert told(system) == [(OURS, SIGTTIN), *([(COMMAND, SIGHUP)] if hangs_up else []), (COMMAND, SIGCONT)]


def test_signals_that_come_meanwhile(system: System) -> None:
    """While a stop is followed its signal comes again, and is left for afterwards."""
    with at() as terminal:
        told(system)
        system.when_stopped = terminal.follow_stop
        system.stops = [SIGTSTP, SIGTSTP]
        terminal.follow_stop()
        once = [("terminal", OURS), (OURS, SIGTSTP), ("terminal", COMMAND), (COMMAND, SIGCONT)]
        assert told(system) == [*once, *once]


def test_this_program_is_asked_to_stop(system: System) -> None:
    """So the command stops first; both continue, and what the command does then is followed."""
    system.group_of[30] = OURS
    with at() as terminal:
        terminal.stop()
        assert told(system) == [(COMMAND, SIGTSTP), "stopped", ("terminal", COMMAND), (COMMAND, SIGCONT)]
        system.stops = [SIGSTOP]
        terminal.stop()
        assert system.stops == []


def test_a_command_that_has_ended(system: System) -> None:
    """Its number may be another's by now: no signal is sent to it."""
    system.is_reaped = True
    with at() as terminal:
        terminal.follow_stop()
    assert told(system) == [("terminal", COMMAND), ("terminal", OURS)]
