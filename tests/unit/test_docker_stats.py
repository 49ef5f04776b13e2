"""Docker's stats frames, decoded into Fn's metrics."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats.demo import docker_frames
from callstats.drivers import pick_stats
from callstats.drivers.docker.stats import cpu_time
from callstats.series import Stat

READ = "2017-11-27T14:52:53.5Z"
READ_NS = 1_511_794_373_500_000_000
U64_MAX = 2**64 - 1
ABSENT: Any = object()


def frame(**parts: Any) -> dict[str, Any]:
    """Return a frame with a time and these parts."""
    return {"read": READ, **parts}


def picked(**parts: Any) -> dict[str, int]:
    """Return the metrics of such a frame. A frame without any metric gives no sample."""
    stat = pick_stats(frame(**parts))
    if stat is None:
        return {}
    assert stat.timestamp == READ_NS and stat.metrics
    return stat.metrics


def cpu(usage: Any, system: Any, **fields: Any) -> dict[str, Any]:
    """Return one side of a frame's processor times, without the ABSENT ones."""
    side = {"cpu_usage": usage if isinstance(usage, dict) else {"total_usage": usage}, "system_cpu_usage": system, **fields}
    side["cpu_usage"] = {name: value for name, value in side["cpu_usage"].items() if value is not ABSENT}
    return {name: value for name, value in side.items() if value is not ABSENT}


def usages(total: Any, user: Any, kernel: Any, **fields: Any) -> dict[str, Any]:
    """Return Docker's three processor times."""
    return {"total_usage": total, "usage_in_usermode": user, "usage_in_kernelmode": kernel, **fields}


# --- time --------------------------------------------------------------------------------------------------------------------


def test_a_stopped_containers_frame_is_none() -> None:
    """The frame that an engine sends after the container's end, with Go's zero time, is no sample."""
    stopped = {
        "read": "0001-01-01T00:00:00Z",
        "preread": "2026-11-25T00:49:50.270619039Z",
        "blkio_stats": {"io_service_bytes_recursive": None},
        "cpu_stats": {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}},
        "precpu_stats": cpu(usages(1, 1, 1), 1_000, online_cpus=2),
        "memory_stats": {},
    }
    assert pick_stats(stopped) is None


@pytest.mark.parametrize(
    "read",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000000000Z",
        "0001-01-01T00:00:00+00:00",
        "1677-09-21T00:12:43.145999999Z",
        "2262-04-11T23:47:16.854775808Z",
        "2017-11-27",
        "",
        "null",
        None,
        0,
        1_511_794_373,
        True,
        [READ],
        {"time": READ},
        ABSENT,
    ],
)
def test_a_frame_without_a_time_is_none(read: object) -> None:
    """Zero, missing, null, of another type or out of range: without a time there is no sample."""
    parts = {"memory_stats": {"usage": 1}} | ({} if read is ABSENT else {"read": read})
    assert pick_stats(parts) is None


@pytest.mark.parametrize(
    ("read", "timestamp"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2017-11-27T15:52:53.5+01:00", READ_NS),
        ("2026-11-25T00:49:20.1602786Z", 1_795_567_760_160_278_600),
    ],
)
def test_the_time_is_the_frames_own(read: str, timestamp: int) -> None:
    """The engine's `read` is the sample's time, to the nanosecond."""
    assert pick_stats({"read": read, "networks": {}}) == Stat(timestamp, {"net_rx": 0, "net_tx": 0})


def test_a_time_alone_is_no_sample() -> None:
    """A value that the frame lacks is absent, never 0, and a frame without any value is none."""
    assert pick_stats(frame()) is None
    assert pick_stats(frame(memory_stats={"usage": 0}, networks=None)) is None


# --- processor ---------------------------------------------------------------------------------------------------------------


def test_cpu_is_percent_of_one_core() -> None:
    """Each value is floor(100 * cores * its own delta / the system's)."""
    metrics = picked(
        cpu_stats=cpu(usages(1_500_000_000, 900_000_000, 599_999_999), 20_000_000_000, online_cpus=4),
        precpu_stats=cpu(usages(500_000_000, 400_000_000, 100_000_000), 16_000_000_000, online_cpus=2),
    )
    # 400 * 1e9 / 4e9; 400 * 5e8 / 4e9; 400 * 499999999 / 4e9 = 49.9999999
    assert metrics == {"cpu_total": 100, "cpu_user": 50, "cpu_kernel": 49}


