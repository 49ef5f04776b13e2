"""The jobs over tables, against loops by hand around the same kernel: ``python benchmarks/db.py [ROWS [ROUNDS [KIND…]]]``.

SQLite, PostgreSQL and MariaDB have the same rows of 240 points. Both sides of a pair get a fresh table each time and take turns;
the best of each is compared. Beside the time by the clock stands the processor time of this process and of the server: on a busy
machine only that can be compared. Servers are started as the tests start them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

from callstats import Rule, connect, reduce_json
from callstats.db import ReduceResult
from inputs import stored_call

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

RULE = Rule(60, how={"mem_usage": ("mean", "max")})
ROWS = 20_000
ROUNDS = 3
MOST_GROWTH = 1.1
_BATCH = 600
_SOME = [stored_call(240, seed=i) for i in range(20)]


class Cost(NamedTuple):
    """Seconds by the clock, and of the processor."""

    clock: float
    cpu: float


# --- tables -----------------------------------------------------------------------------------------------------------


class Table:
    """A table of calls in one kind of database, which can be made anew."""

    name: str
    url: str
    process: int | None = None
    """The server's main process, if it is ours."""

    def refill(self) -> None:
        """Put the rows back as they were."""
        raise NotImplementedError

    def loop(self, first: str = "", last: str = "~") -> None:
        """Reduce a range of keys as one would by hand."""
        raise NotImplementedError

    def put_back(self, file: Path) -> None:
        """Put saved rows back as one would by hand."""
        raise NotImplementedError

    def cpu(self) -> float:
        """Processor time of this process and of the server, in seconds."""
        spent = 0
        for folder in Path("/proc").glob("[0-9]*") if self.process else ():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(folder.name) == self.process:
                    spent += sum(map(int, fields[11:15]))
                elif int(fields[1]) == self.process:
                    spent += sum(map(int, fields[11:13]))
        return process_time() + spent / os.sysconf("SC_CLK_TCK")

    def measure(self, work: Callable[[], Any], *, refill: bool = True) -> tuple[Cost, Any]:
        """Return what work costs on a fresh table, and what it returns."""
        if refill:
            self.refill()
        cpu, start = self.cpu(), perf_counter()
        result = work()
        clock = perf_counter() - start
        sleep(0.3)  # until the server has counted the processes that served this
        return Cost(clock, self.cpu() - cpu), result


class SQLiteTable(Table):
    """A file."""

    name = "SQLite"

    def __init__(self, folder: Path, rows: int) -> None:
        self.url, self._full = str(folder / "calls.db"), folder / "full.db"
        fill(self._full, rows)

    def refill(self) -> None:
        shutil.copy(self._full, self.url)

    def loop(self, first: str = "", last: str = "~") -> None:  # noqa: ARG002 - one connection reduces all
        bare_loop(Path(self.url))

    def put_back(self, file: Path) -> None:
        with closing(sqlite3.connect(self.url)) as db, db:
            for rows in saved_rows(file):
                db.executemany("UPDATE calls SET stats = ? WHERE id = ?", [(blob.decode(), key) for key, blob in rows])


