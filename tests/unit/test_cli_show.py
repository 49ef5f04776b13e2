"""``callstats show``: golden text at three widths, plain ASCII, colour, hostile text, and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callstats import Call, StatSeries, decimate
from callstats.cli import show
from callstats.cli.app import cli
from callstats.db import connect as connect_table
from callstats.plot import png
from support.database import Value, blob, connect, made
from support.zoo import SECOND

pytestmark = pytest.mark.usefixtures("backend")

GOLDEN = Path(__file__).parents[1] / "data" / "show"
MIB = 2**20
TIMES = ("2017-11-27T14:52:53.000Z", "2017-11-27T14:52:53.040Z", "2017-11-27T14:56:53.000Z")
"""Creation, start and end of a call. The samples of most cases begin before that start, and their charts last as they do."""
FN = "CREATE TABLE calls (id TEXT PRIMARY KEY, fn_id, status, created_at, started_at, completed_at, stats, error)"


def run(*args: object, **env: str | None) -> Result:
    """What the command prints and how it ends."""
    given = {"CALLSTATS_URL": None, "COLUMNS": "80", "NO_COLOR": None, "FORCE_COLOR": None, **env}
    return CliRunner(env=given).invoke(cli, ["show", *map(str, args)], prog_name="callstats")


def waves(n: int) -> StatSeries:
    """Memory in waves under a limit, a processor that idles at times, and a counter that is reset once."""
    memory = [(20 + 40 * (i % 37) // 37 + 60 * (i == n // 2)) * MIB for i in range(n)]
    cpu = [None if not i else 35 + i % 11 if i % 60 < 40 else 0 for i in range(n)]
    received = [i % 150 * 40_000 for i in range(n)]
    metrics = {"mem_usage": memory, "mem_limit": [128 * MIB] * n, "cpu_total": cpu, "net_rx": received}
    return StatSeries([(1_511_794_373 + i) * SECOND for i in range(n)], metrics)


def holes() -> StatSeries:
    """No rows for two minutes, and later no value for a while."""
    seconds = [*range(60), *range(180, 300)]
    values = [None if 220 <= second < 250 else 10 * MIB + second * 30_000 for second in seconds]
    return StatSeries([second * SECOND for second in seconds], {"mem_usage": values, "queue": [7] * len(seconds)})


CASES: dict[str, Callable[[], StatSeries]] = {
    "no-row": lambda: waves(0),
    "one-row": lambda: waves(1),
    "two-rows": lambda: waves(2),
    "240-rows": lambda: waves(240),
    "band": lambda: decimate(waves(2400), 60, how={"mem_usage": ("mean", "min", "max"), "cpu_total": ("mean", "max")}),
    "holes": holes,
    "all-equal": lambda: StatSeries([i * SECOND for i in range(9)], {"cpu_total": [250] * 9, "mem_usage": [0] * 9}),
    "near-2-64": lambda: StatSeries(
        [i * SECOND for i in range(50)],
        {
            "mem_usage": [2**64 - 1 - i for i in range(50)],
            "mem_limit": [2**64 - 1] * 50,
            "x": [2**63 + i * 2**57 for i in range(50)],
        },
    ),
}


BEGAN = ("2017-11-27T14:52:51.990Z", "2017-11-27T14:52:51.990500Z")
RECORDED: dict[str, tuple[Callable[[], StatSeries], tuple[str, ...]]] = {
    "recorded": (lambda: waves(2), (*BEGAN, "2017-11-27T14:52:54.000500Z")),
    "recorded-one-row": (lambda: waves(1), (*BEGAN, "2017-11-27T14:52:53.990500Z")),
    "recorded-two-hours": (
        lambda: decimate(waves(7200), 60, how={"mem_usage": ("mean", "min", "max")}),
        (*BEGAN, "2017-11-27T16:52:52.000Z"),
    ),
}
"""Calls whose samples lie between their start and their end. The chart lasts from the start to the end."""


def stored(path: Path, stats: Value, *, key: str = "call-1", error: str | None = None, times: tuple[str, ...] = TIMES) -> Path:
    """A database of one call in Fn's shape."""
    with closing(connect(path)) as db:
        db.execute(FN)
        db.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, "resize", "success", *times, stats, error))
    return path


