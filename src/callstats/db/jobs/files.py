"""CallFile: calls in files, summarized, reduced into another file, or exported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from callstats import kernels
from callstats.adapters.files import PAGE_BYTES, PAGE_ROWS, file_text, open_reader, open_writer, reduce_page
from callstats.call import Call, Key
from callstats.db.jobs.base import CallJobs, Job
from callstats.db.jobs.changes import UnseenMetrics
from callstats.db.jobs.save import read_known
from callstats.db.query import CALL_COLUMNS, Names, missing_column, present_columns
from callstats.db.results import ReduceResult, Reject
from callstats.errors import ArgumentError, DatabaseError, suggest_keywords
from callstats.rule import KEEP_PEAKS, How, Missing, Rule, make_rule
from callstats.series import StatSeries

if TYPE_CHECKING:
    from callstats.adapters.files import Page, Reader


class CallFile(CallJobs):
    """A file of calls; made by `callstats.db.open_file`."""

    def __init__(self, path: str | os.PathLike[str], **names: str | None) -> None:
        self._path = os.fspath(path)
        super().__init__(self, Names(**{**names, "table": self._path}))  # type: ignore[arg-type]

    @suggest_keywords
    def reduce(
        self,
        output: str | os.PathLike[str],
        rule: Rule | int | None = 240,
        *,
        how: How | Mapping[str, How] | None = None,
        missing: Missing | None = None,
        max_bytes: int | None = None,
        counts: bool = True,
        batch_size: int = PAGE_ROWS,
        batch_bytes: int = PAGE_BYTES,
        threads: int = 1,
        known: str | os.PathLike[str] | None = None,
        progress: Callable[[ReduceResult], object] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> ReduceResult:
        """Write a new file with the histograms reduced and all else as it is, and return a `ReduceResult`.

        Parameters
        ----------
        output : str or path
            The file: JSON lines or Parquet, by its name, or ``-`` for standard output. It appears once it is complete.
        rule, how, missing, max_bytes, counts, batch_size, batch_bytes, threads, known, progress, on_reject, stop
            As for `CallTable.reduce`. Rejected histograms are in the new file as they are. Their key is their number, counted
            from 1, where they have no other.
        """
        rule = make_rule(rule, how, missing, max_bytes).with_default(KEEP_PEAKS)
        return _FileReduceJob(locals()).run(self, self._names)

    @contextmanager
    def table(self, names: Names, *, where: str | None = None) -> Iterator[FileSession]:
        """Open the file, as `callstats.db.engine.Database.table` does a table."""
        if where is not None:
            raise ArgumentError("where", "None for a file", where)
        with open_reader(self._path, names.column) as reader:
            yield FileSession(reader, names)


class FileSession:
    """A file that is read from its start to its end, with what jobs need of a `callstats.db.query.TableSession`."""

    def __init__(self, reader: Reader, names: Names) -> None:
        self.reader, self.names = reader, names
        if names.key != Names().key:
            self.check_columns(key=names.key)

    def check_columns(self, **asked: str | None) -> None:
        """Raise unless the file has the columns, each given by its parameter."""
        for parameter, name in asked.items():
            if name not in self.reader.columns:
                table = self.names.table
                raise missing_column(parameter, name, table, self.reader.columns, file=file_text(table))

    def present(self, by: str | None) -> list[str | None]:
        """Return the columns of group, status and times, None for those that the file lacks."""
        return present_columns(self.names, by, self.check_columns, self.reader.columns.__contains__)

    @property
    def is_bare(self) -> bool:
        """Whether the file has histograms and nothing else."""
        return not {*self.reader.columns} - {self.names.column}

    def count_without_key(self, *_conditions: object) -> int:
        """Return 0: a call without a key has its number."""
        return 0

    def pages(self, rows: int, size: int, columns: list[str | None] | None = None) -> Iterator[tuple[list[Key], Page]]:
        """Yield pages of rows with their keys."""
        wanted = None if columns is None else [self.names.key, *columns]
        done = 0
        for page in self.reader.pages(rows, size, wanted):
            keys = page.values(self.names.key)
            yield [done + index if key is None else key for index, key in enumerate(keys, 1)], page
            done += len(keys)

    def scan(
        self, columns: Any = (), *_conditions: object, each_page: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows: key, blob, why there is no blob, and the given columns."""
        for keys, page in self.pages(PAGE_ROWS, PAGE_BYTES, [*columns]):
            each_page()
            faults = (page.faults.get(index) for index in range(len(keys)))
            yield from zip(keys, page.blobs, faults, *map(page.values, columns), strict=True)

    def kind_fault(self, _blob: object, fault: str | None) -> str | None:
        """Return why a row has no blob."""
        return fault

    def kept(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return by what `calls` knows a row: a file is read once."""
        return row

    def calls(self, *, by: str | None, key: tuple[Any, ...]) -> Iterator[Call]:  # noqa: ARG002 - as a table needs it
        """Yield the call of a row that `scan` gave."""
        number, blob, _, name, *values = key
        fields = dict(zip(CALL_COLUMNS, values, strict=True))
        yield Call(key=number, series=StatSeries.from_json(blob), name=name, **fields)


class _FileReduceJob(Job):
    """The job of `CallFile.reduce`."""

    def run(self, source: CallFile, names: Names) -> ReduceResult:
        """Reduce a file, up to its end or to what stops the job."""
        asked = self.arguments
        if asked.known is not None:
            self.known_texts = read_known(asked.known)
        self._unseen = UnseenMetrics(asked.rule)
        stopped = None
        self._total = None
        try:
            with (
                source.table(names) as session,
                open_writer(os.fspath(asked.output), "output", key=names.key, column=names.column) as file,
            ):
                self._total = session.reader.total
                for keys, page in session.pages(asked.batch_size, asked.batch_bytes):
                    self.check_stop()
                    file.add_page(page, self._reduced(keys, page))
                    if asked.progress is not None:
                        asked.progress(self._result())
        except DatabaseError as error:
            stopped = str(error)
        return self._result(stopped)

    def _reduced(self, keys: list[Key], page: Page) -> dict[int, bytes]:
        """Return the new blobs of a page, by index."""
        asked, blobs = self.arguments, page.blobs
        changed, reasons, kept = reduce_page(page, asked.rule, counts=asked.counts, threads=asked.threads)
        self._unseen.look_for(filter(None, blobs))
        for index, reason in sorted(reasons.items()):
            self.reject(keys[index], reason, text=blobs[index] or b"")
        self.counts.update(
            bytes_read=sum(map(len, filter(None, blobs))),
            changed=len(changed),
            kept=kept,
            unchanged=len(blobs) - len(changed) - kept - len(reasons),
            bytes_before=sum(len(blobs[index] or b"") for index in changed),
            bytes_after=sum(map(len, changed.values())),
        )
        return changed

    def _result(self, stopped: str | None = None) -> ReduceResult:
        return ReduceResult(
            rows=sum(self.counts[end] for end in ("changed", "kept", "unchanged")) + self.rejected + self.known,
            known=self.known,
            stopped=stopped,
            total=self._total,
            backend=kernels.active.BACKEND,
            unknown_metrics=self._unseen.names(),
            **self.fields(),
        )
