"""``callstats record``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from time import time_ns
from types import FrameType
from typing import IO, BinaryIO

import click

from callstats import Recorder, Rule
from callstats._timestamps import format_time
from callstats._units import printable
from callstats.call import new_call_id
from callstats.cli.exits import DriverFault, ExitCode
from callstats.cli.lines import recorded_line
from callstats.cli.options import COUNT, KEPT, duration, examples, size
from callstats.db import connect
from callstats.db.engine import shown_url
from callstats.drivers import FN_METRICS, Config, DockerDriver, Driver, DriverError, ProcessDriver, RunResult, Status, Task

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]


@click.command(
    "record",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples(
        "callstats record -- make test",
        "callstats record --interval 100ms --memory 512m --timeout 60s -- python3 job.py",
        "callstats record --driver docker --image alpine:3.20 --network none -- sh -c 'sleep 5'",
    ),
)
@click.option("--db", envvar="CALLSTATS_URL", default="calls.db", show_default=True, help="Where to store the call.")
@click.option("--driver", type=click.Choice(["process", "docker"]), default="process", show_default=True, help="What runs it.")
@click.option("--image", help="The image of the container.")
@click.option("--network", help="The network that the container joins.")
@click.option("--memory", type=size, default="0", help="The most memory that it may take, such as 128m; by default any.")
@click.option("--timeout", type=duration, help="The longest that it may run, such as 60s; by default for ever.")
@click.option("--interval", type=duration, default="1s", show_default=True, help="Time between samples; an engine has its own.")
@click.option("--max-samples", type=COUNT, metavar="N", default=240, show_default=True, help="The most rows to store.")
@click.option("--plain", is_flag=True, help="Store Fn's exact shape: nine metrics at most, means alone, no counts.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def record_command(
    ctx: click.Context,
    db: str,
    driver: str,
    image: str | None,
    network: str | None,
    memory: int,
    timeout: float | None,
    interval: float,
    max_samples: int,
    plain: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command with its own input and output, and store what it used.

    Ends with the command's own exit code; 124 when it ran out of time, 125 when the driver failed, 126 and 127 when it can't be
    run and isn't there, 128 + n when signal n ended it. The engine of --driver docker is the one that DOCKER_HOST names.
    """
    if (image is None) != (driver == "process") or (network is not None and driver == "process"):
        raise click.UsageError("--driver docker needs an --image, which like --network is without meaning to a process")
    runner = _driver(driver, network, interval)
    calls = connect(db)
    calls.create()
    recorder = Recorder(Rule(max_samples, how="mean" if plain else KEPT, max_bytes=calls.max_blob_bytes()))
    task = Task(
        image=image or "",
        command=command,
        stdin=_stream(sys.stdin, terminal=driver == "process"),
        stdout=_stream(sys.stdout),
        stderr=_stream(sys.stderr),
        timeout=timeout,
        memory=memory,
        write_stat=_only_fn(recorder) if plain else recorder.write_stat,
    )
    created = time_ns()
    with _signals() as caught:
        started, result = _run(runner, task, caught)
    ended, series = time_ns(), recorder.end()
    call = {
        "id": new_call_id(created // 10**6),
        "app_id": "record",
        "fn_id": printable(image or PurePath(command[0]).name),  # a file's name may be no text
        "status": result.status.value,
        **{
            f"{what}_at": format_time(time, digits=3)
            for what, time in (("created", created), ("started", started), ("completed", ended))
        },
        "stats": series.to_json(counts=not plain).decode(),
        "error": None if result.error is None else str(result.error),
    }
    calls.add([call])
    click.echo(printable(recorded_line(call, series, ended - started, result, shown_url(db))), err=True)
    ctx.exit(_exit_code(result, caught))


class _Caught(threading.Event):
    """A signal that asks to stop."""

    number = 0


def _driver(driver: str, network: str | None, interval: float) -> Driver:
    if driver == "process":
        return ProcessDriver(interval)
    config = Config()
    return DockerDriver(Config(os.environ.get("DOCKER_HOST") or config.docker), network=network)


def _run(runner: Driver, task: Task, caught: _Caught) -> tuple[int, RunResult]:
    """When it began, and how it ended."""
    try:
        with runner.prepare(task) as cookie:
            started = time_ns()
            return started, cookie.run().wait(cancel=caught)
    except DriverError as error:
        raise DriverFault(str(error)) from None


@contextmanager
def _signals() -> Iterator[_Caught]:
    """Signals that would end callstats end the command first."""
    caught = _Caught()

    def note(number: int, _frame: FrameType | None) -> None:
        caught.number = caught.number or number
        caught.set()

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = [(number, signal.signal(number, note)) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        yield caught
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _exit_code(result: RunResult, caught: _Caught) -> int:
    if result.status is Status.CANCELLED:
        return 128 + caught.number
    if result.status is Status.TIMEOUT:
        return ExitCode.TIMEOUT
    if result.status is Status.KILLED:
        return 128 + signal.SIGKILL
    return 0 if result.error is None else result.error.exit_code


def _only_fn(recorder: Recorder) -> Callable[[int, dict[str, int]], None]:
    """Samples without the metrics that Fn does not know."""

    def write(timestamp: int, metrics: dict[str, int]) -> None:
        recorder.write_stat(timestamp, {name: value for name, value in metrics.items() if name in FN_METRICS})

    return write


def _stream(stream: IO[str], *, terminal: bool = True) -> BinaryIO | None:
    """The bytes under a text stream; None where there are none, and for a terminal that nobody may read from."""
    try:
        return None if stream.isatty() and not terminal else stream.buffer  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return None
