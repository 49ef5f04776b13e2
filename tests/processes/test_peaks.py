"""True recordings of processes: peaks that the kernel keeps, the closing sample, and shared memory that counts once."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from callstats import KEEP_PEAKS, decimate, record
from callstats.drivers import ProcessDriver, Status, watch
from callstats.drivers.process import launch, meter, tree
from callstats.drivers.process.group import TaskGroup
from callstats.errors import ArgumentError
from callstats.stats.call import usage_of
from support.programs import PATIENCE, burn, started
from support.recorded import PYTHON, peak, python, run, shell

MIB = 2**20
OWN_PEAK = "print(int([line for line in open('/proc/self/status') if 'VmHWM' in line][0].split()[1]) * 1024, flush=True)"
BRIEF = f"""
import time
time.sleep(0.6)
data = bytearray(300 * 2**20)
time.sleep(0.1)
del data
time.sleep(0.6)
{OWN_PEAK}
"""


@pytest.mark.parametrize("interval", [0.01, 0.1, 0.5, 100])
def test_a_peak_between_two_samples(interval: float) -> None:
    """The peak of one process is the kernel's, whatever the interval, and stays so after each reduction."""
    out = io.BytesIO()
    _, series = python(BRIEF, interval, stdout=out)
    own = int(out.getvalue())
    for each in (series, decimate(series, 2, how=KEEP_PEAKS), decimate(series, 1, how=KEEP_PEAKS)):
        usage = usage_of(each.to_json())
        assert usage.peak_source == "kernel" and "peak_memory" in usage.exact
        assert usage.peak_memory is not None and abs(usage.peak_memory - own) < own / 20


def test_the_peak_of_a_child_that_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that lives between two samples still gives its peak, as a lower bound: several processes ran."""
    monkeypatch.setattr(TaskGroup, "peak", lambda group: (0, 0))  # else it may confirm the bound
    out = io.BytesIO()
    program = OWN_PEAK.replace("'", '"')
    _, series = shell(
        f"env -u LD_PRELOAD {sys.executable} -S -c 'data = bytearray(100 * 2**20); {program}'; sleep 0.1", 100, stdout=out
    )
    usage = usage_of(series)
    assert usage.peak_source == "sampled" and abs(peak(series) - int(out.getvalue())) < 5 * MIB


def test_children_that_nobody_counts() -> None:
    """A parent that ignores SIGCHLD may hide a child's peak, so the peak is no longer the kernel's."""
    program = "import signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\ntime.sleep(0.2)"
    _, series = python(program)
    assert usage_of(series).peak_source == "sampled"


def test_a_small_command_of_a_large_program() -> None:
    """A command's peak does not begin with the size of the program that records it. Each run has one row."""
    program = """
import sys
from callstats.drivers import ProcessDriver, Task
data = bytearray(300 * 2**20)
for _ in range(20):
    rows = []
    task = Task(command=["true"], env={"LD_PRELOAD": ""}, write_stat=lambda time, metrics: rows.append(metrics))
    with ProcessDriver(interval=10).prepare(task) as cookie:
        assert cookie.run().wait().status == "success"
    print(len(rows), rows[0]["mem_usage"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rows) == 20 and all(n == 1 and 0 < memory < 8 * MIB for n, memory in rows)


@pytest.mark.parametrize("floor", [1, 64])
def test_a_command_no_larger_than_what_launched_it(floor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small shell's own peak, a MiB, may stand for that of a tiny command, as a sampled one; a larger one tells nothing."""
    set_root = tree.Tree.set_root
    monkeypatch.setattr(tree.Tree, "set_root", lambda self, pid, _: set_root(self, pid, floor * MIB + 500 * 1024))
    monkeypatch.setattr(meter.Meter, "look", lambda _: None)  # a look at a slow moment would know the peak
    _, series = run(["true"], 100, env={"LD_PRELOAD": ""})  # a sanitizer takes memory too
    assert len(series) == 1 and ("mem_usage" in series) is (floor == 1)
    assert "mem_peak@last" not in series and usage_of(series).peak_source != "kernel"


def test_without_the_small_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no shell can carry the environment, a peak below the recorder's own is not known, and no false one is given."""
    odd = {"A.B": "1"}
    out = io.BytesIO()
    result, series = run(["env"], 100, env=odd, stdout=out)
    assert result.status is Status.SUCCESS and b"A.B=1\n" in out.getvalue()
    assert peak(series) < 64 * MIB and usage_of(series).peak_source != "kernel"
    _, series = python("import time; data = bytearray(600 * 2**20); time.sleep(0.3)", 0.05, env=odd)
    assert 600 * MIB < peak(series) < 640 * MIB
    monkeypatch.setattr(launch, "_SHELL", "/no/such")
    assert shell("exit 3")[0].error is not None


