"""Series and stored blobs in Parquet files, compressed with zstd."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from callstats._extras import needs

with needs("adapters.parquet", "arrow"):
    import pyarrow as pa
    import pyarrow.parquet as pq

from callstats.adapters._file import NewFile
from callstats.adapters.arrow import read_long, write_long
from callstats.batch import StatBatch
from callstats.errors import ArgumentError
from callstats.series import StatSeries

GROUP_ROWS = 2**20
"""The max rows of a row group."""


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
    pq.write_table(write_long(x, calls), path, row_group_size=GROUP_ROWS, **_format(long=True))


class Writer(NewFile):
    """A writer of a new file, with a row group or more for each `add`. The file gets its name when it is complete.

    With `long` it writes series, with the columns of `write_long`, instead of blobs. `others` are further columns of text.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: str = "call",
        column: str = "stats",
        long: bool = False,
        others: Sequence[str] = (),
    ) -> None:
        self.key, self.column, self.long, self.others = key, column, long, tuple(others)
        names = [*(write_long(StatBatch([])).column_names if long else (key, column)), *others]
        for name in others:
            if names.count(name) > 1:
                raise ArgumentError("others", "names of further columns", name, hint="the file has a column of that name")
        super().__init__(path)
        self._kind: Any = None
        self._writer: Any = None

    def add(
        self, calls: Sequence[Any], cells: StatBatch | Sequence[bytes | None], others: Sequence[Sequence[str | None]] = ()
    ) -> None:
        """Write calls: their keys, of the type of the file's first key; their series or blobs; their further columns."""
        keys = self._keys(calls)
        extra = {name: pa.array([row[i] for row in others], pa.string()) for i, name in enumerate(self.others)}
        if isinstance(cells, StatBatch):
            table = write_long(cells)
            indexes = table["call"]
            table = table.set_column(0, "call", keys.take(indexes))
            # Plain text, since Parquet makes a dictionary for each row group.
            table = table.set_column(3, "metric", table["metric"].cast(pa.string()))
            for name, array in extra.items():
                table = table.append_column(name, array.take(indexes))
        else:
            table = pa.table({self.key: keys, **extra, self.column: pa.array(cells, pa.binary()).cast(pa.string())})
        if self._writer is None:
            try:
                self._writer = pq.ParquetWriter(self.part, table.schema, **_format(self.long, self.key, self.others))
            except OSError as error:
                raise self.not_writable(error) from None
        self._writer.write_table(table, row_group_size=GROUP_ROWS)

    def close(self, *, complete: bool) -> None:
        """Close the file. A complete file has columns, even without calls."""
        if complete and self._writer is None:
            self.add([], StatBatch([]) if self.long else [])
        if self._writer is not None:
            self._writer.close()

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


def _format(long: bool, key: str = "", others: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options of the file format."""
    deltas = {"row": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"} if long else None
    columns = ("call", "metric", "count") if long else (key,)
    return {"compression": "zstd", "use_dictionary": [*columns, *others], "column_encoding": deltas}
