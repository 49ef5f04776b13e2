"""``callstats record``."""

from __future__ import annotations

import sys
from functools import partial

import click

from callstats._json import is_text, json_text
from callstats._units import duration_text, printable
from callstats.call import Call
from callstats.cli.errors import ExitCode, say
from callstats.cli.format import call_fields, name_text, peak_memory_text, table_text
from callstats.cli.options import POSITIVE, SECONDS, SIZE, default_database, default_option, examples
from callstats.cli.signals import Interrupted, Relay
from callstats.db import CallTable, connect
from callstats.db.engine import parse_url, shown_url
from callstats.drivers import FN_METRICS, DockerDriver, Driver, ProcessDriver, Task
from callstats.drivers._record import Recording, command_of
from callstats.drivers._watch import follow, make_sampler
from callstats.errors import DatabaseError
from callstats.recorder import Recorder
from callstats.rule import KEEP_PEAKS
from callstats.stats.format import usage_text

_BEGIN_SECONDS = 10.0
"""How long the database may take before the command starts without a row."""
_END_SECONDS = 10.0
"""How long to try to store a call that has ended."""


def _parse_tags(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not name or not mark or name in tags or not is_text(text):
            raise click.UsageError(f"--tag must be NAME=VALUE, each name once, got {printable(text)!r}")
        tags[name] = value
    return tags


@click.command(
    "record",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "callstats record -- make test",
        "callstats record --name nightly --tag branch=main -- ./backup.sh",
        "callstats record --interval 100ms --memory 512m --timeout 60s -- python3 job.py",
        "callstats record --interval 10s --pid 4242",
        "callstats record --driver docker --image alpine:3.20 --network none -- sh -c 'sleep 5'",
    ),
)
@click.option("--db", default=default_database, show_default="CALLSTATS_URL, else calls.db", help="Where to store the call.")
@click.option("--name", help="The name to group the call by.  [default: the image, or the program's name]")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=_parse_tags, help="A label. Can be repeated.")
@default_option("--driver", type=click.Choice(["process", "docker"]), default="process", help="How to run the command.")
@click.option("--image", help="The image of the container.")
@click.option("--network", help="The network that the container joins.")
@click.option("--pid", type=POSITIVE, metavar="N", help="Watch this process and its children, until it ends or Ctrl-C.")
@click.option("--cgroup", metavar="PATH", help="Watch this control group, such as /sys/fs/cgroup/system.slice/cron.service.")
@click.option("--memory", type=SIZE, default="0", metavar="SIZE", help="Its max memory, such as 128m (k = 1024).  [default: any]")
@click.option("--timeout", type=SECONDS, metavar="TIME", help="End it after this long, such as 60s or 1h30m.  [default: never]")
@default_option(
    "--interval",
    type=SECONDS,
    default="1s",
    metavar="TIME",
    help="Time between samples, 10ms or more. A Docker engine has its own.",
)
@default_option("--max-samples", type=POSITIVE, metavar="N", default=240, help="Store at most N rows.")
@click.option("--plain", is_flag=True, help="Store Fn's exact form: at most nine metrics, means, and no counts.")
@click.option("--json", "as_json", is_flag=True, help="Print the call as a line of JSON, to standard error.")
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
    memory: int,
    timeout: float | None,
    interval: float,
    max_samples: int,
    plain: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run a command with its own input and output, and store what it used.

    Options stand before the command. --driver docker uses the engine of DOCKER_HOST. Signals and Ctrl-Z reach the command.

    With --pid or --cgroup, nothing is run. The watched processes continue after Ctrl-C; their end and exit code are not known.

    The call is in the table from the start, as running. If its end can't be stored, it is appended to a file that `callstats
    import` takes: DB.spool.jsonl beside an SQLite file, else callstats/spool.jsonl in XDG_STATE_HOME.

    The exit code is the command's own. It is 124 when the command ran out of time, and 125 when the driver failed. It is 126 when
    the command can't be run, 127 when it isn't found, and 128 + n when signal n ended it.
    """
    from callstats.db.spool import keep_call

    watched = [option for option, value in (("--pid", pid), ("--cgroup", cgroup)) if value is not None]
    if watched and (command or len(watched) > 1 or image or network or memory or timeout or driver != "process"):
        raise click.UsageError(f"{watched[0]} must be given without a command, and without options for one")
    if not command and not watched:
        raise click.UsageError("Missing argument 'COMMAND...'.")
    if (image is None) != (driver == "process") or (network is not None and driver == "process"):
        raise click.UsageError("--driver docker needs an --image; --image and --network must be given with --driver docker")
    runner: Driver = ProcessDriver(interval, adopts=True)
    if driver == "docker":
        runner = DockerDriver(network=network)
    sampler = make_sampler(pid, cgroup) if watched else None
    seen = command if sampler is None else command_of(pid) or ((cgroup or str(pid)).rstrip("/"),)
    recording = Recording(seen, name=name, tags=tags, image=image)
    with Relay(container=driver == "docker") as relay, connect(db) as table:
        recorder = Recorder(max_samples, how="mean" if plain else KEEP_PEAKS, max_bytes=_begin(table, recording.call))

        def write_stat(timestamp: int, metrics: dict[str, int]) -> None:
            recorder.write_stat(timestamp, {name: metrics[name] for name in metrics if not plain or name in FN_METRICS})

        nobody_reads = sys.stdin is None or sys.stdin.closed or (driver == "docker" and sys.stdin.isatty())
        task = Task(
            image=image or "",
            command=command,
            stdin=None if nobody_reads else sys.stdin.buffer,
            stdout=sys.stdout.buffer,
            stderr=sys.stderr.buffer,
            timeout=timeout,
            memory=memory,
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
        call = recording.end(recorder.end(), counts=not plain)
        relay.over.clear()
        spooled = keep_call(table, parse_url(db), call, seconds=_END_SECONDS, stop=relay.over.is_set)
        if spooled is None and recording.fault is not None and recording.started is None:
            raise recording.fault  # nothing ran
        if as_json:
            say(json_text(call_fields(call)))
        if not as_json or spooled is not None:
            source = "the engine's samples" if image else f"samples every {duration_text(round(interval * 10**9))}"
            say(record_line(call, table_text("calls", shown_url(db)) if spooled is None else spooled, source))
    if watched and recording.fault is None:
        return ExitCode.DONE
    return ExitCode.DRIVER_FAULT if call.exit_code is None else call.exit_code


def record_line(call: Call, where: str, source: str) -> str:
    """Return what a command used, how that is known, and where its call is."""
    usage = call.usage
    memory = peak_memory_text(usage)
    if usage.peak_source == "kernel":
        memory = f"peak memory {memory} (the kernel's count)"
    elif memory:
        memory = f"peak memory {'' if usage.peak_ceiling else 'at least '}{memory} ({source})"
    cpu = usage_text(usage, "cpu_mean")
    parts = [memory or "no sample", f"CPU {cpu}" if cpu else "", usage_text(usage, "duration_ns")]
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
