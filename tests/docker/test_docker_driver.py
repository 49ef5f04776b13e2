"""DockerDriver over a real engine: images, limits, samples, and their end."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn

import pytest

from callstats import KEEP_PEAKS, ImageError, Recorder, Rule, decimate
from callstats._timestamps import parse_time
from callstats.drivers import Config, DockerDriver, DriverError, RunResult, Status, Task
from callstats.drivers._record import record
from callstats.errors import ArgumentError
from callstats.stats.call import usage_of
from support.engine import IMAGE, Engine, image_tar

MIB = 2**20
HOLD = "dd if=/dev/zero bs=300000000 count=1 2>/dev/null | (sleep 4; cat >/dev/null)"
"""dd fills its 300 MB and then waits for a reader."""


@pytest.fixture
def driver(engine: Engine) -> DockerDriver:
    """Return a driver whose containers have no network."""
    return DockerDriver(Config(engine.url), network="none")


def run(driver: DockerDriver, script: str, image: str = IMAGE, **fields: Any) -> tuple[RunResult, bytes]:
    """Run a script from end to end."""
    out = io.BytesIO()
    with driver.prepare(Task(image=image, command=["sh", "-c", script], stdout=out, **fields)) as cookie:
        return cookie.run().wait(), out.getvalue()


# --- images -------------------------------------------------------------------------------------------------------------------


def test_pull(engine: Engine, registry: str, driver: DockerDriver) -> None:
    """A missing image is pulled: by tag, by digest, and without either, which means latest."""
    base = f"{registry}/team/busybox"
    engine.docker("import", "--change", "LABEL of=team", "-", f"{base}:1", data=image_tar())
    engine.docker("tag", f"{base}:1", f"{base}:latest")
    for tag in ("1", "latest"):
        engine.docker("push", f"{base}:{tag}")
    [digest] = json.loads(engine.docker("inspect", "--format", "{{json .RepoDigests}}", f"{base}:1"))
    engine.docker("rmi", f"{base}:1", f"{base}:latest")
    for name in (f"{base}:1", base, digest):
        result, out = run(driver, "echo pulled", image=name)
        assert (result.status, out) == (Status.SUCCESS, b"pulled\n")
        engine.docker("rmi", "--force", engine.docker("inspect", "--format", "{{.Id}}", name).strip())


def test_a_failed_pull_raises(engine: Engine, registry: str, driver: DockerDriver) -> None:
    """A missing image or registry raises from prepare, and leaves no container."""
    for image in (f"{registry}/team/none:1", "127.0.0.1:1/team/none"):
        with pytest.raises(DriverError, match=r"can't (pull|prepare)"):
            driver.prepare(Task(image=image, command=["true"]))
    with pytest.raises(ImageError):
        driver.prepare(Task(image="a@b@c", command=["true"]))
    assert engine.containers() == []


def test_the_image_s_own_command(engine: Engine, driver: DockerDriver) -> None:
    """A task without a command runs that of its image."""
    out = io.BytesIO()
    made = engine.docker("create", "--network", "none", IMAGE, "true").strip()
    engine.docker("commit", "--change", 'CMD ["echo", "from the image"]', made, "callstats-test:command")
    engine.docker("rm", made)
    with driver.prepare(Task(image="callstats-test:command", stdout=out)) as cookie:
        assert cookie.run().wait().status is Status.SUCCESS
    assert out.getvalue() == b"from the image\n"


def test_an_image_s_id(engine: Engine, driver: DockerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image runs by its ID, untagged too, and nothing is pulled. A missing one is a DriverError."""
    made = engine.docker("create", "--network", "none", IMAGE, "true").strip()
    image = engine.docker("commit", "--change", 'CMD ["echo", "by its id"]', made).strip()
    engine.docker("rm", made)
    monkeypatch.setattr("docker.APIClient.pull", None)
    out = io.BytesIO()
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    assert json.loads(engine.docker("inspect", "--format", "{{json .RepoTags}}", image)) == []
    with driver.prepare(Task(image=image, stdout=out)) as cookie:
        assert cookie.run().wait().status is Status.SUCCESS
    assert out.getvalue() == b"by its id\n"
    engine.docker("rmi", image)
    with pytest.raises(DriverError, match=r"can't prepare 'sha256:.*No such image"):
        driver.prepare(Task(image=image))
    for name in (image.upper(), f"{image}\n"):
        with pytest.raises(ImageError):
            driver.prepare(Task(image=name))
    assert engine.containers() == []


