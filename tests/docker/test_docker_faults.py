"""DockerDriver where others interfere: each fault ends in the right status or a DriverError, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from callstats.db import connect
from callstats.drivers import Config, DockerDriver, DriverError, RunResult, Status, Task
from callstats.drivers.docker import owner
from support.engine import IMAGE, Engine
from support.programs import PATIENCE
from support.proxy import Proxy, answer, cut_after, in_front_of

LONG = f"60.{os.getpid()}"
"""Seconds that no other program of this machine sleeps."""

SLEEP = "echo out; exec sleep 60"
RECORDER = """
import sys
from callstats.db import connect
from callstats.drivers import Config, DockerDriver, Task
def sampled(time, metrics):
    print("sampled", flush=True)
task = Task(id=sys.argv[2], image={image!r}, command=["sleep", "60"], write_stat=sampled)
with DockerDriver(Config(sys.argv[1]), network="none").prepare(task) as cookie:
    cookie.run().wait()
"""


@dataclass
class Recording:
    """One task that a fault meets after its first sample."""

    engine: Engine
    proxy: Proxy | None = None
    script: str = SLEEP
    timeout: float | None = None
    samples: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    task: Task = field(init=False)

    def __post_init__(self) -> None:
        self._sampled = threading.Event()
        self.task = Task(image=IMAGE, command=["sh", "-c", self.script], timeout=self.timeout, write_stat=self._write_stat)

    def run(self, fault: Callable[[Recording], object], **wait: Any) -> RunResult:
        """Run the task, with the fault in another thread."""
        url = self.engine.url if self.proxy is None else self.proxy.url
        with DockerDriver(Config(url), network="none").prepare(self.task) as cookie:
            run = cookie.run()
            thread = threading.Thread(target=self._meet, args=(fault,))
            thread.start()
            try:
                return run.wait(**wait)
            finally:
                thread.join()

    def docker(self, *args: str) -> str:
        """Run the engine's own command about the container."""
        return self.engine.docker(*args, self.task.id)

    def _meet(self, fault: Callable[[Recording], object]) -> None:
        try:
            assert self._sampled.wait(PATIENCE)
            fault(self)
        except BaseException:
            self.docker("kill")  # the test waits for its end
            raise

    def _write_stat(self, timestamp: int, metrics: dict[str, int]) -> None:
        self.samples.append((timestamp, metrics))
        self._sampled.set()


@pytest.fixture(scope="module")
def somebody(engine: Engine) -> Iterator[str]:
    """Run a container of somebody else, which must survive all tests."""
    name = f"bystander-{os.getpid()}"
    engine.docker("run", "--detach", "--network", "none", "--name", name, "--label", "callstats.task=x", IMAGE, "sleep", "86400")
    yield name
    engine.docker("rm", "--force", name)


@pytest.fixture
def bystander(engine: Engine, somebody: str) -> Iterator[str]:
    """The container of somebody else, which must survive the test; none other may remain."""
    yield somebody
    found = engine.docker("ps", "--all", "--format", "{{.Names}} {{.State}}").split("\n")[:-1]
    for other in {line.split()[0] for line in found} - {somebody}:  # else each test after this one would fail as well
        engine.docker("rm", "--force", other)
    assert found == [f"{somebody} running"]


# --- the container ------------------------------------------------------------------------------------------------------------


def restart_and_wait(recording: Recording) -> None:
    """Restart the container; the driver sees the first end alone."""
    recording.docker("restart", "--time", "0")


def pause_and_continue(recording: Recording) -> None:
    """Stop all of its processes for a while."""
    recording.docker("pause")
    sleep(2.5)
    recording.docker("unpause")
    recording.docker("kill", "--signal", "TERM")


def stop_and_continue(recording: Recording) -> None:
    """Stop its first process by a signal, and let it continue."""
    process = int(recording.docker("inspect", "--format", "{{.State.Pid}}"))
    os.kill(process, signal.SIGSTOP)
    sleep(1.5)
    os.kill(process, signal.SIGCONT)
    recording.docker("kill", "--signal", "TERM")


