"""The errors that callstats raises for its users.

Every one is a `CallstatsError`, and so a `ValueError`: the input is at fault, and the message says what was expected, what came
and where.
"""

from __future__ import annotations


class CallstatsError(ValueError):
    """Base of every error that callstats raises about its input."""


class SeriesError(CallstatsError):
    """Values that no series can hold, or a sum past 2**64 - 1."""


class BudgetError(CallstatsError):
    """No reduction of the series fits the byte budget."""


class ImageError(CallstatsError):
    """A name that is no Docker image reference."""


class DecodeError(CallstatsError):
    """A stored histogram that breaks the stored form.

    Attributes
    ----------
    offset : int or None
        Where a fault of JSON or UTF-8 lies, in bytes from the start of the blob.
    path : str or None
        Where a fault of shape lies, such as ``$[17].metrics.net_rx``. Exactly one of the two is set.
    reason : str
        What was expected and what came.
    """

    def __init__(self, reason: str, *, offset: int | None = None, path: str | None = None) -> None:
        super().__init__(f"{path if offset is None else f'byte {offset}'}: {reason}")
        self.reason = reason
        self.offset = offset
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the finished message alone.
        return _decode_error, (self.reason, self.offset, self.path, self.args)


def as_value(error: CallstatsError) -> CallstatsError:
    """An error to be kept: it no longer refers to where it was raised, and so to all input that was at hand there."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def short(value: object) -> str:
    """A value as a message shows it: as its reader would write it, cut where it is long."""
    try:
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            if type(value).__name__ == "datetime64":
                return str(value)
            value = value.item()
        if isinstance(value, int) and value.bit_length() > 256:
            return f"an integer of {value.bit_length()} bits"  # to print it may pass Python's limit on digits
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a foreign repr raises: there is a fault of the user's to tell
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _decode_error(reason: str, offset: int | None, path: str | None, args: tuple[object, ...]) -> DecodeError:
    error = DecodeError(reason, offset=offset, path=path)
    error.args = args
    return error
