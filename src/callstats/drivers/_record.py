"""record(): run a command and return its call; and Recording, on which the command `callstats record` stands too."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path, PurePath
from time import time_ns
from typing import BinaryIO, Literal, Protocol

from callstats._json import is_text
from callstats._timestamps import format_time
from callstats._units import printable
from callstats.call import RUNNING, Call, new_call_id
from callstats.drivers.base import Cookie, Driver, RunResult, Status, Task, WaitResult
from callstats.drivers.docker import DockerDriver
from callstats.drivers.process import ProcessDriver
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DriverError, suggest_keywords
from callstats.recorder import Recorder
from callstats.rule import KEEP_PEAKS, Rule, make_rule
from callstats.series import StatSeries

_MAX_NAME = 256
"""Characters of a name that the column of a new table can hold."""
_MAX_TEXT = 8192
"""Max characters of a stored command line or error: MySQL's TEXT ends at 65,535 bytes."""

TIMED_OUT = 124
"""The exit code of a command that ran out of time, as `timeout` reports it."""
_SIGNALLED = 128
"""A shell's exit code is this and the number of the signal that has ended a command."""


class CallStore(Protocol):
    """The part of a `CallTable` that `record` needs."""

    def begin(self, call: Call) -> int | None: ...
    def finish(self, calls: Iterable[Call]) -> int: ...


@suggest_keywords
def record(
    command: Sequence[str],
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    driver: Literal["process", "docker"] | Driver = "process",
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    memory: int | None = None,
    timeout: float | None = None,
    interval: float = 1.0,
    rule: Rule | int | None = Rule(240),  # noqa: B008 - it is frozen
    on_stat: Callable[[int, dict[str, int]], object] | None = None,
    into: CallStore | None = None,
) -> Call:
    """Run a command, sample it, and return its call.

    Its output and errors are those of this program. Its input is empty. Processes that it leaves running are ended at its exit.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    name : str, optional
        What to group the call by. By default the image, or the program's file name.
    tags : mapping of str to str, optional
        Free-form labels.
    driver : {"process", "docker"} or Driver
        How to run the command: as a process of this machine, as a container of the Docker engine of ``DOCKER_HOST``, or by a
        driver of your own.
    image : str, optional
        The image of the container, for ``"docker"``.
    env : mapping of str to str, optional
        Further environment variables.
    memory : int, optional
        Max bytes of memory. The command is killed when it holds more. A process, which is looked at 20 times a second, may hold
        more until then; a container may not.
    timeout : float, optional
        Max seconds to run.
    interval : float
        Seconds between two samples, 0.01 or more. A Docker engine has its own.
    rule : Rule or int
        How to reduce the samples. By default, the max of memory and CPU use is kept beside the mean.
    on_stat : callable, optional
        Called with the time and the metrics of each sample, in another thread. Its errors are logged, and harm nothing.
    into : CallTable, optional
        Where to store the call: with the status ``running`` before the command starts, and as a whole at its end.

    Returns
    -------
    Call
        Also of a command that failed: `status`, `exit_code` and `error` say how it ended.

    Raises
    ------
    DriverError
        If the driver fails. The call so far is stored, and is the error's `call`.
    DatabaseError
        If the call can't be stored at its end. The error's `call` has it.

    Notes
    -----
    It needs the extra ``callstats[process]`` or ``callstats[docker]``. It waits for the command: ``await
    asyncio.to_thread(record, ["make"])`` lets an event loop continue meanwhile.

    Examples
    --------
    >>> call = record(["sh", "-c", "exit 3"], name="build", tags={"branch": "main"})
    >>> call.status, call.exit_code, call.name
    ('error', 3, 'build')
    """
    if isinstance(command, (str, bytes)) or not all(isinstance(word, str) for word in command) or not command:
        hint = "shlex.split makes one of it" if isinstance(command, str) and command else None
        raise ArgumentError("command", "a list of one word or more", command, hint=hint)
    if into is not None and not (hasattr(into, "begin") and hasattr(into, "finish")):
        raise ArgumentError("into", "a CallTable, such as connect('x.db')", into)
    runner = make_driver(driver, interval, image)
    recording = Recording(command, name=name, tags=tags, image=image)
    task = Task(
        image=image or "",
        command=command,
        env=env or {},
        stdout=_descriptor(1),
        stderr=_descriptor(2),
        timeout=timeout,
        memory=memory or 0,
        on_stat=on_stat,
    )
    rule = make_rule(rule, None, None, None).with_default(KEEP_PEAKS)
    if isinstance(runner, DockerDriver):
        runner.validate(task)  # wrong use stores nothing
    if into is not None:
        limits = [limit for limit in (rule.max_bytes, into.begin(recording.call)) if limit is not None]
        rule = replace(rule, max_bytes=min(limits, default=None))
    recorder = Recorder(rule)
    task.write_stat = recorder.write_stat
    try:
        recording.run(lambda: runner.prepare(task))
    except BaseException:  # such as Ctrl-C
        if into is not None:
            with suppress(CallstatsError):
                into.finish([replace(recording.end(recorder.end()), status=Status.CANCELLED.value)])
        raise
    call = recording.end(recorder.end())
    try:
        if into is not None:
            into.finish([call])
        if recording.fault is not None:
            raise recording.fault
    except (DatabaseError, DriverError) as error:
        error.call = call
        raise
    return call