def test_the_command_gets_its_environment_as_it_is() -> None:
    """The small shell changes no variable, descriptor, signal or group of the command."""
    program = (
        "import json, os, signal\n"
        "ignored = [s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN]\n"
        "print(json.dumps([dict(os.environ), os.listdir('/proc/self/fd'), ignored, os.getpgrp() == os.getpid()]))"
    )
    expected = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PWD": "/no/such", "X": "a'b\n$c"},
        capture_output=True,
        process_group=0,
        check=True,
    )
    out = io.BytesIO()
    run([sys.executable, "-c", program], env={"PWD": "/no/such", "X": "a'b\n$c"}, stdout=out)
    before, after = json.loads(expected.stdout), json.loads(out.getvalue())
    after[0].pop("CALLSTATS_TASK")
    assert before == after


# --- the closing sample -------------------------------------------------------------------------------------------------------


def test_a_short_call() -> None:
    """A call shorter than the interval has one row, with all that the kernel knows of it."""
    result, series = shell("true", 100)
    assert (result.status, len(series)) == (Status.SUCCESS, 1)
    assert {"cpu_time@last", "cpu_total", "disk_write", "mem_usage"} <= set(series.names)
    _, series = python("end = __import__('time').process_time() + 0.2\nwhile __import__('time').process_time() < end: pass", 100)
    usage = usage_of(series)
    shares = [record(["true"]).usage.cpu_mean for _ in range(3)]
    assert all(share is not None and share < 110 for share in shares), "what the shell before it used is not the command's"
    assert len(series) == 1 and usage.cpu_time_ns is not None and 0.2e9 <= usage.cpu_time_ns < 0.4e9
    assert usage.peak_source == "kernel" and 4 * MIB < peak(series) < 64 * MIB


def test_the_last_interval_counts(tmp_path: Path) -> None:
    """CPU and disk traffic between the last sample and the exit are in the closing sample, which is the last one."""
    program = f"sleep 0.3; {burn(0.1)}; dd if=/dev/urandom of=data bs=1M count=20 conv=fsync"
    _, series = shell(program, 0.25, work_dir=str(tmp_path))
    last = series[len(series) - 1].metrics
    assert last["cpu_time@last"] >= 0.1e9 and last.keys() >= {"disk_read", "disk_write"}
    for pause in (0.3, 0.4):
        usage = record(["sh", "-c", f"sleep {pause}; {burn(0.1)}"], driver=ProcessDriver(0.25)).usage
        assert usage.cpu_peak is not None and usage.cpu_mean is not None and usage.cpu_peak > usage.cpu_mean - 2 > 0
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout.strip()
    if kind != "tmpfs":
        assert last["disk_write"] >= 20 * MIB


@pytest.mark.parametrize("interval", [0.01, 0.2, 100])
def test_cpu_time_is_that_of_wait4(interval: float) -> None:
    """The CPU time of many short children is exact, at any interval."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    _, series = shell(
        "i=0; while [ $i -lt 100 ]; do sh -c 'j=0; while [ $j -lt 1000 ]; do j=$((j + 1)); done'; i=$((i + 1)); done", interval
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    expected = used.ru_utime + used.ru_stime - before  # with the watchdog and the small shell, some milliseconds
    counted = series["cpu_time@last"].max() / 1e9
    assert expected - 0.05 <= counted <= 1.01 * expected


def test_children_of_a_parent_that_ignores_them() -> None:
    """The CPU of children that the kernel forgets counts as far as samples saw it."""
    program = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
time.sleep(0.2)
for _ in range(3):
    if os.fork() == 0:
        end = time.process_time() + 0.4
        while time.process_time() < end: pass
        os._exit(0)
    try:
        os.wait()
    except ChildProcessError:
        pass
"""
    _, series = python(program, 0.02)
    assert 0.9e9 < series["cpu_time@last"].max() < 1.6e9


