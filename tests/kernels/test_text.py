"""The kernel that scans the written shape and the general reader tell the same of every blob."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import callstats.kernels
from callstats import Rule, StatSeries, decimate, reduce_json
from callstats.reduce import _layout_for
from support import parity
from support.blobs import grammar, seeds
from support.mutants import mutants
from support.routes import disagreements, read_differently
from support.vectors import load

RULES: list[dict[str, Any]] = [
    {"rule": 240},
    {"rule": 2, "how": {"mem_usage": ("mean", "max")}},
    {"rule": 3, "how": ("mean", "min", "max", "first", "last"), "missing": "zero"},
    {"rule": 1, "how": "sum", "counts": False},
    {"rule": 0},
    {"rule": None, "max_bytes": 150},
]

backends = pytest.mark.usefixtures("backend")


@backends
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_vectors_by_both_ways(rule: dict[str, Any]) -> None:
    """Every blob of the vectors and of the seeds gives the same by both ways."""
    blobs = [row["blob"].encode() for row in load("wire")] + seeds()
    assert disagreements(blobs, **rule) == []
    assert read_differently(blobs) == []


@backends
@given(blob=grammar(), rule=st.sampled_from(RULES))
def test_grammar_by_both_ways(blob: bytes, rule: dict[str, Any]) -> None:
    """Whatever the grammar of the stored form makes gives the same by both ways."""
    assert disagreements([blob], **rule) == []
    assert read_differently([blob]) == []


@backends
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_mutants_by_both_ways(rule: dict[str, Any]) -> None:
    """Mutants of real blobs give the same by both ways."""
    assert disagreements(mutants(seeds(), seed=len(str(rule)), n=600), **rule) == []


@backends
@pytest.mark.parametrize("rule", [{"rule": 2}, {"rule": None, "max_bytes": 300}, {"rule": -1}], ids=str)
def test_every_cut(backend: str, rule: dict[str, Any]) -> None:
    """A blob cut short at any byte, and one whose buffer ends where it ends, give the same by both ways."""
    step = 1 if backend == "cython" else 7  # the numpy backend is slow
    for blob in seeds()[:7]:
        assert disagreements([blob[:end] for end in range(0, len(blob), step)], **rule) == []


def raw(blobs: list[bytes], rule: Rule, counts: bool = True) -> Any:
    """One buffer and offsets through the kernel."""
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    data = np.frombuffer(b"".join(blobs), dtype=np.uint8)
    budget = -1 if rule.max_bytes is None else rule.max_bytes
    return callstats.kernels.active.reduce_text(
        data, offsets, rule.max_samples, budget, rule.missing == "zero", counts, _layout_for(rule)
    )


@pytest.mark.parametrize(
    "rule", [Rule(3), Rule(2, how=("max", "first"), missing="zero"), Rule(5, max_bytes=400), Rule(0)], ids=str
)
def test_one_buffer_over_both_twins(rule: Rule) -> None:
    """The twins give the same bytes, offsets and statuses for one buffer of many blobs."""
    parity.same(lambda: raw(seeds() + list(mutants(seeds(), seed=5, n=400)), rule))


@backends
def test_one_buffer_gives_what_a_list_gives() -> None:
    """Buffer and offsets in, buffer and offsets out: the texts that `reduce_json` gives, and nothing for a refused one."""
    blobs = seeds()
    data, offsets, status = raw(blobs, Rule(3))
    results = reduce_json(blobs, 3, errors="return")
    for i, result in enumerate(results):
        text = data[offsets[i] : offsets[i + 1]]
        assert text == (b"" if status[i] == 2 else result)
        assert status[i] != 0 or text == blobs[i]
    assert {0, 1, 2} == set(status.tolist())


@backends
def test_one_buffer_that_stays() -> None:
    """Where every text stays as it is nothing is copied, and the offsets are those of the texts."""
    blobs = [b"", seeds()[0], seeds()[1], b""]
    data, offsets, status = raw(blobs, Rule(100))
    assert (bytes(data), status.tolist()) == (b"", [0, 0, 0, 0])
    assert np.diff(offsets).tolist() == [len(blob) for blob in blobs]
    data, offsets, status = raw([*blobs, b"no"], Rule(100))
    assert bytes(data) == b"".join(blobs)
    assert np.diff(offsets).tolist() == [len(blob) for blob in [*blobs, b""]]


@backends
def test_nothing_in() -> None:
    """No blobs, and blobs of no bytes, are fine."""
    data, offsets, status = raw([], Rule(3))
    assert (bytes(data), offsets.tolist(), status.tolist()) == (b"", [0], [])
    data, offsets, status = raw([b"", b""], Rule(3))
    assert (bytes(data), offsets.tolist(), status.tolist()) == (b"", [0, 0, 0], [0, 0])


@backends
def test_wide_and_long_blobs() -> None:
    """Room is made for many rows and many metrics, and kept for what comes after."""
    long = StatSeries(np.arange(5000) * 10**9, {"x": np.arange(5000)})
    wide = StatSeries([0, 10**9, 2 * 10**9], {f"m{i:03}": [i, None, 2**64 - 1 - i] for i in range(300)})
    ladder = StatSeries(np.arange(60) * 10**9, {f"m{i:02}": [1 if row == i else None for row in range(60)] for i in range(60)})
    for rule in (7, 1):
        blobs = [wide.to_json(), long.to_json(), ladder.to_json(), b"", long[:9].to_json(), wide.to_json()]
        results = reduce_json(blobs, rule)
        assert results == [decimate(StatSeries.from_json(blob), rule).to_json() for blob in blobs]
        assert disagreements(blobs, rule=rule) == []


@backends
def test_threads_share_the_work() -> None:
    """Eight callers at once, each with threads of its own, get what one gets alone."""
    blobs = seeds() * 20
    alone = parity.exact(reduce_json(blobs, 3, errors="return"))
    seen: list[object] = []
    callers = [
        threading.Thread(target=lambda: seen.append(parity.exact(reduce_json(blobs, 3, errors="return", threads=2))))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == [alone] * 8


@backends
def test_a_layout_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in what the kernel asks for comes through, and leaves the kernel usable."""
    blob = StatSeries([0, 1, 2], {"x": [1, 2, 3]}).to_json()

    def fail(names: tuple[bytes, ...]) -> Any:
        raise RuntimeError("no layout")

    with pytest.raises(RuntimeError, match="no layout"):
        callstats.kernels.active.reduce_texts([blob], 1, -1, False, True, fail)
    assert reduce_json([blob], 1) == [b'[{"timestamp":"1970-01-01T00:00:00.000Z","metrics":{"x":2},"count":3}]\n']
