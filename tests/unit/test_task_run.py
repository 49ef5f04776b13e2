"""The part of a run that all drivers share, and what a recording makes of its end: over a driver that does as it is told."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers import DockerDriver, DriverError, ProcessDriver, RunResult, Status, Task, TaskError, _record, _run
from callstats.drivers._record import Recording
from callstats.drivers._run import Exit, TaskRun, cpu_metrics, validate_interval
from callstats.errors import ArgumentError, ImageError
from callstats.series import StatSeries
from support.programs import PATIENCE, started, wait_until


class Scripted(TaskRun):
    """A run whose command ends when the test, or a kill, says so."""

    def __init__(self, **fields: Any) -> None:
        self.closed = list[str]()
        super().__init__(Task(command=["x"], close=lambda: self.closed.append("task"), **fields))
        self.end = threading.Event()
        self.exit: Exit | BaseException = Exit(0)
        self.kills = 0
        self.slow = threading.Event()

    def start(self) -> None:
        self.watch("callstats-scripted")

    def kill(self) -> None:
        self.kills += 1
        self.end.set()

    def await_exit(self) -> None:
        assert self.end.wait(PATIENCE)

    def clean_up(self) -> Exit:
        if isinstance(self.exit, BaseException):
            raise self.exit
        return self.exit

    def release(self) -> None:
        self.closed.append("run")


def ended(end: Exit, **fields: Any) -> RunResult:
    """Return the result of a command that ends so."""
    with Scripted(**fields) as cookie:
        cookie.exit = end
        cookie.end.set()
        return cookie.run().wait()


@pytest.mark.parametrize(
    ("end", "status", "reason", "code"),
    [
        (Exit(0), Status.SUCCESS, "", 0),
        (Exit(3), Status.ERROR, "the task ended with exit code 3", 3),
        (Exit(1), Status.ERROR, "the task ended with exit code 1", 1),
        (Exit(3, "why"), Status.ERROR, "why", 3),
        (Exit(137, "why", killed=True), Status.KILLED, "why", 137),
        (Exit(0, "why"), Status.SUCCESS, "", 0),
    ],
)
def test_an_end(end: Exit, status: Status, reason: str, code: int) -> None:
    """The status, the reason and the code; dropped frames and a want of memory are passed on."""
    found = ended(end._replace(dropped=4, out_of_memory=True))
    assert (found.status, str(found.error or ""), found.error.exit_code if found.error else 0) == (status, reason, code)
    assert (found.dropped, found.out_of_memory) == (4, True)
    assert not ended(end).out_of_memory and ended(end).dropped == 0


@pytest.mark.parametrize("how", ["timeout", "cancel", "own timeout", "close", "driver"])
def test_who_ended_it(how: str) -> None:
    """That is the status, whatever the command's own end is; it is killed once, and the code stays its own."""
    cancel, cookie = threading.Event(), Scripted(timeout=0.02 if how == "own timeout" else None)
    cookie.exit = Exit(9, "killed", killed=True)
    with cookie:
        run = cookie.run()
        if how == "cancel":
            threading.Timer(0.05, cancel.set).start()
        if how == "close":
            cookie.close()
        if how == "driver":
            cookie.stop(Status.KILLED, "too large")
        found = run.wait(0.02 if how == "timeout" else None, cancel)
        assert run.wait(0, cancel) is found  # the end is the same for each call
    status, reason = {
        "timeout": (Status.TIMEOUT, "the task ran out of time"),
        "own timeout": (Status.TIMEOUT, "the task ran out of time"),
        "cancel": (Status.CANCELLED, "the task was cancelled"),
        "close": (Status.CANCELLED, "the task was cancelled"),
        "driver": (Status.KILLED, "too large"),
    }[how]
    assert (found.status, str(found.error), found.error and found.error.exit_code) == (status, reason, 9)
    assert cookie.kills == 1


def test_a_wait_is_for_the_whole_end() -> None:
    """Once it returns no thread of the run is left, so a fork or an exit of the program harms nothing."""

    class Slow(Scripted):
        over = False

        def finish(self, end: Exit) -> None:
            super().finish(end)
            threading.Event().wait(0.1)
            self.over = True

    for timeout in (None, 60):
        with Slow(timeout=timeout) as cookie:
            cookie.end.set()
            cookie.run().wait()
            assert cookie.over
    assert not [thread for thread in threading.enumerate() if thread.name == "callstats-scripted" or "Timer" in thread.name]


