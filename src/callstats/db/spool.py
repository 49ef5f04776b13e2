"""The spool: calls that the database could not take, as lines of JSON in a file, until they are imported."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from callstats._files import sync_folder, write_all
from callstats._json import Number, is_text, json_text, parsed
from callstats.call import Call
from callstats.db.dialects.sqlite import file_of
from callstats.db.engine import Database
from callstats.db.jobs.base import Job
from callstats.db.query import Names
from callstats.db.results import RestoreResult
from callstats.db.rows import finish_calls
from callstats.errors import ArgumentError, BudgetError, CallstatsError, DatabaseError, DecodeError
from callstats.series import StatSeries

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from callstats.db.table import CallTable

Done = TypeVar("Done")

_SPOOL_NAME = "spool.jsonl"
_SPOOL_MARK = b'{"callstats":"call",'
_FIELDS: dict[str, type] = dict.fromkeys(
    ("key", "name", "status", "created_at", "started_at", "completed_at", "command", "host", "error"), str
)
_FIELDS |= {"exit_code": int, "pid": int}
_LOOK_SECONDS = 0.05
_FIRST_PAUSE, _MAX_PAUSE = 0.1, 1.0


def keep_call(table: CallTable, url: URL, call: Call, *, seconds: float, stop: Callable[[], bool]) -> str | None:
    """Store a call that has ended, with retries for so long; else append it to the spool.

    Return None once it is stored, else where it is and why. A call that not even the spool takes is in the text.
    """
    deadline, pause = monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            within(deadline - monotonic(), lambda: table.finish([call]), stop)
        except DatabaseError as error:
            reason = str(error)
            if monotonic() + pause < deadline and not stop():
                sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
                continue
        except Exception as error:  # noqa: BLE001 - whatever it is, the call must be kept
            reason = str(error) or type(error).__name__
        else:
            return None
        return f"{_append(url, call)}, for callstats import: {reason}"


def within(seconds: float, work: Callable[[], Done], stop: Callable[[], bool] = lambda: False) -> Done:
    """Do work that may hang, such as a connection to a server that is gone. A DatabaseError says that it takes too long.

    So it does when `stop` becomes true.
    """
    outcome: Future[Done] = Future()

    def attempt() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            outcome.set_exception(error)

    threading.Thread(target=attempt, name="callstats-store", daemon=True).start()  # one of a pool would be waited for
    began = monotonic()
    while not wait([outcome], _LOOK_SECONDS).done and monotonic() - began < seconds and not stop():
        pass
    if not outcome.done():
        raise DatabaseError(f"the database did not answer within {monotonic() - began:.0f} s")
    return outcome.result()


def spool_paths(url: URL) -> Iterator[Path]:
    """Yield the files that may take a call: beside an SQLite file, and in the user's folder for state."""
    if url.get_backend_name() == "sqlite" and (file := file_of(url)) is not None:
        yield Path(f"{file}.spool.jsonl")
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    yield Path(state, "callstats", _SPOOL_NAME)


def _append(url: URL, call: Call) -> str:
    """Append a call to the first file that takes it, else to standard error. Return where it is."""
    line = call_line(call)
    for path in spool_paths(url):
        with suppress(OSError):
            if path.name == _SPOOL_NAME:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _append_line(path, line)
            return str(path)
    with suppress(OSError, ValueError):
        sys.stderr.write(line.decode())
        sys.stderr.flush()
    return "the line above"


def _append_line(path: Path, line: bytes) -> None:
    """Append a line as a whole, and sync the file to disk. Half a line at the end, as after a kill, gets an end."""
    number = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    with os.fdopen(number, "r+b", buffering=0) as file:
        with suppress(ImportError):  # Windows has no such locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            write_all(file, line)
            os.fsync(number)
        except OSError:
            file.truncate(size)
            raise
    sync_folder(path.parent)


def call_line(call: Call) -> bytes:
    """Return a call as a line of JSON, in ASCII."""
    series = call.series if call.series is not None else StatSeries([], {})
    fields: dict[str, object] = {name: getattr(call, name) for name in _FIELDS}
    fields |= {"tags": dict(call.tags), "stats": series.to_db()}
    return json_text({"callstats": "call", "v": 1, "call": fields}, separators=(",", ":")).encode() + b"\n"


class ImportJob(Job):
    """The job of `CallTable.restore` for a spool."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.stored = self.known = 0

    def run(self, database: Database, names: Names) -> RestoreResult:
        """Store the calls that the table lacks, each in a transaction of its own."""
        stopped = None
        try:
            for call in _read_calls(self.arguments.path):
                self.check_stop()
                self._store(database, names, call)
                if self.arguments.progress is not None:
                    self.arguments.progress(self._result(None))
        except DatabaseError as error:
            stopped = str(error)
        return self._result(stopped)

    def _store(self, database: Database, names: Names, call: Call | str) -> None:
        if isinstance(call, str):
            self.reject(None, call)
            return
        try:
            new = finish_calls(database, names, [call])
        except BudgetError as error:  # the column holds not even one row
            self.reject(call.key, str(error))
        else:
            self.stored, self.known = self.stored + new, self.known + 1 - new

    def _result(self, stopped: str | None) -> RestoreResult:
        rows = self.stored + self.known + self.rejected
        return RestoreResult(rows=rows, stored=self.stored, known=self.known, stopped=stopped, **self.fields())


def is_spool(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a spool does; False if it can't be read."""
    with suppress(OSError), Path(path).open("rb") as file:
        return file.readline(len(_SPOOL_MARK)) == _SPOOL_MARK
    return False


def _read_calls(path: str | os.PathLike[str]) -> Iterator[Call | str]:
    """Yield the calls of a spool, and for each line that holds none the reason."""
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _parse_call(line)
                except CallstatsError as error:
                    yield f"line {number}: {error}"
    except OSError as error:
        raise ArgumentError("path", "a file that can be read", str(path), hint=error.strerror) from None


def _parse_call(line: bytes) -> Call:
    row = parsed(line)
    if not isinstance(row, dict) or row.get("callstats") != "call" or row.get("v") != 1 or not isinstance(row.get("call"), dict):
        raise DecodeError('expected a call of version 1, as in {"callstats":"call","v":1,"call":{…}}', path="$")
    fields: dict[str, Any] = row["call"]
    values: dict[str, Any] = {name: fields.get(name) for name in _FIELDS}
    for name, kind in _FIELDS.items():
        value = values[name]
        known = type(value) is kind and (not isinstance(value, str) or is_text(value))
        if not known and (value is not None or name == "key"):
            raise DecodeError(f"expected {'text' if kind is str else 'a whole number'}, got {value!r}", path=f"$.call.{name}")
    tags, stats = fields.get("tags") or {}, fields.get("stats")
    if not isinstance(tags, dict) or not all(isinstance(tag, str) for tag in tags.values()):
        raise DecodeError("expected an object of text", path="$.call.tags")
    if not isinstance(stats, str) or isinstance(stats, Number):
        raise DecodeError("expected text", path="$.call.stats")
    return replace(Call(**values), tags=tags, series=StatSeries.from_json(stats))
