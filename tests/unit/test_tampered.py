"""Pickles and buffers that are not what they should be are refused: kernels would read and write beyond them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from callstats import CallstatsError, Rule, SeriesError, StatBatch, StatSeries, decimate, reduce_json
from callstats.adapters import arrow
from callstats.batch import decode_buffer
from callstats.reduce import reduce_buffer
from support.zoo import rows_of, zoo

SERIES = StatSeries([0, 1, 2], {"x": [1, None, 3], "y": [4, 5, 6]}, counts=[1, 5, 1])
BATCH = StatBatch([SERIES, StatSeries([], {}), SERIES])

I64_MAX = 2**63 - 1


class Other:
    """What a pickle says is a series or a batch, with some of its parts exchanged."""

    def __init__(self, x: StatSeries | StatBatch, **parts: Any) -> None:
        self.make, columns = x.__reduce__()
        self.parts = dict(zip(("names", "times", "values", "present", "counts", "offsets"), columns, strict=False)) | parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.make, tuple(self.parts.values())


def loaded(x: StatSeries | StatBatch, **parts: Any) -> Any:
    """What comes out of such a pickle."""
    return pickle.loads(pickle.dumps(Other(x, **parts)))


def of_three(n: int) -> dict[str, Any]:
    """The parts of so many rows, without holes and counts."""
    return {"times": np.arange(n), "values": np.zeros((2, n), np.uint64), "present": None, "counts": None}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches(protocol: int) -> None:
    """A batch comes back equal, read-only, and in memory of its own."""
    for batch in (BATCH, StatBatch([]), StatBatch(item.series() for item in zoo())):
        back = pickle.loads(pickle.dumps(batch, protocol))
        assert back == batch and [rows_of(series) for series in back] == [rows_of(series) for series in batch]
        for array in (back.timestamps, back.values, back.present, back.counts, back.offsets):
            assert array is None or not array.flags.writeable


@pytest.mark.parametrize("x", [SERIES, BATCH], ids=["series", "batch"])
def test_buffers_that_the_caller_keeps(x: StatSeries | StatBatch) -> None:
    """A pickle's arrays may lie in memory that others write to: the series has copies."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(x, 5, buffer_callback=buffers.append)
    kept = [bytearray(buffer) for buffer in buffers]
    back = pickle.loads(text, buffers=kept)
    for buffer in kept:
        buffer[:] = b"\xff" * len(buffer)
    assert back == x


BLOCK, THERE = SERIES.values, SERIES.present

PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer values": ({"values": BLOCK[:, :1]}, "values must be uint64 of shape (2, 3), got uint64 of shape (2, 1)"),
    "fewer metrics": ({"values": BLOCK[:1]}, "values must be uint64 of shape (2, 3), got uint64 of shape (1, 3)"),
    "flat values": ({"values": BLOCK.ravel()}, "values must be uint64 of shape (2, 3), got uint64 of shape (6,)"),
    "floats": ({"values": BLOCK.astype(float)}, "values must be uint64 of shape (2, 3), got float64 of shape (2, 3)"),
    "objects": ({"values": BLOCK.astype(object)}, "values must be uint64 of shape (2, 3), got object of shape (2, 3)"),
    "half as wide": ({"values": BLOCK.astype("u4")}, "values must be uint64 of shape (2, 3), got uint32 of shape (2, 3)"),
    "a list": ({"values": BLOCK.tolist()}, "values must be uint64 of shape (2, 3), got list"),
    "fewer present": ({"present": np.ones((2, 2), bool)}, "present must be bool of shape (2, 3), got bool of shape (2, 2)"),
    "present as numbers": (
        {"present": np.ones((2, 3), np.uint8)},
        "present must be bool of shape (2, 3), got uint8 of shape (2, 3)",
    ),
    "fewer counts": ({"counts": np.ones(2, int)}, "counts must have a value for each of the 3 timestamps, got 2"),
    "counts of none": (
        {"counts": np.array([1, 0, 1])},
        f"counts[1] must be a whole number from 1 to {I64_MAX}, got 0",
    ),
    "counts too large": (
        {"counts": np.array([1, I64_MAX, 1])},
        f"counts must have a total of at most {I64_MAX}, got {I64_MAX + 2}",
    ),
    "counts too large at once": (
        {"counts": np.array([I64_MAX, 1, 1])},
        f"counts must have a total of at most {I64_MAX}, got {I64_MAX + 2}",
    ),
    "times of halves": ({"times": np.array([0, 0.5, 1])}, f"timestamps[1] must be nanoseconds from {-(2**63) + 775808} to"),
    "times in two dimensions": ({"times": np.zeros((3, 1), int)}, "timestamps must have one dimension, got 2"),
    "no times": ({"times": None}, "timestamps must be a sequence of whole numbers, got None"),
    "times too early": ({"times": np.array([-(2**63), 0, 1])}, f"timestamps[0] must be nanoseconds from {-(2**63) + 775808} to"),
    "times back": (
        {"times": np.array([0, 2, 1])},
        "timestamps must not decrease, got timestamps[2]=1 after timestamps[1]=2",
    ),
    "no names": ({"names": None}, "names must be a tuple of text that UTF-8 can encode, got None"),
    "a name of bytes": ({"names": (b"x", b"y")}, "names must be a tuple of text that UTF-8 can encode, got (b'x', b'y')"),
    "half a character": ({"names": ("x", "\ud800")}, r"names must be a tuple of text that UTF-8 can encode, got ('x', '\ud800')"),
    "names unsorted": ({"names": ("y", "x")}, "names must be sorted and unique, got ('y', 'x')"),
    "a name twice": ({"names": ("x", "x")}, "names must be sorted and unique, got ('x', 'x')"),
    "more names": ({"names": ("x", "y", "z")}, "values must be uint64 of shape (3, 3), got uint64 of shape (2, 3)"),
}