def test_a_program_that_ends_is_not_held_up() -> None:
    """All threads of a run end with it, the one of a timeout too, so that an exit needn't wait for them first."""
    before = set(threading.enumerate())
    with Scripted(timeout=600) as cookie:
        run = cookie.run()
        cookie.start_thread("callstats-waiting", cookie.end.wait, PATIENCE)
        wait_until(lambda: any(isinstance(thread, threading.Timer) for thread in threading.enumerate()))
        assert all(thread.daemon for thread in set(threading.enumerate()) - before)
        cookie.end.set()
        run.wait()


def test_a_close_waits_for_the_end_too() -> None:
    """What the run holds is released once, after the end; the task is closed each time, as it may be."""
    cookie = Scripted()
    seen: list[bool] = []
    release = cookie.release
    cookie.release = lambda: (seen.append(cookie._done.is_set()), release())  # type: ignore[method-assign,func-returns-value]
    assert cookie in _run._open
    cookie.run()
    cookie.close()
    cookie.close()
    assert (seen, cookie.closed, cookie.kills) == ([True], ["run", "task", "task"], 1)
    assert cookie not in _run._open
    never = Scripted()
    never.close()
    assert (never.closed, never.kills) == (["run", "task"], 0)


def test_a_cookie_runs_once() -> None:
    """Not again, and not after its close."""
    message = r"^the cookie was run or closed before: prepare the task again$"
    with Scripted() as cookie:
        cookie.end.set()
        cookie.run().wait()
        with pytest.raises(DriverError, match=message):
            cookie.run()
    closed = Scripted()
    closed.close()
    with pytest.raises(DriverError, match=message):
        closed.run()


def test_a_fork_of_it() -> None:
    """It can't wait, and its close and its exit leave the task to the parent."""
    with Scripted() as cookie:
        run = cookie.run()
        child = os.fork()
        if not child:
            cookie.close()
            _run._close_all()
            try:
                run.wait()
            except DriverError as error:
                good = "in the process that ran the cookie" in str(error) and (cookie.kills, cookie.closed) == (0, [])
                os._exit(0 if good and not _run._open else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        cookie.end.set()
        assert run.wait().status is Status.SUCCESS


def test_what_is_open_ends_with_the_program() -> None:
    """Each is closed, though one of them can't be."""

    class Clinging(Scripted):
        def release(self) -> None:
            super().release()
            raise DriverError("it stays")

    cookies = [Clinging(), Scripted(), Clinging()]
    for cookie in cookies:
        cookie.run()
    _run._close_all()
    assert all(cookie.closed[0] == "run" and cookie.kills == 1 for cookie in cookies)
    _run._open.clear()


def test_an_error_in_a_thread_ends_the_task() -> None:
    """The first one comes out of each wait, though the kill fails; after the end it is too late for one."""

    def fail(text: str) -> None:
        raise RuntimeError(text)

    with Scripted() as cookie:
        run = cookie.run()
        kill = cookie.kill
        cookie.kill = lambda: (kill(), fail("no kill"))  # type: ignore[method-assign,func-returns-value]
        for text in ("first", "second"):
            cookie.start_thread("callstats-failing", fail, text).join()
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"^first$"):
                run.wait()
    with Scripted() as cookie:
        cookie.end.set()
        run = cookie.run()
        found = run.wait()
        cookie.start_thread("callstats-failing", fail, "late").join()
        assert run.wait() is found and cookie.kills == 0


def test_an_error_of_the_end() -> None:
    """It comes out of the wait, unless an earlier one does."""
    for fault in (None, KeyError("early")):
        with Scripted() as cookie:
            cookie.exit, cookie._fault = ValueError("late"), fault
            cookie.end.set()
            run = cookie.run()
            with pytest.raises(ValueError if fault is None else KeyError):
                run.wait()


def test_a_timeout_longer_than_any_wait() -> None:
    """It is no limit, of the task and of a wait."""
    assert ended(Exit(0), timeout=1e300).status is Status.SUCCESS
    with Scripted() as cookie:
        cookie.end.set()
        assert cookie.run().wait(1e300).status is Status.SUCCESS


