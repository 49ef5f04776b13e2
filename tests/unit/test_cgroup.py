"""CgroupSampler over trees of files: version 2 by the kernel's documentation, and version 1."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from callstats.drivers import CgroupSampler, watch
from callstats.drivers.process.group import TaskGroup
from callstats.errors import ArgumentError
from callstats.stats.call import usage_of

MIB = 2**20

VERSION_2 = {
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.procs": "77\n",
    "memory.current": f"{100 * MIB}\n",
    "memory.peak": f"{150 * MIB}\n",
    "memory.max": "max\n",
    "memory.stat": f"anon {60 * MIB}\nfile {40 * MIB}\ninactive_anon 7\nactive_file 10\ninactive_file {30 * MIB}\nslab 5\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
    "io.stat": "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
    "8:0 rbytes=800 wbytes=496 rios=1 wios=1 dbytes=9 dios=1\n",
}

VERSION_1 = {
    "memory/g/memory.usage_in_bytes": f"{100 * MIB}\n",
    "memory/g/memory.max_usage_in_bytes": f"{150 * MIB}\n",
    "memory/g/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/g/memory.stat": f"cache 5\ninactive_file 9\ntotal_cache 5\ntotal_inactive_file {30 * MIB}\ntotal_active_file 0\n",
    "memory/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory/g/cgroup.procs": "77\n",
    "cpuacct/g/cpuacct.usage": "2500000000\n",
    "cpuacct/g/cpuacct.usage_user": "2000000000\n",
    "cpuacct/g/cpuacct.usage_sys": "500000000\n",
    "cpuacct/g/cgroup.procs": "77\n",
    "blkio/g/blkio.throttle.io_service_bytes_recursive": "8:16 Read 1459200\n8:16 Write 314773504\n8:16 Sync 1\n"
    "8:0 Read 800\n8:0 Write 496\nTotal 9\n",
    "blkio/g/cgroup.procs": "77\n",
}

SHOWN = {
    "mem_usage": 100 * MIB,
    "mem_working": 70 * MIB,
    "mem_usage@max": 150 * MIB,
    "cpu_time@last": 2_500_000_000,
    "disk_read": 1_460_000,
    "disk_write": 314_774_000,
}


def write(folder: Path, files: dict[str, str]) -> None:
    """Make a tree of files, or change some."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_version_2(tmp_path: Path) -> None:
    """All metrics of a group; CPU from the second sample on, and the kernel's peak once it has risen."""
    write(tmp_path, VERSION_2)
    with CgroupSampler(tmp_path) as sampler:
        first = sampler.sample()
        assert first is not None and first.metrics == {**SHOWN, "mem_limit": 2**64 - 1}
        write(tmp_path, {"cpu.stat": "usage_usec 2500001\nuser_usec 2000001\nsystem_usec 500000\n", "memory.max": "4096\n"})
        second = sampler.sample()
        assert second is not None and second.timestamp > first.timestamp
        assert "mem_usage@max" not in second.metrics and second.metrics["mem_limit"] == 4096
        assert second.metrics["cpu_time@last"] == 2_500_001_000
        assert 0 <= second.metrics["cpu_user"] == second.metrics["cpu_total"] <= 100 and second.metrics["cpu_kernel"] == 0
        write(tmp_path, {"memory.peak": f"{151 * MIB}\n"})
        third = sampler.sample()
        assert third is not None and third.metrics["mem_usage@max"] == 151 * MIB
        assert sampler.oom_kills() == 2 and sampler.is_running()
        write(tmp_path, {"cgroup.events": "populated 0\nfrozen 0\n"})
        assert not sampler.is_running()


def test_version_1(tmp_path: Path) -> None:
    """The controllers' folders are found beside each other. An unlimited group has the kernel's own number."""
    write(tmp_path, VERSION_1)
    for folder in ("memory/g", "cpuacct/g"):
        sampler = CgroupSampler(tmp_path / folder)
        sample = sampler.sample()
        assert sample is not None and sample.metrics == {**SHOWN, "mem_limit": 9223372036854771712}
        assert sampler.oom_kills() == 2 and sampler.is_running()
        sampler.close()
        sampler.close()


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (("memory.peak",), {"mem_usage@max"}),
        (("memory.stat",), {"mem_working"}),
        (("io.stat",), {"disk_read", "disk_write"}),
        (("cpu.stat",), {"cpu_time@last"}),
        (
            ("memory.current", "memory.peak", "memory.max", "memory.stat"),
            {"mem_usage", "mem_working", "mem_usage@max", "mem_limit"},
        ),
    ],
)
def test_a_controller_that_is_off(tmp_path: Path, files: tuple[str, ...], missing: set[str]) -> None:
    """A metric whose file is missing is absent, and never 0."""
    write(tmp_path, {name: text for name, text in VERSION_2.items() if name not in files})
    sample = CgroupSampler(tmp_path).sample()
    assert sample is not None and sample.metrics.keys() == {*SHOWN, "mem_limit"} - missing


