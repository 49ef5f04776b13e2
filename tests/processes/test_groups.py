"""Control groups of this machine: samples of them, and tasks in groups of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest

from callstats.drivers import CgroupSampler, watch
from callstats.drivers.process.group import TaskGroup
from callstats.stats.call import usage_of
from support.programs import PATIENCE, gone, started
from support.recorded import PYTHON, peak, shell

MIB = 2**20
ROOT = Path("/sys/fs/cgroup")
PROGRAM = """
import sys, time
sys.stdin.readline()
data = bytearray(100 * 2**20)
del data
end = time.process_time() + 0.3
while time.process_time() < end: pass
time.sleep(0.2)
"""


@pytest.fixture
def version_1() -> Iterator[str]:
    """A group of our own of version 1."""
    name, folders = f"callstats-test-{uuid4().hex}", [ROOT / each for each in ("memory", "cpuacct", "blkio")]
    if not all((folder / "cgroup.procs").exists() and os.access(folder, os.W_OK) for folder in folders):
        pytest.skip("this machine has no control groups of version 1 that we may write to")
    for folder in folders:
        (folder / name).mkdir()
    yield name
    for folder in folders:
        deadline = monotonic() + PATIENCE
        while (folder / name).exists() and monotonic() < deadline:
            with suppress(OSError):
                (folder / name).rmdir()
            sleep(0.02)


@pytest.mark.parametrize("by", ["name", "memory", "cpuacct"])
def test_a_group_of_version_1(version_1: str, by: str) -> None:
    """A peak between two samples is the kernel's, and CPU is the group's own."""
    path = version_1 if by == "name" else str(ROOT / by / version_1)
    with started([*PYTHON, PROGRAM], stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        for controller in ("memory", "cpuacct", "blkio"):
            (ROOT / controller / version_1 / "cgroup.procs").write_text(str(program.pid))
        with watch(100, None, cgroup=path) as recorder:
            program.stdin.close()
            sampler = CgroupSampler(path)
            assert sampler.is_running()
            deadline = monotonic() + PATIENCE
            while (stat := sampler.sample()) and stat.metrics["cpu_time@last"] < 0.3e9 and monotonic() < deadline:
                sleep(0.02)
        program.wait()
    (only,) = recorder.end()
    usage = usage_of(recorder.end())
    assert 100 * MIB < only.metrics["mem_usage@max"] < 140 * MIB and usage.peak_ceiling == only.metrics["mem_usage@max"]
    assert 0.28e9 <= only.metrics["cpu_time@last"] < 1e9 and {"disk_read", "disk_write"} <= only.metrics.keys()
    assert not sampler.is_running() and sampler.oom_kills() == 0
    sampler.close()


def test_watching_ends_with_the_group(version_1: str) -> None:
    """A group without a process has the last sample alone, and one that is removed has none."""
    sampler = CgroupSampler(version_1)
    with watch(0.02, None, cgroup=version_1) as recorder:
        sleep(0.2)
    assert len(recorder.end()) == 1
    for controller in ("memory", "cpuacct", "blkio"):
        (ROOT / controller / version_1).rmdir()
    assert sampler.sample() is None and not sampler.is_running()
    sampler.close()


# --- a group of the task's own ------------------------------------------------------------------------------------------------


@pytest.fixture
def version_2() -> Iterator[Path]:
    """The folder where tasks get groups of their own."""
    group = TaskGroup.make(f"test-{uuid4().hex}")
    if group is None:
        pytest.skip("this process may make no control group of version 2")
    yield group.folder.parent
    group.remove()
    assert not [folder for folder in group.folder.parent.iterdir() if folder.name == group.folder.name]


def test_a_task_in_its_own_group(version_2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a library host too, an orphan that no look has seen ends with the task, and its CPU counts. The group goes with it."""
    mark = uuid4().hex
    made: list[Path] = []
    make = TaskGroup.make

    def noted(name: str) -> TaskGroup | None:
        group = make(name)
        made.extend([] if group is None else [group.folder])
        return group

    monkeypatch.setattr(TaskGroup, "make", noted)
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; : > done"
    script = f"env -i setsid sh -c 'sleep 600; : {mark}' & (env -i setsid sh -c '{busy}' &)"
    _, series = shell(f"{script}; until [ -e done ]; do sleep 0.05; done; sleep 0.1", 100, work_dir=str(tmp_path))
    assert gone(mark, 5) and len(series) == 1
    assert series["cpu_time@last"].max() > 0.03e9
    [folder] = made
    assert folder.parent == version_2 and not folder.exists()


@pytest.mark.parametrize(
    ("peak", "cache", "told", "source"),
    [(300, 5, 295, "kernel"), (300, 100, 200, "sampled"), (300, 400, 0, "sampled"), (0, 0, 0, "sampled")],
)
def test_the_peak_of_the_group(
    version_2: Path, monkeypatch: pytest.MonkeyPatch, peak: int, cache: int, told: int, source: str
) -> None:
    """The kernel's peak less the page cache is a lower bound. It is the peak where the cache was small."""
    monkeypatch.setattr(TaskGroup, "peak", lambda group: (peak * MIB, cache * MIB))
    _, series = shell("true; (true); exit 0", 100)
    usage = usage_of(series)
    assert usage.peak_source == source and usage.peak_memory is not None
    assert 0 <= usage.peak_memory - told * MIB < (32 * MIB if told == 0 else 1)


HOST = """
import sys
from callstats.drivers import ProcessDriver, Task
run = ProcessDriver(0.05).prepare(Task(command=["sh", "-c", sys.argv[1]])).run()
print(run._group.folder, flush=True)
run.wait()
"""


def test_the_recorder_is_killed(version_2: Path) -> None:
    """What has left the session and cleared its environment ends too, and no group is left."""
    mark = uuid4().hex
    script = f"env -i setsid sh -c 'sleep 600; : {mark}' & echo ready >&2; sleep 600"
    with started([sys.executable, "-c", HOST, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as host:
        assert host.stdout is not None and host.stderr is not None
        folder = Path(host.stdout.readline().decode().strip())
        sleep(0.3)
        assert folder.exists()
        host.kill()
    deadline = monotonic() + PATIENCE
    while folder.exists() and monotonic() < deadline:
        sleep(0.05)
    assert gone(mark, 5) and not folder.exists()


def test_a_group_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a group, a task runs and ends as before."""
    monkeypatch.setattr(TaskGroup, "make", classmethod(lambda cls, mark: None))
    mark = uuid4().hex
    _, series = shell(f"(sleep 600; : {mark}) & sleep 0.2", 0.05)
    assert gone(mark, 5) and peak(series) > 0
