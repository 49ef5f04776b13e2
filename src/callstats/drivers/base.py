"""The drivers' interfaces, after those of the Fn project's Go server: tasks, their results, and what runs them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import BinaryIO, Protocol, Self, runtime_checkable
from uuid import uuid4

from callstats.errors import ArgumentError, CallstatsError


class TaskError(CallstatsError):
    """Why a task did not succeed. It is part of a result, and never raised.

    Attributes
    ----------
    exit_code : int
        The code that a shell would report: the task's own, 128 + n for signal n, 126 for a command that can't be run, and 127
        for a missing command.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Status(StrEnum):
    """The state of a task."""

    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    """It ran out of memory, or another program sent SIGKILL."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class RunResult:
    """The end of a task."""

    status: Status
    error: TaskError | None = None
    """None after a success."""
    dropped: int = 0
    """Number of the engine's frames that gave no sample, such as those without a time."""
    out_of_memory: bool = False
    """Whether the kernel killed a process of the task for want of memory. The command itself may have succeeded."""
    left_running: int = 0
    """Number of processes that the command left running at its exit, and that the driver ended; 0 where it can't tell."""


@runtime_checkable
class ContainerTask(Protocol):
    """The fields that a driver reads from a task. `Task` describes them, and implements them."""

    @property
    def id(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def command(self) -> Sequence[str]: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def stdin(self) -> BinaryIO | None: ...
    @property
    def stdout(self) -> BinaryIO | None: ...
    @property
    def stderr(self) -> BinaryIO | None: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def volumes(self) -> Sequence[tuple[str, str]]: ...
    @property
    def memory(self) -> int: ...
    @property
    def work_dir(self) -> str: ...

    def write_stat(self, timestamp: int, metrics: dict[str, int], /) -> object:
        """Take one sample: nanoseconds since the epoch, UTC, and the known metrics by name. One thread calls it at a time."""

    def close(self) -> None:
        """Clean up after the task. A second call does nothing."""


@dataclass
class Task:
    """A command to run, and what it may use.

    Parameters
    ----------
    id : str
        A name for the task, by default a random one. Several tasks may have the same. A container has it as its name where the
        engine allows it, and always as the label ``callstats.task``.
    image : str
        The name of the container's image, or its ID; `ProcessDriver` ignores it.
    command : sequence of str
        The program and its arguments. An empty one stands for the image's own.
    env : mapping of str to str
        Environment variables, added to those that the command has anyway.
    stdin, stdout, stderr : binary file, optional
        The command's input, output and errors. With None, the input is empty and outputs are discarded.
    timeout : float, optional
        Max seconds to run. None and 0 are no limit.
    volumes : sequence of (str, str)
        Paths on the host to mount, each with its path in the container.
    memory : int
        Max bytes of memory; 0 is no limit.
    work_dir : str
        The working directory; an empty one leaves the default.
    write_stat, close : callable
        The methods of a `ContainerTask`.
    on_stat : callable, optional
        It is called with the time and a copy of each sample once that is written, to feed a live view or a log. An error in it is
        logged, and never harms the recording.

    Raises
    ------
    ArgumentError
        For a `memory` or a `timeout` that is negative or no number, and for a name in `env` that is empty or holds ``=``.

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
    write_stat: Callable[[int, dict[str, int]], object] = field(default=lambda _timestamp, _metrics: None)
    close: Callable[[], None] = field(default=lambda: None)
    on_stat: Callable[[int, dict[str, int]], object] | None = None

    def __post_init__(self) -> None:
        validate_task(self)


def validate_task(task: ContainerTask) -> None:
    """Raise an ArgumentError for a memory or a timeout that limits nothing, and for an environment that none can have."""
    if type(task.memory) is not int or task.memory < 0:
        raise ArgumentError("memory", "a whole number of bytes, 0 or more", task.memory)
    validate_timeout(task.timeout)
    for name in task.env:
        if not name or "=" in name or "\0" in name:
            raise ArgumentError("env", "a mapping whose names are not empty, and have no '=' and no NUL", name)


def validate_timeout(seconds: float | None) -> None:
    if seconds is not None and (type(seconds) not in (int, float) or not seconds >= 0):
        raise ArgumentError("timeout", "0 or more seconds, or None", seconds)


class WaitResult(Protocol):
    """A task that was started."""

    def wait(self, timeout: float | None = None, cancel: threading.Event | None = None) -> RunResult:
        """Wait for the end, which is the same for each call.

        Parameters
        ----------
        timeout : float, optional
            Seconds from now after which the task ends with status ``timeout``, unless its own timeout is earlier.
        cancel : threading.Event, optional
            Any thread may set it, and the task ends with status ``cancelled``.
        """


class Cookie(Protocol):
    """One request to run a task. Close it whether or not it ran."""

    def run(self) -> WaitResult:
        """Start the task, once. A task that can't be started is a result.

        Raises
        ------
        DriverError
            When the driver fails, and for a cookie that was run or closed before.
        """

    def close(self) -> None:
        """End the task if it still runs, and release what it used. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Driver(Protocol):
    """A way to run and sample tasks."""

    def prepare(self, task: ContainerTask) -> Cookie:
        """Do the work that can precede a run, such as pulling an image.

        Raises
        ------
        DriverError
            When the driver can't take the task. You may try again.
        ImportError
            When a package that the driver needs is missing.
        """


@dataclass(frozen=True)
class Config:
    """Settings of an engine. As JSON, they have the names of Fn's Go server.

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
        """Decode a JSON object. Missing and null settings have their defaults, and unknown ones are ignored.

        Raises
        ------
        ArgumentError
            For other text, and for a setting of another type.
        """
        try:
            fields = json.loads(text)
            config = cls(**{name: fields[name] for name in ("docker", "cpu_shares") if fields.get(name) is not None})
        except (ValueError, AttributeError):
            raise ArgumentError("text", "a JSON object", text) from None
        if not isinstance(config.docker, str):
            raise ArgumentError("docker", "text", config.docker)
        if type(config.cpu_shares) is not int:
            raise ArgumentError("cpu_shares", "a whole number", config.cpu_shares)
        return config

    def to_json(self) -> str:
        """Encode the settings as compact JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)
