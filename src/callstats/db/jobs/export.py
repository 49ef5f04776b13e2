"""The export job: a table's histograms as a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from callstats.batch import StatBatch
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import Names, TableSession
from callstats.db.results import ExportResult
from callstats.errors import CallstatsError, DatabaseError, DecodeError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from callstats.adapters import parquet

GROUP_BYTES = 32 * 2**20
"""Bytes of stored text in a row group."""
GROUP_CALLS = 2**16
"""Calls in a row group."""


class ExportJob(Job):
    """The job of `CallTable.export`, and the row group in the making."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.written = self.bytes_read = self.size = 0
        self.group: list[tuple[Key, Any, list[str | None]]] = []
        """Calls: key, histogram as series or text, and further columns."""

    def run(self, database: Database, names: Names) -> ExportResult:
        """Write the file, or none if something stops the job."""
        from callstats.adapters import parquet

        path, long, others = self.arguments.path, self.arguments.long, self.arguments.others
        try:
            with (
                database.session() as (connection, dialect),
                parquet.Writer(path, key=names.key, column=names.column, long=long, others=others) as file,
            ):
                session = TableSession(connection, dialect, names, where=self.arguments.where)
                for name in others:
                    session.check_columns(others=name)
                self.reject_nulls(session.count_without_key())
                for key, blob, kind, *values in session.scan(others, each_page=lambda: self._start_page(file)):
                    self.bytes_read += len(blob or b"")
                    if (fault := session.kind_fault(blob, kind)) is not None:
                        self.reject(key, fault)
                        continue
                    try:
                        stats = StatSeries.from_json(blob) if long else _checked(blob)
                    except CallstatsError as error:
                        self.reject(key, str(error))
                    else:
                        self.group.append((key, stats, [_text(value) for value in values]))
                        self.size += len(blob or b"")
                self._flush(file)
        except DatabaseError as error:
            return self._result(stopped=str(error))
        return self._result(bytes_written=file.size)

    def _start_page(self, file: parquet.Writer) -> None:
        """Write the row group if it is large enough."""
        if self.size >= GROUP_BYTES or len(self.group) >= GROUP_CALLS:
            self._flush(file)
        self.check_stop()

    def _flush(self, file: parquet.Writer) -> None:
        """Write the row group."""
        if self.group:
            keys, stats, values = zip(*self.group, strict=True)
            file.add(keys, StatBatch(stats) if file.long else stats, values)
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
