"""Calls for Prometheus: running ones by a collector, stored ones as OpenMetrics, and the report of a reduction."""

from __future__ import annotations

import math
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from callstats import Call, StatSeries, connect
from callstats.adapters import openmetrics
from callstats.adapters.prometheus import Collector, serve
from callstats.cli.app import cli
from callstats.errors import ArgumentError
from support.database import blob, made
from support.tables import export_table
from support.zoo import SECOND

Samples = dict[str, float]


def collected(collector: Collector) -> Samples:
    """Every sample, as Prometheus would get it."""
    registry = CollectorRegistry()
    registry.register(collector)  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


# --- running calls ----------------------------------------------------------------------------------------------------


def test_units_and_names() -> None:
    """Every known metric in base units; percents become shares, and nanoseconds become seconds."""
    collector = Collector()
    metrics = {"cpu_total": 150, "cpu_user": 100, "cpu_kernel": 50, "cpu_time@last": 2_500_000_000}
    metrics |= {"mem_usage": 100, "mem_working": 90, "mem_usage@max": 120, "mem_peak@last": 130, "mem_limit": 1000}
    metrics |= {"disk_read": 1, "disk_write": 2, "net_rx": 3, "net_tx": 4, "queue": 5}
    with collector.call("job") as on_stat:
        on_stat(0, metrics)
        found = collected(collector)
    assert found == {
        'callstats_running_calls{name="job"}': 1,
        'callstats_ended_calls_total{name="job"}': 0,
        'callstats_cpu_usage_ratio{name="job"}': 1.5,
        'callstats_cpu_usage_peak_ratio{name="job"}': 1.5,
        'callstats_cpu_user_ratio{name="job"}': 1.0,
        'callstats_cpu_kernel_ratio{name="job"}': 0.5,
        'callstats_cpu_seconds_total{name="job"}': 2.5,
        'callstats_memory_usage_bytes{name="job"}': 100,
        'callstats_memory_usage_peak_bytes{name="job"}': 120,
        'callstats_memory_working_set_bytes{name="job"}': 90,
        'callstats_memory_working_set_peak_bytes{name="job"}': 90,
        'callstats_memory_kernel_peak_bytes{name="job"}': 130,
        'callstats_memory_limit_bytes{name="job"}': 1000,
        'callstats_disk_read_bytes_total{name="job"}': 1,
        'callstats_disk_written_bytes_total{name="job"}': 2,
        'callstats_network_receive_bytes_total{name="job"}': 3,
        'callstats_network_transmit_bytes_total{name="job"}': 4,
        'callstats_value{metric="queue",name="job"}': 5,
    }


def test_calls_of_one_name() -> None:
    """Gauges add up, peaks are the highest of one call, and counters continue after a call's end, and after a reset."""
    collector = Collector()
    with collector.call("a") as first, collector.call("a") as second, collector.call("b") as other:
        first(0, {"mem_usage": 100, "net_rx": 10})
        first(1, {"mem_usage": 70, "net_rx": 15})
        second(1, {"mem_usage": 50, "net_rx": 7, "cpu_total": None})
        other(1, {"net_rx": 1})
        both = collected(collector)
        second(2, {"net_rx": 2})  # it began anew
    ended = collected(collector)
    assert both['callstats_memory_usage_bytes{name="a"}'] == 120
    assert both['callstats_memory_usage_peak_bytes{name="a"}'] == 100
    assert both['callstats_network_receive_bytes_total{name="a"}'] == 22
    assert both['callstats_running_calls{name="a"}'] == 2
    assert 'callstats_cpu_usage_ratio{name="a"}' not in both
    assert ended == {
        'callstats_running_calls{name="a"}': 0,
        'callstats_running_calls{name="b"}': 0,
        'callstats_ended_calls_total{name="a"}': 2,
        'callstats_ended_calls_total{name="b"}': 1,
        'callstats_network_receive_bytes_total{name="a"}': 24,
        'callstats_network_receive_bytes_total{name="b"}': 1,
    }


