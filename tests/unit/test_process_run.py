"""When a command is looked at and sampled, by a clock that only the test moves; and its streams and its watchdog."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callstats.drivers import DriverError, ProcessDriver, Status, Task, _watch
from callstats.drivers._run import Exit
from callstats.drivers.process import procfs, tree
from callstats.drivers.process import run as runs
from callstats.drivers.process.run import ProcessRun, Watchdog
from support.programs import PATIENCE, started, wait_until

MIB = 2**20


class Clock:
    """A clock, and an event that comes at its time. Each wait for it takes a bit longer than asked."""

    def __init__(self, end: float, late: float = 0.001) -> None:
        self.now, self.end, self.late = 0.0, end, late
        self.log: list[tuple[str, float]] = []
        self.waits = 0

    def wait(self, seconds: float | None = None) -> bool:
        if seconds is None:
            self.note("wait for the end")
            return True
        self.waits += 1
        assert seconds >= 0 and self.waits < 1000
        over = self.now + seconds + self.late >= self.end
        self.now = self.end if over else self.now + seconds + self.late
        return over

    def note(self, name: str) -> None:
        self.log.append((name, round(self.now, 2)))
        assert len(self.log) < 100


def looked(
    monkeypatch: pytest.MonkeyPatch,
    end: float,
    interval: float,
    memory: int = 0,
    exceeds: float = 1e9,
    sample: bool = True,
    late: float = 0.001,
) -> list[tuple[str, float]]:
    """Return what is done to a command, and when, that ends after so many seconds, and exceeds its memory from a time on."""
    clock = Clock(end, late)
    monkeypatch.setattr(runs, "monotonic", lambda: clock.now)
    monkeypatch.setattr(runs, "time_ns", lambda: int(clock.now * 1e9))

    def exceeded() -> int | None:
        clock.note("check")
        return 7 * MIB if clock.now >= exceeds else None

    meter = SimpleNamespace(
        look=lambda: clock.note("look"), exceeded=exceeded, sample=lambda: clock.note("sample") or ({"a": 1} if sample else {})
    )
    run: Any = SimpleNamespace(
        task=SimpleNamespace(memory=memory),
        _interval=interval,
        _meter=meter,
        _exited=clock,
        write_stat=lambda time, _metrics: clock.note("write") if time == int(clock.now * 1e9) else None,
        stop=lambda status, reason: clock.note(f"{status.value}: {reason}"),
    )
    ProcessRun.await_exit(run)
    assert run._ended == (int(clock.now * 1e9), clock.now)
    return clock.log


def test_samples_and_early_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample an interval, and early looks at a short call; none of those that an interval comes before."""
    early = [("look", 0.01), ("look", 0.02), ("look", 0.08)]
    assert looked(monkeypatch, 2.5, 1.0) == [*early, ("sample", 1.0), ("write", 1.0), ("sample", 2.0), ("write", 2.0)]
    assert looked(monkeypatch, 0.05, 0.02) == [
        ("look", 0.01),
        ("sample", 0.02),
        ("write", 0.02),
        ("sample", 0.04),
        ("write", 0.04),
    ]
    assert looked(monkeypatch, 0.004, 1.0) == []
    assert looked(monkeypatch, 1.5, 1.0, sample=False) == [*early, ("sample", 1.0)]  # no process runs


def test_a_look_at_the_very_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken once, and so are a sample and a check of the memory."""
    monkeypatch.setattr(runs, "_EARLY_LOOKS", (0.25, 0.5))
    expected = [("look", 0.25), ("look", 0.5), ("sample", 1.0), ("write", 1.0)]
    assert looked(monkeypatch, 1.5, 1.0, late=0) == expected
    monkeypatch.setattr(runs, "_EARLY_LOOKS", ())
    monkeypatch.setattr(runs, "_CHECK_SECONDS", 0.25)
    assert looked(monkeypatch, 0.625, 10.0, memory=1, late=0) == [("check", 0.25), ("check", 0.5)]


def test_checks_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 times a second, or at each sample where those are more often."""
    log = looked(monkeypatch, 0.33, 10.0, memory=MIB)
    assert [time for name, time in log if name == "check"] == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    log = looked(monkeypatch, 0.09, 0.02, memory=MIB)
    assert [time for name, time in log if name == "check"] == [0.02, 0.04, 0.06, 0.08]
    log = looked(monkeypatch, 0.16, 0.1, memory=MIB)
    assert [entry for entry in log if entry[0] != "look"] == [
        ("check", 0.05),
        ("check", 0.1),
        ("sample", 0.1),
        ("write", 0.1),
        ("check", 0.15),
    ]


