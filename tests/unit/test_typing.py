"""Type checkers know the whole public surface, and find a misspelt word; so does the package at run time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import callstats
from callstats import Recorder, Rule, StatSeries, decimate, reduce_json

SCRIPT = """\
from datetime import UTC, datetime

from callstats import Bernoulli, BudgetError, CallstatsError, DatabaseError, DecodeError, DriverError, ImageError, ImageRef
from callstats import KEEP_PEAKS, Recorder, Rule, SeriesError, Stat, StatBatch, StatSeries, Summary, __version__, backend
from callstats import Call, CallTable, CallUsage, bernoulli, connect, decimate, parse_image, record, reduce_json, summarize

series = StatSeries([0, 10**9, 2 * 10**9], {"mem_usage": [10, 20, None], "mem_limit": [40, 40, 40]}, counts=[1, 1, 2])
few = StatSeries.from_samples([(0, {"x": 1}), (datetime(2026, 1, 1, tzinfo=UTC), {"x": None})], sort=True)
batch = StatBatch([series, few, StatSeries.from_json(few.to_json(digits=9))])
samples: list[Stat] = [sample for sample in series if "mem_usage" in sample.metrics and sample.timestamp >= 0]
rule = Rule(60, how={"mem_usage": ("mean", "max"), "*": "last"}, missing="zero", max_bytes=65_535)
reduced: StatSeries = decimate(series, 60, how="max", missing="skip")
all_reduced: StatBatch = decimate(batch, Rule(how=KEEP_PEAKS).with_default("mean"))
texts: list[bytes] = reduce_json([series.to_json(), None], rule, threads=2, sort=True)
kept: list[bytes | CallstatsError] = reduce_json(["[]"], 60, max_bytes=900, errors="return")
recorder = Recorder(240, how=("mean", "max"), capacity=100)
recorder.write_stat(1_000_000_000, {"mem_usage": 4096})
ended: StatSeries = recorder.end()[:10]
found: dict[str, Summary] = summarize(series, counters=["net_rx"])
chance: Bernoulli = bernoulli(series, "mem_usage", at_least=(0.9, "mem_limit"))
image: ImageRef = parse_image("quay.io/team/app:v2")
errors: list[type[CallstatsError]] = [SeriesError, DecodeError, BudgetError, ImageError, DatabaseError, DriverError]
table: CallTable = connect("sqlite://", time_column="created_at")
with table:
    table.create()
    table.add([{"id": "1", "fn_id": "resize", "stats": series}])
    shrunk = table.reduce(60, how=("mean", "max"), batch_size=10)
    call: Call = table.get("1")
    usage: CallUsage = call.usage
    built: Call = record(["true"], name="build", tags={"a": "b"}, interval=0.5, into=table, on_stat=recorder.write_stat)
    groups = table.summarize(by=None, risk=0.05).groups
rows, peaks = int(series.counts.sum()), rule.reducers("mem_usage")
print(__version__, backend, "mem_usage" in series, series["mem_usage"].max(), series[0], rows, peaks, recorder.dropped)
print(samples, reduced, all_reduced.offsets, texts, kept, ended, found, chance, image.triple, errors, series.to_pandas())
print(built.exit_code, shrunk.changed, usage.peak_memory, usage.exact, groups[0].summary.calls)
"""

MISSPELT = {
    "a keyword of decimate": ('60, how="max", missing', '60, hwo="max", missing'),
    "another one": ('missing="skip")', 'mising="skip")'),
    "a keyword of reduce_json": ("max_bytes=900", "max_byte=900"),
    "a keyword of Recorder": ("capacity=100", "capasity=100"),
    "a field of Rule": ('missing="zero"', 'mising="zero"'),
    "a reducer": ('how="max"', 'how="maximum"'),
    "a reducer of a tuple": ('Recorder(240, how=("mean", "max")', 'Recorder(240, how=("mean", "peak")'),
    "what to do about errors": ('errors="return"', 'errors="ignore"'),
    "a method": ("StatSeries.from_json(", "StatSeries.from_jsn("),
    "a property": ("recorder.dropped", "recorder.droped"),
    "a keyword of CallTable.reduce": ("batch_size=10", "batchsize=10"),
    "a keyword of connect": ('time_column="created_at"', 'timecolumn="created_at"'),
    "a keyword of record": ("interval=0.5", "intervall=0.5"),
    "a property of CallUsage": ("usage.peak_memory", "usage.peak_memry"),
    "a name of the package": ("import KEEP_PEAKS,", "import KEEP_PEEKS,"),
}

CHECKERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "mypy": lambda _, cache: ["mypy", "--strict", "--no-error-summary", "--config-file=", f"--cache-dir={cache}", "."],
    "pyright": lambda folder, _: ["basedpyright", "--level=error", "--pythonpath", sys.executable, "--project", str(folder)],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_public_surface(checker: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A script of all public names passes in the strict mode, and each misspelt variant of it fails."""
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    (tmp_path / "right.py").write_text(SCRIPT, encoding="utf-8")
    for number, (right, wrong) in enumerate(MISSPELT.values()):
        assert SCRIPT.count(right) == 1, right
        (tmp_path / f"wrong{number}.py").write_text(SCRIPT.replace(right, wrong), encoding="utf-8")
    command = [sys.executable, "-m", *CHECKERS[checker](tmp_path, pytestconfig.cache.mkdir(checker))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    complaints = [line for line in done.stdout.splitlines() if "error" in line]
    assert [line for line in complaints if "right.py" in line and "wrong" not in line] == []
    assert [name for number, name in enumerate(MISSPELT) if not any(f"wrong{number}.py" in line for line in complaints)] == []


def test_the_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The script is right at run time too, and has all names of the package."""
    exec(compile(SCRIPT, "script", "exec"), {})
    assert capsys.readouterr().out.startswith(callstats.__version__)
    assert [name for name in callstats.__all__ if name not in SCRIPT] == []


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: decimate(StatSeries([], {}), 60, hwo="max"), "decimate: unexpected keyword 'hwo': did you mean 'how'?"),
        (
            lambda: decimate(StatSeries([], {}), max_samples=60),
            "decimate: unexpected keyword 'max_samples': write rule=60",
        ),
        (
            lambda: decimate(StatSeries([], {}), max_samples="60"),
            "decimate: unexpected keyword 'max_samples': write a number, as in rule=60",
        ),
        (lambda: reduce_json([], max_byte=60), "reduce_json: unexpected keyword 'max_byte': did you mean 'max_bytes'?"),
        (lambda: Recorder(60, capasity=9), "Recorder: unexpected keyword 'capasity': did you mean 'capacity'?"),
        (lambda: Rule(mising="zero"), "Rule: unexpected keyword 'mising': did you mean 'missing'?"),
        (
            lambda: Rule(zzz=1),
            "Rule: unexpected keyword 'zzz': it takes max_samples, how, missing, max_bytes",
        ),
    ],
)
def test_a_misspelt_keyword(work: Callable[[], object], message: str) -> None:
    """The error names the keyword that was meant."""
    with pytest.raises(TypeError) as caught:
        work()
    assert str(caught.value) == message