def kill_the_process(recording: Recording) -> None:
    """Kill its first process behind the engine's back."""
    os.kill(int(recording.docker("inspect", "--format", "{{.State.Pid}}")), signal.SIGKILL)


HEED = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
FAULTS: dict[str, tuple[Callable[[Recording], object], str, Status, int]] = {
    "killed": (lambda it: it.docker("kill"), SLEEP, Status.KILLED, 137),
    "killed from outside": (kill_the_process, SLEEP, Status.KILLED, 137),
    "stopped": (lambda it: it.docker("stop", "--time", "1"), SLEEP, Status.KILLED, 137),
    "stopped, which it heeds": (lambda it: it.docker("stop", "--time", "9"), HEED, Status.SUCCESS, 0),
    "a signal it heeds with 5": (
        lambda it: it.docker("kill", "--signal", "HUP"),
        HEED.replace("0' TERM", "5' HUP"),
        Status.ERROR,
        5,
    ),
    "removed": (lambda it: it.docker("rm", "--force"), SLEEP, Status.KILLED, 137),
    "killed while paused": (lambda it: (it.docker("pause"), it.docker("kill")), SLEEP, Status.KILLED, 137),
    "removed while paused": (lambda it: (it.docker("pause"), it.docker("rm", "--force")), SLEEP, Status.KILLED, 137),
    "restarted": (restart_and_wait, SLEEP, Status.KILLED, 137),
    "paused and continued": (pause_and_continue, HEED.replace("exit 0", "exit 3"), Status.ERROR, 3),
    "stopped and continued": (stop_and_continue, HEED.replace("exit 0", "exit 3"), Status.ERROR, 3),
}


@pytest.mark.parametrize(("fault", "script", "status", "code"), FAULTS.values(), ids=list(FAULTS))
def test_others_at_the_container(
    engine: Engine, bystander: str, fault: Callable[[Recording], object], script: str, status: Status, code: int
) -> None:
    """What others do to a container ends in the status that a shell would report, with all samples and a closing one."""
    recording = Recording(engine, script=script)
    try:
        result = recording.run(fault)
    except DriverError as error:  # the engine has told the code of the next run
        assert fault is restart_and_wait and "started it again" in str(error)
    else:
        assert (result.status, result.error.exit_code if result.error else 0) == (status, code)
    assert len(recording.samples) >= 2 and "mem_usage" in recording.samples[0][1]
    assert recording.samples[-1][1]["cpu_time@last"] > 0
    times = [time for time, _ in recording.samples]
    assert times == sorted(times)


@pytest.mark.parametrize("how", ["timeout", "cancel", "close"])
def test_a_paused_container_ends(engine: Engine, bystander: str, how: str) -> None:
    """A container that somebody has paused ends all the same."""
    recording, cancel = Recording(engine, timeout=6 if how == "timeout" else None), threading.Event()
    if how == "close":
        cookie = DockerDriver(Config(engine.url), network="none").prepare(recording.task)
        run = cookie.run()
        recording.docker("pause")
        cookie.close()
        assert run.wait().status is Status.CANCELLED
        return
    result = recording.run(lambda it: (it.docker("pause"), how == "cancel" and cancel.set()), cancel=cancel)
    assert result.status is (Status.TIMEOUT if how == "timeout" else Status.CANCELLED)


def test_background_processes_end(engine: Engine, bystander: str) -> None:
    """What a command leaves behind ends with it, in a session of its own and without its environment too."""
    recording = Recording(engine, script=f"trap 'exit 4' TERM; env -i sleep {LONG} & while :; do sleep 0.1; done")
    seen: list[int] = []
    result = recording.run(lambda it: (seen.extend(wait_for_sleepers(1)), it.docker("kill", "--signal", "TERM")))
    assert result.error is not None and result.error.exit_code == 4
    assert (len(seen), sleepers()) == (1, [])


