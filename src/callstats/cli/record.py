"""``callstats record``, and the signals that come while it runs: they are for its command."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import Any, Self, TypeVar

import click

from callstats._json import json_text
from callstats._units import duration_text, parse_duration, plural, printable
from callstats.call import Call
from callstats.cli.errors import ExitCode, Failure, option_message, say
from callstats.cli.format import call_fields, name_text, peak_source_text, table_text
from callstats.cli.options import (
    ADDRESS,
    POSITIVE,
    SECONDS,
    SIZE,
    Parsed,
    default_database,
    default_option,
    examples,
    is_surely_database,
    tag_option,
)
from callstats.db import CallTable, connect
from callstats.db.engine import parse_url, shown_url
from callstats.drivers import FN_METRICS, DockerDriver, Driver, ProcessDriver, Status, Task, WaitResult
from callstats.drivers._record import Recording, command_of
from callstats.drivers._run import TaskRun
from callstats.drivers._watch import follow, make_sampler
from callstats.errors import ArgumentError, DatabaseError
from callstats.recorder import Recorder
from callstats.rule import KEEP_PEAKS
from callstats.stats.format import peak_memory_text, usage_text
from callstats.stats.rightsize import MIB

_BEGIN_SECONDS = 10.0
"""How long the database may take before the command starts without a row."""
_END_SECONDS = 10.0
"""How long to try to store a call that has ended."""

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
_STOPPING = [getattr(signal, name) for name in ("SIGTSTP", "SIGCHLD") if hasattr(signal, name)]
_USER_SIGNALS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]

_CONTAINER_SECONDS = 10.0
"""How long a container may continue after a signal that ends programs; the first program of a container may not heed it."""

Prepared = TypeVar("Prepared")


def _parse_interval(text: str) -> float:
    ns = parse_duration(text)
    if ns < 10**7:
        raise ArgumentError("interval", "10ms or more", text)
    return ns / 10**9


@click.command(
    "record",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "callstats record -- make test",
        "callstats record --name nightly --tag branch=main -- ./backup.sh",
        "callstats record --interval 100ms --memory 512m --timeout 60s -- python3 job.py",
        "callstats record --interval 10s --pid 4242",
        "callstats record --listen 127.0.0.1:9464 --name nightly -- ./backup.sh",
        "callstats record --driver docker --image alpine:3.20 --network none -- sh -c 'sleep 5'",
    ),
)
@click.option("--db", default=default_database, help="Where to store the call.  [default: CALLSTATS_URL, else calls.db]")
@click.option("--name", help="The name to group the call by.  [default: the image, or the program's name]")
@tag_option(help="A label. Can be repeated.")
@default_option("--driver", type=click.Choice(["process", "docker"]), default="process", help="How to run the command.")
@click.option("--image", help="The image of the container.")
@click.option("--network", help="The network that the container joins.")
@click.option("--pid", type=POSITIVE, metavar="N", help="Watch this process and its children, until it ends or Ctrl-C.")
@click.option("--cgroup", metavar="PATH", help="Watch this control group, such as /sys/fs/cgroup/system.slice/cron.service.")
@click.option(
    "--memory",
    type=SIZE,
    metavar="SIZE",
    help="Its max memory, such as 128m (k = 1024). A process is looked at 20 times a second, and may hold more until then; a "
    "container may not.  [default: any]",
)
@click.option("--timeout", type=SECONDS, metavar="TIME", help="End it after this long, such as 60s or 1h30m.  [default: never]")
@default_option(
    "--interval",
    type=Parsed("duration", _parse_interval),
    default="1s",
    metavar="TIME",
    help="Time between samples, 10ms or more. A Docker engine has its own.",
)
@default_option("--max-samples", type=POSITIVE, metavar="N", default=240, help="Store at most N rows.")
@click.option(
    "--plain",
    is_flag=True,
    help="Store Fn's exact form: at most nine metrics, means, and no counts. The kernel's peak is lost, and nothing is marked as "
    "inexact.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the call as a line of JSON, to standard error.")
@click.option(
    "--listen",
    type=ADDRESS,
    metavar="HOST:PORT",
    help='Serve the last sample to Prometheus while the command runs. It needs the extra "prometheus".',
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record_command(
    db: str,
    name: str | None,
    tags: dict[str, str],
    driver: str,
    image: str | None,
    network: str | None,
    pid: int | None,
    cgroup: str | None,
    memory: int | None,
    timeout: float | None,
    interval: float,
    max_samples: int,
    plain: bool,
    as_json: bool,
    listen: tuple[str, int] | None,
    command: tuple[str, ...],
) -> int:
    """Run a command, and store what it used.

    The command has its own input and output. Options stand before the command. --driver docker uses the engine of
    DOCKER_HOST. Signals and Ctrl-Z reach the command. At its exit, all processes that it left running are ended, those in
    sessions of their own too.

    With --pid or --cgroup, nothing is run. The watched processes continue after Ctrl-C; their end and exit code are not
    known.

    The call is in the table from the start, as running. If its end can't be stored, it is appended to a file that `callstats
    import` takes: DB.spool.jsonl beside an SQLite file, else callstats/spool.jsonl in XDG_STATE_HOME.

    The exit code is the command's own. It is 124 when the command ran out of time, and 125 when the driver failed. It is 126
    when the command can't be run, 127 when it isn't found, and 128 + n when signal n ended it.
    """
    from callstats.db.spool import keep_call

    for option, limit in (("--memory", memory), ("--timeout", timeout)):
        if limit == 0:
            raise click.UsageError(f"{option} must be more than 0, got 0: leave it out for no limit")
    if memory is not None and memory < MIB:
        raise click.UsageError(f"--memory must be 1m or more, got {plural(memory, 'byte')}: give its unit, as in 512m")
    watched = [option for option, value in (("--pid", pid), ("--cgroup", cgroup)) if value is not None]
    others = {"--driver": driver != "process", "--image": image, "--network": network, "--memory": memory, "--timeout": timeout}
    unfit = [*watched[1:], *(option for option, value in others.items() if value), *["a command"] * bool(command)]
    if watched and unfit:
        raise click.UsageError(f"{watched[0]} must be given without {unfit[0]}: it watches what runs already")
    if not command and not watched:
        raise click.UsageError("Missing argument 'COMMAND...': give the command to run, such as -- make test")
    if driver == "process" and command and is_surely_database(command[0]) and shutil.which(command[0]) is None:
        raise click.UsageError(f"COMMAND must be a program, got {command[0]!r}: a database is --db {printable(command[0])}")
    if driver == "docker" and image is None:
        raise click.UsageError("--driver docker must be given with an --image, such as --image alpine:3.20")
    for option, value in (("--image", image), ("--network", network)):
        if driver == "process" and value is not None:
            raise click.UsageError(f"{option} must be given with --driver docker: add that, or leave {option} out")
    runner: Driver = ProcessDriver(interval, adopts=True)
    if driver == "docker":
        runner = docker = DockerDriver(network=network)
        docker.validate(Task(image=image or "", command=command))  # wrong use stores no call
    try:
        sampler = make_sampler(pid, cgroup) if watched else None
    except ArgumentError as error:
        raise Failure(option_message(error, watched[0])) from None
    seen = command if sampler is None else command_of(pid) or ((cgroup or str(pid)).rstrip("/"),)
    recording = Recording(seen, name=name, tags=tags, image=image)
    with (
        Relay(container=driver == "docker") as relay,
        serving(listen, recording.call) as on_stat,
        connect(db) as table,
    ):
        recorder = Recorder(max_samples, how="mean" if plain else KEEP_PEAKS, max_bytes=_begin(table, recording.call))

        def write_stat(timestamp: int, metrics: dict[str, int]) -> None:
            recorder.write_stat(timestamp, {name: metrics[name] for name in metrics if not plain or name in FN_METRICS})
            on_stat(timestamp, metrics)

        # Python aborts at its end if a thread still reads from the buffer of the standard input.
        nobody_reads = sys.stdin is None or sys.stdin.closed or (driver == "docker" and sys.stdin.isatty())
        task = Task(
            image=image or "",
            command=command,
            stdin=None if nobody_reads else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer),
            stdout=sys.stdout.buffer,
            stderr=sys.stderr.buffer,
            timeout=timeout,
            memory=memory or 0,
            write_stat=write_stat,
        )
        recording.handed = relay.handed
        try:
            if sampler is None:
                recording.run(relay.interrupting(partial(runner.prepare, task)), relay.follow)
            else:
                recording.watch(partial(follow, sampler, interval, write_stat, relay.over))
        except Interrupted:
            recording.interrupted = relay.number
        series = recorder.end()
        call = recording.end(series, counts=not plain)
        relay.over.clear()
        spooled = keep_call(table, parse_url(db), call, seconds=_END_SECONDS, stop=relay.over.is_set)
        if as_json:
            say(json_text(call_fields(call)))
        if not as_json or spooled is not None:
            every = "the engine's samples" if image else f"samples every {duration_text(round(interval * 10**9))}"
            source = "one sample" if series.counts.sum() == 1 else every
            say(record_line(call, table_text("calls", shown_url(db)) if spooled is None else spooled, source))
            if recording.result is not None and (left := recording.result.left_running) and not relay.handed:
                say(f"callstats: ended {left:,} process{'es' * (left > 1)} that the command left running")
    if watched and recording.fault is None:
        return ExitCode.DONE
    return ExitCode.DRIVER_FAULT if call.exit_code is None else call.exit_code


@contextmanager
def serving(address: tuple[str, int] | None, call: Call) -> Iterator[Callable[[int, dict[str, int]], object]]:
    """Serve the samples of a call to Prometheus within the block, if there is an address, and yield what takes them."""
    if address is None:
        yield lambda _timestamp, _metrics: None
        return
    from callstats.adapters.prometheus import Collector, serve

    collector = Collector()
    with serve(collector, *address) as url, collector.call(name_text(call.name)) as on_stat:
        say(f"callstats: metrics at {url}")
        yield on_stat


def record_line(call: Call, where: str, source: str) -> str:
    """Return what a command used, how that is known, and where its call is."""
    usage = call.usage
    memory = peak_memory_text(usage)
    how = peak_source_text(usage) if usage.peak_source == "kernel" else source
    cpu = usage_text(usage, "cpu_mean")
    parts = [
        f"peak memory {memory} ({how})" if memory else "no sample",
        f"CPU {cpu}" if cpu else "",
        usage_text(usage, "duration_ns"),
    ]
    if call.error is not None:
        parts.append(f"{name_text(call.status)}: {call.error}")
    return printable(f"callstats: {', '.join(filter(None, parts))}; call {name_text(call.key)} in {where}")


def _begin(table: CallTable, call: Call) -> int | None:
    """Put the call's row in. A database that can't be reached now may be there at the end."""
    from callstats.db.spool import within

    try:
        return within(_BEGIN_SECONDS, lambda: table.begin(call))
    except DatabaseError:
        return None


class Interrupted(BaseException):
    """A signal came before the command was started."""


class Relay:
    """Hand signals to the command while it runs. Signals that callstats was started to ignore stay so, for the command too."""

    def __init__(self, *, container: bool) -> None:
        self.number = 0
        """The first signal that asked to end."""
        self.handed: list[int] = []
        """The signals of this kind that the command got."""
        self.over = threading.Event()
        """Set by a signal that asks to end."""
        self._interrupts = False
        self._container = container
        self._run: TaskRun | None = None
        self._stop_asked = False
        self._queue: SimpleQueue[int | None] = SimpleQueue()  # handlers must not wait for locks
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (*_ENDING, *_USER_SIGNALS):
            self._handle(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(set(self._handlers))

    def interrupting(self, prepare: Callable[[], Prepared]) -> Callable[[], Prepared]:
        """Return a function that prepares a command, and that a signal which asks to end interrupts."""

        def interrupted() -> Prepared:
            self._interrupts = True
            try:
                if self.number:
                    raise Interrupted
                prepared = prepare()
            finally:
                self._interrupts = False
            for number, handler in zip(_STOPPING, (self._stop, self._follow_stop), strict=False):
                self._handle(number, handler)
            return prepared

        return interrupted

    @contextmanager
    def follow(self, run: WaitResult) -> Iterator[None]:
        """Hand the signals to a command, also those that came while it started; and stop with it on Ctrl-Z."""
        self._interrupts = False
        assert isinstance(run, TaskRun)  # noqa: S101 - as those of both drivers are
        relay = threading.Thread(target=self._relay, args=(run,), name="callstats-signals", daemon=True)
        relay.start()
        with ExitStack() as after:
            after.callback(relay.join)
            after.callback(self._queue.put, None)
            after.callback(self._restore, set(_STOPPING))  # no stop of the command can follow
            self._run = run
            if self._stop_asked:
                self._stop()
            self._follow_stop()  # it may have stopped already
            yield

    def _handle(self, number: int, handler: Any) -> None:
        in_main = threading.current_thread() is threading.main_thread()  # no other thread may set one
        if in_main and signal.getsignal(number) is not signal.SIG_IGN:
            self._handlers[number] = signal.signal(number, handler)

    def _restore(self, numbers: set[int]) -> None:
        for number in numbers & self._handlers.keys():
            signal.signal(number, self._handlers.pop(number))

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._queue.put(number)
        if number in _ENDING:
            self.number = self.number or number
            self.over.set()
            if self._interrupts:
                raise Interrupted

    def _stop(self, *_: object) -> None:
        self._stop_asked = self._run is None
        if self._run is not None:
            self._run.suspend()

    def _follow_stop(self, *_: object) -> None:
        if self._run is not None:
            self._run.follow_stop()

    def _relay(self, run: TaskRun) -> None:
        while (number := self._queue.get()) is not None:
            if number in _ENDING:
                self.handed.append(number)
            with suppress(Exception):  # the command may have ended
                run.send_signal(number)
            if number in _ENDING and self._container:
                timer = threading.Timer(_CONTAINER_SECONDS, run.stop, (Status.CANCELLED,))
                timer.daemon = True
                timer.start()