# --- settings -----------------------------------------------------------------------------------------------------------------


def test_the_container_has_the_task_s_settings(engine: Engine, tmp_path: Path) -> None:
    """Name, memory without swap, weight, network, volumes and work dir reach the engine."""
    (tmp_path / "given").write_text("on the host\n")
    out = io.BytesIO()
    task = Task(
        id="callstats-asked",
        image=IMAGE,
        command=["sh", "-c", "cat given; echo back > back"],
        stdout=out,
        volumes=[(str(tmp_path), "/data")],
        work_dir="/data",
        memory=64 * MIB,
    )
    with DockerDriver(Config(engine.url, cpu_shares=512), network="none").prepare(task) as cookie:
        [made] = json.loads(engine.docker("inspect", "callstats-asked"))
        assert cookie.run().wait().status is Status.SUCCESS
    host = made["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"], host["NetworkMode"]) == (64 * MIB, 64 * MIB, 512, "none")
    assert out.getvalue() == b"on the host\n" and (tmp_path / "back").read_text() == "back\n"
    assert engine.containers() == []


# --- samples ------------------------------------------------------------------------------------------------------------------


def test_300_megabytes_for_three_seconds(driver: DockerDriver) -> None:
    """The samples show 300 MB that a command holds for three seconds, within 5 %. The first has no processor use."""
    recorder = Recorder(None)
    result, _ = run(driver, HOLD, write_stat=recorder.write_stat, memory=512 * MIB)
    series = recorder.end()
    assert result.status is Status.SUCCESS and len(series) >= 3
    assert abs(int(series["mem_usage"].max()) - 300_000_000) < 15_000_000
    assert {stat.metrics["mem_limit"] for stat in series[:-1]} == {512 * MIB}
    assert "cpu_total" not in series[0].metrics and "cpu_total" in series[1].metrics


def test_an_exited_container_yields_a_closing_sample_alone(engine: Engine, driver: DockerDriver) -> None:
    """What the engine sends of an ended container is dropped. The driver ends the stream, and tells what was used in all."""
    samples: list[tuple[int, dict[str, int]]] = []
    task = Task(image=IMAGE, command=["sleep", "2.2"], write_stat=lambda time, metrics: samples.append((time, metrics)))
    with driver.prepare(task) as cookie:
        result = cookie.run().wait()
        ended = len(samples)
        state = json.loads(engine.docker("inspect", "--format", "{{json .State}}", task.id))
        assert state["Status"] == "exited"
        sleep(2)
    assert len(samples) == ended >= 2 and result.dropped >= 0
    *sampled, (ended_at, totals) = samples
    assert all(metrics["mem_usage"] > 0 for _, metrics in sampled)
    assert ended_at == parse_time(state["FinishedAt"])
    others = {"mem_usage@max", "cpu_total", "cpu_total@max"}
    assert set(totals) - others == {"cpu_time@last", "disk_read", "disk_write", "mem_peak@last"}


def test_a_slow_reader(driver: DockerDriver) -> None:
    """A writer that is slow gets each sample with its frame's own time; the end comes in time, and adds none."""
    samples: list[int] = []

    def slowly(time: int, _metrics: dict[str, int]) -> None:
        sleep(1.5)
        samples.append(time)

    started = monotonic()
    run(driver, "sleep 4", write_stat=slowly)
    assert monotonic() - started < 30
    count = len(samples)
    sleep(2)
    assert len(samples) == count >= 3
    assert all(500_000_000 < later - time < 1_800_000_000 for time, later in pairwise(samples[:-1]))