class PostgresTable(Table):
    """A table of a server: rows are read in binary form with locks, and written in one statement a batch."""

    name = "PostgreSQL"

    def __init__(self, server: Any, rows: int) -> None:
        self.url = server.url(server.new_database())
        self.process = None if server.process is None else server.process.running.pid
        with self._connect() as db:
            db.execute("CREATE TABLE stored (id TEXT PRIMARY KEY, stats TEXT)")
            with db.cursor().copy("COPY stored FROM STDIN") as copy:
                for i in range(rows):
                    copy.write_row((f"{i:08}", _SOME[i % 20].decode()))

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url)

    def refill(self) -> None:
        with self._connect() as db:
            db.execute("DROP TABLE IF EXISTS calls")
            db.execute("CREATE TABLE calls (LIKE stored INCLUDING ALL) WITH (autovacuum_enabled = off)")
            db.execute("INSERT INTO calls SELECT * FROM stored")
            db.commit()
            db.autocommit = True
            db.execute("VACUUM ANALYZE calls")
            db.execute("CHECKPOINT")

    def loop(self, first: str = "", last: str = "~") -> None:
        read = "SELECT id, convert_to(stats, 'UTF8') FROM calls WHERE id > %s AND id <= %s ORDER BY id LIMIT %s"
        with self._connect() as db, db.cursor(binary=True) as cursor:
            while rows := cursor.execute(f"{read} FOR NO KEY UPDATE SKIP LOCKED", (first, last, _BATCH)).fetchall():
                self._update(cursor, [key for key, _ in rows], reduce_json([blob for _, blob in rows], RULE))
                db.commit()
                first = rows[-1][0]

    @staticmethod
    def _update(cursor: Any, keys: list[str], blobs: list[bytes]) -> None:
        new = "unnest(%b::text[], %b::bytea[]) AS new (k, b)"
        cursor.execute(f"UPDATE calls SET stats = convert_from(b, 'UTF8') FROM {new} WHERE id = k", (keys, blobs))

    def put_back(self, file: Path) -> None:
        with self._connect() as db, db.cursor(binary=True) as cursor:
            for rows in saved_rows(file):
                self._update(cursor, [key for key, _ in rows], [blob for _, blob in rows])
                db.commit()


class MariaTable(Table):
    """A table of a server: blobs are written as hex into a temporary table, which is joined."""

    name = "MariaDB"

    def __init__(self, server: Any, rows: int) -> None:
        self._server, self._database = server, server.new_database()
        self.url = server.url(self._database)
        self.process = None if server.process is None else server.process.running.pid
        with closing(self._connect()) as db, db.cursor() as cursor:
            cursor.execute("CREATE TABLE stored (id VARCHAR(99) PRIMARY KEY, stats MEDIUMTEXT COLLATE utf8mb4_bin)")
            for begin in range(0, rows, 50):
                some = [(f"{i:08}", _SOME[i % 20]) for i in range(begin, min(begin + 50, rows))]
                cursor.execute(f"INSERT INTO stored VALUES {self._hex(some)}")
            db.commit()

    def _connect(self) -> Any:
        db = self._server.connect(self._database)
        db.autocommit(False)
        return db

    @staticmethod
    def _hex(rows: list[tuple[str, bytes]]) -> str:
        return ",".join(f"('{key}', _utf8mb4 x'{blob.hex()}')" for key, blob in rows)

    def refill(self) -> None:
        with closing(self._connect()) as db, db.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS calls")
            cursor.execute("CREATE TABLE calls LIKE stored")
            cursor.execute("INSERT INTO calls SELECT * FROM stored")
            db.commit()

    def loop(self, first: str = "", last: str = "~") -> None:
        read = "SELECT id, CAST(stats AS BINARY) FROM calls WHERE id > %s AND id <= %s ORDER BY id LIMIT %s"
        with closing(self._connect()) as db, db.cursor() as cursor:
            while cursor.execute(f"{read} FOR UPDATE SKIP LOCKED", (first, last, _BATCH)):
                rows = cursor.fetchall()
                new = reduce_json([blob for _, blob in rows], RULE)
                self._update(cursor, [(key, blob) for (key, _), blob in zip(rows, new, strict=True)])
                db.commit()
                first = rows[-1][0]

    def _update(self, cursor: Any, rows: list[tuple[str, bytes]]) -> None:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS new LIKE stored")
        cursor.execute("DELETE FROM new")
        for begin in range(0, len(rows), 100):
            cursor.execute(f"INSERT INTO new VALUES {self._hex(rows[begin : begin + 100])}")
        cursor.execute("UPDATE calls JOIN new ON calls.id = new.id SET calls.stats = new.stats")

    def put_back(self, file: Path) -> None:
        with closing(self._connect()) as db, db.cursor() as cursor:
            for rows in saved_rows(file):
                self._update(cursor, rows)
                db.commit()


