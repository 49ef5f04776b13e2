"""Old cells are kept by `save` and put back by `restore_table`, to the byte."""

from __future__ import annotations

import json
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url

from callstats import Call, CallstatsError, Rule
from callstats.db import ReduceResult, RestoreResult
from callstats.db.jobs.batches import BatchSession
from callstats.db.jobs.save import SavedBlob, Saver
from callstats.db.results import ConnectionLostError, TransientError
from callstats.db.spool import _append, call_line
from support.database import Value, ask, blob, cell, cells, connect, made
from support.tables import reduce_table, restore_table

pytestmark = pytest.mark.usefixtures("backend")

ODD = '[{"timestamp":"2006-01-02T15:04:05Z","metrics":{"m\u00e9\u2028\\u0000\\"":1}},{"timestamp":"2006-01-02T15:04:06Z"}]'


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def table_of_all_sorts(path: Path) -> Path:
    """Rows that change, rows that don't, TEXT, BLOB, white space, and keys of every type."""
    rows: list[tuple[Value, Value]] = [
        ("a", blob(100)),
        ("b", blob(100).encode()),
        ("c", " \t\n" + blob(50) + "\r\n "),
        ("c2", " " + blob(50)),
        ("d", "x" * 999),
        ("e", blob(3)),
        ("f", None),
        (7, ODD),
        (2.5, ODD.encode()),
        (b"\x00\xff", blob(30)),
        ("\u2028\0'\"\\", blob(31)),
    ]
    made(path, rows, table="CREATE TABLE calls (id PRIMARY KEY, status TEXT DEFAULT 'kept', stats)")
    ask(path, "INSERT INTO calls (id, stats) VALUES (CAST(x'6DFF' AS TEXT), ?)", blob(12))
    return path


def test_the_old_table_comes_back(tmp_path: Path) -> None:
    """Reduce with `save`, then import: every cell is what it was, in type and bytes."""
    db, saved = table_of_all_sorts(tmp_path / "calls.db"), tmp_path / "old.jsonl"
    whole = "SELECT typeof(id), hex(id), status, typeof(stats), hex(stats) FROM calls ORDER BY id"
    before = ask(db, whole)
    report = reduce_table(db, Rule(1), save=saved, batch_size=3)
    assert (report.changed, report.rejected) == (10, 1)
    assert ask(db, whole) != before
    assert len(lines(saved)) == 10
    done = restore_table(db, saved)
    assert (done.rows, done.restored, done.unknown, done.torn, done.stopped) == (10, 10, 0, False, None)
    assert ask(db, whole) == before
    assert reduce_table(db, Rule(1)).changed == 10


def test_what_is_saved(tmp_path: Path) -> None:
    """Only rows that change, a line each, and a mark on those that were BLOBs."""
    db = made(tmp_path / "calls.db", [("a", blob(12)), ("b", blob(3)), ("c", blob(12).encode()), (b"\xff", blob(12))])
    reduce_table(db, 10, save=tmp_path / "old.jsonl")
    rows = json.loads(blob(12))
    assert lines(tmp_path / "old.jsonl") == [
        {"key": "a", "end": "\n", "rows": rows},
        {"key": "c", "blob": True, "end": "\n", "rows": rows},
        {"key": {"hex": "ff"}, "end": "\n", "rows": rows},
    ]
    assert f'"rows":{blob(12).rstrip()}}}\n' in (tmp_path / "old.jsonl").read_text()
    assert (tmp_path / "old.jsonl").stat().st_mode & 0o777 == 0o600


def write_and_raise(saver: Saver, saved: SavedBlob, error: type[BaseException]) -> None:
    """Save a cell; then something goes wrong."""
    with saver.batch() as saving, saving([saved]):
        raise error("gone")


