"""Control groups of version 2 whose memory and disk traffic the kernel counts, such as those of `make test-cgroup2`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest

from callstats.drivers import CgroupSampler, Status, watch
from callstats.drivers.process.group import TaskGroup
from callstats.stats.call import usage_of
from support.database import ask
from support.programs import PATIENCE, gone, started
from support.recorded import PYTHON, python, shell

MIB = 2**20
ROOT = Path("/sys/fs/cgroup")
HOLD = "mmap.mmap(-1, {mib} * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
"""Python that has memory at once, and not page by page."""


def counts(folder: Path) -> bool:
    """Whether the kernel counts memory and disk traffic of the groups below this one."""
    control = folder / "cgroup.subtree_control"
    return control.exists() and {"memory", "io"} <= set(control.read_text().split())


@pytest.fixture
def parent() -> Path:
    """The root of the groups, where the tests run, too."""
    if not counts(ROOT) or Path("/proc/self/cgroup").read_text() != "0::/\n" or not os.access(ROOT, os.W_OK):
        reason = "needs control groups of version 2 that we may write to: make test-cgroup2"
        assert "CALLSTATS_REQUIRE_CGROUP2" not in os.environ, reason
        pytest.skip(reason)
    return ROOT


@pytest.fixture
def group(parent: Path) -> Iterator[Path]:
    """A group of our own."""
    folder = parent / f"callstats-test-{uuid4().hex}"
    folder.mkdir()
    yield folder
    if folder.exists():
        (folder / "cgroup.kill").write_text("1")
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a group and those below once their processes are gone."""
    deadline = monotonic() + PATIENCE
    while folder.exists():
        try:
            for each, _, _ in os.walk(folder, topdown=False):
                Path(each).rmdir()
        except OSError:
            assert monotonic() < deadline
            sleep(0.05)


# --- samples of a group -------------------------------------------------------------------------------------------------------

WORK = f"""
import mmap, os, resource, sys, time
print("ready", flush=True)
sys.stdin.readline()
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, flush=True)
data = {HOLD.format(mib=300)}
data.close()
end = time.process_time() + 1
while time.process_time() < end: pass
with open(sys.argv[1], "wb") as file:
    file.write(os.urandom(20_000_000))
    os.fsync(file.fileno())
sys.stdin.readline()
"""


