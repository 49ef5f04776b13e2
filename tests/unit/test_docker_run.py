"""The Docker driver over an engine as a test says it is: what it asks of the engine, and what it makes of the answers."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("docker")

from docker.errors import APIError, DockerException
from requests.exceptions import ConnectionError as ConnectionFailed
from requests.exceptions import ConnectTimeout, ReadTimeout
from urllib3.exceptions import ReadTimeoutError

from callstats._timestamps import parse_time
from callstats.drivers import Config, DockerDriver, DriverError, RunResult, Status, Task
from callstats.drivers.docker import engine as engines
from callstats.drivers.docker import owner
from callstats.drivers.docker import run as runs
from callstats.drivers.docker.engine import EngineClient, engine_errors, timed_out
from support.programs import PATIENCE, wait_until
from support.scripted import CONTAINER, ScriptedEngine, scripted_engine

MIB = 2**20
START = parse_time("2026-01-01T00:00:00Z")
END = parse_time("2026-01-01T00:00:09Z")


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """Return an engine that does all that it is asked to."""
    with scripted_engine() as made:
        yield made


def driver(engine: ScriptedEngine, **config: Any) -> DockerDriver:
    return DockerDriver(Config(engine.url, **config))


def finished(engine: ScriptedEngine, **fields: Any) -> RunResult:
    """Run a task whose container ends at once."""
    engine.ended.set()
    with driver(engine).prepare(Task(image="busybox", **fields)) as cookie:
        return cookie.run().wait()


def frame(second: int, usage: int, cpu: int, **memory: int) -> dict[str, Any]:
    """Return a frame with the memory in bytes, and the processor time in nanoseconds."""
    return {
        "read": f"2026-01-01T00:00:{second:02}Z",
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}},
        "memory_stats": {"usage": usage, **memory},
    }


# --- a whole run --------------------------------------------------------------------------------------------------------------


def test_from_its_start_to_its_end(engine: ScriptedEngine) -> None:
    """Input, both outputs and samples go through; the closing sample has the engine's time; the container is removed."""
    engine.output = [(1, b"out" * 40_000), (2, b"err"), (7, b"no stream of ours"), (1, b"!")]
    engine.frames = [
        frame(1, 10 * MIB, 1000, max_usage=30 * MIB),
        {"read": "0001-01-01T00:00:00Z"},
        frame(2, 20 * MIB, 3000, max_usage=30 * MIB),
    ]
    engine.code = 3
    stdout, stderr, samples = io.BytesIO(), io.BytesIO(), list[Any]()

    def write_stat(timestamp: int, metrics: dict[str, int]) -> None:
        samples.append((timestamp, metrics))
        if len(samples) == 2:
            assert engine.heard.wait(PATIENCE)
            engine.ended.set()

    task = Task(
        image="busybox", command=["x"], stdin=io.BytesIO(b"in" * 50_000), stdout=stdout, stderr=stderr, write_stat=write_stat
    )
    with driver(engine).prepare(task) as cookie:
        result = cookie.run().wait()
    assert (result.status, result.error and result.error.exit_code, result.dropped) == (Status.ERROR, 3, 1)
    assert (stdout.getvalue(), stderr.getvalue(), engine.input) == (b"out" * 40_000 + b"!", b"err", b"in" * 50_000)
    assert samples == [
        (parse_time("2026-01-01T00:00:01Z"), {"mem_usage": 10 * MIB, "mem_usage@max": 30 * MIB}),
        (parse_time("2026-01-01T00:00:02Z"), {"mem_usage": 20 * MIB}),
        (END, {"cpu_time@last": 3000, "mem_peak@last": 30 * MIB}),
    ]
    names = engine.names()
    assert names.index("POST create") < names.index("POST attach") < names.index("POST start") < names.index("POST wait")
    assert engine.params("POST attach") == [
        {"stream": "1", "logs": "0", "stdout": "1", "stderr": "1"},
        {"stream": "1", "logs": "0", "stdin": "1"},
    ]
    assert engine.params("DELETE container") == [{"v": "1", "force": "1"}]
    assert engine.params("GET stats") == [{"stream": "1"}]


