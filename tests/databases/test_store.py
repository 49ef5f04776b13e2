"""`reduce_table` over SQLite: what it reads, writes, passes over and reports."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callstats import Rule, StatSeries, reduce_json
from callstats.db import DatabaseError, ReduceResult, Reject
from callstats.db.jobs.save import known_line
from callstats.errors import ArgumentError
from support.database import ask, blob, cell, cells, connect, made
from support.tables import add_calls, create_table, get_series, reduce_table

pytestmark = pytest.mark.usefixtures("backend")

KEPT = Rule(10, how={"mem_usage": ("mean", "max")})
ROW = '{"timestamp":"2006-01-02T15:04:05Z"}'


def shortest(rows: int) -> str:
    """The fewest bytes that so many rows can take."""
    return f"[{','.join([ROW] * rows)}]"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- what it does -----------------------------------------------------------------------------------------------------


def test_long_histograms_are_reduced(tmp_path: Path, backend: str) -> None:
    """Each long cell becomes what reduce_json makes of it; the report counts rows and bytes."""
    old = {"a": blob(100), "b": blob(3), "c": blob(50, seed=1), "d": "", "e": None}
    db = made(tmp_path / "calls.db", old.items())
    report = reduce_table(db, KEPT)
    want = dict(zip("ac", reduce_json([old["a"], old["c"]], KEPT), strict=True))
    assert cells(db) == [
        ("a", "text", want["a"]),
        ("b", "text", blob(3).encode()),
        ("c", "text", want["c"]),
        ("d", "text", b""),
        ("e", "null", None),
    ]
    before = len(blob(100)) + len(blob(50, seed=1))
    assert dataclasses.replace(report, seconds=0, phases={}) == ReduceResult(
        rows=5,
        skipped=3,
        changed=2,
        bytes_read=before,
        bytes_before=before,
        bytes_after=sum(map(len, want.values())),
        backend=backend,
    )
    assert report.seconds > 0


@pytest.mark.parametrize("verify", [False, True])
def test_a_second_run_changes_nothing(tmp_path: Path, verify: bool) -> None:
    """What was reduced once is left alone, to the byte of the file."""
    db = made(tmp_path / "calls.db", [(f"c{i}", blob(20 * i, seed=i)) for i in range(20)])
    assert reduce_table(db, KEPT).changed == 19
    before = digest(db)
    report = reduce_table(db, KEPT, verify=verify)
    assert (report.changed, report.rejected, report.rows) == (0, 0, 20)
    assert report.unchanged == (20 if verify else 20 - report.skipped)
    assert digest(db) == before


@pytest.mark.parametrize("limit", [-(10**30), -1, 0, 1, 5])
def test_the_database_passes_short_cells_over(tmp_path: Path, limit: int) -> None:
    """No cell that could hold more than max_samples rows is passed over, and none that can't is read."""
    rows = max(limit, 0)
    db = made(tmp_path / "calls.db", [("a", shortest(rows)), ("b", shortest(rows + 1))])
    report = reduce_table(db, limit)
    assert (report.skipped, report.changed) == (1, 1)
    assert cell(db, "a") == shortest(rows)
    assert cell(db, "b") == reduce_json([shortest(rows + 1)], limit)[0].decode()


def test_limits_beyond_every_size(tmp_path: Path) -> None:
    """A limit that no cell can reach is no fault."""
    db = made(tmp_path / "calls.db", [("a", blob(30))])
    assert reduce_table(db, Rule(10**30, max_bytes=10**30)).skipped == 1
    assert reduce_table(db, Rule(None), verify=True).unchanged == 1


def test_max_bytes_reads_what_is_larger(tmp_path: Path) -> None:
    """Without a limit on rows, what is larger than max_bytes is read, and made to fit."""
    old = blob(30)
    size = len(old)
    db = made(tmp_path / "calls.db", [("a", old), ("b", old + " ")])
    report = reduce_table(db, Rule(None, max_bytes=size))
    assert (report.skipped, report.changed) == (1, 1)
    assert (cell(db, "a"), cell(db, "b")) == (old, old)
    report = reduce_table(db, Rule(None, max_bytes=600))
    assert report.changed == 2
    assert len(cell(db, "a")) <= 600


