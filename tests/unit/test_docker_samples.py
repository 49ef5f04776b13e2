"""What is known of a container at its end: by the engine's frames, and by its control group and first process on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from time import time_ns
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("docker")

from callstats.drivers.docker import samples
from callstats.drivers.docker.samples import FirstProcess, Samples
from callstats.errors import ArgumentError
from callstats.series import Stat
from support.programs import started, wait_until

END = 1000
with_descriptors = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no descriptors of processes")


def closing(
    reading: dict[str, int],
    *,
    known: dict[str, int] | None = None,
    cpu: int | None = None,
    time: int = 0,
    began_at: int | None = None,
    frame: dict[str, Any] | None = None,
) -> tuple[int, dict[str, int]]:
    """Return the closing sample after a group's last reading, the max of each metric so far, and the last frame's time."""
    written: list[Any] = []
    run: Any = SimpleNamespace(write_stat=lambda *sample: written.append(sample), began_at=began_at)
    made = Samples(run, SimpleNamespace(base_url="http://x", api_version="1.44"), "c")  # type: ignore[arg-type]
    made._max, made._time = known or {}, time
    made._frame = frame or ({} if cpu is None else {"cpu_stats": {"cpu_usage": {"total_usage": cpu}}})
    made.close(END, reading)
    assert not made._lock.locked()
    (sample,) = written
    return sample  # type: ignore[no-any-return]


def test_the_closing_sample() -> None:
    """Totals are the larger ones; other metrics come from the group only where no frame had them; a peak only once it is new."""
    assert closing({}) == (END, {})
    assert closing({}, time=END + 5) == (END + 5, {})  # never before the last frame
    assert closing({"cpu_time@last": 7}) == (END, {"cpu_time@last": 7})
    assert closing({"cpu_time@last": 7, "disk_read": 0}, cpu=9) == (END, {"cpu_time@last": 9, "disk_read": 0})
    assert closing({"disk_read": 5, "disk_write": 9}, known={"disk_read": 6, "disk_write": 8})[1] == {
        "disk_read": 6,
        "disk_write": 9,
    }
    gauges = {"mem_usage": 5, "mem_working": 4, "mem_limit": 9}
    assert closing(gauges)[1] == gauges
    assert closing(gauges, known={"mem_usage": 6, "net_rx": 3})[1] == {"mem_working": 4, "mem_limit": 9}
    assert closing({"mem_usage@max": 1})[1] == {"mem_usage@max": 1, "mem_peak@last": 1}
    peak = {"mem_usage@max": 8}
    assert closing(peak)[1] == {"mem_usage@max": 8, "mem_peak@last": 8}
    assert closing(peak, known={"mem_usage": 8})[1] == {"mem_peak@last": 8}
    assert closing(peak, known={"mem_usage@max": 8})[1] == {"mem_peak@last": 8}
    assert closing(peak, known={"mem_usage@max": 7, "mem_usage": 6})[1] == {"mem_usage@max": 8, "mem_peak@last": 8}
    assert closing({}, known={"mem_usage": 7, "mem_usage@max": 9})[1] == {"mem_peak@last": 9}


@pytest.mark.parametrize(
    ("began_at", "reads", "known", "want"),
    [
        (None, {}, None, {}),  # nothing is known of an earlier time
        (END - 10, {}, None, {"cpu_total": 60}),  # no frame: since the start
        (END - 10, {"read": (END - 5, 2)}, None, {"cpu_total": 80}),  # the first frame has no use of its own
        (END - 4, {"read": (END - 1, 5)}, None, {"cpu_total": 150}),  # since the start: 6 in 4
        (END - 10, {"preread": (END - 9, 1), "read": (END - 5, 2)}, 25, {"cpu_total": 80}),
        (None, {"preread": (END - 9, 1), "read": (END - 5, 2)}, 25, {"cpu_total": 80}),
        (None, {"preread": (END - 9, 1), "read": (END - 1, 5)}, 50, {"cpu_total@max": 55}),  # since the frame before: 5 in 9
        (None, {"preread": (END - 9, 1), "read": (END - 1, 5)}, 55, {}),
        (None, {"read": (END - 5, 9)}, None, {"cpu_total": 0}),  # a group that has counted less
    ],
)
def test_the_processor_in_the_last_interval(
    began_at: int | None,
    reads: dict[str, tuple[int, int]],
    known: int | None,
    want: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts since the last frame; where that is less than half of the time between two, a higher peak alone counts."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    frame: dict[str, Any] = {"preread": "0001-01-01T00:00:00Z"}
    for at, of in (("preread", "precpu_stats"), ("read", "cpu_stats")):
        if at in reads:
            time, used = reads[at]
            frame |= {at: f"1970-01-01T00:00:00.{time:09}Z", of: {"cpu_usage": {"total_usage": used}}}
    before = {} if known is None else {"cpu_total": known}
    metrics = closing({"cpu_time@last": 6}, known=before, began_at=began_at, frame=frame)[1]
    assert {name: value for name, value in metrics.items() if name.startswith("cpu_") and name != "cpu_time@last"} == want
    metrics = closing({"disk_read": 6}, known=before, began_at=began_at, frame=frame)[1]
    assert not metrics.keys() & {"cpu_total", "cpu_total@max"}


def test_a_writer_that_is_still_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for it for ever; a task's samples come one at a time."""
    monkeypatch.setattr(samples, "_WRITER_SECONDS", 0.01)
    written: list[Any] = []
    run: Any = SimpleNamespace(write_stat=lambda *sample: written.append(sample))
    made = Samples(run, SimpleNamespace(base_url="http://x", api_version="1.44"), "c")  # type: ignore[arg-type]
    with made._lock:
        made.close(END, {})
    assert written == []