def test_a_cgroup_2_frame() -> None:
    """Without `percpu_usage` the cores are those online."""
    metrics = picked(cpu_stats=cpu(1_000_000_000, 8_000_000_000, online_cpus=8), precpu_stats=cpu(0, 1))
    # 800 * 1000000000 / 7999999999 = 100.00000001
    assert metrics == {"cpu_total": 100}
    metrics = picked(cpu_stats=cpu(3_000_000_000, 9_000_000_000, online_cpus=8), precpu_stats=cpu(2_000_000_000, 1_000_000_000))
    assert metrics == {"cpu_total": 100}


@pytest.mark.parametrize(
    ("used", "total"),
    [(1_000_000_000, None), (1_100_001, 110 * 4), (1_102_500, None), (1_100_000, 110 * 4), (1_000_000, 100 * 4)],
)
def test_more_cpu_than_there_is_is_absent(used: int, total: int | None) -> None:
    """Four cores in a frame of 1 ms of the system's time: up to a tenth more than all of it is kept as it comes out."""
    metrics = picked(cpu_stats=cpu(usages(used, used, 7), 2_000_000, online_cpus=4), precpu_stats=cpu(usages(0, 0, 7), 1_000_000))
    assert metrics == {"cpu_kernel": 0, **({} if total is None else {"cpu_total": total, "cpu_user": total})}


def test_the_smallest_cpu() -> None:
    """One nanosecond of the system's time is time, and a use that did not change is 0 percent."""
    metrics = picked(cpu_stats=cpu(usages(6, 5, 5), 2, online_cpus=1), precpu_stats=cpu(usages(5, 5, 6), 1))
    assert metrics == {"cpu_total": 100, "cpu_user": 0}


@pytest.mark.parametrize("before", [ABSENT, None, {}, cpu(usages(0, 0, 0), ABSENT), cpu(usages(0, 0, 0), 0), cpu(0, None), [], 7])
def test_the_first_frame_has_no_cpu(before: object) -> None:
    """With nothing to measure against, cpu is absent and all else is kept."""
    parts = {
        "cpu_stats": cpu(usages(25_281_712, 10_000_000, 10_000_000), 1_852_010_000_000, online_cpus=2),
        "memory_stats": {"usage": 1_253_376, "limit": 100_663_296, "stats": {"total_inactive_file": 589_824}},
        "networks": {"eth0": {"rx_bytes": 200, "tx_bytes": 0}},
        "blkio_stats": {"io_service_bytes_recursive": []},
    } | ({} if before is ABSENT else {"precpu_stats": before})
    assert picked(**parts) == {
        "mem_usage": 1_253_376,
        "mem_limit": 100_663_296,
        "mem_working": 663_552,
        "net_rx": 200,
        "net_tx": 0,
        "disk_read": 0,
        "disk_write": 0,
    }


@pytest.mark.parametrize(
    ("online", "per_core", "total"),
    [
        (8, [1, 2], 80),
        (0, [1, 2], 20),
        (None, [1, 2, 3], 30),
        (ABSENT, [0, 0, 0, 0], 40),
        (-1, [1], 10),
        ("8", [1], 10),
        (8.0, [1], 10),
        (True, [1, 2], 20),
        (2, None, 20),
        (2, ABSENT, 20),
        (2, [], 20),
        (0, None, None),
        (0, [], None),
        (ABSENT, ABSENT, None),
        (ABSENT, {"0": 1}, None),
        (ABSENT, "12", None),
        (ABSENT, 4, None),
    ],
)
def test_cores(online: object, per_core: object, total: int | None) -> None:
    """The number of cores is `online_cpus`, where 0 counts as missing, else the length of `percpu_usage`, else cpu is absent."""
    metrics = picked(
        cpu_stats=cpu({"total_usage": 200, "percpu_usage": per_core}, 3_000, online_cpus=online),
        precpu_stats=cpu(100, 2_000, online_cpus=64),
    )
    assert metrics == ({} if total is None else {"cpu_total": total})


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ((300, 10), (100, 5_000)),  # the system's figure goes back
        ((300, 1_000), (100, 1_000)),
        ((300, 0), (100, 1_000)),
        ((300, 1_000), (100, 0)),
        ((300, None), (100, 1_000)),
        ((300, 2_000), (100, None)),
        ((300, ABSENT), (100, 1_000)),
        ((300, 2_000), (100, ABSENT)),
        ((300, "2000"), (100, 1_000)),
        ((300, 2_000.0), (100, 1_000)),
        ((300, 2**64), (100, 1_000)),
        ((300, 2_000), (100, -1)),
        # the usage's own sides
        ((100, 1_000_001_000), (300, 1_000)),  # the counter goes back
        ((ABSENT, 2_000), (100, 1_000)),
        ((300, 2_000), (ABSENT, 1_000)),
        ((None, 2_000), (100, 1_000)),
        ((300, 2_000), (None, 1_000)),
        (("300", 2_000), (100, 1_000)),
        ((300, 2_000), (1.0, 1_000)),
        ((True, 2_000), (0, 1_000)),
        ((300, 2_000), (-1, 1_000)),
        ((2**64, 2_000), (100, 1_000)),
    ],
)
def test_cpu_is_absent_without_two_good_values_of_each(now: tuple[Any, Any], before: tuple[Any, Any]) -> None:
    """A value that is missing, of another type or lower than before gives no percentage, never a wrapped or a zero one."""
    assert picked(cpu_stats=cpu(*now, online_cpus=1), precpu_stats=cpu(*before)) == {}