@pytest.mark.parametrize("limit", [0, 2**63 - 4096, 2**64 - 1])
def test_memory_that_is_unknown_or_unlimited(limit: int) -> None:
    """It has no sample, of two calls neither."""
    collector = Collector()
    with collector.call("a") as first, collector.call("a") as second:
        for on_stat in (first, second):
            on_stat(0, {"mem_limit": limit, "mem_usage": 0, "cpu_total": 0})
        found = collected(collector)
    assert [name for name in found if "memory" in name] == []
    assert found['callstats_cpu_usage_ratio{name="a"}'] == 0


def test_names_of_any_characters() -> None:
    """Quotes, line breaks and what is no text reach Prometheus in one line."""
    collector = Collector()
    with collector.call('a"b\\c\nd\udc80\x00') as on_stat:
        on_stat(0, {"m\n": 1})
        registry = CollectorRegistry()
        registry.register(collector)  # type: ignore[arg-type]
        families = list(parse_text(generate_latest(registry).decode()))
    labels = {family.name: family.samples[0].labels for family in families}
    assert labels["callstats_value"] == {"name": 'a"b\\c\\nd\\udc80\\x00', "metric": "m\\n"}


def test_an_address_in_use() -> None:
    """It is an error of the argument, and after the block the address is free again."""
    with serve(Collector(), "127.0.0.1", 0) as url:
        port = int(url.split(":")[2].partition("/")[0])
        assert urlopen(url).status == 200
        with pytest.raises(ArgumentError, match=rf"^listen must be a free address of this machine, got '127.0.0.1:{port}'"):
            serve(Collector(), "127.0.0.1", port).__enter__()
    with socket.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", port))


# --- stored calls -----------------------------------------------------------------------------------------------------


def written(tmp_path: Path, *calls: Call) -> str:
    """The text of a file with these calls."""
    with connect(tmp_path / "calls.db") as table:
        table.create()
        table.add(calls)
        result = table.export(tmp_path / "calls.om", openmetrics=True)
    assert (result.written, result.rejected) == (len(calls), 0)
    text = (tmp_path / "calls.om").read_text()
    assert result.bytes_written == len(text.encode())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls.db", "calls.om"]
    list(parse_openmetrics(text))  # it raises where a family comes in two pieces
    return text