def test_budget_that_nothing_fits_refuses_the_row(tmp_path: Path) -> None:
    """A row that no reduction makes small enough keeps its cell."""
    db = made(tmp_path / "calls.db", [("a", blob(30))])
    report = reduce_table(db, Rule(None, max_bytes=10))
    assert report.rejected == 1
    assert "max_bytes must be at least the size of one row" in report.rejects[0].reason
    assert cell(db, "a") == blob(30)


def test_verify_reads_every_row(tmp_path: Path) -> None:
    """Short cells are checked too, when asked for."""
    db = made(tmp_path / "calls.db", [("a", "[1]"), ("b", None), ("c", blob(3)), ("d", "")])
    assert reduce_table(db, 10).skipped == 4
    report = reduce_table(db, 10, verify=True)
    assert (report.skipped, report.unchanged, report.rejected) == (0, 3, 1)
    assert [reject.key for reject in report.rejects] == ["a"]


def test_empty_results_keep_the_type_of_their_cell(tmp_path: Path) -> None:
    """A series that is reduced to nothing is '' in TEXT and x'' in BLOB, and never NULL."""
    db = made(tmp_path / "calls.db", [("a", blob(9)), ("b", blob(9).encode())])
    assert reduce_table(db, 0).changed == 2
    assert cells(db) == [("a", "text", b""), ("b", "blob", b"")]


def test_counts_can_be_left_out(tmp_path: Path) -> None:
    """`counts` reaches the text that is written."""
    db = made(tmp_path / "calls.db", [("a", blob(100))])
    reduce_table(db, 10, counts=False)
    assert cell(db, "a") == reduce_json([blob(100)], 10, counts=False)[0].decode()
    assert "count" not in cell(db, "a").replace('"cpu_total"', "")


def test_threads_give_the_same(tmp_path: Path) -> None:
    """Threads share the reducing and change no result."""
    rows = [(f"c{i:03}", blob(i, seed=i)) for i in range(120)]
    one, four = made(tmp_path / "one.db", rows), made(tmp_path / "four.db", rows)
    reduce_table(one, KEPT, batch_size=50)
    reduce_table(four, KEPT, batch_size=50, threads=4)
    assert cells(one) == cells(four)


def test_column_and_table_names(tmp_path: Path) -> None:
    """Any names will do, quoted where SQL needs it, in any case of letters."""
    db = tmp_path / "calls.db"
    with closing(connect(db)) as to:
        to.execute('CREATE TABLE "run of:it" ("my key" INTEGER PRIMARY KEY, "order" TEXT)')
        to.execute('INSERT INTO "run of:it" VALUES (1, ?)', [blob(100)])
    report = reduce_table(db, KEPT, table="Run of:it", key="MY KEY", column="Order")
    assert report.changed == 1
    assert ask(db, 'SELECT "order" FROM "run of:it"') == [(reduce_json([blob(100)], KEPT)[0].decode(),)]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_end_by_bytes_too(tmp_path: Path) -> None:
    """A batch ends with the row that reaches batch_bytes."""
    size = len(blob(12))
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(7)])
    seen: list[int] = []
    report = reduce_table(db, 10, batch_bytes=2 * size, progress=lambda report: seen.append(report.rows))
    assert report.changed == 7
    assert seen == [2, 4, 6, 7]