def make_driver(driver: Literal["process", "docker"] | Driver, interval: float, image: str | None) -> Driver:
    """Return the driver of that name."""
    if not isinstance(driver, str):
        return driver
    if (image is None) == (driver == "docker"):
        raise ArgumentError(
            "image", "given with the driver docker" if image is None else "left out without the driver docker", image
        )
    if driver == "process":
        return ProcessDriver(interval)
    if driver == "docker":
        return DockerDriver()
    raise ArgumentError("driver", "process, docker or a Driver", driver)


class Recording:
    """One call from before its start to its end: who, when, and how it ended."""

    def __init__(
        self, command: Sequence[str], *, name: str | None = None, tags: Mapping[str, str] | None = None, image: str | None = None
    ) -> None:
        created = time_ns()
        if name is None:
            name = printable(image or PurePath((*command, "")[0]).name)[:_MAX_NAME]  # a file's name may be no text
        elif not 0 < len(name) <= _MAX_NAME or not is_text(name):
            raise ArgumentError("name", f"text of 1 to {_MAX_NAME} characters", name)
        self.call = Call(
            key=new_call_id(created // 10**6),
            series=StatSeries([], {}),
            status=RUNNING,
            name=name,
            tags=dict(tags or {}),
            created_at=format_time(created),
            command=printable(shlex.join(command))[:_MAX_TEXT] or None,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        self.result: RunResult | None = None
        self.fault: Exception | None = None
        self.handed: Sequence[int] = ()
        """The signals that ask to end and that were handed to the command."""
        self.interrupted = 0
        """The signal that came before the command was started."""
        self._watched = False
        self.started: int | None = None
        self._completed: int | None = None

    def run(
        self, prepare: Callable[[], Cookie], follow: Callable[[WaitResult], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """Prepare a task and run it to its end, within `follow`. An error is kept as `fault`."""
        try:
            with prepare() as cookie:
                self.started = time_ns()
                run = None
                try:
                    with follow(run := cookie.run()):
                        self.result = run.wait()
                finally:  # our drivers' launch and clean-up are no part of the command
                    self._completed = getattr(run, "ended_at", None) or time_ns()
                    self.started = getattr(run, "began_at", None) or self.started
        except Exception as fault:  # noqa: BLE001 - the samples are stored whatever happens
            self.fault = fault

    def watch(self, wait: Callable[[], object]) -> None:
        """Wait for the end of the watch over something that runs already. Nothing is known of its own end."""
        self._watched = True
        self.started = time_ns()
        try:
            wait()
        except Exception as fault:  # noqa: BLE001 - as above
            self.fault = fault
        self._completed = time_ns()

    def end(self, series: StatSeries, *, counts: bool = True) -> Call:
        """Return the call with its end. Its series is as it comes back from a table."""
        status, code = Status.ERROR, None
        reasons: list[object] = [self.fault]
        if self.result is not None:
            status = self.result.status
            oom = "a process ran out of memory" if self.result.out_of_memory else None
            reasons = [self.result.error or oom, self.fault]
            code = 0 if self.result.error is None else self.result.error.exit_code
            if status is Status.ERROR and code - _SIGNALLED in {*self.handed, signal.SIGINT}:
                status = Status.CANCELLED
            elif status is Status.CANCELLED and self.handed:
                code = _SIGNALLED + self.handed[0]
            code = {Status.TIMEOUT: TIMED_OUT, Status.KILLED: _SIGNALLED + signal.SIGKILL}.get(status, code)
        elif self.interrupted:
            status, code = Status.CANCELLED, _SIGNALLED + self.interrupted
        error = "; ".join(str(reason) for reason in reasons if reason is not None) or None
        return replace(
            self.call,
            series=StatSeries.from_json(series.to_json(counts=counts)),
            status=None if self._watched and self.fault is None else status.value,
            exit_code=code,
            error=None if error is None else error[:_MAX_TEXT],
            started_at=None if self.started is None else format_time(self.started),
            # Up to a whole microsecond, so that no call tells more CPU than it had time for.
            completed_at=None if self._completed is None else format_time(self._completed + 999),
        )


def command_of(pid: int | None) -> list[str]:
    """Return the command line of a process; an empty one where the system does not tell."""
    with suppress(OSError):
        if pid is not None:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    return []


def _descriptor(number: int) -> BinaryIO | None:
    """Return a standard stream of this program, after what it has written so far; None if it is closed."""
    stream = {1: sys.stdout, 2: sys.stderr}[number]
    try:
        if stream is not None:
            stream.flush()
        os.fstat(number)
        return open(number, "wb", buffering=0, closefd=False)
    except (OSError, ValueError):
        return None
