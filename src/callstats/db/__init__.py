"""Stored calls in a database: read, summarized, and reduced in place while other programs continue to write.

SQLAlchemy is loaded where it is used, and comes with the extra ``callstats[cli]``.
"""

from callstats.call import Call
from callstats.db.results import Change, ExportResult, JobResult, ReduceResult, Reject, RestoreResult, TableSummary
from callstats.db.table import CallTable, connect
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
    "TableSummary",
    "connect",
]
