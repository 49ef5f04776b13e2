"""Series and stored histograms in Parquet files, compressed with zstd."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from callstats.adapters._optional import needs
from callstats.adapters.arrow._nested import read_long, write_long
from callstats.batch import StatBatch
from callstats.errors import CallstatsError, shorten_repr
from callstats.series import StatSeries

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

GROUP_ROWS = 2**20
"""The most rows of a row group."""


def read(path: str | os.PathLike[str]) -> tuple[pa.Array, StatBatch]:
    """Calls and their series from a file in long form, as `callstats.adapters.arrow.read_long` takes it from a table.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Array, StatBatch
        The calls in the order of their first rows, and the series of each.

    Raises
    ------
    SeriesError
        For what no series can hold.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(StatSeries([0], {"x": [7]}), Path(folder, "x.parquet"), calls=["a"])
    ...     calls, batch = read(Path(folder, "x.parquet"))
    >>> calls.to_pylist(), batch[0]["x"].tolist()
    (['a'], [7])
    """
    with needs("adapters.parquet.read", "pyarrow", "arrow"):
        import pyarrow.parquet as pq
    return read_long(pq.read_table(path))


def write(x: StatSeries | StatBatch, path: str | os.PathLike[str], calls: Any = None) -> None:
    """Series as a file in long form, as `callstats.adapters.arrow.write_long` makes a table of them.

    Parameters
    ----------
    x : StatSeries or StatBatch
        A series is a batch of one.
    path : str or path
        Replaced if it is there.
    calls : array-like of Arrow, optional
        A key for each series; by default its number.

    Examples
    --------
    See `read`.
    """
    with needs("adapters.parquet.write", "pyarrow", "arrow"):
        import pyarrow.parquet as pq
    table = write_long(x, calls)
    pq.write_table(table, path, row_group_size=GROUP_ROWS, **_form(long=True))


class Writer:
    """A new file in the making, a row group or more for each `add`; it gets its name when it is whole.

    Parameters
    ----------
    path : str or path
        Where it is to be. A file that is there is not replaced.
    key, column : str
        The columns of the calls and of the stored text.
    long : bool
        Series in long form instead of stored text; their columns have the names of `write_long`.
    others : sequence of str
        Further columns of text.

    Raises
    ------
    CallstatsError
        When the path is taken or can't be written.
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
        with needs("adapters.parquet.Writer", "pyarrow", "arrow"):
            import pyarrow.parquet  # noqa: F401 - only whether it is there
        self.path, self.key, self.column, self.long, self.others = Path(path), key, column, long, tuple(others)
        taken = {*_LONG_NAMES} if long else {key, column}
        for name in others:
            if name in taken:
                raise CallstatsError(f"expected columns with names of their own: the file would have two called {name!r}")
            taken.add(name)
        self.size = 0
        """Bytes of the whole file."""
        if self.path.exists():
            raise CallstatsError(f"expected the path of a new file: {str(self.path)!r} is there")
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._kind: Any = None
        self._writer: Any = None

    def add(
        self, calls: Sequence[Any], cells: StatBatch | Sequence[bytes | None], others: Sequence[Sequence[str | None]] = ()
    ) -> None:
        """Write these calls.

        Parameters
        ----------
        calls : sequence
            Their keys, of the type that the first of the file has.
        cells : StatBatch, or sequence of bytes or None
            Their series, for the long form; else their stored text, which is written as it is.
        others : sequence of sequences of str or None
            Of each call what its further columns hold.

        Raises
        ------
        CallstatsError
            For a key of another type.
        """
        import pyarrow as pa

        keys = self._keys(calls)
        also = {name: pa.array([row[i] for row in others], pa.string()) for i, name in enumerate(self.others)}
        if isinstance(cells, StatBatch):
            table = write_long(cells, pa.array(range(len(keys)), pa.int64()))
            places = table["call"]
            table = table.set_column(0, "call", keys.take(places)).cast(_long_schema(keys.type))
            for name, array in also.items():
                table = table.append_column(name, array.take(places))
        else:
            table = pa.table({self.key: keys, **also, self.column: pa.array(cells, pa.binary()).cast(pa.string())})
        self._opened(table.schema).write_table(table, row_group_size=GROUP_ROWS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._writer is None:
            self.add([], StatBatch([]) if self.long else [])
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            self.size = self._part.stat().st_size
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)

    def _opened(self, schema: Any) -> Any:
        import pyarrow.parquet as pq

        if self._writer is None:
            try:
                self._writer = pq.ParquetWriter(self._part, schema, **_form(self.long, self.key, self.others))
            except OSError as error:
                raise CallstatsError(f"can't write {str(self._part)!r}: {error.strerror or error}") from None
        return self._writer

    def _keys(self, calls: Sequence[Any]) -> Any:
        """Keys as an array of the type that the first has."""
        import pyarrow as pa

        if self._kind is None:
            kinds = {int: pa.int64(), bytes: pa.binary(), float: pa.float64()}
            self._kind = next((kinds.get(type(call), pa.string()) for call in calls), pa.string())
        if self._kind == pa.string():
            calls = [call if isinstance(call, (str, int, float, bytes)) else str(call) for call in calls]
        try:
            return pa.array(calls, self._kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError, OverflowError):
            odd = next(call for call in calls if not self._holds(call))
            raise CallstatsError(
                f"expected keys that fit a column of {self._kind}, as the first does, got {shorten_repr(odd)}"
            ) from None

    def _holds(self, call: Any) -> bool:
        import pyarrow as pa

        try:
            pa.array([call], self._kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError, OverflowError):
            return False
        return True


_LONG_NAMES = ("call", "row", "timestamp", "metric", "value", "count")


def _long_schema(key: Any) -> Any:
    """The columns of the long form, the metrics as plain text: each row group has dictionaries of its own anyway."""
    import pyarrow as pa

    kinds = key, pa.int64(), pa.timestamp("ns", "UTC"), pa.string(), pa.uint64(), pa.int64()
    return pa.schema(zip(_LONG_NAMES, kinds, strict=True))


def _form(long: bool, key: str = "call", others: Sequence[str] = ()) -> dict[str, Any]:
    """How a file is written."""
    if long:
        deltas = {"row": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"}
        return {"compression": "zstd", "use_dictionary": ["call", "metric", "count", *others], "column_encoding": deltas}
    return {"compression": "zstd", "use_dictionary": [key, *others]}
