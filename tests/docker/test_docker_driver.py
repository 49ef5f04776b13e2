"""DockerDriver over a real engine: images, limits, samples, and their end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from callstats import ImageError, Recorder
from callstats._timestamps import parse_time
from callstats.drivers import Config, DockerDriver, DriverError, RunResult, Status, Task
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
    assert set(totals) - {"mem_usage@max"} == {"cpu_time@last", "disk_read", "disk_write"}


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


# --- the end ------------------------------------------------------------------------------------------------------------------


def test_out_of_memory_of_a_child(driver: DockerDriver) -> None:
    """A container whose first process the kernel kills for memory has status killed, with the reason."""
    result, _ = run(driver, "exec dd if=/dev/zero of=/dev/null bs=200M count=1000", memory=32 * MIB)
    assert result.status is Status.KILLED and str(result.error) == "the container ran out of memory"


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


def test_no_engine() -> None:
    """A missing engine is a DriverError."""
    with pytest.raises(DriverError, match="can't reach the engine at unix:///no/such/socket"):
        DockerDriver(Config("unix:///no/such/socket")).prepare(Task(image="a", command=["true"]))


def test_without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the missing package and its extra, in one line."""
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ImportError, match=r'^callstats\.drivers\.DockerDriver needs docker: pip install "callstats\[docker\]"$'):
        DockerDriver().prepare(Task(image="a", command=["true"]))


def test_a_program_that_ends_removes_its_containers(engine: Engine) -> None:
    """A program that never closes its cookie leaves no container."""
    program = f"""
import sys
from callstats.drivers import Config, DockerDriver, Task
task = Task(id="callstats-forgot", image={IMAGE!r}, command=["sleep", "60"])
cookie = DockerDriver(Config({engine.url!r}), network="none").prepare(task)
run = cookie.run()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert "callstats-forgot" not in engine.docker("ps", "--format", "{{.Names}}").split()
    assert engine.containers() == []
