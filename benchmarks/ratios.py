"""callstats against its peers, as ratios from one run: ``python benchmarks/ratios.py``; ``--table`` prints the README's table.

Both sides of a pair take turns, so that a noisy machine troubles them alike, and the best of each is compared. DuckDB's pairs
are measured in a process of their own, whose allocator keeps large blocks: see docs/tools.md.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter

import duckdb
import numpy as np
import orjson
import pyarrow as pa
from test_recorder import keep, record

import callstats
from callstats import Rule, StatBatch, StatSeries, decimate, kernels, reduce_json, summarize
from callstats._types import I64_MAX, Bytes, Counts
from callstats.adapters import arrow
from callstats.adapters import duckdb as duckdb_adapter
from callstats.reduce import plan_metrics
from callstats.stats.series import totals_plan
from inputs import alternating, series, spellings, stored_call, wide_call, with_holes
from peers import decode_alone, pipeline, reduceat, sums

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """One claim: ours takes at most `most` times the peer's time. None: shown only."""

    name: str
    ours: Work
    peer: Work
    most: float | None
    loops: int = 1
    megabytes: float | None = None

    def measure(self) -> tuple[float, float]:
        """The best time of each side in seconds."""
        ours, peer = best((self.ours, self.loops), (self.peer, self.loops))
        return ours, peer


def best(*works: tuple[Work, int], rounds: int = 15) -> list[float]:
    """The best time of each work in seconds, run so often in a row. They take turns."""
    times = [[_time(*each) for each in works] for _ in range(rounds)]
    return [min(of_one) for of_one in zip(*times, strict=True)]


def _time(work: Work, loops: int) -> float:
    start = perf_counter()
    for _ in range(loops):
        work()
    return (perf_counter() - start) / loops


def decimate_pairs() -> list[Pair]:
    """Series and batches, against numpy."""
    long = series(10_000_000, 1, step_ns=10**6)
    hour, stored = series(3_600), series(240)
    calls = [series(3_600, seed=i) for i in range(500)]
    batch = StatBatch(calls)
    return [
        Pair(
            "10M x 1 to 240, against two sums()",
            lambda: decimate(long, 240),
            lambda: sums(long.timestamps, long.values[0]),
            1.3,
        ),
        Pair(
            "10M x 1 to 240, max, against max() and sum()",
            lambda: decimate(long, 240, how="max"),
            lambda: (long.timestamps.sum(), long.values[0].max()),
            1.3,
        ),
        Pair("240 x 9 to 60, against the kernel called directly", lambda: decimate(stored, 60), direct(stored, 60), 1.3, 1_000),
        Pair(
            "3600 x 9 to 240, against reduceat",
            lambda: decimate(hour, 240),
            lambda: reduceat(hour.timestamps, hour.values, 240),
            1 / 2.5,
            loops=500,
        ),
        Pair(
            "240 x 9 to 60, against reduceat",
            lambda: decimate(stored, 60),
            lambda: reduceat(stored.timestamps, stored.values, 60),
            1 / 4,
            loops=1_000,
        ),
        Pair(
            "500 x 3600 x 9 to 240, against reduceat for each",
            lambda: decimate(batch, 240),
            lambda: [reduceat(call.timestamps, call.values, 240) for call in calls],
            1 / 3,
        ),
    ]


def direct(series: StatSeries, max_samples: int) -> Work:
    """Return the work of the compiled loop alone."""
    names, times, values, _, _ = series._columns
    _, plan = plan_metrics(names, Rule(max_samples))
    return partial(kernels.active.decimate_columns, times, values, None, None, None, max_samples, False, plan)


def recorder_pairs() -> list[Pair]:
    """Samples as they come, against a list of copies."""
    samples = [(stat.timestamp, stat.metrics) for stat in series(4_000)]
    peer = "against appending (time, dict copy)"
    return [
        Pair(f"4000 x 9 recorded, {peer}", lambda: record(samples, 4_096), lambda: keep(samples), 3),
        Pair(f"the same in 256 rows, {peer}", lambda: record(samples, 256), lambda: keep(samples), 3),
    ]