def test_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sampled at that moment, then killed, and its end is waited for."""
    log = looked(monkeypatch, 9.0, 1.0, memory=5 * MIB, exceeds=0.1)
    assert [entry for entry in log if entry[0] != "look"] == [
        ("check", 0.05),
        ("check", 0.1),
        ("sample", 0.1),
        ("write", 0.1),
        ("killed: the task held 7 MiB of memory, more than its limit of 5 MiB", 0.1),
        ("wait for the end", 0.1),
    ]


# --- the end ------------------------------------------------------------------------------------------------------------------


def cleaned(
    code: int | None, ended: tuple[int, float] = (5, 6.0), stopped: Status | None = Status.TIMEOUT
) -> tuple[Exit, list[Any]]:
    """Return the end of a command with this code, and what was done in which order."""
    log: list[Any] = []
    run: Any = SimpleNamespace(
        _tree=SimpleNamespace(left_running=lambda: log.append("count") or 2),
        _stopped=stopped,
        _end=lambda _tree: log.append("end") or code,
        _ended=ended,
        _meter=SimpleNamespace(closing=lambda at: log.append(("closing", at)) or {"a": 1}),
        _remove_group=lambda: log.append("group"),
        write_stat=lambda time, metrics: log.append((time, metrics)),
    )
    end = ProcessRun.clean_up(run)
    assert log[-1][0] == run.ended_at
    return end, log


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (0, Exit(0)),
        (1, Exit(1)),
        (137, Exit(137)),
        (-1, Exit(129, "the task was ended by signal SIGHUP")),
        (-15, Exit(143, "the task was ended by signal SIGTERM")),
        (-9, Exit(137, "the task was ended by signal SIGKILL", killed=True)),
        (-40, Exit(168, "the task was ended by signal 40")),
    ],
)
def test_the_end_of_a_command(code: int, end: Exit) -> None:
    """A shell's code for it, and the closing sample at the time of the end, once all of it has ended."""
    assert cleaned(code) == (end, ["end", ("closing", 6.0), "group", (5, {"a": 1})])


def test_what_is_left_running_is_counted() -> None:
    """The count is taken before they are ended, and not where the driver itself had stopped the command."""
    assert cleaned(0, stopped=None) == (Exit(0, left_running=2), ["count", "end", ("closing", 6.0), "group", (5, {"a": 1})])
    assert cleaned(3, stopped=None)[0] == Exit(3, left_running=2)
    assert cleaned(3)[0] == Exit(3)
    assert cleaned(-11, stopped=None)[0].left_running == 2