def test_samples_go_to_the_task_and_to_whoever_watches(caplog: pytest.LogCaptureFixture) -> None:
    """A watcher has a copy of each, and its errors are logged once."""
    written, seen = list[Any](), list[Any]()

    def on_stat(timestamp: int, metrics: dict[str, int]) -> None:
        seen.append((timestamp, dict(metrics)))
        metrics.clear()
        raise RuntimeError("no")

    cookie = Scripted(write_stat=lambda *sample: written.append(sample), on_stat=on_stat)
    with caplog.at_level(logging.WARNING):
        cookie.write_stat(1, {"a": 1})
        cookie.write_stat(2, {"a": 2})
    assert written == seen == [(1, {"a": 1}), (2, {"a": 2})]
    assert [record.message for record in caplog.records] == ["on_stat failed, and the recording continues"]
    cookie.close()


@pytest.mark.parametrize(
    ("used", "seconds", "shares"),
    [
        ((0.5, 0.25, 0.25), 1, (50, 25, 25)),
        ((0.999, 0.5, 0.499), 1, (99, 50, 49)),
        ((8, 6, 2), 2, (400, 300, 100)),
        ((16, 12, 4), 2, (400, 300, 100)),  # known late: no more than 4 cores allow
        ((8, 12, 4), 2, (200, 300, 100)),  # the parts exceed the total
        ((1, 1, 0), 0, None),
        ((1, 1, 0), -1, None),
    ],
)
def test_shares_of_a_core(
    monkeypatch: pytest.MonkeyPatch, used: tuple[float, float, float], seconds: float, shares: tuple[int, ...] | None
) -> None:
    """Whole percentages of one core, rounded down; of no time there are none."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    names = ("cpu_total", "cpu_user", "cpu_kernel")
    assert cpu_metrics(*used, seconds) == ({} if shares is None else dict(zip(names, shares, strict=True)))
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # unknown
    assert cpu_metrics(4, 4, 0, 1)["cpu_total"] == 100


@pytest.mark.parametrize("interval", [True, "1", None, 0, 0.0099, -1, float("nan"), float("inf")])
def test_a_rejected_interval(interval: Any) -> None:
    """It is a number of 0.01 seconds or more."""
    with pytest.raises(ArgumentError, match=r"^interval must be 0.01 seconds or more, got "):
        validate_interval(interval)


def test_an_interval() -> None:
    """Both ends are fine; no wait can be longer than the longest."""
    assert (validate_interval(0.01), validate_interval(5)) == (0.01, 5.0)
    assert validate_interval(1e300) == threading.TIMEOUT_MAX


# --- the recording ------------------------------------------------------------------------------------------------------------

SERIES = StatSeries([0], {"mem_usage": [4096]})


def recorded(result: RunResult | None, **fields: Any) -> Any:
    """Return the call that ended with this result."""
    recording = Recording(["/bin/tool", "a b"])
    recording.result = result
    for name, value in fields.items():
        setattr(recording, name, value)
    return recording.end(SERIES)


def failed(status: Status, code: int) -> RunResult:
    return RunResult(status, TaskError("why", code))


ENDS: dict[str, tuple[RunResult | None, dict[str, Any], tuple[str | None, int | None, str | None]]] = {
    "success": (RunResult(Status.SUCCESS), {}, ("success", 0, None)),
    "success of a command whose child had no memory": (
        RunResult(Status.SUCCESS, out_of_memory=True),
        {},
        ("success", 0, "a process ran out of memory"),
    ),
    "error": (failed(Status.ERROR, 3), {}, ("error", 3, "why")),
    "error, and a want of memory": (
        RunResult(Status.ERROR, TaskError("why", 3), out_of_memory=True),
        {},
        ("error", 3, "why"),
    ),
    "timeout": (failed(Status.TIMEOUT, 137), {}, ("timeout", 124, "why")),
    "killed": (failed(Status.KILLED, 3), {}, ("killed", 137, "why")),
    "cancelled": (failed(Status.CANCELLED, 137), {}, ("cancelled", 137, "why")),
    "cancelled by a signal": (failed(Status.CANCELLED, 137), {"handed": [15, 2]}, ("cancelled", 143, "why")),
    "its own Ctrl-C": (failed(Status.ERROR, 130), {}, ("cancelled", 130, "why")),
    "a signal of its own": (failed(Status.ERROR, 143), {}, ("error", 143, "why")),
    "a signal that was handed on": (failed(Status.ERROR, 143), {"handed": [15]}, ("cancelled", 143, "why")),
    "a fault beside": (failed(Status.ERROR, 3), {"fault": DriverError("it stays")}, ("error", 3, "why; it stays")),
    "a fault alone": (None, {"fault": DriverError("it stays")}, ("error", None, "it stays")),
    "interrupted before its start": (None, {"interrupted": signal.SIGTERM}, ("cancelled", 143, None)),
    "a watch": (None, {"_watched": True}, (None, None, None)),
    "a watch that failed": (None, {"_watched": True, "fault": OSError("no")}, ("error", None, "no")),
}


@pytest.mark.parametrize(("result", "fields", "end"), ENDS.values(), ids=list(ENDS))
def test_the_end_of_a_call(result: RunResult | None, fields: dict[str, Any], end: tuple[Any, Any, Any]) -> None:
    """Its status, its exit code and its error."""
    call = recorded(result, **fields)
    assert (call.status, call.exit_code, call.error) == end
    assert call.series == SERIES and (call.started_at, call.completed_at) == (None, None)


def test_a_long_error() -> None:
    """It is cut to what a column can hold."""
    assert recorded(None, fault=DriverError("x" * 8193)).error == "x" * 8192
    assert recorded(None, fault=DriverError("x" * 8192)).error == "x" * 8192


def test_the_times_of_a_call() -> None:
    """The command's own, if the driver tells; else from after the preparation to the end of the wait. A fault is kept."""
    log: list[str] = []

    @contextmanager
    def follow(run: Any) -> Any:
        log.append(f"follow {run.name}")
        yield

    @contextmanager
    def prepare(fault: Exception | None = None, early: Exception | None = None) -> Any:
        if early is not None:
            raise early

        def wait() -> RunResult:
            log.append("wait")
            if fault is not None:
                raise fault
            return RunResult(Status.SUCCESS)

        yield SimpleNamespace(run=lambda: SimpleNamespace(name="it", wait=wait))

    recording = Recording(["x"])
    assert recording.started is None
    recording.run(prepare, follow)
    call = recording.end(SERIES)
    assert (log, call.status, recording.fault) == (["follow it", "wait"], "success", None)
    assert call.started_at is not None and call.completed_at is not None
    assert call.created_at <= call.started_at <= call.completed_at and len(call.started_at) == len("2026-01-01T00:00:00.000000Z")
    run = SimpleNamespace(wait=lambda: RunResult(Status.SUCCESS), began_at=10**18 + 1, ended_at=10**18 + 10**6 + 1)
    recording = Recording(["x"])
    recording.run(lambda: nullcontext(SimpleNamespace(run=lambda: run)))  # type: ignore[arg-type, return-value]
    call = recording.end(SERIES)
    assert (call.started_at, call.completed_at) == ("2001-09-09T01:46:40.000000Z", "2001-09-09T01:46:40.001001Z")
    fault = DriverError("gone")
    recording = Recording(["x"])
    recording.run(lambda: prepare(fault))
    call = recording.end(SERIES)
    assert (recording.fault, call.status, call.error) == (fault, "error", "gone") and call.completed_at is not None
    recording = Recording(["x"])
    recording.run(lambda: prepare(early=fault))
    call = recording.end(SERIES)
    assert (recording.fault, call.started_at, call.completed_at) == (fault, None, None)


