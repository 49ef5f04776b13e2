"""``callstats record``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import PurePath
from time import time_ns
from typing import Any

import click

from callstats._json import json_text
from callstats._timestamps import format_time
from callstats._units import printable
from callstats.call import Call, new_call_id
from callstats.cli.errors import ExitCode, catch_signals
from callstats.cli.format import call_fields, name_text, peak_memory_text, table_text
from callstats.cli.options import POSITIVE, SECONDS, SIZE, default_database, default_option, examples
from callstats.db import connect
from callstats.db.engine import shown_url
from callstats.drivers import FN_METRICS, Config, DockerDriver, Driver, ProcessDriver, Status, Task
from callstats.recorder import Recorder
from callstats.rule import KEEP_PEAKS
from callstats.stats.format import usage_text

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]


@click.command(
    "record",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "callstats record -- make test",
        "callstats record --interval 100ms --memory 512m --timeout 60s -- python3 job.py",
        "callstats record --driver docker --image alpine:3.20 --network none -- sh -c 'sleep 5'",
    ),
)
@click.option("--db", default=default_database, show_default="CALLSTATS_URL, else calls.db", help="Where to store the call.")
@default_option("--driver", type=click.Choice(["process", "docker"]), default="process", help="How to run the command.")
@click.option("--image", help="The image of the container.")
@click.option("--network", help="The network that the container joins.")
@click.option("--memory", type=SIZE, default="0", metavar="SIZE", help="Its max memory, such as 128m (k = 1024).  [default: any]")
@click.option("--timeout", type=SECONDS, metavar="TIME", help="End it after this long, such as 60s or 1h30m.  [default: never]")
@default_option(
    "--interval", type=SECONDS, default="1s", metavar="TIME", help="Time between samples. A Docker engine has its own."
)
@default_option("--max-samples", type=POSITIVE, metavar="N", default=240, help="Store at most N rows.")
@click.option("--plain", is_flag=True, help="Store Fn's exact form: at most nine metrics, means, and no counts.")
@click.option("--json", "as_json", is_flag=True, help="Print the call as a line of JSON, to standard error.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record_command(
    db: str,
    driver: str,
    image: str | None,
    network: str | None,
    memory: int,
    timeout: float | None,
    interval: float,
    max_samples: int,
    plain: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run a command with its own input and output, and store what it used.

    Options stand before the command. --driver docker uses the engine of DOCKER_HOST.

    The exit code is the command's own. It is 124 when the command ran out of time, and 125 when the driver failed. It is 126 when
    the command can't be run, 127 when it isn't found, and 128 + n when signal n ended it.
    """
    if (image is None) != (driver == "process") or (network is not None and driver == "process"):
        raise click.UsageError("--driver docker needs an --image; --image and --network must be given with --driver docker")
    runner: Driver = ProcessDriver(interval)
    if driver == "docker":
        runner = DockerDriver(Config(os.environ.get("DOCKER_HOST") or Config.docker), network=network)
    with connect(db) as table:
        table.create()
        recorder = Recorder(max_samples, how="mean" if plain else KEEP_PEAKS, max_bytes=table.max_blob_bytes())

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
        created = time_ns()
        with catch_signals(*_SIGNALS) as caught, runner.prepare(task) as cookie:
            started = time_ns()
            result = cookie.run().wait(cancel=caught)
            completed = time_ns()
        series = recorder.end()
        facts: dict[str, Any] = {
            "status": result.status.value,
            "created_at": format_time(created, digits=3),
            "started_at": format_time(started, digits=3),
            "completed_at": format_time(completed, digits=3),
            "error": None if result.error is None else str(result.error),
        }
        name = printable(image or PurePath(command[0]).name)  # a file's name may be no text
        call = Call(key=new_call_id(created // 10**6), series=series, name=name, **facts)
        stats = series.to_json(counts=not plain).decode()
        table.add([{"id": call.key, "app_id": "record", "fn_id": name, "stats": stats, **facts}])
    click.echo(json_text(call_fields(call)) if as_json else record_line(call, table_text("calls", shown_url(db))), err=True)
    ends = {Status.CANCELLED: 128 + caught.number, Status.TIMEOUT: ExitCode.TIMEOUT, Status.KILLED: 128 + signal.SIGKILL}
    return ends.get(result.status, 0 if result.error is None else result.error.exit_code)


def record_line(call: Call, table: str) -> str:
    """Return what a command used, and where its call is."""
    usage = call.usage
    memory, cpu = peak_memory_text(usage), usage_text(usage, "cpu_mean")
    parts = [f"peak memory {memory}" if memory else "no sample", f"CPU {cpu}" if cpu else "", usage_text(usage, "duration_ns")]
    if call.error is not None:
        parts.append(f"{name_text(call.status)}: {call.error}")
    return printable(f"callstats: {', '.join(filter(None, parts))}; call {name_text(call.key)} in {table}")
