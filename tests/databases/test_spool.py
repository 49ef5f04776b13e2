"""The spool: a call that its database can't take becomes a line of a file, and `restore` brings it into a table."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from callstats import Call, CallstatsError, StatSeries, connect
from callstats.db import DatabaseError, spool
from callstats.db.spool import call_line, keep_call, within
from support.database import ask, made
from support.databases import Database
from support.tables import create_table, restore_table

SERIES = StatSeries([10**9], {"mem_usage": [5]})
STATS = r"[{\"timestamp\":\"1970-01-01T00:00:01.000Z\",\"metrics\":{\"mem_usage\":5}}]\n"
NONE = '"created_at":null,"started_at":null,"completed_at":null,"command":null,"host":null,"error":null'


def call(key: str) -> Call:
    """A call that has ended."""
    return Call(key=key, series=SERIES, status="success")


class Busy:
    """A table whose database fails so many times."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.stored: list[str] = []

    def finish(self, calls: list[Call]) -> int:
        """Fail, or store."""
        self.left -= 1
        if self.left >= 0:
            raise DatabaseError("it is busy")
        self.stored += [str(one.key) for one in calls]
        return len(calls)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The pauses between tries, which pass at once."""
    found: list[float] = []
    monkeypatch.setattr(spool, "monotonic", lambda: sum(found))
    monkeypatch.setattr(spool, "sleep", found.append)
    return found


def test_a_line() -> None:
    """One object in ASCII; a call without samples has an empty text."""
    line = call_line(Call(key="k", name="é", status="error", series=SERIES, tags={"a": "b"}, exit_code=3, pid=7))
    head = '{"callstats":"call","v":1,"call":{"key":"k",'
    assert line.decode() == (
        rf'{head}"name":"\u00e9","status":"error",{NONE},"exit_code":3,"pid":7,"tags":{{"a":"b"}},"stats":"{STATS}"}}}}' + "\n"
    )
    assert call_line(Call(key="k")).decode() == (
        f'{head}"name":null,"status":null,{NONE},"exit_code":null,"pid":null,"tags":{{}},"stats":""}}}}\n'
    )


def test_calls_are_counted(tmp_path: Path) -> None:
    """Those stored, those that the table has already, and lines that hold none, also after each of them."""
    db, file = tmp_path / "calls.db", tmp_path / "spool.jsonl"
    with connect(db) as table:
        table.create()
        assert table.finish([call("known")]) == 1
    file.write_bytes(call_line(call("new")) + call_line(call("known")) + b"nonsense\n" + call_line(call("new")))
    seen: list[tuple[int, ...]] = []
    done = restore_table(db, file, progress=lambda now: seen.append((now.rows, now.stored, now.known, now.rejected)))
    assert seen == [(1, 1, 0, 0), (2, 1, 1, 0), (3, 1, 1, 1), (4, 1, 2, 1)]
    assert (done.rows, done.stored, done.known, done.rejected, done.stopped) == (4, 1, 2, 1, None)
    assert [(one.key, one.reason) for one in done.rejects] == [(None, "line 3: byte 0: expected value, got 'n'")]
    answers = iter([False, True])
    done = restore_table(db, file, stop=lambda: next(answers))
    assert (done.rows, done.known, done.stopped) == (1, 1, "asked to stop")


def test_a_table_that_takes_no_call(tmp_path: Path) -> None:
    """That is a fault of the table, not of each line."""
    file = tmp_path / "spool.jsonl"
    file.write_bytes(call_line(call("a")))
    db = made(tmp_path / "calls.db", [], table="CREATE TABLE calls (id TEXT, stats TEXT)")
    with pytest.raises(CallstatsError, match=r"^key must be a unique column of table 'calls', got 'id'"):
        restore_table(db, file)
    with pytest.raises(CallstatsError, match=r"^table must be a table of the database, got 'cals'"):
        restore_table(db, file, table="cals")


def test_a_column_that_holds_no_row(on_server: Database, tmp_path: Path) -> None:
    """The call is rejected, and those after it are stored."""
    on_server.make([], stats="VARCHAR(40)")
    file = tmp_path / "spool.jsonl"
    file.write_bytes(call_line(call("a")) + call_line(Call(key="b", status="success", series=StatSeries([], {}))))
    done = restore_table(on_server.url, file)
    [rejected] = done.rejects
    assert (done.stored, done.rejected, rejected.key) == (1, 1, "a")
    assert rejected.reason.startswith("max_bytes must be at least the size of one row, ")
    assert on_server.ask("SELECT id, status FROM calls") == [("b", "success")]


BAD = {
    '{"callstats":"call","v":2,"call":{"key":"x","stats":""}}': "$: expected a call of version 1, as in ",
    '{"callstats":"call","v":1,"call":[]}': "$: expected a call of version 1, as in ",
    '{"callstats":"call","v":1,"call":{"stats":""}}': "$.call.key: expected text, got None",
    '{"callstats":"call","v":1,"call":{"key":7,"stats":""}}': "$.call.key: expected text, got 7",
    '{"callstats":"call","v":1,"call":{"key":"\\ud800","stats":""}}': "$.call.key: expected text, got '\\ud800'",
    '{"callstats":"call","v":1,"call":{"key":"x","stats":"","pid":true}}': "$.call.pid: expected a whole number, got True",
    '{"callstats":"call","v":1,"call":{"key":"x","stats":"","tags":[1]}}': "$.call.tags: expected an object of text",
    '{"callstats":"call","v":1,"call":{"key":"x","stats":"","tags":{"a":1}}}': "$.call.tags: expected an object of text",
    '{"callstats":"call","v":1,"call":{"key":"x"}}': "$.call.stats: expected text",
    '{"callstats":"call","v":1,"call":{"key":"x","stats":1.5}}': "$.call.stats: expected text",
    '{"callstats":"call","v":1,"call":{"key":"x","stats":"["}}': "byte 1: expected value, got the end",
}


@pytest.mark.parametrize("line", BAD)
def test_lines_that_hold_no_call(line: str, tmp_path: Path) -> None:
    """Each is rejected with its reason."""
    file = tmp_path / "spool.jsonl"
    file.write_bytes(call_line(call("a")) + line.encode())
    create_table(tmp_path / "calls.db")
    done = restore_table(tmp_path / "calls.db", file)
    assert (done.rows, done.stored, done.rejected) == (2, 1, 1)
    assert done.rejects[0].reason.startswith(f"line 2: {BAD[line]}")


def test_tries_end_with_the_time(pauses: list[float], tmp_path: Path) -> None:
    """They are made with growing pauses; then the text says where the call is, and why."""
    url = make_url(f"sqlite:///{tmp_path / 'calls.db'}")
    busy: Any = Busy(5)
    assert keep_call(busy, url, call("a"), seconds=60, stop=lambda: False) is None
    assert (busy.stored, pauses) == (["a"], [0.1, 0.2, 0.4, 0.8, 1.0])
    del pauses[:]
    busy = Busy(99)
    file = tmp_path / "calls.db.spool.jsonl"
    assert keep_call(busy, url, call("b"), seconds=2.5, stop=lambda: False) == f"{file}, for callstats import: it is busy"
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    del pauses[:]
    assert keep_call(busy, url, call("c"), seconds=60, stop=lambda: True) is not None
    assert pauses == [] and file.read_bytes() == call_line(call("b")) + call_line(call("c"))


def test_work_that_hangs() -> None:
    """It is left behind after its time, or when asked to; what it returns or raises comes through."""
    assert within(10, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 // 0)
    over = threading.Event()
    with pytest.raises(DatabaseError, match=r"^the database did not answer within 0 s$"):
        within(0.1, lambda: over.wait(60))
    with pytest.raises(DatabaseError, match=r"^the database did not answer within 0 s$"):
        within(60, lambda: over.wait(60), lambda: True)
    over.set()


def test_files_of_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a database without a file go to the user's folder for state, which nobody else may read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    text = keep_call(Busy(1), make_url("sqlite://"), call("a"), seconds=0, stop=lambda: True)  # type: ignore[arg-type]
    file = tmp_path / "state" / "callstats" / "spool.jsonl"
    assert text == f"{file}, for callstats import: it is busy"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No file keeps a part of the line: the call goes to standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "calls.db.spool.jsonl"
    file.write_bytes(call_line(call("a")))

    def write_half(out: Any, line: bytes) -> None:
        out.write(line[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "write_all", write_half)
    url = make_url(f"sqlite:///{tmp_path / 'calls.db'}")
    assert keep_call(Busy(1), url, call("b"), seconds=0, stop=lambda: True) == (  # type: ignore[arg-type]
        "the line above, for callstats import: it is busy"
    )
    assert file.read_bytes() == call_line(call("a"))
    assert capsys.readouterr().err == call_line(call("b")).decode()


def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    """Lines of two recordings that end at once don't mix."""
    fcntl = pytest.importorskip("fcntl")
    url = make_url(f"sqlite:///{tmp_path / 'calls.db'}")
    file = tmp_path / "calls.db.spool.jsonl"
    busy: Any = Busy(1)
    writer = threading.Thread(target=lambda: keep_call(busy, url, call("a"), seconds=0, stop=lambda: True))
    with file.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.3)
        assert file.read_bytes() == b""
    writer.join(60)
    assert file.read_bytes() == call_line(call("a"))


def test_what_is_a_spool(tmp_path: Path) -> None:
    """A file that begins as one; what can't be read is none."""
    file = tmp_path / "file"
    assert not spool.is_spool(file)
    for data, want in ((call_line(call("a")), True), (b'{"callstats":"call","', True), (b'{"key":"a","stats":""}\n', False)):
        file.write_bytes(data)
        assert spool.is_spool(file) == want


def test_the_status_of_what_was_running(tmp_path: Path) -> None:
    """The row of a call that began is completed by its line, and a row that ended stays."""
    db, file = tmp_path / "calls.db", tmp_path / "spool.jsonl"
    with connect(db) as table:
        table.begin(Call(key="a", status="running", series=StatSeries([], {})))
    file.write_bytes(call_line(call("a")))
    assert restore_table(db, file).stored == 1
    file.write_bytes(call_line(Call(key="a", status="error", series=SERIES)))
    assert restore_table(db, file).known == 1
    assert ask(db, "SELECT status, stats FROM calls") == [("success", SERIES.to_db())]