def sleepers() -> list[int]:
    """Return the processes that sleep long for this test run."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", LONG]]


def wait_for_sleepers(number: int) -> list[int]:
    """Return them once there are so many, or no later than after 20 seconds."""
    deadline = monotonic() + 20
    while len(found := sleepers()) != number and monotonic() < deadline:
        sleep(0.05)
    return found


# --- this process -------------------------------------------------------------------------------------------------------------

HOSTS = {
    "SIGCHLD ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "a foreign reaper": "threading.Thread(target=reap, daemon=True).start()",
    "a fork exits": "os.fork() or sys.exit(9)",
    "a fork exits in the middle": "threading.Timer(0.5, lambda: os.fork() or sys.exit(9)).start()",
}


@pytest.mark.parametrize("code", [0, 7])
@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
def test_what_the_program_does_to_its_children(engine: Engine, bystander: str, host: str, code: int) -> None:
    """A container's exit code comes from the engine, and so nothing that happens to the program's own children loses it."""
    program = f"""
import os, signal, sys, threading, time
from callstats.db import connect
from callstats.drivers import Config, DockerDriver, Task
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.01)
task = Task(image={IMAGE!r}, command=["sh", "-c", "sleep 1.2; exit {code}"])
with DockerDriver(Config({engine.url!r}), network="none").prepare(task) as cookie:
    run = cookie.run()
    {host}
    result = run.wait()
