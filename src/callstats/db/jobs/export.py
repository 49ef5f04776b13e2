"""The export job: a table's histograms as a file of Parquet or of OpenMetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from callstats.batch import StatBatch
from callstats.call import Key, duration_of
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import Names, TableSession
from callstats.db.results import ExportResult
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DecodeError
from callstats.series import StatSeries
from callstats.stats.call import usage_of

if TYPE_CHECKING:
    from callstats.adapters import openmetrics, parquet

GROUP_BYTES = 32 * 2**20
"""Bytes of stored text in a row group."""
GROUP_CALLS = 2**16
"""Calls in a row group."""


class ExportJob(Job):
    """The job of `CallTable.export`, and the row group in the making."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.written = self.bytes_read = self.size = 0
        self.group: list[tuple[Key, Any, Any]] = []
        """Calls: key, histogram as series or text, and further columns; for OpenMetrics, name and usage."""
        if self.arguments.openmetrics and (self.arguments.long or self.arguments.others):
            raise ArgumentError("openmetrics", "given without long and others, which are for Parquet", True)

    def run(self, database: Database, names: Names) -> ExportResult:
        """Write the file, or none if something stops the job."""
        series = self.arguments.openmetrics or self.arguments.long
        columns: Sequence[str | None] = self.arguments.others
        try:
            with database.session() as (connection, dialect), self._writer(names) as file:
                session = TableSession(connection, dialect, names, where=self.arguments.where)
                for name in columns:
                    session.check_columns(others=name)
                if self.arguments.openmetrics:
                    columns = session.present(names.group_column)
                self.reject_nulls(session.count_without_key())
                for key, blob, kind, *values in session.scan(columns, each_page=lambda: self._start_page(file)):
                    self.bytes_read += len(blob or b"")
                    if (fault := session.kind_fault(blob, kind)) is not None:
                        self.reject(key, fault)
                        continue
                    try:
                        stats = StatSeries.from_json(blob) if series else _checked(blob)
                    except CallstatsError as error:
                        self.reject(key, str(error))
                    else:
                        self.group.append((key, stats, self._others(stats, values)))
                        self.size += len(blob or b"")
                self._flush(file)
        except DatabaseError as error:
            return self._result(stopped=str(error))
        return self._result(bytes_written=file.size)

    def _writer(self, names: Names) -> parquet.Writer | openmetrics.Writer:
        if self.arguments.openmetrics:
            from callstats.adapters import openmetrics

            return openmetrics.Writer(self.arguments.path)
        from callstats.adapters import parquet

        long, others = self.arguments.long, self.arguments.others
        return parquet.Writer(self.arguments.path, key=names.key, column=names.column, long=long, others=others)

    def _others(self, stats: Any, values: Sequence[Any]) -> Any:
        """Return what is written of a call beside its key and its histogram."""
        if self.arguments.openmetrics:
            name, _, _, start, end = values
            return _text(name), usage_of(stats, duration_of(start, end))
        return [_text(value) for value in values]

    def _start_page(self, file: parquet.Writer | openmetrics.Writer) -> None:
        """Write the row group if it is large enough."""
        if self.size >= GROUP_BYTES or len(self.group) >= GROUP_CALLS:
            self._flush(file)
        self.check_stop()

    def _flush(self, file: parquet.Writer | openmetrics.Writer) -> None:
        """Write the row group."""
        if self.group:
            keys, stats, values = zip(*self.group, strict=True)
            cells: Any = StatBatch(stats) if self.arguments.long else stats
            file.add(keys, cells, values)
        self.written += len(self.group)
        self.group, self.size = [], 0

    def _result(self, *, bytes_written: int = 0, stopped: str | None = None) -> ExportResult:
        return ExportResult(
            rows=self.written + len(self.group) + self.rejected,
            stopped=stopped,
            written=0 if stopped else self.written,
            bytes_read=self.bytes_read,
            bytes_written=bytes_written,
            **self.fields(),
        )


def _checked(blob: bytes | None) -> bytes | None:
    """Return a blob. Raise if it is no UTF-8."""
    try:
        (blob or b"").decode()
    except UnicodeDecodeError as error:
        raise DecodeError("expected UTF-8", offset=error.start) from None
    return blob


def _text(value: object) -> str | None:
    """Return a column's value as text that encodes to UTF-8."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, date):
        return value.isoformat()
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()