def test_after_a_counter_went_back_the_next_frame_counts_on() -> None:
    """Each frame is measured from its own `precpu_stats`, so one bad frame spoils one sample."""
    sides = [cpu(300, 1_000), cpu(100, 2_000, online_cpus=1), cpu(150, 3_000, online_cpus=1)]
    assert picked(precpu_stats=sides[0], cpu_stats=sides[1]) == {}
    assert picked(precpu_stats=sides[1], cpu_stats=sides[2]) == {"cpu_total": 5}


def test_each_cpu_value_stands_alone() -> None:
    """A value that lacks a side or decreases is absent. The others are present."""
    metrics = picked(cpu_stats=cpu(usages(500, 100, 7), 2_000, online_cpus=2), precpu_stats=cpu(usages(400, 200, ABSENT), 1_000))
    assert metrics == {"cpu_total": 20}
    metrics = picked(cpu_stats=cpu(usages(ABSENT, 7, 9), 2_000, online_cpus=2), precpu_stats=cpu(usages(0, 7, 4), 1_000))
    assert metrics == {"cpu_user": 0, "cpu_kernel": 1}


def test_cpu_is_exact_and_fits() -> None:
    """No value passes through a float, at the largest processor times too."""
    # 100 * 3 * (2**53 + 1) / (2**53 + 3), just below 300; floats would make it 299.9999... or 300
    assert picked(cpu_stats=cpu(2**53 + 1, 2**53 + 4, online_cpus=3), precpu_stats=cpu(0, 1)) == {"cpu_total": 299}
    assert picked(cpu_stats=cpu(U64_MAX, U64_MAX, online_cpus=1), precpu_stats=cpu(0, 1)) == {"cpu_total": 100}
    assert picked(cpu_stats=cpu(U64_MAX, 101, online_cpus=1), precpu_stats=cpu(0, 1)) == {}


@pytest.mark.parametrize("broken", [None, [], "x", 7, {"cpu_usage": None}, {"cpu_usage": []}, {"cpu_usage": 7}])
def test_cpu_of_another_shape_is_absent(broken: object) -> None:
    """Either side may be null or no object at all."""
    whole = cpu(usages(9, 9, 9), 2_000, online_cpus=1)
    side = {"system_cpu_usage": 1_000, "online_cpus": 1} | broken if isinstance(broken, dict) else broken
    assert picked(cpu_stats=whole, precpu_stats=side) == {}
    assert picked(cpu_stats=side, precpu_stats=cpu(usages(1, 1, 1), 500)) == {}