def fill(path: Path, rows: int, *, long_ones: bool = False) -> None:
    """A table of so many calls of 240 rows, one in 500 of 3,600 rows if asked for."""
    path.unlink(missing_ok=True)
    long = stored_call(3_600) if long_ones else b""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT)")
        cells = (long if long_ones and i % 500 == 0 else _SOME[i % 20] for i in range(rows))
        db.executemany("INSERT INTO calls VALUES (?, CAST(? AS TEXT))", ((f"{i:08}", cell) for i, cell in enumerate(cells)))


def bare_loop(path: Path) -> float:
    """Seconds to read each cell, reduce it and write it, in transactions of 600 rows."""
    start = perf_counter()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        after = ""
        while True:
            db.execute("BEGIN IMMEDIATE")
            read = "SELECT id, CAST(stats AS BLOB) FROM calls WHERE id > ? ORDER BY id LIMIT ?"
            rows = db.execute(read, (after, _BATCH)).fetchall()
            new = reduce_json([blob for _, blob in rows], RULE)
            changes = [(blob.decode(), key) for (key, _), blob in zip(rows, new, strict=True)]
            db.executemany("UPDATE calls SET stats = ? WHERE id = ?", changes)
            db.execute("COMMIT")
            if not rows:
                return perf_counter() - start
            after = rows[-1][0]


def saved_rows(file: Path) -> Iterator[list[tuple[str, bytes]]]:
    """The keys and blobs of a saved file, as one would read them by hand, so many at once."""
    some = []
    with file.open("rb") as lines:
        for line in lines:
            head, _, rows = line.partition(b',"rows":')
            some.append((json.loads(head + b"}")["key"], rows[:-2] + b"\n"))
            if len(some) == _BATCH:
                yield some
                some = []
    yield some


# --- jobs -------------------------------------------------------------------------------------------------------------


def the_job(path: Path | str, **options: Any) -> float:
    """Seconds that the job takes, its start-up apart."""
    return reduced(path, **options).seconds


def reduced(url: Path | str, **options: Any) -> ReduceResult:
    """The result of a job that ended well."""
    with connect(url) as calls:
        result = calls.reduce(RULE, **options)
    assert (result.changed + result.skipped, result.stopped) == (result.rows, None)
    return result


def two_loops(table: Table, rows: int) -> None:
    """The loop on two connections, a half each."""
    middle = f"{rows // 2:08}"
    halves = [threading.Thread(target=table.loop, args=keys) for keys in (("", middle), (middle, "~"))]
    for half in halves:
        half.start()
    for half in halves:
        half.join()


