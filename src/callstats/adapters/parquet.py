"""Series and stored blobs in Parquet files, compressed with zstd."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callstats._extras import needs

with needs("adapters.parquet", "arrow"):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import dataset

from callstats.adapters.arrow import read_long, write_long
from callstats.adapters.files import line_of, no_blobs, plain_value, read_on, reason_of
from callstats.batch import StatBatch
from callstats.errors import ArgumentError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from callstats.adapters.files import Page

__all__ = ["read", "write"]

GROUP_ROWS = 2**20
"""The max rows of a row group."""
GROUP_BYTES, GROUP_CALLS = 32 * 2**20, 2**16
"""The size from which calls are written as a row group."""


def read(path: str | os.PathLike[str]) -> tuple[pa.Array, StatBatch]:
    """Return the calls and series of a file in long form, as `callstats.adapters.arrow.read_long` does of a table.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(StatSeries([0], {"x": [7]}), Path(folder, "x.parquet"), calls=["a"])
    ...     calls, batch = read(Path(folder, "x.parquet"))
    >>> calls.to_pylist(), batch[0]["x"].tolist()
    (['a'], [7])
    """
    return read_long(pq.read_table(path))


def write(x: StatSeries | StatBatch, path: str | os.PathLike[str], calls: Any = None) -> None:
    """Write series into a file in long form, the table of `callstats.adapters.arrow.write_long`. It replaces an existing file."""
    pq.write_table(write_long(x, calls), path, row_group_size=GROUP_ROWS, **_format(True, ("call", "metric", "count")))


class Writer:
    """A writer of a Parquet file of blobs, or with `long` of series, with the columns of `write_long`.

    `others` are further columns of text.
    """

    def __init__(self, sink: Any, _path: str, *, key: str, column: str, long: bool, others: Sequence[str]) -> None:
        self._sink, self._key, self._column, self._long, self._others = sink, key, column, long, tuple(others)
        names = [*(write_long(StatBatch([])).column_names if long else (key, column)), *others]
        for name in others:
            if names.count(name) > 1:
                raise ArgumentError("others", "names of further columns", name, hint="the file has a column of that name")
        self._kind: Any = None
        self._writer: Any = None
        self._tables: list[pa.Table] = []
        """The row group in the making."""

    def add(
        self, calls: Sequence[Any], cells: StatBatch | Sequence[bytes | None], others: Sequence[Sequence[str | None]] = ()
    ) -> None:
        """Write calls: their keys, of the type of the file's first key; their series or blobs; their further columns."""
        keys = self._keys(calls)
        extra = {name: pa.array([row[i] for row in others], pa.string()) for i, name in enumerate(self._others)}
        if isinstance(cells, StatBatch):
            table = write_long(cells)
            indexes = table["call"]
            table = table.set_column(0, "call", keys.take(indexes))
            # Plain text, since Parquet makes a dictionary for each row group.
            table = table.set_column(3, "metric", table["metric"].cast(pa.string()))
            for name, array in extra.items():
                table = table.append_column(name, array.take(indexes))
        else:
            table = pa.table({self._key: keys, **extra, self._column: text_array(cells, pa.string())})
        self._add(table)

    def add_page(self, page: Page, changed: Mapping[int, bytes]) -> None:
        """Write the rows of a page, with new blobs by index. The first page has the columns of the file."""
        self._add(page.table(changed, self._tables[0].schema if self._tables else self._writer and self._writer.schema))

    def close(self, *, complete: bool) -> None:
        """Write what is left, or an empty file."""
        if complete:
            if self._writer is None and not self._tables:
                self.add([], StatBatch([]) if self._long else [])
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _add(self, table: pa.Table) -> None:
        self._tables.append(table)
        if sum(one.nbytes for one in self._tables) >= GROUP_BYTES or sum(map(len, self._tables)) >= GROUP_CALLS:
            self._flush()

    def _flush(self) -> None:
        """Write the row group."""
        tables, self._tables = self._tables, []
        if self._writer is None:
            schema = tables[0].schema
            texts = [name for name in schema.names if name not in (self._column, "row", "timestamp", "value")]
            self._writer = pq.ParquetWriter(self._sink, schema, **_format(self._long, texts))
        if tables:
            self._writer.write_table(pa.concat_tables(tables), row_group_size=GROUP_ROWS)

    def _keys(self, calls: Sequence[Any]) -> Any:
        """Return keys as an array of the type of the first key."""
        if self._kind is None:
            kinds = {int: pa.int64(), bytes: pa.binary(), float: pa.float64()}
            self._kind = next((kinds.get(type(call), pa.string()) for call in calls), pa.string())
        if self._kind == pa.string():
            calls = [call if isinstance(call, (str, int, float, bytes)) else str(call) for call in calls]
        try:
            return pa.array(calls, self._kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError, OverflowError):
            if len(calls) > 1:
                return pa.concat_arrays([self._keys([call]) for call in calls])  # the odd one raises
            raise ArgumentError("calls", f"keys of type {self._kind}, as the first is", calls[0]) from None


