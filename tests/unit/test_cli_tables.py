"""The width of what the command prints: at most 100 columns in a pipe, and no more than a terminal has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from callstats import Call, StatSeries, connect
from callstats.cli.app import cli
from callstats.cli.format import short_number, text_table

MIB = 2**20
TABLES = {
    "summary": ("summary", "--rightsize", "5%"),
    "names": ("compare", "reindex", "nightly-export"),
    "halves": ("compare", "checkout", "--at", "2026-11-10"),
    "list": ("list", "--limit", "60"),
}
tables = pytest.mark.parametrize("command", TABLES.values(), ids=TABLES)


def lines(db: Path, command: tuple[str, ...]) -> list[str]:
    """Return the lines that a command prints about a database."""
    result = CliRunner(env={"CALLSTATS_URL": None}).invoke(cli, [command[0], str(db), *command[1:]], prog_name="callstats")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with a call of a command that failed."""
    path = tmp_path_factory.mktemp("example") / "calls.db"
    assert CliRunner().invoke(cli, ["init", str(path), "--example"]).exit_code == 0
    at = {"created_at": "2026-11-26T07:53:22.000Z", "started_at": "2026-11-26T07:53:23.000Z"}
    series = StatSeries([0, 1], {"mem_working": [5 * MIB, 8 * MIB], "mem_usage@max": [44 * MIB] * 2, "mem_usage": [9 * MIB] * 2})
    with connect(str(path)) as table:
        table.add([Call(key="01M8BDGJBWF31K1VK549W6PCSV", name="make", series=series, status="error", exit_code=2, **at)])
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the width of the terminal that standard output is."""
    return lambda width: monkeypatch.setattr("callstats.cli.format.terminal_width", lambda: width)


@tables
def test_a_pipe_gets_all(db: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each column, whatever COLUMNS says, and no line of more than 100 characters."""
    monkeypatch.setenv("COLUMNS", "40")
    printed = lines(db, command)
    assert max(map(len, printed)) in range(90, 101)
    assert not any("wider terminal" in line for line in printed)


@tables
@pytest.mark.parametrize("width", [100, 80, 64])
def test_a_terminal(db: Path, command: tuple[str, ...], width: int, terminal: Callable[[int], None]) -> None:
    """No line is wider; from 100 columns on none is left out, and below them a line names those that are."""
    piped = lines(db, command)
    terminal(width)
    printed = lines(db, command)
    assert max(map(len, printed)) <= width
    assert sum(line.startswith("(a wider terminal shows ") for line in printed) == (width < 100)
    if width >= 100:
        assert printed[:-1] == piped[:-1]  # the last line may tell a time taken


def test_notes_of_sizes(db: Path) -> None:
    """How many calls each name lacks, the first two by name, and the name whose size does not last."""
    printed = lines(db, ("summary",))
    assert "- as right size: needs 299 calls with known memory; missing: nightly-export 25, transcode 30, 6 more names" in printed
    leaking = "checkout: its memory grows from call to call, so no size suits it for long"
    assert (leaking in printed, leaking in lines(db, TABLES["summary"])) == (False, True)


def test_advice_on_long_is_for_the_table(db: Path) -> None:
    """The blocks of --long, and the comments of a patch, have the details or are for programs."""
    covers = "a right size covers calls whose memory is known"
    assert f"{covers}: --long has the details" in lines(db, TABLES["summary"])
    assert covers in lines(db, ("summary", "--long"))
    assert f"# {covers}" in lines(db, ("summary", "--patch", "kubernetes"))


def test_blocks_wrap(db: Path, terminal: Callable[[int], None]) -> None:
    """A sentence continues below its beginning."""
    piped = lines(db, ("summary", "--long"))[:-1]  # the last line tells a time taken
    assert max(map(len, piped)) > 100
    terminal(80)
    printed = lines(db, ("summary", "--long"))[:-1]
    assert max(map(len, printed)) <= 80
    assert " ".join(" ".join(printed).split()) == " ".join(" ".join(piped).split())
    following = printed[next(i for i, line in enumerate(printed) if line.startswith("  right size  ")) + 1]
    assert re.match(r" {14}\S", following)


def test_a_list(db: Path) -> None:
    """Calls of one year have it above them; an exit code follows the status, and an upper bound the sampled peak."""
    printed = [re.split("  +", line.strip()) for line in lines(db, ("list", "--limit", "2"))]
    assert printed == [
        ["started UTC", "peak", "mean"],
        ["call", "name", "status", "in 2026", "duration", "memory", "CPU"],
        ["01M8BDGJBWF31K1VK549W6PCSV", "make", "error 2", "11-26 07:53", "~0 s", "8-44 MiB", "-"],
        ["01M882TZ1K0000000000000000", "captured", "success", "11-25 00:49", "44.2 s", "8.6-44 MiB", "1.1 %"],
    ]


def test_calls_of_two_years(db: Path, tmp_path: Path) -> None:
    """Each has its own."""
    path = tmp_path / "calls.db"
    with connect(str(path)) as table:
        table.create()
        table.add(
            [Call(key=str(year), series=StatSeries([], {}), started_at=f"{year}-01-02T03:04:05.678Z") for year in (2025, 2026)]
        )
    result = CliRunner().invoke(cli, ["list", str(path)])
    printed = [re.split("  +", line) for line in result.stdout.splitlines()]
    hints = [(what, option) for what, option in (("name", "--by"), ("status", "--status-column"))]
    assert result.stderr == "".join(
        f"none of these calls has a {what}: {option} COLUMN names the column that has it\n" for what, option in hints
    )
    assert lines(path, ("list", "--by", "", "--status-column", "")) == result.stdout.splitlines(), "none is asked for"
    assert printed == [["call", "started UTC"], ["2026", "2026-01-02 03:04"], ["2025", "2025-01-02 03:04"]]


def test_a_long_name_is_cut_first(terminal: Callable[[int], None]) -> None:
    """In its middle, to no fewer than 16 characters; then columns go, in the order given."""
    rows = [("name", "big\nnumber", "small"), ("a" * 20 + "b" * 20, "1,234,567", "1")]
    assert text_table(rows, 1)[2] == "a" * 20 + "b" * 20 + "  1,234,567      1"
    terminal(44)
    assert text_table(rows, 1, ("small", "big\nnumber"), cut="name") == [
        "                                  big",
        "name                           number  small",
        "a" * 13 + "\u2026" + "b" * 12 + "  1,234,567      1",
    ]
    terminal(27)
    assert text_table(rows, 1, ("small", "big\nnumber"), cut="name") == [
        "                        big",
        "name                 number",
        "aaaaaaaa\u2026bbbbbbb  1,234,567",
        "(a wider terminal shows",
        "  small too)",
    ]
    terminal(20)
    assert text_table(rows, 1, ("small", "big\nnumber"), cut="name")[:2] == ["name", "aaaaaaaa\u2026bbbbbbb"]


def test_short_numbers() -> None:
    """A change is told with four digits, however many the mean has."""
    assert [short_number(value) for value in (0.5157894737, 0.3894736842, 12.0, 1234.5678)] == ["0.5158", "0.3895", "12", "1,235"]