@pytest.mark.parametrize("error", [ConnectionLostError, TransientError, KeyboardInterrupt])
def test_lines_of_a_batch_that_fails(error: type[BaseException], tmp_path: Path) -> None:
    """They go, unless the connection was lost: then the database may have committed, and they are the only copy."""
    path = tmp_path / "old.jsonl"
    first, second, third = (SavedBlob(key, blob(9).encode(), False) for key in "abc")
    with Saver(path) as saver:
        with saver.batch() as saving, saving([first]):
            pass
        with pytest.raises(error):
            write_and_raise(saver, second, error)
        with saver.batch() as saving, saving([third]):
            pass
    assert [line["key"] for line in lines(path)] == (["a", "b", "c"] if error is ConnectionLostError else ["a", "c"])


def test_a_batch_that_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old cells are saved once, and come back."""
    db, saved = made(tmp_path / "calls.db", [("a", blob(12)), ("b", blob(13))]), tmp_path / "old.jsonl"
    write, before, turns = Saver.write, cells(db), []

    def failing(self: Saver, parts: Any, cells_: Any) -> None:
        write(self, parts, cells_)
        turns.append(len(lines(saved)))
        if len(turns) == 1:
            raise TransientError("locked")

    monkeypatch.setattr(Saver, "write", failing)
    report = reduce_table(db, 5, save=saved)
    assert (report.changed, report.retries, turns) == (2, 1, [2, 2])
    assert [line["key"] for line in lines(saved)] == ["a", "b"]
    assert restore_table(db, saved).unknown == 0
    assert cells(db) == before


def test_a_look_that_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a commit may fail, and the batch has been counted all the same."""
    db = made(tmp_path / "calls.db", [("a", blob(12)), ("b", blob(13))])
    count, turns = BatchSession.count, []

    def failing(self: BatchSession, *conditions: Any) -> int:
        turns.append(cells(db))
        if turns[-1] != turns[0] and len(turns) == turns.index(turns[-1]) + 1:
            raise TransientError("locked")
        return count(self, *conditions)

    monkeypatch.setattr(BatchSession, "count", failing)
    report = reduce_table(db, 5)
    assert (report.rows, report.changed, report.skipped, report.retries) == (2, 2, 0, 1)


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    """A second run with the same file is refused before it changes a row."""
    db, saved = made(tmp_path / "calls.db", [("a", blob(100))]), tmp_path / "old.jsonl"
    reduce_table(db, 50, save=saved)
    kept, before = saved.read_bytes(), cells(db)
    with pytest.raises(
        CallstatsError, match=r"^save must be a new file, got '.*: its saved rows would be lost, so name another$"
    ):
        reduce_table(db, 10, save=saved)
    assert (saved.read_bytes(), cells(db)) == (kept, before)


def test_lines_are_on_the_disk_before_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a batch's cells are saved and synced, the table still holds the old ones."""
    db, saved = (
        made(tmp_path / "calls.db", [(i, blob(12)) for i in range(6)], before=["PRAGMA journal_mode = wal"]),
        tmp_path / "old.jsonl",
    )
    seen: list[tuple[int, int]] = []
    write = Saver.write

    def watched(self: Saver, parts: Any, cells_: Any) -> None:
        write(self, parts, cells_)
        (changed,) = ask(db, "SELECT count(*) FROM calls WHERE stats <> ?", blob(12))[0]
        seen.append((len(lines(saved)), changed))

    monkeypatch.setattr(Saver, "write", watched)
    assert reduce_table(db, 10, save=saved, batch_size=2).changed == 6
    assert seen == [(2, 0), (4, 2), (6, 4)]


def test_a_failed_batch_is_taken_out_of_the_file(tmp_path: Path) -> None:
    """Rows whose commit failed are not among the saved."""
    db, saved = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(6)]), tmp_path / "old.jsonl"
    ask(db, "CREATE TABLE other (id TEXT REFERENCES calls (id) DEFERRABLE INITIALLY DEFERRED)")
    ask(db, "CREATE TRIGGER late AFTER UPDATE ON calls WHEN old.id = '5' BEGIN INSERT INTO other VALUES ('none'); END")
    engine = create_engine(f"sqlite:///{db}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = on").close())
    report = reduce_table(engine, 10, save=saved, batch_size=2)
    engine.dispose()
    assert (report.stopped, report.changed) == ("FOREIGN KEY constraint failed", 4)
    assert [line["key"] for line in lines(saved)] == ["0", "1", "2", "3"]
    assert [cell(db, str(i)) == blob(12) for i in range(6)] == [False] * 4 + [True] * 2