def test_an_end_that_was_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is now. A lost code is an error, after the closing sample."""
    monkeypatch.setattr(runs, "time_ns", lambda: 50)
    monkeypatch.setattr(runs, "monotonic", lambda: 60.0)
    assert cleaned(0, (0, 0.0))[1] == ["end", ("closing", 60.0), "group", (50, {"a": 1})]
    with pytest.raises(DriverError, match="the exit code of the command is lost"):
        cleaned(None)


def test_before_its_start_nothing_happens() -> None:
    """There is no command to kill, to signal or to stop yet."""
    made: Any = SimpleNamespace(_tree=None, _terminal=None, _group=None)
    for method in (ProcessRun.kill, ProcessRun.suspend, ProcessRun.follow_stop, ProcessRun._remove_group):
        method(made)
    ProcessRun.send_signal(made, 15)
    log: list[Any] = []
    made._tree = SimpleNamespace(kill=lambda: log.append("kill"), send_signal=log.append)
    made._terminal = SimpleNamespace(stop=lambda: log.append("stop"), follow_stop=lambda: log.append("follow"))
    made._group = SimpleNamespace(remove=lambda: log.append("remove"))
    for method in (ProcessRun.kill, ProcessRun.suspend, ProcessRun.follow_stop, ProcessRun._remove_group):
        method(made)
    ProcessRun.send_signal(made, 15)
    assert log == ["kill", "stop", "follow", "remove", 15]


@pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")
@pytest.mark.parametrize("failing", ["launch", "watch", "start"])
def test_a_start_that_fails(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """The command never runs, and nothing of it is left: no process, no pipe, no watchdog, and no setting of this process."""
    launched: list[tuple[Any, list[int]]] = []
    watchdogs: list[Watchdog] = []
    launch, watch = runs.launch, Watchdog.watch

    def noted(*arguments: Any, **options: Any) -> Any:
        command = launch(*arguments, **options)
        launched.append((command, list(command._pipes)))
        return command

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no more threads")

    def watched(watchdog: Watchdog, group: int, folder: str) -> None:
        watch(watchdog, group, folder)
        if failing == "watch":
            fail()

    class Noted(Watchdog):
        def __init__(self, mark: str) -> None:
            super().__init__(mark)
            watchdogs.append(self)

    monkeypatch.setattr(runs, "launch", fail if failing == "launch" else noted)
    monkeypatch.setattr(runs, "Watchdog", Noted)
    monkeypatch.setattr(Noted, "watch", watched)
    if failing == "start":
        monkeypatch.setattr(runs.Streams, "start", fail)
    with ProcessDriver().prepare(Task(command=["sleep", "600"])) as cookie, pytest.raises(RuntimeError):
        cookie.run()
    (watchdog,) = watchdogs
    assert watchdog._shell is None and tree._users == 0 and len(launched) == (failing != "launch")
    for command, pipes in launched:
        assert procfs.read_process(command.pid) is None
        for number in pipes:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(number)


class Group:
    """A control group of which it is known what was done with it."""

    def __init__(self, takes: bool) -> None:
        self.takes, self.log, self.folder = takes, list[str](), Path("/no/group")

    def add(self, pid: int) -> bool:
        self.log.append(f"add {pid}")
        return self.takes

    def remove(self) -> None:
        self.log.append("remove")

    def pids(self) -> list[int]:
        return []

    def has(self, _pid: int) -> bool:
        return False

    def kill(self) -> None:
        pass

    def cpu(self) -> tuple[float, float]:
        return 0.0, 0.0

    def peak(self) -> tuple[int, int]:
        return 0, 0


@pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")
@pytest.mark.parametrize("takes", [True, False, None])
def test_the_group_of_a_command(monkeypatch: pytest.MonkeyPatch, takes: bool | None) -> None:
    """The command is put into it, the watchdog knows it, and it is removed; one that takes no process tells nothing."""
    group = None if takes is None else Group(takes)
    watched: list[tuple[int, str]] = []
    monkeypatch.setattr(runs.TaskGroup, "make", lambda _mark: group)
    monkeypatch.setattr(Watchdog, "watch", lambda _self, *arguments: watched.append(arguments))
    with ProcessDriver().prepare(Task(command=["true"])) as cookie:
        run: Any = cookie.run()
        assert run.wait().status == "success"
        assert run._tree.group is (group if takes else None)
        assert run._command.began_at == run.began_at <= run.ended_at == run._ended[0]
        pid = run._command.pid
    assert watched == [(pid, "" if group is None else "/no/group")]
    if group is not None:
        assert group.log == [f"add {pid}", "remove"]


def test_a_fork_lets_go() -> None:
    """Of the streams and of the watchdog, where there are any yet, so that both end with the parent alone."""
    log: list[str] = []
    run: Any = ProcessDriver().prepare(Task(command=["true"]))
    run.disown()
    assert run._forked
    run._streams = SimpleNamespace(disown=lambda: log.append("streams"))
    run._watchdog = SimpleNamespace(disown=lambda: log.append("watchdog"))
    run.disown()
    assert log == ["streams", "watchdog"]


@pytest.mark.skipif(not procfs._LINUX, reason="reads /proc")
def test_the_watchdog_is_no_part_of_the_command() -> None:
    """A run that takes in every new child of this process takes others, and not its own helper."""
    with ProcessDriver(600, adopts=True).prepare(Task(command=["sleep", "600"])) as cookie:
        run: Any = cookie.run()
        with started(["sleep", "600"]) as other:
            members = {process.pid for process in run._tree.members()}
            assert members == {run._command.pid, other.pid}
            assert procfs.read_process(run._watchdog.pid) is not None
            run.kill()
            other.wait(PATIENCE)  # its code may be lost: the run reaps what it takes in


# --- streams ------------------------------------------------------------------------------------------------------------------


def test_what_popen_gets(tmp_path: Path) -> None:
    """A real file goes to the command directly, after what was written to it before; others go through a pipe."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"before")
        assert runs._popen_argument(file) == file.fileno()
        assert path.read_bytes() == b"before"
    with path.open("rb") as file:
        assert runs._popen_argument(file) == file.fileno()
    assert runs._popen_argument(file) == subprocess.PIPE  # it is closed
    assert runs._popen_argument(io.BytesIO()) == subprocess.PIPE
    assert runs._popen_argument(object()) == subprocess.PIPE  # type: ignore[arg-type]
    assert runs._popen_argument(None) == subprocess.DEVNULL


