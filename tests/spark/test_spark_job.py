"""The job for `spark-submit`, run by it: Parquet and JSON lines, rejected rows beside, exit codes."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import callstats.adapters.spark
from callstats import KEEP_PEAKS, Rule, reduce_json
from callstats.adapters.files import open_writer
from callstats.adapters.spark.__main__ import run_job
from callstats.adapters.spark._lines import reduce_lines
from support.database import blob
from support.sparking import need_java

pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

JOB = Path(callstats.adapters.spark.__file__).with_name("__main__.py")
BLOBS = [blob(40, seed=1), None, "", "no", blob(2), "[]", *(blob(30, seed=seed) for seed in range(2, 8))]
RULE = Rule(10, how=KEEP_PEAKS)
WANT = [reduce_json([one], RULE)[0].decode() if one and len(one) > 2000 else one for one in BLOBS]


def submit(*arguments: object, launch: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
    """Run the job on this machine, by `spark-submit` unless told otherwise."""
    need_java()
    options = ["--master", "local[2]", "--driver-memory", "1g", "--conf", "spark.ui.enabled=false"]
    options += ["--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1"]
    # To compile Java well takes longer than these tests run.
    options += ["--conf", "spark.sql.shuffle.partitions=4", "--driver-java-options", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"]
    command = [*(launch or (Path(sys.executable).with_name("spark-submit"), *options, JOB)), *arguments]
    own = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    own["PYSPARK_SUBMIT_ARGS"] = shlex.join([*options, "pyspark-shell"])  # without `spark-submit`
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # spark-submit joins them too
    return subprocess.run([*map(str, command)], **streams, text=True, check=False, timeout=600, env={**os.environ, **own})


@pytest.fixture
def run(spark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Run the job in the tests' own session, which is there already: the exit code, and what the job told."""
    monkeypatch.setattr(type(spark), "__exit__", lambda *_: None)  # it stops the session
    return lambda *arguments: (run_job([*map(str, arguments)]), told(capsys.readouterr().err))


def told(output: str) -> list[str]:
    """What the job itself told, of all that Spark prints."""
    return [line.partition("; ")[0] for line in output.splitlines() if line.startswith("callstats: ")]


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(folder.glob("part-*")) for line in path.read_text().splitlines()]


def test_parquet(tmp_path: Path, run: Callable[..., tuple[int, list[str]]]) -> None:
    """All columns stay, rejected blobs as they are; their keys and reasons are beside; a second run would not replace it."""
    for part in (0, 1):
        (tmp_path / f"calls/day={part}").mkdir(parents=True)
        cells = [None if one is None else one.encode() for one in BLOBS[part::2]]
        with open_writer(str(tmp_path / f"calls/day={part}/x.parquet"), key="id", others=["fn_id"]) as file:
            file.add([f"k{i}" for i in range(part, len(BLOBS), 2)], cells, [["resize"]] * len(cells))
    arguments = "reduce", tmp_path / "calls", tmp_path / "out", "--max-samples", 10
    done = submit(*arguments)
    assert done.returncode == 1, done.stdout
    assert told(done.stdout) == [f"callstats: the rejected rows are in {tmp_path}/out.rejects", "callstats: 12 rows: 1 rejected"]
    found = ds.dataset(tmp_path / "out", format="parquet").to_table().sort_by("id")
    assert found.column_names == ["id", "fn_id", "stats", "day"]
    assert dict(zip(found["id"].to_pylist(), found["stats"].to_pylist(), strict=True)) == {f"k{i}": WANT[i] for i in range(12)}
    [file, *_] = (tmp_path / "out").glob("*.parquet")
    assert pq.read_metadata(file).row_group(0).column(0).compression == "ZSTD"
    [reject] = rows_of(tmp_path / "out.rejects")
    assert reject == {"key": "k3", "reason": "byte 0: expected value, got 'n'"}
    code, said = run(*arguments)
    assert (code, "already exists" in said[-1]) == (2, True)


def test_lines(tmp_path: Path, run: Callable[..., tuple[int, list[str]]]) -> None:
    """Of an object only the blob changes, and its place and all other bytes stay."""
    line = '{{"a": 1.50,  "id":"k{}","stats": {}, "z":[]}}'
    cells = [(old, new) for old, new in zip(BLOBS, WANT, strict=True) if old]
    lines, want = ([line.format(i, json.dumps(cell[j])) for i, cell in enumerate(cells)] for j in (0, 1))
    lines.append('{"id":"last"}')
    want.append('{"id":"last"}')
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    code, said = run("reduce", tmp_path / "in.jsonl.gz", tmp_path / "out", "--max-samples", 10, "--rejects", tmp_path / "bad")
    assert (code, said[-1]) == (1, f"callstats: {len(lines)} rows: 2 rejected")
    found = [line for path in sorted((tmp_path / "out").glob("part-*")) for line in path.read_text().split("\n")[:-1]]
    assert found == want
    assert [row.get("key") for row in rows_of(tmp_path / "bad")] == (["k1", None])


def test_bare_blobs() -> None:
    """A line may be a blob, which ends without a line break."""
    batch = pa.record_batch({"value": [(one or "").strip().encode() for one in BLOBS]})
    [found] = reduce_lines(iter([batch]), rule=RULE, column="stats", key="id")
    assert found["value"].to_pylist() == [(one or "").strip().encode() for one in WANT]
    assert [bool(reason) for reason in found["reason"].to_pylist()] == [one == "no" for one in BLOBS]


def test_summary(tmp_path: Path) -> None:
    """Lines are summarized by their fields, and what can't be read is counted. Python alone runs the job too."""
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"fn_id": "ab"[i % 2], "stats": one or ""}) + "\n" for i, one in enumerate(BLOBS)) + "{}\n"
    )
    module = sys.executable, "-m", "callstats.adapters.spark"
    done = submit("summarize", tmp_path / "in.jsonl", tmp_path / "out", "--by", "fn_id", launch=module)
    assert done.returncode == 1, done.stdout
    assert told(done.stdout) == ["callstats: 3 groups: 2 calls rejected"]
    counts = {row.get("fn_id"): (row["calls"], row["rejected"]) for row in rows_of(tmp_path / "out") if "metric" not in row}
    assert counts == {"a": (6, 0), "b": (5, 1), None: (0, 1)}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "the following arguments are required: verb"),
        (["reduce", "in", "out"], "one of --max-samples and --max-bytes is needed"),
        (["reduce", "in", "out", "--max-samples", "1", "--how", "x=nonsense"], "how['x'] must be one of mean, "),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    """It ends with 2 before Spark starts."""
    try:
        code = run_job(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    assert (code, why in capsys.readouterr().err) == (2, True)