def test_long_stretches_of_short_rows_are_walked_through(tmp_path: Path) -> None:
    """Rows that are passed over are counted, and end batches too."""
    db = made(tmp_path / "calls.db", [(i, blob(12) if i in (3, 95) else "") for i in range(100)])
    seen: list[ReduceResult] = []
    report = reduce_table(db, 10, batch_size=10, progress=seen.append)
    assert (report.changed, report.skipped) == (2, 98)
    assert [part.rows for part in seen][:3] == [10, 20, 30]


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_cells_of_every_kind(tmp_path: Path, batch_size: int) -> None:
    """A BLOB stays a BLOB; what is no histogram is refused by its key, and all other rows are done."""
    bad: dict[str, tuple[str, str]] = {
        "blob-ff": ("CAST(? AS BLOB)", "byte "),
        "text-ff": ("CAST(? AS TEXT)", "byte "),
        "integer": ("1", "expected text or bytes, got a value of type integer"),
        "real": ("1.5", "expected text or bytes, got a value of type real"),
        "nul": ("CAST(? AS TEXT)", "byte "),
    }
    raw = {"blob-ff": b"[\xff]", "text-ff": b"[\xff]", "nul": blob(12).encode() + b"\0"}
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, status TEXT, stats)"
    db = made(tmp_path / "calls.db", [("a", blob(12)), ("b", blob(12).encode()), ("z", blob(12))], table=table)
    for key, (expression, _) in bad.items():
        ask(db, f"INSERT INTO calls (id, stats) VALUES (?, {expression})", key, *([raw[key]] if key in raw else []))
    before = cells(db)
    report = reduce_table(db, 10, verify=True, batch_size=batch_size)
    want = reduce_json([blob(12)], 10)[0]
    assert [row for row in cells(db) if row[0] in ("a", "b", "z")] == [
        ("a", "text", want),
        ("b", "blob", want),
        ("z", "text", want),
    ]
    assert [row for row in cells(db) if row[0] in bad] == [row for row in before if row[0] in bad]
    assert (report.changed, report.rejected) == (3, 5)
    reasons = dict(report.rejects)
    assert reasons.keys() == bad.keys()
    for key, (_, start) in bad.items():
        assert reasons[key].startswith(start)


def test_a_cut_blob_is_left_as_it_is(tmp_path: Path) -> None:
    """A histogram that MySQL cut at 65,535 bytes is refused, and its row keeps what is left of it."""
    cut = blob(1200)[:65_535]
    db = made(tmp_path / "calls.db", [("a", cut), ("b", blob(1200))])
    report = reduce_table(db, Rule(None, max_bytes=65_534))
    assert (report.changed, [reject.key for reject in report.rejects]) == (1, ["a"])
    assert cell(db, "a") == cut


def test_a_budget_makes_it_fit(tmp_path: Path) -> None:
    """240 rows of nine metrics at 2**64 - 1 take 82,802 bytes; max_bytes makes them fit."""
    names = ["cpu_total", "cpu_user", "cpu_kernel", "mem_usage", "mem_limit", "net_rx", "net_tx", "disk_read", "disk_write"]
    top = {name: [2**64 - 1] * 240 for name in names}
    text = StatSeries([(1_511_794_373 + i) * 10**9 for i in range(240)], top).to_db()
    assert len(text) == 82_802
    db = made(tmp_path / "calls.db", [("a", text)])
    assert reduce_table(db, Rule(240, max_bytes=65_535)).changed == 1
    assert len(cell(db, "a")) <= 65_535


