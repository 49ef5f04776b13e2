"""The export job: a table's histograms as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callstats.adapters.files import STANDARD, open_writer
from callstats.batch import StatBatch
from callstats.call import Key, duration_of
from callstats.db.jobs.base import Job
from callstats.db.query import Names
from callstats.db.results import ExportResult
from callstats.errors import ArgumentError, CallstatsError, DatabaseError, DecodeError
from callstats.series import StatSeries
from callstats.stats.call import usage_of

if TYPE_CHECKING:
    from callstats.db.jobs.base import Calls


class ExportJob(Job):
    """The job of `CallTable.export`, and the row group in the making."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.written = self.bytes_read = 0
        self.page: list[tuple[Key, Any, Any]] = []
        """Calls: key, histogram as series or text, and further columns; for OpenMetrics, name and usage."""
        if self.arguments.openmetrics and (self.arguments.long or self.arguments.others):
            raise ArgumentError("openmetrics", "given without long and others, which are for other files", True)

    def run(self, database: Calls, names: Names) -> ExportResult:
        """Write the file, or none if something stops the job."""
        asked, path = self.arguments, os.fspath(self.arguments.path)
        form = {"long": asked.long, "openmetrics": asked.openmetrics, "others": asked.others}
        series = asked.openmetrics or asked.long
        columns: Sequence[str | None] = asked.others
        try:
            with (
                database.table(names, where=asked.where) as session,
                open_writer(path, key=names.key, column=names.column, **form) as file,
            ):
                for name in columns:
                    session.check_columns(others=name)
                if asked.openmetrics:
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
                        self.page.append((key, stats, self._others(stats, values)))
                self._flush(file)
        except DatabaseError as error:
            return self._result(stopped=str(error))
        return self._result(bytes_written=0 if path == STANDARD else Path(path).stat().st_size)

    def _others(self, stats: Any, values: Sequence[Any]) -> Any:
        """Return what is written of a call beside its key and its histogram."""
        if self.arguments.openmetrics:
            name, _, _, start, end = values
            return _text(name), usage_of(stats, duration_of(start, end))
        return [_text(value) for value in values]

    def _start_page(self, file: Any) -> None:
        self._flush(file)
        self.check_stop()

    def _flush(self, file: Any) -> None:
        """Write a page of rows."""
        if self.page:
            keys, stats, values = zip(*self.page, strict=True)
            cells: Any = StatBatch(stats) if self.arguments.long else stats
            file.add(keys, cells, values)
        self.written += len(self.page)
        self.page = []

    def _result(self, *, bytes_written: int = 0, stopped: str | None = None) -> ExportResult:
        return ExportResult(
            rows=self.written + len(self.page) + self.rejected,
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
