"""Work that several threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import TypeVar

from callstats._types import I64_MAX
from callstats.errors import ArgumentError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """Return the results of the work in the order of the items. The caller is one of the threads.

    Threads take items one by one, and start only while there are items. The first failure, in the order of the items, is raised
    again once items already started have finished.
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
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            errors[index] = error

    try:
        take_items(take_items)
        for helper in helpers:
            helper.join()
        if errors:
            raise errors[min(errors)]
        return [results[index] for index in range(len(results))]
    finally:
        errors.clear()  # an error refers to this frame
