"""CgroupSampler over trees of files: version 2 by the kernel's documentation, and version 1."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace

import psutil
import pytest

from callstats.drivers import CgroupSampler, DriverError, cgroup, watch
from callstats.drivers._watch import make_sampler
from callstats.drivers.process import group as groups
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


def test_a_group_of_an_older_kernel(tmp_path: Path) -> None:
    """Version 1 without times by kind: they are in ticks elsewhere. Without the total, or that file, no time is known."""
    older = {name: text for name, text in VERSION_1.items() if not name.endswith(("usage_user", "usage_sys"))}
    write(tmp_path, {**older, "cpuacct/g/cpuacct.stat": "user 300\nsystem 100\n"})
    sampler = CgroupSampler(tmp_path / "memory/g")
    ticks = os.sysconf("SC_CLK_TCK")
    assert sampler._times() == (2_500_000_000, 300 * 10**9 // ticks, 100 * 10**9 // ticks)
    assert CgroupSampler(tmp_path / "blkio/g").is_running()
    (tmp_path / "cpuacct/g/cpuacct.usage").unlink()
    assert CgroupSampler(tmp_path / "memory/g")._times() is None


@pytest.mark.parametrize("version", [1, 2])
def test_shares_since_the_last_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """What was used by the time between two samples, not since the start."""
    clock = [100.0]
    monkeypatch.setattr("callstats.drivers.cgroup.monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    write(tmp_path, VERSION_1 if version == 1 else VERSION_2)
    sampler = CgroupSampler(tmp_path / "memory/g" if version == 1 else tmp_path)
    assert sampler.sample() is not None
    for step in (1, 2):
        clock[0] += 4
        total, user, kernel = (10**9 * (10 + part * step) for part in (2.0, 1.5, 0.5))
        if version == 1:
            for name, use in (("", total), ("_user", user), ("_sys", kernel)):
                write(tmp_path, {f"cpuacct/g/cpuacct.usage{name}": f"{use:.0f}\n"})
        else:
            text = f"usage_usec {total / 1000:.0f}\nuser_usec {user / 1000:.0f}\nsystem_usec {kernel / 1000:.0f}\n"
            write(tmp_path, {"cpu.stat": text})
        sample = sampler.sample()
        assert sample is not None and sample.metrics["cpu_time@last"] == total
    assert [sample.metrics[f"cpu_{kind}"] for kind in ("total", "user", "kernel")] == [50, 37, 12]


def test_a_cache_as_large_as_the_use(tmp_path: Path) -> None:
    """What is left is 0, not the cache; of a text without it nothing is known."""
    for inactive, working in ((100 * MIB, 100 * MIB), (100 * MIB - 1, 1)):
        write(tmp_path, {**VERSION_2, "memory.stat": f"inactive_file {inactive}\n"})
        sample = CgroupSampler(tmp_path).sample()
        assert sample is not None and sample.metrics["mem_working"] == working
    write(tmp_path, {"memory.stat": "anon 5\ntotal_inactive_file 7\n"})
    sample = CgroupSampler(tmp_path).sample()
    assert sample is not None and "mem_working" not in sample.metrics


def test_a_group_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no sample, kills nothing and runs nothing; its files close with the sampler, once."""
    write(tmp_path, VERSION_2)
    sampler = CgroupSampler(tmp_path)

    def gone(*_: object) -> bytes:
        raise OSError(19, "no such device")

    with monkeypatch.context() as patched:
        patched.setattr("callstats.drivers.cgroup.os", SimpleNamespace(**(vars(os) | {"pread": gone})))
        assert sampler.sample() is None and sampler.oom_kills() == 0
    (tmp_path / "cgroup.events").unlink()
    assert sampler.is_running()  # older kernels have no such file
    (tmp_path / "cgroup.events").mkdir()
    assert not sampler.is_running()  # it can't be read
    shutil.rmtree(tmp_path)
    assert not sampler.is_running()
    sampler.close()


@pytest.mark.parametrize("how", ["close", "block", "forgotten"])
def test_its_files_are_closed(tmp_path: Path, how: str) -> None:
    """By the end of a block too, and with a sampler that nobody has closed."""
    write(tmp_path, VERSION_2)
    sampler: CgroupSampler | None = CgroupSampler(tmp_path)
    assert sampler is not None
    opened = list(sampler._files.values())
    assert len(opened) == 7
    if how == "close":
        sampler.close()
    elif how == "block":
        with sampler as inside:
            assert inside is sampler and inside.sample() is not None
    else:
        inside = sampler = None
        gc.collect()
    for number in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


