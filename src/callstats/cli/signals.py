"""The signals that come while `callstats record` runs: they are for its command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import Any, Self, TypeVar

from callstats.drivers import Status, WaitResult
from callstats.drivers._run import TaskRun

Prepared = TypeVar("Prepared")

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
_USER_SIGNALS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]

_CONTAINER_SECONDS = 10.0
"""How long a container may continue after a signal that ends programs; the first program of a container may not heed it."""


class Interrupted(BaseException):
    """A signal came before the command was started."""


class Relay:
    """Hand signals to the command while it runs. Signals that callstats was started to ignore stay so, for the command too.

    Attributes
    ----------
    number : int
        The first signal that asked to end, or 0.
    handed : list of int
        The signals of this kind that the command got.
    """

    def __init__(self, *, container: bool) -> None:
        self.number = 0
        self.handed: list[int] = []
        self.over = threading.Event()
        """Set by a signal that asks to end."""
        self._interrupts = False
        self._container = container
        self._run: TaskRun | None = None
        self._stop_asked = False
        self._queue: SimpleQueue[int | None] = SimpleQueue()  # handlers must not wait for locks
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (*_ENDING, *_USER_SIGNALS):
            self._handle(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(set(self._handlers))

    def interrupting(self, prepare: Callable[[], Prepared]) -> Callable[[], Prepared]:
        """Return a function that prepares a command, and that a signal which asks to end interrupts."""

        def interrupted() -> Prepared:
            self._interrupts = True
            try:
                if self.number:
                    raise Interrupted
                prepared = prepare()
            finally:
                self._interrupts = False
            self._handle(signal.SIGTSTP, self._stop)
            self._handle(signal.SIGCHLD, self._follow_stop)
            return prepared

        return interrupted

    @contextmanager
    def follow(self, run: WaitResult) -> Iterator[None]:
        """Hand the signals to a command, also those that came while it started; and stop with it on Ctrl-Z."""
        self._interrupts = False
        assert isinstance(run, TaskRun)  # noqa: S101 - as those of both drivers are
        relay = threading.Thread(target=self._relay, args=(run,), name="callstats-signals", daemon=True)
        relay.start()
        with ExitStack() as after:
            after.callback(relay.join)
            after.callback(self._queue.put, None)
            after.callback(self._restore, {signal.SIGTSTP, signal.SIGCHLD})  # no stop of the command can follow
            self._run = run
            if self._stop_asked:
                self._stop()
            self._follow_stop()  # it may have stopped already
            yield

    def _handle(self, number: int, handler: Any) -> None:
        in_main = threading.current_thread() is threading.main_thread()  # no other thread may set one
        if in_main and signal.getsignal(number) is not signal.SIG_IGN:
            self._handlers[number] = signal.signal(number, handler)

    def _restore(self, numbers: set[int]) -> None:
        for number in numbers & self._handlers.keys():
            signal.signal(number, self._handlers.pop(number))

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._queue.put(number)
        if number in _ENDING:
            self.number = self.number or number
            self.over.set()
            if self._interrupts:
                raise Interrupted

    def _stop(self, *_: object) -> None:
        self._stop_asked = self._run is None
        if self._run is not None:
            self._run.suspend()

    def _follow_stop(self, *_: object) -> None:
        if self._run is not None:
            self._run.follow_stop()

    def _relay(self, run: TaskRun) -> None:
        while (number := self._queue.get()) is not None:
            if number in _ENDING:
                self.handed.append(number)
            with suppress(Exception):  # the command may have ended
                run.send_signal(number)
            if number in _ENDING and self._container:
                timer = threading.Timer(_CONTAINER_SECONDS, run.stop, (Status.CANCELLED,))
                timer.daemon = True
                timer.start()