def test_a_file_without_a_row_goes(tmp_path: Path) -> None:
    """A run that changes nothing leaves no file that the next one would find taken, however it ends."""
    db, saved = made(tmp_path / "calls.db", [("a", blob(12))]), tmp_path / "old.jsonl"
    assert reduce_table(db, 20, save=saved).changed == 0
    assert not saved.exists()
    assert reduce_table(db, 10, save=saved, stop=lambda: True).stopped == "asked to stop"
    assert not saved.exists()
    assert reduce_table(db, 10, save=saved).changed == 1
    assert len(lines(saved)) == 1


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced to disk, by its kind, in order."""
    found: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        real(number)
        found.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")

    monkeypatch.setattr("os.fsync", fsync)
    return found


def test_what_is_saved_is_synced(tmp_path: Path, synced: list[str]) -> None:
    """The folder before the first batch, so that the new file stays, and the file with each batch, before its commit."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(6)])
    before: list[list[str]] = []
    assert (
        reduce_table(db, 10, save=tmp_path / "old.jsonl", batch_size=2, progress=lambda _: before.append(synced[:])).changed == 6
    )
    assert synced == ["folder", "file", "file", "file"]
    assert before[0] == ["folder", "file"]


def test_what_is_spooled_is_synced(tmp_path: Path, synced: list[str]) -> None:
    """A call that no database took: its line and then the folder."""
    url = make_url(f"sqlite:///{tmp_path / 'no' / 'calls.db'}")
    (tmp_path / "no").mkdir()
    assert _append(url, Call(key="a")) == str(tmp_path / "no" / "calls.db.spool.jsonl")
    assert synced == ["file", "folder"]
    _append(url, Call(key="b"))
    spool = tmp_path / "no" / "calls.db.spool.jsonl"
    assert spool.read_bytes() == call_line(Call(key="a")) + call_line(Call(key="b"))
    spool.write_bytes(b'{"half')
    _append(url, Call(key="c"))
    assert spool.read_bytes() == b'{"half\n' + call_line(Call(key="c"))


