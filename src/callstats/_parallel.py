"""Work that several threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock, Thread, local
from typing import TypeVar

from callstats._types import I64_MAX
from callstats.errors import ArgumentError

Item = TypeVar("Item")
Result = TypeVar("Result")


class _StoppedError(BaseException):
    """The work of a thread is no longer wanted."""


_current = local()


def raise_if_stopped() -> None:
    """Raise if the results of this thread are no longer wanted, after Ctrl-C in another one. Long work calls this now and then.

    In the main thread Python itself raises the KeyboardInterrupt here.
    """
    errors: dict[int, BaseException] | None = getattr(_current, "errors", None)
    if errors and not all(isinstance(error, Exception) for error in list(errors.values())):
        raise _StoppedError


def map_ordered(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Return the results of the work in the order of the items. The caller is one of the threads.

    Threads take items one by one, and start only while there are items. The first failure, in the order of the items, is raised
    again once items already started have finished. Ctrl-C ends these too, as soon as they call `raise_if_stopped`.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ArgumentError("threads", "a whole number, 1 or more", threads)
    numbered = enumerate(items)
    lock = Lock()
    helpers: list[Thread] = []
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    # A reference to itself by name would be a cycle, which keeps the results until a garbage collection.
    def take_items(itself: Callable[..., None]) -> None:
        index = I64_MAX  # an error of the iterable itself comes last
        outer = getattr(_current, "errors", None)  # the work or the items may call this function too
        _current.errors = errors
        try:
            while not errors:
                index = I64_MAX
                with lock:
                    taken = next(numbered, None)
                    if taken is None:
                        return
                    index, item = taken
                    if len(helpers) < threads - 1:
                        helper = Thread(target=itself, args=[itself], name="callstats")
                        helper.start()
                        helpers.append(helper)
                results[index] = work(item)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            errors[index] = error
        finally:
            _current.errors = outer

    try:
        take_items(take_items)
        for helper in helpers:
            while helper.is_alive():
                try:
                    helper.join()
                except BaseException as error:  # noqa: BLE001 - of a signal; the helpers stop, and it is raised below
                    errors[-1] = error
        if errors:
            raise errors[min(errors)]
        return [results[index] for index in range(len(results))]
    finally:
        errors.clear()  # an error refers to this frame
