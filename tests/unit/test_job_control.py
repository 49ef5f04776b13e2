"""The terminal of a recorded command: who has it, and who is stopped and continued, in which order."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers import _run
from callstats.drivers.process import terminal
from callstats.drivers.process.terminal import Terminal

OURS, THEIRS, OTHER = 10, 20, 30
"""Process groups: of this program, of the command, and of another job."""


class Tty:
    """A terminal that writes down what is asked of the system."""

    def __init__(self) -> None:
        self.foreground = OURS
        self.log: list[object] = []
        self.stops: list[int] = []
        """The signals that stop the command, in turn."""
        self.clock = [0.0]
        """The times of the next looks at the clock; the last one stays."""
        self.opened = 5
        self.ended = False
        self.blocked: set[int] = set()

    def set_foreground(self, number: int, group: int) -> None:
        assert number == self.opened and signal.SIGTTOU in self.blocked  # else this program is stopped for it
        self.log.append(("terminal to", group))
        self.foreground = group

    def mask(self, how: int, signals: set[int]) -> set[int]:
        before = set(self.blocked)
        self.blocked = set(signals) if how == signal.SIG_SETMASK else self.blocked | set(signals)
        return before

    def open(self, path: str, flags: int) -> int:
        assert flags == os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY
        self.log.append(path)
        return self.opened

    def waitid(self, _kind: int, pid: int, options: int) -> Any:
        assert pid == THEIRS
        if options & os.WSTOPPED:
            return SimpleNamespace(si_status=self.stops.pop(0)) if self.stops else None
        if self.ended:
            raise ChildProcessError
        return None

    def time(self) -> float:
        return self.clock.pop(0) if len(self.clock) > 1 else self.clock[0]


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Return a terminal in place of the system's."""
    made = Tty()
    system = {
        "tcgetpgrp": lambda _number: made.foreground,
        "tcsetpgrp": made.set_foreground,
        "killpg": lambda group, number: made.log.append((signal.Signals(number).name, group)),
        "getpgrp": lambda: OURS,
        "waitid": made.waitid,
        "open": made.open,
        "close": lambda number: made.log.append(("close", number)),
    }
    signals = {"signal": lambda _number, handler: made.log.append(("handler", handler)) or "before", "pthread_sigmask": made.mask}
    monkeypatch.setattr(terminal, "os", SimpleNamespace(**(vars(os) | system)))
    monkeypatch.setattr(terminal, "signal", SimpleNamespace(**(vars(signal) | signals)))
    monkeypatch.setattr(terminal, "stop_program", lambda: made.log.append("stop"))
    monkeypatch.setattr(terminal, "monotonic", made.time)
    monkeypatch.setattr(terminal, "_is_alone", lambda: True)
    monkeypatch.setattr(terminal, "_terminal_of", lambda stdin: None if stdin is None else made.opened)
    return made


STDIN: Any = object()
GIVE = [("terminal to", THEIRS), ("SIGCONT", THEIRS)]


def stopped(number: int) -> list[object]:
    """What happens when the whole group of this program is stopped."""
    name = signal.Signals(number).name
    return [("handler", signal.SIG_DFL), (name, OURS), ("handler", "before")]


def test_the_command_gets_the_terminal_and_gives_it_back(tty: Tty) -> None:
    """At once, where this program is alone in the foreground. Its end gives it back to this program, which did not open it."""
    with Terminal(STDIN, THEIRS):
        assert tty.log == GIVE
    assert tty.log == [*GIVE, ("terminal to", OURS)] and tty.blocked == set()


@pytest.mark.parametrize("why", ["no terminal", "in the background", "in a pipeline"])
def test_who_does_not_get_it(tty: Tty, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Nothing happens then, at the end neither."""
    if why == "in the background":
        tty.foreground = OTHER
    if why == "in a pipeline":
        monkeypatch.setattr(terminal, "_is_alone", lambda: False)
    with Terminal(None if why == "no terminal" else STDIN, THEIRS):
        pass
    assert tty.log == []


def test_it_is_not_taken_from_another_job(tty: Tty) -> None:
    """Who has it by then keeps it."""
    with Terminal(STDIN, THEIRS):
        tty.foreground = OTHER
    assert tty.log == GIVE and tty.foreground == OTHER


def test_a_lost_terminal(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs up has no foreground, and no error comes of it."""

    def hang_up(_number: int) -> int:
        raise OSError

    with Terminal(STDIN, THEIRS):
        monkeypatch.setattr(terminal.os, "tcgetpgrp", hang_up)
    assert tty.log == GIVE


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGTSTP, signal.SIGTSTP), (signal.SIGSTOP, signal.SIGTSTP), (signal.SIGTTIN, signal.SIGTTIN)]
)
def test_ctrl_z(tty: Tty, number: int, stop: int) -> None:
    """The recorder takes the terminal, stops as the shell expects, and gives it to the command again once it continues."""
    with Terminal(STDIN, THEIRS) as made:
        tty.log.clear()
        tty.clock = [0.0, 9.0]
        tty.stops = [number]
        made.follow_stop()
        assert tty.log == [("terminal to", OURS), *stopped(stop), *GIVE]


def test_in_the_background_it_is_only_continued(tty: Tty) -> None:
    """After `bg` the shell has the terminal, so the command doesn't get it."""
    with Terminal(STDIN, THEIRS) as made:
        tty.log.clear()
        tty.clock = [0.0, 9.0]
        tty.stops = [signal.SIGTSTP]
        real = terminal.os.killpg

        def stop(group: int, number: int) -> None:
            real(group, number)
            if group == OURS:
                tty.foreground = OTHER

        terminal.os.killpg = stop  # the fixture undoes it
        made.follow_stop()
        assert tty.log == [("terminal to", OURS), *stopped(signal.SIGTSTP), ("SIGCONT", THEIRS)]
        tty.log.clear()
        tty.stops = [signal.SIGSTOP]  # by another program, which will continue it
        made.follow_stop()
        assert tty.log == []


