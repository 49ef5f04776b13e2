"""A call's key and duration, and whether a running one is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callstats import Call
from callstats._types import I64_MAX
from callstats.call import duration_of, is_lost, new_call_id
from support.programs import started

HERE = socket.gethostname()


def test_keys_of_new_calls() -> None:
    """48 bits of milliseconds and 80 further ones, in 26 characters that sort by time; by default those are random."""
    assert new_call_id(0, 0) == "0" * 26
    assert new_call_id(1, 31) == "00000000010000000000000Z"[:9] + "1" + "0" * 15 + "Z"
    assert new_call_id(2**48 - 1, 2**80 - 1) == "7" + "Z" * 25
    drawn = {new_call_id(1_700_000_000_000) for _ in range(100)}
    assert len(drawn) == 100 and {key[:10] for key in drawn} == {new_call_id(1_700_000_000_000, 0)[:10]}


@pytest.mark.parametrize(
    ("start", "end", "ns"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00Z", None),
        (None, "2026-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00Z", "soon", None),
        ("1680-01-01T00:00:00Z", "2260-01-01T00:00:00Z", I64_MAX),
    ],
)
def test_durations(start: object, end: object, ns: int | None) -> None:
    """From the start to the end, none if they are unknown or out of order."""
    assert duration_of(start, end) == ns
    span = Call(key=1, started_at=start, completed_at=end).span
    assert (span is None) == (ns is None)
    assert span is None or min(span[1] - span[0], I64_MAX) == ns


def test_a_process_that_is_gone() -> None:
    """No process has its number, or one that began later."""
    with started([sys.executable, "-c", ""]) as ended:
        ended.wait()
    began = datetime.now(UTC)
    assert is_lost(HERE, ended.pid, began)
    assert is_lost(HERE, os.getpid(), "2020-01-01T00:00:00Z")
    assert not is_lost(HERE, os.getpid(), began)
    for created in (None, "soon"):
        assert not is_lost(HERE, os.getpid(), created)
    now = time.time_ns()
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = [is_lost(HERE, child.pid, now - seconds * 10**9) for seconds in (0, 50, 70)]  # the clock may be set meanwhile
    assert found == [False, False, True]


def test_a_process_that_nobody_has_waited_for() -> None:
    """It has ended, though its number is still taken, as in a container whose first process waits for none."""
    with started([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_lost(HERE, child.pid, datetime.now(UTC))


@pytest.mark.parametrize(
    ("host", "pid"), [("elsewhere", 1), (None, 1), (HERE, None), (HERE, "1"), (HERE, 0), (HERE, -1), (HERE, 2**31)]
)
def test_processes_that_nothing_is_known_of(host: Any, pid: Any) -> None:
    """Those of other machines, and what is no process's number."""
    assert not is_lost(host, pid, datetime.now(UTC) - timedelta(days=9999))


def test_the_first_process_may_be_another_one() -> None:
    """In a container the number of a recorder can be 1, and the next container's first process has it too."""
    assert is_lost(HERE, 1, "2001-01-01T00:00:00Z")
    assert not is_lost(HERE, 1, datetime.now(UTC) + timedelta(days=1))
    assert not is_lost(HERE, 0, "2001-01-01T00:00:00Z")
