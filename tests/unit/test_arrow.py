"""Arrow: stored histograms on their buffers, and series to and from its columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callstats import CallstatsError, DecodeError, Rule, SeriesError, StatBatch, StatSeries, reduce_json
from callstats.adapters import arrow
from support import strategies
from support.backends import compiled
from support.reference import Row
from support.stored import good, stored
from support.zoo import series_of, zoo

pytestmark = pytest.mark.usefixtures("backend")

TEXT = [pa.string(), pa.large_string(), pa.string_view()]
BINARY = [pa.binary(), pa.large_binary(), pa.binary_view()]
RULES = [Rule(3), Rule(2, how=("mean", "max"), missing="zero"), Rule(None, max_bytes=300), Rule(0)]


def wanted(blobs: list[bytes | None], rule: Rule, **options: Any) -> list[bytes | None]:
    """What `reduce_json` gives: null where null came in, or where it refuses."""
    results = reduce_json(blobs, rule, errors="return", **options)
    return [
        None if blob is None or isinstance(result, CallstatsError) else result
        for blob, result in zip(blobs, results, strict=True)
    ]


def raw(array: Any) -> list[bytes | None]:
    """The cells of an array as bytes."""
    return [cell.encode() if isinstance(cell, str) else cell for cell in array.to_pylist()]


def fine() -> list[bytes]:
    """Blobs with bytes that nothing refuses."""
    return [blob for blob in good() if blob]


# --- text to text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", TEXT + BINARY, ids=str)
def test_every_kind_of_text(kind: pa.DataType, rule: Rule) -> None:
    """Each kind of array gives the bytes that `reduce_json` gives, nulls, empties and bad ones among them."""
    blobs = stored()
    array = pa.array(blobs, pa.binary()).cast(kind)
    result = arrow.reduce(array, rule, errors="null")
    result.validate(full=True)
    assert result.type == kind
    assert raw(result) == wanted(blobs, rule)
    assert raw(array) == blobs


def test_options_are_those_of_reduce_json() -> None:
    """Fields, counts and sort mean what they mean there."""
    back = b'[{"timestamp":"1970-01-01T00:00:01Z","metrics":{"x":1}},{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":2}}]'
    blobs = [*good(), back]
    array = pa.array(blobs, pa.binary())
    want = reduce_json(blobs, 2, how="max", counts=False, sort=True)
    got = arrow.reduce(array, 2, how="max", counts=False, sort=True)
    assert [cell or b"" for cell in raw(got)] == want


@pytest.mark.parametrize(("start", "length"), [(0, 5), (1, 7), (3, None), (9, 0)])
def test_slices(start: int, length: int | None) -> None:
    """A slice is worked on alone, whatever lies around it."""
    blobs = stored()
    array = pa.array(blobs, pa.string_view() if start == 1 else pa.binary()).slice(start, length)
    result = arrow.reduce(array, 3, errors="null")
    result.validate(full=True)
    assert raw(result) == wanted(blobs[start:], Rule(3))[: len(array)]


def test_what_lies_under_a_null() -> None:
    """The bytes of a null are nobody's: they are neither judged nor kept."""
    offsets, data = np.array([0, 2, 4, 4], np.int32), b"no[]"
    valid = pa.array([False, True, True]).buffers()[1]
    array = pa.Array.from_buffers(pa.string(), 3, [valid, pa.py_buffer(offsets), pa.py_buffer(data)])
    result = arrow.reduce(array, 1)
    assert result.to_pylist() == [None, "[]", ""]
    assert result.buffers()[2].to_pybytes() == b"[]"