def test_the_closing_sample_comes_with_every_end() -> None:
    """A task that is stopped, killed or loses its memory has a closing sample too."""
    for fields in ({"timeout": 0.3}, {"memory": 40 * MIB}):
        _, series = python("data = bytearray(80 * 2**20)\nimport time; time.sleep(60)", 100, **fields)
        last = series[len(series) - 1].metrics
        assert "cpu_time@last" in last and peak(series) > (40 * MIB if "memory" in fields else 0)
    _, series = shell("kill -KILL $$", 100)
    assert len(series) == 1


# --- several processes --------------------------------------------------------------------------------------------------------

FORKS = """
import os, time
data = bytearray(300_000_000)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(1.2)
        os._exit(0)
for _ in range(4):
    os.wait()
"""


@pytest.mark.parametrize("interval", [0.05, 0.5, 1.0])
def test_shared_memory_counts_once(interval: float) -> None:
    """Forks share the memory of their parent. The limit is decided by the same number."""
    result, series = python(FORKS, interval, memory=400_000_000)
    assert result.status is Status.SUCCESS
    assert 295_000_000 < peak(series) < 345_000_000


def test_a_limit_that_shared_memory_exceeds() -> None:
    """Memory that forks write to is theirs, and is limited."""
    program = FORKS.replace("time.sleep(1.2)", "data[::4096] = bytes(len(data[::4096])); time.sleep(60)")
    result, series = python(program, 0.2, memory=700_000_000, timeout=PATIENCE)
    assert result.status is Status.KILLED and peak(series) > 700_000_000


POOL = """
import json, multiprocessing, os, time
from callstats.drivers import watch
def work(seconds):
    data = bytearray(60 * 2**20)
    end = time.process_time() + seconds
    while time.process_time() < end: pass
    return len(data)
before = sum(os.times()[:4])
with watch(0.1, None) as recorder:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, [0.5, 0.5])
        pool.close()
        pool.join()
    time.sleep(0.15)
used = sum(os.times()[:4]) - before
series = recorder.end()
print(json.dumps([used, *(series[name].tolist() for name in ("cpu_total", "cpu_time@last", "mem_usage"))]))
"""


def test_a_pool_inside_watch() -> None:
    """No sample shows more CPU than all cores have, though children count once they are waited for. Their memory counts too."""
    done = subprocess.run([sys.executable, "-c", POOL], capture_output=True, timeout=PATIENCE, check=True)
    used, shares, times, sizes = json.loads(done.stdout)
    assert max(share for share in shares if share is not None) <= 100 * (os.cpu_count() or 1)
    assert abs(max(times) / 1e9 - used) < 0.3
    assert max(sizes) - min(sizes) > 60 * MIB


def test_watch_counts_from_its_start() -> None:
    """CPU and disk of the time before don't count, nor does a peak of the time before."""
    program = """
import time
data = bytearray(200 * 2**20); del data
end = time.process_time() + 0.5
while time.process_time() < end: pass
print("runs", flush=True)
input()
data = bytearray(50 * 2**20)
print("holds", flush=True)
time.sleep(60)
"""
    with started([*PYTHON, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as other:
        assert other.stdout is not None and other.stdout.readline() == b"runs\n"
        with watch(0.1, None, pid=other.pid) as recorder:
            assert other.stdin is not None and other.stdin.write(b"\n")
            assert other.stdout.readline() == b"holds\n"
            time.sleep(0.3)
        series = recorder.end()
        other.kill()
        other.wait()
    assert 50 * MIB < peak(series) < 120 * MIB and series["cpu_time@last"].max() < 0.3e9
    assert usage_of(series).peak_source == "sampled"


def test_watch_ends_with_the_process() -> None:
    """Samples end with the process that is watched. The recorder and the block continue."""
    with started(["sleep", "1"]) as other:
        with watch(0.05, None, pid=other.pid) as recorder:
            other.wait()
            time.sleep(1)
        assert 1 <= len(recorder.end()) < 26
    with pytest.raises(ArgumentError, match=r"^pid must be the number of a running process, got "), watch(pid=other.pid):
        pass


def test_on_stat_sees_each_sample_and_harms_none(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the observer is logged once, and every sample is stored."""
    seen: list[Any] = []

    def observe(timestamp: int, metrics: dict[str, int]) -> None:
        seen.append(timestamp)
        metrics.clear()
        raise SystemExit(5)

    result, series = shell("sleep 0.3", 0.05, on_stat=observe)
    assert result.status is Status.SUCCESS and len(seen) == len(series) > 2 and "mem_usage" in series.names
    assert [record.message for record in caplog.records] == ["on_stat failed, and the recording continues"]
    assert caplog.records[0].exc_info  # where it failed