@pytest.mark.parametrize("breaks", [False, True])
def test_a_stream_that_the_engine_does_not_end(breaks: bool) -> None:
    """The end of the container ends it: its reader would wait for the next frame."""
    ended: list[None] = []

    def shutdown() -> None:
        ended.append(None)
        if breaks:
            raise OSError

    made = Samples(SimpleNamespace(), SimpleNamespace(base_url="http://x", api_version="1.44"), "c")  # type: ignore[arg-type]
    made.end()  # nothing has begun
    made._response = SimpleNamespace(raw=SimpleNamespace(shutdown=shutdown))  # type: ignore[assignment]
    made._thread = threading.Thread(target=made._over.wait)
    made._thread.start()
    made.end()
    assert len(ended) == 1 and not made._thread.is_alive()


# --- the first process --------------------------------------------------------------------------------------------------------


class Group:
    """A control group as a test says it is; each list's last item stays."""

    def __init__(self, readings: list[dict[str, int] | None], kills: list[int]) -> None:
        self.readings, self.kills, self.closed = readings, kills, 0

    def sample(self) -> Stat | None:
        metrics = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        return None if metrics is None else Stat(0, metrics)

    def oom_kills(self) -> int:
        return self.kills.pop(0) if len(self.kills) > 1 else self.kills[0]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that stands for the container's first one."""
    with started(["sleep", "600"]) as process:
        yield process
        process.kill()


def looked(group: Group, names: tuple[str, ...] = ("docker/c0ffee",)) -> tuple[FirstProcess, list[str]]:
    """Return one that has not started to watch, and the groups that it asks for."""
    asked: list[str] = []

    def make(name: str) -> Group:
        asked.append(name)
        if name not in names:
            raise ArgumentError("path", "the folder of a control group", name)
        return group

    samples.CgroupSampler = make  # type: ignore[assignment,misc] # the fixture below undoes it
    first = FirstProcess()
    first._names = [name.format("c0ffee") for name in samples._GROUPS]
    return first, asked


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what `looked` replaces."""
    monkeypatch.setattr(samples, "CgroupSampler", samples.CgroupSampler)


def test_readings_of_the_group() -> None:
    """While it runs all is read; at the end what it still counts, and what was never read before. A removed group keeps that."""
    running = {"mem_usage": 5, "cpu_time@last": 1, "mem_usage@max": 6}
    ended = {"mem_usage": 1, "mem_limit": 9, "cpu_time@last": 2, "mem_usage@max": 7, "disk_read": 3}
    group = Group([running, ended, None], [0, 2, 1])
    first, asked = looked(group, ("system.slice/docker-c0ffee.scope",))
    first._look()
    assert (first._reading, first.oom_kills) == (running, 0)
    first._look(samples._UNTIL_THE_END)
    assert first._reading == {"mem_usage": 5, "mem_limit": 9, "cpu_time@last": 2, "mem_usage@max": 7, "disk_read": 3}
    assert first.oom_kills == 2
    first._look()  # it is gone
    assert first._reading["cpu_time@last"] == 2
    assert asked == ["docker/c0ffee", "system.slice/docker-c0ffee.scope"]  # found once
    assert first.close()["mem_usage"] == 5 and group.closed == 1


def test_the_count_of_kills_stays() -> None:
    """A later reading that tells of fewer was none; a newer reading of a running group takes the place of an older one."""
    first, _ = looked(Group([{"mem_usage": 5}, {"mem_usage": 4}], [3, 0]))
    first._look()
    first._look()
    assert (first._reading, first.oom_kills) == ({"mem_usage": 4}, 3)


def test_no_group() -> None:
    """On another machine nothing is known, and every method does nothing."""
    first, asked = looked(Group([None], [0]), ())
    first._look()
    assert asked == ["docker/c0ffee", "system.slice/docker-c0ffee.scope"]
    first.kill()
    assert first.close() == {} == first.close()
    assert (first.ended_at, first.oom_kills) == (None, 0)


def cgroup_file(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let every process be in these groups."""
    monkeypatch.setattr(samples, "Path", lambda _name: SimpleNamespace(read_text=lambda: text))


