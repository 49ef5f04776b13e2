"""``callstats reduce``."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import click

from callstats._files import replace_file
from callstats._json import json_text
from callstats._timestamps import format_time
from callstats._units import percent_text, plural, printable
from callstats.adapters.files import STANDARD, is_blob_file
from callstats.cli.errors import ExitCode, catch_ctrl_c, exit_code
from callstats.cli.format import key_text, less_text, short_number, stopped_lines, table_text
from callstats.cli.options import (
    DURATION,
    HOW,
    PAST,
    POSITIVE,
    POSITIVE_SIZE,
    SECONDS,
    TIER,
    WholeNumber,
    check_output,
    column_options,
    default_option,
    examples,
    merge_how,
    open_calls,
    shown_source,
    source,
    validate_options,
    where_option,
)
from callstats.cli.progress import JSONLog, ProgressLine, rate_text
from callstats.db import CallTable, Change, ReduceResult, Reject
from callstats.db.engine import parse_url, shown_url
from callstats.db.jobs.save import known_line
from callstats.errors import ArgumentError, DatabaseError
from callstats.rule import OTHERS, How, Missing, Rule

_MEASURABLE_SECONDS = 0.1
"""The speed of a shorter job, and a shorter phase, are not reported: they round to 0."""
_MAX_SAMPLES = "a whole number, 1 or more (with a file, 0 too)"


@click.command(
    "reduce",
    epilog=examples(
        "callstats reduce calls.db --max-samples 60 --dry-run",
        "callstats reduce calls.db --max-samples 60 --save old.jsonl",
        "callstats reduce calls.db --max-bytes 64k --where \"status = 'success'\"",
        "callstats reduce calls.db --max-samples 12 --how net_rx=mean,max",
        "callstats reduce mysql://fn@db/funcs --tier 7d=60 --tier 30d=12 --sleep 100ms --run-time 2h",
        "callstats reduce calls.parquet -o reduced.parquet --max-samples 60",
        "callstats reduce - --max-samples 60 < blobs.jsonl > reduced.jsonl",
    ),
)
@click.argument("text", required=False, metavar="[DB|FILE]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The new file for a file's calls. - is standard output, and the default where the input is -.",
)
@click.option("--max-samples", type=WholeNumber(0, what=_MAX_SAMPLES), metavar="N", help="Keep at most N rows of each histogram.")
@click.option(
    "--max-bytes",
    type=POSITIVE_SIZE,
    metavar="SIZE",
    help="Keep at most so many bytes of each histogram, such as 65535 or 64k (1024 bytes a k). The column's own limit, such as "
    "that of MySQL's TEXT, always holds.",
)
@click.option(
    "--tier",
    "tiers",
    type=TIER,
    multiple=True,
    metavar="AGE=N",
    help="Keep at most N rows of a histogram of this age or older, such as 90s, 30min, 12h, 7d or 4w. Can be repeated: the "
    "oldest tier that fits counts. Calls younger than every tier stay unchanged. N = 0 empties the histogram.",
)
@default_option("--time-column", default="created_at", help="The column with calls' times: timestamps, or RFC 3339 text.")
@click.option(
    "--as-of",
    type=PAST,
    metavar="TIME",
    help="The time from which ages are measured: RFC 3339, a date, or 7d for so long ago.  [default: now]",
)
@click.option(
    "--how",
    "hows",
    type=HOW,
    multiple=True,
    metavar="[METRIC=]REDUCER,...",
    help="Reduce one metric, or all, by mean, min, max, first, last or sum. Further reducers are kept beside the first, as "
    "METRIC@max and so on. Can be repeated.  [default: mean; mean,max of mem_usage, mem_working and cpu_total; max of mem_limit]",
)
@default_option(
    "--missing",
    type=click.Choice(["skip", "zero"]),
    default="skip",
    help="Samples without a metric: skip them, or count them as 0, as Fn does.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Write Fn's exact form: means, and no counts, so that nothing is marked as inexact. Peaks that are present are kept.",
)
@where_option
@click.option("--verify", is_flag=True, help="Read and check every row, and not only those long enough to be reduced.")
@click.option("--dry-run", is_flag=True, help="Report what would change, and write nothing.")
@click.option("--save", type=click.Path(), metavar="FILE", help="Save the old histograms to a new file, for `callstats import`.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write rejected keys and the reasons, if any, to a new file of JSON lines.",
)
@click.option(
    "--known",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file of rejected rows from an earlier run: while their text is the same, they do not make this run fail.",
)
@default_option("--batch-size", type=POSITIVE, default=1000, metavar="N", help="Rows in a transaction.")
@default_option("--batch-bytes", type=POSITIVE_SIZE, default="32m", metavar="SIZE", help="Bytes in a transaction.")
@click.option("--sleep", type=SECONDS, default="0", metavar="TIME", help="Wait between batches, such as 100ms.")
@click.option(
    "--run-time", type=DURATION, metavar="TIME", help="Stop starting batches after this long, such as 2h. Run again to continue."
)
@click.option("--limit", type=POSITIVE, metavar="N", help="Change at most N rows. Run again to continue.")
@default_option(
    "--retries",
    type=WholeNumber(0),
    default=10,
    metavar="N",
    help="Retry a batch at most N times in a row when a lock or the connection fails.",
)
@click.option(
    "--secure-delete/--no-secure-delete",
    default=None,
    help="SQLite: overwrite old histograms with zeros, or leave them readable in free pages of the file, which is faster.  "
    "[default: as SQLite was built]",
)
@default_option("--threads", type=WholeNumber(1, 1024), default=1, metavar="N", help="Threads that reduce.")
@default_option("--jobs", type=WholeNumber(1, 64), default=1, metavar="N", help="Servers: connections that share the work.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--prom",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the result for the textfile collector of Prometheus' node exporter, which reads files that end in .prom. It "
    'needs the extra "prometheus".',
)
@click.option("--log-json", is_flag=True, help="Log to standard error in JSON lines: one for each batch and each rejected row.")
@column_options
def reduce_command(
    text: str | None,
    output: str | None,
    max_samples: int | None,
    max_bytes: int | None,
    hows: tuple[tuple[str, How], ...],
    missing: Missing,
    plain: bool,
    rejects: Path | None,
    known: Path | None,
    batch_size: int,
    batch_bytes: int,
    threads: int,
    as_json: bool,
    prom: Path | None,
    log_json: bool,
    **job: Any,
) -> ExitCode:
    """Reduce a table's histograms in place, or a file's into a new one.

    Give one of --max-samples, --max-bytes and --tier. Each batch is read, reduced, locked, written and committed by itself, so
    other programs can write meanwhile: none of their changes is overwritten, and a kill at any moment loses nothing. A second run
    changes nothing.

    Kept are the numbers of samples, means of metrics that all samples have up to rounding to whole numbers, and by default the
    peaks of mem_usage, mem_working, mem_limit and cpu_total. Other peaks go into means unless --how names them, as in --how
    cpu_user=mean,max. So does the last value of a counter, which --how net_rx=mean,first,last keeps. The upper bound of a
    sampled peak, as in 8.6-44 MiB, is lost.
    --dry-run reports by how much peaks and means would change.

    A file has JSON lines (.jsonl, .jsonl.gz, .jsonl.zst), each a histogram or an object with one, or is Parquet, also a folder; -
    is lines of standard input. Rejected histograms are in the new file as they are. It appears when it is complete. With a file,
    --table, --time-column, --where, --tier, --save, --as-of, --verify, --dry-run, --sleep, --run-time, --limit, --retries, --jobs
    and --secure-delete don't apply.
    """
    url = source(text)
    is_file = is_blob_file(url)
    tiers, as_of = job["tiers"], job["as_of"]
    for wrong, why in (
        (max_samples is None and max_bytes is None and not tiers, "one of --max-samples, --max-bytes and --tier is needed"),
        (max_samples is not None and tiers, "--max-samples must be given without --tier, which has its own number of samples"),
        (as_of is not None and not tiers, "--as-of must be given with --tier: it is the time from which ages are measured"),
        (plain and hows, "--plain must be given without --how: it means the mean of every metric"),
        (max_samples == 0 and not is_file, f"--max-samples must be {_MAX_SAMPLES}, got 0, which would empty every histogram"),
        (job["dry_run"] and job["save"] is not None, "--save must be given without --dry-run, which changes nothing"),
        (job["dry_run"] and prom is not None, "--prom must be given without --dry-run, which changes nothing"),
    ):
        if wrong:
            raise click.UsageError(why)
    rule = Rule(max_samples, how="mean" if plain else merge_how(hows), missing=missing, max_bytes=max_bytes)
    batches: dict[str, Any] = {"counts": not plain, "threads": threads, "batch_size": batch_size, "batch_bytes": batch_bytes}
    names = {name: job.pop(name) for name in ("table", "key", "column", "time_column")}
    if is_file:
        validate_options({*job, "table", "time_column"}, "with a database")
        output = output or (STANDARD if url == STANDARD else None)
    if is_file and output is None:
        raise click.UsageError("--output is needed with a file, which stays as it is")
    if output is not None and not is_file:
        raise click.UsageError("--output must be given with a file: a table is reduced in place")
    for file, option in ((output, "--output"), (rejects, "--rejects"), (job["save"], "--save"), (prom, "--prom")):
        check_output(file, option, url, *([output] if output and file is not output else []))
    if prom is not None:
        from callstats.adapters.prometheus import reduce_text
    write_reject = reject_writer(rejects)
    if tiers and as_of is None:
        as_of = time.time_ns()
    with (
        catch_ctrl_c() as caught,
        JSONLog() if log_json else ProgressLine() as progress,
        open_calls(url, **names) as calls,
    ):
        if as_of is not None:
            progress.say(f"ages are as of {format_time(as_of)}")
        if known is not None and not known.exists():  # an earlier run without rejects has made no file
            progress.say(f"no row is known: there is no file {str(known)!r}")
            known = None

        def on_reject(reject: Reject) -> None:
            reason = reject.reason
            if reason.startswith("max_bytes ") and reason.endswith(f" {max_bytes}"):  # else it is the column's own limit
                reason = f"--max-bytes {reason.partition(' ')[2]}"
            if not reject.known:
                progress.reject(reject._replace(reason=reason))
            write_reject(reject)

        batches.update(known=known, progress=progress.update, on_reject=on_reject, stop=caught.is_set)
        if isinstance(calls, CallTable):
            job.update(tiers=tiers or None, as_of=as_of)
            result = calls.reduce(rule, **batches, **job)
        else:
            result = calls.reduce(output or "", rule, **batches)
        if (save := job["save"]) is not None and not Path(save).exists():
            progress.say(f"nothing was saved: there is no file {save!r}")
    where = (
        {"file": shown_source(url), "output": output or ""} if is_file else {"table": names["table"], "database": shown_url(url)}
    )
    if prom is not None:
        replace_file(prom, "prom", reduce_text(asdict(result), exit_code(result), where))
    shown = shown_source(url) if is_file else table_text(*where.values())
    in_file = not is_file and parse_url(url).get_backend_name() == "sqlite"
    lines = [result_json(result, where)] if as_json else result_lines(result, shown, rule, in_file=in_file, counts=not plain)
    click.echo("\n".join(lines), err=output == STANDARD)
    return exit_code(result)


def result_json(result: ReduceResult, where: dict[str, str]) -> str:
    """Return a result as JSON in ASCII."""
    rejects = [reject._asdict() for reject in result.rejects]
    found = {name: getattr(result, name) for name in ("kept_peak_change", "peak_change", "mean_change")}
    changes = {name: change and change._asdict() for name, change in found.items()}
    kept_peaks = result.kept_peaks if result.dry_run else None  # only a dry run looks for them
    return json_text({**where, **asdict(result), "kept_peaks": kept_peaks, **changes, "rejects": rejects}, indent=2)


def result_lines(result: ReduceResult, table: str, rule: Rule, *, in_file: bool = False, counts: bool = True) -> list[str]:
    """Return what the job did; `in_file` is whether the table is in an SQLite file, `counts` whether it stores counts."""
    changed = "to change" if result.dry_run else "changed"
    kept = f"{result.kept:,} kept, as their text would grow, " if result.kept else ""
    read = f"{result.changed:,} {changed}, {kept}{result.unchanged:,} unchanged, {result.rejected:,} rejected"
    why = "short" if result.as_of is None else "short or young"
    skipped = f", {result.skipped:,} {why} enough already" if result.phases else ""  # of a file each row is read
    lines = [printable(f"{table}, {plural(result.rows, 'row')}: {read}{skipped}")]
    if not result.has_histograms:
        lines.append("no row has a histogram with samples: is --column right?")
    if result.known:
        lines.append(f"rejected before, as the file of known rows says: {plural(result.known, 'row')}")
    if result.untimed:
        lines.append(f"without a time, and so unchanged: {plural(result.untimed, 'row')}")
    if result.locked:
        lines.append(f"locked by other programs, and so unchanged: {plural(result.locked, 'more row')}")
    if result.changed:
        lines.append(less_text(result.bytes_before, result.bytes_after, f"rows {changed}"))
    if in_file and result.bytes_after < result.bytes_before and not result.dry_run:
        lines.append("the database file keeps its size until a VACUUM")
    rate = f", {rate_text(result)}" if result.seconds >= _MEASURABLE_SECONDS else ""
    lines.append(f"{result.seconds:.1f} s{rate}, {result.backend} backend")
    phases = [f"{phase} {seconds:.1f}" for phase, seconds in result.phases.items() if seconds >= _MEASURABLE_SECONDS]
    lines += [f"seconds to {', '.join(phases)}"] * bool(phases)
    if result.retries:
        lines.append(f"a batch was tried again, since a lock or the connection failed: {plural(result.retries, 'time')}")
    if result.unknown_metrics:
        lines.append(printable(f"--how names metrics that no call has: {', '.join(map(repr, result.unknown_metrics))}"))
    if result.changed and not result.dry_run and (kept := _kept_text(rule, result.unknown_metrics)):
        lines.append(f"the rule keeps peaks of {kept}")
    if kept_peaks := [name for name in result.kept_peaks if name not in result.peaks_of_means]:
        change = result.kept_peak_change
        text = "unchanged" if change is None else f"the largest change is of {_change_text(change)}"
        lines.append(printable(f"peaks of {', '.join(kept_peaks)}: {text}"))
    if result.peaks_of_means:
        names = ", ".join(result.peaks_of_means)
        lines.append(printable(f"only means were left of {names}: what reads as exact, such as a peak, is that of means"))
    if result.changed and not counts:
        lines.append("--plain leaves out counts: samples are not known, and nothing is marked as inexact, from then on")
    for what, change in (("a peak that is not kept", result.peak_change), ("a mean", result.mean_change)):
        lines += [f"largest change of {what}: {_change_text(change)}"] if change is not None else []
    if result.dry_run and result.changed and result.mean_change is None:
        lines.append("means: unchanged, up to rounding")
    if result.dry_run:
        lines.append("dry run: nothing was written")
    if result.more is not None:
        lines.append(f"ended as planned: {result.more}; more rows are left for another run")
    if result.dry_run:
        what = "the rows counted here were looked at"
    else:
        what = "the rows counted here are written" if result.phases else "there is no new file"
    return lines + stopped_lines(result, what)


def _kept_text(rule: Rule, unknown: Container[str]) -> str:
    """Return the metrics whose peaks a rule keeps, where calls have them."""
    names = [name for name in rule.how if name != OTHERS and name not in unknown] if isinstance(rule.how, Mapping) else []
    kept, lost = ([name for name in names if ("max" in rule.reducers(name)) is keeps] for keeps in (True, False))
    if "max" in rule.reducers(OTHERS):
        return printable(f"every metric{' but ' * bool(lost)}{', '.join(lost)}")
    return printable(f"{', '.join(kept)}, where calls have them") if kept else ""


def _change_text(change: Change) -> str:
    after = "nothing" if change.after is None else short_number(change.after)
    values = f"{short_number(change.before)} to {after}, {percent_text(change.share)}"
    return printable(f"{change.metric}, {values}, in call {key_text(change.key)}")


def reject_writer(path: Path | None) -> Callable[[Reject], None]:
    """Return a function that adds a reject to a new file, as a line of JSON. Without rejects, no file is made."""
    if path is None:
        return lambda _reject: None
    if path.exists():
        raise ArgumentError("rejects", "a new file", str(path))
    if not path.parent.is_dir():
        raise ArgumentError("rejects", "in a folder that exists", str(path))
    modes = chain("x", repeat("a"))

    def write(reject: Reject) -> None:
        try:
            with path.open(next(modes), encoding="ascii") as file:
                file.write(known_line(reject))
        except OSError as error:
            raise DatabaseError(f"can't write {str(path)!r}: {error.strerror}") from None

    return write