def test_a_constraint_refuses_its_row_alone(tmp_path: Path) -> None:
    """A row that the database won't take reduced is reported, and the rest of its batch is written."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats TEXT, CHECK (id <> 'b' OR length(stats) > 500))"
    db = made(tmp_path / "calls.db", [(key, blob(12)) for key in "abc"], table=table)
    report = reduce_table(db, 1)
    assert (report.changed, report.rejected) == (2, 1)
    assert report.rejects[0].key == "b"
    assert report.rejects[0].reason.startswith("the database rejects the reduced text: CHECK constraint failed")
    assert [cell(db, key) == blob(12) for key in "abc"] == [False, True, False]
    assert report.bytes_before == 2 * len(blob(12))


def test_rejects_are_all_told_and_the_first_are_kept(tmp_path: Path) -> None:
    """The report holds 100 rejects, so that its size is bounded; on_reject hears of every one."""
    db = made(tmp_path / "calls.db", [(i, "x" * 999) for i in range(130)])
    told: list[Reject] = []
    report = reduce_table(db, 10, batch_size=20, on_reject=told.append)
    assert (report.rejected, len(report.rejects), len(told)) == (130, 100, 130)
    assert report.rejects == tuple(told[:100])


def test_rejects_that_are_known(tmp_path: Path) -> None:
    """A rejected row that a file names is counted apart, as long as its text is the same."""
    table = "CREATE TABLE calls (id PRIMARY KEY, stats)"
    db = made(tmp_path / "calls.db", [("a", "x" * 999), (b"\xff", "y" * 999), (7, blob(12))], table=table)
    told: list[Reject] = []
    report = reduce_table(db, 10, on_reject=told.append)
    assert (report.rows, report.rejected, report.known) == (3, 2, 0)
    assert [(one.key, one.digest, one.known) for one in told] == [
        ("a", hashlib.sha256(b"x" * 999).hexdigest(), False),
        (b"\xff", hashlib.sha256(b"y" * 999).hexdigest(), False),
    ]
    known = tmp_path / "rejects.jsonl"
    known.write_text("".join(map(known_line, told)) + '{"key":null,"reason":"no key, so no digest"}\n')
    del told[:]
    report = reduce_table(db, 10, known=known, on_reject=told.append)
    assert (report.rows, report.rejected, report.known, report.rejects) == (3, 0, 2, ())
    assert [(one.key, one.known) for one in told] == [("a", True), (b"\xff", True)]
    ask(db, "UPDATE calls SET stats = stats || 'x' WHERE id = 'a'")
    report = reduce_table(db, 10, known=known)
    assert (report.rows, report.rejected, report.known, [one.key for one in report.rejects]) == (3, 1, 1, ["a"])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (None, "No such file or directory"),
        ('{"key":1,"reason":""}\n[1]\n', "line 2: $: expected an object with key and reason"),
        ('{"key":1}\n', "line 1: $: expected an object with key and reason"),
        ('{"key":true,"reason":"","digest":"ab"}\n', "line 1: $.key: expected a number, text or hex"),
        ("x\n", "line 1: byte 0: expected value, got 'x'"),
    ],
)
def test_files_without_known_rejects(tmp_path: Path, text: str | None, hint: str) -> None:
    """They are refused with the line at fault."""
    db, known = made(tmp_path / "calls.db", [("a", blob(12))]), tmp_path / "rejects.jsonl"
    if text is not None:
        known.write_text(text)
    what = "a file that can be read" if text is None else "a file of rejected rows"
    with pytest.raises(ArgumentError, match=f"^known must be {what}, got '.*: {re.escape(hint)}$"):
        reduce_table(db, 10, known=known)
    assert cell(db, "a") == blob(12)


# --- where, dry runs, stops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "status = 'b'",
        "status = 'b' -- no more",
        "status > ':a' AND status LIKE 'b%'",
        "status = 'x' OR status = 'b'",
        'status = "b"',
    ],
)
def test_where(tmp_path: Path, where: str) -> None:
    """Only rows that meet the condition are in scope; it is the database's own SQL, whatever stands in it."""
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, b TEXT DEFAULT 'b', status TEXT, stats TEXT)"
    db = made(tmp_path / "calls.db", [(key, blob(12)) for key in "pqrs"], table=table)
    ask(db, "UPDATE calls SET status = 'b' WHERE id IN ('q', 's')")
    report = reduce_table(db, 10, where=where, progress=lambda report: None)
    assert (report.rows, report.changed, report.total) == (2, 2, 2)
    assert [key for key in "pqrs" if cell(db, key) != blob(12)] == ["q", "s"]


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """It reports what a run would do, and leaves the file alone, to the byte."""
    db = made(tmp_path / "calls.db", [("a", blob(100)), ("b", "x" * 999), ("c", blob(100))])
    before, time = digest(db), db.stat().st_mtime_ns
    dry = reduce_table(db, KEPT, dry_run=True)
    assert (digest(db), db.stat().st_mtime_ns) == (before, time)
    wet = reduce_table(db, KEPT)
    assert dry.dry_run
    assert dry.kept_peaks == ("mem_usage",)
    told = {"kept_peaks": (), "peak_change": None, "mean_change": None}
    assert dataclasses.replace(dry, seconds=wet.seconds, phases=wet.phases, dry_run=False, **told) == wet