@with_descriptors
def test_from_the_start_to_the_end(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]) -> None:
    """Its group is read before the engine has named the process, then by its own name; a kill ends it, and its end is noted."""
    monkeypatch.setattr(samples, "_LOOK_MS", 20)
    group = Group([{"cpu_time@last": 1}], [0])
    first, asked = looked(group)
    before, first._names = time_ns(), []
    first.expect("c0ffee")
    wait_until(lambda: first._reading == {"cpu_time@last": 1})
    cgroup_file(monkeypatch, "4:memory:/other\n0::/docker/c0ffee\n1:cpu:/x/c0ffee\n")
    first.find(child.pid)
    assert first._names == ["docker/c0ffee"] and first._descriptor is not None
    for use in (2, 3):
        group.readings = [{"cpu_time@last": use}]
        wait_until(lambda use=use: first._reading == {"cpu_time@last": use})
    assert first.ended_at is None
    group.readings = [{"cpu_time@last": 4, "mem_usage": 7}]
    first.kill()
    wait_until(lambda: first.ended_at)
    assert child.wait() == -signal.SIGKILL
    assert first.ended_at is not None and before < first.ended_at <= time_ns()
    descriptor = first._descriptor
    assert descriptor is not None
    assert first.close() == {"cpu_time@last": 4, "mem_usage": 7}
    assert group.closed >= 1 and asked == ["docker/c0ffee"]
    assert first._descriptor is None
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    assert first.close() == {"cpu_time@last": 4, "mem_usage": 7}
    first.kill()


def test_a_close_before_the_end(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]) -> None:
    """The watch ends at once, the process goes on, and no end of it is told."""
    monkeypatch.setattr(samples, "_LOOK_MS", 20)
    cgroup_file(monkeypatch, "0::/docker/c0ffee\n")
    first, _ = looked(Group([{"cpu_time@last": 1}], [0]))
    first.expect("c0ffee")
    first.find(child.pid)
    assert first.close().keys() <= {"cpu_time@last"}
    assert first.ended_at is None and child.poll() is None
    assert "callstats-docker-first" not in {thread.name for thread in threading.enumerate()}


@with_descriptors
@pytest.mark.parametrize("number", ["another's", "none"])
def test_a_process_of_another_machine(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes], number: str) -> None:
    """A number that the engine gives may be another process's here, which is left alone, or nobody's."""
    cgroup_file(monkeypatch, "0::/docker/another\n")
    first, _ = looked(Group([None], [0]), ())
    opened, pidfd_open = list[int](), os.pidfd_open

    def open_noted(process: int) -> int:
        opened.append(pidfd_open(process))
        return opened[-1]

    monkeypatch.setattr(os, "pidfd_open", open_noted)
    first.expect("c0ffee")
    first.find(child.pid if number == "another's" else 2**22 + 1)
    assert len(opened) == (number == "another's") and first._descriptor is None
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)
    wait_until(lambda: first._thread is None or not first._thread.is_alive())  # nothing is left to look at
    first.kill()
    assert first.close() == {} and child.poll() is None
