"""Files of blobs: JSON lines and Parquet, reduced, summarized and exported by the commands that take databases."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from callstats import KEEP_PEAKS, StatSeries, reduce_json
from callstats._files import new_file, replace_file
from callstats.adapters import files
from callstats.adapters.files import open_writer
from callstats.cli.app import cli
from callstats.db import open_file
from callstats.errors import ArgumentError
from support.database import blob, made

KEPT: Any = KEEP_PEAKS
BLOBS: list[str | None] = [blob(40, seed=1), None, "", "no", blob(2), blob(30, seed=2), "[]"]
"""Two of them can be reduced to ten samples; the fourth is rejected."""
WANT = [reduce_json([one], 10, how=KEPT)[0].decode() if one and len(one) > 2000 else one for one in BLOBS]
TIMES = pa.array([1_700_000_000_123_456_789 + i for i in range(len(BLOBS))], pa.timestamp("ns", "UTC"))


def run(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [*map(str, args)], input=stdin, prog_name="callstats")


def reduced(source: Path, output: Path, *options: object) -> Result:
    return run("reduce", source, "-o", output, "--max-samples", 10, *options)


def table(kind: Any = None) -> pa.Table:
    """Calls with a key, a name, a time with nanoseconds, a list, and a blob between them."""
    columns = {"id": [f"k{i}" for i in range(len(BLOBS))], "stats": pa.array(BLOBS, pa.string()).cast(kind or pa.string())}
    columns |= {"fn_id": ["a", "b"] * 3 + [None], "created_at": TIMES, "tags": [[i, None] for i in range(len(BLOBS))]}
    return pa.table(columns).replace_schema_metadata({"made": "elsewhere"})


def objects(text: bool) -> list[bytes]:
    """The same calls as objects, with blobs as text or as arrays, at all places and in all spellings."""
    lines = []
    for i, one in enumerate(BLOBS):
        value = "null" if one is None else json.dumps(one) if text or one[:1] != "[" else one.strip()
        after = ', "tags": {"stats": [1]}, "note":"é ]"' if i % 2 else ""
        lines.append(f'{{"a\\"stats":"\\"stats\\":[","nested":{{"stats":[2]}},"id":"k{i}", "stats" : {value}{after}}}\n'.encode())
    return lines


# --- JSON lines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [True, False])
def test_objects(tmp_path: Path, text: bool) -> None:
    """Only the histogram of a line changes, in the form that it has; every other byte stays."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = objects(text)
    source.write_bytes(b"".join(lines))
    result = reduced(source, output)
    assert result.exit_code == 1
    assert result.stderr == "rejected 'k3': byte 0: expected value, got 'n'\n"
    assert "7 rows: 2 changed, 4 unchanged, 1 rejected\n" in result.stdout
    for before, after, old, new in zip(lines, output.read_bytes().splitlines(keepends=True), BLOBS, WANT, strict=True):
        if old == new:
            assert after == before
        else:
            spelt = [json.dumps(one) if text else (one or "").strip() for one in (old, new)]
            assert after == before.replace(*(one.encode() for one in spelt))


