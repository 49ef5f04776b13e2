"""Series and stored blobs in Arrow.

`reduce` and `read_stored` work on the buffers of string and binary arrays, without a Python object for each row. A series is a
table with a row for each sample (`read`, `write`). Many series are an array of lists (`read_lists`, `write_lists`) or one long
table (`read_long`, `write_long`). All of them take any object of Arrow's PyCapsule protocol, such as a polars or pandas frame or
a DuckDB relation.
"""

from callstats._extras import needs

with needs("adapters.arrow", "arrow"):
    import pyarrow as pa  # noqa: F401 - the modules below import it too

from callstats.adapters.arrow._nested import read_lists, write_lists
from callstats.adapters.arrow._tables import read, read_long, write, write_long
from callstats.adapters.arrow._text import read_stored, reduce

__all__ = ["read", "read_lists", "read_long", "read_stored", "reduce", "write", "write_lists", "write_long"]
