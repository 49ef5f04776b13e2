"""Keys of every kind, in batches: each row is found once and written by its key."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from callstats import reduce_json
from callstats.db import Reject
from support.database import TABLE, Value, ask, blob, cell, cells, connect, made
from support.tables import reduce_table

pytestmark = pytest.mark.usefixtures("backend")

COUNTED = (
    "CREATE TABLE writes (id, n INTEGER)",
    TABLE,
    "CREATE TRIGGER count_writes AFTER UPDATE ON calls BEGIN INSERT INTO writes VALUES (new.id, 1); END",
)


def counted(path: Path, rows: list[tuple[Value, Value]], table: str = TABLE) -> Path:
    """A database that counts the writes to each row."""
    made(path, rows, table=table)
    with closing(connect(path)) as db:
        db.execute(COUNTED[0])
        db.execute(COUNTED[2])
    return path


def test_text_keys_in_batches(tmp_path: Path) -> None:
    """2,500 rows in batches of 1,000, whose keys sort as text ('10' < '9'): none skipped, none done twice."""
    long = blob(12)
    db = counted(tmp_path / "calls.db", [(str(i), long) for i in range(2500)])
    seen: list[int] = []
    report = reduce_table(db, 10, batch_size=1000, progress=lambda report: seen.append(report.rows))
    assert (report.changed, report.rows, report.total) == (2500, 2500, 2500)
    assert seen == [1000, 2000, 2500]
    assert ask(db, "SELECT count(*), count(DISTINCT id) FROM writes") == [(2500, 2500)]
    assert {row[2] for row in cells(db)} == set(reduce_json([long], 10))


KEYS: dict[str, tuple[str, list[Value]]] = {
    "integers": ("id INTEGER PRIMARY KEY", [-(2**63), -5, 0, 3, 10, 9, 2**63 - 1]),
    "big integers": ("id BIGINT UNIQUE", [-(2**63), 2**53 + 1, 2**53 + 2, 2**63 - 1]),
    "text": ("id TEXT PRIMARY KEY", ["10", "9", "", " ", "a", "A", "é", "\0", "a\0b", "😀", "a'b", ":x", "%s"]),
    "numbers as text": ("id VARCHAR(20) PRIMARY KEY", ["1", "01", "1.0", "1e0"]),
    "floats": ("id REAL PRIMARY KEY", [0.1, 1 / 3, -1e300, 5e-324, 7.0]),
    "bytes": ("id BLOB PRIMARY KEY", [b"\x00", b"\xff\xfe", b"", b"abc"]),
    "mixed": ("id UNIQUE", [1, 1.5, "1", b"1", "", b""]),
    "no case": ("id TEXT COLLATE NOCASE PRIMARY KEY", ["a", "B", "c", "_"]),
    "cases in an index of their own": ("id TEXT COLLATE NOCASE, UNIQUE (id COLLATE BINARY)", ["a", "A", "b", "B", "_", "Z", "z"]),
    "padded": ("id TEXT COLLATE RTRIM PRIMARY KEY", ["a ", "b", "c  "]),
    "descending": ("id INTEGER PRIMARY KEY DESC", [3, 1, 2]),
    "without rowid": ("id TEXT PRIMARY KEY, x) WITHOUT ROWID --", ["b", "a", "c"]),
    "its own index beside a composite key": ("a, b, id TEXT UNIQUE, PRIMARY KEY (a, b)", ["b", "a", "c"]),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_keys_of_every_kind(tmp_path: Path, kind: str, batch_size: int) -> None:
    """Each row is done once, whatever the type and the collation of its key."""
    columns, keys = KEYS[kind]
    table = f"CREATE TABLE calls (stats TEXT, {columns})"
    db = counted(tmp_path / "calls.db", [(key, blob(12, seed=i)) for i, key in enumerate(keys)], table)
    report = reduce_table(db, 10, batch_size=batch_size)
    assert (report.changed, report.rows) == (len(keys), len(keys))
    assert ask(db, "SELECT count(*) FROM writes") == [(len(keys),)]
    for i, key in enumerate(keys):
        assert cell(db, key).encode() == reduce_json([blob(12, seed=i)], 10)[0]


def test_keys_that_are_no_utf8(tmp_path: Path) -> None:
    """A key of text that is no UTF-8 stops nothing: its row and all others are done, and saved."""
    db = made(tmp_path / "calls.db", [("a", blob(12)), ("z", blob(12))])
    ask(db, "INSERT INTO calls (id, stats) VALUES (CAST(x'6DFF' AS TEXT), ?)", blob(12))
    ask(db, "INSERT INTO calls (id, stats) VALUES (CAST(x'6DFE' AS TEXT), '[1,' || ?)", " " * 999)
    report = reduce_table(db, 10, batch_size=1, save=tmp_path / "old.jsonl")
    assert (report.changed, report.rejected) == (3, 1)
    assert report.rejects[0].key == "m\udcfe"
    assert ask(db, "SELECT DISTINCT stats FROM calls WHERE id <> CAST(x'6DFE' AS TEXT)") == [
        (reduce_json([blob(12)], 10)[0].decode(),)
    ]


def test_null_keys_are_reported(tmp_path: Path) -> None:
    """SQLite lets a key be NULL; such rows are counted as refused and left alone, those apart that are short already."""
    short = blob(3, metric="x" * 3_000)  # in rows, if not in bytes
    db = made(tmp_path / "calls.db", [(None, blob(12)), (None, blob(13)), (None, ""), ("a", blob(12)), (None, short)])
    told: list[Reject] = []
    report = reduce_table(db, 10, on_reject=told.append)
    assert (report.changed, report.rejected) == (1, 2)
    assert told == [Reject(None, "rows whose key is NULL, which no update can name: 2")]
    assert ask(db, "SELECT stats FROM calls WHERE id IS NULL") == [(blob(12),), (blob(13),), ("",), (short,)]
