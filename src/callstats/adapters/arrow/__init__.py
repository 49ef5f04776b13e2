"""Stored histograms and series in Arrow.

`reduce` works on the buffers of string and binary arrays, with no Python object for any row. A series is a table with a row for
each of its samples (`read`, `write`); many are an array of lists (`read_lists`, `write_lists`) or one long table (`read_long`,
`write_long`). Whatever speaks Arrow's PyCapsule protocol is taken, such as a polars frame, a pandas frame or a DuckDB relation,
and what is given back speaks it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from callstats.adapters._optional import needs
from callstats.adapters.arrow._nested import read_lists, read_long, write_lists, write_long
from callstats.adapters.arrow._tables import series_of_columns, table_columns
from callstats.adapters.arrow._text import Reduced, arrow_of, one_array, read_array, reduce_array, text_type
from callstats.batch import StatBatch
from callstats.errors import CallstatsError
from callstats.rule import Rule, make_rule
from callstats.series import StatSeries

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read", "read_lists", "read_long", "read_stored", "reduce", "reduce_checked", "write", "write_lists", "write_long"]


def reduce(
    x: Any,
    rule: Rule | int | None = 240,
    *,
    column: str = "stats",
    counts: bool = True,
    sort: bool = False,
    threads: int = 1,
    errors: Literal["raise", "null"] = "raise",
    **fields: Any,
) -> Any:
    """Reduce stored histograms, Arrow to Arrow, as `reduce_json` does.

    Parameters
    ----------
    x : Array, ChunkedArray, RecordBatch, Table, RecordBatchReader, or whatever speaks Arrow's PyCapsule protocol
        Text or binary of any kind (plain, large, view, or JSON's extension type), with nulls, sliced or not.
    rule : Rule or int
        How to reduce; a number is the rule's `max_samples`.
    column : str
        Of a table, the column with the histograms.
    counts, sort, threads
        As for `reduce_json`.
    errors : {"raise", "null"}
        Whether the first histogram that is refused ends the work, or each becomes null.
    **fields
        The other fields of the rule: `how`, `missing`, `max_bytes`.

    Returns
    -------
    Array, ChunkedArray, RecordBatch, Table or RecordBatchReader
        Of the kind and type of `x`. Null stays null; a histogram that the rule leaves unchanged stays byte for byte.

    Raises
    ------
    CallstatsError
        A `DecodeError`, `SeriesError` or `BudgetError` that names the row: ``stats[17]: $[3].timestamp: …``.
    TypeError
        For a column of any other type.
    ImportError
        When pyarrow is missing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> blob = '[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":1}},{"timestamp":"2017-11-27T14:52:54Z","metrics":{"x":4}}]'
    >>> table = pa.table({"id": ["a", "b"], "stats": [blob, None]})
    >>> print(reduce(table, 1)["stats"][0].as_py(), end="")
    [{"timestamp":"2017-11-27T14:52:53.500Z","metrics":{"x":2},"count":2}]
    """
    with needs("adapters.arrow.reduce", "pyarrow", "arrow"):
        import pyarrow as pa
    rule = make_rule(rule, **fields)
    if errors not in ("raise", "null"):
        raise CallstatsError(f"errors must be 'raise' or 'null', got {errors!r}")
    raising, how = errors == "raise", {"counts": counts, "sort": sort, "threads": threads}
    x = arrow_of(x)
    if isinstance(x, pa.RecordBatchReader):
        _place(x.schema, column)
        return pa.RecordBatchReader.from_batches(x.schema, _stream(x, rule, column, raising, how))
    if isinstance(x, (pa.Table, pa.RecordBatch)):
        place = _place(x.schema, column)
        return x.set_column(place, x.schema.field(place), _whole(x.column(place), rule, column, raising, 0, how))
    return _whole(x, rule, "blobs", raising, 0, how)


def reduce_checked(
    array: Any, rule: Rule | int | None = 240, *, counts: bool = True, sort: bool = False, **fields: Any
) -> tuple[pa.Array, pa.Array]:
    """Reduce stored histograms, and tell why some were refused.

    Parameters
    ----------
    array, rule, counts, sort, **fields
        As for `reduce`; an Array, or whatever speaks the PyCapsule protocol for one.

    Returns
    -------
    Array, Array
        The histograms, the refused ones as they were; and as text the reason of each refusal, null for the others.

    Examples
    --------
    >>> import pyarrow as pa
    >>> kept, reasons = reduce_checked(pa.array(["[]", "no histogram"]), 1)
    >>> kept.to_pylist(), reasons.is_null().to_pylist()
    (['[]', 'no histogram'], [True, False])
    """
    with needs("adapters.arrow.reduce_checked", "pyarrow", "arrow"):
        import pyarrow as pa
        import pyarrow.compute as pc
    array = arrow_of(array)
    if not isinstance(array, (pa.Array, pa.ChunkedArray)):
        raise TypeError(f"reduce_checked takes an array, got {type(array).__name__}")
    array = one_array(array)
    result, refused = reduce_array(array, make_rule(rule, **fields), counts=counts, sort=sort)
    reasons = pa.nulls(len(array), pa.string())
    if refused:
        reasons = pa.array([str(refused[i]) if i in refused else None for i in range(len(array))], pa.string())
        kept = text_type(array.type)
        storage = array.storage if isinstance(array, pa.ExtensionArray) else array
        reduced = result.storage if isinstance(result, pa.ExtensionArray) else result
        mixed = pc.if_else(reasons.is_null(), reduced.cast(kept), storage.cast(kept))
        result = mixed.cast(storage.type)
        result = pa.ExtensionArray.from_storage(array.type, result) if isinstance(array, pa.ExtensionArray) else result
    return result, reasons


def read_stored(array: Any, *, sort: bool = False, errors: Literal["raise", "empty"] = "raise") -> StatBatch:
    """Read stored histograms, an array of them at once.

    Parameters
    ----------
    array : Array, ChunkedArray, or whatever speaks Arrow's PyCapsule protocol
        As for `reduce`. Null is an empty series.
    sort : bool
        As for `reduce_json`.
    errors : {"raise", "empty"}
        Whether the first histogram that is refused ends the work, or each is an empty series.

    Returns
    -------
    StatBatch

    Raises
    ------
    DecodeError
        It names the row: ``blobs[17]: $[3].timestamp: …``.

    Examples
    --------
    >>> import pyarrow as pa
    >>> batch = read_stored(pa.array(['[{"timestamp":"2017-11-27T14:52:53Z","metrics":{"x":7}}]', None]))
    >>> [len(series) for series in batch]
    [1, 0]
    """
    with needs("adapters.arrow.read_stored", "pyarrow", "arrow"):
        import pyarrow as pa
    if errors not in ("raise", "empty"):
        raise CallstatsError(f"errors must be 'raise' or 'empty', got {errors!r}")
    array = arrow_of(array)
    if not isinstance(array, (pa.Array, pa.ChunkedArray)):
        raise TypeError(f"read_stored takes an array, got {type(array).__name__}")
    batch, refused = read_array(array, sort=sort)
    if refused and errors == "raise":
        _refusing(array, refused, "blobs", True, 0)
    return batch


def read(table: Any, *, timestamp: str = "timestamp", counts: str | None = "count") -> StatSeries:
    """A series from a table with a row for each sample.

    Parameters
    ----------
    table : Table, RecordBatch, or whatever speaks Arrow's PyCapsule protocol
        A column of times, of any unit and zone or as whole nanoseconds, and one of whole numbers for each metric; null is absent.
    timestamp : str
        The column of times.
    counts : str or None
        The column that says how many raw samples each row stands for, if there is one; None takes every column for a metric.

    Returns
    -------
    StatSeries

    Raises
    ------
    SeriesError
        For anything that would not convert without losing a bit.

    Examples
    --------
    >>> series = StatSeries([0, 10**9], {"x": [2**64 - 1, None]}, counts=[5, 1])
    >>> read(write(series)) == series
    True
    """
    with needs("adapters.arrow.read", "pyarrow", "arrow"):
        import pyarrow as pa
    table = arrow_of(table)
    if isinstance(table, pa.RecordBatchReader):
        table = table.read_all()
    if isinstance(table, pa.RecordBatch):
        table = pa.table(table)
    if not isinstance(table, pa.Table):
        raise TypeError(f"arrow.read takes a table, got {type(table).__name__}")
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return series_of_columns(columns, timestamp, counts)


def write(series: StatSeries, *, timestamp: str = "timestamp", counts: str | None = "count") -> pa.Table:
    """A series as a table with a row for each sample.

    Parameters
    ----------
    series : StatSeries
    timestamp : str
        The column of times: nanoseconds, UTC.
    counts : str or None
        The column for counts, written where some row stands for more than one sample; None leaves them out.

    Returns
    -------
    Table
        Its metrics are uint64, null where absent.

    Raises
    ------
    SeriesError
        When a metric has the name of one of those columns.

    Examples
    --------
    >>> write(StatSeries([0, 10**9], {"x": [7, None]})).to_pydict()["x"]
    [7, None]
    """
    with needs("adapters.arrow.write", "pyarrow", "arrow"):
        import pyarrow as pa
    return pa.table(table_columns(series, timestamp, counts))


def _place(schema: Any, column: str) -> int:
    place = schema.get_field_index(column)
    if place < 0:
        raise CallstatsError(f"expected one column {column!r}: the table has {', '.join(map(repr, schema.names)) or 'none'}")
    return int(place)


def _whole(x: Any, rule: Rule, name: str, raising: bool, start: int, how: dict[str, Any]) -> Any:
    """An array, or every chunk of one."""
    import pyarrow as pa

    if isinstance(x, pa.ChunkedArray):
        chunks = []
        for chunk in x.chunks:
            chunks.append(_whole(chunk, rule, name, raising, start, how))
            start += len(chunk)
        text_type(x.type)
        return pa.chunked_array(chunks, x.type)
    result, refused = reduce_array(x, rule, **how)
    return result if not refused else _refusing(result, refused, name, raising, start)


def _refusing(result: Any, refused: Reduced, name: str, raising: bool, start: int) -> Any:
    """Raise the first refusal by its row, or leave the nulls that stand for all."""
    if raising:
        i, error = min(refused.items())
        error.args = (f"{name}[{start + i}]: {error}",)
        refused.clear()
        try:
            raise error
        finally:
            del error  # else it and this frame would refer to each other, and keep the array until the collector comes
    return result


def _stream(batches: Any, rule: Rule, column: str, raising: bool, how: dict[str, Any]) -> Any:
    """Batch after batch, reduced when asked for."""
    start = 0
    for batch in batches:
        place = _place(batch.schema, column)
        new = _whole(batch.column(place), rule, column, raising, start, how)
        yield batch.set_column(place, batch.schema.field(place), new)
        start += len(batch)
