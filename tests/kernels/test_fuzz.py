"""The fuzzer's targets over what it has found to be worth a look, and over some random bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz.targets import MOST_ROWS, TARGETS, drawn

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_corpus(path: Path) -> None:
    """What a fuzzer has found once stays found."""
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes(name: str) -> None:
    """A little of what `make fuzz` does for longer."""
    rng = random.Random(7)
    for _ in range(150):
        TARGETS[name](rng.randbytes(rng.randrange(200)))


def test_the_corpus_is_small() -> None:
    """Each target has some, and all of it together is little to carry."""
    assert {path.parent.name for path in INPUTS} == set(TARGETS)
    assert sum(path.stat().st_size for path in INPUTS) < 100_000


def test_random_bytes_make_all_kinds_of_series() -> None:
    """Bytes lead to holes, counts, full series and every rule."""
    rng = random.Random(8)
    made = [drawn(rng.randbytes(rng.randrange(300))) for _ in range(500)]
    rows = [row for series, _ in made for row in series]
    assert {len(series) for series, _ in made} >= {0, 1, MOST_ROWS}
    assert {len(metrics) for _, metrics, _ in rows} == {0, 1, 2, 3}
    assert len({str(rule) for _, rule in made}) > 300
    assert any(count > 1 for _, _, count in rows)
