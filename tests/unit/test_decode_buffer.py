"""Many stored histograms read at once, from one buffer; and their figures as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats import CallstatsError, DecodeError, StatBatch, StatSeries, reduce_json
from callstats.adapters import arrow
from callstats.batch import decode_buffer
from callstats.kernels.totals_py import INCREASE, MAX, MIN, SUM, WEIGHT
from callstats.stats import batch as batches
from callstats.stats import summarize
from support import parity, strategies
from support.blobs import seeds
from support.mutants import mutants
from support.reference import Row
from support.stored import stored
from support.zoo import series_of, zoo

backends = pytest.mark.usefixtures("backend")


def buffer(blobs: list[bytes]) -> tuple[Any, Any]:
    """One buffer and its offsets."""
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum([len(blob) for blob in blobs], out=offsets[1:])
    return np.frombuffer(b"".join(blobs), dtype=np.uint8), offsets


def alone(blobs: list[bytes]) -> tuple[list[StatSeries], dict[int, str]]:
    """Each blob read by itself: the series, empty where refused, and the refusals."""
    series, refused = [], {}
    for i, blob in enumerate(blobs):
        try:
            series.append(StatSeries.from_json(blob))
        except CallstatsError as error:
            series.append(StatSeries([], {}))
            refused[i] = str(error)
    return series, refused


def test_the_twins_agree() -> None:
    """Both twins give the same bytes for real blobs, mutants of them, blobs of many layouts, and nothing."""
    wide = StatSeries([0, 1], {f"m{i:03}": [i, None] for i in range(300)}).to_json()
    layouts = [StatSeries([i], {f"m{i % 7}": [i], f"m{i % 3}": [1]}).to_json() for i in range(50)]
    for blobs in ([*seeds(), *mutants(seeds(), seed=8, n=500)], [wide, *layouts], layouts, [b"", b""], [], [b"no"]):
        parity.same(lambda blobs=blobs: decode_buffer(*buffer(blobs)))


@backends
def test_all_at_once_is_one_by_one() -> None:
    """A batch of written ones, others and bad ones has the series that each has alone, and the same refusals."""
    blobs = [*(blob or b"" for blob in stored()), *(item.series().to_json() for item in zoo())]
    series, refused = alone(blobs)
    assert len(refused) > 20
    batch, errors = decode_buffer(*buffer(blobs))
    assert list(batch) == series
    assert batch == StatBatch(series)
    assert {i: str(error) for i, error in errors.items()} == refused


@given(st.lists(strategies.rows(most=12), max_size=5))
@backends
def test_random_batches(members: list[list[Row]]) -> None:
    """Random series, written and read at once, are those read one by one."""
    blobs = [series_of(rows).to_json() for rows in members]
    batch, errors = decode_buffer(*buffer(blobs))
    assert not errors
    assert batch == StatBatch.from_json(blobs)


@backends
def test_sorting() -> None:
    """Times that go back are refused, or put in order where that is asked for."""
    back = b'[{"timestamp":"1970-01-01T00:00:01Z","metrics":{"x":1}},{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":2}}]'
    assert list(decode_buffer(*buffer([back, b""]))[1]) == [0]
    batch, errors = decode_buffer(*buffer([b"", back]), sort=True)
    assert (list(batch), errors) == ([StatSeries([], {}), StatSeries.from_json(back, sort=True)], {})


@backends
@pytest.mark.parametrize("kind", [pa.string(), pa.binary_view(), pa.large_string()], ids=str)
def test_arrow_columns(kind: pa.DataType) -> None:
    """A column of any kind, sliced or chunked, is read at once; the first refusal is raised by its row unless told otherwise."""
    blobs = [None, *(blob for blob in seeds() if not isinstance(reduce_json([blob], errors="return")[0], CallstatsError))]
    array = pa.array(blobs, pa.binary()).cast(kind)
    want = [StatSeries.from_json(blob) for blob in blobs]
    assert list(arrow.read_stored(array)) == want
    assert list(arrow.read_stored(pa.chunked_array([array[:3], array[3:]]))) == want
    assert list(arrow.read_stored(array[2:])) == want[2:]
    assert list(arrow.read_stored(array[:0])) == []
    assert list(arrow.read_stored(pa.nulls(2))) == [StatSeries([], {})] * 2
    bad = pa.array([None, b"", b"[1]"], pa.binary()).cast(kind)
    with pytest.raises(DecodeError, match=r"blobs\[2\]: \$\[0\]: expected an object, got 1"):
        arrow.read_stored(bad)
    assert list(arrow.read_stored(bad, errors="null")) == [StatSeries([], {})] * 3
    with pytest.raises(CallstatsError, match="errors must be one of 'raise', 'null', got 'empty'"):
        arrow.read_stored(bad, errors="empty")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected an Arrow array, got Table"):
        arrow.read_stored(pa.table({"stats": bad}))


@backends
def test_figures_of_many() -> None:
    """Peaks, means, growths and totals of a batch are those that `summarize` gives of each series."""
    peaks = StatSeries([0, 10, 20], {"x": [2**64 - 1, None, 5], "x@max": [None, None, 9], "y@min": [1, 2, 3]}, counts=[3, 1, 2])
    batch = StatBatch([*(item.series() for item in zoo()), peaks, StatSeries([], {}), StatSeries([1], {})])
    each = [summarize(series) for series in batch]
    names = sorted({name for found in each for name in found})
    for name in [*names, "nothing"]:
        for work, figure in ((batches.peaks, "max"), (batches.means, "mean"), (batches.growths, "growth")):
            figures, there = work(batch, name)
            want = [getattr(found[name], figure) if name in found else None for found in each]
            assert [value if known else None for value, known in zip(figures.tolist(), there, strict=True)] == want
    metrics, series, metric, words = batches.totals_of(batch)
    seen = {}
    for i, j, total in zip(series.tolist(), metric.tolist(), words.tolist(), strict=True):
        figures = each[i][metrics[j]]
        assert (total[SUM] << 64 | total[SUM + 1]) / total[WEIGHT] == figures.mean
        assert (total[MIN], total[MAX]) == (figures.min, figures.max)
        if figures.increase is not None:
            assert total[INCREASE] << 64 | total[INCREASE + 1] == figures.increase
        seen[i, metrics[j]] = figures
    assert len(seen) == sum(map(len, each))
    assert not len(batches.totals_of(StatBatch([]))[1])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[] x", "byte 3: expected nothing more, got 'x'"),
        ("[1,]", "byte 3: expected value, got ']'"),
        ('[{"a":1 "b":2}]', "byte 8: expected ',' delimiter, got '\"'"),
        ('["ä\n"]', r"byte 4: expected JSON: invalid control character, got '\n'"),
    ],
)
def test_what_is_no_json(text: str, error: str) -> None:
    """The error says where the fault is, in bytes, and what stands there, in one form whatever Python's json calls it."""
    with pytest.raises(DecodeError) as caught:
        StatSeries.from_json(text)
    assert str(caught.value) == error
