"""Stored calls in a database: read, summarized, and reduced in place while other programs continue to write.

SQLAlchemy is loaded where it is used, and comes with the extra ``callstats[cli]``.
"""

from callstats.call import Call
from callstats.db.results import (
    Change,
    ExportResult,
    JobResult,
    ReduceResult,
    Reject,
    RestoreResult,
    TableComparison,
    TableSummary,
)
from callstats.db.table import CallTable, connect, open_file
from callstats.errors import DatabaseError

__all__ = [
    "Call",
    "CallTable",
    "Change",
    "DatabaseError",
    "ExportResult",
    "JobResult",
    "ReduceResult",
    "Reject",
    "RestoreResult",
    "TableComparison",
    "TableSummary",
    "connect",
    "open_file",
]