EXPECTED = "expected a histogram, or an object with 'stats'"
IMPORT = "callstats import takes what reduce --save or record wrote"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"id":1}', f"{EXPECTED}: it has 'id'\n"),
        (b"{}", f"{EXPECTED}: it has none\n"),
        (b'{"a":1,"b":2,"c":3,"d":[],"e":"","f":{},"g":"stats"}', f"{EXPECTED}: it has 'a', 'b', 'c', 'd', 'e' and 2 more\n"),
        (b'{"callstats":"call","v":1,"call":{"key":"a","stats":[]}}', f"{EXPECTED}: it has 'callstats', 'v', 'call'; {IMPORT}\n"),
        (b'{"key":{"hex":"00"},"end":"\\n","rows":[]}', f"{EXPECTED}: it has 'key', 'end', 'rows'; {IMPORT}\n"),
        (b"{", f"{EXPECTED}\n"),
        (b'{"x":{"stats":[]}}', f"{EXPECTED}: it has 'x'\n"),
        (b'{,"stats":[]}', f"{EXPECTED}\n"),
        (b'{"stats":[],"stats":[]}', "expected an object in JSON: expected one 'stats', as text, an array or null"),
        (b'{"stats":1}', "expected an object in JSON: expected one 'stats', as text, an array or null"),
        (b'{"stats" []}', "expected an object in JSON: expected a colon after 'stats'"),
        (b'{"stats":[]', "expected an object in JSON"),
        (b'{"stats":[]}}', "expected an object in JSON"),
        (b'{"stats":[' + b"[" * 100_000, "expected an object in JSON"),
        (b'{"stats":[\xff],"x":[]}', "expected an object in JSON"),
        (b'{"stats":"\\ud800"}', "expected an object in JSON"),
        (b'{"stats":[{"timestamp":"2017-11-27T14:52:53Z"},]}', "byte "),
    ],
)
def test_lines_without_calls(line: bytes, fault: str) -> None:
    """Each is rejected by its number, and stays."""
    result = run("reduce", "-", "--max-samples", 10, stdin=b"[]\n" + line + b"\n[]\n")
    assert (result.exit_code, result.stdout_bytes) == (1, b"[]\n" + line + b"\n[]\n")
    assert f"rejected 2: {fault}" in result.stderr


members = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "stats"),
    st.recursive(
        st.none() | st.text() | st.integers(-(10**9), 10**9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
    max_size=4,
)


@given(members, members, st.sampled_from([blob(20), blob(1), "", None]), st.booleans(), st.booleans())
def test_any_object(before: dict[str, Any], after: dict[str, Any], one: str | None, text: bool, ascii_only: bool) -> None:
    """Whatever stands before and after the histogram, it is found, and nothing else changes."""
    after = {name: value for name, value in after.items() if name not in before}
    stats = one if text or not one else json.loads(one)
    line = json.dumps({**before, "stats": stats, **after}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    page = files.LinePage([line], "stats")
    try:
        line.decode()
    except UnicodeDecodeError:
        return
    assert not page.faults
    assert page.blobs[0] is not None or one is None
    assert StatSeries.from_json(page.blobs[0]) == StatSeries.from_json(one)
    assert {*page.columns} == {*before, *after} - ({""} & {*after})
    (new,) = page.lines({0: blob(1, seed=9).encode()}) if one is not None else page.lines({})
    row = json.loads(new)
    found = row.pop("stats")
    assert row == {**before, **after}
    assert one is None or StatSeries.from_json(found) == StatSeries.from_json(blob(1, seed=9))


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.ndjson.zst", "x.JSON"])
def test_compressed_lines(tmp_path: Path, name: str) -> None:
    """A name says how a file is compressed, in both directions; the bytes inside are the same."""
    lines = b"".join(objects(text=False))
    (tmp_path / "in.jsonl").write_bytes(lines)
    one, two = tmp_path / name, tmp_path / f"again{name}"
    assert reduced(tmp_path / "in.jsonl", one).exit_code == 1
    assert reduced(one, two).exit_code == 1
    assert (
        run("reduce", two, "-o", "-", "--max-samples", 10).stdout_bytes
        == run("reduce", "-", "--max-samples", 10, stdin=lines).stdout_bytes
    )
    assert (one.read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")
    assert (one.read_bytes()[:4] == b"\x28\xb5\x2f\xfd") == name.endswith("zst")


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst"])
@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-20], lambda data: b"no" + data, lambda data: data[:50] + b"\0" * 50 + data[100:]]
)
def test_a_spoilt_file_gives_no_new_one(tmp_path: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    """A file whose end is missing, or that is no such file, ends the job with 3, in one line."""
    (tmp_path / "in.jsonl").write_text("".join(blob(60, seed=i) for i in range(50)))
    reduced(tmp_path / "in.jsonl", tmp_path / name)
    (tmp_path / name).write_bytes(spoil((tmp_path / name).read_bytes()))
    result = reduced(tmp_path / name, tmp_path / "out.jsonl")
    assert result.exit_code == 3, result.output
    assert f"stopped early: can't read '{tmp_path / name}': " in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", name]


def test_a_line_at_a_time_from_a_pipe() -> None:
    """Nothing is read ahead of the batch."""
    page = next(files.LineReader(iter([b"[]\n"] * 2), "stats", "-").pages(1, 1))  # type: ignore[arg-type]
    assert page.blobs == [b"[]"]


# --- Parquet ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
@pytest.mark.parametrize("options", [[], ["--threads", 3], ["--batch-size", 2], ["--batch-bytes", 1]])
def test_parquet(tmp_path: Path, kind: Any, options: list[object]) -> None:
    """All columns come back with their types and metadata, and only histograms change."""
    pq.write_table(table(kind), tmp_path / "in.parquet", row_group_size=3)
    result = reduced(tmp_path / "in.parquet", tmp_path / "out.parquet", *options)
    assert (result.exit_code, "7 rows: 2 changed, 4 unchanged, 1 rejected\n" in result.stdout) == (1, True)
    assert result.stderr == "rejected 'k3': byte 0: expected value, got 'n'\n"
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop_columns("stats").equals(before.drop_columns("stats"))
    assert after["stats"].cast(pa.string()).to_pylist() == WANT


def test_a_dataset(tmp_path: Path) -> None:
    """The columns in the names of a folder's files are kept; a file that lacks a column has nulls there."""
    folder = tmp_path / "calls"
    ds.write_dataset(
        table().append_column("day", pa.array([1, 1, 1, 2, 2, 2, 2])),
        folder,
        format="parquet",
        partitioning=["day"],
        partitioning_flavor="hive",
    )
    pq.write_table(pa.table({"stats": [blob(30)], "more": [1]}), folder / "day=2" / "z.parquet")
    (folder / "_SUCCESS").touch()
    assert reduced(folder, tmp_path / "out.parquet").exit_code == 1
    after = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert after["stats"] == [*WANT, reduce_json([blob(30)], 10, how=KEPT)[0].decode()]
    assert (after["day"], after["more"]) == ([1] * 3 + [2] * 5, [None] * 7 + [1])
    assert after["id"][-2:] == ["k6", None]
    result = reduced(folder, folder / "out.parquet")
    assert (result.exit_code, "--output must be another file than the input" in result.stderr) == (2, True)
    assert reduced(Path(f"file:/{folder}"), tmp_path / "more.parquet").exit_code == 2  # one slash is a path
    assert run("reduce", f"file://{folder}", "-o", tmp_path / "more.parquet", "--max-samples", 10).exit_code == 1
    assert pq.read_table(tmp_path / "more.parquet").to_pydict() == after


def test_from_one_form_to_the_other(tmp_path: Path) -> None:
    """Parquet becomes lines and lines become Parquet, with all their fields."""
    pq.write_table(table(), tmp_path / "in.parquet")
    assert reduced(tmp_path / "in.parquet", tmp_path / "out.jsonl").exit_code == 1
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [row["created_at"] for row in rows] == ["2023-11-14T22:13:20.123456+00:00"] * 7
    assert [one if isinstance(one := row["stats"], str) or one is None else json.loads(json.dumps(one)) for row in rows] == [
        json.loads(one) if one and one[:1] == "[" else one for one in WANT
    ]
    assert reduced(tmp_path / "out.jsonl", tmp_path / "back.parquet").exit_code == 1
    back = pq.read_table(tmp_path / "back.parquet")
    assert back.column_names == ["id", "fn_id", "created_at", "tags", "stats"]
    assert [one and one.strip() for one in back["stats"].to_pylist()] == [one and one.strip() for one in WANT]
    assert back["tags"].to_pylist() == [row["tags"] for row in rows]


@pytest.mark.parametrize("late", ['{"id":"x","new":1,"stats":[]}', '{"id":["x"],"stats":[]}'])
def test_lines_that_fit_no_table(tmp_path: Path, late: str) -> None:
    """Nothing is left out in silence."""
    (tmp_path / "in.jsonl").write_text('{"id":"a","stats":[]}\n' * 3 + late)
    result = reduced(tmp_path / "in.jsonl", tmp_path / "out.parquet", "--batch-size", 2)
    assert (result.exit_code, "FILE must be lines " in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": ["[]"]}, "--column must be a column of '{path}' with text or bytes, got 'stats': it has 'x' (string)"),
        ({"stats": [1]}, "--column must be a column of '{path}' with text or bytes, got 'stats': it has 'stats' (int64)"),
        ({"stats": [["[]"]]}, "--column must be a column of '{path}' with text or bytes"),
        (None, "FILE must be a Parquet file or folder, got "),
    ],
)
def test_parquet_without_blobs(tmp_path: Path, columns: dict[str, Any] | None, message: str) -> None:
    """What is there is told."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path) if columns else path.write_text("no")
    for args in (
        ["reduce", path, "-o", tmp_path / "out.parquet", "--max-samples", 10],
        ["summary", path],
        ["report", path, "-o", tmp_path / "out.html"],
    ):
        result = run(*args)
        assert (result.exit_code, message.format(path=path) in result.stderr) == (2, True), result.output
    assert [one.name for one in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl.gz"])
@pytest.mark.parametrize("empty", [pa.table({"id": pa.array([], pa.int64()), "stats": pa.array([], pa.string())}), None])
def test_nothing_in_nothing_out(tmp_path: Path, name: str, empty: Any) -> None:
    """A file without calls gives one."""
    source = tmp_path / ("in.jsonl" if empty is None else "in.parquet")
    source.touch() if empty is None else pq.write_table(empty, source)
    assert reduced(source, tmp_path / name).exit_code == 0
    assert (
        gzip.decompress((tmp_path / name).read_bytes()) == b"" if name.endswith("gz") else not len(pq.read_table(tmp_path / name))
    )


# --- jobs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calls.parquet", "calls.jsonl.zst", "calls.jsonl"])
def test_a_file_is_summarized_as_its_table(tmp_path: Path, name: str) -> None:
    """A file that a table was exported to has the same summary, heaviest calls and all."""
    rows: list[Any] = [(f"k{i:03}", blob(i % 7, seed=i)) for i in range(300)]
    table = "CREATE TABLE calls (id TEXT PRIMARY KEY, stats, fn_id, status, created_at)"
    db = made(tmp_path / "calls.db", rows, table=table)
    import sqlite3

    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE calls SET fn_id = 'f' || (rowid % 40), status = CASE rowid % 5 WHEN 0 THEN 'error' END")
        connection.execute("UPDATE calls SET created_at = '2026-11-01T00:00:00Z' WHERE rowid % 3")
    connection.close()
    assert run("export", db, tmp_path / name, "--with", "fn_id", "--with", "status", "--with", "created_at").exit_code == 0
    from callstats.db import connect

    with connect(db) as calls:
        for options in ({"top": 50}, {"top": 3, "by": None}, {"since": 1, "top": 7}, {"top": 9, "name": "f7"}):
            want, got = calls.summarize(**options), open_file(tmp_path / name).summarize(**options)  # type: ignore[arg-type]
            assert (got.groups, got.calls, got.untimed, got.by) == (want.groups, want.calls, want.untimed, want.by)
            assert [call.key for call in got.heaviest] == [call.key for call in want.heaviest]
            assert [call.series for call in got.heaviest] == [call.series for call in want.heaviest]
            assert [group.name for group in want.groups if "name" in options] == ["f7"] * ("name" in options)
        for source in (calls, open_file(tmp_path / name)):
            with pytest.raises(ValueError, match="name must be left out for a table without names, got 'f7'"):
                source.summarize(by=None, name="f7")
    page = tmp_path / "page.html"
    assert run("report", tmp_path / name, "-o", page).exit_code == 0
    assert f"Calls in {tmp_path / name}" in page.read_text()


def test_a_file_of_histograms_alone(tmp_path: Path) -> None:
    """All calls are one group, and a report of standard input is one too."""
    result = run("summary", "-", "--json", stdin="".join(blob(9, seed=i) for i in range(5)).encode())
    assert (result.exit_code, [(one["name"], one["calls"]) for one in json.loads(result.stdout)["groups"]]) == (0, [(None, 5)])
    assert run("report", "-", "-o", tmp_path / "page.html", stdin=blob(9).encode()).exit_code == 0


def test_export(tmp_path: Path) -> None:
    """A table as lines; one form as the other; to standard output, with what was done beside."""
    db = made(tmp_path / "calls.db", [(str(i), one) for i, one in enumerate(BLOBS)])
    assert run("export", db, tmp_path / "a.jsonl.gz").exit_code == 0
    lines = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes())
    assert [json.loads(line)["id"] for line in lines.splitlines()] == [str(i) for i in range(7)]
    assert run("export", tmp_path / "a.jsonl.gz", tmp_path / "b.parquet").exit_code == 0
    result = run("export", tmp_path / "b.parquet", "-")
    assert (result.exit_code, result.stdout_bytes) == (0, lines)
    assert result.stderr.startswith("7 rows: 7 written, 0 rejected; ")
    assert " of text; " in result.stderr and "in the file" not in result.stderr
    result = run("export", db, tmp_path / "c.jsonl", "--long")
    assert (result.exit_code, "--long is for Parquet only" in result.stderr) == (2, True)
    result = run("export", db, tmp_path / "c.jsonl", "--with", "id")
    assert (result.exit_code, "the file has a column of that name" in result.stderr) == (2, True)


def test_rejects_and_known_rejects(tmp_path: Path) -> None:
    """Rejected rows are beside, and a later run knows them."""
    pq.write_table(table(), tmp_path / "in.parquet")
    assert reduced(tmp_path / "in.parquet", tmp_path / "a.parquet", "--rejects", tmp_path / "no.jsonl").exit_code == 1
    assert [json.loads(line)["key"] for line in (tmp_path / "no.jsonl").read_text().splitlines()] == ["k3"]
    result = reduced(tmp_path / "a.parquet", tmp_path / "b.jsonl", "--known", tmp_path / "no.jsonl", "--json")
    assert (result.exit_code, json.loads(result.stdout)["known"]) == (0, 1)


def test_a_line_without_a_histogram_is_known_by_its_own_text(tmp_path: Path) -> None:
    """Another such line at its place is news, and Parquet keeps the line's text."""
    lines, first = tmp_path / "in.jsonl", b"[]\n"
    for number, (line, code) in enumerate(((b'{"bad":1}\n', 0), (b'{"bad":1}\r\n', 0), (b'{"bad":2}\n', 1), (b'{"stats":5}', 1))):
        lines.write_bytes(first + b'{"bad":1}\n')
        rejects = tmp_path / f"{number}.jsonl"
        assert reduced(lines, tmp_path / f"{number}.parquet", "--rejects", rejects).exit_code == 1
        assert json.loads(rejects.read_text())["digest"] == hashlib.sha256(b'{"bad":1}').hexdigest()
        lines.write_bytes(first + line)
        assert reduced(lines, tmp_path / f"{number}.out.jsonl", "--known", rejects).exit_code == code
    assert pq.read_table(tmp_path / "0.parquet")["stats"].to_pylist() == ["[]", '{"bad":1}']


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_a_job_that_stops_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A stop, an error of the caller's own: there is no file, nor a part of one."""
    pq.write_table(table(), tmp_path / "in.parquet")
    calls = iter([False, True])
    result = open_file(tmp_path / "in.parquet").reduce(tmp_path / name, 10, batch_size=2, stop=lambda: next(calls))
    assert (result.stopped, result.rows) == ("asked to stop", 2)
    with pytest.raises(ZeroDivisionError):
        open_file(tmp_path / "in.parquet").reduce(tmp_path / name, 10, progress=lambda _: 1 // 0)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_files_that_are_there_stay(tmp_path: Path) -> None:
    """No existing file is written to, whatever it is; a folder must exist."""
    source = tmp_path / "in.jsonl"
    source.write_text(blob(30))
    (tmp_path / "link.jsonl").symlink_to("nowhere")
    for name in ("in.jsonl", "link.jsonl"):
        with pytest.raises(ArgumentError, match="output must be a new file, got "):
            open_file(source).reduce(tmp_path / name, 10)
    with pytest.raises(ArgumentError, match=r"output must be a writable file, got .*: No such file or directory"):
        open_file(source).reduce(tmp_path / "none" / "x.jsonl", 10)
    with pytest.raises(ArgumentError, match="output must be a path on this machine, got 's3://"):
        open_file(source).reduce("s3://bucket/x.jsonl", 10)
    assert source.read_text() == blob(30)


def test_new_files_at_once(tmp_path: Path) -> None:
    """Two writers of one name don't mix, and what a kill left behind is in nobody's way."""
    with open_writer(str(tmp_path / "x.jsonl")) as one, open_writer(str(tmp_path / "x.jsonl")) as two:
        one.add(["a"], [b"[]"])
        two.add(["b"], [b"[]"])
        assert len([*tmp_path.glob(".callstats-*.part")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert (tmp_path / "x.jsonl").read_text() == '{"call":"a","stats":[]}\n'


def test_files_that_are_replaced(tmp_path: Path) -> None:
    """The file behind a link is; a pipe is written to; after an error the old file is there."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with suppress(ZeroDivisionError), new_file(tmp_path / "link", replace=True) as file:
        file.write(b"half")
        _ = 1 // 0
    assert (tmp_path / "real").read_text() == "old"
    replace_file(tmp_path / "link", "output", b"new")
    assert ((tmp_path / "real").read_text(), (tmp_path / "link").is_symlink()) == ("new", True)
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as threads:
        there = threads.submit((tmp_path / "pipe").read_bytes)
        replace_file(tmp_path / "pipe", "output", b"new")
        assert there.result() == b"new"
    with pytest.raises(ArgumentError, match=r"output must be a writable file, got .*: Is a directory"):
        replace_file(tmp_path, "output", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "real"]


@pytest.mark.parametrize("source", ["in.parquet", "in.jsonl"])
def test_export_of_openmetrics(tmp_path: Path, source: str) -> None:
    """A file's calls are series of Prometheus, as a table's are."""
    with open_writer(str(tmp_path / source), key="id", others=["fn_id"]) as file:
        file.add([1, 2], [blob(3).encode(), b"["], [["resize"], [None]])
    result = open_file(tmp_path / source).export(tmp_path / "x.om", openmetrics=True)
    text = (tmp_path / "x.om").read_text()
    assert (result.written, result.rejected, text.endswith("\n# EOF\n")) == (1, 1, True)
    assert 'call="1",name="resize"' in text


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("-", True), ("a.parquet", True), ("a.PQ", True), ("a.jsonl.zst", True), ("s3://b/c", True), ("fsspec+memory://a", True),
        ("a.db", False), ("postgres://h/a", False), ("a", False), ("sqlite:///a.db", False), ("no\0", False),
    ],
)  # fmt: skip
def test_what_is_a_file(text: str, want: bool) -> None:
    """A name tells a file from a database."""
    assert files.is_blob_file(text) == want


def test_what_is_a_file_by_what_it_holds(tmp_path: Path) -> None:
    """A folder is one, and so is a file that begins as Parquet does."""
    pq.write_table(table(), tmp_path / "part-0")
    assert files.is_blob_file(str(tmp_path))
    assert files.is_blob_file(str(tmp_path / "part-0"))


def test_parquet_is_read_as_it_is_needed(tmp_path: Path) -> None:
    """Memory holds a few row groups of the file, never all."""
    path = tmp_path / "in.parquet"
    blobs = [b"%d" % i + b" " * 2**20 for i in range(24)]
    pq.write_table(pa.table({"stats": blobs}), path, row_group_size=1, compression="none", use_dictionary=False)
    before = pa.total_allocated_bytes()
    with files.open_reader(str(path), "stats") as reader:
        held = [pa.total_allocated_bytes() - before for _ in reader.pages(1, 2**30)]
    assert len(held) == 24
    assert max(held) < 12 * 2**20