class Pipe(nullcontext[None]):
    """A pipe that takes three bytes at a time, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.got, self.times, self.closed = b"", times, False

    def write(self, data: bytes) -> int:
        if not self.times:
            raise BrokenPipeError
        self.times -= 1
        self.got += data[:3]
        return len(data[:3])

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize(("times", "got"), [(100, b"0123456789"), (2, b"012345")])
def test_the_input(times: int, got: bytes) -> None:
    """All of it, in parts as the command takes them, or as much as it wants; then it ends."""
    pipe = Pipe(times)
    runs._write_input(pipe, io.BytesIO(b"0123456789"))  # type: ignore[arg-type]
    assert (pipe.got, pipe.closed) == (got, True)


class Target:
    """An output that has what was written to it once it is flushed."""

    def __init__(self) -> None:
        self.waiting, self.shown = b"", b""

    def write(self, data: bytes) -> None:
        self.waiting += data

    def flush(self) -> None:
        self.shown, self.waiting = self.shown + self.waiting, b""


@pytest.mark.parametrize("how", ["end", "stop"])
def test_the_output(how: str) -> None:
    """It is passed on at once, to its end; or, where somebody else holds the pipe, to what was there when the task ended."""
    (reading, writing), (stop, stopping), target = os.pipe(), os.pipe(), Target()
    pipe = os.fdopen(reading, "rb", buffering=0)
    thread = threading.Thread(target=runs._read_output, args=(pipe, target, stop))
    thread.start()
    os.write(writing, b"first ")
    wait_until(lambda: target.shown == b"first ")
    os.write(writing, b"last")
    if how == "end":
        os.close(writing)
    else:
        os.write(stopping, b"\n")
    thread.join(PATIENCE)
    assert not thread.is_alive() and target.shown == b"first last" and pipe.closed
    for number in (stop, stopping) if how == "end" else (stop, stopping, writing):
        os.close(number)


class Started:
    """The streams of a command, with the command's own ends of its pipes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, threads: bool = True) -> None:
        monkeypatch.setattr(runs, "_GRACE_SECONDS", 0.05)
        self.stdout = Slow()
        self.threads: list[threading.Thread] = []

        def start_thread(name: str, work: Any, *arguments: Any) -> threading.Thread:
            if not threads:
                raise RuntimeError("can't start new thread")
            self.threads.append(threading.Thread(target=work, args=arguments, name=name, daemon=True))
            self.threads[-1].start()
            return self.threads[-1]

        task = SimpleNamespace(stdin=io.BytesIO(b"in"), stdout=self.stdout, stderr=None)
        (stdin, ours), (theirs, self.stdout_end) = os.pipe(), os.pipe()
        self.stdin_end = os.fdopen(stdin, "rb")
        self.pipes = os.fdopen(ours, "wb", buffering=0), os.fdopen(theirs, "rb", buffering=0)
        self.streams = runs.Streams(SimpleNamespace(task=task, start_thread=start_thread))  # type: ignore[arg-type]
        self.process: Any = SimpleNamespace(stdin=self.pipes[0], stdout=self.pipes[1], stderr=None)

    def closed(self) -> bool:
        """Return whether nothing stays open, and close the command's ends."""
        self.stdin_end.close()
        os.close(self.stdout_end)
        return all(pipe.closed for pipe in self.pipes) and self.streams._stop is None


class Slow(io.BytesIO):
    """An output that takes its time."""

    def write(self, data: Any) -> int:
        threading.Event().wait(0.3)
        return super().write(data)


