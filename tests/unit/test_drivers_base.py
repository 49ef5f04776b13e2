"""The drivers' contract as data: tasks, results, settings, and a stream of frames from end to end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callstats import CallstatsError, Recorder, StatSeries, decimate
from callstats.demo import docker_frames
from callstats.drivers import (
    FN_METRICS,
    Config,
    ContainerTask,
    DriverError,
    ProcessDriver,
    RunResult,
    Status,
    Task,
    TaskError,
    pick_stats,
)
from callstats.errors import ArgumentError

GO = '{"docker":"unix:///var/run/docker.sock","cpu_shares":0}'


def test_the_statuses() -> None:
    """The statuses have Go's names."""
    assert [*map(str, Status)] == ["running", "success", "error", "timeout", "killed", "cancelled"]


def test_a_task_is_what_drivers_ask_for() -> None:
    """A Task is a ContainerTask. By default it has no limits, no image, and its own id."""
    task, other = Task(command=["true"]), Task()
    assert isinstance(task, ContainerTask) and task.id != other.id
    assert (task.timeout, task.memory, task.volumes, task.work_dir, task.image) == (None, 0, (), "", "")
    assert task.write_stat(0, {}) is None and task.close() is None


def test_a_cookie_is_run_before_it_is_waited_for() -> None:
    """A cookie that was not run has no end to wait for."""
    with ProcessDriver().prepare(Task(command=["true"])) as cookie, pytest.raises(DriverError, match=r"call run\(\) first"):
        cookie.wait()  # type: ignore[attr-defined]


def test_results() -> None:
    """A result has a status, an error and a number of dropped frames. Both kinds of error are CallstatsErrors."""
    assert RunResult(Status.SUCCESS) == RunResult(Status.SUCCESS, None, 0)
    error = TaskError("ended with exit code 3", 3)
    assert error.exit_code == 3 and isinstance(error, CallstatsError) and issubclass(DriverError, CallstatsError)
    assert not isinstance(error, ValueError) and not issubclass(DriverError, ValueError)


def test_config_has_go_s_names() -> None:
    """Settings are Go's JSON. Missing and null ones have their defaults, and unknown ones are ignored."""
    assert Config().to_json() == GO and Config.from_json(GO) == Config()
    assert Config.from_json(b'{"cpu_shares": 512, "other": [1]}') == Config(cpu_shares=512)
    assert Config.from_json('{"docker": null, "cpu_shares": null}') == Config()
    config = Config("tcp://10.0.0.1:2375", 7)
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"docker": 5}', '{"cpu_shares": "7"}', '{"cpu_shares": true}', '{"cpu_shares": 1.5}']
)
def test_a_rejected_config(text: str) -> None:
    """Other text is rejected in one line."""
    with pytest.raises(ArgumentError, match=r" must be .*, got "):
        Config.from_json(text)


def test_the_captured_stream(backend: str) -> None:
    """The 45 captured frames give 45 samples, CPU absent on the first; a stopped container's gives none."""
    recorder = Recorder(None)
    frames = [*docker_frames(), {**next(docker_frames()), "read": "0001-01-01T00:00:00Z", "networks": None}]
    dropped = 0
    for frame, previous in zip(frames, [None, *frames], strict=False):
        sample = pick_stats(frame, previous)
        if sample is None:
            dropped += 1
        else:
            recorder.write_stat(*sample)
    series = recorder.end()
    assert (len(series), dropped, recorder.dropped) == (45, 1, 0)
    names = {*FN_METRICS, "mem_working"}
    assert set(series[0].metrics) == names - {"cpu_total", "cpu_user", "cpu_kernel"} | {"mem_usage@max"}
    assert all(set(series[i].metrics) - {"mem_usage@max"} == names for i in range(1, 45))
    assert StatSeries.from_json(series.to_json(digits=9)) == series
    assert decimate(series, 12, how=("mean", "max"))["mem_usage@max"].max() == series["mem_usage@max"].max() == 46_157_824


