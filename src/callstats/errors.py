"""The errors that callstats raises for its users.

Each one is a `CallstatsError`. Errors about arguments and input are ValueErrors too.
"""

from __future__ import annotations

import copyreg
import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Door = TypeVar("Door", bound=Callable[..., Any])
Given = TypeVar("Given")


class CallstatsError(Exception):
    """Base of every error that callstats raises."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling would pass the finished message to __init__.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ArgumentError(CallstatsError, ValueError):
    """A bad argument.

    Attributes
    ----------
    parameter : str
        The parameter's name, such as ``max_bytes``. The message begins with it.
    """

    def __init__(self, where: str, expected: str, value: object, *, hint: str | None = None) -> None:
        # `where` is a parameter or an element of one, such as how['x'].
        message = f"{where} must be {expected}, got {shorten_repr(value)}"
        super().__init__(message if hint is None else f"{message}: {hint}")
        self.parameter = where.partition("[")[0]


class SeriesError(CallstatsError, ValueError):
    """Values that no series can hold, or a sum past 2**64 - 1."""


class BudgetError(CallstatsError, ValueError):
    """No reduction of the series fits the byte budget."""


class ImageError(CallstatsError, ValueError):
    """A name that is no Docker image reference."""


class DecodeError(CallstatsError, ValueError):
    """A malformed stored histogram.

    Attributes
    ----------
    offset : int or None
        Byte offset of a fault in the JSON or UTF-8.
    path : str or None
        Path of a fault in the structure, such as ``$[17].metrics.net_rx``. Exactly one of offset and path is set.
    reason : str
        What was expected and what came.
    """

    def __init__(self, reason: str, *, offset: int | None = None, path: str | None = None) -> None:
        super().__init__(f"{path if offset is None else f'byte {offset}'}: {reason}")
        self.reason = reason
        self.offset = offset
        self.path = path


class DatabaseError(CallstatsError):
    """The database is locked, unreachable, full or corrupt.

    Attributes
    ----------
    call : Call or None
        Where `record` raises it, the call that could not be stored.
    """

    call: Any = None


class DriverError(CallstatsError):
    """The driver's own fault: no engine, an image that can't be pulled, a task that it can't run.

    Attributes
    ----------
    call : Call or None
        Where `record` raises it, the call with its samples so far.
    """

    call: Any = None


def detached(error: CallstatsError) -> CallstatsError:
    """Drop traceback and context, so that a stored error does not keep its input alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def raise_first(rejected: dict[int, CallstatsError], name: str, start: int | None = 0) -> None:
    """Raise the first error with the name of its array, and its index in that, if it starts at one."""
    if rejected:
        i, error = min(rejected.items())
        error.args = (f"{name}: {error}" if start is None else f"{name}[{start + i}]: {error}",)
        rejected.clear()
        try:
            raise error
        finally:
            del error  # the error and this frame must not refer to each other: the collector would have to free the array


def with_location(where: str, work: Callable[..., Given], *args: object, **keywords: object) -> Given:
    """Call a function. Put the location before the message of its error."""
    try:
        return work(*args, **keywords)
    except CallstatsError as error:
        error.args = (f"{where}: {error}",)
        raise


def shorten_repr(value: object) -> str:
    """Return the repr of a value as a message shows it: one line, cut where it is long."""
    try:
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            if type(value).__name__ == "datetime64":
                return str(value)
            value = value.item()  # type: ignore[attr-defined]
        if isinstance(value, int) and value.bit_length() > 256:
            return f"an integer of {value.bit_length()} bits"  # its digits may exceed Python's limit
        text = repr(value)
        if "\n" in text:
            shape = getattr(value, "shape", None)  # of a data frame, say, whose repr is a table
            text = " ".join(text.split()) if shape is None else f"a {type(value).__name__} of shape {shape}"
    except Exception:  # noqa: BLE001 - a foreign repr may raise anything, and must not hide the user's error
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def suggest_keywords(door: Door) -> Door:
    """Make a function, or a class's constructor, suggest the keyword that a misspelt one stands for."""
    if isinstance(door, type):
        door.__init__ = suggest_keywords(door.__init__)  # type: ignore[misc]
        return door
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name: None for name, one in inspect.signature(door).parameters.items() if one.kind in named and name != "self"}

    @functools.wraps(door)
    def checked(*args: Any, **keywords: Any) -> Any:
        if not keywords:
            return door(*args)  # to pass on none takes time too
        if not keywords.keys() <= known.keys():
            wrong = next(name for name in keywords if name not in known)
            close = difflib.get_close_matches(wrong, known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
            if wrong == "max_samples" and "rule" in known:  # the number of rows is a field of the rule
                value = keywords[wrong]
                advice = f"write rule={shorten_repr(value)}" if isinstance(value, int) else "write a number, as in rule=60"
            raise TypeError(f"{door.__qualname__.removesuffix('.__init__')}: unexpected keyword {wrong!r}: {advice}")
        return door(*args, **keywords)

    return checked  # type: ignore[return-value]