def text_pairs() -> list[Pair]:
    """Stored text, against JSON libraries."""
    pairs = []
    for name, n, max_samples, blobs, targets in (
        ("240 rows to 60", 240, 60, 40, (1 / 4, 1 / 12)),
        ("5 rows, nothing to do", 5, 60, 400, (None, None)),
        ("3600 rows to 240", 3_600, 240, 4, (None, None)),
    ):
        calls = [stored_call(n, seed=i) for i in range(blobs)]
        size = sum(map(len, calls)) / 1e6
        ours = partial(reduce_json, calls, max_samples)
        pairs += [
            Pair(f"{name}, against orjson.loads alone", ours, partial(decode_alone, calls), targets[0], 5, size),
            Pair(
                f"{name}, against orjson + reduceat",
                ours,
                partial(lambda calls, most: [pipeline(call, most) for call in calls], calls, max_samples),
                targets[1],
                2,
                size,
            ),
        ]
    calls = [stored_call(240, seed=i) for i in range(400)]
    two, one = partial(reduce_json, calls, 60, threads=2), partial(reduce_json, calls, 60)
    return [*pairs, Pair("two threads, against one", two, one, 1 / 1.7, 2, sum(map(len, calls)) / 1e6)]


def spelling_pairs() -> list[Pair]:
    """The scan of stored text alone, in bytes a second: no row is reduced."""
    calls = [stored_call(240, seed=i) for i in range(24)]
    spelled = [spellings(call) for call in calls]
    pairs = [_scans(f"240 rows, {name}", [each[name] for each in spelled], "Go's form", calls, 0.75) for name in spelled[0]]
    wide, wider = ([wide_call(240, k, seed=i) for i in range(3)] for k in (256, 300))
    return [
        *pairs,
        _scans("every second row without some metrics", list(map(alternating, calls)), "full rows", calls, 0.5),
        _scans("300 metrics", wider, "256 metrics", wide, 0.9),
        _scans("36,000 rows of 100 metrics", [wide_call(36_000, 100)], "240 of 9", calls, 0.5),
    ]


def _scans(name: str, ours: list[bytes], other: str, peer: list[bytes], least: float) -> Pair:
    """A pair of scans, of which ours must have so much of the peer's bytes a second."""
    size, peer_size = sum(map(len, ours)), sum(map(len, peer))
    most = size / peer_size / least
    works = [by_steps(partial(scan, *packed(blobs))) for blobs in (ours, peer)]
    return Pair(f"{name}: scan, against {other}", *works, most, 5, size / 1e6)


def by_steps(work: Work) -> Work:
    """The same work, in which no rows are read by their shape: what the scanner itself can do."""

    def run() -> None:
        kernels.active.choose_form("off")
        work()
        kernels.active.choose_form("auto")

    return run


def packed(blobs: list[bytes]) -> tuple[Bytes, Counts]:
    """Blobs as the kernel takes them."""
    return np.frombuffer(b"".join(blobs), np.uint8), np.cumsum([0, *map(len, blobs)], dtype=np.int64)


def scan(data: Bytes, offsets: Counts) -> None:
    """Check blobs in full, and find that there is nothing to do."""
    *_, status = kernels.active.reduce_packed(data, offsets, I64_MAX, -1, False, True, None)
    assert not status.any()


SHAPES = (("240 rows to 60", 240, 60, 20), ("3600 rows to 240", 3_600, 240, 2), ("5 rows, nothing to do", 5, 60, 400))
"""A name, and so many rows, reduced to so many, of so many calls."""

LEAST = {"orjson": (10, 13, None), "simdjson": (3, 3, 2), "the first version": (2, 1.7, 2)}
"""How many times as fast as each peer, for each shape."""

FIRST = Path("build/first/venv/bin/python")
"""The Python that has the first version; ``make bench`` makes it."""