def frame(read: str, total: int, system: int, before: tuple[int, int] | None, **more: Any) -> dict[str, Any]:
    """Return a frame of cgroup v2, as in Docker's API pages: no percpu_usage, operations in lower case."""
    cpu = {"cpu_usage": {"total_usage": total, "usage_in_usermode": total // 2, "usage_in_kernelmode": total // 2}}
    past: dict[str, Any] = {"cpu_usage": {"total_usage": 0, "usage_in_usermode": 0, "usage_in_kernelmode": 0}}
    if before is not None:
        used = {"total_usage": before[0], "usage_in_usermode": before[0] // 2, "usage_in_kernelmode": before[0] // 2}
        past = {"cpu_usage": used, "system_cpu_usage": before[1], "online_cpus": 8}
    return {
        "read": read,
        "cpu_stats": {**cpu, "system_cpu_usage": system, "online_cpus": 8},
        "precpu_stats": past,
        "memory_stats": {
            "usage": 8_388_608,
            "stats": {"inactive_file": 1_048_576, "anon": 6_291_456},
            "limit": 18_446_744_073_709_551_615,
        },
        "blkio_stats": {"io_service_bytes_recursive": None, "io_serviced_recursive": None},
        "networks": {"eth0": {"rx_bytes": 100, "tx_bytes": 10}},
        **more,
    }


def test_a_stream_of_cgroup_2() -> None:
    """Three frames of cgroup v2, made by hand: 100 percent of a core on a host of eight, no limit."""
    entries = [{"major": 8, "minor": 0, "op": "read", "value": 4096}, {"major": 8, "minor": 0, "op": "write", "value": 5}]
    frames = [
        frame("2026-01-01T00:00:00Z", 10**9, 8 * 10**9, None),
        frame("2026-01-01T00:00:01Z", 2 * 10**9, 16 * 10**9, (10**9, 8 * 10**9)),
        frame(
            "2026-01-01T00:00:02Z",
            6 * 10**9,
            24 * 10**9,
            (2 * 10**9, 16 * 10**9),
            blkio_stats={"io_service_bytes_recursive": entries},
        ),
    ]
    recorder = Recorder()
    for each in frames:
        sample = pick_stats(json.loads(json.dumps(each)))
        assert sample is not None
        recorder.write_stat(*sample)
    first, second, third = recorder.end()
    common = {"mem_usage": 8_388_608, "mem_limit": 2**64 - 1, "mem_working": 7_340_032, "net_rx": 100, "net_tx": 10}
    assert first.metrics == common
    assert second.metrics == {**common, "cpu_total": 100, "cpu_user": 50, "cpu_kernel": 50}
    assert third.metrics == {**common, "cpu_total": 400, "cpu_user": 200, "cpu_kernel": 200, "disk_read": 4096, "disk_write": 5}


def test_a_counter_that_went_back() -> None:
    """CPU is absent where a counter or the system's figure went back; the next frame has a new baseline."""
    frames = [
        frame("2026-01-01T00:00:00Z", 100, 2 * 10**9, (300, 10**9)),
        frame("2026-01-01T00:00:01Z", 100 + 10**9, 10 * 10**9, (100, 2 * 10**9)),
        frame("2026-01-01T00:00:02Z", 300 + 10**9, 5, (100 + 10**9, 10)),
    ]
    samples = [pick_stats(each) for each in frames]
    assert [sample and sample.metrics.get("cpu_total") for sample in samples] == [None, 100, None]


@pytest.mark.parametrize("memory", [-1, 1.5, float("nan"), True, "64m", None])
def test_a_rejected_memory(memory: Any) -> None:
    """A limit is a whole number of bytes, in a task and in whatever else a driver takes for one."""
    with pytest.raises(ArgumentError, match=r"^memory must be a whole number of bytes, 0 or more, got "):
        Task(command=["true"], memory=memory)
    task = Task(command=["true"])
    task.memory = memory
    with pytest.raises(ArgumentError, match=r"^memory must be "):
        ProcessDriver().prepare(task)


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan"), True, "5s"])
def test_a_rejected_timeout(timeout: Any) -> None:
    """A timeout is a number of seconds, in a task and in a wait."""
    with pytest.raises(ArgumentError, match=r"^timeout must be 0 or more seconds, or None, got "):
        Task(command=["true"], timeout=timeout)
    with ProcessDriver().prepare(Task(command=["true"], timeout=0.5)) as cookie:
        run = cookie.run()
        with pytest.raises(ArgumentError, match=r"^timeout must be "):
            run.wait(timeout)
        assert run.wait().status is Status.SUCCESS