def test_a_full_disk_stops_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is never changed whose old cell could not be saved."""
    db, saved = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(6)]), tmp_path / "old.jsonl"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    def fill(_: ReduceResult) -> None:
        monkeypatch.setattr("os.fsync", full)

    report = reduce_table(db, 10, save=saved, batch_size=2, progress=fill)
    assert report.stopped == f"save: No space left on device: {str(saved)!r}"
    assert report.changed == 2
    assert len(lines(saved)) == 2
    assert [cell(db, str(i)) == blob(12) for i in range(6)] == [False] * 2 + [True] * 4


# --- import -----------------------------------------------------------------------------------------------------------


def saved_file(path: Path, *rows: tuple[Value, str], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps({"key": key, "stats": stats}).encode() + b"\n" for key, stats in rows) + tail)
    return path


WHOLE = b'{"key":{"hex":"63"},"stats":"[\\"\\u0000","blob":true}'
ROWS = b'{"key":"c","end":"\\n","rows":[{"timestamp":"2006-01-02T15:04:05Z","metrics":{"x":1}}]}'
TAILS = [whole[:end] for whole in (WHOLE, ROWS) for end in range(1, len(whole))]


@pytest.mark.parametrize("tail", [*TAILS, WHOLE[:20] + b"\0\0", b'{"key":"c","stats":"\xc3', b"\0\0\0"])
def test_half_a_last_line_is_ignored(tmp_path: Path, tail: bytes) -> None:
    """A kill can leave one; its row had not been changed yet."""
    db = made(tmp_path / "calls.db", [("a", "x"), ("b", "y"), ("c", "z")])
    report = restore_table(db, saved_file(tmp_path / "old.jsonl", ("a", "1"), ("b", "2"), tail=tail))
    assert (report.restored, report.torn) == (2, True)
    assert [cell(db, key) for key in "abc"] == ["1", "2", "z"]


@pytest.mark.parametrize("rows", [[], [("a", "1")]])
@pytest.mark.parametrize(
    "tail",
    [b"x", b"half a line", b"[", b'{"stats":"2"', b'{"key":"b"}', b'{"key":"b","stats":2}', b'{"key":"b" and more', b"\0x"],
)
def test_garbage_at_the_end_is_no_half_line(tmp_path: Path, tail: bytes, rows: list[tuple[Value, str]]) -> None:
    """What no kill leaves is refused with its number, be it all that there is."""
    db = made(tmp_path / "calls.db", [("a", "x"), ("b", "y")])
    with pytest.raises(CallstatsError, match=rf"old\.jsonl: line {len(rows) + 1}: "):
        restore_table(db, saved_file(tmp_path / "old.jsonl", *rows, tail=tail))
    assert cell(db, "a") == "x"


def test_infinite_keys_come_back(tmp_path: Path) -> None:
    """They are no numbers of JSON's: every line is read by a strict parser."""
    path = tmp_path / "calls.db"
    keys = [float("inf"), float("-inf"), 2.5, -7]
    db = made(path, [(key, blob(12)) for key in keys], table="CREATE TABLE calls (id PRIMARY KEY, stats)")
    assert reduce_table(db, 10, save=tmp_path / "old.jsonl").changed == 4
    saved = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "old.jsonl").read_bytes().splitlines()]
    assert [line["key"] for line in saved] == [{"real": "-inf"}, -7, 2.5, {"real": "inf"}]
    assert restore_table(db, tmp_path / "old.jsonl").restored == 4
    assert [cell(db, key) for key in keys] == [blob(12)] * 4


def test_keys_that_no_database_has(tmp_path: Path) -> None:
    """They are of rows that aren't there."""
    db = made(tmp_path / "calls.db", [("a", "x")], table="CREATE TABLE calls (id PRIMARY KEY, stats)")
    file = tmp_path / "old.jsonl"
    file.write_bytes(
        b"".join(b'{"key":' + key + b',"stats":""}\n' for key in (b'"\\ud800"', b"-" + b"9" * 5000, b"-9e30", b"-5"))
    )
    report = restore_table(db, file)
    assert (report.unknown, report.unknown_keys) == (4, ("\ud800", float("-inf"), -9e30, -5))