@pytest.mark.parametrize("fault", [None, OSError("no")])
def test_a_watch_of_what_runs_already(fault: Exception | None) -> None:
    """Its time is known, its end is not; an error is kept."""

    def wait() -> None:
        if fault is not None:
            raise fault

    recording = Recording([], name="watched")
    recording.watch(wait)
    call = recording.end(SERIES)
    assert (recording.fault, call.status, call.exit_code) == (fault, None if fault is None else "error", None)
    assert call.started_at is not None and call.completed_at is not None and call.started_at <= call.completed_at


@pytest.mark.parametrize(
    ("command", "fields", "name", "text"),
    [
        (["/bin/tool", "a b"], {}, "tool", "/bin/tool 'a b'"),
        (["tool"], {"image": "alpine:3"}, "alpine:3", "tool"),
        (["tool"], {"name": "n", "image": "alpine:3"}, "n", "tool"),
        (["tool"], {"name": "x"}, "x", "tool"),
        (["tool"], {"name": 256 * "x"}, 256 * "x", "tool"),
        (["/bin/" + 257 * "x"], {}, 256 * "x", "/bin/" + 257 * "x"),
        ([], {}, "", None),
        (["x", 8192 * "y"], {}, "x", "x " + 8190 * "y"),
    ],
    ids=str,
)
def test_what_a_call_is_known_by(command: list[str], fields: dict[str, Any], name: str, text: str | None) -> None:
    """Its name, by default the image or the program's file; and its command line, as a shell would take it."""
    call = Recording(command, **fields).call
    assert (call.name, call.command, call.status, call.tags) == (name, text, "running", {})
    assert call.pid == os.getpid() and Recording(["x"], tags={"a": "b"}).call.tags == {"a": "b"}