def test_a_dry_run_takes_no_lock(tmp_path: Path) -> None:
    """It goes on beside a writer that holds the lock, and keeps nobody from writing."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(10)])

    def write(_: ReduceResult) -> None:
        with closing(connect(db, timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")

    with closing(connect(db)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert reduce_table(db, 10, dry_run=True).changed == 10
    assert reduce_table(db, 10, dry_run=True, batch_size=3, progress=write).changed == 10


def test_stop_ends_between_batches(tmp_path: Path) -> None:
    """`stop` is asked before each batch; what was done by then stays done."""
    db = made(tmp_path / "calls.db", [(i, blob(12)) for i in range(10)])
    answers = iter([False, False, True])
    report = reduce_table(db, 10, batch_size=3, stop=lambda: next(answers))
    assert (report.changed, report.stopped) == (6, "asked to stop")
    assert reduce_table(db, 10).changed == 4


def test_progress_is_the_report_so_far(tmp_path: Path) -> None:
    """Each report adds up, and knows the total."""
    db = made(tmp_path / "calls.db", [(i, blob(5 + i)) for i in range(20)])
    seen: list[ReduceResult] = []
    reduce_table(db, 10, batch_size=6, progress=seen.append)
    for report in seen:
        assert report.rows == report.skipped + report.unchanged + report.changed + report.rejected
        assert report.total == 20
    assert seen[-1].rows == 20
    assert reduce_table(db, 10).total is None


# --- tables -----------------------------------------------------------------------------------------------------------


def test_init_makes_the_table_of_fn(tmp_path: Path) -> None:
    """A missing table is made in Fn's shape, a missing column added, and nothing else is done."""
    db = tmp_path / "calls.db"
    assert create_table(db) == "created"
    names = ["id", "app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "stats", "error"]
    names += ["command", "host", "pid", "exit_code", "tags"]
    assert [row[1] for row in ask(db, "PRAGMA table_info(calls)")] == names
    assert ask(db, "SELECT name, pk, \"notnull\" FROM pragma_table_info('calls') WHERE pk") == [("id", 1, 1)]
    before = digest(db)
    assert create_table(db) == "nothing"
    assert digest(db) == before


def test_init_adds_a_missing_column(tmp_path: Path) -> None:
    """A table that is there keeps its rows, and gets the column."""
    db = made(tmp_path / "calls.db", [("a", "x")])
    assert create_table(db, column="a column: of%its own") == "added"
    assert create_table(db, column="A Column: of%its own") == "nothing"
    assert ask(db, "SELECT * FROM calls") == [("a", None, "x", *[None] * 6)]


def test_calls_can_be_added_and_read(tmp_path: Path) -> None:
    """add_calls puts rows in, all or none, and get_series gives a stored series back."""
    db = tmp_path / "calls.db"
    create_table(db)
    row: dict[str, Any] = dict.fromkeys(["app_id", "fn_id", "status", "created_at", "started_at", "completed_at", "error"], "x")
    assert add_calls(db, ({**row, "id": f"c{i}", "stats": blob(i)} for i in range(250))) == 250
    assert get_series(db, "c7") == StatSeries.from_json(blob(7))
    with pytest.raises(DatabaseError, match=r"^UNIQUE constraint failed"):
        add_calls(db, [{**row, "id": "new", "stats": ""}, {**row, "id": "c7", "stats": ""}])
    with pytest.raises(ValueError, match=r"^key must be the key of a call in table 'calls', got 'new': list shows the latest$"):
        get_series(db, "new")