def test_a_group_between_two_samples(group: Path, tmp_path: Path) -> None:
    """Memory that came and went, processor time and disk traffic are the kernel's own, to a few percent."""
    (group / "memory.max").write_text(str(400 * MIB))
    with started([*PYTHON, WORK, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None and program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        (group / "cgroup.procs").write_text(str(program.pid))
        with watch(100, None, cgroup=group) as recorder, CgroupSampler(group) as sampler:
            assert sampler.is_running() and sampler.sample() is not None
            program.stdin.write(b"\n")
            program.stdin.flush()
            before = float(program.stdout.readline())
            program.stdin.close()
            _, status, used = os.wait4(program.pid, 0)
            program.returncode = os.waitstatus_to_exitcode(status)
            second = sampler.sample()
            assert not sampler.is_running() and sampler.oom_kills() == 0
    assert program.returncode == 0 and second is not None
    (last,) = recorder.end()
    usage = usage_of(recorder.end())
    expected = used.ru_utime + used.ru_stime - before
    figures = {**last.metrics, "expected": expected}
    for metrics in (last.metrics, second.metrics):
        assert abs(metrics["mem_usage@max"] - 300 * MIB) < 15 * MIB, figures
        assert abs(metrics["cpu_time@last"] / 1e9 - expected) < 0.01 * expected + 0.01, figures
        assert 20_000_000 <= metrics["disk_write"] < 22_000_000 and metrics["mem_limit"] == 400 * MIB, figures
    assert usage.peak_ceiling == last.metrics["mem_usage@max"] and 0 < second.metrics["mem_working"] < 50 * MIB


def test_out_of_memory(group: Path) -> None:
    """A process that the kernel has killed for want of memory is told, and a group that is gone has no sample."""
    (group / "memory.max").write_text(str(64 * MIB))
    program = f"import mmap, sys\nsys.stdin.readline()\ndata = {HOLD.format(mib=100)}\ndata[:] = bytes(len(data))"
    with CgroupSampler(group) as sampler, started([*PYTHON, program], stdin=subprocess.PIPE) as one:
        (group / "cgroup.procs").write_text(str(one.pid))
        one.communicate(b"\n", timeout=PATIENCE)
        assert one.returncode == -9 and sampler.oom_kills() == 1 and not sampler.is_running()
        sample = sampler.sample()
        assert sample is not None and abs(sample.metrics["mem_usage@max"] - 64 * MIB) < MIB
        remove(group)
        assert sampler.sample() is None and not sampler.is_running()


def test_record_a_group(group: Path, tmp_path: Path) -> None:
    """The command watches a group until its last process ends, and stores the kernel's peak."""
    db = tmp_path / "calls.db"
    program = f"import mmap, sys, time\nsys.stdin.readline()\n{HOLD.format(mib=100)}.close()\ntime.sleep(0.5)"
    with started([*PYTHON, program], stdin=subprocess.PIPE) as one:
        (group / "cgroup.procs").write_text(str(one.pid))
        command = [sys.executable, "-m", "callstats", "record", "--db", str(db), "--interval", "100s", "--cgroup", str(group)]
        with started(command, stderr=subprocess.PIPE, text=True) as recorder:
            deadline = monotonic() + PATIENCE
            while not db.exists() or not ask(db, "SELECT 1 FROM sqlite_master") or not ask(db, "SELECT 1 FROM calls"):
                assert monotonic() < deadline
                sleep(0.1)
            sleep(0.5)
            one.communicate(b"\n", timeout=PATIENCE)
            _, err = recorder.communicate(timeout=PATIENCE)
    [(name, status, stats)] = ask(db, "SELECT fn_id, status, stats FROM calls")
    assert (recorder.returncode, name, status) == (0, group.name, None), err
    ceiling = usage_of(stats.encode()).peak_ceiling
    assert ceiling is not None and abs(ceiling - 100 * MIB) < 8 * MIB and "at most" in err


# --- a group of the task's own ------------------------------------------------------------------------------------------------

PAIR = f"""
import mmap, os, sys
ends = [os.pipe() for _ in range(3)]
for _ in range(2):
    if os.fork() == 0:
        data = {HOLD.format(mib=150)}
        os.write(ends[0][1], b".")
        os.read(ends[1][0], 1)
        os._exit(0)
for _ in range(2):
    os.read(ends[0][0], 1)
os.write(ends[1][1], b"..")
for _ in range(2):
    os.wait()
"""


def test_the_peak_of_several_processes(parent: Path) -> None:
    """Memory of processes that ran at the same time, between two samples, is told by the kernel as that of them all."""
    _, series = python(PAIR, 100)
    usage = usage_of(series)
    assert usage.peak_source == "kernel" and "peak_memory" in usage.exact
    assert usage.peak_memory is not None and abs(usage.peak_memory - 300 * MIB) < 15 * MIB


def test_files_are_not_memory(parent: Path, tmp_path: Path) -> None:
    """What the page cache may have held does not count, though the kernel's peak has it. Then the peak is a lower bound."""
    script = "dd if=/dev/zero of=data bs=1M count=100 && rm data; dd if=/dev/zero of=data bs=1M count=60"
    _, series = shell(script, 100, work_dir=str(tmp_path))
    usage = usage_of(series)
    assert usage.peak_source == "sampled" and usage.peak_memory is not None and usage.peak_memory < 20 * MIB


UNCOUNTED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        end = time.process_time() + 0.5
        while time.process_time() < end: pass
        os.write(1, b"%f\\n" % time.process_time())
        os._exit(0)
try:
    os.wait()
except ChildProcessError:
    os.write(1, b"%f\\n" % time.process_time())
"""


def test_processor_time_that_nobody_waits_for(parent: Path) -> None:
    """The group counts children that leave no trace with their parent, and that no sample has seen."""
    out = io.BytesIO()
    _, series = python(UNCOUNTED, 100, stdout=out)
    *children, parent_s = map(float, out.getvalue().split())
    own, counted = sum(children) + parent_s, series["cpu_time@last"].max() / 1e9
    assert own - 0.01 < counted < own + 0.9 * sum(children)  # with starts and ends of processes, and nothing twice


def test_processor_time_is_that_of_wait4(parent: Path) -> None:
    """Where all are waited for, both agree to 1 %."""
    program = "end = __import__('time').process_time() + 2\nwhile __import__('time').process_time() < end: pass"
    out = io.BytesIO()
    wrapper = (
        f"import os, sys\npid = os.posix_spawn({sys.executable!r}, ['python', '-S', '-c', {program!r}], os.environ)\n"
        "used = os.wait4(pid, 0)[2]\nprint(used.ru_utime + used.ru_stime, os.times()[0] + os.times()[1])"
    )
    _, series = python(wrapper, 0.5, stdout=out)
    own = sum(map(float, out.getvalue().split()))
    assert own - 0.02 < series["cpu_time@last"].max() / 1e9 < 1.01 * own + 0.05


def test_disk_traffic(parent: Path, tmp_path: Path) -> None:
    """20 MB written and synced between two samples are known."""
    _, series = shell("dd if=/dev/urandom of=data bs=1000000 count=20 conv=fsync", 100, work_dir=str(tmp_path))
    assert 20_000_000 <= series["disk_write"].max() < 22_000_000


CHAIN = """
import os, sys
sys.stdin.readline()
number = 0
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    number += 1
    if number == 20:
        open("runs", "x").close()
"""


def test_a_chain_of_forks_ends(parent: Path, tmp_path: Path) -> None:
    """Processes that each leave their session, and exit at once after a fork, die with the task. Their group is removed."""
    before, mark = set(parent.glob("callstats-*")), uuid4().hex
    script = f"env -i {' '.join(PYTHON[3:])} '{CHAIN}' {mark} & until [ -e runs ]; do sleep 0.05; done"
    result, _ = shell(script, 100, work_dir=str(tmp_path))
    assert result.status is Status.SUCCESS and (tmp_path / "runs").exists()
    assert gone(mark, 0) and set(parent.glob("callstats-*")) == before


def test_one_kill_ends_a_chain(parent: Path, tmp_path: Path) -> None:
    """The kernel kills all of a group at once, so that nothing of it can fork on."""
    group = TaskGroup.make(uuid4().hex)
    assert group is not None
    with started([*PYTHON, CHAIN], stdin=subprocess.PIPE, cwd=tmp_path) as first:
        assert group.add(first.pid)
        first.communicate(b"\n", timeout=PATIENCE)
        deadline = monotonic() + PATIENCE
        while not (tmp_path / "runs").exists():
            assert monotonic() < deadline
            sleep(0.01)
        group.kill()
        while list(group.pids()):
            assert monotonic() < deadline
            sleep(0.01)
    group.remove()
    assert not group.folder.exists()


# --- a group as a service manager makes it ------------------------------------------------------------------------------------

INSIDE = """
import json, os, sys
from pathlib import Path
from callstats import record
folder, program, python = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
(folder / "cgroup.procs").write_text(str(os.getpid()))
told = []
for _ in range(2):
    usage = record([*python, program], interval=100).usage
    told.append([usage.peak_memory, usage.peak_source])
print(json.dumps([told, Path("/proc/self/cgroup").read_text(), sorted(each.name for each in folder.iterdir() if each.is_dir())]))
"""


@pytest.mark.parametrize("delegated", [True, False])
def test_a_group_that_is_delegated(group: Path, delegated: bool) -> None:
    """Where a manager left the group to us, we step aside, so that memory is counted below it. Else the group stays as it is."""
    if delegated:
        os.setxattr(group, "user.delegate", b"1")
    command = [sys.executable, "-c", INSIDE, str(group), PAIR, json.dumps(PYTHON)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    told, own, below = json.loads(done.stdout)
    for peak, source in told:
        assert source == ("kernel" if delegated else "sampled")
        assert abs(peak - (300 if delegated else 150) * MIB) < 15 * MIB
    leaf = ["callstats-recorder"] if delegated else []
    assert below == leaf and own.strip() == "/".join(["0::", group.name, *leaf])