class ArrowPage:
    """Some rows of a file, as `callstats.adapters.files.LinePage` has them."""

    faults: Mapping[int, str] = {}

    def __init__(self, table: pa.Table, column: str) -> None:
        self._table, self._column = table, column
        self.blobs: list[bytes | None] = table[column].cast(pa.large_binary()).to_pylist()

    def values(self, name: str | None) -> list[Any]:
        """Return the scalars of a column; None for each row if there is no such column."""
        if name not in self._table.column_names:
            return [None] * len(self.blobs)
        cells = self._table[name]
        if pa.types.is_timestamp(cells.type):  # Python has no nanoseconds
            cells = cells.cast(pa.timestamp("us", cells.type.tz), safe=False)
        return [plain_value(value) for value in cells.to_pylist()]

    def lines(self, changed: Mapping[int, bytes]) -> Iterator[bytes]:
        """Yield the rows as lines, with new blobs by index."""
        names = [name for name in self._table.column_names if name != self._column]
        rows = zip(*(self.values(name) for name in names), strict=True) if names else ((),) * len(self.blobs)
        for index, (row, blob) in enumerate(zip(rows, self.blobs, strict=True)):
            values = (value.isoformat() if isinstance(value, date) else value for value in row)
            yield line_of(dict(zip(names, values, strict=True)), self._column, changed.get(index, blob))

    def table(self, changed: Mapping[int, bytes], _schema: Any = None) -> pa.Table:
        """Return the rows as an Arrow table, with new blobs by index."""
        if not changed:
            return self._table
        index = self._table.column_names.index(self._column)
        field = self._table.schema.field(index)
        cells = text_array([changed.get(i, blob) for i, blob in enumerate(self.blobs)], field.type)
        return self._table.set_column(index, field, cells)


def _first_fault(folder: str) -> str | None:
    """Return which file of a folder is no Parquet file, and why; None if all seem to be."""
    for path in sorted(Path(folder).rglob("[!_.]*")):
        try:
            if path.is_file():
                pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            return f"{path}: {reason_of(error)}"
    return None


class Reader:
    """A reader of a Parquet file, or of a folder of such files, whose names may hold columns: ``day=1/a.parquet``."""

    def __init__(self, path: str, column: str) -> None:
        try:
            found = dataset.dataset(path, format="parquet", partitioning="hive")
            self._files = [*found.get_fragments()]
            self.total: int | None = found.count_rows()
            parts = {name for file in self._files for name in dataset.get_partition_keys(file.partition_expression)}
            schemas = [file.physical_schema for file in self._files] or [found.schema]
            schemas.append(pa.schema([found.schema.field(name) for name in sorted(parts)]))
            self._schema = pa.unify_schemas(schemas, promote_options="permissive").with_metadata(schemas[0].metadata)
        except (OSError, pa.ArrowException, ImportError) as error:
            hint = _first_fault(path) or reason_of(error)
            raise ArgumentError("path", "a Parquet file or folder", path, hint=hint) from None
        if not self._files:
            raise ArgumentError("path", "a Parquet file or folder", path, hint="the folder has no file")
        self._column, self.columns = column, self._schema.names
        kind = self._schema.field(column).type if self.columns.count(column) == 1 else None
        if not kind or pa.types.is_nested(kind) or not any(word in str(kind) for word in ("string", "binary", "json", "null")):
            raise no_blobs(path, column, ", ".join(f"{field.name!r} ({field.type})" for field in self._schema))

    def pages(self, rows: int, size: int, columns: Sequence[str | None] | None = None) -> Iterator[ArrowPage]:
        """Yield pages of at most so many rows and about so many bytes, at least one. They have these columns, or all."""
        wanted = pa.schema(
            [field for field in self._schema if columns is None or field.name in (*columns, self._column)], self._schema.metadata
        )
        if not self.total:
            yield ArrowPage(wanted.empty_table(), self._column)
        for table in read_on(self._tables(wanted, rows, size)):
            yield ArrowPage(table, self._column)

    def _tables(self, wanted: pa.Schema, rows: int, size: int) -> Iterator[pa.Table]:
        for source in self._files:
            parts = dataset.get_partition_keys(source.partition_expression)
            # Else Arrow reads whole row groups at once, and keeps all that it has read of the file.
            with source.open() as handle, pq.ParquetFile(handle, buffer_size=2**20, pre_buffer=False) as file:
                own = [name for name in wanted.names if name in file.schema_arrow.names]
                total = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
                fit = size * file.metadata.num_rows // max(total, 1)
                for batch in file.iter_batches(max(1, min(rows, fit)), columns=own):
                    cells = [
                        batch.column(field.name).cast(field.type)
                        if field.name in own and field.name not in parts
                        else pa.array([parts.get(field.name)] * len(batch), field.type)
                        for field in wanted
                    ]
                    yield pa.table(cells, schema=wanted)


def text_array(blobs: Sequence[bytes | None], kind: Any) -> Any:
    """Return blobs as an array of a type of text or bytes."""
    cells = pa.array(blobs, pa.large_binary())
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:  # bytes of a rejected blob, which no text has
        return pa.array([None if blob is None else blob.decode("utf-8", "replace") for blob in blobs], kind)


def table_of_rows(rows: Sequence[Mapping[str, Any]], column: str, blobs: Sequence[bytes | None], schema: Any) -> pa.Table:
    """Return objects as a table, of a schema if there is one already, with their blobs as the last column."""
    names = [*dict.fromkeys(name for row in rows for name in row)] if schema is None else schema.names[:-1]
    for row in rows:
        if further := row.keys() - names:
            raise ArgumentError("path", "lines without fields that the first lines lack, to become Parquet", min(further))
    try:
        columns = {
            name: pa.array([row.get(name) for row in rows], None if schema is None else schema.field(name).type) for name in names
        }
    except (pa.ArrowException, OverflowError) as error:
        what = "lines whose fields have one type each, to become Parquet"
        raise ArgumentError("path", what, "others", hint=reason_of(error)) from None
    columns = {name: cells.cast(pa.string()) if pa.types.is_null(cells.type) else cells for name, cells in columns.items()}
    return pa.table({**columns, column: text_array(blobs, pa.string())})


def _format(long: bool, texts: Sequence[str]) -> dict[str, Any]:
    """Return the options of the file format."""
    deltas = {"row": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"} if long else None
    return {"compression": "zstd", "use_dictionary": [*texts] or False, "column_encoding": deltas}