def test_what_runs_in_version_1(tmp_path: Path) -> None:
    """A process of the group or of one below it."""
    write(tmp_path, {**VERSION_1, "memory/g/cgroup.procs": "", "memory/g/below/cgroup.procs": "78\n"})
    sampler = CgroupSampler(tmp_path / "memory/g")
    assert sampler.is_running()
    write(tmp_path, {"memory/g/below/cgroup.procs": ""})
    assert not sampler.is_running()


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a DriverError; those that were opened before are closed, and no number is closed twice."""
    write(tmp_path, VERSION_2)
    opened: list[int] = []

    def deny(path: Path, flags: int) -> int:
        if path.name == "cpu.stat":
            raise PermissionError(13, "denied")
        opened.append(os.open(path, flags))
        return opened[-1]

    monkeypatch.setattr("callstats.drivers.cgroup.os", SimpleNamespace(**(vars(os) | {"open": deny})))
    with pytest.raises(DriverError, match=r"^can't read control group '.*': \[Errno 13\] denied$") as raised:
        CgroupSampler(tmp_path)
    assert len(opened) == 5 and raised.tb is not None  # which still has the sampler
    for number in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(number)


@pytest.mark.parametrize("controllers", [("memory",), ("cpuacct",), ("cpu,cpuacct", "memory"), ("blkio", "memory")])
def test_where_a_group_is(tmp_path: Path, controllers: tuple[str, ...]) -> None:
    """The first part of a path that names a controller divides it; a folder that lacks the group has none of it."""
    for name in ("memory", "cpuacct", "blkio"):
        write(tmp_path, {f"{name}/a/b/cgroup.procs": "1\n"} if name in ",".join(controllers) else {f"{name}/x": ""})
    if "cpu,cpuacct" in controllers:
        (tmp_path / "cpu,cpuacct").symlink_to("cpuacct")
    found = cgroup._folders(tmp_path / controllers[0] / "a/b")
    assert found == {name: tmp_path / name / "a/b" for name in ("memory", "cpuacct", "blkio") if name in ",".join(controllers)}
    assert cgroup._folders(tmp_path / controllers[0] / "a/none") == {}


def test_a_path_below_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is looked for there, in version 2 first."""
    monkeypatch.setattr(cgroup, "_MOUNTED", tmp_path)
    write(tmp_path, {"memory/docker/4f1a/cgroup.procs": "1\n"})
    assert cgroup._folders(Path("docker/4f1a")) == {"memory": tmp_path / "memory/docker/4f1a"}
    write(tmp_path / "docker/4f1a", VERSION_2)
    assert cgroup._folders(Path("docker/4f1a")) == {"": tmp_path / "docker/4f1a"}


def test_totals_of_a_watch(tmp_path: Path) -> None:
    """They count from the start, at once, and never fall below 0."""
    write(tmp_path, VERSION_2)
    sampler = make_sampler(cgroup=tmp_path)
    write(tmp_path, {"cpu.stat": "usage_usec 2500009\nuser_usec 0\nsystem_usec 0\n", "io.stat": "8:0 rbytes=1 wbytes=2\n"})
    sample = sampler.sample()
    assert sample is not None
    assert {name: sample[1][name] for name in ("cpu_time@last", "disk_read", "disk_write")} == {
        "cpu_time@last": 9000,
        "disk_read": 0,
        "disk_write": 0,
    }
    with pytest.raises(ArgumentError, match=r"^cgroup must be None beside a pid, got "):
        make_sampler(1, tmp_path)


def test_a_first_reading_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then totals count from the group's own start."""

    def fail(*_: object) -> bytes:
        raise OSError(5, "can't be read")

    write(tmp_path, VERSION_2)
    with monkeypatch.context() as patched:
        patched.setattr("callstats.drivers.cgroup.os", SimpleNamespace(**(vars(os) | {"pread": fail})))
        sampler = make_sampler(cgroup=tmp_path)
        assert sampler.sample() is None
    sample = sampler.sample()
    assert sample is not None and (sample[1]["cpu_time@last"], sample[1]["disk_read"]) == (2_500_000_000, 1_460_000)