def test_odd_numbers(tmp_path: Path) -> None:
    """A use of 0 is no measurement, no traffic is 0 bytes, and a counter that went back tells no CPU below 0."""
    write(tmp_path, {**VERSION_2, "io.stat": "", "memory.current": "0\n"})
    sampler = CgroupSampler(tmp_path)
    sample = sampler.sample()
    assert sample is not None and sample.metrics["disk_read"] == sample.metrics["disk_write"] == 0
    assert not {"mem_usage", "mem_working"} & sample.metrics.keys()
    write(tmp_path, {"cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n", "memory.current": f"{20 * MIB}\n"})
    sample = sampler.sample()
    assert sample is not None and sample.metrics["cpu_total"] == 0
    assert sample.metrics["mem_working"] == 20 * MIB  # the cache was counted at another time


@pytest.mark.parametrize("path", ["no/such", "/no/such", "/", "/proc"])
def test_no_group(path: str) -> None:
    """A folder that is no group is rejected by its name."""
    with pytest.raises(ArgumentError, match=rf"^path must be the folder of a control group, got '{path}'"):
        CgroupSampler(path)


def test_watch_counts_from_its_start(tmp_path: Path) -> None:
    """Totals begin at 0, and the kernel's peak counts once it has risen: it is the ceiling of the working set."""
    write(tmp_path, VERSION_2)
    with watch(100, None, cgroup=tmp_path) as recorder:
        write(tmp_path, {"cpu.stat": "usage_usec 2600000\nuser_usec 2000000\nsystem_usec 600000\n"})
    (only,) = recorder.end()
    assert only.metrics["cpu_time@last"] == 100_000_000 and only.metrics["disk_write"] == 0
    assert "mem_usage@max" not in only.metrics
    with watch(100, None, cgroup=tmp_path) as recorder:
        write(tmp_path, {"memory.peak": f"{200 * MIB}\n"})
    usage = usage_of(recorder.end())
    assert (usage.memory_metric, usage.peak_memory, usage.peak_ceiling) == ("mem_working", 70 * MIB, 200 * MIB)


def test_watch_ends_with_its_group(tmp_path: Path) -> None:
    """What the group used until it was empty is in the last sample, and its files are closed then."""

    def opened() -> list[str]:
        return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]

    write(tmp_path, VERSION_2)
    with watch(0.01, None, cgroup=tmp_path) as recorder:
        assert opened()
        write(tmp_path, {"cpu.stat": "usage_usec 2700000\nuser_usec 2000000\nsystem_usec 700000\n"})
        write(tmp_path, {"cgroup.events": "populated 0\nfrozen 0\n"})
        deadline = monotonic() + 10
        while opened() and monotonic() < deadline:
            sleep(0.01)
        assert not opened()
    assert list(recorder.end())[-1].metrics["cpu_time@last"] == 200_000_000


def test_a_task_s_own_group(tmp_path: Path) -> None:
    """The files of a group say what runs in it and below it, and how much CPU it has used."""
    write(tmp_path, {**VERSION_2, "below/cgroup.procs": "78\n79\n", "cgroup.kill": ""})
    group = TaskGroup(tmp_path, tmp_path.name)
    assert sorted(group.pids()) == [77, 78, 79] and group.cpu() == (2.0, 0.5) and not group.has(1)
    group.kill()
    assert (tmp_path / "cgroup.kill").read_text() == "1"
    assert group.peak() == (0, 0)  # a kernel without these numbers
    write(tmp_path, {"memory.stat": f"anon 9\nfile {40 * MIB}\nshmem {3 * MIB}\nslab 5\nkernel {2 * MIB}\n"})
    assert group.peak() == (148 * MIB, 37 * MIB)
    write(tmp_path, {"memory.stat": f"anon 9\nfile {40 * MIB}\nshmem {3 * MIB}\nslab {MIB}\n"})
    assert group.peak() == (149 * MIB, 37 * MIB)