@pytest.mark.parametrize("held", [False, True])
def test_the_streams_end(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """All input and output is through, also where another process holds the output; then nothing is open, and no thread runs."""
    made = Started(monkeypatch)
    made.streams.start(made.process)
    assert made.stdin_end.read() == b"in"
    os.write(made.stdout_end, b"out")
    if not held:
        os.close(made.stdout_end)
        made.stdout_end = os.open(os.devnull, os.O_RDONLY)
    made.streams.finish()
    made.streams.finish()
    assert made.stdout.getvalue() == b"out" and made.closed()
    assert [thread.name for thread in made.threads] == ["callstats-output", "callstats-input"]
    for thread in made.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fork, and where no thread can be started: the pipes, and what stops their threads."""
    closed: list[int] = []

    def close(number: int) -> None:
        closed.append(number)
        os.close(number)

    monkeypatch.setattr(runs, "os", SimpleNamespace(**(vars(os) | {"close": close})))
    without = Started(monkeypatch, threads=False)
    with pytest.raises(RuntimeError):
        without.streams.start(without.process)
    without_stop = without.streams._stop
    without.streams.finish()
    forked = Started(monkeypatch)
    monkeypatch.setattr(forked.streams, "_start", lambda *_: None)
    forked.streams.start(forked.process)
    forked_stop = forked.streams._stop
    assert forked_stop is not None
    forked.streams.disown()
    assert without.closed() and forked.closed()
    assert sorted(closed) == sorted([*(without_stop or ()), *forked_stop])


# --- the watchdog -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not procfs._LINUX, reason="the watchdog of a process needs /proc")
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_the_watchdog(tmp_path: Path, ends: str) -> None:
    """When this program ends without a word the command is killed, with its group and whoever has the mark; else it lives."""
    folder = tmp_path / "group"
    folder.mkdir()
    mark = f"mark-{os.urandom(8).hex()}"
    sleeper = ["sleep", "600"]
    with (
        started(sleeper, process_group=0) as command,
        started(sleeper, env={"CALLSTATS_TASK": mark}) as marked,
        started(sleeper, env={"CALLSTATS_TASK": "another"}) as stranger,
    ):
        watchdog = Watchdog(mark)
        shell = watchdog._shell
        assert shell is not None and watchdog.pid == shell.pid == os.getsid(shell.pid)  # no Ctrl-C reaches it
        watchdog.watch(command.pid, str(folder))
        try:
            if ends == "badly":
                watchdog.disown()
                assert command.wait(PATIENCE) == marked.wait(PATIENCE) == -signal.SIGKILL
                assert (folder / "cgroup.kill").read_text() == "1\n"
                (folder / "cgroup.kill").unlink()
                os.waitpid(watchdog.pid, 0)
                assert not folder.exists()
            else:
                watchdog.close()
                watchdog.close()
                assert shell.returncode == 0 and command.poll() is marked.poll() is None
            assert stranger.poll() is None
        finally:
            for process in (command, marked, stranger):
                process.kill()


def test_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without a shell there is none, and nothing is asked of it."""

    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("/bin/sh")

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(**(vars(subprocess) | {"Popen": fail})))
    watchdog = Watchdog("mark")
    watchdog.watch(1, "")
    watchdog.disown()
    watchdog.close()
    assert watchdog.pid == 0


# --- what runs already --------------------------------------------------------------------------------------------------------


def followed(
    monkeypatch: pytest.MonkeyPatch, interval: float, over: float = 1e9, ends: float = 1e9, gone: float = 1e9
) -> list[tuple[str, float]]:
    """Return what is done to a sampler, and when; the block is over at a time, what it watches ends at one, and it is gone."""
    clock = Clock(over)
    monkeypatch.setattr(_watch, "monotonic", lambda: clock.now)

    def is_running() -> bool:
        clock.note("runs?")
        return clock.now < ends

    def sample() -> tuple[int, dict[str, int]] | None:
        clock.note("sample")
        return (0, {}) if clock.now < gone else None

    sampler: Any = SimpleNamespace(is_running=is_running, sample=sample, close=lambda: clock.note("close"))
    _watch.follow(sampler, interval, lambda *_: clock.note("write"), clock)  # type: ignore[arg-type]
    return clock.log


def test_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample an interval, one more at the end of the block, and no look at the processes in between."""
    sample = [("sample", 0.5), ("write", 0.5), ("runs?", 0.5)]
    assert followed(monkeypatch, 0.5, over=0.8) == [*sample, ("sample", 0.8), ("write", 0.8), ("close", 0.8)]


def test_following_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long interval the end is looked for once a second. The last sample comes once nothing runs."""
    log = followed(monkeypatch, 10, ends=1.5)
    assert log == [("runs?", 1.0), ("runs?", 2.0), ("sample", 2.0), ("write", 2.0), ("runs?", 2.0), ("close", 2.0)]
    log = followed(monkeypatch, 0.5, ends=0.7, gone=0.9)
    assert log[-4:] == [("runs?", 0.5), ("sample", 1.0), ("runs?", 1.0), ("close", 1.0)]
