"""The vectors: what the reduction and the stored form must make of recorded inputs."""

from __future__ import annotations

from typing import Any

import pytest

from callstats import DecodeError, Rule, SeriesError, StatSeries, decimate, reduce_json
from support.reference import Row
from support.vectors import LINES, ids, load
from support.zoo import rows_of, series_of

pytestmark = pytest.mark.usefixtures("backend")

DECIMATE, RULES, WIRE = load("decimate"), load("rules"), load("wire")


@pytest.mark.parametrize("name", LINES)
def test_no_vector_is_lost(name: str) -> None:
    """Each file has all its lines."""
    assert len(load(name)) == LINES[name]


def _rows(times: list[int], metrics: list[dict[str, int]], counts: list[int] | None) -> list[Row]:
    return list(zip(times, metrics, counts or [1] * len(times), strict=True))


def _rule(fields: dict[str, Any]) -> Rule:
    return Rule(**fields)  # JSON has no tuples; a Rule takes lists for them


@pytest.mark.parametrize("vector", DECIMATE, ids=ids(DECIMATE))
def test_the_mean(vector: dict[str, Any]) -> None:
    """Fn's rule, mean with absent as 0: times, metrics, and the sizes of the bins as counts."""
    series = series_of(_rows(vector["timestamps_ns"], vector["metrics"], None))
    want = vector["expected"] or {"timestamps_ns": [], "metrics": [], "bin_sizes": []}
    got = decimate(series, vector["max_samples"], missing="zero")
    assert rows_of(got) == _rows(want["timestamps_ns"], want["metrics"], want["bin_sizes"])


@pytest.mark.parametrize("vector", RULES, ids=ids(RULES))
def test_every_rule(vector: dict[str, Any]) -> None:
    """Every reducer, tuples, peaks, both rules for absent values, counts in and out."""
    series = series_of(_rows(vector["timestamps_ns"], vector["metrics"], vector["counts"]))
    want = vector["expected"]
    if want == "error":
        with pytest.raises(SeriesError):
            decimate(series, _rule(vector["rule"]))
        return
    got = decimate(series, _rule(vector["rule"]))
    assert rows_of(got) == _rows(want["timestamps_ns"], want["metrics"], want["counts"])


@pytest.mark.parametrize("kind", [str, str.encode, lambda blob: bytearray(blob.encode())], ids=["str", "bytes", "bytearray"])
@pytest.mark.parametrize("vector", WIRE, ids=ids(WIRE))
def test_the_stored_form(vector: dict[str, Any], kind: Any) -> None:
    """Each blob is refused, or holds those times and is written as that text."""
    blob, want = kind(vector["blob"]), vector["want"]
    if want == "error":
        with pytest.raises(DecodeError) as caught:
            StatSeries.from_json(blob)
        assert (caught.value.offset is None) != (caught.value.path is None)
        with pytest.raises(DecodeError) as in_batch:
            reduce_json([blob], 1)
        assert str(in_batch.value) == f"blobs[0]: {caught.value}"
        return
    series = StatSeries.from_json(blob)
    assert len(series) == want["count"]
    assert series.timestamps.tolist() == want["timestamps_ns"]
    assert series.to_db() == want["value"]
    assert StatSeries.from_db(series.to_db()).to_db() == want["value"]