def test_a_whole_last_line_without_its_end_counts(tmp_path: Path) -> None:
    """An editor may have taken the line end away."""
    db = made(tmp_path / "calls.db", [("a", "x"), ("b", "y")])
    report = restore_table(db, saved_file(tmp_path / "old.jsonl", ("a", "1"), tail=b'{"key":"b","stats":"2"}'))
    assert (report.restored, report.torn) == (2, False)
    assert cell(db, "b") == "2"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "$: expected an object with key, stats and perhaps blob"),
        (b'{"key":1}', "$: expected an object with key, stats and perhaps blob"),
        (b'{"key":1,"stats":"","more":1}', "$: expected an object with key, stats and perhaps blob"),
        (b'{"key":null,"stats":""}', "$.key: expected a number, text or hex"),
        (b'{"key":true,"stats":""}', "$.key: expected a number, text or hex"),
        (b'{"key":{"hex":1},"stats":""}', "$.key: expected a number, text or hex"),
        (b'{"key":{"hex":"xy"},"stats":""}', "$.key: expected a number, text or hex"),
        (b'{"key":1,"stats":[]}', "$.stats: expected text, and blob true or false"),
        (b'{"key":1,"stats":"","blob":1}', "$.stats: expected text, and blob true or false"),
        (b"half a li", "byte 0: expected value, got 'h'"),
        (b"[" * 100_000, "byte 64: expected at most 64 open brackets, got one more"),
        (b"", "byte 1: expected value, got the end"),
        (b'{"key":' + b"1" * 5000 + b',"stats":[]}', "$.stats: expected text, and blob true or false"),
        (b'{"key":Infinity,"stats":""}', "byte 7: expected a value, got Infinity"),
        (b'{"key":{"real":"nan"},"stats":""}', "$.key: expected a number, text or hex"),
        (b'{"key":1,"stats":2.5}', "$.stats: expected text, and blob true or false"),
        (b'{"key":1,"stats":"\\ud800"}', "$.stats: expected text that encodes to UTF-8, got a lone surrogate"),
        (b'{"key":1,"stats":"\xff"}', "byte 18: expected UTF-8, got the byte 0xff"),
        ('{"key":1,"stats":""}'.encode("utf-16"), "byte 0: expected UTF-8, got the byte 0xff"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_written(tmp_path: Path, line: bytes, why: str) -> None:
    """The file is checked as a whole first."""
    db = made(tmp_path / "calls.db", [("a", "x"), ("b", "y")])
    file = saved_file(tmp_path / "old.jsonl", ("a", "1"), tail=line + b'\n{"key":"b","stats":"2"}\n')
    with pytest.raises(CallstatsError, match=r"old\.jsonl: line 2: ") as caught:
        restore_table(db, file)
    way_out = "; reduce --save and record write such files, in lines of JSON; summary, report and reduce read those of export"
    assert str(caught.value).endswith(why + way_out * why.startswith(("byte", "$:")))
    assert [cell(db, key) for key in "ab"] == ["x", "y"]


def test_unknown_keys_are_counted_and_named(tmp_path: Path) -> None:
    """Rows that are gone by now stop nothing."""
    db = made(tmp_path / "calls.db", [("a", "x"), ("b", "y")])
    rows = [("a", "1"), *((f"gone{i}", "?") for i in range(149)), (2**64, "?"), ("b", "2")]
    report = restore_table(db, saved_file(tmp_path / "old.jsonl", *rows))
    assert (report.rows, report.restored, report.unknown) == (152, 2, 150)
    assert report.unknown_keys == tuple(f"gone{i}" for i in range(100))
    assert [cell(db, key) for key in "ab"] == ["1", "2"]


def test_import_in_batches(tmp_path: Path) -> None:
    """Progress after each batch of 1,000, and `stop` before."""
    db = made(tmp_path / "calls.db", [(i, "x") for i in range(2500)], table="CREATE TABLE calls (id INTEGER PRIMARY KEY, stats)")
    file = saved_file(tmp_path / "old.jsonl", *((i, "1") for i in range(2500)))
    seen: list[RestoreResult] = []
    answers = iter([False, False, True])
    report = restore_table(db, file, progress=seen.append, stop=lambda: next(answers))
    assert [part.restored for part in seen] == [1000, 2000]
    assert (report.restored, report.stopped) == (2000, "asked to stop")
    assert restore_table(db, file).restored == 2500


def test_import_says_what_is_missing(tmp_path: Path) -> None:
    """No file, no table, or a lock."""
    db = made(tmp_path / "calls.db", [("a", "x")])
    with pytest.raises(CallstatsError, match=r"^path must be a file that can be read, got '.*: No such file or directory$"):
        restore_table(db, tmp_path / "none.jsonl")
    file = saved_file(tmp_path / "old.jsonl", ("a", "1"))
    with pytest.raises(CallstatsError, match=r"^table must be a table of the database, got 'cals'"):
        restore_table(db, file, table="cals")
    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        report = restore_table(f"sqlite:///{db}?timeout=0.05", file)
    assert report.stopped == "database is locked: another program kept its lock for too long"
    assert cell(db, "a") == "x"