def test_an_error_of_the_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes out at the end of the block, with its thread gone; one of the block itself comes first."""
    write(tmp_path, VERSION_2)

    def fail(_self: object) -> None:
        raise RuntimeError("no sample")

    with pytest.raises(RuntimeError, match=r"^no sample$"), watch(100, None, cgroup=tmp_path):
        monkeypatch.setattr("callstats.drivers._watch._Group.sample", fail)
    assert "callstats-watch" not in {thread.name for thread in threading.enumerate()}
    monkeypatch.undo()
    with suppress(KeyError), watch(100, None, cgroup=tmp_path):
        monkeypatch.setattr("callstats.drivers._watch._Group.sample", fail)
        raise KeyError


# --- a group of a task's own --------------------------------------------------------------------------------------------------


def test_where_a_task_s_group_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below this process's own group, or beside the one that it was moved to; not where that can't be."""
    own: list[Path | None] = [tmp_path]
    monkeypatch.setattr(groups, "_own_folder", lambda: own[0])
    made = TaskGroup.make("m1")
    assert made is not None and made.folder == tmp_path / "callstats-m1" and made.folder.is_dir()
    assert TaskGroup.make("m1") is None  # it is there
    own[0] = tmp_path / groups._LEAF
    made = TaskGroup.make("m2")
    assert made is not None and made.folder == tmp_path / "callstats-m2"
    own[0] = tmp_path / "none"
    assert TaskGroup.make("m3") is None
    own[0] = None
    assert TaskGroup.make("m4") is None


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        ("0::/a/b\n", "1 2 3:4 / /cgroup rw - cgroup2 c rw\n", "/cgroup/a/b"),
        ("4:memory:/x\n0::/a/b\n", "1 2 3:4 / /m rw - cgroup c rw,memory\n1 2 3:4 /a /two rw - cgroup2 c rw\n", "/two/b"),
        ("0::/a/b\n", "1 2 3:4 /other /two rw - cgroup2 c rw\n", None),
        ("0::/a/b\n", "1 2 3:4 / /m rw - cgroup c rw,memory\n", None),
        ("4:memory:/x\n", "1 2 3:4 / /cgroup rw - cgroup2 c rw\n", None),
        ("", "", None),
    ],
)
def test_the_group_of_this_process(monkeypatch: pytest.MonkeyPatch, own: str, mounts: str, found: str | None) -> None:
    """By the kernel's two lists: the path of the group, and where groups of version 2 are mounted, the whole or a part."""
    texts = {"/proc/self/cgroup": own, "/proc/self/mountinfo": mounts}
    real = Path
    monkeypatch.setattr(
        groups, "Path", lambda path: SimpleNamespace(read_text=lambda: texts[path]) if path in texts else real(path)
    )
    assert groups._own_folder() == (None if found is None else Path(found))


def test_who_was_in_a_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name in the process's own group of version 2, also once that is below it or removed."""
    group, text = TaskGroup(tmp_path, "callstats-m"), [b""]
    monkeypatch.setattr(groups, "Path", lambda _path: SimpleNamespace(read_bytes=lambda: text[0]))
    for line, has in (
        (b"0::/a/callstats-m\n", True),
        (b"4:memory:/x\n0::/callstats-m/below (deleted)\n", True),
        (b"4:memory:/callstats-m\n0::/a\n", False),
        (b"0::/other\n", False),
        (b"", False),
    ):
        text[0] = line
        assert group.has(7) is has


def test_a_process_is_moved(tmp_path: Path) -> None:
    """Or not, where the group is gone."""
    write(tmp_path, {"cgroup.procs": ""})
    assert TaskGroup(tmp_path, "x").add(123)
    assert (tmp_path / "cgroup.procs").read_text() == "123"
    gone = TaskGroup(tmp_path / "none", "x")
    assert not gone.add(123) and list(gone.pids()) == [] and gone.cpu() == (0.0, 0.0) and gone.peak() == (0, 0)
    gone.kill()


def test_a_group_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those below it, as soon as nothing is left in it; and no longer than two seconds is waited for that."""
    clock, busy = [100.0], 2
    folder = tmp_path / "group"
    write(folder, {"below/process": ""})

    def pause(_seconds: float) -> None:
        nonlocal busy
        busy -= 1
        if not busy:
            (folder / "below/process").unlink()
        clock[0] += 0.9

    monkeypatch.setattr(groups, "sleep", pause)
    monkeypatch.setattr(groups, "monotonic", lambda: clock[0])
    group = TaskGroup(folder, "group")
    group.remove()
    assert busy == 0 and not folder.exists()
    group.remove()
    assert busy == 0
    write(folder, {"below/process": ""})
    group.remove()
    assert busy == -3 and folder.exists()


@pytest.mark.parametrize(
    ("control", "delegated", "moves"), [("", b"1", True), ("cpu", b"1", True), ("cpu memory", b"1", False), ("", b"0", False)]
)
def test_the_memory_of_a_delegated_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str, delegated: bytes, moves: bool
) -> None:
    """Where a service manager has left that to this process, it is divided; its processes go to a group of their own then."""
    write(tmp_path, {"cgroup.subtree_control": control, "cgroup.procs": "5\n6\n"})
    moved: list[str] = []
    real = Path.write_text

    def write_text(path: Path, text: str) -> int:
        if path.name == "cgroup.procs":
            moved.append(f"{path.parent.name} {text}")
            if text == "5":
                raise ProcessLookupError  # it has just exited
        return real(path, text)

    system = {"getxattr": lambda path, name: delegated if (path, name) == (tmp_path, "user.delegate") else b""}
    monkeypatch.setattr(groups, "os", SimpleNamespace(**(vars(os) | system)))
    monkeypatch.setattr(Path, "write_text", write_text)
    for _ in range(2):  # the group is there at the second time
        moved.clear()
        groups._count_memory(tmp_path)
        assert moved == ([f"{groups._LEAF} 5", f"{groups._LEAF} 6"] if moves else [])
        assert (tmp_path / groups._LEAF / "cgroup.procs").exists() is moves
        assert (tmp_path / "cgroup.subtree_control").read_text() == ("+memory" if moves else control)
        real(tmp_path / "cgroup.subtree_control", control)
