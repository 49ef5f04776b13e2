"""watch: the running process itself, sampled while a block of code runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, time_ns

from callstats._extras import needs
from callstats.drivers.process.driver import checked_interval, metrics_of, next_due
from callstats.drivers.process.tree import own_usage
from callstats.recorder import Recorder
from callstats.rule import Rule


@contextmanager
def watch(interval: float = 1, rule: Rule | int | None = 240) -> Iterator[Recorder]:
    """Sample the running process itself.

    Parameters
    ----------
    interval : float
        Seconds between two samples, 0.01 or more. The last sample is that of the block's end.
    rule : Rule or int
        How the recorder reduces.

    Yields
    ------
    Recorder
        Its series is there once the block is over.

    Raises
    ------
    CallstatsError
        When the interval is none.
    ImportError
        When psutil is missing.

    Notes
    -----
    It needs the extra ``callstats[process]``. Processor use is that of all threads, the watching one included; processes that
    this one started count once it has waited for them.

    Examples
    --------
    >>> with watch(interval=0.05) as recorder:
    ...     total = sum(range(10**6))
    >>> recorder.end().names
    ('cpu_kernel', 'cpu_total', 'cpu_user', 'disk_read', 'disk_write', 'mem_usage')
    """
    seconds = checked_interval(interval)
    with needs("drivers.watch", "process"):
        import psutil  # noqa: F401 - only whether it is installed
    recorder, over = Recorder(rule), threading.Event()

    def sample() -> None:
        before, before_at = own_usage(), monotonic()
        due = before_at + seconds
        while True:
            last = over.wait(max(due - monotonic(), 0))
            used, now = own_usage(), monotonic()
            recorder.write_stat(time_ns(), metrics_of(used, before, now - before_at, 0))
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
