"""The export job: a table's histograms as a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from callstats.batch import StatBatch
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.query import Names, TableSession
from callstats.db.results import ExportResult, Reject, Rejects, Stop
from callstats.errors import CallstatsError, DatabaseError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from callstats.adapters import parquet

GROUP_BYTES = 32 * 2**20
"""Bytes of stored text in a row group."""
GROUP_CALLS = 2**16
"""Calls in a row group."""


@dataclass(kw_only=True)
class ExportJob:
    """The options of `CallTable.export`, and the row group in the making."""

    path: str | os.PathLike[str]
    long: bool
    where: str | None
    others: Sequence[str]
    on_reject: Callable[[Reject], object] | None
    stop: Stop

    keys: list[Key] = field(default_factory=list)
    texts: list[bytes | None] = field(default_factory=list)
    series: list[StatSeries] = field(default_factory=list)
    values: list[list[str | None]] = field(default_factory=list)
    size: int = 0
    written: int = 0
    bytes_read: int = 0

    def run(self, database: Database, names: Names) -> ExportResult:
        """Write the file, or none if something stops the job."""
        from callstats.adapters import parquet

        self.rejects = Rejects(self.on_reject)
        try:
            with (
                database.session() as (connection, dialect),
                parquet.Writer(self.path, key=names.key, column=names.column, long=self.long, others=self.others) as file,
            ):
                session = TableSession(connection, dialect, names, where=self.where)
                for name in self.others:
                    session.check_columns(others=name)
                if count := session.count_without_key():
                    self.rejects.add(None, f"rows whose key is NULL, after which no page can start: {count}", count)
                for key, blob, kind, *values in session.scan(self.others, stop=self.stop, between=lambda: self._flush(file)):
                    self._add(key, blob, values, session.kind_fault(blob, kind))
                self._flush(file, at_end=True)
        except DatabaseError as error:
            return self._result(stopped=str(error))
        return self._result(bytes_written=file.size)

    def _add(self, key: Key, blob: bytes | None, values: Sequence[object], fault: str | None) -> None:
        """Add a row to the row group."""
        self.bytes_read += len(blob or b"")
        try:
            if fault is not None:
                raise CallstatsError(fault)
            if self.long:
                self.series.append(StatSeries.from_json(blob))
            else:
                if blob is not None:
                    blob.decode()
                self.texts.append(blob)
        except UnicodeDecodeError as error:
            self.rejects.add(key, f"byte {error.start}: expected UTF-8")
        except CallstatsError as error:
            self.rejects.add(key, str(error))
        else:
            self.keys.append(key)
            self.values.append([_text(value) for value in values])
            self.size += len(blob or b"")

    def _flush(self, file: parquet.Writer, *, at_end: bool = False) -> None:
        """Write the row group if it is large enough, or at the end."""
        is_full = self.size >= GROUP_BYTES or len(self.keys) >= GROUP_CALLS
        if not self.keys or not (is_full or at_end):
            return
        file.add(self.keys, StatBatch(self.series) if file.long else self.texts, self.values)
        self.written += len(self.keys)
        self.keys, self.texts, self.series, self.values, self.size = [], [], [], [], 0

    def _result(self, *, bytes_written: int = 0, stopped: str | None = None) -> ExportResult:
        return ExportResult(
            rows=self.written + len(self.keys) + self.rejects.count,
            stopped=stopped,
            written=0 if stopped else self.written,
            bytes_read=self.bytes_read,
            bytes_written=bytes_written,
            **self.rejects.fields(),
        )


def _text(value: object) -> str | None:
    """Return a column's value as text that encodes to UTF-8."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, date):
        return value.isoformat()
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()