def test_a_command_that_asks_for_the_terminal(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stop for reading is answered by the terminal, opened for that; and closed at the end."""
    monkeypatch.setattr(terminal, "_is_alone", lambda: False)
    with Terminal(None, THEIRS) as made:
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            tty.stops, tty.log, tty.foreground = [number], [], OURS
            made._given = False
            made.follow_stop()
            assert tty.log == ["/dev/tty", *GIVE][number == signal.SIGTTOU :]
        tty.log.clear()
    assert tty.log == [("terminal to", OURS), ("close", tty.opened)]
    made.__exit__()
    assert len(tty.log) == 2


def test_a_stop_by_another_program(tty: Tty) -> None:
    """Who sends SIGSTOP or SIGTSTP to a command without the terminal will continue it; each is seen once."""
    with Terminal(None, THEIRS) as made:
        tty.stops = [signal.SIGSTOP, signal.SIGTSTP]
        made.follow_stop()
    assert tty.log == [] and tty.stops == []


@pytest.mark.parametrize(("seconds", "ends"), [(0.001, True), (0.5, False)])
def test_a_command_that_can_never_have_the_terminal(tty: Tty, seconds: float, ends: bool) -> None:
    """In the background this program stops with it. A stop that ends at once was none: nobody can continue it, so it is ended."""
    tty.foreground = OTHER
    with Terminal(None, THEIRS) as made:
        tty.clock = [100.0, 100.0 + seconds]
        tty.stops = [signal.SIGTTIN]
        made.follow_stop()
    hang_up = [("SIGHUP", THEIRS)] if ends else []
    assert tty.log == ["/dev/tty", *stopped(signal.SIGTTIN), *hang_up, ("SIGCONT", THEIRS), ("close", tty.opened)]


def test_without_a_terminal_at_all(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that wants one stops this program too; none is opened, and none closed."""

    def fail(_path: str, _flags: int) -> int:
        raise OSError

    monkeypatch.setattr(terminal.os, "open", fail)
    with Terminal(None, THEIRS) as made:
        tty.clock = [0.0, 9.0]
        tty.stops = [signal.SIGTTOU]
        made.follow_stop()
    assert tty.log == [*stopped(signal.SIGTTOU), ("SIGCONT", THEIRS)]


def test_a_stop_of_this_program(tty: Tty) -> None:
    """The command stops first and continues last; a stop that comes meanwhile is looked at afterwards, once."""
    with Terminal(STDIN, THEIRS) as made:
        tty.log.clear()
        tty.stops = [signal.SIGTSTP]
        seen: list[list[object]] = []

        def stop() -> None:
            tty.log.append("stop")
            made.follow_stop()  # a SIGCHLD comes
            tty.foreground = OURS  # the shell has continued this job
            seen.append(list(tty.log))
            tty.stops = []

        terminal.stop_program = stop  # the fixture undoes it
        made.stop()
        assert seen == [[("SIGTSTP", THEIRS), "stop"]]
        assert tty.log == [("SIGTSTP", THEIRS), "stop", *GIVE] and not made._busy


def test_nothing_is_sent_to_a_command_that_has_ended(tty: Tty) -> None:
    """Its number may be another's by then."""
    tty.ended = True
    with Terminal(STDIN, THEIRS):
        pass
    assert tty.log == [("terminal to", THEIRS), ("terminal to", OURS)]


def test_the_terminal_of_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that is a terminal, by its own descriptor; a pipe, a closed file and one without a descriptor are none."""
    ours, theirs = os.openpty()
    try:
        with open(theirs, "rb", buffering=0, closefd=False) as file:
            assert terminal._terminal_of(file) == theirs
        assert terminal._terminal_of(file) is None
    finally:
        os.close(ours)
        os.close(theirs)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb"):
        assert terminal._terminal_of(file) is None
    assert terminal._terminal_of(None) is None
    assert terminal._terminal_of(object()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("groups", "is_alone"), [({}, True), ({7: 10}, False), ({7: 11}, True), ({7: 11, 8: 10}, False)])
def test_who_is_alone(monkeypatch: pytest.MonkeyPatch, groups: dict[int, int], is_alone: bool) -> None:
    """No other process is in the group; those that have just ended are none, and so are folders that are no processes."""

    def group(pid: int) -> int:
        if pid not in groups:
            raise ProcessLookupError
        return groups[pid]

    monkeypatch.setattr(terminal.os, "getpgrp", lambda: 10)
    monkeypatch.setattr(terminal.os, "getpgid", group)
    monkeypatch.setattr(terminal.os, "listdir", lambda _path: ["self", "5", str(os.getpid()), *map(str, groups), "uptime"])
    groups[os.getpid()] = 10
    assert terminal._is_alone() is is_alone

    def fail(_path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(terminal.os, "listdir", fail)
    assert terminal._is_alone()


def test_this_program_stops_as_by_ctrl_z(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's own way, whatever handler there was, which is back afterwards."""
    log: list[object] = []
    before = signal.signal(signal.SIGTSTP, lambda *_: log.append("handled"))
    handler = signal.getsignal(signal.SIGTSTP)
    try:
        monkeypatch.setattr(signal, "raise_signal", lambda number: log.append((number, signal.getsignal(signal.SIGTSTP))))
        _run.stop_program()
        assert log == [(signal.SIGTSTP, signal.SIG_DFL)] and signal.getsignal(signal.SIGTSTP) is handler
    finally:
        signal.signal(signal.SIGTSTP, before)
