"""How fast a table is reduced: the job over SQLite, next to a bare loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from db import RULE, bare_loop, fill, the_job

from callstats import connect, reduce_json
from inputs import stored_call

WORK = {"job": the_job, "bare-loop": bare_loop}


@pytest.mark.parametrize("name", WORK)
def test_reduce_table(benchmark: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """100 rows of 240 points, a fresh file each time."""
    path = tmp_path / "calls.db"
    benchmark.pedantic(WORK[name], setup=lambda: fill(path, 100) or ((path,), {}), rounds=5)  # type: ignore[attr-defined]
    if name == "job":
        want = reduce_json([stored_call(240, seed=7)], RULE)[0]
        assert connect(path).get("00000007").series.to_json() == want