def test_a_stream_that_ends_early_is_asked_for_again(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that the engine refuses; no sample is passed on after the end, and a sample's time never goes back."""
    monkeypatch.setattr("callstats.drivers.docker.samples._RETRY_SECONDS", 0.01)
    engine.fail("GET stats", 500, "not now", times=2)
    engine.frames = [frame(1, MIB, 10), frame(10, 2 * MIB, 5)]
    times: list[int] = []

    def write_stat(timestamp: int, _metrics: dict[str, int]) -> None:
        times.append(timestamp)
        if len(times) == 2:
            engine.ended.set()

    with driver(engine).prepare(Task(image="busybox", write_stat=write_stat)) as cookie:
        run = cookie.run()
        assert run.wait().status is Status.SUCCESS
    assert engine.names().count("GET stats") >= 3
    assert times[0] == parse_time("2026-01-01T00:00:01Z")
    assert times[-1] >= times[-2] >= END  # the last frame is later than the end


@pytest.mark.parametrize("state", [{}, {"StartedAt": "2026-01-01T00:00:00Z"}, {"StartedAt": "2100-01-01T00:00:00Z"}])
def test_its_own_times(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, state: dict[str, str]) -> None:
    """They are by our clock: the start is the engine's time only between our request and its answer, the end when we heard."""
    times = iter([START - 5, START + 5, END])
    monkeypatch.setattr(runs, "time_ns", lambda: next(times))
    engine.state |= state
    engine.ended.set()
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run: Any = cookie.run()
        run.wait()
    expected = {"2026": START, "2100": START + 5, "": START + 5}[state.get("StartedAt", "")[:4]]
    assert (run.began_at, run.ended_at) == (expected, END)


def test_nothing_is_passed_on_but_what_there_is(engine: ScriptedEngine) -> None:
    """A container that ends before its first frame has an empty closing sample; an output that nobody wants is read."""
    samples: list[Any] = []
    engine.output = [(1, b"out"), (2, b"err")]
    assert finished(engine, write_stat=lambda *sample: samples.append(sample)) == RunResult(Status.SUCCESS)
    assert samples == [(END, {})]


# --- the end ------------------------------------------------------------------------------------------------------------------

FINISHED = {"FinishedAt": "2026-01-01T00:00:09Z"}
ENDS: dict[str, tuple[int, dict[str, Any], RunResult, str]] = {
    "success": (0, {}, RunResult(Status.SUCCESS), ""),
    "failure": (7, {}, RunResult(Status.ERROR), "the task ended with exit code 7"),
    "with a reason": (7, {"Error": "why"}, RunResult(Status.ERROR), "why"),
    "killed": (137, {}, RunResult(Status.KILLED), "the container was killed"),
    "out of memory": (137, {"OOMKilled": True}, RunResult(Status.KILLED, out_of_memory=True), "the container ran out of memory"),
    "ran out of memory, and said so": (
        5,
        {"OOMKilled": True},
        RunResult(Status.KILLED, out_of_memory=True),
        "the container ran out of memory",
    ),
    "a child ran out of memory": (0, {"OOMKilled": True}, RunResult(Status.SUCCESS, out_of_memory=True), ""),
}


@pytest.mark.parametrize(("code", "state", "result", "reason"), ENDS.values(), ids=list(ENDS))
def test_how_it_ended(engine: ScriptedEngine, code: int, state: dict[str, Any], result: RunResult, reason: str) -> None:
    """The status, the exit code, the reason and the want of memory, each as the engine tells of the end."""
    engine.code, engine.state = code, {"Pid": 0, **FINISHED, **state}
    found = finished(engine)
    assert (found.status, found.out_of_memory, found.dropped) == (result.status, result.out_of_memory, 0)
    assert (str(found.error or ""), found.error.exit_code if found.error else 0) == (reason, code)


def test_removed_by_others(engine: ScriptedEngine) -> None:
    """Its exit code is known, its state is not: the end is when the code came. A removal that finds nothing is fine."""
    engine.code, samples = 137, list[int]()
    begun = threading.Event()

    def prepared() -> None:
        engine.answers["GET inspect"] = [(404, {"message": "gone"})] * 9
        engine.fail("DELETE container", 404, "gone")
        engine.ended.set()
        begun.set()

    before = owner.time_ns()
    with driver(engine).prepare(Task(image="busybox", write_stat=lambda time, _: samples.append(time))) as cookie:
        run = cookie.run()
        prepared()
        found = run.wait()
    assert (found.status, str(found.error)) == (Status.KILLED, "the container was killed and removed")
    assert len(samples) == 1 and before <= samples[0] <= owner.time_ns()


def test_started_again_by_others(engine: ScriptedEngine) -> None:
    """A code of 0 may be that of the next run, so it is no success; another code is the container's own. Both are killed."""
    engine.state["Running"] = True
    with pytest.raises(DriverError, match="can't tell the container's exit code: somebody has started it again"):
        finished(engine)
    assert "POST kill" in engine.names()
    engine.code = 4
    found = finished(engine)
    assert found.error is not None and found.error.exit_code == 4


@pytest.mark.parametrize(
    ("explanation", "code"),
    [
        ('exec: "nope": executable file not found in $PATH', 127),
        ("stat /nope: No such file or directory", 127),
        ("exec /etc: permission denied", 126),
        ("exec /etc: is a directory", 126),
        ("exec /x: exec format error", 126),
        ("no such file or directory, or permission denied", 126),
    ],
)
def test_a_command_that_can_not_run(engine: ScriptedEngine, explanation: str, code: int) -> None:
    """The exit code is a shell's, and the reason has the engine's words. Nothing is waited for."""
    engine.fail("POST start", 400, explanation)
    with driver(engine).prepare(Task(image="busybox", command=["nope", "x"])) as cookie:
        found = cookie.run().wait()
    assert (found.status, found.error and found.error.exit_code) == (Status.ERROR, code)
    assert str(found.error) == f"can't run ['nope']: {explanation}"
    assert not {"POST wait", "GET stats"} & set(engine.names())
    assert engine.names()[-1] == "DELETE container"


@pytest.mark.parametrize(
    ("request_name", "answer", "message"),
    [
        ("POST start", (500, {"message": "no\n  room"}), "can't run 'busybox': no room"),
        ("POST attach", (500, {"message": "no stream"}), "can't run 'busybox': no stream"),
        ("GET inspect", (500, {"message": "no state"}), "can't run 'busybox': no state"),
        ("POST wait", (500, {"message": "lost it"}), "can't wait for the container: lost it"),
        ("POST wait", (200, {"x": 1}), "can't wait for the container: its exit code is lost: {'x': 1}"),
        (
            "POST wait",
            (200, {"StatusCode": 0, "Error": {"Message": "why"}}),
            "can't wait for the container: its exit code is lost: why",
        ),
        ("POST create", (500, {"message": "no room"}), "can't prepare 'busybox': no room"),
        ("GET version", (500, {"message": "no version"}), "can't reach the engine at .*: no version: start it, or name another"),
    ],
)
def test_an_engine_that_fails(engine: ScriptedEngine, request_name: str, answer: tuple[int, Any], message: str) -> None:
    """Each is a DriverError in one line, and no container is left."""
    engine.answers[request_name] = [answer]
    with pytest.raises(DriverError, match=message):
        finished(engine)
    assert ("POST create" in engine.names()) == ("DELETE container" in engine.names() or request_name == "POST create")


def test_an_engine_that_is_lost(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that breaks says nothing of the end, and nothing more is asked but the removal; the output is not waited for."""
    waited: list[float] = []
    finish = runs.AttachedStreams.finish
    monkeypatch.setattr(runs.AttachedStreams, "finish", lambda it, seconds: (waited.append(seconds), finish(it, seconds)))
    engine.answers["POST wait"] = [(0, None)]
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run = cookie.run()
        with pytest.raises(DriverError, match=r"^can't wait for the container: .*without response"):
            run.wait()
    assert waited == [0] and engine.names().count("GET inspect") == 1
    assert engine.names()[-1] == "DELETE container"


@pytest.mark.parametrize("error", [{"Message": ""}, None, {}])
def test_a_wait_with_an_empty_error(engine: ScriptedEngine, error: Any) -> None:
    """It is no error."""
    engine.answers["POST wait"] = [(200, {"StatusCode": 3, "Error": error})]
    found = finished(engine)
    assert found.error is not None and found.error.exit_code == 3


# --- waiting ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "cancel", "own timeout", "close"])
def test_a_container_that_is_ended(engine: ScriptedEngine, how: str) -> None:
    """It is killed once, and the status says who asked for that."""
    cancel = threading.Event()
    task = Task(image="busybox", timeout=0.05 if how == "own timeout" else None)
    with driver(engine).prepare(task) as cookie:
        run = cookie.run()
        if how == "cancel":
            cancel.set()
        if how == "close":
            cookie.close()
        found = run.wait(0 if how == "timeout" else None, cancel)
    assert found.status is (Status.CANCELLED if how in ("cancel", "close") else Status.TIMEOUT)
    assert found.error is not None and found.error.exit_code == 137
    assert engine.names().count("POST kill") == 1 and engine.names().count("DELETE container") == 1


def test_an_engine_that_takes_its_time(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it answers a ping it is asked again, for as long as the container runs."""
    monkeypatch.setattr(runs, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(runs, "_SILENT_SECONDS", 30.0)
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run = cookie.run()
        wait_until(lambda: engine.names().count("GET _ping") >= 3)
        assert "POST kill" not in engine.names()
        engine.ended.set()
        assert run.wait().status is Status.SUCCESS
    assert engine.names().count("POST wait") >= 3


def patience(silent: float, killed: float | None, now: float = 1000.0) -> tuple[str, bool]:
    """Return what is raised after so many seconds without an answer, and since the kill, and whether the engine is lost."""
    run: Any = SimpleNamespace(_killed_at=None if killed is None else now - killed, _lost=False)
    try:
        runs.DockerRun._validate_patience(run, silent)
    except DriverError as error:
        return str(error), run._lost
    return "", run._lost


def test_the_end_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute without an answer, half a minute once the container was killed; and a minute of life after the kill."""
    monkeypatch.setattr(runs, "monotonic", lambda: 1000.0)
    silent = "can't wait for the container: the engine has not answered for {} seconds"
    assert patience(60, None) == ("", False)
    assert patience(61, None) == (silent.format(61), True)
    assert patience(30, 60) == ("", False)
    assert patience(31, 1) == (silent.format(31), True)
    assert patience(0, 61) == ("can't end the container: it still runs 60 seconds after it was killed", False)


def test_a_kill_that_is_asked_for_again(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the container runs; and where the engine fails its first process is killed, in whatever way it fails."""
    killed: list[None] = []
    monkeypatch.setattr("callstats.drivers.docker.samples.FirstProcess.kill", lambda _self: killed.append(None))
    monkeypatch.setattr(runs, "_WAIT_SECONDS", 0.05)
    engine.answers["POST kill"] = [(204, None), (500, {"message": "not now"}), (0, None)]
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        assert cookie.run().wait(0).status is Status.TIMEOUT
    assert (engine.names().count("POST kill"), len(killed)) == (4, 2)


@pytest.mark.parametrize(
    ("error", "is_timeout"),
    [
        (ReadTimeout(), True),
        (ConnectTimeout(), True),
        (ConnectionFailed(ReadTimeoutError(None, "/", "slow")), True),  # type: ignore[arg-type]
        (ConnectionFailed(OSError("refused")), False),
        (OSError("broken"), False),
    ],
    ids=repr,
)
def test_what_counts_as_a_timeout(error: OSError, is_timeout: bool) -> None:
    """An answer, or the rest of one, that did not come in time; a connection that broke is no timeout."""
    assert timed_out(error) is is_timeout


# --- signals and suspension -------------------------------------------------------------------------------------------------


def test_signals_and_pauses(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal goes to the engine by its number; this program stops between the pause of the container and its end."""
    monkeypatch.setattr(runs, "stop_program", lambda: engine.asked.append(("stopped", {}, None)))
    engine.answers["POST kill"] = [(204, None)]
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run: Any = cookie.run()
        run.send_signal(15)
        run.suspend()
        engine.fail("POST pause", 409, "it has ended")
        engine.fail("POST unpause", 409, "it has ended")
        engine.fail("POST kill", 409, "it has ended")
        run.suspend()
        run.send_signal(2)
        engine.ended.set()
        run.wait()
    shown = {"POST kill", "POST pause", "POST unpause", "stopped"}
    pause = ["POST pause", "stopped", "POST unpause"]
    assert [name for name in engine.names() if name in shown] == ["POST kill", *pause, *pause, "POST kill"]
    assert engine.params("POST kill") == [{"signal": "15"}, {"signal": "2"}]


# --- requests by themselves ---------------------------------------------------------------------------------------------------


@pytest.fixture
def api(engine: ScriptedEngine) -> Iterator[EngineClient]:
    """Return a client of the engine."""
    client = EngineClient(engine.url)
    yield client
    client.close()


PAUSED = "Container x is paused. Unpause the container before stopping or killing"


@pytest.mark.parametrize(
    ("status", "message", "names"),
    [
        (404, "no such container", ["POST kill"]),
        (409, "container is not running", ["POST kill"]),
        (409, PAUSED, ["POST kill", "POST unpause", "POST kill"]),
    ],
)
def test_a_kill(engine: ScriptedEngine, api: EngineClient, status: int, message: str, names: list[str]) -> None:
    """One that has ended, or is gone, stays so; a paused one continues first where the engine wants that."""
    engine.fail("POST kill", status, message)
    engines.kill(api, CONTAINER)
    assert engine.names()[1:] == names


def test_a_kill_that_fails(engine: ScriptedEngine, api: EngineClient) -> None:
    """Other errors are the engine's own, not those of HTTP."""
    engine.fail("POST kill", 500, "no room")
    with pytest.raises(APIError, match="no room"):
        engines.kill(api, CONTAINER)


def test_a_removal(engine: ScriptedEngine, api: EngineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that others have begun is waited for, for so long as is said; one that is gone is removed."""
    monkeypatch.setattr(engines, "_CONFLICT_SECONDS", 0.01)
    engine.fail("DELETE container", 409, "removal is already in progress", times=2)
    engines.remove(api, CONTAINER)
    assert engine.names()[1:] == 3 * ["DELETE container"]
    engine.fail("DELETE container", 404, "gone")
    engines.remove(api, CONTAINER)
    engine.fail("DELETE container", 500, "busy")
    with pytest.raises(APIError, match="busy"):
        engines.remove(api, CONTAINER)
    clock = iter([0.0, 59.0, 60.0])
    monkeypatch.setattr(engines, "monotonic", lambda: next(clock))
    engine.fail("DELETE container", 409, "still busy", times=2)
    with pytest.raises(APIError, match="still busy"):
        engines.remove(api, CONTAINER)
    assert engine.names()[1:] == 7 * ["DELETE container"]


@pytest.mark.parametrize(
    ("error", "hint", "message"),
    [
        (APIError("500 Server Error", explanation="no\n\troom"), "", "can't do it: no room"),
        (DockerException("no  engine"), "start it", "can't do it: no engine: start it"),
        (OSError(2, "nothing there"), "", r"can't do it: \[Errno 2\] nothing there"),
    ],
    ids=["engine", "client", "system"],
)
def test_an_error_in_one_line(error: Exception, hint: str, message: str) -> None:
    """The engine's own words, where there are any; and the way out at the end."""
    with pytest.raises(DriverError, match=f"^{message}$"), engine_errors("do it", hint):
        raise error


def test_a_client_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket of a failed connection is closed, though somebody still holds it."""
    made: list[socket.socket] = []
    monkeypatch.setattr(engines, "_connected", SimpleNamespace(add=made.append))
    with pytest.raises(OSError, match="No such file"):
        EngineClient(f"unix://{tmp_path}/none")
    assert made and all(each.fileno() == -1 for each in made)


def test_a_fork_lets_go_of_its_connections(engine: ScriptedEngine) -> None:
    """In a fork of the program each is /dev/null, and the parent's go on."""
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run: Any = cookie.run()
        numbers = [each.fileno() for each in engines._connected if each.fileno() >= 0]
        assert numbers
        child = os.fork()
        if not child:
            null = Path(os.devnull).stat()
            same = all(os.fstat(number).st_rdev == null.st_rdev for number in numbers)
            os._exit(0 if same and run._forked else 1)
        assert os.waitpid(child, 0)[1] == 0
        engine.ended.set()
        assert run.wait().status is Status.SUCCESS


def test_connections_that_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is open is /dev/null then, which no program that is started gets; closed ones stay closed."""
    (ours, theirs), closed = socket.socketpair(), socket.socket()
    closed.close()
    opened: list[int] = []

    def open_noted(path: str, flags: int) -> int:
        opened.append(os.open(path, flags))
        return opened[-1]

    monkeypatch.setattr(engines, "os", SimpleNamespace(**(vars(os) | {"open": open_noted})))
    monkeypatch.setattr(engines, "_connected", {ours, closed})
    engines.disown_connections()
    assert theirs.recv(1) == b""
    assert os.fstat(ours.fileno()).st_rdev == Path(os.devnull).stat().st_rdev and not os.get_inheritable(ours.fileno())
    os.close(ours.detach())
    theirs.close()
    assert len(opened) == 1
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])


def test_a_fork_can_not_wait(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has let go of the connections, and says where to wait; its close leaves the container to the parent."""
    disowned: list[None] = []
    monkeypatch.setattr(runs, "disown_connections", lambda: disowned.append(None))
    with driver(engine).prepare(Task(image="busybox")) as cookie:
        run: Any = cookie.run()
        run.disown()
        assert disowned == [None]
        with pytest.raises(DriverError, match=r"wait\(\) must be called in the process that ran the cookie, got a fork of it"):
            run.wait()
        cookie.close()
        assert not {"POST kill", "DELETE container"} & set(engine.names())
        run._forked = False


def test_an_output_that_breaks(engine: ScriptedEngine, api: EngineClient) -> None:
    """While the container runs that is an error; once its streams were ended it is their end. A piece may come in parts."""
    ours, theirs = socket.socketpair()
    attached: Any = SimpleNamespace(attach_socket=lambda _container, params: ours)
    run: Any = SimpleNamespace(task=Task())
    streams = runs.AttachedStreams(run, attached, "c")
    theirs.sendall(b"abc")
    assert streams._receive(10) == b"abc"
    theirs.sendall(b"abcde")
    theirs.shutdown(socket.SHUT_WR)
    assert (streams._receive(2), streams._receive(8, whole=True), streams._receive(8)) == (b"ab", b"cde", b"")

    def fail(_size: int) -> bytes:
        raise OSError(104, "reset")

    streams._output = SimpleNamespace(recv=fail)  # type: ignore[assignment]
    with pytest.raises(DriverError, match=r"^can't read the output: \[Errno 104\] reset$"):
        streams._receive(8)
    streams.finish(0)
    assert streams._receive(8) == b"" and ours.fileno() == -1
    theirs.close()


def test_the_streams_end_with_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their threads are waited for, the one that still reads the input too."""
    monkeypatch.setattr(runs, "_INPUT_SECONDS", PATIENCE)
    ends = [socket.socketpair(), socket.socketpair()]
    ours = [pair[0] for pair in ends]

    def read(_size: int) -> bytes:
        threading.Event().wait(0.2)
        return b""

    def start_thread(_name: str, work: Any, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        return thread

    attached: Any = SimpleNamespace(attach_socket=lambda _container, params: ours.pop(0))
    run: Any = SimpleNamespace(task=Task(stdin=SimpleNamespace(read=read)), start_thread=start_thread)  # type: ignore[arg-type]
    streams = runs.AttachedStreams(run, attached, "c")
    streams.start()
    streams.finish(0)
    assert len(streams._threads) == 2 and not streams._threads[1].is_alive()
    streams._threads[0].join(PATIENCE)
    assert not streams._threads[0].is_alive() and all(pair[0].fileno() == -1 for pair in ends)
    for pair in ends:
        pair[1].close()


def test_an_output_in_parts() -> None:
    """Both a piece and what stands before it may come so; what is cut off in the middle is passed on as far as it came."""
    stdout, stderr = io.BytesIO(), io.BytesIO()
    run: Any = SimpleNamespace(task=Task(stdout=stdout, stderr=stderr))
    attached: Any = SimpleNamespace(attach_socket=lambda _container, params: SimpleNamespace(settimeout=lambda _seconds: None))
    parts = [b"\1\0\0", b"\0\0\0", b"\0\5", b"he", b"llo", b"\2\0\0\0\0\0\1\0", b"x" * 200, b""]
    streams = runs.AttachedStreams(run, attached, "c")
    asked: list[int] = []

    def receive(size: int) -> bytes:
        asked.append(size)
        return parts.pop(0)

    streams._output = SimpleNamespace(recv=receive)  # type: ignore[assignment]
    streams._read_output()
    assert (stdout.getvalue(), stderr.getvalue()) == (b"hello", b"x" * 200)
    assert asked == [8, 5, 2, 5, 3, 8, 256, 56]


# --- what is prepared ---------------------------------------------------------------------------------------------------------


def test_what_a_container_is_made_of(engine: ScriptedEngine) -> None:
    """Each setting of the task and of the driver is the engine's; those that are not given are left to it."""
    task = Task(
        id="a-task",
        image="busybox",
        command=["sh", "-c", "x"],
        env={"A": "1"},
        stdin=io.BytesIO(),
        volumes=[("/outside", "/inside")],
        memory=64 * MIB,
        work_dir="/tmp",
    )
    DockerDriver(Config(engine.url, 512), network="none").prepare(task).close()
    body, host = engine.body("POST create"), engine.body("POST create")["HostConfig"]
    assert engine.params("POST create") == [{"name": "a-task"}]
    assert (body["Image"], body["Cmd"], body["Env"], body["WorkingDir"], body["OpenStdin"]) == (
        "library/busybox:latest",
        ["sh", "-c", "x"],
        ["A=1"],
        "/tmp",
        True,
    )
    assert body["Labels"] == {"callstats.task": "a-task", owner.LABEL: owner.recorder_label()}
    assert (body["AttachStdout"], body["AttachStderr"], body["AttachStdin"], body["StdinOnce"]) == (True, True, True, True)
    assert host == {
        "Memory": 64 * MIB,
        "MemorySwap": 64 * MIB,
        "CpuShares": 512,
        "NetworkMode": "none",
        "Binds": ["/outside:/inside"],
    }
    driver(engine).prepare(Task(id="not/a name", image="busybox")).close()
    body = engine.body("POST create")
    assert (body.get("Cmd"), body.get("WorkingDir"), body["OpenStdin"]) == (None, None, False)
    assert not {"Memory", "MemorySwap", "CpuShares"} & body["HostConfig"].keys()
    assert engine.params("POST create")[-1] == {}  # no name that the engine takes


def test_a_name_that_another_container_has(engine: ScriptedEngine) -> None:
    """Then it has none; another error is none of its name."""
    engine.fail("POST create", 409, "in use")
    driver(engine).prepare(Task(id="task-1", image="busybox")).close()
    assert engine.params("POST create") == [{"name": "task-1"}, {}]
    engine.fail("POST create", 500, "no room")
    with pytest.raises(DriverError, match="can't prepare 'busybox': no room"):
        driver(engine).prepare(Task(id="task-1", image="busybox"))
    assert len(engine.params("POST create")) == 3


def test_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the settings, else of DOCKER_HOST, else of the usual socket."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://engine:1")
    assert DockerDriver()._config == Config("tcp://engine:1")
    assert DockerDriver(Config())._config == Config("unix:///var/run/docker.sock")
    for empty in (True, False):
        monkeypatch.setenv("DOCKER_HOST", "") if empty else monkeypatch.delenv("DOCKER_HOST")
        assert DockerDriver()._config == Config()


DIGEST = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    ("image", "name", "pull"),
    [
        ("busybox", "library/busybox:latest", {"tag": "latest", "fromImage": "library/busybox"}),
        ("r.example:5000/a/b:3", "r.example:5000/a/b:3", {"tag": "3", "fromImage": "r.example:5000/a/b"}),
        (f"a/b@{DIGEST}", f"a/b@{DIGEST}", {"tag": DIGEST, "fromImage": "a/b"}),
        (DIGEST, DIGEST, None),
    ],
)
def test_a_missing_image_is_pulled(engine: ScriptedEngine, image: str, name: str, pull: dict[str, str] | None) -> None:
    """By its tag or its digest, once; an image's ID is taken as it is."""
    engine.fail("GET image", 404, "no such image")
    engine.pulled = [{"status": "Pulling"}, {"status": "Done"}]
    driver(engine).prepare(Task(image=image)).close()
    assert engine.params("POST pull") == ([] if pull is None else [pull])
    assert engine.body("POST create")["Image"] == name


def test_a_pull_that_fails(engine: ScriptedEngine) -> None:
    """The answer has begun by then: its last line tells."""
    engine.fail("GET image", 404, "no such image")
    engine.pulled = [{"status": "Pulling"}, {"error": "no route"}]
    with pytest.raises(DriverError, match=r"^can't pull 'library/busybox': no route$"):
        driver(engine).prepare(Task(image="busybox"))
    assert "POST create" not in engine.names()


# --- containers that nobody waits for -----------------------------------------------------------------------------------------


def listed(label: str, state: str = "running", name: str = "x") -> dict[str, Any]:
    return {"Id": name, "State": state, "Labels": {owner.LABEL: label}}


def removed(engine: ScriptedEngine, *containers: dict[str, Any]) -> int:
    """Return how many of the listed containers a new driver removes."""
    engine.answers["GET list"], before = [(200, list(containers))], engine.names().count("DELETE container")
    client = EngineClient(engine.url)
    owner.remove_orphans(client)
    client.close()
    assert engine.params("GET list")[-1] == {"all": "1", "filters": f'{{"label":["{owner.LABEL}"]}}'}
    return engine.names().count("DELETE container") - before


def test_whose_containers_are_removed(engine: ScriptedEngine) -> None:
    """Those of a process of this machine that has ended. Its number alone does not say that: another may have it by now."""
    own = owner.recorder_label()
    space, number, started = own.rsplit(" ", 2)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    process = owner.read_process(child)
    assert process is not None
    try:
        zombie = f"{space} {child} {process.started}"
        labels = {own: 0, f"{space} {number} {int(started) - 1}": 1, f"{space} {2**22 + 1} 5": 1, zombie: 1}
        for label, found in {**labels, "x": 0, f"{space} x 5": 0, "": 0}.items():
            assert removed(engine, listed(label)) == found, label
    finally:
        os.waitpid(child, 0)
    assert removed(engine, listed(f"{space} {2**22 + 1} 5"), listed(own), listed(f"{space} {2**22 + 1} 6")) == 2
    engine.fail("DELETE container", 500, "busy")
    assert removed(engine, listed(f"{space} {2**22 + 1} 5"), listed(f"{space} {2**22 + 1} 5")) == 2  # an error harms no other


@pytest.mark.parametrize(("error", "found"), [(ProcessLookupError, 1), (PermissionError, 0), (None, 0)])
def test_a_process_that_proc_hides(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None, found: int
) -> None:
    """Another user's may be hidden. It has ended only where the system knows no such number."""

    def kill(_pid: int, number: int) -> None:
        assert number == 0
        if error is not None:
            raise error

    label = owner.recorder_label()
    monkeypatch.setattr(owner, "read_process", lambda _pid: None)
    monkeypatch.setattr(owner, "os", SimpleNamespace(kill=kill, getpid=os.getpid))
    assert removed(engine, listed(label)) == found


@pytest.mark.parametrize(
    ("state", "created", "finished_at", "hours", "found"),
    [
        ("created", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 25, 1),
        ("created", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 23, 0),
        ("exited", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z", 25, 0),
        ("exited", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z", 27, 1),
        ("dead", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z", 27, 1),
        ("running", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 1000, 0),
        ("exited", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 1000, 0),
    ],
)
def test_containers_of_another_machine(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, state: str, created: str, finished_at: str, hours: int, found: int
) -> None:
    """They are removed a day after they were last used, where that is known, and never while they run."""
    now = parse_time("2026-01-01T00:00:00Z") + hours * 3600 * 10**9
    monkeypatch.setattr(owner, "time_ns", lambda: now)
    engine.answers["GET inspect"] = [(200, {"Created": created, "State": {"FinishedAt": finished_at}})]
    assert removed(engine, listed("another-boot 4026531836 1 5", state)) == found


def test_a_removal_that_fails_is_made_up_for(engine: ScriptedEngine) -> None:
    """`close` raises; the next start removes the container, though its recorder lives, and then forgets it."""
    engine.ended.set()
    made = driver(engine)
    cookie = made.prepare(Task(image="busybox"))
    cookie.run().wait()  # type: ignore[attr-defined]
    engine.fail("DELETE container", 500, "device is busy")
    with pytest.raises(DriverError, match=r"^can't remove container c0ffee000000: device is busy$"):
        cookie.close()
    assert owner.abandoned == {CONTAINER}
    engine.answers["GET list"] = [(200, [listed(owner.recorder_label(), name=CONTAINER)])]
    made.prepare(Task(image="busybox")).close()
    assert engine.names().count("GET list") == 2 and owner.abandoned == set()
    made.prepare(Task(image="busybox")).close()
    assert engine.names().count("GET list") == 2  # nothing is left to look for


@pytest.mark.parametrize(("lost", "fault", "raises"), [(False, None, True), (True, None, True), (True, KeyError("x"), False)])
def test_a_removal_after_the_end(monkeypatch: pytest.MonkeyPatch, lost: bool, fault: Exception | None, raises: bool) -> None:
    """Nothing stays open. An engine that is lost is not waited for; its error is none beside one that the wait raises."""
    log: list[Any] = []
    monkeypatch.setattr(owner, "abandoned", set())
    monkeypatch.setattr(runs, "abandoned", owner.abandoned)

    def remove(_api: object, container: str, seconds: float) -> None:
        log.append((container, seconds))
        raise OSError("no answer")

    monkeypatch.setattr(runs, "remove", remove)

    def note(name: str) -> Any:
        return SimpleNamespace(close=lambda: log.append(f"{name} closed"), end=lambda: log.append(f"{name} ended"))

    run: Any = SimpleNamespace(_container=CONTAINER, _lost=lost, _fault=fault, _api=note("api"), _samples=note("samples"))
    run._first, run._streams = note("first"), note("streams")
    if raises:
        with pytest.raises(DriverError, match=r"^can't remove container c0ffee000000: no answer$"):
            runs.DockerRun.release(run)
    else:
        runs.DockerRun.release(run)
    assert owner.abandoned == {CONTAINER}
    seconds = engines.QUICK_SECONDS if lost else engines.ENGINE_SECONDS
    assert log == ["first closed", "samples ended", "streams closed", (CONTAINER, seconds), "api closed"]


def test_who_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The label names the machine's start, the namespace and the process; without /proc, one that nobody else has."""
    boot = tmp_path / "boot"
    boot.write_text("the-boot\n")
    monkeypatch.setattr(owner, "_BOOT", boot)
    process = owner.read_process(os.getpid())
    assert process is not None
    inode = Path("/proc/self/ns/pid").stat().st_ino
    assert owner.recorder_label() == f"the-boot {inode} {os.getpid()} {process.started}"
    boot.unlink()
    assert owner.recorder_label().startswith(f"- {os.getpid()} ")
