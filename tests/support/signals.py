"""Which signals the programs that tests start ignore: a child inherits them, as under `nohup` or in a shell's background job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
"""Signals that ask a program to end."""


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def heeded_by_children() -> None:
    """Give children the default action of each signal that the tests were started to ignore.

    The tests themselves go on ignoring the signals that would end them: by a handler, which no child inherits.
    """
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def ignored(*numbers: int) -> Iterator[None]:
    """Programs that begin within the block ignore these signals, and no other."""
    with ExitStack() as after:
        for number in numbers:
            after.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
        yield
