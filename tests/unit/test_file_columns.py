"""Files with columns of other names than the default ones: refusals name what the file has, and a summary names the options."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from callstats.cli import reduce
from callstats.cli.app import cli
from callstats.db import open_file
from callstats.errors import ArgumentError
from support.database import blob


def run(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [*map(str, args)], input=stdin, prog_name="callstats")


def lines_of(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


OWN = lines_of(*({"id": i, "job": "a", "state": "success", "stats_json": blob(30, seed=i)} for i in range(3)))
"""Calls as `callstats export` writes those of another program's table."""
REFUSED = "--column must be a column of {} with text or bytes, got 'stats': it has 'id', 'job', 'state', 'stats_json'\n"


# --- the column of histograms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_pipe", [False, True])
def test_lines_without_the_column(tmp_path: Path, is_pipe: bool) -> None:
    """The first line is refused as a Parquet file is, before anything is written; the right command finds its way free."""
    path = tmp_path / "own.jsonl"
    path.write_bytes(OWN)
    source, stdin = ("-", OWN) if is_pipe else (path, None)
    shown = "standard input" if is_pipe else repr(str(path))
    output = tmp_path / "small.jsonl"
    for args in (
        ("reduce", source, "-o", output, "--max-samples", 10),
        ("summary", source, "--by", "job"),
        ("report", source, "-o", output),
        ("export", source, output),
    ):
        result = run(*args, stdin=stdin)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"callstats: {REFUSED.format(shown)}"
    assert [one.name for one in tmp_path.iterdir()] == ["own.jsonl"]
    result = run("reduce", source, "-o", output, "--max-samples", 10, "--column", "stats_json", stdin=stdin)
    assert (result.exit_code, "3 rows: 3 changed, " in result.stdout) == (0, True)
    with pytest.raises(
        ArgumentError, match=r"^column must be a column of '.*own\.jsonl' with text or bytes, got 'x': it has 'id', "
    ):
        open_file(path, column="x").summarize()


@pytest.mark.parametrize(
    ("first", "has"),
    [
        (b"{}", "none"),
        (b'{"x":{"stats":[]}}', "'x'"),
        (b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":"stats"}\r', "'a', 'b', 'c', 'd', 'e', 'f'"),
        (
            b'{"callstats":"call","v":1,"call":{"key":"a","stats":[]}}',
            "'callstats', 'v', 'call'; callstats import takes what reduce --save or record wrote",
        ),
    ],
)
def test_first_lines_that_are_refused(first: bytes, has: str) -> None:
    """All members are named; what another command takes is sent there."""
    result = run("reduce", "-", "--max-samples", 10, stdin=first + b"\n[]\n")
    assert (result.exit_code, result.stdout_bytes) == (2, b"")
    assert result.stderr.endswith(f" with text or bytes, got 'stats': it has {has}\n")


@pytest.mark.parametrize("first", [b"{", b'{"stats":5}', b'{"stats":[],"stats":[]}', b"[]", b'{"stats":null}', b"no", b""])
def test_the_first_line_alone_decides(first: bytes) -> None:
    """A first line of another fault is rejected and stays, and so is a later line without the column."""
    data = first + b'\n{"id":1,"job":"a"}\n'
    result = run("reduce", "-", "--max-samples", 10, stdin=data)
    assert (result.exit_code, result.stdout_bytes) == (1, data)
    assert "rejected 2: expected a histogram, or an object with 'stats': it has 'id', 'job'\n" in result.stderr


# --- other columns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small.jsonl", "small.parquet", "-"])
def test_a_missing_column_of_a_file(tmp_path: Path, name: str) -> None:
    """A file is not called a table."""
    path = name if name == "-" else tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"job": ["a"], "stats": ["[]"]}), path)
    elif name != "-":
        Path(path).write_bytes(b'{"job":"a","stats":[]}\n')
    result = run("summary", path, "--by", "gone", stdin=b'{"job":"a","stats":[]}\n')
    shown = "standard input" if name == "-" else repr(str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--by must be a column of {shown}, got 'gone': it has 'job'" in result.stderr


def test_default_columns_that_a_file_lacks(tmp_path: Path) -> None:
    """They are named with their options, as those of a table are; a file of histograms alone is spared that."""
    line = "the file has no {}status (--status-column), created_at (--time-column), started_at (--start-column), "
    line += "completed_at (--end-column): name its own column by the option in brackets\n"
    options = ("--column", "stats_json")
    assert line.format("fn_id (--by), ") in run("summary", "-", *options, stdin=OWN).stdout
    assert line.format("") in run("summary", "-", *options, "--by", "job", stdin=OWN).stdout
    assert "has no " not in run("summary", "-", stdin=blob(5).encode()).stdout
    pq.write_table(pa.table({"stats": [blob(5)], "job": ["a"]}), tmp_path / "own.parquet")
    assert line.format("") in run("summary", tmp_path / "own.parquet", "--by", "job").stdout
    pq.write_table(pa.table({"stats": [blob(5)]}), tmp_path / "bare.parquet")
    assert "has no " not in run("summary", tmp_path / "bare.parquet").stdout
    summary = open_file(tmp_path / "own.parquet").summarize(by="job")
    assert (summary.is_file, summary.missing_columns) == (True, ("status", "created_at", "started_at", "completed_at"))


# --- options ------------------------------------------------------------------------------------------------------------


def test_options_that_a_file_refuses_are_in_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The help of reduce names those that the command refuses, no more and no fewer."""
    refused: list[str] = []
    options = {param.name: param.opts[0] for param in reduce.reduce_command.params}

    def note(names: set[str], _why: str) -> None:
        refused.extend(options[name] for name in names)

    monkeypatch.setattr(reduce, "validate_options", note)
    assert run("reduce", "-", "--max-samples", 10, stdin=b"[]\n").exit_code == 0
    found = re.search(r"With a file, (.*?) don't apply", " ".join((reduce.reduce_command.help or "").split()))
    assert found is not None
    assert sorted(re.findall(r"--[\w-]+", found[1])) == sorted(refused)


# --- the key and the rule -----------------------------------------------------------------------------------------------


def test_a_key_that_the_file_lacks(tmp_path: Path) -> None:
    """It is refused if it was asked for; without a key, a call has its number."""
    path = tmp_path / "own.jsonl"
    path.write_bytes(OWN)
    for name in (path, tmp_path / "own.parquet"):
        if name != path:
            assert run("export", path, name, "--column", "stats_json", "--with", "job").exit_code == 0
        for args in (("summary", name), ("reduce", name, "-o", tmp_path / "new.jsonl", "--max-samples", 10)):
            result = run(*args, "--column", "stats_json", "--key", "job_no")
            assert (result.exit_code, result.stdout) == (2, "")
            assert "callstats: --key must be a column of " in result.stderr and "got 'job_no': it has " in result.stderr
    assert not (tmp_path / "new.jsonl").exists()


def test_a_metric_that_no_call_has(tmp_path: Path) -> None:
    """It is named once, and not among those whose peaks are kept."""
    path = tmp_path / "own.jsonl"
    path.write_bytes(OWN)
    how = ("--how", "mem_usgae=max", "--how", "cpu_total=mean,max")
    result = run("reduce", path, "-o", tmp_path / "new.jsonl", "--max-samples", 10, "--column", "stats_json", *how)
    assert result.exit_code == 0
    told = [line for line in result.stdout.splitlines() if "mem_usgae" in line]
    assert told == ["--how names metrics that no call has: 'mem_usgae'"]
