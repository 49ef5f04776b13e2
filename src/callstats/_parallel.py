"""Work shared by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import TypeVar

from callstats._types import I64_MAX
from callstats.errors import ArgumentError

Item = TypeVar("Item")
Result = TypeVar("Result")


def share(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """The work done on each item, in the order of the items, by so many threads, of which the caller's is one.

    Items are taken as they are needed, and a thread is started when there is an item for it. What the first item that fails
    raises ends the work; the others that were begun are done by then.

    Raises
    ------
    CallstatsError
        When `threads` is no whole number from 1 on.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ArgumentError("threads", "a whole number, 1 or more", threads)
    numbered = enumerate(items)
    taking = Lock()
    helpers: list[Thread] = []
    results: dict[int, Result] = {}
    faults: dict[int, BaseException] = {}

    # By its own name it would refer to itself, and such a cycle keeps the results until the collector comes.
    def take_part(itself: Callable[..., None]) -> None:
        at = I64_MAX  # of a fault in the items themselves: it comes after all that they gave
        try:
            while not faults:
                at = I64_MAX
                with taking:
                    taken = next(numbered, None)
                    if taken is None:
                        return
                    at, item = taken
                    if len(helpers) < threads - 1:
                        helper = Thread(target=itself, args=[itself], name="callstats")
                        helper.start()
                        helpers.append(helper)
                results[at] = work(item)
        except BaseException as fault:  # noqa: BLE001 - it is raised where the work was asked for
            faults[at] = fault

    try:
        take_part(take_part)
        for helper in helpers:
            helper.join()
        if faults:
            raise faults[min(faults)]
        return [results[at] for at in range(len(results))]
    finally:
        faults.clear()  # an error refers to this frame, too
