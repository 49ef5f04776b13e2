"""watch: sample the running process itself while a block of code runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, time_ns

from callstats._extras import needs
from callstats.drivers._run import next_due, validate_interval
from callstats.recorder import Recorder
from callstats.rule import Rule


@contextmanager
def watch(interval: float = 1, rule: Rule | int | None = 240) -> Iterator[Recorder]:
    """Sample the running process itself.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more. The block's end adds a last sample.
    rule : Rule or int
        How the recorder reduces.

    Yields
    ------
    Recorder
        Its ``end()`` gives the series once the block is over.

    Notes
    -----
    It needs the extra ``callstats[process]``. Processor use is that of all threads, with the sampling one, and of child processes
    once they were waited for.

    Examples
    --------
    >>> with watch(interval=0.05) as recorder:
    ...     total = sum(range(10**6))
    >>> recorder.end().names
    ('cpu_kernel', 'cpu_total', 'cpu_user', 'disk_read', 'disk_write', 'mem_usage')
    """
    seconds = validate_interval(interval)
    with needs("drivers.watch", "process"):
        import psutil

        from callstats.drivers.process.tree import Usage
    recorder, process, over = Recorder(rule), psutil.Process(), threading.Event()

    def sample() -> None:
        before, before_at = Usage.of(process), monotonic()
        due = before_at + seconds
        while True:
            last = over.wait(max(due - monotonic(), 0))
            used, now = Usage.of(process), monotonic()
            recorder.write_stat(time_ns(), used.metrics(before, now - before_at, 0))
            if last:
                return
            before, before_at = used, now
            due = next_due(due, seconds, now)

    thread = threading.Thread(target=sample, name="callstats-watch", daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        over.set()
        thread.join()
