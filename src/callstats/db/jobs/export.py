"""The export job: a table's histograms as a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from callstats.batch import StatBatch
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import Names, TableSession
from callstats.db.results import ExportResult
from callstats.errors import CallstatsError, DatabaseError
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
        self.written = self.bytes_read = 0
        self._start_group()

    def _start_group(self) -> None:
        self.keys: list[Key] = []
        self.texts: list[bytes | None] = []
        self.series: list[StatSeries] = []
        self.values: list[list[str | None]] = []
        self.size = 0

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
                    self._add(key, blob, values, session.kind_fault(blob, kind))
                self._flush(file)
        except DatabaseError as error:
            return self._result(stopped=str(error))
        return self._result(bytes_written=file.size)

    def _add(self, key: Key, blob: bytes | None, values: Sequence[object], fault: str | None) -> None:
        """Add a row to the row group."""
        self.bytes_read += len(blob or b"")
        if fault is not None:
            return self.reject(key, fault)
        try:
            if self.arguments.long:
                self.series.append(StatSeries.from_json(blob))
            else:
                if blob is not None:
                    blob.decode()
                self.texts.append(blob)
        except UnicodeDecodeError as error:
            self.reject(key, f"byte {error.start}: expected UTF-8")
        except CallstatsError as error:
            self.reject(key, str(error))
        else:
            self.keys.append(key)
            self.values.append([_text(value) for value in values])
            self.size += len(blob or b"")

    def _start_page(self, file: parquet.Writer) -> None:
        """Write the row group if it is large enough."""
        if self.size >= GROUP_BYTES or len(self.keys) >= GROUP_CALLS:
            self._flush(file)
        self.check_stop()

    def _flush(self, file: parquet.Writer) -> None:
        """Write the row group."""
        if self.keys:
            file.add(self.keys, StatBatch(self.series) if file.long else self.texts, self.values)
        self.written += len(self.keys)
        self._start_group()

    def _result(self, *, bytes_written: int = 0, stopped: str | None = None) -> ExportResult:
        return ExportResult(
            rows=self.written + len(self.keys) + self.rejected,
            stopped=stopped,
            written=0 if stopped else self.written,
            bytes_read=self.bytes_read,
            bytes_written=bytes_written,
            **self.fields(),
        )


def _text(value: object) -> str | None:
    """Return a column's value as text that encodes to UTF-8."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, date):
        return value.isoformat()
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()
