"""A real Prometheus scrapes recordings and answers from backfilled calls; promtool finds no fault with any text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import time
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from callstats import Call, StatSeries, connect
from callstats.adapters.prometheus import Collector
from support.database import blob, made
from support.forked import COMMAND
from support.monitoring import Prometheus, promtool
from support.programs import PATIENCE, started
from support.zoo import SECOND

HOLD = "x = bytearray(64 * 2**20)\nimport time\nwhile True: time.sleep(0.01)"
"""Python that holds 64 MiB until it is ended."""

Start = Callable[..., AbstractContextManager[Prometheus]]


def test_a_recording_is_scraped(tmp_path: Path, prometheus: Start) -> None:
    """What `record --listen` serves arrives in Prometheus while the command runs; the call is stored as ever."""
    command = [
        COMMAND,
        "record",
        "--db",
        tmp_path / "calls.db",
        "--interval",
        "50ms",
        "--name",
        "hold",
        "--listen",
        "127.0.0.1:0",
    ]
    with started([*command, "--", sys.executable, "-c", HOLD], stderr=-1, text=True) as program:
        assert program.stderr is not None
        url = program.stderr.readline().removeprefix("callstats: metrics at ").rstrip()
        with prometheus([url.removeprefix("http://").removesuffix("/metrics")]) as server:
            held = server.wait_for("callstats_memory_usage_peak_bytes > 64 * 2^20")
            assert held.keys() == {"hold"}
            assert server.wait_for("callstats_memory_usage_bytes").keys() == {"hold"}
            assert server.query("callstats_running_calls") == {"hold": 1}
            assert 0 < server.wait_for("callstats_cpu_seconds_total")["hold"] < 100
            families = server.families("callstats_")
            assert families["callstats_memory_usage_bytes"] == ("gauge", "Memory in use.")
            assert families["callstats_cpu_seconds"] == ("counter", "Processor time.")
        with urlopen(url, timeout=PATIENCE) as answer:
            promtool("check", "metrics", data=answer.read())
        program.terminate()
        _, line = program.communicate(timeout=PATIENCE)
    assert program.returncode == 143
    assert "callstats: peak memory" in line
    with connect(tmp_path / "calls.db") as calls:
        assert calls.get().usage.peak_memory >= held["hold"] * 0.9 > 0


def test_an_address_in_use_runs_nothing(tmp_path: Path) -> None:
    """It is wrong use: the command does not run, and no row is made."""
    touch = ["touch", tmp_path / "ran"]
    with started(
        [COMMAND, "record", "--db", tmp_path / "a.db", "--listen", "127.0.0.1:0", "--", "sleep", "99"], stderr=-1
    ) as one:
        assert one.stderr is not None
        address = one.stderr.readline().decode().rstrip().removesuffix("/metrics").rpartition("/")[2]
        with started([COMMAND, "record", "--db", tmp_path / "b.db", "--listen", address, "--", *touch], stderr=-1) as two:
            _, error = two.communicate(timeout=PATIENCE)
        one.terminate()
        one.communicate(timeout=PATIENCE)
    assert two.returncode == 2
    assert f"--listen must be a free address of this machine, got '{address}': Address already in use" in error.decode()
    assert not (tmp_path / "b.db").exists()
    assert not (tmp_path / "ran").exists()


def test_a_watched_process_is_served(tmp_path: Path) -> None:
    """`--pid` with `--listen`: the samples are served in the text that the client asks for, OpenMetrics too."""
    with started([sys.executable, "-c", HOLD]) as held:
        command = [COMMAND, "record", "--db", tmp_path / "calls.db", "--interval", "50ms", "--listen", "127.0.0.1:0", "--pid"]
        with started([*command, str(held.pid), "--name", "other"], stderr=-1, text=True) as program:
            assert program.stderr is not None
            url = program.stderr.readline().removeprefix("callstats: metrics at ").rstrip()
            asked = Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
            deadline = time() + PATIENCE
            while b'callstats_memory_usage_bytes{name="other"}' not in (text := urlopen(asked, timeout=PATIENCE).read()):
                assert time() < deadline
            program.terminate()
            program.communicate(timeout=PATIENCE)
        held.kill()
    assert program.returncode == 0
    assert b"# UNIT callstats_memory_usage_bytes bytes\n" in text
    assert text.endswith(b"# EOF\n")


def test_promtool_checks_all_families(tmp_path: Path, prometheus: Start) -> None:
    """Names, units and help texts are as Prometheus wants them: those of every metric, and of a reduction's report."""
    registry, collector = CollectorRegistry(), Collector()
    registry.register(collector)  # type: ignore[arg-type]
    names = ["cpu_total", "cpu_user", "cpu_kernel", "cpu_time@last", "mem_usage", "mem_working", "mem_peak@last", "mem_limit"]
    with collector.call('say "hi"\\') as on_stat:
        on_stat(0, dict.fromkeys([*names, "disk_read", "disk_write", "net_rx", "net_tx", "own"], 7))
        promtool("check", "metrics", data=generate_latest(registry))
    database, report = made(tmp_path / "x.db", [("a", blob(300))]), tmp_path / "reduce.prom"
    with started([COMMAND, "reduce", database, "--max-samples", "60", "--prom", report], stdout=-3) as program:
        program.wait(PATIENCE)
    promtool("check", "metrics", data=report.read_bytes())


