"""Stored calls in a database: reduced in place, batch by batch, while other programs go on writing.

SQLAlchemy is loaded where it is used, and comes with the extra ``callstats[cli]``.
"""

from callstats.db.calls import StoredCall, read_call
from callstats.db.jobs.export import ExportReport, export_table
from callstats.db.jobs.reduce import reduce_table
from callstats.db.jobs.restore import import_saved
from callstats.db.jobs.summarize import Group, TableSummary, summarize_table
from callstats.db.jobs.survey import GroupCalls, Survey, survey_table
from callstats.db.listing import ListedCall, list_calls
from callstats.db.results import ImportReport, ReduceReport, Reject
from callstats.db.schema import add_calls, cell_room, init_table, read_series
from callstats.errors import DatabaseError

__all__ = [
    "DatabaseError",
    "ExportReport",
    "Group",
    "GroupCalls",
    "ImportReport",
    "ListedCall",
    "ReduceReport",
    "Reject",
    "StoredCall",
    "Survey",
    "TableSummary",
    "add_calls",
    "cell_room",
    "export_table",
    "import_saved",
    "init_table",
    "list_calls",
    "read_call",
    "read_series",
    "reduce_table",
    "summarize_table",
    "survey_table",
]
