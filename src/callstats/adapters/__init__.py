"""Series and stored blobs in other tools: Arrow, pandas, polars, SQLAlchemy, SQLite, DuckDB, Parquet, Prometheus and Spark.

Each module loads its own tool, and none is imported here. Most have ``read(x)`` and ``write(series)``. These raise a
`SeriesError` when a value does not convert without losing a bit, or a metric has the name of the column of times or counts.
"""