def report_apart() -> int:
    """Measure text against its peers, each in processes of its own in turn: a heap that another reader has used changes times."""
    missed = 0
    for index, (name, n, most, blobs) in enumerate(SHAPES):
        calls = b"".join(stored_call(n, seed=i) for i in range(blobs))
        with NamedTemporaryFile() as file:
            file.write(calls)
            file.flush()
            pythons = {"callstats": sys.executable, "orjson": sys.executable, "simdjson": sys.executable}
            if FIRST.exists():
                pythons["the first version"] = str(FIRST)
            best = dict.fromkeys(pythons, float("inf"))
            for _ in range(5):
                for peer, python in pythons.items():
                    what = "callstats" if peer == "the first version" else peer
                    command = [python, str(Path(__file__).with_name("alone.py")), what, str(most), file.name]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    best[peer] = min(best[peer], float(done.stdout))
        ours = best.pop("callstats")
        for peer, seconds in best.items():
            least = LEAST[peer][index]
            missed += _print(
                f"{name}, against {peer} alone", ours, seconds, None if least is None else 1 / least, len(calls) / 1e6
            )
    return missed


def door_pairs() -> list[Pair]:
    """What users call for many series, against the kernel inside and against JSON libraries."""
    calls = [stored_call(240, seed=i) for i in range(200)]
    size = sum(map(len, calls)) / 1e6
    data, offsets = packed(calls)
    batch = StatBatch.from_json(calls)
    rows = [orjson.loads(call) for call in calls]
    columns, (_, plan) = batch._columns, totals_plan(batch.names)
    active = kernels.active

    def inner_summary() -> None:
        active.totals(columns.values, None, None, batch.offsets, plan)
        active.moments(columns.times, columns.values, None, batch.offsets, plan[0])
        active.ranks(columns.values, None, batch.offsets, plan[0])

    inside = "against the kernel inside"
    return [
        Pair(
            f"StatBatch.from_json, {inside}",
            lambda: StatBatch.from_json(calls),
            lambda: active.decode_packed(data, offsets),
            1 / 0.67,
            megabytes=size,
        ),
        Pair(f"summarize of a batch, {inside}", lambda: summarize(batch), inner_summary, 2),
        Pair(
            "to_json of a batch, against orjson.dumps",
            batch.to_json,
            lambda: [orjson.dumps(each) for each in rows],
            1 / 2.5,
            1,
            size,
        ),
    ]


