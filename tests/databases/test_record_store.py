"""A recording is not lost: what `callstats record` does when the database can't take its call, and `callstats import` later."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self
from uuid import uuid4

import pytest

from callstats import Call, StatSeries
from callstats import connect as connect_table
from support.database import ask, connect
from support.databases import Database
from support.forked import COMMAND, callstats
from support.programs import PATIENCE, gone, marked, started
from support.servers import PASSWORD, free_port

CODE = 7


class Recorded:
    """A run of `callstats record` whose command waits until the test lets it end."""

    def __init__(self, program: subprocess.Popen[str], mark: str, state: Path) -> None:
        self.program = program
        self.mark = mark
        self.state = state

    def end(self) -> str:
        """Let the command end, with its own code; nothing is left running. Return what was said on standard error."""
        _, err = self.program.communicate("\n", timeout=4 * PATIENCE)
        assert (self.program.returncode, "Traceback" in err) == (CODE, False), err
        assert gone(self.mark)
        return err


@contextmanager
def recorded(url: object, folder: Path, *options: str, by: Path = COMMAND) -> Iterator[Recorded]:
    """Record a command up to where it waits."""
    mark, state = uuid4().hex, folder / "state"
    command = ["sh", "-c", f"echo up; read line; exit {CODE}; : {mark}"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = {**os.environ, "XDG_STATE_HOME": str(state)}
    arguments = [by, "record", "--db", str(url), *options, "--", *command]
    with started(arguments, text=True, env=env, **pipes) as program:
        assert program.stdout is not None and program.stdout.readline() == "up\n"
        yield Recorded(program, mark, state)


def wait_until_over(record: Recorded) -> None:
    """Wait until only the recorder is left, which has the mark in its own command line."""
    deadline = monotonic() + PATIENCE
    while {process.pid for process in marked(record.mark)} != {record.program.pid}:
        assert monotonic() < deadline
        sleep(0.02)


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """Another command."""
    return subprocess.run([callstats(), *map(str, args)], capture_output=True, text=True, check=False, timeout=4 * PATIENCE)


def imported(url: object, spool: Path, key: str) -> Call:
    """Import a spool twice, which is as once, and return its call."""
    [line] = spool.read_bytes().splitlines()
    fields = json.loads(line)
    assert (fields["callstats"], fields["v"], fields["call"]["key"]) == ("call", 1, key)
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600
    for said in ("1 call stored, 0 in the table before", "0 calls stored, 1 in the table before"):
        done = run("import", url, spool)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    with connect_table(str(url)) as table:
        [call] = table.list()
    assert (call.key, call.status, call.exit_code) == (key, "error", CODE)
    assert call.series is not None and call.usage.samples > 0 and call.usage.duration_ns
    return call


def key_in(err: str) -> str:
    """The call's key, from the one line that `record` prints."""
    assert err.startswith("callstats: ") and err.count("\n") == 1
    return err.partition("; call ")[2].partition(" ")[0]


# --- SQLite ---


@contextmanager
def removed(db: Path) -> Iterator[None]:
    """The database is gone; a new one comes later."""
    db.unlink()
    yield
    run("init", db)


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Another program keeps the only lock."""
    with closing(connect(db)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def full(db: Path) -> Iterator[None]:
    """The disk has no byte left."""
    with (db.parent / "fill").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    yield
    (db.parent / "fill").unlink()


@contextmanager
def read_only(db: Path) -> Iterator[None]:
    """The disk takes no writes any more."""
    subprocess.run(["mount", "-o", "remount,ro", db.parent], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", db.parent], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs root, to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("fault", [removed, locked, full, read_only])
def test_sqlite(fault: Callable[[Path], Any], disk: Path, tmp_path: Path) -> None:
    """The command's own code, one line, and a spool beside the database, or where there is room; import takes it."""
    db = disk / "calls.db"
    with recorded(db, tmp_path, "--interval", "10ms") as record:
        assert ask(db, "SELECT status, pid FROM calls") == [("running", record.program.pid)]
        with fault(db):
            key = key_in(record.end())
            spool = disk / "calls.db.spool.jsonl" if fault in (removed, locked) else record.state / "callstats" / "spool.jsonl"
            assert spool.exists()
    imported(db, spool, key)


def test_a_lock_that_ends_in_time(tmp_path: Path) -> None:
    """A retry stores the call, and there is no spool."""
    db = tmp_path / "calls.db"
    with recorded(db, tmp_path, by=callstats()) as record, ExitStack() as lock:
        lock.enter_context(locked(db))
        assert record.program.stdin is not None
        record.program.stdin.write("\n")
        record.program.stdin.flush()
        wait_until_over(record)
        sleep(1)
        lock.close()
        record.program.wait(PATIENCE)
    assert record.program.returncode == CODE
    assert ask(db, "SELECT status FROM calls") == [("error",)] and [*tmp_path.glob("*spool*")] == []


