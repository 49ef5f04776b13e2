"""The restore job: saved blobs are put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from callstats.adapters.files import batches_of, reason_of
from callstats.call import Key
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.jobs.batches import BatchSession, same_value
from callstats.db.jobs.save import SavedBlob, SavedFile
from callstats.db.jobs.worker import Attempts
from callstats.db.query import Names
from callstats.db.results import FIRST_REJECTS, RestoreResult, RolledBackError
from callstats.errors import ArgumentError, DatabaseError

_UNDONE = "the database keeps another text: something, such as a trigger or a rule, undoes the change"
_BATCH_ROWS = 1000
_BATCH_BYTES = 32 * 2**20
_RETRIES = 10


class RestoreJob(Job):
    """The job of `CallTable.restore`, and the counts of its result."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.restored = self.unknown = 0
        self.unknown_keys: list[Key] = []
        self.file = SavedFile(Path(self.arguments.path))

    def run(self, database: Database, names: Names) -> RestoreResult:
        """Check the whole file, then put its blobs back."""
        path = Path(self.arguments.path)
        stopped = None
        try:
            with path.open("rb") as lines:
                largest = max(self.file.read(lines), key=lambda saved: len(saved.blob), default=None)
                lines.seek(0)
                with database.session() as (connection, dialect):
                    self.session = BatchSession(connection, dialect, names)
                    if largest is not None:
                        dialect.check_size(largest.key, names.column, len(largest.blob))
                    self.attempts = Attempts(self, self.session, _RETRIES)
                    for batch in batches_of(
                        self.file.read(lines, check=False), lambda saved: len(saved.blob), _BATCH_ROWS, _BATCH_BYTES
                    ):
                        while batch:
                            self.check_stop()
                            done = self.attempts.attempt(partial(self._put_back, batch))
                            batch = batch[done:]
                            if self.arguments.progress is not None:
                                self.arguments.progress(self._result(None))
        except OSError as error:
            raise ArgumentError("path", "a file that can be read", str(path), hint=reason_of(error)) from None
        except DatabaseError as error:
            stopped = str(error)
        return self._result(stopped)

    def _put_back(self, batch: Sequence[SavedBlob]) -> int:
        """Put back the beginning of a batch, a smaller one after a server's time limit. Return its length."""
        some = batch[: max(_BATCH_ROWS // self.attempts.shrink, 1)]
        try:
            missing, rejected = self._write(some)
        except RolledBackError as error:  # by a trigger on one of the rows: find it
            if len(some) > 1:
                return self._put_back(some[: len(some) // 2])
            missing, rejected = [], {some[0].key: str(error)}
        self.restored += len(some) - len(missing) - len(rejected)
        self.unknown += len(missing)
        self.unknown_keys += missing[: FIRST_REJECTS - len(self.unknown_keys)]
        for key, reason in rejected.items():
            self.reject(key, reason)
        return len(some)

    def _write(self, batch: Sequence[SavedBlob]) -> tuple[list[Key], dict[Key, str]]:
        """Write a batch. Return the keys that no row has, and the reasons for rejected rows."""
        session = self.session
        with session.transaction(write=True):
            missing, rejected = session.write(batch, "saved")
            if session.may_undo or missing:
                last = {saved.key: saved.blob for saved in batch if saved.key not in rejected}  # of one key the last line counts
                now = session.differing(last)
                rejected |= {key: _UNDONE for key in now if not self._is_stored(last[key], now[key])}
        return missing, rejected

    def _is_stored(self, blob: bytes, now: bytes | None) -> bool:
        """Return whether a row has its saved blob again. JSON has no empty text."""
        return (now or b"") == blob or (self.session.dialect.rewrites and same_value(now, blob))

    def _result(self, stopped: str | None) -> RestoreResult:
        return RestoreResult(
            rows=self.restored + self.unknown + self.rejected,
            stopped=stopped,
            restored=self.restored,
            unknown=self.unknown,
            unknown_keys=tuple(self.unknown_keys),
            torn=self.file.torn,
            **self.fields(),
        )