# --- memory ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, {}),
        ([], {}),
        ({}, {}),
        ({"usage": 0, "limit": 0}, {}),  # nothing uses no memory or may use none, so it is no measurement
        ({"usage": 5}, {"mem_usage": 5}),
        ({"limit": 5}, {"mem_limit": 5}),
        ({"usage": None, "limit": "5"}, {}),
        ({"usage": 5.0, "limit": True}, {}),
        ({"usage": -1, "limit": 2**64}, {}),
        # Both mean that there is no limit
        ({"limit": U64_MAX}, {"mem_limit": U64_MAX}),
        ({"limit": 9_223_372_036_854_771_712}, {"mem_limit": 9_223_372_036_854_771_712}),
        # mem_working
        ({"usage": 10, "stats": {"total_inactive_file": 4}}, {"mem_usage": 10, "mem_working": 6}),
        ({"usage": 10, "stats": {"inactive_file": 4}}, {"mem_usage": 10, "mem_working": 6}),
        ({"usage": 10, "stats": {"total_inactive_file": 4, "inactive_file": 1}}, {"mem_usage": 10, "mem_working": 6}),
        ({"usage": 10, "stats": {"total_inactive_file": 0, "inactive_file": 1}}, {"mem_usage": 10, "mem_working": 10}),
        ({"usage": 10, "stats": {"total_inactive_file": None, "inactive_file": 1}}, {"mem_usage": 10, "mem_working": 9}),
        ({"usage": 10, "stats": {"total_inactive_file": "4", "inactive_file": 1}}, {"mem_usage": 10, "mem_working": 9}),
        ({"usage": 10, "stats": {"total_inactive_file": 9}}, {"mem_usage": 10, "mem_working": 1}),
        ({"usage": 10, "stats": {"total_inactive_file": 10}}, {"mem_usage": 10, "mem_working": 10}),
        ({"usage": 10, "stats": {"total_inactive_file": 11}}, {"mem_usage": 10, "mem_working": 10}),
        ({"usage": 0, "stats": {"inactive_file": 0}}, {}),
        ({"usage": 0, "max_usage": 7}, {"mem_usage@max": 7}),
        ({"usage": 5, "max_usage": 0}, {"mem_usage": 5}),
        ({"usage": 5, "max_usage": "7"}, {"mem_usage": 5}),
        # Windows
        ({"commitbytes": 9, "commitpeakbytes": 10, "privateworkingset": 4}, {"mem_working": 4}),
        ({"privateworkingset": 0}, {}),
        ({"usage": 10, "stats": {"cache": 4}}, {"mem_usage": 10}),
        ({"usage": 10, "stats": None}, {"mem_usage": 10}),
        ({"usage": 10, "stats": []}, {"mem_usage": 10}),
        ({"stats": {"total_inactive_file": 4}}, {}),
        ({"usage": None, "stats": {"inactive_file": 4}}, {}),
    ],
)
def test_memory(memory: object, expected: dict[str, int]) -> None:
    """Usage and limit are raw; `mem_working` is usage minus the inactive page cache, where that is known and smaller."""
    assert picked(memory_stats=memory) == expected


def test_the_kernel_s_peak_is_kept_where_it_has_risen() -> None:
    """The peak is a metric of its own in the first frame, and in each whose peak exceeds that of the frame before."""
    frames = [frame(memory_stats={"usage": 3, "max_usage": peak} if peak else {"usage": 3}) for peak in (7, 7, 9, 8, 9, 0, 5)]
    stats = [pick_stats(each, before) for each, before in zip(frames, [None, *frames], strict=False)]
    assert [stat and stat.metrics.get("mem_usage@max") for stat in stats] == [7, None, 9, None, 9, None, 5]
    assert all(stat and stat.metrics["mem_usage"] == 3 for stat in stats)