@pytest.mark.parametrize("stretch", [1, 300_000, 2**26])
def test_chunks_and_stretches(stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks stay chunks, empty ones too, and an array is as its stretches, of however many bytes."""
    monkeypatch.setattr("callstats.reduce._SPAN_BYTES", stretch)
    blobs = fine() * 3
    chunks = pa.chunked_array([pa.array(blobs[:5]), pa.array([], pa.binary()), pa.array(blobs[5:])])
    result = arrow.reduce(chunks, 2)
    assert [len(chunk) for chunk in result.chunks] == [5, 0, len(blobs) - 5]
    assert raw(result) == reduce_json(blobs, 2)
    assert arrow.reduce(pa.chunked_array([], pa.string()), 2) == pa.chunked_array([], pa.string())
    long = StatSeries(np.arange(3000) * 10**9, {name: np.arange(3000) for name in "abcdefghi"}).to_json()
    large = [long, b" " + long, None, *fine(), long, long[:-1], long] * 2
    assert raw(arrow.reduce(pa.array(large), 100)) == wanted(large, Rule(100))
    assert raw(arrow.reduce(pa.array(large), 5000)) == large


@pytest.mark.parametrize("threads", [2, 7])
def test_threads(threads: int) -> None:
    """However many threads share an array, the result and the row that is named are as with one."""
    long = StatSeries(np.arange(3000) * 10**9, {name: np.arange(3000) for name in "abcdefghi"}).to_json()
    blobs = [long, None, long[:-1], *fine(), long, b"no histogram", long, b"nor this"] * 3
    array = pa.array(blobs)
    assert arrow.reduce(array, 5, errors="null", threads=threads) == arrow.reduce(array, 5, errors="null")
    with pytest.raises(DecodeError, match=rf"^blobs\[{blobs.index(b'no histogram')}\]: "):
        arrow.reduce(array, 5, threads=threads)
    with pytest.raises(CallstatsError, match="threads must be a whole number, 1 or more, got 0"):
        arrow.reduce(array, 5, threads=0)


@compiled
def test_nothing_changes_nothing_is_copied() -> None:
    """Where a rule leaves all as it is, the result has the bytes of the array that came."""
    array = pa.array([StatSeries([0, 1], {"x": [i, 2]}).to_db() for i in range(9)])
    assert arrow.reduce(array, 100).buffers()[2].address == array.buffers()[2].address


def test_tables_batches_and_readers() -> None:
    """In a table, a batch or a stream of them, one column is reduced and the rest stays."""
    blobs = good()
    table = pa.table({"id": list(range(len(blobs))), "blob": pa.array(blobs, pa.binary())})
    result = arrow.reduce(table, 3, column="blob")
    assert result.schema == table.schema
    assert result["id"] == table["id"]
    assert raw(result["blob"]) == wanted(blobs, Rule(3))
    [batch] = table.to_batches()
    assert arrow.reduce(batch, 3, column="blob") == result.to_batches()[0]
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=7))
    assert arrow.reduce(reader, 3, column="blob").read_all() == result
    for x in (table, reader):
        with pytest.raises(
            CallstatsError, match="column must be the name of one column, got 'stats': the table has 'id', 'blob'"
        ):
            arrow.reduce(x, 3)


def test_json_type_and_nulls_alone() -> None:
    """Arrow's JSON type stays what it is, and so does an array of nothing but null."""
    array = pa.array([fine()[0].decode(), None], pa.json_(pa.string()))
    result = arrow.reduce(array, 3)
    assert result.type == array.type
    assert raw(result.storage) == wanted([fine()[0], None], Rule(3))
    assert arrow.reduce(pa.nulls(3), 3) == pa.nulls(3)


@pytest.mark.parametrize(
    "other", [pa.array([1]), pa.array([["a"]]), pa.array(["a"]).dictionary_encode()], ids=lambda x: str(x.type)[:9]
)
def test_other_types_are_refused(other: pa.Array) -> None:
    """What is no text is refused by its type."""
    with pytest.raises(TypeError, match="expected stored blobs as text or binary, got an Arrow array of"):
        arrow.reduce(other, 3)
    with pytest.raises(TypeError, match="PyCapsule protocol, got int"):
        arrow.reduce(3, 3)


def test_refusals_name_the_row() -> None:
    """The first refusal is raised with the row's number in the whole column, a chunk's or a stream's place included."""
    one = fine()[0]
    chunks = pa.chunked_array([[one, one], [one, b'[{"timestamp":"1970-01-01T00:00:00Z","metrics":{"x":-1}}]', b"no"]])
    with pytest.raises(DecodeError) as caught:
        arrow.reduce(chunks, 3)
    assert str(caught.value).startswith("blobs[3]: $[0].metrics.x: expected")
    assert caught.value.path == "$[0].metrics.x"
    table = pa.table({"stats": chunks})
    for x in (table, pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=1))):
        with pytest.raises(DecodeError, match=r"stats\[3\]: \$\[0\].metrics.x"):
            arrow.reduce(x, 3).read_all()
    with pytest.raises(CallstatsError, match="errors must be one of 'raise', 'null', 'return', got 'empty'"):
        arrow.reduce(chunks, 3, errors="empty")  # type: ignore[arg-type]
    with pytest.raises(CallstatsError, match="errors must be one of 'raise', 'null', got 'return'"):
        arrow.reduce(pa.RecordBatchReader.from_batches(table.schema, table.to_batches()), 3, errors="return")
    with pytest.raises(CallstatsError, match="errors must be one of 'raise', 'null', got 'return'"):
        arrow.read_stored(chunks, errors="return")  # type: ignore[arg-type]