@pytest.mark.parametrize("name", ["", 257 * "x", "\ud800"])
def test_a_rejected_name(name: str) -> None:
    """It is text of 1 to 256 characters."""
    with pytest.raises(ArgumentError, match=r"^name must be text of 1 to 256 characters, got "):
        Recording(["x"], name=name)


def test_the_command_of_a_process() -> None:
    """Its words as it got them; none of a process that is gone, and none of nobody."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112 - no file of ours
        pytest.skip("reads /proc")
    with started(["sleep", "600"]) as process:
        wait_until(lambda: _record.command_of(process.pid) == ["sleep", "600"])  # amid its exec it has none
        process.kill()
    assert _record.command_of(2**22 + 1) == [] == _record.command_of(None)


def test_a_stream_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is flushed first; one that is closed, or that has no descriptor, is none."""
    flushed: list[int] = []
    program = SimpleNamespace(stdout=SimpleNamespace(flush=lambda: flushed.append(1)), stderr=None)
    monkeypatch.setattr(_record, "sys", program)
    stream = _record._descriptor(1)
    assert stream is not None and stream.fileno() == 1 and flushed == [1]
    stream.close()
    os.fstat(1)  # it stays open

    def fail(*_: int) -> Any:
        raise ValueError("closed")

    program.stdout.flush = fail
    assert _record._descriptor(1) is None
    found = _record._descriptor(2)
    assert found is not None and found.fileno() == 2
    monkeypatch.setattr(_record, "os", SimpleNamespace(fstat=fail))
    assert _record._descriptor(2) is None


def test_the_drivers_by_name() -> None:
    """Each with what it needs, and a driver of one's own as it is."""
    made = _record.make_driver("process", 0.5, None)
    assert isinstance(made, ProcessDriver) and made._interval == 0.5
    assert isinstance(_record.make_driver("docker", 1, "alpine"), DockerDriver)
    assert _record.make_driver(made, 1, None) is made
    for name, image, rule in (("process", "alpine", "left out without"), ("docker", None, "given with")):
        with pytest.raises(ArgumentError, match=rf"^image must be {rule} the driver docker, got {image!r}$"):
            _record.make_driver(name, 1, image)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"^driver must be process, docker or a Driver, got 'other'$"):
        _record.make_driver("other", 1, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_a_rejected_variable(name: str) -> None:
    """No environment can have it."""
    with pytest.raises(ArgumentError, match=r"^env must be a mapping whose names are not empty, and have no '=' and no NUL, got"):
        Task(env={"A": "=", name: "1"})


@pytest.mark.parametrize(
    ("command", "hint"),
    [("a b", ": shlex.split makes one of it"), ("", ""), (b"a b", ""), ([], ""), ((), ""), ([1], ""), (["a", 1], "")],
)
def test_a_rejected_command(command: Any, hint: str) -> None:
    """It is a list of words, of one or more."""
    with pytest.raises(ArgumentError) as raised:
        _record.record(command)
    assert str(raised.value) == f"command must be a list of one word or more, got {command!r}{hint}"


def test_wrong_use_of_a_container_stores_nothing() -> None:
    """An image that can't be one is refused before the call is stored as running."""
    begun: list[Any] = []
    into: Any = SimpleNamespace(begin=begun.append, finish=begun.append)
    with pytest.raises(ImageError):
        _record.record(["true"], driver="docker", image="no/Image Name", into=into)
    assert begun == []