def test_a_writer_that_raises(engine: Engine, driver: DockerDriver) -> None:
    """An error of the task's own writer comes out of wait(), and the container is removed."""

    def fail(_time: int, _metrics: dict[str, int]) -> None:
        raise OSError("no more room")

    with (
        driver.prepare(Task(image=IMAGE, command=["sleep", "60"], write_stat=fail)) as cookie,
        pytest.raises(OSError, match="no more room"),
    ):
        cookie.run().wait()
    assert engine.containers() == []


def test_a_peak_between_two_samples(driver: DockerDriver) -> None:
    """The kernel's peak of 300 MiB that were held for a quarter of a second is kept, and survives every reduction."""
    recorder = Recorder(Rule(240, how=KEEP_PEAKS))
    held = "dd if=/dev/zero bs=314572800 count=1 2>/dev/null | (sleep 0.25; cat >/dev/null)"
    assert run(driver, f"sleep 1.2; {held}; sleep 1.2", write_stat=recorder.write_stat)[0].status is Status.SUCCESS
    series = recorder.end()
    peak = series["mem_usage@max"].max()
    assert abs(peak - 300 * MIB) < 15 * MIB
    usage = usage_of(series)
    assert usage.memory_metric == "mem_working"
    for rows in (240, 2, 1):
        usage = usage_of(decimate(series, rows, how=KEEP_PEAKS))
        assert usage.peak_ceiling == peak and "peak_ceiling" in usage.exact
        assert usage.peak_memory is not None and usage.peak_memory <= peak


def test_cpu_of_the_last_interval(driver: DockerDriver) -> None:
    """Processor time counts up to the end, whenever the last frame came: as much as the shell itself reports."""
    samples: list[dict[str, int]] = []
    script = "sleep 1.1; i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; times"
    _, out = run(driver, script, write_stat=lambda _, metrics: samples.append(metrics))
    minutes_seconds = re.findall(r"(\d+)m([0-9.]+)s", out.decode())
    reported = sum(60 * int(minutes) + float(seconds) for minutes, seconds in minutes_seconds[:2])
    assert reported > 0.05
    assert reported - 0.02 <= samples[-1]["cpu_time@last"] / 1e9 <= reported + 0.25  # the engine's own start of it counts too
    usage = record(["sh", "-c", script], driver=driver, image=IMAGE).usage
    assert usage.cpu_peak is not None and usage.cpu_mean is not None and usage.cpu_peak > usage.cpu_mean - 2 > 0


def test_a_short_call(driver: DockerDriver) -> None:
    """A call of milliseconds has a row, with its processor time and its peak, unless the machine is too busy to read them."""
    usages = []
    for _ in range(6):
        recorder = Recorder()
        run(driver, "true", write_stat=recorder.write_stat)
        usages.append(usage_of(recorder.end()))
    assert all(usage.rows >= 1 for usage in usages)
    known = [usage for usage in usages if usage.cpu_time_ns is not None and usage.peak_memory is not None]
    assert len(known) >= 3
    assert all(0 < (usage.cpu_time_ns or 0) < 10**9 and 0 < (usage.peak_memory or 0) < 16 * MIB for usage in known)


