"""Series and stored blobs in Arrow.

`reduce` and `read_stored` work on the buffers of string and binary arrays, without a Python object for each row. All functions
take any object of Arrow's PyCapsule protocol, such as a polars or pandas frame or a DuckDB relation.
"""

from callstats._extras import needs

with needs("adapters.arrow", "arrow"):
    import pyarrow as pa  # noqa: F401 - the modules below import it too

from callstats.adapters.arrow._tables import read, read_lists, read_long, write, write_lists, write_long
from callstats.adapters.arrow._text import read_stored, reduce

__all__ = ["read", "read_lists", "read_long", "read_stored", "reduce", "write", "write_lists", "write_long"]
