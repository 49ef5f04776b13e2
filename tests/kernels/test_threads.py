"""Work shared by threads: one result for each item, in order, whoever did it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

import callstats._parallel
from callstats import CallstatsError, reduce_json
from callstats._parallel import map_ordered


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_results_in_the_order_of_the_items(threads: int, n: int) -> None:
    """However many threads there are, for however many items."""
    assert map_ordered(lambda item: -item, iter(range(n)), threads) == [-item for item in range(n)]


def test_the_caller_and_helpers_work_at_once() -> None:
    """Three threads do three items side by side: each waits for the others."""
    together = threading.Barrier(3, timeout=30)
    names = map_ordered(lambda _: (together.wait(), threading.current_thread())[1], range(3), 3)
    assert len(set(names)) == 3
    assert threading.current_thread() in names


def test_no_more_threads_than_items() -> None:
    """A thread is started when there is an item for it."""
    before = threading.active_count()
    seen = map_ordered(lambda _: threading.active_count(), range(2), 1000)
    assert max(seen) <= before + 2


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_no_more_threads_than_asked_for(threads: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's thread is one of those asked for: a helper is started for each item that is taken, up to one less."""
    started = []

    class Counted(threading.Thread):
        def start(self) -> None:
            started.append(self)
            super().start()

    monkeypatch.setattr(callstats._parallel, "Thread", Counted)
    assert map_ordered(abs, range(n), threads) == list(range(n))
    assert len(started) == min(n, threads - 1)


def test_items_are_taken_as_they_are_needed() -> None:
    """So that a long stream is never in memory whole."""
    taken, done, ahead = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken, ahead
        for item in range(50):
            taken += 1
            ahead = max(ahead, taken - done)
            yield item

    def work(_: int) -> None:
        nonlocal done
        done += 1

    map_ordered(work, items(), 1)
    assert ahead == 1


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_first_item_that_fails_is_told_of(threads: int) -> None:
    """And it ends the work: what comes after it is not begun by all."""
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item >= 20:
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match=r"^item 20$"):
        map_ordered(work, range(10_000), threads)
    assert len(begun) <= 21 + threads


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_items_that_fail(threads: int, error: type[BaseException]) -> None:
    """An iterator that breaks is told of by what it raised, not taken for one that ended."""

    def items() -> Iterator[int]:
        yield from range(5)
        raise error("broken")

    with pytest.raises(error, match="broken"):
        map_ordered(lambda item: item, items(), threads)


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, "2", None])
def test_numbers_of_threads_that_are_none(threads: object) -> None:
    """Whoever calls need not check them."""
    with pytest.raises(CallstatsError, match="threads must be a whole number, 1 or more, got"):
        map_ordered(abs, [1], threads)


def test_no_garbage_is_left() -> None:
    """Neither results nor errors wait for the collector."""
    blobs = [b'[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":1}}]', b"[]"] * 3
    gc.collect()
    gc.disable()
    try:
        reduce_json(blobs, 1, threads=2)
        assert gc.collect() == 0
        try:
            reduce_json([*blobs, b"bad"], 1, threads=2)
        except ValueError:
            pass
        else:
            raise AssertionError("a bad blob is refused")
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("threads", [1, 3])
def test_work_that_shares_out_work(threads: int) -> None:
    """The work, and the items while they are made, may call the same function."""

    def items() -> Iterator[int]:
        for i in range(4):
            yield sum(map_ordered(abs, [i, -i], 1))

    assert map_ordered(lambda item: map_ordered(abs, [item], threads), items(), threads) == [[0], [2], [4], [6]]


def test_an_error_of_items_that_share_out_work() -> None:
    """It is raised itself, and not one about the threads."""

    def items() -> Iterator[int]:
        yield sum(map_ordered(abs, [1], 1))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        map_ordered(abs, items(), 1)