def test_too_much_for_small_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that the offsets of its type can't reach is refused, with the type that could hold it."""
    monkeypatch.setattr("callstats.adapters.arrow._text._MAX_BYTES", {4: 10, 8: 10})
    with pytest.raises(CallstatsError, match=r"x must be at most 10 bytes when reduced, got .*: make it pa.large_string\(\)"):
        arrow.reduce(pa.array([fine()[0].decode()]), 3)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary_view(), pa.json_(pa.string())], ids=str)
def test_reasons(kind: pa.DataType) -> None:
    """``errors="return"`` leaves rejected blobs unchanged, with the reasons beside them: in chunks, tables and batches too."""
    blobs = [fine()[0], None, b"no", b"", b"[1]"]
    array = pa.array([None if blob is None else blob.decode() for blob in blobs])
    array = pa.ExtensionArray.from_storage(kind, array) if isinstance(kind, pa.BaseExtensionType) else array.cast(kind)
    errors = reduce_json(blobs, 3, errors="return")
    result, reasons = arrow.reduce(array, 3, errors="return")
    assert result.type == kind
    plain = result.storage if isinstance(result, pa.ExtensionArray) else result
    assert raw(plain) == [errors[0], None, b"no", b"", b"[1]"]
    assert reasons.to_pylist() == [None, None, str(errors[2]), None, str(errors[4])]
    _, none = arrow.reduce(array[:2], 3, errors="return")
    assert none.to_pylist() == [None, None]
    chunks = pa.chunked_array([array[:1], array[1:]])
    in_chunks, same = arrow.reduce(chunks, 3, errors="return")
    assert (in_chunks, same) == (pa.chunked_array([result[:1], result[1:]]), reasons)
    table = pa.table({"stats": chunks, "id": range(len(blobs))})
    in_table, same = arrow.reduce(table, 3, errors="return")
    assert (in_table, same) == (pa.table({"stats": in_chunks, "id": range(len(blobs))}), reasons)
    batch = pa.record_batch({"stats": array})
    in_batch, same = arrow.reduce(batch, 3, errors="return")
    assert (in_batch, same) == (pa.record_batch({"stats": result}), reasons)


# --- the PyCapsule protocol -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda table: table, "__arrow_c_stream__"),
        (lambda table: table["stats"], "__arrow_c_stream__"),
        (lambda table: table.to_batches()[0], "__arrow_c_array__"),
        (lambda table: table["stats"].chunk(0), "__arrow_c_array__"),
    ],
    ids=["table", "chunked", "batch", "array"],
)
def test_whatever_speaks_the_protocol(made: Callable[[pa.Table], Any], name: str) -> None:
    """An object of any library is taken by what it exports, a stream or an array, of columns or of one."""
    x = made(pa.table({"stats": [blob.decode() for blob in fine()], "id": range(len(fine()))}))
    exported = type("Foreign", (), {name: lambda self, schema=None: getattr(x, name)(schema)})()
    assert arrow.reduce(exported, 3) == arrow.reduce(x, 3)


# --- series -----------------------------------------------------------------------------------------------------------


def some() -> StatBatch:
    """Values past 2**63, holes, counts, equal times, a sample without metrics, empty series between."""
    return StatBatch(
        [
            StatSeries([], {}),
            StatSeries([0, 0, 7], {"x": [2**64 - 1, None, 0], "y@max": [None, None, 2**63]}, counts=[1, 2**40, 3]),
            StatSeries([], {}),
            StatSeries([-(10**18), 5], {"": [None, 1]}),
            StatSeries([1], {}),
            StatSeries([], {}),
        ]
    )


@pytest.mark.parametrize("series", list(some()) + [item.series() for item in zoo() if len(item.rows) < 200], ids=len)
def test_wide_tables(series: StatSeries) -> None:
    """A series as a table and back is the same, to the bit."""
    table = arrow.write(series)
    table.validate(full=True)
    assert arrow.read(table) == series


@given(st.lists(strategies.rows(most=12), max_size=5))
def test_random_batches(members: list[list[Row]]) -> None:
    """Random series as lists and as a long table, in any order of its rows, come back the same."""
    batch = StatBatch(series_of(rows) for rows in members)
    assert arrow.read_lists(arrow.write_lists(batch)) == batch
    table = arrow.write_long(batch)
    calls, same = arrow.read_long(table)
    assert (calls.to_pylist(), same) == (list(range(len(batch))), batch)
    backward = table.take(pa.array(np.arange(len(table))[::-1].copy()))
    calls, same = arrow.read_long(backward)
    assert list(same) == [batch[i] for i in calls.to_pylist()]


