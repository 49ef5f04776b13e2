"""What a driver is: it prepares a task, runs and samples it, and tells how it ended. After the Fn project's Go interfaces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import BinaryIO, Protocol, Self, runtime_checkable
from uuid import uuid4

from callstats.errors import CallstatsError


class TaskError(CallstatsError):
    """Why a task did not succeed. It is part of a result, and not raised.

    Attributes
    ----------
    exit_code : int
        What a shell would report: the task's own code, 128 + n for signal n, 126 for a command that can't be run, 127 for one
        that isn't there.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Status(StrEnum):
    """How a task stands."""

    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    """It was killed for want of memory, or by somebody else."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class RunResult:
    """The end of a task.

    Attributes
    ----------
    status : Status
    error : TaskError or None
        Why it did not succeed; None after a success.
    dropped : int
        How many frames of an engine's samples had no time, and so are in no sample.
    """

    status: Status
    error: TaskError | None = None
    dropped: int = 0


@runtime_checkable
class ContainerTask(Protocol):
    """What a driver asks of a task."""

    @property
    def id(self) -> str:
        """The name to give to the container."""

    @property
    def image(self) -> str:
        """The image to run; without meaning to a driver that knows none."""

    @property
    def command(self) -> Sequence[str]:
        """The program and its arguments; empty leaves it to the image."""

    @property
    def env(self) -> Mapping[str, str]:
        """Environment variables, on top of those that the command has anyway."""

    @property
    def stdin(self) -> BinaryIO | None:
        """What the command reads; None is nothing."""

    @property
    def stdout(self) -> BinaryIO | None:
        """Where its output goes; None is nowhere."""

    @property
    def stderr(self) -> BinaryIO | None:
        """Where its errors go; None is nowhere."""

    @property
    def timeout(self) -> float | None:
        """The most seconds that it may run; None or 0 is for ever."""

    @property
    def volumes(self) -> Sequence[tuple[str, str]]:
        """Storage as pairs of a path on the host and one in the container."""

    @property
    def memory(self) -> int:
        """The most bytes of memory; 0 is no limit."""

    @property
    def work_dir(self) -> str:
        """The working directory; empty leaves it unset."""

    def write_stat(self, timestamp: int, metrics: dict[str, int], /) -> object:
        """Take one sample. One thread calls it at a time.

        Parameters
        ----------
        timestamp : int
            Nanoseconds since the epoch, UTC.
        metrics : dict of str to int
            Unsigned 64-bit values by name; those that can't be told are left out.
        """

    def close(self) -> None:
        """Clean up after the task. Safe to call again."""


def _ignore_stat(_timestamp: int, _metrics: dict[str, int], /) -> None:
    pass


def _do_nothing() -> None:
    pass


@dataclass
class Task:
    """A ready task; each field is described in `ContainerTask`.

    Examples
    --------
    >>> from callstats import Recorder
    >>> recorder = Recorder()
    >>> task = Task(command=["sleep", "1"], timeout=5, write_stat=recorder.write_stat)
    """

    id: str = field(default_factory=lambda: f"callstats-{uuid4().hex}")
    image: str = ""
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: BinaryIO | None = None
    stdout: BinaryIO | None = None
    stderr: BinaryIO | None = None
    timeout: float | None = None
    volumes: Sequence[tuple[str, str]] = ()
    memory: int = 0
    work_dir: str = ""
    write_stat: Callable[[int, dict[str, int]], object] = _ignore_stat
    close: Callable[[], None] = _do_nothing


class WaitResult(Protocol):
    """A task that runs."""

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        """Wait for the end.

        Parameters
        ----------
        timeout : float, optional
            Seconds from now after which the task is ended with status ``timeout``. The task's own timeout holds too.
        cancel : threading.Event, optional
            Once set, by any thread, the task is ended with status ``cancelled``.

        Returns
        -------
        RunResult
            A second call gives the same.
        """


class Cookie(Protocol):
    """One request to run a task. Close it whether or not it ran."""

    def run(self) -> WaitResult:
        """Start the task, once.

        Returns
        -------
        WaitResult
            What is wrong with the task comes out of it as a result.

        Raises
        ------
        DriverError
            For the driver's own fault, and when the cookie was run or closed before.
        """

    def close(self) -> None:
        """Release all that the task used, and end it if it still runs. Safe to call again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Driver(Protocol):
    """Runs tasks in some way of its own."""

    def prepare(self, task: ContainerTask) -> Cookie:
        """Do what can be done before the task runs, such as pulling its image.

        Parameters
        ----------
        task : ContainerTask

        Returns
        -------
        Cookie
            To be closed whether or not it is run.

        Raises
        ------
        DriverError
            When the driver can't take the task. It may be tried again.
        """


@dataclass(frozen=True)
class Config:
    """Settings of an engine; as JSON under the names that Fn's Go server gives them.

    Parameters
    ----------
    docker : str
        The address of the Docker engine.
    cpu_shares : int
        The weight of a container's processor time; 0 leaves it to the engine.

    Examples
    --------
    >>> Config.from_json('{"cpu_shares": 512}')
    Config(docker='unix:///var/run/docker.sock', cpu_shares=512)
    >>> Config().to_json()
    '{"docker":"unix:///var/run/docker.sock","cpu_shares":0}'
    """

    docker: str = "unix:///var/run/docker.sock"
    cpu_shares: int = 0

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """Read settings.

        Parameters
        ----------
        text : str or bytes
            A JSON object. What is missing has its default, and what is unknown is passed over.

        Returns
        -------
        Config

        Raises
        ------
        CallstatsError
            For anything but a JSON object, and a value of another type.
        """
        try:
            given = json.loads(text)
        except ValueError as error:
            raise CallstatsError(f"expected a configuration as JSON: {error}") from None
        if not isinstance(given, dict):
            raise CallstatsError(f"expected a configuration as a JSON object, got {type(given).__name__}")
        known = {name: given[name] for name in ("docker", "cpu_shares") if given.get(name) is not None}
        if not isinstance(known.get("docker", ""), str):
            raise CallstatsError(f"docker must be text, got {known['docker']!r}")
        if type(known.get("cpu_shares", 0)) is not int:
            raise CallstatsError(f"cpu_shares must be a whole number, got {known['cpu_shares']!r}")
        return cls(**known)

    def to_json(self) -> str:
        """The settings as compact JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)