def test_text(tmp_path: Path) -> None:
    """Families in one piece, each call a series of its own, in base units and in seconds; usage stands at the last row."""
    first = StatSeries([SECOND, 3 * SECOND // 2], {"mem_usage": [4096, 0], "cpu_total": [50, None], "disk_read": [1, 2**64 - 1]})
    second = StatSeries([2 * SECOND], {"x": [7], "mem_usage@max": [8192], "mem_usage": [10]})
    calls = [
        Call(key="1", name='say "hi"', series=first, started_at="1970-01-01T00:00:01Z", completed_at="1970-01-01T00:00:04Z"),
        Call(key="2", series=second),
        Call(key="3", name="empty", series=StatSeries([], {})),
    ]
    assert written(tmp_path, *calls) == (
        "# TYPE callstats_cpu_usage_ratio gauge\n"
        "# UNIT callstats_cpu_usage_ratio ratio\n"
        "# HELP callstats_cpu_usage_ratio Processor time since the sample before, where 1 is one core.\n"
        'callstats_cpu_usage_ratio{call="1",name="say \\"hi\\""} 0.5 1.0\n'
        "# TYPE callstats_memory_usage_bytes gauge\n"
        "# UNIT callstats_memory_usage_bytes bytes\n"
        "# HELP callstats_memory_usage_bytes Memory in use.\n"
        'callstats_memory_usage_bytes{call="1",name="say \\"hi\\""} 4096 1.0\n'
        'callstats_memory_usage_bytes{call="2"} 10 2.0\n'
        "# TYPE callstats_memory_usage_peak_bytes gauge\n"
        "# UNIT callstats_memory_usage_peak_bytes bytes\n"
        "# HELP callstats_memory_usage_peak_bytes Max of callstats_memory_usage_bytes, so far or in a reduced row.\n"
        'callstats_memory_usage_peak_bytes{call="2"} 8192 2.0\n'
        "# TYPE callstats_disk_read_bytes counter\n"
        "# UNIT callstats_disk_read_bytes bytes\n"
        "# HELP callstats_disk_read_bytes Bytes read from disks.\n"
        'callstats_disk_read_bytes_total{call="1",name="say \\"hi\\""} 1 1.0\n'
        'callstats_disk_read_bytes_total{call="1",name="say \\"hi\\""} 18446744073709551615 1.5\n'
        "# TYPE callstats_value gauge\n"
        "# HELP callstats_value A metric of the program's own, in its own unit.\n"
        'callstats_value{call="2",metric="x"} 7 2.0\n'
        "# TYPE callstats_call_duration_seconds gauge\n"
        "# UNIT callstats_call_duration_seconds seconds\n"
        "# HELP callstats_call_duration_seconds Time from the start of the call to its end.\n"
        'callstats_call_duration_seconds{call="1",name="say \\"hi\\""} 3.0 1.5\n'
        'callstats_call_duration_seconds{call="2"} 0.0 2.0\n'
        "# TYPE callstats_call_memory_peak_bytes gauge\n"
        "# UNIT callstats_call_memory_peak_bytes bytes\n"
        "# HELP callstats_call_memory_peak_bytes Peak memory of the whole call.\n"
        'callstats_call_memory_peak_bytes{call="1",name="say \\"hi\\""} 4096 1.5\n'
        'callstats_call_memory_peak_bytes{call="2"} 8192 2.0\n'
        "# EOF\n"
    )


def test_no_calls(tmp_path: Path) -> None:
    assert written(tmp_path) == "# EOF\n"


@pytest.mark.parametrize("first", [-(10**9), 0, 1_700_000_000_000, 2**53 // 1000])
def test_times_to_the_millisecond(first: int) -> None:
    """Whoever multiplies a time by 1000 and cuts gets the millisecond, as Prometheus does."""
    import numpy as np

    ms = np.arange(first, first + 5000)
    seconds = openmetrics._seconds(ms).tolist()
    assert [math.trunc(second * 1000) for second in seconds] == ms.tolist()
    assert max(abs(second - int(one) / 1000) for second, one in zip(seconds, ms, strict=True)) < 1e-3


def test_rows_of_one_millisecond(tmp_path: Path) -> None:
    """The last value counts: Prometheus takes one."""
    series = StatSeries([5 * SECOND, 5 * SECOND + 1, 5 * SECOND + 2, 6 * SECOND], {"mem_usage": [1, 2, None, 3]})
    text = written(tmp_path, Call(key="1", series=series))
    assert [line for line in text.splitlines() if line.startswith("callstats_memory_usage_bytes")] == [
        'callstats_memory_usage_bytes{call="1"} 2 5.0',
        'callstats_memory_usage_bytes{call="1"} 3 6.0',
    ]


def test_a_table_of_other_columns(tmp_path: Path) -> None:
    """A name is not needed, keys may be bytes, and a malformed histogram is rejected by its key."""
    database = made(tmp_path / "x.db", [(b"\xff", blob(2)), ("bad", "[{")], table="CREATE TABLE calls (id PRIMARY KEY, stats)")
    result = export_table(database, tmp_path / "x.om", openmetrics=True)
    assert (result.written, [reject.key for reject in result.rejects]) == (1, ["bad"])
    assert 'callstats_memory_usage_bytes{call="ff"} ' in (tmp_path / "x.om").read_text()


def test_the_command_exports(tmp_path: Path) -> None:
    """It tells what it wrote, and rejects what is for Parquet, an existing file and a missing folder."""
    database = made(tmp_path / "x.db", [("a", blob(3)), ("b", "[")])
    done = CliRunner().invoke(cli, ["export", "--openmetrics", str(database), str(tmp_path / "x.om")])
    assert (done.exit_code, done.stdout.partition(";")[0]) == (1, "2 rows: 1 written, 1 rejected")
    for arguments, why in (
        (["x.om"], "FILE must be a new file, got"),
        (["new.om", "--long"], "--openmetrics must be given without --long and --with, which are for other files"),
        (["new.om", "--with", "status"], "--openmetrics must be given without --long and --with, which are for other files"),
        (["no/new.om"], "FILE must be a writable file, got"),
    ):
        done = CliRunner().invoke(cli, ["export", "--openmetrics", str(database), str(tmp_path / arguments[0]), *arguments[1:]])
        assert (done.exit_code, why in done.stderr) == (2, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.db", "x.om"]


# --- the report of a reduction ----------------------------------------------------------------------------------------


def test_the_report_of_a_reduction(tmp_path: Path) -> None:
    """The result's own numbers, labelled by table and database, in a file that replaces the one before."""
    database = made(tmp_path / "x.db", [("a", blob(300)), ("b", blob(3)), ("c", "[" * 9000)])
    file = tmp_path / "reduce.prom"
    file.write_text("old")
    before = datetime.now(UTC).timestamp()
    done = CliRunner().invoke(cli, ["reduce", str(database), "--max-samples", "60", "--verify", "--prom", str(file)])
    assert done.exit_code == 1
    families = {family.name: family for family in parse_text(file.read_text())}
    where = {"table": "calls", "database": str(database)}
    rows = {sample.labels.pop("end"): (sample.value, sample.labels) for sample in families["callstats_reduce_rows"].samples}
    assert {end: n for end, (n, _) in rows.items() if n} == {"changed": 1, "unchanged": 1, "rejected": 1}
    assert all(labels == where for _, labels in rows.values())
    values = {name: family.samples[0].value for name, family in families.items()}
    assert values["callstats_reduce_exit_code"] == 1
    assert values["callstats_reduce_completed_timestamp_seconds"] >= before
    assert values["callstats_reduce_read_bytes"] == len(blob(300)) + len(blob(3)) + 9000
    sizes = {sample.labels["when"]: sample.value for sample in families["callstats_reduce_changed_bytes"].samples}
    assert sizes["before"] == len(blob(300)) > sizes["after"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reduce.prom", "x.db"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["{db}", "--max-samples", "1", "--prom", "{db}"], "--prom must be a file that is no database"),
        (["{db}", "--max-samples", "1", "--dry-run", "--prom", "x"], "--prom must be given without --dry-run"),
        (
            ["{db}.jsonl", "-o", "x.jsonl", "--max-samples", "1", "--prom", "x.jsonl"],
            "--prom must be another file than the input",
        ),
    ],
)
def test_wrong_use_of_a_report(tmp_path: Path, arguments: list[str], why: str) -> None:
    """It ends before anything is changed."""
    database = made(tmp_path / "x.db", [("a", blob(300))])
    done = CliRunner().invoke(cli, ["reduce", *(word.format(db=database) for word in arguments)])
    assert (done.exit_code, why in done.stderr) == (2, True), done.stderr
    with connect(database) as calls:
        assert len(calls.get("a").series or ()) == 300


@pytest.mark.parametrize("address", ["9464", ":9464", "localhost", "localhost:99999", "::1:9464", "a b:c"])
def test_wrong_addresses(address: str) -> None:
    """They end the command before anything runs."""
    done = CliRunner().invoke(cli, ["record", "--listen", address, "--", "true"])
    assert (done.exit_code, "--listen must be HOST:PORT, such as 127.0.0.1:9464" in done.stderr) == (2, True), done.stderr
