"""Stored calls in a database: reduced in place, batch by batch, while other programs go on writing.

SQLAlchemy is loaded where it is used, and comes with the extra ``callstats[cli]``.
"""

from callstats.store.answers import Group, TableSummary, summarize_table
from callstats.store.calls import StoredCall, read_call
from callstats.store.exported import ExportReport, export_table
from callstats.store.job import reduce_table
from callstats.store.listing import ListedCall, list_calls
from callstats.store.report import ImportReport, ReduceReport, Reject, StoreError
from callstats.store.saved import import_saved
from callstats.store.survey import GroupCalls, Survey, survey_table
from callstats.store.tables import add_calls, cell_room, init_table, read_series

__all__ = [
    "ExportReport",
    "Group",
    "GroupCalls",
    "ImportReport",
    "ListedCall",
    "ReduceReport",
    "Reject",
    "StoreError",
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
