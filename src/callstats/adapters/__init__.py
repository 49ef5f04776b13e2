"""Series and stored histograms in the user's own tools: Arrow, pandas, polars, SQLAlchemy, SQLite, DuckDB, Parquet.

Each module has ``read(x)`` and ``write(series)``, or what its tool calls them, and loads its tool where it is used; none is
imported here.
"""