def test_lists_from_elsewhere() -> None:
    """Chunks, slices, null lists, large lists and missing fields are read; what is no list of structs is refused."""
    batch = some()
    array = arrow.write_lists(batch)
    assert arrow.read_lists(pa.chunked_array([array.slice(0, 2), array.slice(2)])) == batch
    assert list(arrow.read_lists(array.slice(1, 3))) == list(batch)[1:4]
    assert arrow.read_lists(array.cast(pa.large_list(array.type.value_type))) == batch
    rows = [None, [{"timestamp": 5, "metrics": {"x": 1}}], [{"timestamp": 1, "metrics": None}]]
    want = StatBatch([StatSeries([], {}), StatSeries([5], {"x": [1]}), StatSeries([1], {})])
    assert arrow.read_lists(pa.array(rows)) == want
    for bad in (pa.array([1]), pa.array([[1]]), pa.array([[{"x": 1}]]), pa.array([[None, {"timestamp": 1}]])):
        with pytest.raises(SeriesError):
            arrow.read_lists(bad)
    with pytest.raises(SeriesError, match=r"timestamps must not decrease, got timestamps\[2\]=1 after timestamps\[1\]=3"):
        arrow.read_lists(pa.array([[{"timestamp": 9}], [{"timestamp": 3}, {"timestamp": 1}]]))


def test_long_tables_from_elsewhere() -> None:
    """Without call and row, a time is a sample; keys may be anything; contradictions are refused."""
    table = pa.table({"timestamp": [5, 5, 3], "metric": ["x", "y", "x"], "value": [1, 2, 3]})
    calls, [series] = arrow.read_long(table)
    assert calls.to_pylist() == [0]
    assert series == StatSeries([3, 5], {"x": [3, 1], "y": [None, 2]})
    keys = ["a", "b", None, "d", "e", "f"]
    calls, batch = arrow.read_long(arrow.write_long(some(), keys))
    assert (calls.to_pylist(), batch) == (keys, some())
    with pytest.raises(SeriesError, match="calls must have a key for each of the 6 series, got 2"):
        arrow.write_long(some(), ["a", "b"])
    one = {"row": [0, 0], "timestamp": [1, 1], "metric": ["x", "y"], "value": [1, 2], "count": [1, 1]}
    for column, cells, reason in (
        ("timestamp", [1, 2], "one time for each sample"),
        ("count", [1, 2], "one count for each sample"),
        ("metric", ["x", "x"], "one value for each metric"),
        ("timestamp", [1, None], "expected a time for each value"),
        ("value", [1, -1], "value.1. must be a whole number from 0"),
    ):
        with pytest.raises(SeriesError, match=reason):
            arrow.read_long(pa.table({**one, column: cells}))
    with pytest.raises(SeriesError, match="expected a column 'value': the table has 'timestamp', 'metric'"):
        arrow.read_long(table.drop_columns(["value"]))


def test_tables_from_elsewhere() -> None:
    """Times of any unit, other integers, whole decimals and floats are read; what would lose a bit is refused."""
    from decimal import Decimal

    table = pa.table(
        {
            "when": pa.array([1, 2], pa.timestamp("s", "Europe/Berlin")),
            "a": pa.array([1, None], pa.int8()),
            "b": pa.array([3.0, 4.0]),
            "c": pa.array([Decimal(5), None], pa.decimal128(38, 0)),
            "d": pa.nulls(2),
            "count": pa.array([1, 2], pa.uint8()),
        }
    )
    want = StatSeries([10**9, 2 * 10**9], {"a": [1, None], "b": [3, 4], "c": [5, None]}, counts=[1, 2])
    assert arrow.read(table, timestamp="when") == want
    assert arrow.read(table, timestamp="when", counts=None)["count"].tolist() == [1, 2]
    with pytest.raises(SeriesError, match="expected a column 'timestamp': the table has 'when'"):
        arrow.read(table)
    for bad in (pa.array([1.5, 2]), pa.array([-1, 2]), pa.array([True, False]), pa.array(["1", "2"])):
        with pytest.raises(SeriesError):
            arrow.read(pa.table({"timestamp": [1, 2], "x": bad}))
    with pytest.raises(SeriesError):
        arrow.read(pa.table({"timestamp": pa.array([1, None], pa.timestamp("ns")), "x": [1, 2]}))


def test_names_that_are_taken() -> None:
    """A metric that has the name of another column is refused, and a different name for that column helps."""
    series = StatSeries([1, 2], {"count": [1, 2], "timestamp": [3, 4]}, counts=[5, 6])
    with pytest.raises(SeriesError, match="timestamp must be a name that no metric has, got 'timestamp'"):
        arrow.write(series)
    with pytest.raises(SeriesError, match="counts must be a name that no metric has, got 'count'"):
        arrow.write(series, timestamp="t")
    assert arrow.read(arrow.write(series, timestamp="t", counts="n"), timestamp="t", counts="n") == series