def test_a_spool_that_was_torn(tmp_path: Path) -> None:
    """Half a line, as after a power cut, harms no other line; its own is reported."""
    db = tmp_path / "calls.db"
    spool = tmp_path / "calls.db.spool.jsonl"
    with recorded(db, tmp_path, by=callstats()) as record:
        spool.write_bytes(b'{"callstats":"call","v":1,"call":{"key":"0')
        with removed(db):
            key = key_in(record.end())
    done = run("import", db, spool)
    assert done.returncode == 1 and "line 1: " in done.stderr and "1 call stored" in done.stdout
    assert ask(db, "SELECT id, exit_code FROM calls") == [(key, CODE)]


# --- servers ---


class Outage:
    """A way to a server that can be cut."""

    def __init__(self, database: Database) -> None:
        assert database.server is not None
        self._to = database.server.address["host"], database.server.address["port"]
        self._port = free_port()
        self.url = database.url.replace(f":{self._to[1]}/", f":{self._port}/")
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._door = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.begin()

    def begin(self) -> None:
        """Cut it."""
        for each in (self._door, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._door.accept()[0], socket.create_connection(self._to)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class Fault:
    """What goes wrong with a server while a command is recorded, by statements of each kind of server."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another program has the row."""
        with self.database.connect() as other:
            self.database.run(other, "BEGIN")
            self.database.run(other, "UPDATE calls SET error = 'mine'")
            yield
            self.database.run(other, "ROLLBACK")

    def full(self) -> Any:
        """The server's disk is full: what it then answers."""
        return self._answering("53100", 1021)

    def read_only(self) -> Any:
        """The server takes no writes any more: what it then answers."""
        return self._answering("25006", 1290)

    @contextmanager
    def _answering(self, state: str, number: int) -> Iterator[None]:
        if self.database.kind == "postgres":
            self.database.ask(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
            )
            self.database.ask("CREATE TRIGGER failing BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION fail()")
        else:
            signalled = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'no'"
            self.database.ask(f"CREATE TRIGGER failing BEFORE UPDATE ON calls FOR EACH ROW {signalled}")
        yield
        self.database.ask("DROP TRIGGER failing" + (" ON calls" if self.database.kind == "postgres" else ""))


@pytest.mark.parametrize("fault", ["locked", "full", "read_only"])
def test_a_server(on_server: Database, fault: str, tmp_path: Path) -> None:
    """As for SQLite, with the spool in the user's folder for state."""
    with recorded(on_server.url, tmp_path, "--interval", "10ms") as record:
        assert on_server.ask("SELECT status, pid FROM calls") == [("running", record.program.pid)]
        with getattr(Fault(on_server), fault)():
            key = key_in(record.end())
    imported(on_server.url, record.state / "callstats" / "spool.jsonl", key)


def test_a_server_that_is_gone(on_server: Database, tmp_path: Path) -> None:
    """At the end, or from the start to the end: the command runs, and no password is in the line."""
    with Outage(on_server) as outage, recorded(outage.url, tmp_path, "--interval", "10ms", by=callstats()) as record:
        outage.begin()
        err = record.end()
    call = imported(on_server.url, record.state / "callstats" / "spool.jsonl", key_in(err))
    assert call.host is not None and str(call.command).startswith("sh -c ") and PASSWORD not in err
    shutil.rmtree(record.state)
    on_server.ask("DELETE FROM calls")
    with Outage(on_server) as outage:
        outage.begin()
        with recorded(outage.url, tmp_path, "--interval", "10ms", by=callstats()) as record:
            key = key_in(record.end())
    imported(on_server.url, record.state / "callstats" / "spool.jsonl", key)


# --- wrong use, old tables, and rows that stay ---


def test_privileges_are_missed_before_anything_runs(postgres: Database, tmp_path: Path) -> None:
    """Who may insert but not update could not store the end."""
    run("init", postgres.url)
    role = f"writer{uuid4().hex}"
    postgres.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'word'")
    try:
        postgres.ask(f"GRANT SELECT, INSERT ON calls TO {role}")
        url = postgres.url.replace("//callstats:", f"//{role}:").replace(postgres.url.split(":")[2].partition("@")[0], "word", 1)
        done = run("record", "--db", url, "--", "touch", tmp_path / "ran")
        assert done.returncode == 2 and "permission denied" in done.stderr and not (tmp_path / "ran").exists()
        assert postgres.ask("SELECT count(*) FROM calls") == [(0,)]
    finally:
        postgres.ask(f"DROP OWNED BY {role}")
        postgres.ask(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "columns", ["id TEXT PRIMARY KEY, stats TEXT", "id TEXT PRIMARY KEY, stats TEXT, status TEXT, completed_at TEXT NOT NULL"]
)
def test_an_old_table(columns: str, tmp_path: Path) -> None:
    """It keeps its columns, and has the call at its end."""
    db = tmp_path / "calls.db"
    ask(db, f"CREATE TABLE calls ({columns})")
    with recorded(db, tmp_path, "--tag", "a=b", by=callstats()) as record:
        assert ask(db, "SELECT count(*) FROM calls") == [(0,)]
        key = key_in(record.end())
    assert ask(db, "SELECT id, stats <> '' FROM calls") == [(key, 1)]
    assert ask(db, "SELECT group_concat(name, ' ') FROM pragma_table_info('calls')")[0][0].split() == [
        part.split()[0] for part in columns.split(", ")
    ]


def test_a_recorder_that_was_killed(tmp_path: Path) -> None:
    """Its row shows as lost, and is in no statistics, which count it apart from a running one."""
    db = tmp_path / "calls.db"
    with recorded(db, tmp_path) as record:
        assert [json.loads(run("list", db, "--json").stdout)["status"]] == ["running"]
        record.program.send_signal(signal.SIGKILL)
        record.program.wait(PATIENCE)
    assert gone(record.mark)
    assert json.loads(run("list", db, "--json").stdout)["status"] == "lost"
    lost, running = "left out, since they are lost and will never end: 1 call", "left out, since they have not ended: 1 call"
    with recorded(db, tmp_path) as record:
        assert {lost, running} <= {*run("summary", db).stdout.splitlines()}
        record.end()
    with connect_table(db) as table:
        summary, found = table.summarize(by=None), table.compare("sh", "another")
    assert (summary.calls, summary.unfinished, summary.lost, summary.groups[0].summary.calls) == (1, 1, 1, 1)
    assert (found.group_calls, found.unfinished, found.lost) == ((1, 0), 1, 1)
    lines = run("summary", db).stdout.splitlines()
    assert lost in lines
    assert running not in lines
    assert json.loads(run("summary", db, "--json").stdout)["lost"] == 1


def test_a_number_that_was_used_again(tmp_path: Path) -> None:
    """A process that began after the call did not record it."""
    db = tmp_path / "calls.db"
    with connect_table(db) as table:
        for key, created in (("old", "2020-01-01T00:00:00Z"), ("new", "2999-01-01T00:00:00Z")):
            call = Call(key=key, status="running", series=StatSeries([], {}), created_at=created)
            table.begin(Call(**{**vars(call), "host": os.uname().nodename, "pid": os.getpid()}))
        assert {call.key: call.status for call in table.list()} == {"old": "lost", "new": "running"}


def test_a_line_that_is_no_call(tmp_path: Path) -> None:
    """Faults of a spool are named by line; the calls of other lines are stored."""
    db, spool = tmp_path / "calls.db", tmp_path / "spool.jsonl"
    run("init", db)
    lines = [
        '{"callstats":"call","v":1,"call":{"key":"good","stats":"","exit_code":3,"tags":{"a":"b"}}}',
        '{"callstats":"call","v":2,"call":{"key":"x","stats":""}}',
        '{"callstats":"call","v":1,"call":{"key":7,"stats":""}}',
        '{"callstats":"call","v":1,"call":{"key":"x","stats":"["}}',
        '{"callstats":"call","v":1,"call":{"key":"x","stats":"","pid":"many"}}',
        "nonsense",
    ]
    spool.write_text("\n".join(lines) + "\n")
    done = run("import", db, spool)
    assert done.returncode == 1 and [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        f"line {number}" for number in range(2, 7)
    ]
    assert ask(db, "SELECT id, exit_code, tags FROM calls") == [("good", 3, '{"a": "b"}')]


def test_a_second_signal_ends_the_retries(tmp_path: Path) -> None:
    """Who presses Ctrl-C again does not wait for the database."""
    db = tmp_path / "calls.db"
    with recorded(db, tmp_path) as record, locked(db):
        record.program.send_signal(signal.SIGTERM)
        wait_until_over(record)
        sleep(0.5)
        began = monotonic()
        record.program.send_signal(signal.SIGTERM)
        record.program.wait(PATIENCE)
        assert monotonic() - began < 8  # of the ten seconds that the retries take
    assert record.program.returncode == 128 + signal.SIGTERM
    [line] = (tmp_path / "calls.db.spool.jsonl").read_text().splitlines()
    assert json.loads(line)["call"]["status"] == "cancelled"