class Line(NamedTuple):
    """A line of the table: the best of each side, and the least share of the peer's speed that is asked for."""

    work: str
    peer: str
    ours: Cost
    theirs: Cost
    least: float | None

    def text(self) -> str:
        """The line in Markdown."""
        shares = [theirs / max(ours, 1e-9) for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        least = "" if self.least is None else f"{self.least:.2f}"
        seconds = f"{self.ours.clock:.2f} s | {self.peer} | {self.theirs.clock:.2f} s"
        return f"| {self.work} | {seconds} | {shares[0]:.2f} | {shares[1]:.2f} | {least} |"


def best(costs: list[Cost]) -> Cost:
    """The least of each number."""
    return Cost(*map(min, zip(*costs, strict=True)))


def lines(table: Table, folder: Path, rows: int, rounds: int) -> Iterator[Line | str]:
    """Measure one kind of database."""
    saved, name = folder / "old.jsonl", table.name
    is_server = table.process is not None or name != "SQLite"
    costs: dict[str, list[Cost]] = {}
    results: dict[str, ReduceResult] = {}

    def run(what: str, work: Callable[[], Any], *, refill: bool = True) -> None:
        cost, result = table.measure(work, refill=refill)
        costs.setdefault(what, []).append(cost)
        results[what] = result

    table.refill()
    reduced(table.url, dry_run=True, limit=1)  # imports what it needs
    for _ in range(rounds):
        run("loop", table.loop)
        run("job", lambda: reduced(table.url))
        run("again", lambda: reduced(table.url), refill=False)
        run("dry", lambda: reduced(table.url, dry_run=True))
        saved.unlink(missing_ok=True)
        run("save", lambda: reduced(table.url, save=saved))
        run("import", lambda: connect(table.url).restore(saved), refill=False)
        table.refill()
        reduced(table.url)
        run("by hand", lambda: table.put_back(saved), refill=False)
        if is_server:
            run("two loops", lambda: two_loops(table, rows))
            run("two jobs", lambda: reduced(table.url, jobs=2))
    least = {name: best(cost) for name, cost in costs.items()}
    yield Line(f"{name}: reduce", "loop by hand", least["job"], least["loop"], {"MariaDB": 0.7}.get(name, 0.85))
    if is_server:
        yield Line(f"{name}: reduce, 2 jobs", "two loops", least["two jobs"], least["two loops"], 0.8)
    yield Line(f"{name}: nothing to do", "first run", least["again"], least["job"], 10)
    yield Line(f"{name}: --save", "without", least["save"], least["job"], 1 / 1.2)
    yield Line(f"{name}: dry run", "real run", least["dry"], least["job"], 1 / 1.2)
    yield Line(f"{name}: import", "by hand", least["import"], least["by hand"], 0.5)
    for what in ("job", "again"):
        phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in results[what].phases.items())
        yield f"{name}, {what}: {results[what].bytes_read:,} bytes read; seconds to {phases}"


def memory(folder: Path, rows: int) -> float:
    """The most memory in MB that a process has which reduces so many rows."""
    path = folder / "memory.db"
    fill(path, rows, long_ones=True)
    done = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True, text=True)
    return float(done.stdout)


@contextmanager
def tables(folder: Path, rows: int, kinds: Sequence[str] = ()) -> Iterator[Iterator[Table]]:
    """Each kind of database that is installed, or of these only."""
    from support.servers import run_mysql, run_postgres

    running: list[Iterator[Any]] = []

    def each() -> Iterator[Table]:
        if not kinds or SQLiteTable.name in kinds:
            yield SQLiteTable(folder, rows)
        for run, make in ((run_postgres, PostgresTable), (run_mysql, MariaTable)):
            if kinds and make.name not in kinds:
                continue
            running.append(run())
            if (server := next(running[-1], None)) is not None:
                yield make(server, rows)

    try:
        yield each()
    finally:
        for one in running:
            next(one, None)


def main() -> int:
    """Print the table."""
    if len(sys.argv) > 1 and not sys.argv[1].isdecimal():
        the_job(Path(sys.argv[1]))
        # Not ru_maxrss, which begins with that of the process that started this one.
        print(int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024)
        return 0
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    print(f"{rows:,} rows of {len(_SOME[0]):,} bytes, best of {rounds}, shares of the peer's speed:\n")
    print("| work | takes | against | takes | by the clock | by processor time | at least |\n|--|--:|--|--:|--:|--:|--:|")
    notes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tables(folder, rows, sys.argv[3:]) as every:
            for table in every:
                for line in lines(table, folder, rows, rounds):
                    if isinstance(line, Line):
                        print(line.text(), flush=True)
                    else:
                        notes.append(line)
        small, large = memory(folder, rows // 10), memory(folder, rows)
    print("", *notes, sep="\n")
    print(f"memory: {small:.0f} MB for {rows // 10:,} rows, {large:.0f} MB for {rows:,}, some of 3,600 points")
    return int(large > MOST_GROWTH * small)


if __name__ == "__main__":
    sys.exit(main())