@pytest.mark.parametrize("case", [*CASES, *RECORDED])
def test_golden(case: str, tmp_path: Path) -> None:
    """The text at widths 40, 80 and 200, to the letter; no line of a chart is wider."""
    made, times = RECORDED[case] if case in RECORDED else (CASES[case], TIMES)
    db = stored(tmp_path / "calls.db", made().to_db(), times=times)
    shown = []
    for width in (40, 80, 200):
        result = run(db, "call-1", COLUMNS=str(width))
        assert (result.exit_code, result.stderr) == (0, "")
        assert max(map(len, result.stdout.splitlines())) <= width
        shown.append(f"=== {width} columns\n{result.stdout}")
    assert "\n".join(shown) == (GOLDEN / f"{case}.txt").read_text(encoding="utf-8")


def test_two_rows_of_one_time(tmp_path: Path) -> None:
    """There is no rate between them, and the chart says what it lacks."""
    series = StatSeries([SECOND, SECOND], {"net_rx": [0, MIB]})
    assert run(stored(tmp_path / "calls.db", series.to_db()), "call-1").stdout.endswith("\n  two times are needed for a rate\n")


def test_what_the_cpu_is_of() -> None:
    """It says so where it is processor time over the call's own duration, and not where that is unknown or 0."""
    series = StatSeries([0, SECOND], {"cpu_total": [40, 60], "cpu_time@last": [None, SECOND // 2]})
    start = "2017-11-27T14:52:53.000Z"
    for end, text in (
        ("2017-11-27T14:52:55.000Z", "CPU       25.0 % (processor time over duration)"),
        (start, "CPU       ~50.0 %"),
        (None, "CPU       ~50.0 %"),
    ):
        assert text in show.head_lines(Call(key="a", series=series, started_at=start, completed_at=end))


def test_a_row_with_nothing_but_a_peak_is_drawn(tmp_path: Path) -> None:
    """The last row of a recording may have the kernel's peak alone: it is a bar in the last column."""
    series = StatSeries([0, SECOND, 2 * SECOND], {"mem_usage": [MIB, MIB, None], "mem_usage@max": [None, None, 100 * MIB]})
    lines = run(stored(tmp_path / "calls.db", series.to_db()), "call-1").stdout.splitlines()
    top = next(index for index, line in enumerate(lines) if line.startswith("mem_usage  max 100 MiB"))
    assert [line[-1] for line in lines[top + 1 : top + 7]] == ["░"] * 6
    assert all("░" not in line[:-1] for line in lines)


def test_plain_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output's encoding has no blocks, all is ASCII."""
    db = stored(tmp_path / "calls.db", CASES["band"]().to_db())
    monkeypatch.setattr(show, "_fits", lambda encoding: False)
    result = run(db, "call-1")
    assert result.stdout.isascii()
    assert result.stdout == (GOLDEN / "ascii.txt").read_text()


@pytest.mark.parametrize(
    ("encoding", "fits"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("?", False)]
)
def test_what_an_encoding_can_show(encoding: str | None, fits: bool) -> None:
    """Blocks are used only where every one of them can be printed."""
    assert show._fits(encoding) is fits


@pytest.mark.parametrize(("env", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour(env: dict[str, str], colored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal charts have colours, unless NO_COLOR is set."""
    db = stored(tmp_path / "calls.db", CASES["240-rows"]().to_db())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(show.sys, "stdout", out)
    with connect_table(db) as table:
        call = table.get("call-1")
    assert call.series is not None
    show._print(call, call.series, ("mem_usage",))
    assert ("\x1b[36m" in out.getvalue()) is colored


def test_hostile_text(tmp_path: Path) -> None:
    """Names and errors from the database move no cursor and set no colour."""
    bad = "\x1b[31m<script>\r\n\u202e\x00"
    stats = StatSeries([0, SECOND], {bad: [1, 2], "[red]x[/red]": [1, 2]}).to_db()
    db = stored(tmp_path / "calls.db", stats, key=bad, error=bad)
    result = run(db)
    assert result.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in result.stdout)
    assert result.stdout.count(r"\x1b[31m<script>\r\n\u202e\x00") == 3
    assert "[red]x[/red]" in result.stdout


def test_which_call(tmp_path: Path) -> None:
    """By default that of the greatest key; CALLSTATS_URL makes a single argument the key; a key of digits finds a number."""
    cells = [("1", blob(3)), ("2", blob(4))]
    db = made(tmp_path / "calls.db", cells, table="CREATE TABLE calls (id INTEGER PRIMARY KEY, stats TEXT)")
    assert "call      2\nduration  ~3 s\nsamples   4\n" in run(db).stdout
    assert "call      1\nduration  ~2 s\nsamples   3\n" in run(db, "1").stdout
    assert run(db).stdout == run(CALLSTATS_URL=str(db)).stdout
    assert run(db, "1").stdout == run("1", CALLSTATS_URL=str(db)).stdout
    for wrong, said in (
        ((db, 9), "ID or NAME must be the whole key or the name of a call in table 'calls', got '9': list shows the latest"),
        ((db, 1, 2), "the arguments must be [DB] [ID|NAME]"),
    ):
        result = run(*wrong)
        assert (result.exit_code, said in result.stderr) == (2, True)


def test_a_database_that_is_taken_for_a_call(tmp_path: Path) -> None:
    """Where it is the only argument, the error says so, and how databases are told apart; also where there is no calls.db."""
    db = str(stored(tmp_path / "calls.db", blob(3)))
    told = "; 'mine' is taken for a call, as a database ends in .db or has a /\n"
    assert run("mine", CALLSTATS_URL=db).stderr.endswith(f", got 'mine': list shows the latest{told}")
    assert run(db, "mine", CALLSTATS_URL=db).stderr.endswith(", got 'mine': list shows the latest\n")
    for none, hint in ((("mine",), told), ((f"{db}.db", "mine"), "\n"), ((), "\n")):
        result = run(*none, CALLSTATS_URL=f"{db}.db")
        assert (result.exit_code, result.stderr.partition(", callstats init")[2]) == (2, f" an empty one{hint}")


def test_one_metric(tmp_path: Path) -> None:
    """--metric chooses, the limit's own chart too; a name that the call lacks is an error that tells what there is."""
    db = stored(tmp_path / "calls.db", CASES["240-rows"]().to_db())
    result = run(db, "call-1", "--metric", "mem_limit", "--metric", "cpu_total")
    assert [line.split()[0] for line in result.stdout.splitlines() if "mean" in line] == ["mem_limit", "cpu_total"]
    result = run(db, "call-1", "--metric", "disk")
    assert result.exit_code == 2
    assert "got 'disk': it has 'cpu_total', 'mem_limit', 'mem_usage', 'net_rx'" in result.stderr


def test_rejected(tmp_path: Path) -> None:
    """A call whose cell is no histogram is told with the reason, after what else is known of it."""
    result = run(stored(tmp_path / "calls.db", "[{]"))
    assert result.exit_code == 1
    assert result.stdout.startswith("call      call-1\nname      resize\n")
    assert result.stderr.startswith("rejected 'call-1': ")


@pytest.mark.parametrize("case", [*CASES])
def test_png(case: str, tmp_path: Path) -> None:
    """--png draws the same into a PNG file that isn't blank."""
    from matplotlib.image import imread

    db = stored(tmp_path / "calls.db", CASES[case]().to_db(), key="$\\frac{<b>$")
    result = run(db, "--png", tmp_path / "call.png")
    assert (result.exit_code, result.stderr) == (0, "")
    pixels = imread(tmp_path / "call.png")
    assert pixels.shape[1] == 1000
    assert 0 < (pixels[..., :3] < 0.9).any(axis=2).mean() < 0.5


def test_png_lasts_as_the_call_does(tmp_path: Path) -> None:
    """From its start to its end, in the terminal as in the file; from sample to sample where the times contradict these."""
    made, times = RECORDED["recorded"]
    for name, given, span in (
        ("known", times, Call(key="", started_at=times[1], completed_at=times[2]).span),
        ("not", TIMES, None),
    ):
        db = stored(tmp_path / f"{name}.db", made().to_db(), times=given)
        assert run(db, "--png", tmp_path / "call.png").exit_code == 0
        assert (tmp_path / "call.png").read_bytes() == png(made(), title="call call-1", span=span)


def test_png_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that can't be written is wrong use, in one line."""
    result = run(stored(tmp_path / "calls.db", blob(3)), "--png", tmp_path / "nowhere" / "call.png")
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_samples_as_csv(tmp_path: Path) -> None:
    """A line for each row: its time, its count, and a cell for each metric, empty where the row lacks it."""
    found = StatSeries([0, 1_500_000_000], {"a": [1, None], "=b": [2, 3]})
    db = stored(tmp_path / "calls.db", found.to_db())
    assert run(db, "--csv").stdout == ("timestamp,count,'=b,a\n1970-01-01T00:00:00.000Z,1,2,1\n1970-01-01T00:00:01.500Z,1,3,\n")
    assert run(db, "--csv", "--metric", "a").stdout.splitlines() == [
        "timestamp,count,a",
        "1970-01-01T00:00:00.000Z,1,1",
        "1970-01-01T00:00:01.500Z,1,",
    ]
    assert run(db, "--csv", "--metric", "c").exit_code == 2


@pytest.mark.parametrize(
    ("verb", "told"), [("list", "  8-44 B"), ("show", "memory    at least 8 B, at most 44 B (mem_working, sampled)\n")]
)
def test_a_sampled_peak_has_its_upper_bound(verb: str, told: str, tmp_path: Path) -> None:
    """Where the kernel knows one, neither command tells the sample as the peak."""
    series = StatSeries([0, 1], {"mem_working": [5, 8], "mem_usage": [20, 25], "mem_usage@max": [20, 44]})
    db = stored(tmp_path / "calls.db", series.to_json().decode())
    result = CliRunner().invoke(cli, [verb, str(db)], prog_name="callstats")
    assert told in result.stdout


def test_a_sampled_peak_is_a_bound(tmp_path: Path) -> None:
    """Both commands, after a reduction too, tell it from the kernel's; and JSON has the source."""
    sampled = StatSeries([i * SECOND for i in range(20)], {"mem_usage": [50 * MIB] * 20})
    kernel = StatSeries([0, 1], {"mem_usage": [5 * MIB, 8 * MIB], "mem_peak@last": [None, 9 * MIB]})
    cells: list[tuple[Value, Value]] = [("a", sampled.to_db()), ("b", kernel.to_db()), ("c", StatSeries([0], {"x": [1]}).to_db())]
    db = made(tmp_path / "calls.db", cells)
    CliRunner().invoke(cli, ["reduce", str(db), "--max-samples", "5"], prog_name="callstats", catch_exceptions=False)
    told = [run(db, key).stdout.partition("memory    ")[2].partition("\n")[0] for key in "abc"]
    assert told == ["at least 50 MiB (sampled)", "9 MiB (the kernel's count)", ""]
    listed = CliRunner().invoke(cli, ["list", str(db)], prog_name="callstats").stdout.splitlines()
    assert [line.split()[1:] for line in listed[2:]] == [["~0", "s", "-"], ["~0", "s", "9", "MiB"], ["~16", "s", ">=50", "MiB"]]
    assert '"peak_source": "sampled"' in run(db, "a", "--json").stdout
