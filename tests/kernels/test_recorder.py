"""Recorder: bounded memory, and at the end what `decimate` would have made of all samples."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from callstats import CallstatsError, Recorder, Rule, SeriesError, StatSeries, decimate, reduce_json
from support.parity import TWINS

SECOND = 10**9
Sample = tuple[int, dict[str, int]]


def record(samples: list[Sample], rule: Any = 240, **options: Any) -> StatSeries:
    """A recording from end to end."""
    recorder = Recorder(rule, **options)
    for time, metrics in samples:
        recorder.write_stat(time, metrics)
    return recorder.end()


def test_repr(backend: str) -> None:
    """The repr is one short line, before, during and after the recording."""
    recorder = Recorder(60)
    assert repr(recorder) == "<Recorder: recording, no metric, 0 dropped>"
    recorder.write_stat(0, dict.fromkeys("fedcba", 1))
    recorder.write_stat(-(2**63), {"a": 1})
    assert repr(recorder) == "<Recorder: recording, a, b, c, d and 2 more, 1 dropped>"
    recorder.end()
    assert repr(recorder) == "<Recorder: ended, a, b, c, d and 2 more, 1 dropped>"


@pytest.mark.parametrize("work", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies(work: Callable[[Recorder], object]) -> None:
    """A recording can't be copied or pickled; the error says what can."""
    with pytest.raises(TypeError, match=r"^a Recorder can't be copied or pickled: call end\(\), and copy or pickle its series$"):
        work(Recorder())


def test_fields_of_its_rule(backend: str) -> None:
    """They may be given by name, as to `decimate`."""
    samples = [(i * SECOND, {"x": i}) for i in range(100)]
    assert record(samples, 7, how="max", missing="zero", max_bytes=400) == record(samples, Rule(7, "max", "zero", 400))


# --- rows times names ---------------------------------------------------------------------------------------------------------


def test_a_sample_with_one_name_too_many(backend: str) -> None:
    """Rows times names are bounded. A sample whose new name exceeds the bound is dropped as a whole, and counted."""
    recorder = Recorder(capacity=2**18)
    for name in "abcd":
        recorder.write_stat(0, {name: 1})
    recorder.write_stat(1, {"a": 2, "e": 2})
    recorder.write_stat(2, {"e": 3})
    recorder.write_stat(3, {"a": 4})
    assert recorder.dropped == 2
    series = recorder.end()
    assert series.names == ("a", "b", "c", "d") and series.timestamps.tolist() == [0, 0, 0, 0, 3] and recorder.dropped == 2


def test_many_new_names_at_once(backend: str) -> None:
    """A dropped sample registers none of its names, so that later ones still have room."""
    recorder = Recorder(capacity=2**19)
    recorder.write_stat(0, dict.fromkeys("abc", 1))
    recorder.write_stat(1, dict.fromkeys("ab", 1))
    assert recorder.dropped == 1 and recorder.end().names == ("a", "b")