def test_an_engine_on_another_machine(driver: DockerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no control group to read, the closing sample has what the last frame had; without frames, nothing."""

    def missing(_name: str) -> NoReturn:
        raise ArgumentError("path", "the folder of a control group", _name)

    monkeypatch.setattr("callstats.drivers.docker.samples.CgroupSampler", missing)
    monkeypatch.setattr("callstats.drivers.docker.samples.Path", lambda _path: Path("/dev/null"))
    samples: list[dict[str, int]] = []
    run(driver, "sleep 2.5", write_stat=lambda _, metrics: samples.append(metrics))
    assert set(samples[-1]) == {"cpu_time@last", "disk_read", "disk_write", "mem_peak@last"}
    assert samples[-1]["mem_peak@last"] == samples[0]["mem_usage@max"] or len(samples) > 2
    monkeypatch.setattr("callstats.drivers.docker.samples.Samples.read", lambda _self: None)
    samples.clear()
    run(driver, "true", write_stat=lambda _, metrics: samples.append(metrics))
    assert samples == [{}]


# --- the end ------------------------------------------------------------------------------------------------------------------


def test_out_of_memory_of_a_child(driver: DockerDriver) -> None:
    """A container whose first process the kernel kills for memory has status killed, with the reason."""
    result, _ = run(driver, "exec dd if=/dev/zero of=/dev/null bs=200M count=1000", memory=32 * MIB)
    assert result.status is Status.KILLED and str(result.error) == "the container ran out of memory"


@pytest.mark.parametrize(("code", "status"), [(0, Status.SUCCESS), (3, Status.KILLED)])
def test_out_of_memory_of_another_process(driver: DockerDriver, code: int, status: Status) -> None:
    """When the kernel kills a child for memory, the result says so, and the command's own success stays one."""
    result, _ = run(driver, f"dd if=/dev/zero of=/dev/null bs=200M count=1; exit {code}", memory=32 * MIB)
    assert (result.status, result.out_of_memory) == (status, True)
    assert not run(driver, "exit 3")[0].out_of_memory


def test_the_stored_call_tells_of_the_memory(driver: DockerDriver) -> None:
    """A recorded success during which a process ran out of memory says so."""
    command = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 0"]
    call = record(command, driver=driver, image=IMAGE, memory=32 * MIB)
    assert (call.status, call.exit_code, call.error) == ("success", 0, "a process ran out of memory")
    assert call.usage.peak_ceiling is not None and call.usage.peak_ceiling <= 32 * MIB


def test_an_input_that_never_ends(driver: DockerDriver) -> None:
    """A container's end does not wait for that of its input."""

    class Never(io.RawIOBase):
        released = threading.Event()

        def read(self, size: int = -1) -> bytes:
            self.released.wait(60)
            return b""

    given, started = Never(), monotonic()
    assert run(driver, "echo done", stdin=given)[1] == b"done\n"
    given.released.set()
    assert monotonic() - started < 20


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing engine is a DriverError. The default one is that of DOCKER_HOST."""
    with pytest.raises(
        DriverError, match=r"can't reach the engine at unix:///no/such/socket: .*: start it, or name another by DOCKER_HOST$"
    ):
        DockerDriver(Config("unix:///no/such/socket")).prepare(Task(image="a", command=["true"]))
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/host")
    with pytest.raises(DriverError, match="can't reach the engine at unix:///no/such/host"):
        DockerDriver().prepare(Task(image="a", command=["true"]))


def test_without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing package and its extra, in one line."""
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(
        ImportError, match=r'^callstats\.drivers\.DockerDriver needs docker: install callstats with the extra "docker"$'
    ):
        DockerDriver().prepare(Task(image="a", command=["true"]))


def test_a_program_that_ends_removes_its_containers(engine: Engine) -> None:
    """A program that never closes its cookie leaves no container."""
    program = f"""
import sys
from callstats.drivers._record import record
from callstats.errors import ArgumentError
from callstats.stats.call import usage_of
from callstats.drivers import Config, DockerDriver, Task
task = Task(id="callstats-forgot", image={IMAGE!r}, command=["sleep", "60"])
cookie = DockerDriver(Config({engine.url!r}), network="none").prepare(task)
run = cookie.run()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert "callstats-forgot" not in engine.docker("ps", "--format", "{{.Names}}").split()
    assert engine.containers() == []
