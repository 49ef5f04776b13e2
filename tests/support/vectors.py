"""The vectors of ``tests/data``: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"

LINES = {"decimate": 263, "rules": 160, "wire": 98, "image": 34}
"""How many lines each file has, so that an empty file can't pass."""


def load(name: str) -> list[dict[str, Any]]:
    """Every vector of one file, in order."""
    with (DATA / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ids(vectors: list[dict[str, Any]]) -> list[str]:
    """A name for each vector; those that share one are told apart by their number."""
    return [f"{number}-{vector['name']}" for number, vector in enumerate(vectors)]