def test_names_beside_their_peaks(backend: str) -> None:
    """A name beside its peak takes a column more, whichever comes first."""
    for names in (("x", "x@max"), ("x@max", "x")):
        for room, dropped in ((2, 1), (3, 0)):
            recorder = Recorder(capacity=2**20 // room)
            for name in names:
                recorder.write_stat(0, {name: 1})
            assert recorder.dropped == dropped and len(recorder.end().names) == 2 - dropped


def test_a_new_name_in_each_of_20_000_samples(backend: str) -> None:
    """Names beyond the bound cost nothing but their samples. The default capacity has room for 256."""
    recorder = Recorder()
    for i in range(20_000):
        recorder.write_stat(i, {f"m{i}": i})
    assert recorder.dropped == 20_000 - 256 and len(recorder.end().names) == 256


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's peak")
def test_the_most_memory_of_a_recorder() -> None:
    """A recorder at its bound takes at most 96 MiB with the compiled kernels, also while its rows merge."""
    program = """
import callstats, sys
def peak():
    return int([line for line in open("/proc/self/status") if "VmHWM" in line][0].split()[1]) * 1024
metrics = {f"m{i}": 2**63 for i in range(256)}
before, recorder = peak(), callstats.Recorder()
for i in range(5000):
    recorder.write_stat(i, metrics)
print(callstats.backend, peak() - before)
"""
    environment = {**os.environ, "CALLSTATS_BACKEND": "auto"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    backend, grown = done.stdout.split()
    if backend != "cython" or "LD_PRELOAD" in os.environ:
        pytest.skip("the pure kernels, and sanitizers, need more")
    assert int(grown) <= 96 * 2**20


# --- within the capacity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 59, 60, 61, 240, 241, 480, 481, 700])
def test_up_to_its_capacity_it_equals_decimate(backend: str, n: int) -> None:
    """Up to `capacity` samples the result is that of `decimate` over all of them."""
    samples = [(i * SECOND, {"x": i * i, "y": 7}) for i in range(n)]
    for rule in (240, Rule(60, how=("mean", "max")), Rule(0), Rule(None)):
        assert record(samples, rule, capacity=max(n, 2)) == decimate(StatSeries.from_samples(samples), rule)


def test_late_samples_within_the_capacity_are_sorted(backend: str) -> None:
    """Samples that come late, or at equal times, end as a stable sort leaves them."""
    samples = [(5, {"x": 1}), (3, {"x": 2}), (5, {"x": 3}), (3, {"x": 4, "y": 1}), (4, {"y": 9})]
    assert record(samples, 240) == StatSeries.from_samples(samples, sort=True)
    assert record(samples, 2) == decimate(StatSeries.from_samples(samples, sort=True), 2)


def test_short_calls(backend: str) -> None:
    """A call too short for a sample is the empty series and stored as ""; one sample is one row."""
    assert record([]).to_json() == b""
    assert record([(SECOND, {"x": 1})]).to_db() == '[{"timestamp":"1970-01-01T00:00:01.000Z","metrics":{"x":1}}]\n'


@pytest.mark.parametrize(("last", "counts"), [(600 * SECOND - 1, [10, 10]), (600 * SECOND, [10, 9, 1])])
def test_a_hole_in_a_recording(backend: str, last: int, counts: list[int]) -> None:
    """Two groups of samples around a hole are a row each; the floored window's remainder can be a third."""
    times = [i * SECOND for i in range(10)] + [(590 + i) * SECOND for i in range(9)] + [last]
    first = record([(time, {"x": 1}) for time in times], 5)
    assert first == decimate(StatSeries(times, {"x": [1] * 20}), 5)
    assert first.counts.tolist()[:1] == counts[:1]


def test_a_year_between_two_samples(backend: str) -> None:
    """Two samples a year apart cost two rows."""
    assert len(record([(0, {"x": 1}), (365 * 86_400 * SECOND, {"x": 2})], 2, capacity=2)) == 2


# --- refusals -----------------------------------------------------------------------------------------------------------------

REFUSED: list[Any] = [-1, 2**64, 1.5, float("nan"), True, "3", b"3", [1], 10**5000, np.float64("inf")]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_a_refused_value_leaves_nothing(backend: str, value: Any) -> None:
    """What `StatSeries` refuses raises at once, and nothing of that sample is kept, neither its metrics nor their names."""
    recorder = Recorder()
    recorder.write_stat(1, {"x": 1})
    with pytest.raises(SeriesError, match=r"metrics\['x'\] must be a whole number from 0 to 18446744073709551615, got "):
        recorder.write_stat(2, {"a": 5, "x": value, "b": 6})
    with pytest.raises(SeriesError):
        StatSeries([2], {"x": [value]})
    assert recorder.end() == StatSeries([1], {"x": [1]})
    assert recorder.dropped == 0


@pytest.mark.parametrize("time", [1.5, "yesterday", datetime(2020, 1, 1), True, None, 2**63, "9999-01-01T00:00:00Z"])
def test_a_refused_time(backend: str, time: Any) -> None:
    """What is no time, or lies past int64 nanoseconds, raises."""
    recorder = Recorder()
    with pytest.raises(SeriesError):
        recorder.write_stat(time, {"x": 1})
    assert len(recorder.end()) == 0 and recorder.dropped == 0


@pytest.mark.parametrize("metrics", [None, [("x", 1)], {1: 1}, {"\ud800": 1}])
def test_a_refused_mapping(backend: str, metrics: Any) -> None:
    """What maps no text to values raises."""
    with pytest.raises(SeriesError):
        Recorder().write_stat(1, metrics)


@pytest.mark.parametrize("capacity", [1, 0, -5, 2.5, "8", None, True])
def test_a_refused_capacity(capacity: Any) -> None:
    """A capacity is a whole number of rows, two at least."""
    with pytest.raises(CallstatsError, match="capacity must be a whole number of rows, from 2 to 1048576, got "):
        Recorder(capacity=capacity)


def test_what_converts_is_taken(backend: str) -> None:
    """Times as text or datetime, values of numpy, whole floats and None are taken as `StatSeries.from_samples` takes them."""
    recorder = Recorder()
    east = timezone(timedelta(hours=1))
    recorder.write_stat("1970-01-01T00:00:01Z", {"x": np.uint64(2**64 - 1), "y": None})
    recorder.write_stat(datetime(1970, 1, 1, 1, 0, 2, tzinfo=east), {"x": 2.0, "y": np.int8(3)})
    recorder.write_stat(np.int64(3 * SECOND), Counter(x=4))
    series = recorder.end()
    assert series.timestamps.tolist() == [SECOND, 2 * SECOND, 3 * SECOND]
    assert [stat.metrics for stat in series] == [{"x": 2**64 - 1}, {"x": 2, "y": 3}, {"x": 4}]


def test_the_sample_is_copied(backend: str) -> None:
    """A writer may use its dict again."""
    recorder, metrics = Recorder(), {"x": 1}
    recorder.write_stat(1, metrics)
    metrics["x"] = 2
    recorder.write_stat(2, metrics)
    assert recorder.end()["x"].tolist() == [1, 2]


# --- the end ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "early", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z", datetime(1, 1, 1, tzinfo=UTC), -(2**63), -(10**30)]
)
def test_go_s_zero_time_is_dropped(backend: str, early: Any) -> None:
    """A time before 1677, as a stopped container's frame has, is counted and no more."""
    recorder = Recorder()
    recorder.write_stat(early, {"x": 1})
    recorder.write_stat(-9223372036854000000, {"x": 2})
    assert recorder.dropped == 1
    assert recorder.end()["x"].tolist() == [2]


@pytest.mark.parametrize("n", [3, 9])
def test_the_end_is_final(backend: str, n: int) -> None:
    """A second end() gives the same, and what comes after the first is counted."""
    recorder = Recorder(2, capacity=4)
    for i in range(n):
        recorder.write_stat(i, {"x": i})
    series = recorder.end()
    recorder.write_stat(100, {"x": 1})
    recorder.write_stat(101, {"new": 1})
    recorder.write_stat(None, {"x": -1})  # type: ignore[arg-type]
    assert recorder.end() is series and recorder.dropped == 3


def test_ended_from_other_threads(backend: str) -> None:
    """Any thread may end while one writes: all get the same series, and every sample is in it or counted as dropped."""
    for capacity in (4096, 16):
        recorder, ends = Recorder(None, capacity=capacity), []
        barrier = threading.Barrier(5)

        def write(recorder: Recorder = recorder, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for i in range(20_000):
                recorder.write_stat(i, {"x": i} if i % 500 else {"x": i, f"y{i}": 1})

        def end(recorder: Recorder = recorder, barrier: threading.Barrier = barrier, ends: list[StatSeries] = ends) -> None:
            barrier.wait()
            ends.append(recorder.end())

        threads = [threading.Thread(target=write), *(threading.Thread(target=end) for _ in range(4))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(series is ends[0] for series in ends)
        assert int(ends[0].counts.sum()) + recorder.dropped == 20_000


def test_eight_threads_reduce_while_one_records(backend: str) -> None:
    """Counts are exact while eight threads reduce, and a free-threaded Python stays so after the import."""
    blob = StatSeries(range(5_000), {"x": range(5_000)}).to_json()
    recorder, recorded = Recorder(capacity=128), 50_000
    with ThreadPoolExecutor(9) as pool:
        reduced = [pool.submit(reduce_json, [blob], 60) for _ in range(8)]
        pool.submit(lambda: [recorder.write_stat(i, {"x": i}) for i in range(recorded)]).result()
        counts = {int(StatSeries.from_json(future.result()[0]).counts.sum()) for future in reduced}
    assert counts == {5_000} and int(recorder.end().counts.sum()) == recorded
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled()


def test_each_twin_is_what_it_says() -> None:
    """The twins carry the same names and the same documentation."""
    import importlib
    import inspect

    first, *others = (importlib.import_module(f"callstats.kernels.{module}").Rows for module in TWINS.values())
    public = [name for name in vars(first) if not name.startswith("_")]
    for other in others:
        assert inspect.getdoc(other) == inspect.getdoc(first)
        for name in public:
            assert inspect.getdoc(getattr(other, name)) == inspect.getdoc(getattr(first, name)), name