@pytest.mark.parametrize("name", PARTS)
def test_series_of_parts_that_do_not_fit(name: str) -> None:
    """Each part is held to its type, its shape and what else is true of a series."""
    parts, message = PARTS[name]
    with pytest.raises(SeriesError) as refusal:
        loaded(SERIES, **parts)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("name", PARTS)
def test_batches_of_parts_that_do_not_fit(name: str) -> None:
    """What no series can be is no series of a batch."""
    with pytest.raises(SeriesError):
        loaded(StatBatch([SERIES]), **PARTS[name][0])


OFFSETS: dict[str, tuple[Any, str]] = {
    "beyond": ([0, 3, 3, 2**40], "offsets must be within the 6 rows, got 0 to 1099511627776"),
    "one beyond": ([0, 3, 3, 7], "offsets must be within the 6 rows, got 0 to 7"),
    "not to the end": ([0, 3, 3, 5], "offsets must part all 6 rows, got 0 to 5"),
    "not from the beginning": ([1, 3, 3, 6], "offsets must part all 6 rows, got 1 to 6"),
    "before": ([-1, 3, 3, 6], f"offsets[0] must be a whole number from 0 to {I64_MAX}, got -1"),
    "back": ([0, 3, 2, 6], "offsets must not decrease, got offsets[2]=2 after offsets[1]=3"),
    "far and back": ([0, 2**40, 0, 6], "offsets must not decrease, got offsets[2]=0 after offsets[1]=1099511627776"),
    "none": ([], "offsets must be a contiguous array of at least one int64, got int64 of shape (0,)"),
    "one": ([0], "offsets must part all 6 rows, got 0 to 0"),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_batches_of_offsets_that_do_not_fit(name: str) -> None:
    """Offsets part the rows, all of them."""
    offsets, message = OFFSETS[name]
    whole = np.array([0, 0, 0, 0, 0, 0])  # times that are in order wherever they are parted
    for places in (np.array(offsets, dtype=np.int64), np.array(offsets, dtype=np.int64).astype(">i8")):
        with pytest.raises(SeriesError) as refusal:
            loaded(BATCH, times=whole, offsets=places)
        assert str(refusal.value) == message


def test_offsets_that_are_no_column() -> None:
    """Nor is anything else taken for offsets."""
    for offsets in (None, "0036", np.zeros((2, 2), int), np.array([0, 0.5, 6]), {}):
        with pytest.raises(SeriesError, match=r"^offsets"):
            loaded(BATCH, offsets=offsets)


def test_times_of_a_batch_go_back_between_series_only() -> None:
    """Within one they don't, and counts are added up for each by itself."""
    times = np.array([5, 6, 7, 0, 1, 2])
    assert loaded(BATCH, times=times)[2].timestamps.tolist() == [0, 1, 2]
    with pytest.raises(SeriesError, match=r"timestamps\[3\]=0 after timestamps\[2\]=7"):
        loaded(BATCH, times=times, offsets=np.array([0, 0, 6, 6]))
    counts = np.array([1, 1, I64_MAX - 2, 1, 1, I64_MAX - 2])
    assert loaded(BATCH, counts=counts)[0].counts.sum() == I64_MAX
    with pytest.raises(SeriesError, match="counts must have a total"):
        loaded(BATCH, counts=counts, offsets=np.array([0, 0, 6, 6]))


ALIKE: dict[str, Callable[[Any], Any]] = {
    "other order of bytes": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "by columns": np.asfortranarray,
    "reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "with gaps": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("x", [SERIES, BATCH], ids=["series", "batch"])
def test_the_same_in_another_layout(name: str, x: StatSeries | StatBatch, backend: str) -> None:
    """A kernel gets the layout that it counts on, whatever the pickle held."""
    parts = {
        part: ALIKE[name](array) for part, array in Other(x).parts.items() if isinstance(array, np.ndarray) and part != "offsets"
    }
    back = loaded(x, **parts)
    assert back == x and decimate(back, 1) == decimate(x, 1)


def test_bools_of_any_byte(backend: str) -> None:
    """What is no 0 is 1, so that no kernel counts it as more; and what is absent is 0."""
    odd = np.frombuffer(bytes([2, 0, 255, 7, 1, 64]), np.bool_).reshape(2, 3)
    back = loaded(SERIES, present=odd, values=BLOCK + np.uint64(9))
    assert back.present.view(np.uint8).tolist() == [[1, 0, 1], [1, 1, 1]]
    assert back.values.tolist() == [[10, 0, 12], [13, 14, 15]]
    assert list(decimate(back, 1, how="sum")) == list(
        decimate(StatSeries(range(3), {"x": [10, None, 12], "y": [13, 14, 15]}), 1, how="sum")
    )


def test_parts_that_are_too_many_or_too_few() -> None:
    """Whatever is called with them."""
    make, columns = SERIES.__reduce__()
    for parts in (columns[:-1], (*columns, None, None)):
        with pytest.raises(TypeError):
            make(*parts)


# --- texts in one buffer ----------------------------------------------------------------------------------------------

DATA = np.frombuffer(SERIES.to_json() * 2, np.uint8)
HALF, SIZE = len(DATA) // 2, len(DATA)

TEXTS: dict[str, tuple[Any, Any, str]] = {
    "beyond": (DATA, np.array([0, HALF, SIZE + 1]), f"offsets must be within the {SIZE} bytes, got 0 to {SIZE + 1}"),
    "far": (DATA, np.array([2**40, 2**40 + 9]), f"offsets must be within the {SIZE} bytes, got {2**40} to {2**40 + 9}"),
    "before": (DATA, np.array([-9, SIZE]), f"offsets must be within the {SIZE} bytes, got -9 to {SIZE}"),
    "back": (DATA, np.array([0, SIZE, HALF]), f"offsets must not decrease, got offsets[2]={HALF} after offsets[1]={SIZE}"),
    "around": (DATA, np.array([0, 2**63 - 1, -(2**63)]), "offsets must not decrease, got offsets[2]="),
    "of no bytes": (DATA[:0], np.array([0, 1]), "offsets must be within the 0 bytes, got 0 to 1"),
    "none": (DATA, np.array([], int), "offsets must be a contiguous array of at least one int64, got int64 of shape (0,)"),
    "narrow": (DATA, np.array([0, SIZE], np.int32), "offsets must be a contiguous array of at least one int64, got int32 of"),
    "two of them": (
        DATA,
        np.zeros((2, 2), int),
        "offsets must be a contiguous array of at least one int64, got int64 of shape (2",
    ),
    "gaps": (
        DATA,
        np.arange(4)[::2],
        "offsets must be a contiguous array of at least one int64, got int64 of shape (2,), with gaps",
    ),
    "data of gaps": (
        DATA[::2],
        np.array([0, 1]),
        f"data must be a contiguous array of uint8, got uint8 of shape ({HALF},), with gaps",
    ),
    "data of words": (DATA.view("S1"), np.array([0, 1]), "data must be a contiguous array of uint8, got |S1 of shape"),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("door", ["read", "reduce"])
def test_buffers_that_do_not_fit(name: str, door: str, backend: str) -> None:
    """Offsets lead from text to text within the bytes."""
    data, offsets, message = TEXTS[name]
    with pytest.raises(CallstatsError) as refusal:
        decode_buffer(data, offsets) if door == "read" else reduce_buffer(data, offsets, Rule(1))
    assert str(refusal.value).startswith(message)


def test_buffers_that_fit(backend: str) -> None:
    """Bytes before the first text and behind the last are nobody's, and there may be no text."""
    offsets = np.array([HALF, HALF, SIZE])
    batch, refused = decode_buffer(DATA, offsets)
    assert [*batch] == [StatSeries([], {}), StatSeries.from_json(SERIES.to_json())] and not refused
    pieces, ends, refused = reduce_buffer(DATA, offsets, Rule(1))
    assert b"".join(map(bytes, pieces)) == b"".join(reduce_json([b"", SERIES.to_json()], 1))
    assert ends[0] == ends[1] and not refused
    assert len(decode_buffer(DATA, offsets[:1])[0]) == 0
    assert reduce_buffer(DATA, offsets[:1], Rule(1))[1].tolist() == [0]


@pytest.mark.parametrize("places", [[0, 2**30, 9], [0, -4, 9]])
def test_arrow_arrays_that_lie(places: list[int], backend: str) -> None:
    """Arrow itself looks at the first offset and the last only."""
    buffers = [None, pa.py_buffer(np.array(places, np.int32)), pa.py_buffer(b"[] [] [] ")]
    array = pa.Array.from_buffers(pa.binary(), 2, buffers)
    with pytest.raises(CallstatsError, match=r"^offsets must"):
        arrow.reduce(array, 1)
    with pytest.raises(CallstatsError, match=r"^offsets must"):
        arrow.read_stored(array)