def budget_pairs() -> list[Pair]:
    """A budget of half the bytes, against the same reduction without it."""
    pairs = []
    for name, text in (("10,000 rows", stored_call(10_000)), ("10,000 rows with holes", with_holes(10_000))):
        most = len(text) // 2
        rows = reduce_json([text], None, max_bytes=most)[0].count(b'"timestamp"')
        ours, peer = (by_steps(partial(reduce_json, [text], *rule)) for rule in ((Rule(None, max_bytes=most),), (rows,)))
        pairs.append(Pair(f"{name} to half the bytes, against that many rows", ours, peer, 5, 1, len(text) / 1e6))
    long = stored_call(100_000)
    pairs.append(
        Pair(
            "100,000 rows to half the bytes, against 10,000",
            partial(reduce_json, [long], None, max_bytes=len(long) // 2),
            partial(reduce_json, [text := stored_call(10_000)], None, max_bytes=len(text) // 2),
            12,
        )
    )
    return pairs


STORED = (("240 rows to 60", 240, 60, 400), ("5 rows to 2", 5, 2, 20_000), ("5 rows, nothing to do", 5, 60, 20_000))
"""A name, and so many calls of so many rows, reduced to so many."""


def world_pairs() -> list[Pair]:
    """Stored text in Arrow, against a list of it through reduce_json."""
    pairs = []
    for name, n, most, blobs in STORED:
        calls = [stored_call(n, seed=i) for i in range(blobs)]
        array, size = pa.array([call.decode() for call in calls]), sum(map(len, calls)) / 1e6
        by_list = partial(reduce_json, calls, most)
        pairs.append(Pair(f"{name}: Arrow, against a list", partial(arrow.reduce, array, most), by_list, 1, 1, size))
    calls = [stored_call(240, seed=i) for i in range(400)]
    read = partial(arrow.read_stored, pa.array(calls))
    return [*pairs, Pair("240 rows: Arrow read, against from_json", read, partial(StatBatch.from_json, calls), 1)]


def duckdb_pairs() -> list[Pair]:
    """Stored text in DuckDB, against a list of it through reduce_json."""
    pairs = []
    for name, n, most, blobs in STORED:
        calls = [stored_call(n, seed=i) for i in range(blobs)]
        size = sum(map(len, calls)) / 1e6
        connection = duckdb.connect()
        duckdb_adapter.register(connection)
        connection.register("stored", pa.table({"stats": pa.array([call.decode() for call in calls])}))
        connection.execute("CREATE TABLE calls AS SELECT * FROM stored")
        in_duckdb, by_list = partial(_in_duckdb, connection, most), partial(reduce_json, calls, most)
        pairs.append(Pair(f"{name}: DuckDB, against a list", in_duckdb, by_list, 2, 1, size))
        pairs.append(Pair(f"{name}: DuckDB, against a list fetched", in_duckdb, partial(_fetched, connection, most), 2, 1, size))
    return pairs


def _in_duckdb(connection: duckdb.DuckDBPyConnection, most: int) -> pa.Table:
    return connection.sql(f"SELECT stats_decimate(stats, {most}) AS stats FROM calls").to_arrow_table()


def _fetched(connection: duckdb.DuckDBPyConnection, most: int) -> list[bytes]:
    return reduce_json([row[0] for row in connection.execute("SELECT stats FROM calls").fetchall()], most)


ROOMY = {"MALLOC_MMAP_THRESHOLD_": str(2**30)}


def main() -> int:
    """Print every pair; 1 when one misses its target."""
    if sys.argv[1:] == ["duckdb"]:
        return report(duckdb_pairs())
    if sys.argv[1:] == ["--table"]:
        return table([pair for pair in text_pairs() + decimate_pairs() if re.search("orjson|reduceat", pair.name)])
    print(f"callstats {callstats.__version__} ({callstats.backend} backend), best of 15 in turn", flush=True)
    missed = report_apart() | report(
        decimate_pairs() + door_pairs() + budget_pairs() + text_pairs() + spelling_pairs() + recorder_pairs() + world_pairs()
    )
    return missed | subprocess.run([sys.executable, __file__, "duckdb"], check=False, env=os.environ | ROOMY).returncode


def table(pairs: list[Pair]) -> int:
    """Print pairs as Markdown, and on what machine they were measured."""
    cpus = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = (re.findall(r"^model name\s*: (.*)$", cpus, re.MULTILINE) or [platform.machine()])[0]
    print(f"On {os.cpu_count()} cores of {cpu}, Python {platform.python_version()}, numpy {np.__version__}:\n")
    print("| work | takes | MB/s | times as fast as |")
    print("|--|--:|--:|--:|")
    for work, same in groupby(pairs, key=lambda pair: pair.name.partition(", against ")[0]):
        first, *others = same
        ours, *peers = best((first.ours, first.loops), *((pair.peer, pair.loops) for pair in (first, *others)))
        speed = "" if first.megabytes is None else f"{first.megabytes / ours:,.0f}"
        names = (pair.name.partition(", against ")[2] for pair in (first, *others))
        ratios = ", ".join(f"{name} {peer / ours:.1f}" for name, peer in zip(names, peers, strict=True))
        print(f"| {work} | {ours * 1e3:.3g} ms | {speed} | {ratios} |", flush=True)
    return 0


def report(pairs: list[Pair]) -> int:
    """Measure and print pairs; 1 when one misses its target."""
    missed = 0
    for pair in pairs:
        missed += _print(pair.name, *pair.measure(), pair.most, pair.megabytes)
    return 1 if missed else 0


def _print(name: str, ours: float, peer: float, most: float | None, megabytes: float | None) -> bool:
    """Print a pair. Return whether it misses its target."""
    kept = most is None or ours <= most * peer
    speed = "" if megabytes is None else f", {megabytes / ours:,.0f} MB/s"
    target = "" if most is None else f"   {'' if kept else 'MISSED '}(target {1 / most:.2f})"
    print(
        f"{name:<50} {ours * 1e6:>10.1f} us {peer * 1e6:>10.1f} us   {peer / ours:>6.2f} times as fast{speed}{target}", flush=True
    )
    return not kept


if __name__ == "__main__":
    sys.exit(main())