# --- network and disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "rx", "tx"),
    [
        # What engines send
        (ABSENT, None, None),
        (None, None, None),
        ({}, 0, 0),
        ({"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}}, 11, 22),
        # Others
        ([], 0, 0),
        ([{"rx_bytes": 1}], None, None),
        ("eth0", None, None),
        (7, None, None),
        ({"eth0": {"rx_bytes": 1}, "eth1": {"rx_bytes": None, "tx_bytes": 20}}, 1, 20),
        ({"eth0": {"rx_bytes": "1", "tx_bytes": 2.0}, "eth1": {"rx_bytes": 10, "tx_bytes": -20}}, 10, 0),
        ({"eth0": {}, "eth1": None, "eth2": [], "eth3": 4}, 0, 0),
        ({"eth0": {"rx_bytes": U64_MAX, "tx_bytes": 2**53 + 1}, "lo": {"rx_bytes": 0, "tx_bytes": 2}}, U64_MAX, 2**53 + 3),
        ({"eth0": {"rx_bytes": U64_MAX, "tx_bytes": 0}, "lo": {"rx_bytes": 1, "tx_bytes": 5}}, None, 5),
    ],
)
def test_network(networks: object, rx: int | None, tx: int | None) -> None:
    """Bytes are summed over the interfaces. An empty list is 0. No list is absent, as is a sum beyond a series' range."""
    metrics = picked(**({} if networks is ABSENT else {"networks": networks}))
    assert metrics == {name: value for name, value in (("net_rx", rx), ("net_tx", tx)) if value is not None}


def io(*entries: tuple[object, object]) -> list[dict[str, object]]:
    """Return an engine's list of operations."""
    return [{"major": 8, "minor": number, "op": op, "value": value} for number, (op, value) in enumerate(entries)]


@pytest.mark.parametrize(
    ("listed", "read", "write"),
    [
        # What engines send
        (None, None, None),
        ([], 0, 0),
        (io(("read", 4096), ("Write", 5), ("Sync", 9), ("Total", 14), ("READ", 1)), 4097, 5),
        # Others
        (ABSENT, None, None),
        ({}, 0, 0),
        ({"op": "read", "value": 1}, None, None),
        ("read", None, None),
        (io(("Sync", 9), ("Async", 5), ("Discard", 1), ("Total", 14)), 0, 0),
        (io(("wRiTe", 3)), 0, 3),
        (io(("reads", 3), (" read", 3), ("", 3), (None, 3), (7, 3)), 0, 0),
        (io(("Read", None), ("Read", "5"), ("Read", 5.0), ("Read", -5), ("Read", True), ("Write", 5)), 0, 5),
        ([{"op": "read"}, {"value": 5}, None, [], 7, {"op": "read", "value": 2}], 2, 0),
        (io(("Read", U64_MAX), ("Write", U64_MAX), ("Write", 1)), U64_MAX, None),
    ],
)
def test_disk(listed: object, read: int | None, write: int | None) -> None:
    """Bytes are summed over the devices by operation in any case of letters. An empty list is 0, and no list is absent."""
    metrics = picked(blkio_stats={} if listed is ABSENT else {"io_service_bytes_recursive": listed})
    assert metrics == {name: value for name, value in (("disk_read", read), ("disk_write", write)) if value is not None}


@pytest.mark.parametrize("blkio", [None, [], 7, "x"])
def test_disk_of_another_shape_is_absent(blkio: object) -> None:
    """`blkio_stats` may be null or no object at all."""
    assert picked(blkio_stats=blkio) == {}


# --- Windows -----------------------------------------------------------------------------------------------------------------

WINDOWS = {
    "preread": "2017-11-27T14:52:51.5Z",
    "num_procs": 4,
    "cpu_stats": {"cpu_usage": usages(35_000_000, 25_000_000, 10_000_000), "throttling_data": {"periods": 0}},
    "precpu_stats": {"cpu_usage": usages(20_000_000, 15_000_000, 5_000_000)},
    "memory_stats": {"commitbytes": 9_000, "commitpeakbytes": 9_500, "privateworkingset": 8_192},
    "blkio_stats": {"io_service_bytes_recursive": None},
    "storage_stats": {"read_count_normalized": 3, "read_size_bytes": 4_096, "write_count_normalized": 1, "write_size_bytes": 512},
    "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}},
}


def test_a_windows_frame() -> None:
    """Processor times count 100 ns, and the time between two readings stands for the system's."""
    common = {"mem_working": 8_192, "net_rx": 1, "net_tx": 2, "disk_read": 4_096, "disk_write": 512}
    # 1.5 s, 1 s and 0.5 s of processor time in 2 s
    assert picked(**WINDOWS) == {"cpu_total": 75, "cpu_user": 50, "cpu_kernel": 25, **common}
    assert cpu_time(WINDOWS) == 100 * WINDOWS["cpu_stats"]["cpu_usage"]["total_usage"]
    assert cpu_time({**WINDOWS, "cpu_stats": {}}) is None
    assert picked(**WINDOWS | {"num_procs": 0}) == common
    for preread in ("0001-01-01T00:00:00Z", READ, "2017-11-27T14:52:54Z", None, ABSENT):
        assert picked(**{**WINDOWS, "preread": preread}) == common
    too_much = {"cpu_usage": usages(20_000_000 + 4 * 22_000_001, 15_000_000 + 4 * 22_000_000, 5_000_000)}
    assert picked(**WINDOWS | {"cpu_stats": too_much}) == {"cpu_total": 440, "cpu_user": 440, "cpu_kernel": 0, **common}
    too_much = {"cpu_usage": usages(20_000_000 + 4 * 22_100_000, 15_000_000, 5_000_000)}
    assert picked(**WINDOWS | {"cpu_stats": too_much}) == {"cpu_user": 0, "cpu_kernel": 0, **common}


# --- whole frames ------------------------------------------------------------------------------------------------------------

FIRST = {
    "mem_usage": 1_253_376,
    "mem_limit": 100_663_296,
    "mem_working": 663_552,
    "net_rx": 200,
    "net_tx": 0,
    "disk_read": 0,
    "disk_write": 0,
}
QUIET = {"mem_limit": 100_663_296, "net_tx": 0, "disk_read": 0, "disk_write": 0}
CAPTURED = {
    0: Stat(1_795_567_746_099_834_609, FIRST),
    # 200 * 33586540 / 2010000000 = 3.34; 200 * 10000000 / 2010000000 = 0.995; 200 * 40000000 / 2010000000 = 3.98
    8: Stat(
        1_795_567_754_128_995_126,
        {
            **QUIET,
            "cpu_total": 3,
            "cpu_user": 0,
            "cpu_kernel": 3,
            "mem_usage": 31_809_536,
            "mem_working": 5_922_816,
            "net_rx": 806,
        },
    ),
    # 200 * 28125454 / 2000000000 = 2.81; 200 * 10000000 / 2000000000 = 1; 200 * 20000000 / 2000000000 = 2
    44: Stat(
        1_795_567_790_270_619_039,
        {
            **QUIET,
            "cpu_total": 2,
            "cpu_user": 1,
            "cpu_kernel": 2,
            "mem_usage": 30_326_784,
            "mem_working": 5_619_712,
            "net_rx": 946,
        },
    ),
}


def test_the_captured_frames() -> None:
    """A real engine's 45 frames give 45 samples in order of time, all ten metrics in each but the first, which has no cpu.

    The kernel's peak stands in the frames that raise it, the last of which is the container's.
    """
    frames = list(docker_frames())
    stats = list(map(pick_stats, frames, [None, *frames]))
    peaks = [stat.metrics.pop("mem_usage@max") for stat in stats if stat and "mem_usage@max" in stat.metrics]
    assert peaks == sorted(set(peaks)) and (peaks[0], peaks[-1]) == (4_075_520, 46_157_824)
    assert len(stats) == 45
    assert all(stat is not None for stat in stats)
    given_times = [stat.timestamp for stat in stats if stat]
    assert given_times == sorted(set(given_times))
    assert {index: stats[index] for index in CAPTURED} == CAPTURED
    names = {*FIRST, "cpu_total", "cpu_user", "cpu_kernel"}
    assert [set(stat.metrics) for stat in stats if stat] == [set(FIRST)] + [names] * 44


def test_the_frame_is_left_unchanged() -> None:
    """`pick_stats` changes nothing in a frame."""
    for each in docker_frames():
        before = copy.deepcopy(each)
        pick_stats(each)
        assert each == before


def test_metrics_are_plain_ints() -> None:
    """Times and values are Python ints in the range of a series."""
    for each in docker_frames():
        stat = pick_stats(each)
        assert stat is not None
        assert type(stat.timestamp) is int
        assert all(type(name) is str and type(value) is int for name, value in stat.metrics.items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(("read", "Write", READ, "")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("op", "value", "usage")), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_no_frame_of_a_wrong_shape_raises(data: st.DataObject) -> None:
    """Whatever replaces any part of a real frame, the answer is None or a sample in the range of a series."""
    spoilt = json.loads(json.dumps(_ANY_FRAME))
    parent: Any = spoilt
    while True:
        key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        if isinstance(parent[key], (dict, list)) and parent[key] and data.draw(st.booleans()):
            parent = parent[key]
            continue
        parent[key] = data.draw(json_values)
        break
    stat = pick_stats(spoilt)
    assert stat is None or all(type(value) is int and 0 <= value <= U64_MAX for value in stat.metrics.values())


_ANY_FRAME = frame(
    cpu_stats=cpu(usages(9, 5, 4, percpu_usage=[4, 5]), 2_000, online_cpus=2),
    precpu_stats=cpu(usages(1, 1, 0), 1_000),
    memory_stats={"usage": 9, "limit": 10, "stats": {"total_inactive_file": 1, "inactive_file": 1}},
    networks={"eth0": {"rx_bytes": 1, "tx_bytes": 2}},
    blkio_stats={"io_service_bytes_recursive": io(("Read", 1), ("Write", 2))},
)