print(result.status.value, result.error.exit_code if result.error else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == f"{'error' if code else 'success'} {code}"


def test_a_writer_without_room(engine: Engine, bystander: str) -> None:
    """An error of the task's own writer, such as a full disk, comes out of wait(). The container ends."""
    recording = Recording(engine)

    def full(_time: int, _metrics: dict[str, int]) -> None:
        raise OSError(28, "No space left on device")

    recording.task.write_stat = full
    with (
        pytest.raises(OSError, match="No space left"),
        DockerDriver(Config(engine.url), network="none").prepare(recording.task) as cookie,
    ):
        cookie.run().wait()


def replace_by_a_folder(database: Path) -> None:
    """Take the database away."""
    database.unlink()
    database.mkdir()


def lock(database: Path) -> None:
    """Lock the database for longer than the command waits."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(20, connection.close).start()


@pytest.mark.parametrize("fault", [replace_by_a_folder, lock])
def test_a_database_that_is_gone(engine: Engine, bystander: str, tmp_path: Path, fault: Callable[[Path], None]) -> None:
    """The exit code is the command's own, and the call is in a spool file, which `callstats import` takes."""
    database = tmp_path / "calls.db"
    options = ["--db", str(database), "--driver", "docker", "--image", IMAGE, "--network", "none"]
    command = [sys.executable, "-m", "callstats", "record", *options, "--", "sh", "-c", "echo ready; sleep 2; exit 7"]
    env = {**os.environ, "DOCKER_HOST": engine.url, "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        fault(database)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    [spool] = tmp_path.rglob("*spool.jsonl")
    assert str(spool) in errors
    again = tmp_path / "again.db"
    with connect(str(again)) as table:
        table.create()
    subprocess.run([sys.executable, "-m", "callstats", "import", str(again), str(spool)], check=True)
    with connect(str(again)) as table:
        [call] = table.list()
        assert (call.status, call.exit_code) == ("error", 7)
        usage = table.get(call.key).usage
        assert usage is not None and usage.cpu_time_ns and usage.peak_ceiling


# --- the recorder -------------------------------------------------------------------------------------------------------------


def test_a_killed_recorder(engine: Engine, bystander: str) -> None:
    """A recorder that was killed leaves its container; the next one removes it, and no container of a live recorder."""
    recorders = {name: start_recorder(engine, name) for name in ("callstats-dead", "callstats-live")}
    recorders["callstats-dead"].kill()
    recorders["callstats-dead"].communicate()
    assert {"callstats-dead", "callstats-live"} < set(engine.containers())
    with DockerDriver(Config(engine.url), network="none").prepare(Task(image=IMAGE, command=["true"])):
        assert "callstats-dead" not in engine.containers()
        assert "callstats-live" in engine.docker("ps", "--format", "{{.Names}}").split()
    live = recorders["callstats-live"]
    assert live.poll() is None
    engine.docker("kill", "callstats-live")
    live.communicate(timeout=30)
    assert live.returncode == 0


def start_recorder(engine: Engine, name: str) -> subprocess.Popen[str]:
    """Run a recorder in a process of its own, until its first sample."""
    code = RECORDER.format(image=IMAGE)
    process = subprocess.Popen([sys.executable, "-c", code, engine.url, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "sampled\n"
    return process


LABELS = {
    "this process": (owner.recorder_label, False),
    "its number used before": (lambda: owner.recorder_label().rpartition(" ")[0] + " 1", True),
    "a missing process": (lambda: owner.recorder_label().rsplit(" ", 2)[0] + f" {2**22 + 1} 5", True),
    "another machine": (lambda: "another-boot 4026531836 1 5", False),
    "something else": (lambda: "x", False),
}


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(("label", "removed"), LABELS.values(), ids=list(LABELS))
def test_whose_containers_are_removed(
    engine: Engine, bystander: str, label: Callable[[], str], removed: bool, running: bool
) -> None:
    """A process is known by its number and its start. A container whose recorder may live is left unchanged."""
    made = engine.docker(
        "create", "--network", "none", "--name", "labelled", "--label", f"{owner.LABEL}={label()}", IMAGE, "sleep", "60"
    )
    if running:
        engine.docker("start", "labelled")
    try:
        DockerDriver(Config(engine.url), network="none").prepare(Task(image=IMAGE, command=["true"])).close()
        assert ("labelled" not in engine.containers()) == removed
    finally:
        with suppress(subprocess.CalledProcessError):
            engine.docker("rm", "--force", made.strip())


def test_a_container_that_nobody_has_used_for_a_day(engine: Engine, bystander: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the recorder may be on another machine, a container that does not run is removed after a day."""
    label = f"{owner.LABEL}=another-boot 4026531836 1 5"
    for name, command in (("created", None), ("ended", "true"), ("runs", "sleep 60")):
        engine.docker("create", "--network", "none", "--name", name, "--label", label, IMAGE, *(command or "true").split())
        if command:
            engine.docker("start", name)
    engine.docker("wait", "ended")
    now = owner.time_ns()
    for seconds, left in ((86_000, {"created", "ended", "runs"}), (87_000, {"runs"})):
        monkeypatch.setattr(owner, "time_ns", lambda seconds=seconds: now + seconds * 10**9)
        DockerDriver(Config(engine.url), network="none").prepare(Task(image=IMAGE, command=["true"])).close()
        assert set(engine.containers()) == {bystander, *left}
    engine.docker("rm", "--force", "runs")


# --- the engine's answers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxy]:
    """Run a stand-in for the engine whose answers a test can spoil."""
    with in_front_of(engine) as proxy:
        yield proxy


@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("stall", [False, True], ids=["cut", "stalled"])
def test_a_broken_stream_of_samples(
    engine: Engine, bystander: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, stall: bool, chunks: int
) -> None:
    """A stream that ends early or falls silent is requested anew, and the status is not harmed."""
    monkeypatch.setattr("callstats.drivers.docker.samples._FRAME_SECONDS", 2.0)
    proxy.fail("GET .*/stats", cut_after(chunks, stall=stall), times=1)
    recording = Recording(engine, proxy, script="sleep 8; exit 3")
    result = recording.run(lambda it: None)
    assert (result.status, result.error and result.error.exit_code) == (Status.ERROR, 3)
    assert len(recording.samples) >= 4


@pytest.mark.parametrize("status", [404, 409, 500])
def test_no_samples(engine: Engine, bystander: str, proxy: Proxy, status: int) -> None:
    """Without a stream of samples the task runs, and the closing sample alone is stored."""
    proxy.fail("GET .*/stats", answer(status, "no samples"))
    recording = Recording(engine, proxy)
    recording._sampled.set()
    result = recording.run(lambda it: None, timeout=1)
    assert result.status is Status.TIMEOUT
    assert len(recording.samples) == 1


def test_samples_that_do_not_begin(engine: Engine, bystander: str, proxy: Proxy) -> None:
    """The end waits for the reader of a stream that an engine has not begun."""
    proxy.fail("GET .*/stats", cut_after(0, stall=True))
    recording = Recording(engine, proxy, script="sleep 1")
    recording._sampled.set()
    assert recording.run(lambda it: None).status is Status.SUCCESS
    assert "callstats-docker-stats" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("failing", ["callstats-docker-input", "callstats-docker-stats", "callstats-docker"])
def test_no_thread(engine: Engine, bystander: str, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Where a thread can't start, `run` raises, and neither a thread nor a container is left."""
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == failing:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    task = Task(image=IMAGE, command=["sleep", "60"], stdin=io.BytesIO(b"x"))
    with DockerDriver(Config(engine.url), network="none").prepare(task) as cookie, pytest.raises(RuntimeError):
        cookie.run()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("callstats-docker")]


def test_a_fork_that_lives(engine: Engine, bystander: str) -> None:
    """A fork of the program holds no connection to the engine."""
    program = f"""
import os, signal, psutil
from callstats.drivers import Config, DockerDriver, Task
task = Task(image={IMAGE!r}, command=["sh", "-c", "sleep 1; exit 3"])
with DockerDriver(Config({engine.url!r}), network="none").prepare(task) as cookie:
    run = cookie.run()
    assert psutil.Process().net_connections("unix")
    child = os.fork()
    if child == 0:
        print(psutil.Process().net_connections("unix"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(run.wait().error.exit_code)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "[]\n3\n"


@pytest.mark.parametrize(
    ("request_line", "fault", "message"),
    [
        ("POST .*/wait", answer(500, "lost  it"), "can't wait for the container: lost it"),
        ("POST .*/wait", answer(404, "no such container"), "can't wait for the container: no such container"),
        ("POST .*/wait", answer(200, "no code"), "can't wait for the container: its exit code is lost"),
        ("POST .*/wait", cut_after(0), "can't wait for the container: "),
        (
            "GET .*/containers/[0-9a-f]{64}/json",
            answer(500, "no state"),
            "can't run 'callstats-test:busybox': no state",
        ),
        ("POST .*/start", answer(500, "no start"), "can't run 'callstats-test:busybox': no start"),
        ("POST .*/attach", answer(500, "no stream"), "can't run 'callstats-test:busybox': no stream"),
        ("POST .*/create", answer(500, "no room"), "can't prepare 'callstats-test:busybox': no room"),
    ],
)
def test_an_engine_that_fails(engine: Engine, bystander: str, proxy: Proxy, request_line: str, fault: Any, message: str) -> None:
    """An answer that does not tell how the task ended is a DriverError, never a success. The container is removed."""
    proxy.fail(request_line, fault)
    recording = Recording(engine, proxy, script="exit 0")
    recording._sampled.set()
    with pytest.raises(DriverError, match=message):
        recording.run(lambda it: None)


@pytest.mark.parametrize("status", [409, 500])
def test_a_kill_that_fails(engine: Engine, bystander: str, proxy: Proxy, status: int) -> None:
    """When the engine does not kill a container, its first process is killed. A conflict means that it has ended by itself."""
    proxy.fail("POST .*/kill", answer(status, "can't kill"))
    recording = Recording(engine, proxy, script="echo out; sleep 3")
    started = monotonic()
    assert recording.run(lambda it: None, timeout=0.5).status is Status.TIMEOUT
    assert monotonic() - started < 20


def test_an_engine_that_kills_no_paused_container(
    engine: Engine, bystander: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some engines want a paused container to continue before they kill it."""
    monkeypatch.setattr("callstats.drivers.docker.samples.FirstProcess.kill", lambda _self: None)
    proxy.fail("POST .*/kill", answer(409, "Container x is paused. Unpause the container before stopping or killing"), times=1)
    assert Recording(engine, proxy, timeout=6).run(lambda it: it.docker("pause")).status is Status.TIMEOUT


def test_a_removal_that_others_have_begun(engine: Engine, bystander: str, proxy: Proxy) -> None:
    """The driver waits until the container is gone."""
    proxy.fail("DELETE ", answer(409, "removal of container x is already in progress"), times=3)
    assert Recording(engine, proxy, script="sleep 1.5").run(lambda it: None).status is Status.SUCCESS


def test_removed_between_the_end_and_the_removal(engine: Engine, bystander: str) -> None:
    """A container that others have removed needs no removal."""
    recording = Recording(engine, script="exit 6")
    with DockerDriver(Config(engine.url), network="none").prepare(recording.task) as cookie:
        result = cookie.run().wait()
        recording.docker("rm")
    assert result.error is not None and result.error.exit_code == 6
    with DockerDriver(Config(engine.url), network="none").prepare(Task(id="unused", image=IMAGE, command=["true"])):
        engine.docker("rm", "unused")


def test_a_removal_that_fails(engine: Engine, bystander: str, proxy: Proxy) -> None:
    """It is a DriverError of close(), after the result. The next start removes the container."""
    proxy.fail("DELETE ", answer(500, "device is busy"), times=1)
    recording = Recording(engine, proxy, script="exit 6")
    cookie = DockerDriver(Config(proxy.url), network="none").prepare(recording.task)
    result = cookie.run().wait()
    assert result.error is not None and result.error.exit_code == 6
    with pytest.raises(DriverError, match=r"can't remove container [0-9a-f]{12}: device is busy"):
        cookie.close()
    assert recording.task.id in engine.containers()
    DockerDriver(Config(proxy.url), network="none").prepare(Task(image=IMAGE, command=["true"])).close()


# --- the engine itself --------------------------------------------------------------------------------------------------------


def test_a_killed_engine(private_engine: Engine) -> None:
    """The samples so far stay, the wait raises at once, and the container ends though nobody is left to end it."""
    recording = Recording(private_engine, script=f"exec sleep {LONG}")
    started, seen = monotonic(), list[str]()
    with pytest.raises(DriverError, match="can't wait for the container"):
        recording.run(lambda it: (seen.extend(wait_for_sleepers(1)), private_engine.signal(signal.SIGKILL)))
    assert monotonic() - started < 30
    assert len(recording.samples) >= 1 and "mem_usage" in recording.samples[0][1]
    assert (len(seen), sleepers()) == (1, [])


def test_an_engine_that_ends(private_engine: Engine) -> None:
    """An engine that is told to end kills its containers: killed if it still tells so, else a DriverError."""
    recording = Recording(private_engine, script=f"exec sleep {LONG}")
    with suppress(DriverError):
        assert recording.run(lambda it: private_engine.signal(signal.SIGTERM)).status is Status.KILLED
    assert len(recording.samples) >= 1
    assert wait_for_sleepers(0) == []


@pytest.mark.parametrize("seconds", [12, None])
def test_a_silent_engine(private_engine: Engine, monkeypatch: pytest.MonkeyPatch, seconds: int | None) -> None:
    """A silence is waited for, up to a limit: then the task ends as a DriverError, with the samples so far."""
    monkeypatch.setattr("callstats.drivers.docker.run._SILENT_SECONDS", 20.0)
    recording = Recording(private_engine, script="sleep 3; exit 3" if seconds else f"exec sleep {LONG}")

    def fall_silent(_recording: Recording) -> None:
        private_engine.signal(signal.SIGSTOP)
        if seconds:
            sleep(seconds)
            private_engine.signal(signal.SIGCONT)

    try:
        if seconds:
            result = recording.run(fall_silent)
            assert result.error is not None and result.error.exit_code == 3
        else:
            with pytest.raises(DriverError, match=r"the engine has not answered for \d\d seconds"):
                recording.run(fall_silent)
            assert sleepers() == []
    finally:
        private_engine.signal(signal.SIGCONT)
    assert len(recording.samples) >= 1


def test_a_timeout_over_a_silent_engine(private_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container ends at the timeout, though its engine does not answer."""
    monkeypatch.setattr("callstats.drivers.docker.run._KILL_SECONDS", 5.0)
    recording = Recording(private_engine, script=f"exec sleep {LONG}", timeout=3)
    started = monotonic()
    try:
        with pytest.raises(DriverError, match="the engine has not answered"):
            recording.run(lambda it: private_engine.signal(signal.SIGSTOP))
        assert sleepers() == []
    finally:
        private_engine.signal(signal.SIGCONT)
    assert monotonic() - started < 60