def test_stored_calls_are_backfilled(tmp_path: Path, prometheus: Start) -> None:
    """Prometheus answers from the blocks that promtool makes, with each value at its millisecond."""
    start, ms = 1_700_000_000 * SECOND, 10**6
    fast = StatSeries([start + i * ms for i in range(3000)], {"mem_usage": range(1, 3001), "net_rx": range(3000)})
    hours = StatSeries([start + i * 900 * SECOND for i in range(40)], {"mem_usage": [512] * 40, "cpu_total": [50] * 40})
    odd = StatSeries([start, start + 1, start + 2], {"x@y": [1, 2, 2**64 - 1], "cpu_time@last": [1, 2, 1_500_000_000]})
    calls = [
        Call(key="fast", name="resize", series=fast),
        Call(key="hours", name="nightly", series=hours),
        Call(key="beside", name="nightly", series=hours),  # two calls of one name at the same time
        Call(key='odd "\\\n\x00', name="é\t", series=odd),
        Call(key="none", name="resize", series=StatSeries([], {})),
    ]
    with connect(tmp_path / "calls.db") as table:
        table.create()
        table.add(calls)
        assert table.export(tmp_path / "calls.om", openmetrics=True).written == 5
    promtool("tsdb", "create-blocks-from", "openmetrics", "--quiet", tmp_path / "calls.om", tmp_path / "data")
    end = start / SECOND
    with prometheus() as server:
        found = server.samples('callstats_memory_usage_bytes{call="fast"}', end + 3, "4s")
        assert [(round(at * 1000), value) for at, value in found[0]] == [(1_700_000_000_000 + i, i + 1) for i in range(3000)]
        assert server.query('rate(callstats_network_receive_bytes_total{call="fast"}[3s])', time=end + 3)[
            "resize"
        ] == pytest.approx(1000)
        assert server.query("sum by (name) (callstats_memory_usage_bytes)", time=end + 9 * 3600) == {"nightly": 1024}
        assert server.query("callstats_cpu_usage_ratio", "call", end + 1) == {"hours": 0.5, "beside": 0.5}
        assert server.query("callstats_cpu_seconds_total", "call", end + 1) == {'odd "\\\\n\\x00': 1.5}
        assert server.query("callstats_value", "metric", end + 1) == {"x@y": 2.0**64}
        usage = {call.key: call.usage for call in calls}
        peaks = server.query("max_over_time(callstats_call_memory_peak_bytes[1d])", "call", end + 40 * 900)
        assert peaks == {key: usage[key].peak_memory for key in ("fast", "hours", "beside")}
        spans = server.query("max_over_time(callstats_call_duration_seconds[1d])", "call", end + 40 * 900)
        assert spans["hours"] == (usage["hours"].duration_ns or 0) / SECOND == 39 * 900


def test_a_report_without_the_extra(tmp_path: Path) -> None:
    """`reduce --prom` and `record --listen` say in one line what is missing, before anything is changed or run."""
    database = made(tmp_path / "x.db", [("a", blob(300))])
    program = "import sys; sys.modules['prometheus_client'] = None; from callstats.cli import main; main(sys.argv[1:])"
    for arguments in (
        ["reduce", database, "--max-samples", "60", "--prom", tmp_path / "x.prom"],
        ["record", "--db", database, "--listen", "127.0.0.1:0", "--", "touch", tmp_path / "ran"],
    ):
        with started([sys.executable, "-c", program, *map(str, arguments)], stdout=-1, stderr=-1, text=True) as run:
            done = run.communicate(timeout=PATIENCE)
        wanted = (
            'callstats: callstats.adapters.prometheus needs prometheus_client: install callstats with the extra "prometheus"\n'
        )
        assert (run.returncode, *done) == (2, "", wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]
    with connect(database) as calls:
        (call,) = calls.list()
        assert len(json.loads(call.series.to_json() if call.series else "[]")) == 300
